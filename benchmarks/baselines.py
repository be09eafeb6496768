"""R² to true rates of every simple method on the published Lorenz task, by the number of neurons observed in each bin.

The data and masks of `accuracy.py`, without a network: all that is observed is shown, and estimates for validation trials are
compared with the true rates (1 − SSE/SST, mean over neurons). Beside the baselines of every report stand two methods that
know what no recording tells: the mean of the training trials of the same condition (PSTH), and the posterior mean over the
true courses of all conditions (oracle), the limit that the data set.

    python benchmarks/baselines.py --json baselines.json --figure baselines.png
    python benchmarks/baselines.py --small
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import nwb_sbtt as sb
from nwb_sbtt.evaluate.baselines import Evidence
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.evaluate.summary import BASELINES, NAMES

N = 29
WIDTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Standard deviations of the PSTH's kernel, in bins; the best against the truth is taken."""
Floats = NDArray[np.float64]


def main(given: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Estimate every level and print the table."""
    arguments = options(__doc__, small="a tenth of the data, one level")
    arguments.add_argument("--levels", type=int, nargs="+", default=[29, 10, 5, 2], help="neurons observed per bin")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data and masks")
    asked = arguments.parse_args(given)
    conditions = 65
    if asked.small:
        asked.levels, conditions = [10], 7
    rows = [row for seed in asked.seeds for k in asked.levels for row in _level(k, seed, conditions)]
    report(asked, rows, lambda: _figure(rows))
    return rows


def _level(k: int, seed: int, conditions: int) -> list[dict[str, Any]]:
    ds = sb.simulate.lorenz(conditions=conditions, seed=seed)
    if k < N:
        ds = sb.data.limit_bandwidth(ds, sb.config.BandwidthConfig(k=k, seed=seed))
    valid = ds["split"].values == "valid"
    truth = ds["true_rates"].values[valid]
    width = float(ds.attrs["bin_width"])
    evidence = Evidence(ds["values"].values, ds["observed"].values, ~valid, True)

    def of(baseline: Callable[[Evidence], Any]) -> Callable[[], tuple[Floats, str]]:
        def run() -> tuple[Floats, str]:
            found = baseline(evidence)
            return found.expected[valid] / width, found.how

        return run

    methods = {NAMES[key]: of(baseline) for key, baseline in BASELINES.items()}
    methods["PSTH by condition"] = lambda: _psth(ds)
    methods["oracle"] = lambda: (_oracle(ds), "posterior over the true courses of all conditions")
    rows = []
    for name, method in methods.items():
        started = time.process_time()
        with threadpool_limits(limits=1, user_api="blas"):
            rates, how = method()
        seconds = time.process_time() - started
        score = r2(truth, rates)
        rows.append(
            {"observed of 29": k, "seed": seed, "method": name, "R2": score, "CPU-seconds": seconds, "set": how}
        )
    return rows


def _psth(ds: xr.Dataset) -> tuple[Floats, str]:
    """Smoothed mean of what was observed in the training trials of the same condition (Hz)."""
    valid = ds["split"].values == "valid"
    condition, truth = ds["condition"].values, ds["true_rates"].values[valid]
    observed = ds["observed"].values.astype(float)
    counts = ds["values"].values * observed
    labels = np.unique(condition)
    total, seen = (
        np.stack([array[(condition == label) & ~valid].sum(0) for label in labels]) for array in (counts, observed)
    )
    overall = counts[~valid].sum((0, 1)) / observed[~valid].sum((0, 1))
    lag = np.arange(total.shape[1])[:, None] - np.arange(total.shape[1])
    found = []
    for width in WIDTHS:
        kernel = np.exp(-0.5 * (lag / width) ** 2)
        rates = (kernel @ total + overall) / (kernel @ seen + 1) / float(ds.attrs["bin_width"])
        found.append(rates[np.searchsorted(labels, condition[valid])])
    scores = [r2(truth, rates) for rates in found]
    best = int(np.argmax(scores))
    return found[best], f"Gaussian of {WIDTHS[best]:g} bins' standard deviation (best against the truth)"


def _oracle(ds: xr.Dataset) -> Floats:
    """Mean of the true courses of all conditions (Hz), weighted by how likely each makes what was observed."""
    condition, valid = ds["condition"].values, ds["split"].values == "valid"
    _, first = np.unique(condition, return_index=True)
    courses = ds["true_rates"].values[first].astype(float)
    expected = courses.reshape(len(courses), -1) * float(ds.attrs["bin_width"])
    observed = ds["observed"].values[valid].reshape(int(valid.sum()), -1).astype(float)
    counts = ds["values"].values[valid].reshape(observed.shape) * observed
    log = counts @ np.log(expected).T - observed @ expected.T
    weights = np.exp(log - log.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return np.tensordot(weights, courses, axes=1)


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(6.5, 3.8)
    axes = figure.subplots()
    names = list(dict.fromkeys(row["method"] for row in rows))
    colours = ("#767676", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#222222")
    for name, colour, marker in zip(names, colours, "xsD^ovP", strict=True):
        levels = sorted({row["observed of 29"] for row in rows})
        scores = [[row["R2"] for row in rows if (row["method"], row["observed of 29"]) == (name, k)] for k in levels]
        dropped = [1 - k / N for k in levels]
        dashes = "--" if name in ("PSTH by condition", "oracle") else "-"
        axes.plot(dropped, [np.mean(each) for each in scores], dashes, marker=marker, ms=5, color=colour, label=name)
    axes.set(xlabel="share of samples dropped", ylabel="R² to true rates (validation)", ylim=(-0.03, 1.03))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="dashed: knows the simulation")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
