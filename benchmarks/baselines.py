"""R² to true rates of every baseline on the published Lorenz task, by the number of neurons observed in each bin.

Data and masks are those of `accuracy.py`; no network is fitted. All observed entries are shown, and predictions for
validation trials are compared with the true rates (1 − SSE/SST, mean over neurons). Two more methods use what only a
simulation provides: the mean of the training trials of the same condition (PSTH), and the posterior mean over the true rates
of all conditions (oracle), the upper limit for these data.

    python benchmarks/baselines.py --json baselines.json --figure baselines.png
    python benchmarks/baselines.py --small
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from fits import N_NEURONS, lorenz_task
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nwb_sbtt.evaluate import MaskedData, r2
from nwb_sbtt.evaluate.baselines import BASELINES, predict

WIDTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Standard deviations of the PSTH's kernel [bins]; the best against the truth is chosen."""
SIMULATION_ONLY = ("PSTH by condition", "oracle")
Floats = NDArray[np.float64]


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run all methods at every level and print the table."""
    parser = options(__doc__, small="a tenth of the data, one level")
    parser.add_argument("--levels", type=int, nargs="+", default=[29, 10, 5, 2], help="neurons observed per bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data and masks")
    arguments = parser.parse_args(argv)
    conditions = 65
    if arguments.small:
        arguments.levels, conditions = [10], 7
    rows = [row for seed in arguments.seeds for k in arguments.levels for row in _level(k, seed, conditions)]
    report(arguments, rows, lambda: _figure(rows))
    return rows


def _level(k: int, seed: int, conditions: int) -> list[dict[str, Any]]:
    ds = lorenz_task(k, seed=seed, conditions=conditions)
    valid = ds["split"].values == "valid"
    truth = ds["true_rates"].values[valid]
    bin_width = float(ds.attrs["bin_width"])
    data = MaskedData(ds["values"].values, ds["observed"].values, ~valid, is_counts=True)

    def baseline(name: str) -> tuple[str, Floats, str]:
        prediction = predict(name, data)
        return prediction.label, prediction.expected[valid] / bin_width, prediction.description

    methods: list[Callable[[], tuple[str, Floats, str]]] = [partial(baseline, name) for name in BASELINES.names()]
    methods += [partial(_psth, ds), partial(_oracle, ds)]
    rows = []
    for method in methods:
        started = time.process_time()
        with threadpool_limits(limits=1, user_api="blas"):
            name, rates, description = method()
        seconds = time.process_time() - started
        score = r2(truth, rates)
        rows.append(
            {"observed of 29": k, "seed": seed, "method": name, "R2": score, "CPU-seconds": seconds, "set": description}
        )
    return rows


def _psth(ds: xr.Dataset) -> tuple[str, Floats, str]:
    """Smoothed mean of the observed entries in the training trials of the same condition (Hz)."""
    valid = ds["split"].values == "valid"
    condition, truth = ds["condition"].values, ds["true_rates"].values[valid]
    observed = ds["observed"].values.astype(float)
    counts = ds["values"].values * observed
    labels = np.unique(condition)
    total, n_observed = (
        np.stack([array[(condition == label) & ~valid].sum(0) for label in labels]) for array in (counts, observed)
    )
    overall = counts[~valid].sum((0, 1)) / observed[~valid].sum((0, 1))
    lag = np.arange(total.shape[1])[:, None] - np.arange(total.shape[1])
    candidates = []
    for width in WIDTHS:
        kernel = np.exp(-0.5 * (lag / width) ** 2)
        rates = (kernel @ total + overall) / (kernel @ n_observed + 1) / float(ds.attrs["bin_width"])
        candidates.append(rates[np.searchsorted(labels, condition[valid])])
    scores = [r2(truth, rates) for rates in candidates]
    best = int(np.argmax(scores))
    return SIMULATION_ONLY[0], candidates[best], f"Gaussian with sd of {WIDTHS[best]:g} bins (best against the truth)"


def _oracle(ds: xr.Dataset) -> tuple[str, Floats, str]:
    """Mean of the true rates of all conditions (Hz), weighted by the likelihood of the observed counts under each."""
    condition, valid = ds["condition"].values, ds["split"].values == "valid"
    _, first = np.unique(condition, return_index=True)
    rates = ds["true_rates"].values[first].astype(float)
    expected = rates.reshape(len(rates), -1) * float(ds.attrs["bin_width"])
    observed = ds["observed"].values[valid].reshape(int(valid.sum()), -1).astype(float)
    counts = ds["values"].values[valid].reshape(observed.shape) * observed
    log = counts @ np.log(expected).T - observed @ expected.T
    weights = np.exp(log - log.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return SIMULATION_ONLY[1], np.tensordot(weights, rates, axes=1), "posterior over the true rates of all conditions"


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(6.5, 3.8)
    axes = figure.subplots()
    names = list(dict.fromkeys(row["method"] for row in rows))
    colours = ("#767676", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#222222")
    for name, colour, marker in zip(names, colours, "xsD^ovP", strict=True):
        levels = sorted({row["observed of 29"] for row in rows})
        scores = [[row["R2"] for row in rows if (row["method"], row["observed of 29"]) == (name, k)] for k in levels]
        dropped = [1 - k / N_NEURONS for k in levels]
        dashes = "--" if name in SIMULATION_ONLY else "-"
        axes.plot(
            dropped, [np.mean(of_level) for of_level in scores], dashes, marker=marker, ms=5, color=colour, label=name
        )
    axes.set(xlabel="share of samples dropped", ylabel="R² to true rates (validation)", ylim=(-0.03, 1.03))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="dashed: uses the simulation")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
