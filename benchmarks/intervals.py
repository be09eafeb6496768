"""Coverage of intervals of the mean (rates, or means of signals) and of predictive intervals, on simulated tasks with truth.

`lorenz` is the task of `accuracy.py` with 29, 10, 5 and 2 of 29 channels observed, and an ensemble; `lfp` has 32 channels of
three oscillators in pink and white noise of their own, `power` the logarithm of band power of 32 channels that share three
envelopes, `fluorescence` 30 cells of `simulate.calcium`, all three under a Gaussian likelihood with 30 % of the entries
missing. The truth of a signal's mean is what its channels share: the oscillators, the expected logarithm, and the fluorescence
expected from the rates. `of data` are values of validation trials that were hidden and are scored.

    python benchmarks/intervals.py --json intervals.json
    python benchmarks/intervals.py --small
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import N_NEURONS, fitted_to, lorenz_task, take_settings
from machine import options, save, show
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import digamma

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.fitting.preparation import hidden_entries, prepare
from nwb_sbtt.fitting.runfolder import CALIBRATION

Floats = NDArray[np.float64]
LEVELS = (0.5, 0.8, 0.9, 0.95)
N_CHANNELS, N_BINS, MISSING = 32, 100, 0.3
DEGREES = 6
"""Of freedom, of each estimate of power."""


def main() -> None:
    """Fit each task and print the coverage."""
    parser = options(__doc__, small="one task of signals, one seed, few data and steps", figure=False)
    parser.add_argument("--tasks", nargs="+", default=["lorenz", *SIGNALS], choices=["lorenz", *SIGNALS])
    parser.add_argument("--levels", type=int, nargs="+", default=[29, 10, 5, 2], help="neurons observed per bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of data and models")
    parser.add_argument("--members", type=int, default=1, help="models averaged, of `lorenz`")
    parser.add_argument("--runs", type=Path, help="where run folders are kept; finished fits in it are loaded")
    parser.add_argument("--recalibrate", action="store_true", help="calibrate the fits of `--runs` anew")
    take_settings(parser)
    arguments = parser.parse_args()
    scale = 1.0
    if arguments.small:
        arguments.tasks, arguments.seeds, scale = ["power"], [0], 0.5
        arguments.settings = ["train.epochs=10", *arguments.settings]
    rows = []
    for task in arguments.tasks:
        for level in arguments.levels if task == "lorenz" else [None]:
            for seed in arguments.seeds:
                rows.append(_row(task, level, seed, scale, arguments))
                print(rows[-1], flush=True)
                save(arguments.json, vars(arguments), rows)
    show(rows)


def _row(task: str, level: int | None, seed: int, scale: float, arguments: argparse.Namespace) -> dict[str, Any]:
    if level is not None:
        ds = lorenz_task(level, seed=seed)
        config, truth = sb.FitConfig(seed=seed, seeds=arguments.members), "true_rates"
    else:
        ds, truth = SIGNALS[task](seed, scale), "true_mean"
        config = override(sb.FitConfig(seed=seed), ["likelihood=gaussian"])
    config = override(config, arguments.settings)
    run_dir = None
    if arguments.runs is not None:
        run_dir = arguments.runs / f"{task}-{level or 'all'}-{config.model.name}-{config.seeds}-{seed}"
        if arguments.recalibrate:
            (run_dir / CALIBRATION).unlink(missing_ok=True)
    with fitted_to(ds, config, run_dir=run_dir) as (fitted, _):
        valid = ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))
        latents, true = fitted.infer(valid), valid[truth].values
        row: dict[str, Any] = {"task": task if level is None else f"{task}, {level} of {N_NEURONS}", "seed": seed}
        row |= {"model": config.model.name, "members": config.seeds}
        row |= {f"mean in {p:.0%}": _inside(true, sb.interval(latents, p)) for p in LEVELS}
        prepared = prepare(ds, fitted.config)
        batch = to_batch(prepared)
        hidden = batch.dense(hidden_entries(prepared, batch, fitted.config)).numpy()
        blind = prepared.assign(observed=(DIMS, prepared["observed"].values & ~hidden))
        blind = blind.assign(values=(DIMS, np.where(blind["observed"], blind["values"], 0)))
        predicted = fitted.infer(blind)
        values = prepared["values"].values
        for p in LEVELS:
            row[f"data in {p:.0%}"] = _inside(values, sb.interval(predicted, p, of="data"), hidden)
    return row


def _inside(
    values: NDArray[Any], bounds: tuple[xr.DataArray, xr.DataArray], where: NDArray[np.bool_] | None = None
) -> float:
    inside = (values >= bounds[0].values) & (values <= bounds[1].values)
    return float(inside.mean() if where is None else inside[where].mean())


def field_potentials(seed: int, scale: float = 1.0) -> xr.Dataset:
    """Three drifting oscillators, mixed into all channels, in pink and in white noise of 0.3 of their sd; bins of 10 ms."""
    rng, width = np.random.default_rng(seed), 0.01
    times = np.arange(round(12_000 * scale)) * width
    drift = rng.normal(size=(len(times), 3)).cumsum(axis=0) * np.sqrt(2 * width)
    oscillators = np.sin(2 * np.pi * np.array([6.0, 11.0, 23.0]) * times[:, None] + drift)
    shared = oscillators @ rng.normal(size=(3, N_CHANNELS))
    shared /= shared.std(axis=0)
    noise = 0.3 * _pink(rng, shared.shape) + 0.3 * rng.normal(size=shared.shape)
    return _labelled(5e-5 * (shared + noise), 5e-5 * shared, seed, unit="volts", bin_width=width)


def power(seed: int, scale: float = 1.0) -> xr.Dataset:
    """Logarithm of the power in a band, of six degrees of freedom, that follows three slow envelopes; bins of 50 ms."""
    rng = np.random.default_rng(seed)
    kernel = np.exp(-np.arange(60) / 6.0)
    slow = lfilter(kernel / np.sqrt((kernel**2).sum()), 1, rng.normal(size=(round(12_000 * scale), 3)), axis=0)
    weights = rng.gamma(0.6, size=(3, N_CHANNELS))
    true = np.exp(0.8 * slow) @ weights + 0.2 * weights.sum(axis=0)
    estimated = true * rng.chisquare(DEGREES, true.shape) / DEGREES
    bias = digamma(DEGREES / 2) - np.log(DEGREES / 2)
    return _labelled(np.log(estimated), np.log(true) + bias, seed, unit="log V²", bin_width=0.05)


def fluorescence(seed: int, scale: float = 1.0) -> xr.Dataset:
    """Cells of `simulate.calcium`; their mean is the fluorescence expected from the true rates."""
    ds = sb.simulate.calcium(conditions=20, trials_per_condition=round(10 * scale), seed=seed)
    imaging = sb.simulate.Imaging()
    decay = 1 - imaging.bin_width / imaging.decay_time
    mean = lfilter([1.0], [1.0, -decay], ds["true_rates"].values * imaging.bin_width, axis=1)
    observed = np.random.default_rng([seed, 1]).random(mean.shape) > MISSING
    values = np.where(observed, ds["values"].values, 0)
    return ds.assign(observed=(DIMS, observed), values=(DIMS, values), true_mean=(DIMS, mean))


SIGNALS: dict[str, Callable[[int, float], xr.Dataset]] = {
    "lfp": field_potentials,
    "power": power,
    "fluorescence": fluorescence,
}


def _pink(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of unit sd whose power falls with the frequency."""
    frequencies = np.fft.rfftfreq(shape[0])
    amplitude = np.divide(1, np.sqrt(frequencies), out=np.zeros_like(frequencies), where=frequencies > 0)
    drawn = rng.normal(size=(2, len(frequencies), shape[1]))
    noise = np.fft.irfft((drawn[0] + 1j * drawn[1]) * amplitude[:, None], shape[0], axis=0)
    return np.asarray(noise / noise.std(axis=0))


def _labelled(values: Floats, mean: Floats, seed: int, *, unit: str, bin_width: float) -> xr.Dataset:
    values, mean = (x.reshape(-1, N_BINS, x.shape[1]) for x in (values, mean))
    trials = np.arange(len(values))
    ds = make_dataset(
        values,
        np.random.default_rng([seed, 1]).random(values.shape) > MISSING,
        bin_width=bin_width,
        kind="electrodes",
        trial_start=trials * N_BINS * bin_width,
        coords={"split": ("trial", np.where(trials % 5 == 0, "valid", "train"))},
        attrs={"unit": unit, "session_id": f"intervals-{seed}", "bin_reference": "center"},
    )
    return ds.assign(true_mean=(DIMS, mean))


if __name__ == "__main__":
    main()
