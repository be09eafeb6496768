"""What known inputs add: rates of neurons that a recurrent network drives, which holds three bits (`flipflop.py`).

R² of inferred to true rates (1 − SSE/SST, both summed over neurons) on validation trials, on which no fit was trained; by
model, with the three inputs given or not, and by neurons observed per bin. `ridge` is the best linear read-out of smoothed
counts (Gaussian of three bins, all neurons and their neighbours in time), fitted to the true rates of the training trials: a
bound for what smoothing can do, not a method.

    python benchmarks/inputs.py --seeds 0 1 2 --json inputs.json --figure inputs.png
    python benchmarks/inputs.py --small
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from fits import fitted_to, take_settings
from flipflop import NEURONS, FlipFlop, dataset, named_inputs, simulate
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import Ridge

import nwb_sbtt as sb
from nwb_sbtt.config import override

SMOOTHING = 3.0
"""Sd [bins] of the Gaussian under `ridge`."""
Floats = NDArray[np.float64]


def main() -> None:
    """Fit each model to each data set, and print the scores."""
    parser = options(__doc__, small="few trials, epochs, and one level")
    parser.add_argument("--models", nargs="+", default=["conv", "lfads"])
    parser.add_argument("--levels", type=int, nargs="+", default=[50, 15], help="neurons observed per bin")
    parser.add_argument("--given", nargs="+", default=["with", "without"], choices=["with", "without"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    take_settings(parser)
    arguments = parser.parse_args()
    trials, steps = 1000, 900
    if arguments.small:
        arguments.levels, arguments.seeds, arguments.models = [15], [0], ["conv"]
        arguments.settings = ["train.epochs=2", "model.width=16", "model.groups=4", *arguments.settings]
        trials, steps = 60, 20
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        task = simulate(seed, trials=trials, steps=steps)
        for observed in arguments.levels:
            rows.append({"seed": seed, "observed": observed, "model": "ridge", "inputs": "without"})
            rows[-1] |= {"r2": _ridge(task, observed, seed), "cpu_seconds": 0.0, "epochs": 0}
            for model in arguments.models:
                for given in arguments.given:
                    fit = _fit(task, model, observed=observed, given=given == "with", seed=seed, arguments=arguments)
                    rows.append({"seed": seed, "observed": observed, "model": model, "inputs": given, **fit})
                    print(rows[-1], flush=True)
    report(arguments, rows, lambda: _figure(rows))


def _fit(
    task: FlipFlop, model: str, *, observed: int, given: bool, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    ds = dataset(task.counts, named_inputs(task) if given else {}, observed=observed, seed=seed)
    config = override(sb.FitConfig(seed=seed), [f"model.name={model}", *arguments.settings])
    with fitted_to(ds, config) as (fitted, seconds):
        valid = ds["split"].values == "valid"
        rates = fitted.infer(ds)["rates"].values[valid]
        return {"r2": _r2(rates, task.rates[valid]), "cpu_seconds": seconds, "epochs": len(fitted.best.history)}


def _ridge(task: FlipFlop, observed: int, seed: int) -> float:
    """Rates read out linearly from smoothed counts; a missing count is filled in with the share that was observed."""
    ds = dataset(task.counts, {}, observed=observed, seed=seed)
    smooth = gaussian_filter1d(ds["values"].values, SMOOTHING, axis=1)
    smooth /= gaussian_filter1d(ds["observed"].values.astype(float), SMOOTHING, axis=1).clip(min=1e-3)
    train, valid = (ds["split"].values == part for part in ("train", "valid"))
    model = Ridge(1.0).fit(smooth[train].reshape(-1, NEURONS), task.rates[train].reshape(-1, NEURONS))
    return _r2(model.predict(smooth[valid].reshape(-1, NEURONS)), task.rates[valid])


def _r2(inferred: NDArray[Any], truth: Floats) -> float:
    inferred, truth = inferred.reshape(-1, NEURONS), truth.reshape(-1, NEURONS)
    return float(1 - ((inferred - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(5.5, 3.2)
    ax = figure.subplots()
    names = list(dict.fromkeys(f"{row['model']}, {row['inputs']}" for row in rows))
    levels = sorted({row["observed"] for row in rows}, reverse=True)
    for i, name in enumerate(names):
        means = [
            np.mean(
                [row["r2"] for row in rows if f"{row['model']}, {row['inputs']}" == name and row["observed"] == level]
            )
            for level in levels
        ]
        ax.bar(np.arange(len(levels)) + 0.8 * i / len(names), means, 0.7 / len(names), label=name)
    ax.set_xticks(np.arange(len(levels)) + 0.3, [f"{level} of {NEURONS}" for level in levels])
    ax.set_xlabel("neurons observed per bin")
    ax.set_ylabel("R² of the rates")
    ax.set_ylim(0, 1.25)
    ax.legend(ncols=3, fontsize=7, frameon=False)
    return figure


if __name__ == "__main__":
    main()
