"""Do simulated trials look like the recording? What a fit infers of recorded trials, and of those that it simulates.

Every second trial of the recording (`recorded`) is compared with as many others of it, and with as many that the learned
system and the hidden Markov model simulate, sampled like these. All are inferred by the same fit, with its defaults, so that
all have the same noise. Rates of trials may differ from the average of the trials: `sd` is how much, beside the recorded one
(median over channels), `correlations` are how alike correlations between channels are (Pearson's r over their pairs), and
`autocorrelation N` that of the differences, N bins apart. `average` is how alike the averages of the trials are (R² over
channels and bins), `mean` the largest ratio of channels' mean rates. Channels that are silent or do not vary over trials, here
or there, are left out, and lags that trials are too short for.

Most of the recorded trials trained the fit, so how alike they are is not what new trials of the recording would show.

    python benchmarks/simulated_trials.py sub-Jenkins_ses-small_desc-test_ecephys.nwb --json simulated_trials.json
    python benchmarks/simulated_trials.py
    python benchmarks/simulated_trials.py --small
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from cosmoothing import read_segments
from fits import fitted_to, lorenz_task, take_settings
from machine import options, save, show
from numpy.typing import NDArray
from sklearn.metrics import r2_score

import nwb_sbtt as sb
from nwb_sbtt.config import override

LAGS = (1, 5, 10)
"""Bins."""
LEAST_SD = 1e-6
"""Of a channel's rates over trials, as a share of their mean; one that varies less is constant but for rounding."""


def main() -> None:
    """Fit the recording and print the table."""
    parser = options(__doc__, small="a short simulated recording, few epochs and steps", figure=False)
    parser.add_argument("file", type=Path, nargs="?", help="the test file of DANDI:000140; default: Lorenz, 5 of 29")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, splits, masks and models")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        conditions, small = 4, ["train.epochs=3", "model.width=16", "model.groups=4", "dynamics.steps=5"]
        arguments.settings = [*small, "dynamics.courses=32", *arguments.settings]
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        given = arguments.file
        ds = lorenz_task(5, seed=seed, conditions=conditions) if given is None else read_segments(given)
        with fitted_to(ds, override(sb.FitConfig(seed=seed), arguments.settings)) as (fitted, _):
            rows += [{"seed": seed, **row} for row in _rows(fitted, ds, seed)]
        save(arguments.json, vars(arguments), rows)
    show(rows)


def _rows(fitted: sb.Fitted, ds: xr.Dataset, seed: int) -> list[dict[str, Any]]:
    half, other = ds.isel(trial=slice(0, None, 2)), ds.isel(trial=slice(1, None, 2))
    recorded = _rates(fitted, half)
    trials = {"recorded": _rates(fitted, other)}
    for by in ("system", "markov"):
        trials[by] = _rates(fitted, fitted.simulate(other, by=by, seed=seed))
    return [{"trials": name, **compare(recorded, rates)} for name, rates in trials.items()]


def _rates(fitted: sb.Fitted, ds: xr.Dataset) -> NDArray[np.float64]:
    return fitted.infer(ds, same_channels=True)["rates"].values.astype(float)


def compare(recorded: NDArray[np.float64], rates: NDArray[np.float64]) -> dict[str, float]:
    """Compare rates (trial, time, channel) of other trials with those of recorded ones."""
    kept = _varies(recorded) & _varies(rates)
    recorded, rates = recorded[:, :, kept], rates[:, :, kept]
    if not kept.any():
        return {}
    average, differences = recorded.mean(0), recorded - recorded.mean(0)
    own, own_differences = rates.mean(0), rates - rates.mean(0)
    ratio = own.mean(0) / average.mean(0)
    row = {
        "average": float(r2_score(average.ravel(), own.ravel())),
        "mean": float(np.maximum(ratio, 1 / ratio).max()),
        "sd": float(np.median(_flat(own_differences).std(0) / _flat(differences).std(0))),
    }
    if kept.sum() > 2:  # two pairs, or more
        pairs = np.triu_indices(kept.sum(), 1)
        of_recorded, of_own = (
            np.atleast_2d(np.corrcoef(_flat(each).T))[pairs] for each in (differences, own_differences)
        )
        row["correlations"] = float(np.corrcoef(of_recorded, of_own)[0, 1])
    lags = [lag for lag in LAGS if lag < rates.shape[1]]
    return row | {f"autocorrelation {lag}": autocorrelation(own_differences, lag) for lag in lags}


def _varies(rates: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which channels differ from trial to trial by more than rounding."""
    return np.asarray(_flat(rates - rates.mean(0)).std(0) > LEAST_SD * _flat(rates).mean(0))


def autocorrelation(differences: NDArray[np.float64], lag: int) -> float:
    """Correlation of differences some bins apart, over all channels and trials; each channel counts alike."""
    scaled = differences / _flat(differences).std(0)
    return float((scaled[:, lag:] * scaled[:, :-lag]).mean() / (scaled**2).mean())


def _flat(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    return rates.reshape(-1, rates.shape[2])


if __name__ == "__main__":
    main()
