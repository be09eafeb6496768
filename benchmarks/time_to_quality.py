"""R² of inferred to true rates against the CPU-seconds that a fit takes, on the published Lorenz task.

Each row is a separate fit with `train.epochs` set, whose learning-rate schedule ends after these epochs: the result
of a limited time. Seconds are the whole of `fit`, from masks to the last checkpoint. Data and score are those
of `accuracy.py`.

    python benchmarks/time_to_quality.py --json time.json --figure time.png
    python benchmarks/time_to_quality.py --small
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import xarray as xr
from fits import fitted_to, lorenz_task
from machine import canvas, machine, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import r2

EPOCHS = {"conv": (3, 5, 8, 12, 20, 40), "lfads": (3, 8, 20, 40)}
"""In addition to the default number of each model."""
TARGETS = ((0.90, 15), (0.975, 60))
"""R² to reach with all 29 observed, and the CPU-seconds allowed."""


def main() -> None:
    """Fit each model for each number of epochs and print the table."""
    parser = options(__doc__, small="a tenth of the data, one and four epochs")
    parser.add_argument("--observed", type=int, default=29, help="neurons observed per bin")
    parser.add_argument("--models", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--epochs", type=int, nargs="+", help="the same numbers for each model, and no others")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.models, arguments.epochs = ["conv"], [1, 4]
    ds = lorenz_task(arguments.observed, seed=arguments.seed, conditions=7 if arguments.small else 65)
    rows = []
    for model in arguments.models:
        for epochs in arguments.epochs or (*EPOCHS[model], None):
            rows.append(_fit(ds, model, epochs, arguments.seed))
            print(rows[-1], flush=True)
    print(machine())
    report(arguments, rows, lambda: _figure(rows, arguments))


def _fit(ds: xr.Dataset, model: str, epochs: int | None, seed: int) -> dict[str, Any]:
    settings = [f"model.name={model}"] + ([] if epochs is None else [f"train.epochs={epochs}"])
    config = override(sb.FitConfig(seed=seed), settings)
    valid = ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))
    with fitted_to(ds, config) as (fitted, seconds):
        return {
            "model": model,
            "epochs": len(fitted.history),
            "CPU-seconds": seconds,
            "R2": r2(valid["true_rates"].values, fitted.infer(valid)["rates"].values),
        }


def _figure(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> Figure:
    figure = canvas(5, 3.5)
    axes = figure.subplots()
    for model, colour in zip(arguments.models, ("#0072B2", "#D55E00"), strict=False):
        model_rows = [row for row in rows if row["model"] == model]
        axes.plot(
            [row["CPU-seconds"] for row in model_rows],
            [row["R2"] for row in model_rows],
            "o-",
            color=colour,
            label=model,
        )
    if arguments.observed == 29:
        axes.plot([seconds for _, seconds in TARGETS], [r for r, _ in TARGETS], "kx", label="to reach")
        axes.axhline(0.911, color="#888888", ls="--", label="published demo, after 2262 s")
    axes.set(xscale="log", xlabel="CPU-seconds of the fit", ylabel="R² to true rates (validation)")
    axes.legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
