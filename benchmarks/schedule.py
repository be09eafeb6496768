"""Channels chosen by what they are expected to tell, compared with masks drawn in advance, at an equal budget.

The Lorenz task of `accuracy.py`, k of 29 neurons in every bin of training and validation trials. "scheduled": a network with
lag 0, fitted to speckled data of the same budget, chooses the neurons of each next bin (`sb.schedule`); with --rounds 2 it is
fitted again to what it has chosen, and chooses again. Then a network of the defaults, which sees whole trials, is fitted to the
data of each scheme, with the same settings. R² is that of its rates to the true ones, 1 − SSE/SST, mean over all 29 neurons
and over all bins of the validation trials. With fixed neurons the others get their true mean rates, as in `controls.py`.
"R2, lag 0" is that of the network that chooses, from what it has chosen; "fewest samples" is the number of samples of the
neuron that is sampled least, in the training trials.

    python benchmarks/schedule.py --json schedule.json --figure schedule.png --example example.png
    python benchmarks/schedule.py --small
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from controls import sampled_part, spread_out
from fits import N_NEURONS, fitted_to, take_settings, timed_fit
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig, override
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.schedule import EXPLORE

DRAWN = ("speckled", "round_robin", "fixed")
SMALL = ["train.epochs=5"]


def main() -> None:
    """Fit the data of each scheme and print the table."""
    parser = options(__doc__, small="a tenth of the data, five epochs, two schemes")
    parser.add_argument("--levels", type=int, nargs="+", default=[2, 1], help="neurons sampled per bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--schemes", nargs="+", default=["scheduled", *DRAWN], choices=["scheduled", *DRAWN])
    parser.add_argument("--explore", type=float, default=EXPLORE, help="share of random samples")
    parser.add_argument("--rounds", type=int, default=1, help="times that the network that chooses is fitted")
    parser.add_argument("--choosing", nargs="*", default=[], help="changes of the defaults of the network that chooses")
    parser.add_argument("--example", type=Path, help="where to draw what is chosen in a validation trial, as PNG")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        arguments.levels, arguments.schemes, conditions = [2], ["scheduled", "speckled"], 7
        arguments.settings = [*SMALL, *arguments.settings]
    rows = []
    for seed in arguments.seeds:
        for k in arguments.levels:
            for scheme in arguments.schemes:
                rows.append(_row(scheme, k, seed, conditions, arguments))
                print(rows[-1], flush=True)
    report(arguments, rows, lambda: _figure(rows))


def scheduled(whole: xr.Dataset, k: int, seed: int, arguments: argparse.Namespace) -> tuple[xr.Dataset, dict[str, Any]]:
    """Let a network with lag 0 choose; give its data, and its own R² and CPU-seconds."""
    limited = _drawn("speckled", whole, k, seed)
    texts = ["model.lag=0", *arguments.settings, *arguments.choosing]
    config = override(sb.FitConfig(seed=seed), texts)
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(arguments.rounds):
            fitted, taken = timed_fit(limited, config, Path(folder) / str(i))
            seconds += taken
            scheduler = sb.schedule(fitted, budget=k, data=limited, explore=arguments.explore, seed=seed)
            limited = scheduler.limit(whole)
        own = _score(whole, fitted.infer(limited)["rates"].values)
    return limited, {"R2, lag 0": own, "CPU-seconds, lag 0": seconds}


def _drawn(scheme: str, whole: xr.Dataset, k: int, seed: int) -> xr.Dataset:
    config = BandwidthConfig.model_validate({"scheme": scheme, "k": k, "seed": seed})
    return sb.data.limit_bandwidth(whole, config)


def _row(scheme: str, k: int, seed: int, conditions: int, arguments: argparse.Namespace) -> dict[str, Any]:
    whole = sb.simulate.lorenz(n_channels=N_NEURONS, conditions=conditions, seed=seed)
    own: dict[str, Any] = {"R2, lag 0": "", "CPU-seconds, lag 0": ""}
    if scheme == "scheduled":
        limited, own = scheduled(whole, k, seed, arguments)
        if arguments.example:
            example(limited, whole).savefig(arguments.example.with_stem(f"{arguments.example.stem}_{k}"), dpi=150)
    else:
        limited = _drawn(scheme, whole, k, seed)
    config = override(sb.FitConfig(seed=seed), arguments.settings)
    with fitted_to(sampled_part(limited), config) as (fitted, seconds):
        rates = fitted.infer(sampled_part(limited))["rates"].values
        score = _score(whole, spread_out(rates, limited, whole))
    training = limited["observed"].values[limited["split"].values == "train"]
    return {
        "sampled of 29": k,
        "seed": seed,
        "scheme": scheme,
        "R2": score,
        "CPU-seconds": seconds,
        "counts per sample": float(limited["values"].values.sum() / limited["observed"].values.sum()),
        "fewest samples": int(training.sum((0, 1)).min()),
        **own,
    }


def _score(whole: xr.Dataset, rates: NDArray[np.floating]) -> float:
    """R² of the validation trials."""
    valid = whole["split"].values == "valid"
    return float(r2(whole["true_rates"].values[valid], rates[valid]))


def example(limited: xr.Dataset, whole: xr.Dataset) -> Figure:
    """Draw the true rates of a validation trial, neurons in the order of their peaks, and the samples that were chosen."""
    trial = int(np.flatnonzero(limited["split"].values == "valid")[0])
    rates, mask = whole["true_rates"].values[trial].T, limited["observed"].values[trial].T
    order = rates.argmax(1).argsort(kind="stable")
    figure = canvas(6, 3.5)
    axes = figure.subplots()
    seconds = np.arange(rates.shape[1] + 1) * float(whole.attrs["bin_width"])
    drawn = axes.pcolormesh(seconds, np.arange(len(rates) + 1), rates[order], cmap="Greys", vmax=60)
    rows, bins = np.nonzero(mask[order])
    axes.plot((seconds[bins] + seconds[bins + 1]) / 2, rows + 0.5, ".", color="#D55E00", markersize=5)
    axes.set(xlabel="time (s)", ylabel="neurons, by their peak")
    figure.colorbar(drawn, label="true rate (Hz)")
    return figure


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(5, 3)
    axes = figure.subplots()
    labels = [f"{row['scheme'].replace('_', ' ')}, {row['sampled of 29']} of 29" for row in rows]
    axes.barh(labels[::-1], [max(row["R2"], 0) for row in rows][::-1], color="#0072B2")
    axes.set(xlabel="R² to true rates (validation)", xlim=(0, 1))
    return figure


if __name__ == "__main__":
    main()
