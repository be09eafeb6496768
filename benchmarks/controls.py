"""The case for bandwidth: which samples to take at an equal budget, and what to make of those that were not taken.

The Lorenz task of `accuracy.py`. k of 29 neurons can be sampled per bin, exactly k · bins samples a trial under every scheme:

* speckled: k neurons drawn anew in every bin;
* round robin: blocks of k in turn;
* decimate: all neurons, in a share k/29 of the bins;
* fixed: the same k neurons throughout. The others are never seen, so all that can be said of them is their mean rate, which
  they are given here (a kindness: nothing was recorded of them). "R2" counts them, "R2 sampled" is over the k alone.

And three ways to treat what is missing:

* SBTT: as missing, in encoder and loss;
* zeros: as measured zeros, the usual mistake. Rates then come out too low by the share sampled; "R2 scaled" forgives this,
  it is that of the rates divided by the share;
* interpolation: linear in time between the samples of the neuron, held at the ends; its mean where a trial has none.

In a fixed subset nothing is missing, so there is nothing to treat. R² is that of the true rates of the validation trials,
1 − SSE/SST, mean over all 29 neurons, all bins. "power saved" is the upper bound of `nwb_sbtt.data.power_saved` (all power
is spent on samples); "power saved, amplifiers" spends half on samples and half on amplifiers that are switched, and need
--settling seconds before a first sample. These halves are an example, and no device's.

    python benchmarks/controls.py --json controls.json --figure controls.png
    python benchmarks/controls.py --small
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import xarray as xr
from fits import fitted_to, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import r2

N = 29
SMALL = ["train.epochs=5", "train.batch_size=12", "posterior_samples=2"]
SCHEMES = {"speckled": "#0072B2", "round_robin": "#009E73", "decimate": "#E69F00", "fixed": "#CC79A7"}
TREATMENTS = {"SBTT": "-", "interpolation": "--", "zeros": ":"}
"""With their colours and lines in the figure."""


def main() -> None:
    """Fit every scheme in every treatment at each level and print the table."""
    arguments = options(__doc__, small="a tenth of the data, few epochs, four fits")
    arguments.add_argument("--levels", type=int, nargs="+", default=[10, 5, 2], help="neurons sampled per bin")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    arguments.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=list(SCHEMES))
    arguments.add_argument("--treatments", nargs="+", default=list(TREATMENTS), choices=list(TREATMENTS))
    arguments.add_argument("--settling", type=float, default=0.005, help="seconds of an amplifier")
    take_settings(arguments)
    asked = arguments.parse_args()
    conditions = 65
    if asked.small:
        asked.levels, conditions, asked.settings = [5], 4, [*SMALL, *asked.settings]
        asked.schemes, asked.treatments = ["speckled", "fixed"], ["SBTT", "zeros"]
    rows = [row for seed in asked.seeds for row in _rows(seed, conditions, asked)]
    report(asked, rows, lambda: _figure(rows))


def as_zeros(limited: xr.Dataset) -> xr.Dataset:
    """Take what was not sampled for a measured zero, on purpose."""
    return limited.assign(observed=xr.ones_like(limited["observed"]))


def interpolated(limited: xr.Dataset) -> xr.Dataset:
    """Fill in what was not sampled, linearly in time, and take it for measured, on purpose."""
    values, observed = limited["values"].values.copy(), limited["observed"].values
    mean = values.sum((0, 1)) / np.maximum(observed.sum((0, 1)), 1)
    bins = np.arange(values.shape[1])
    for trial, channel in np.ndindex(values.shape[0], values.shape[2]):
        there = observed[trial, :, channel]
        course = values[trial, :, channel]
        values[trial, :, channel] = np.interp(bins, bins[there], course[there]) if there.any() else mean[channel]
    return as_zeros(limited.assign(values=(limited["values"].dims, values)))


def sampled_part(limited: xr.Dataset) -> xr.Dataset:
    """Leave out the channels of which nothing was sampled."""
    return limited.isel(channel=np.flatnonzero(limited["observed"].values.any((0, 1))))


def spread_out(rates: np.ndarray, limited: xr.Dataset, whole: xr.Dataset) -> np.ndarray:
    """Rates of the sampled channels beside the true mean rates, over training trials, of those that never were."""
    sampled = limited["observed"].values.any((0, 1))
    training = whole.isel(trial=np.flatnonzero(whole["split"].values == "train"))
    mean = training["true_rates"].values.mean((0, 1))
    everyone = np.broadcast_to(mean, (*rates.shape[:2], len(mean))).copy()
    everyone[..., sampled] = rates
    return everyone


def _rows(seed: int, conditions: int, asked: argparse.Namespace) -> list[dict[str, Any]]:
    whole = sb.simulate.lorenz(conditions=conditions, seed=seed)
    config = override(sb.FitConfig(seed=seed), asked.settings)
    rows = [_row(whole, whole, config, scheme="none", treatment="SBTT", asked=asked)]
    for k in asked.levels:
        for scheme in asked.schemes:
            limited = sb.data.limit_bandwidth(whole, sb.config.BandwidthConfig(scheme=scheme, k=k, seed=seed))
            for treatment in asked.treatments if scheme != "fixed" else ["SBTT"]:
                rows.append(_row(whole, limited, config, scheme=scheme, treatment=treatment, asked=asked))
    return rows


def _row(
    whole: xr.Dataset,
    limited: xr.Dataset,
    config: sb.FitConfig,
    *,
    scheme: str,
    treatment: str,
    asked: argparse.Namespace,
) -> dict[str, Any]:
    treat = {"SBTT": sampled_part, "zeros": as_zeros, "interpolation": interpolated}[treatment]
    given = treat(limited)
    valid = np.flatnonzero(whole["split"].values == "valid")
    with fitted_to(given, config) as (fitted, seconds):
        rates = fitted.infer(given.isel(trial=valid))["rates"].values
        epochs = len(fitted.history)
    sampled = limited["observed"].values.any((0, 1))
    everyone = spread_out(rates, limited, whole) if treatment == "SBTT" else rates
    truth = whole["true_rates"].values[valid]
    share = limited["observed"].values.mean()
    row = {
        "sampled of 29": float(share * N),
        "scheme": scheme,
        "treatment": treatment,
        "seed": config.seed,
        "R2": r2(truth, everyone),
        "R2 sampled": r2(truth[..., sampled], everyone[..., sampled]),
        "R2 scaled": r2(truth, everyone / share) if treatment == "zeros" else r2(truth, everyone),
        "power saved": sb.data.power_saved(limited),
        "power saved, amplifiers": sb.data.power_saved(limited, per_sample=0.5, front_end=0.5, settling=asked.settling),
        "epochs": epochs,
        "CPU-seconds": seconds,
    }
    print(row, flush=True)
    return row


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(9.5, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    full = float(np.mean([row["R2"] for row in rows if row["scheme"] == "none"]))
    for scheme, colour in SCHEMES.items():
        _line(left, rows, scheme, "SBTT", full, {"color": colour, "label": scheme.replace("_", " ")})
    for treatment, line in TREATMENTS.items():
        _line(right, rows, "speckled", treatment, full, {"color": "#0072B2", "linestyle": line, "label": treatment})
        _line(right, rows, "decimate", treatment, full, {"color": "#E69F00", "linestyle": line})
    left.set(
        xlabel="power saved, at most (= share of samples not taken)", ylabel="R² to true rates, all neurons and bins"
    )
    left.set(title="which samples are taken (SBTT)", ylim=(-0.5, 1.02))
    right.set(xlabel="power saved, at most", title="what is made of the missing ones")
    for axes in (left, right):
        axes.axhline(0, color="#BBBBBB", linewidth=0.8)
    left.legend(frameon=False, fontsize="small", loc="lower left")
    right.legend(
        frameon=False,
        fontsize="small",
        loc="lower left",
        title="speckled: blue, decimate: orange",
        title_fontsize="small",
    )
    return figure


def _line(
    axes: Any, rows: list[dict[str, Any]], scheme: str, treatment: str, full: float, style: dict[str, Any]
) -> None:
    """From everything sampled to the smallest budget, mean over seeds; points are seeds."""
    found = [row for row in rows if (row["scheme"], row["treatment"]) == (scheme, treatment)]
    budgets = sorted({round(row["power saved"], 3) for row in found})
    scores = [[row["R2"] for row in found if round(row["power saved"], 3) == budget] for budget in budgets]
    if found:
        axes.plot([0, *budgets], [full, *map(np.mean, scores)], marker="o", markersize=4, **style)
        for budget, values in zip(budgets, scores, strict=True):
            axes.plot([budget] * len(values), values, ".", color=style["color"], alpha=0.4)


if __name__ == "__main__":
    main()
