"""Scores of the Neural Latents Benchmark on a simulated set of its shape: smoothing, models, ensembles, and the true rates.

Rates are as faint as those of the recorded maze: the true ones score about as many bits per spike as its PSTHs do. A model's
row is the mean of its single fits, `model × n` the average of these in the logarithm of the rates; "co-bps from … to" are those
of the single fits, "of oracle" is co-bps as a share of what the true rates score. Smoothing shows held-in units a Gaussian of
50 ms, tells held-out units from these by Poisson regression, and expects of the bins to predict each trial's mean over the
window. PSTHs are made of the trials' own spikes, so that the true rates do not reach 1 in psth R2.

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
from machine import save, show
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import PoissonRegressor

from nwb_sbtt.config import ConvConfig, FitConfig, LFADSConfig, TrainConfig
from nwb_sbtt.ensemble import member_configs
from nwb_sbtt.nlb.definitions import DEFINITIONS
from nwb_sbtt.nlb.modelling import predict
from nwb_sbtt.nlb.preparation import Prepared, prepare
from nwb_sbtt.nlb.scoring import score
from nwb_sbtt.nlb.simulation import Simulated, Simulation, simulate
from nwb_sbtt.nlb.windows import place_windows

Rates = dict[str, NDArray[Any]]
SMOOTHING = 0.05
"""Seconds; sd of the Gaussian."""
SCORES = ("co-bps", "fp-bps", "vel R2", "psth R2", "tp corr")
SMALL = ConvConfig(width=16, groups=4, layers=2, factors=8, read_in=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", dest="name", default="mc_maze")
    parser.add_argument("--trials", type=int, default=300, help="training trials; a third as many are evaluated")
    parser.add_argument("--units", type=int, default=120)
    parser.add_argument("--rate", type=float, default=6.0, help="median rate of the units, Hz")
    parser.add_argument("--depth", type=float, default=0.55, help="sd of the logarithm of a rate over time")
    parser.add_argument("--bin-width", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0, help="of the data")
    parser.add_argument("--models", default="conv:5,lfads:1", help="NAME:FITS; several fits are averaged too")
    parser.add_argument("--small", action="store_true", help="few trials of brisk units, small models, two seeds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    if args.small:
        args.trials, args.units, args.models, args.rate, args.depth = 48, 16, "conv:2", 12.0, 0.9
    rows = run(args)
    show(rows)
    settings = {key: value for key, value in vars(args).items() if key not in ("json", "figure")}
    save(args.json, settings, rows)
    if args.figure:
        draw(rows, args.figure)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row an estimate of the rates."""
    simulation = Simulation(
        args.name, args.trials, args.trials // 3, 2, args.units, rate=args.rate, depth=args.depth, seed=args.seed
    )
    drawn = simulate(simulation)
    prepared = prepare(args.name, [drawn.training], bin_width=args.bin_width)
    truth = scores_of(oracle(drawn, prepared), prepared)
    best = truth["co-bps"]
    rows = [row("smoothing", [scores_of(smoothed(prepared), prepared)], best, 0.0)]
    for model in args.models.split(","):
        name, seeds = model.split(":")
        found = fitted(prepared, config(name, int(seeds), small=args.small), best)
        print(*found, sep="\n", flush=True)
        rows += found
    return [*rows, row("true rates", [truth], best, 0.0)]


def fitted(prepared: Prepared, settings: FitConfig, best: float) -> list[dict[str, Any]]:
    """A row of the single fits and, where there are several, one of their average."""
    n, model = settings.seeds, settings.model.name
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        together = scores_of(predict(prepared, settings, run_dir=folder), prepared)
        seconds = time.process_time() - start
        if n == 1:
            return [row(model, [together], best, seconds)]
        single = [
            scores_of(predict(prepared, own, run_dir=Path(folder) / f"member-{i}"), prepared)
            for i, own in enumerate(member_configs(settings))
        ]
    return [row(model, single, best, seconds / n), row(f"{model} × {n}", [together], best, seconds)]


def config(model: str, seeds: int, *, small: bool) -> FitConfig:
    """The default settings of a model, or few steps of a small one."""
    if small:
        return FitConfig(model=SMALL, train=TrainConfig(epochs=50), seeds=seeds)
    return FitConfig(model=LFADSConfig() if model == "lfads" else ConvConfig(), seeds=seeds)


def scores_of(rates: Rates, prepared: Prepared) -> dict[str, float]:
    return score(prepared.group, rates, prepared.targets or {})


def row(label: str, found: list[dict[str, float]], best: float, seconds: float) -> dict[str, Any]:
    """Means of what several estimates score."""
    co_bps = [each["co-bps"] for each in found]
    return {
        "rates": label,
        **{name: float(np.mean([each[name] for each in found])) for name in found[0]},
        "co-bps from": min(co_bps),
        "to": max(co_bps),
        "of oracle": float(np.mean(co_bps)) / best,
        "CPU-seconds": round(seconds),
    }


def oracle(drawn: Simulated, prepared: Prepared) -> Rates:
    """True expected counts, in the layout of a submission."""
    rates: Rates = {}
    for part, split in (("train", "train"), ("eval", "val")):
        windows = place_windows(drawn.training.trials, DEFINITIONS[prepared.name], prepared.bin_width, (split,))
        for forward, end in ((False, ""), (True, "_forward")):
            whole = drawn.expected(windows, prepared.bin_width, forward=forward)
            for held_out, kind in ((False, "heldin"), (True, "heldout")):
                rates[f"{part}_rates_{kind}{end}"] = whole[..., drawn.training.held_out == held_out]
    return rates


def smoothed(prepared: Prepared) -> Rates:
    """Smoothed held-in counts, and held-out units told from them."""
    held_in = {
        part: gaussian_filter1d(prepared.inputs[f"{part}_spikes_heldin"], SMOOTHING / prepared.bin_width, axis=1) + 1e-4
        for part in ("train", "eval")
    }
    counts = prepared.inputs["train_spikes_heldout"]
    design = np.log(held_in["train"]).reshape(-1, held_in["train"].shape[2])
    readers = [
        PoissonRegressor(alpha=1e-2, max_iter=300).fit(design, unit) for unit in counts.reshape(len(design), -1).T
    ]
    rates: Rates = {}
    n_forward = prepared.inputs["train_spikes_heldin_forward"].shape[1]
    for part, shown in held_in.items():
        flat = np.log(shown).reshape(-1, shown.shape[2])
        told = np.stack([reader.predict(flat) for reader in readers], axis=1).reshape(*shown.shape[:2], -1)
        for kind, own in (("heldin", shown), ("heldout", told)):
            rates[f"{part}_rates_{kind}"] = own
            rates[f"{part}_rates_{kind}_forward"] = np.repeat(own.mean(1, keepdims=True), n_forward, axis=1)
    return rates


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars of each score."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scores = [key for key in rows[0] if key in SCORES]
    figure, axes = plt.subplots(1, len(scores), figsize=(2.6 * len(scores), 2.8), sharey=True, layout="constrained")
    for ax, key in zip(np.atleast_1d(axes), scores, strict=True):
        ax.barh([each["rates"] for each in rows], [each[key] for each in rows], color="#4477aa")
        ax.set_xlabel(key)
        ax.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].invert_yaxis()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
