"""Sampling schemes at an equal budget, and treatments of missing entries.

The Lorenz task of `accuracy.py`. Every scheme takes k · bins samples in a trial, k of 29 neurons per bin on average:

* speckled: k random neurons in every bin;
* round robin: blocks of k in turn;
* decimate: all neurons, in a share k/29 of the bins;
* fixed: the same k neurons throughout. The others are never sampled; here they get their true mean rates, which a recording
  would not provide. "R2" includes them, "R2 sampled" is over the k neurons alone.

Treatments of missing entries:

* SBTT: missing, in encoder and loss;
* zeros: observed zeros, the usual mistake. Rates are then too low by the share of samples; "R2 scaled" is that of the rates
  divided by the share;
* interpolation: linear in time between the samples of the neuron, constant at the ends; its mean in a trial without samples.

With fixed neurons no entry is missing. R² is that of the true rates of the validation trials,
1 − SSE/SST, mean over all 29 neurons, all bins. "saved by conversions" is the share of the power of a published device
(--device, see `nwb_sbtt.data.published_devices`) that is saved where only conversions are dropped; "saved by amplifiers"
where its amplifiers are switched off too, and on again --settling seconds before a sample.

    python benchmarks/controls.py --json controls.json --figure controls.png
    python benchmarks/controls.py --small
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from fits import N_NEURONS, fitted_to, observe, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import r2

SMALL = ["train.epochs=5", "train.batch_size=12", "posterior_samples=2"]
SCHEMES = {"speckled": "#0072B2", "round_robin": "#009E73", "decimate": "#E69F00", "fixed": "#CC79A7"}
TREATMENTS = {"SBTT": "-", "interpolation": "--", "zeros": ":"}
"""With their colours and lines in the figure."""


def main() -> None:
    """Fit every scheme in every treatment at each level and print the table."""
    parser = options(__doc__, small="a tenth of the data, few epochs, four fits")
    parser.add_argument("--levels", type=int, nargs="+", default=[10, 5, 2], help="neurons sampled per bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=list(SCHEMES))
    parser.add_argument("--treatments", nargs="+", default=list(TREATMENTS), choices=list(TREATMENTS))
    parser.add_argument("--device", default="karpowicz_2024", choices=list(sb.data.published_devices()))
    parser.add_argument("--settling", type=float, default=0.005, help="seconds of an amplifier; an assumption")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        arguments.levels, conditions, arguments.settings = [5], 4, [*SMALL, *arguments.settings]
        arguments.schemes, arguments.treatments = ["speckled", "fixed"], ["SBTT", "zeros"]
    rows = [row for seed in arguments.seeds for row in _rows(seed, conditions, arguments)]
    report(arguments, rows, lambda: _figure(rows))


def as_zeros(limited: xr.Dataset) -> xr.Dataset:
    """Treat missing entries as observed zeros: the mistake that masks avoid."""
    return limited.assign(observed=xr.ones_like(limited["observed"]))


def interpolated(limited: xr.Dataset) -> xr.Dataset:
    """Interpolate missing entries linearly in time and treat them as observed."""
    values, observed = limited["values"].values.copy(), limited["observed"].values
    mean = values.sum((0, 1)) / np.maximum(observed.sum((0, 1)), 1)
    bins = np.arange(values.shape[1])
    for trial, channel in np.ndindex(values.shape[0], values.shape[2]):
        sampled = observed[trial, :, channel]
        trace = values[trial, :, channel]
        values[trial, :, channel] = np.interp(bins, bins[sampled], trace[sampled]) if sampled.any() else mean[channel]
    return as_zeros(limited.assign(values=(limited["values"].dims, values)))


def sampled_part(limited: xr.Dataset) -> xr.Dataset:
    """Select the channels that were sampled."""
    return limited.isel(channel=np.flatnonzero(limited["observed"].values.any((0, 1))))


def spread_out(rates: np.ndarray, limited: xr.Dataset, whole: xr.Dataset) -> np.ndarray:
    """Rates of all channels: inferred for sampled ones, the true mean rates of the training trials for the others."""
    sampled = limited["observed"].values.any((0, 1))
    training = whole.isel(trial=np.flatnonzero(whole["split"].values == "train"))
    mean = training["true_rates"].values.mean((0, 1))
    all_rates = np.broadcast_to(mean, (*rates.shape[:2], len(mean))).copy()
    all_rates[..., sampled] = rates
    return all_rates


def _rows(seed: int, conditions: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    whole = sb.simulate.lorenz(n_channels=N_NEURONS, conditions=conditions, seed=seed)
    config = override(sb.FitConfig(seed=seed), arguments.settings)
    rows = [_row(whole, whole, config, scheme="none", treatment="SBTT", arguments=arguments)]
    for k in arguments.levels:
        for scheme in arguments.schemes:
            limited = observe(whole, k, seed=seed, scheme=scheme)
            for treatment in arguments.treatments if scheme != "fixed" else ["SBTT"]:
                rows.append(_row(whole, limited, config, scheme=scheme, treatment=treatment, arguments=arguments))
    return rows


def _row(
    whole: xr.Dataset,
    limited: xr.Dataset,
    config: sb.FitConfig,
    *,
    scheme: str,
    treatment: str,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    treat = {"SBTT": sampled_part, "zeros": as_zeros, "interpolation": interpolated}[treatment]
    treated = treat(limited)
    valid = np.flatnonzero(whole["split"].values == "valid")
    with fitted_to(treated, config) as (fitted, seconds):
        rates = fitted.infer(treated.isel(trial=valid))["rates"].values
        epochs = len(fitted.history)
    sampled = limited["observed"].values.any((0, 1))
    all_rates = spread_out(rates, limited, whole) if treatment == "SBTT" else rates
    truth = whole["true_rates"].values[valid]
    share = limited["observed"].values.mean()
    device = replace(sb.data.published_devices()[arguments.device], settling=arguments.settling)
    power = sb.data.power_saved(limited, device)
    row = {
        "sampled of 29": float(share * N_NEURONS),
        "scheme": scheme,
        "treatment": treatment,
        "seed": config.seed,
        "R2": r2(truth, all_rates),
        "R2 sampled": r2(truth[..., sampled], all_rates[..., sampled]),
        "R2 scaled": r2(truth, all_rates / share) if treatment == "zeros" else r2(truth, all_rates),
        "samples dropped": float(1 - share),
        "saved by conversions": None if power.conversions is None else power.share(power.conversions),
        "saved by amplifiers": None if power.amplifiers is None else power.share(power.amplifiers),
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
    left.set(xlabel="share of samples dropped", ylabel="R² to true rates, all neurons and bins")
    left.set(title="sampling scheme (SBTT)", ylim=(-0.5, 1.02))
    right.set(xlabel="share of samples dropped", title="treatment of missing entries")
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
    """Draw R² from all samples to the smallest budget: mean over seeds as a line, seeds as points."""
    selected = [row for row in rows if (row["scheme"], row["treatment"]) == (scheme, treatment)]
    budgets = sorted({round(row["samples dropped"], 3) for row in selected})
    scores = [[row["R2"] for row in selected if round(row["samples dropped"], 3) == budget] for budget in budgets]
    if selected:
        axes.plot([0, *budgets], [full, *map(np.mean, scores)], marker="o", markersize=4, **style)
        for budget, values in zip(budgets, scores, strict=True):
            axes.plot([budget] * len(values), values, ".", color=style["color"], alpha=0.4)


if __name__ == "__main__":
    main()
