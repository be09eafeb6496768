"""Scores of the Neural Latents Benchmark on a simulated set of its shape: smoothing, models, ensembles, and the true rates.

Rates are as weakly modulated as those of the recorded maze: the true ones score about as many bits per spike as its PSTHs. A
model's row is the mean of its single fits, `model × n` the average of their log rates; "co-bps from … to" are those of the
single fits, "of oracle" is co-bps relative to the true rates'. Smoothing convolves held-in units with a Gaussian of 50 ms,
predicts held-out units from these by Poisson regression, and forecast bins by the mean of the training trials. PSTHs are
computed from the trials' spikes, so psth R2 of the true rates is below 1.

    python benchmarks/nlb_accuracy.py --models conv:5,lfads:1 --json nlb_accuracy.json --figure nlb_accuracy.png
    python benchmarks/nlb_accuracy.py --small
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import PoissonRegressor

from nwb_sbtt.config import ConvConfig, FitConfig, TrainConfig
from nwb_sbtt.fitting.ensemble import member_configs
from nwb_sbtt.nlb.definitions import DEFINITIONS
from nwb_sbtt.nlb.modelling import predict
from nwb_sbtt.nlb.preparation import Prepared, prepare
from nwb_sbtt.nlb.presets import starting_config
from nwb_sbtt.nlb.scoring import score
from nwb_sbtt.nlb.windows import place_windows
from nwb_sbtt.simulate.latents_benchmark import SetSettings, SimulatedSet, simulate_set

Rates = dict[str, NDArray[Any]]
SMOOTHING = 0.05
"""Seconds; sd of the Gaussian."""
PENALTIES = (0.3, 1.0, 3.0, 10.0)
"""Of the regression; chosen on the last fifth of the training trials."""
SCORES = ("co-bps", "fp-bps", "vel R2", "psth R2", "tp corr")
SMALL = ConvConfig(width=16, groups=4, layers=2, factors=8, read_in=8)


def main() -> None:
    parser = options(__doc__, small="few trials of brisk units, one small model, two seeds")
    parser.add_argument("--set", dest="name", default="mc_maze")
    parser.add_argument("--trials", type=int, default=300, help="training trials; a third as many are evaluated")
    parser.add_argument("--units", type=int, default=120)
    parser.add_argument("--rate", type=float, default=6.0, help="median rate of the units, Hz")
    parser.add_argument("--depth", type=float, default=0.55, help="sd of the logarithm of a rate over time")
    parser.add_argument("--bin-width", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0, help="of the data")
    parser.add_argument("--models", default="conv:5,lfads:1", help="NAME:FITS; several fits are averaged too")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.trials, arguments.units, arguments.models, arguments.rate, arguments.depth = (
            48,
            16,
            "conv:2",
            12.0,
            0.9,
        )
    rows = run(arguments)
    report(arguments, rows, lambda: draw(rows))


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row for each kind of rates."""
    settings = SetSettings(
        arguments.name,
        arguments.trials,
        arguments.trials // 3,
        2,
        arguments.units,
        rate=arguments.rate,
        depth=arguments.depth,
        seed=arguments.seed,
    )
    drawn = simulate_set(settings)
    prepared = prepare(arguments.name, [drawn.training], bin_width=arguments.bin_width)
    truth = scores_of(oracle(drawn, prepared), prepared)
    best = truth["co-bps"]
    rows = [row("smoothing", [scores_of(smoothed(prepared), prepared)], best, 0.0)]
    for model in filter(None, arguments.models.split(",")):
        name, seeds = model.split(":")
        fit_rows = fitted(prepared, config(name, int(seeds), arguments), best)
        print(*fit_rows, sep="\n", flush=True)
        rows += fit_rows
    return [*rows, row("true rates", [truth], best, 0.0)]


def fitted(prepared: Prepared, settings: FitConfig, best: float) -> list[dict[str, Any]]:
    """Return a row for the single fits and, if there are several, one for their average."""
    n, model = settings.seeds, settings.model.name
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        together = scores_of(predict(prepared, settings, run_dir=folder), prepared)
        seconds = time.process_time() - start
        if n == 1:
            return [row(model, [together], best, seconds)]
        single = [
            scores_of(predict(prepared, member, run_dir=Path(folder) / f"member-{i}"), prepared)
            for i, member in enumerate(member_configs(settings))
        ]
    return [row(model, single, best, seconds / n), row(f"{model} × {n}", [together], best, seconds)]


def config(model: str, seeds: int, arguments: argparse.Namespace) -> FitConfig:
    """Return the settings of `nlb fit` for a model, or of a small model with few steps."""
    if arguments.small:
        return FitConfig(model=SMALL, train=TrainConfig(epochs=50), seeds=seeds)
    return starting_config(arguments.name, arguments.bin_width, model=model, settings={"seeds": seeds})


def scores_of(rates: Rates, prepared: Prepared) -> dict[str, float]:
    return score(prepared.group, rates, prepared.targets or {})


def row(label: str, scores: list[dict[str, float]], best: float, seconds: float) -> dict[str, Any]:
    """Return the mean scores of several fits."""
    co_bps = [fit["co-bps"] for fit in scores]
    return {
        "rates": label,
        **{name: float(np.mean([fit[name] for fit in scores])) for name in scores[0]},
        "co-bps from": min(co_bps),
        "to": max(co_bps),
        "of oracle": float(np.mean(co_bps)) / best,
        "CPU-seconds": round(seconds),
    }


def oracle(drawn: SimulatedSet, prepared: Prepared) -> Rates:
    """Return true expected counts in the layout of a submission."""
    rates: Rates = {}
    for part, split in (("train", "train"), ("eval", "val")):
        windows = place_windows(drawn.training.trials, DEFINITIONS[prepared.name], prepared.bin_width, (split,))
        for forward, end in ((False, ""), (True, "_forward")):
            whole = drawn.expected_counts(windows, prepared.bin_width, forward=forward)
            for held_out, kind in ((False, "heldin"), (True, "heldout")):
                rates[f"{part}_rates_{kind}{end}"] = whole[..., drawn.training.held_out == held_out]
    return rates


def smoothed(prepared: Prepared) -> Rates:
    """Return smoothed held-in counts, and held-out units predicted from them by Poisson regression."""
    held_in = {
        part: gaussian_filter1d(prepared.inputs[f"{part}_spikes_heldin"], SMOOTHING / prepared.bin_width, axis=1) + 1e-4
        for part in ("train", "eval")
    }
    counts = prepared.inputs["train_spikes_heldout"]
    design = np.log(held_in["train"]).reshape(-1, held_in["train"].shape[2])
    units, last = counts.reshape(len(design), -1).T, len(design) * 4 // 5
    gains = [
        sum(_told(unit[:last], design[:last], penalty).score(design[last:], unit[last:]) for unit in units)
        for penalty in PENALTIES
    ]
    readers = [_told(unit, design, PENALTIES[int(np.argmax(gains))]) for unit in units]
    rates: Rates = {}
    for part, shown in held_in.items():
        flat = np.log(shown).reshape(-1, shown.shape[2])
        predicted = np.stack([reader.predict(flat) for reader in readers], axis=1).reshape(*shown.shape[:2], -1)
        for kind, array in (("heldin", shown), ("heldout", predicted)):
            rates[f"{part}_rates_{kind}"] = array
            after = prepared.inputs[f"train_spikes_{kind}_forward"].mean(0) + 1e-4
            rates[f"{part}_rates_{kind}_forward"] = np.repeat(after[None], len(shown), axis=0)
    return rates


def _told(unit: NDArray[Any], design: NDArray[Any], penalty: float) -> PoissonRegressor:
    return PoissonRegressor(alpha=penalty, max_iter=300).fit(design, unit)


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw each score as bars, with a line at that of the true rates."""
    scores = [name for name in SCORES if name in rows[0]]
    figure = canvas(2.6 * len(scores), 2.8)
    labels = [row["rates"] for row in rows[:-1]]
    for ax, name in zip(figure.subplots(1, len(scores), sharey=True, squeeze=False)[0], scores, strict=True):
        ax.barh(labels, [row[name] for row in rows[:-1]], color="#0072B2")
        largest = max(row[name] for row in rows)
        for position, row in enumerate(rows[:-1]):
            colour = "white" if row[name] > largest / 3 else "black"
            ax.text(0.03 * largest, position, f"{row[name]:.3f}", color=colour, va="center")
        ax.axvline(rows[-1][name], color="#888888", ls="--")
        ax.set_title(f"true rates {rows[-1][name]:.3f}", fontsize="medium", color="#555555")
        ax.set_xlabel(name)
        ax.set_xlim(0, 1.08 * largest)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
