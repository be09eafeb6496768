"""What a learned system is worth: R² of inferred rates without and with it, and of forecasts.

The Lorenz task of `accuracy.py`. R² of inferred to true rates (1 − SSE/SST, mean over neurons, pooled over validation trials):
`model` alone, as fitted with the defaults, `system` alone, `Markov`, the hidden Markov model alone, and `all`, which is what a
fit returns; with the CPU-seconds of the model, and of all. Shares are those in `all`. With --by condition no validation trial
repeats the course of a training trial.

`forecast N`: R² of rates N bins after the 25th, the last bin that was given, beside those by the system alone (`of system N`),
persistence (rates of the 25th bin) and a linear system (least squares on the states that the model infers of training trials,
run forward likewise); `in 90%` is the coverage of the true rates by the 90 % intervals of the forecast.

    python benchmarks/dynamics.py --levels 5 2 --seeds 0 --json dynamics.json --figure dynamics.png
    python benchmarks/dynamics.py --levels 2 --by condition
    python benchmarks/dynamics.py --small
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import N_NEURONS, SCHEMES, lorenz_task, take_settings, without_system
from machine import canvas, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.dynamics.forecasting import linear_forecast
from nwb_sbtt.fitting.forward import system_forecast, systems_of
from nwb_sbtt.models.courses import weigh
from nwb_sbtt.train.trackers import EpochRecord, Silent

GIVEN, HORIZONS = 25, (1, 5, 10, 25)
"""Bins that a forecast is given, and the bins after these that are scored."""


def main() -> None:
    """Fit each level and print the table."""
    parser = options(__doc__, small="few data, epochs and steps, one level")
    parser.add_argument("--levels", type=int, nargs="+", default=[5, 2], help="neurons observed per bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--by", choices=["trial", "condition"], default="trial", help="what validation is drawn from")
    parser.add_argument("--scheme", choices=SCHEMES, default="speckled", help="of sampling")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions, steps = 65, "dynamics.steps=1200"
    if arguments.small:
        arguments.levels, conditions, steps = [10], 7, "dynamics.steps=20"
        arguments.settings = ["train.epochs=4", "model.width=16", "model.groups=4", *arguments.settings]
    rows = []
    for seed in arguments.seeds:
        for k in arguments.levels:
            ds = lorenz_task(k, seed=seed, conditions=conditions, split_by=arguments.by, scheme=arguments.scheme)
            config = override(sb.FitConfig(seed=seed), [steps, *arguments.settings])
            with tempfile.TemporaryDirectory() as folder:
                rows.append({"observed of 29": k, "seed": seed, "by": arguments.by, **_row(ds, config, Path(folder))})
            print(rows[-1], flush=True)
    report(arguments, rows, lambda: _figure(rows))


def _row(ds: xr.Dataset, config: sb.FitConfig, folder: Path) -> dict[str, Any]:
    splits = ds["split"].values
    train, valid = (ds.isel(trial=np.flatnonzero(splits == name)) for name in ("train", "valid"))
    true = valid["true_rates"].values
    clock, started = _Clock(), time.process_time()
    fitted = sb.fit(ds, config, run_dir=folder / "run", tracker=clock)
    after, (member,), name = time.process_time() - started, fitted.members, fitted.session_name()
    (system,) = systems_of(fitted)
    batch, width, markov = to_batch(valid, name), float(ds.attrs["bin_width"]), system.markov
    row: dict[str, Any] = {
        "R2 model": r2(true, without_system(fitted).infer(valid)["rates"].values),
        "R2 system": r2(true, weigh(system, batch).expected.numpy() / width),
        "R2 Markov": np.nan if markov is None else r2(true, markov.infer(system.likelihood, batch)[0].numpy() / width),
        "R2 all": r2(true, fitted.infer(valid)["rates"].values),
        "share": float(system.shares[name]),
        "share, Markov": 0.0 if markov is None else float(markov.shares[name]),
        "window": int(system.window),
        "CPU-s model": clock.epochs[member.progress.first_epochs - 1] - started,
        "CPU-s all": after,
    }
    early, late = valid.isel(time=slice(0, GIVEN)), true[:, GIVEN:]
    forecast = fitted.forecast(early, bins=late.shape[1])
    persistent = fitted.infer(early)["rates"].values[:, -1:]
    alone = system_forecast(fitted, valid, given=GIVEN, session=name)
    linear = linear_forecast(fitted, train, valid, given=GIVEN, session=name)
    lower, upper = (each.values for each in sb.interval(forecast, 0.9))
    inside = (late >= lower) & (late <= upper)
    for horizon in HORIZONS:
        at = slice(horizon - 1, horizon)
        row[f"forecast {horizon}"] = r2(late[:, at], forecast["rates"].values[:, at])
        row[f"of system {horizon}"] = r2(late[:, at], alone[:, at])
        row[f"persistence {horizon}"] = r2(late[:, at], persistent)
        row[f"linear {horizon}"] = r2(late[:, at], linear[:, at])
        row[f"in 90% {horizon}"] = float(inside[:, at].mean())
    return row


class _Clock(Silent):
    """CPU-seconds of the process at the end of each epoch."""

    def __init__(self) -> None:
        self.epochs = list[float]()

    def epoch(self, record: EpochRecord) -> None:
        self.epochs.append(time.process_time())


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(3.4 * len(rows), 3.2)
    for i, row in enumerate(rows):
        axes = figure.add_subplot(1, len(rows), i + 1)
        for name, colour in (("forecast", "#0072B2"), ("linear", "#E69F00"), ("persistence", "#888888")):
            axes.plot(HORIZONS, [row[f"{name} {h}"] for h in HORIZONS], "o-", color=colour, label=name)
        axes.axhline(row["R2 all"], color="#0072B2", linestyle=":", label="inferred from the whole trial")
        lowest = min(row[f"forecast {h}"] for h in HORIZONS)
        axes.set(
            title=f"{row['observed of 29']} of {N_NEURONS} observed",
            xlabel="bins after the last one given",
            ylim=(min(0.0, math.floor(lowest * 10) / 10), 1),
        )
        if not i:
            axes.set_ylabel("R² to true rates")
            axes.legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
