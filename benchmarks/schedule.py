"""Channels chosen by what they are expected to tell, compared with masks drawn in advance, at an equal budget.

Tasks: "lorenz", that of `accuracy.py`; "maze", a simulated set of the Neural Latents Benchmark's shape (`nlb_accuracy.py`), 59
neurons with a median rate of 6 Hz, 35 bins of 20 ms, 900 training and 300 validation trials. k neurons are sampled in every bin
of all trials, or the same share of the maze's (4 for 2 of 29, 2 for 1).

The defaults are fitted to training trials of each scheme, and infer validation trials of the same. "scheduled": the fit to
speckled samples chooses the neurons of each next bin of the validation trials (`sb.schedule`), of which a share is drawn at
random (--explore), and infers them. With --choosing another fit to the speckled samples chooses, such as one with a lag. With
--refit the defaults are fitted once more, to what was chosen in the training trials ("refitted").

R² is that of the rates to the true ones, 1 − SSE/SST, mean over all neurons and over all bins of the validation trials. With
fixed neurons the others get their true mean rates, as in `controls.py`. "R2, online" is that of what the scheduler infers of
each bin when it is given; "fewest samples" is the number of samples of the neuron that is sampled least, in the training
trials.

    python benchmarks/schedule.py --json schedule.json --figure schedule.png --example example.png
    python benchmarks/schedule.py --tasks maze --schemes scheduled speckled
    python benchmarks/schedule.py --schemes scheduled --choosing model.lag=0 train.epochs=25 --explore 0.3 --refit
    python benchmarks/schedule.py --small
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from controls import sampled_part, spread_out
from fits import N_NEURONS, fitted_to, observe, take_settings, timed_fit
from machine import canvas, options, report, save
from matplotlib.figure import Figure
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.data.bandwidth import bin_numbers
from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.schedule import EXPLORE, Scheduler
from nwb_sbtt.nlb.definitions import DEFINITIONS
from nwb_sbtt.nlb.preparation import prepare
from nwb_sbtt.nlb.windows import place_windows
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set

DRAWN = ("speckled", "round_robin", "fixed")
TASKS = ("lorenz", "maze")
MAZE = SetSettings("mc_maze", 900, 300, 2, units=60, held_out=0.02, rate=6.0, depth=0.55)
BIN_WIDTH = 0.02
"""Seconds, of the maze."""
SMALL = ["train.epochs=5", "dynamics.steps=5", "dynamics.courses=32", "dynamics.markov_states=32"]


def main() -> None:
    """Fit the data of each scheme and print the table."""
    parser = options(__doc__, small="a tenth of the data, five epochs, one level, two schemes")
    parser.add_argument("--tasks", nargs="+", default=[TASKS[0]], choices=TASKS)
    parser.add_argument("--levels", type=int, nargs="+", default=[2, 1], help="neurons sampled per bin, of 29")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--schemes", nargs="+", default=["scheduled", *DRAWN], choices=["scheduled", *DRAWN])
    parser.add_argument("--explore", type=float, nargs="+", default=[0, EXPLORE], help="shares of random samples")
    parser.add_argument("--choosing", nargs="*", default=[], help="changes of the defaults of another fit that chooses")
    parser.add_argument("--refit", action="store_true", help="fit what was chosen in training trials, too")
    parser.add_argument("--example", type=Path, help="where to draw what is chosen in a validation trial, as PNG")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions, settings = 65, MAZE
    if arguments.small:
        arguments.tasks, arguments.levels, arguments.schemes = [*TASKS], [2], ["scheduled", "speckled"]
        conditions, settings, arguments.explore, arguments.refit = 7, replace(MAZE, train=90, val=30), [EXPLORE], True
        arguments.settings = [*SMALL, *arguments.settings]
    rows = []
    for seed in arguments.seeds:
        for task in arguments.tasks:
            if task == "maze":
                whole = maze(replace(settings, seed=seed))
            else:
                whole = sb.simulate.lorenz(n_channels=N_NEURONS, conditions=conditions, seed=seed)
            for level in arguments.levels:
                k = round(level * whole.sizes["channel"] / N_NEURONS)
                for row in _rows(whole, k, seed, arguments):
                    rows.append({"task": task, "sampled": k, "of": whole.sizes["channel"], "seed": seed, **row})
                    print(rows[-1], flush=True)
                save(arguments.json, vars(arguments), rows)
    report(arguments, rows, lambda: _figure(rows))


def maze(settings: SetSettings) -> xr.Dataset:
    """Simulate the held-in units of a set, with their true rates."""
    drawn = simulate_set(settings)
    counts = prepare(settings.name, [drawn.training], bin_width=BIN_WIDTH).inputs
    parts = {"train": "train_spikes_heldin", "valid": "eval_spikes_heldin"}
    windows = [
        place_windows(drawn.training.trials, DEFINITIONS[settings.name], BIN_WIDTH, (split,))
        for split in ("train", "val")
    ]
    expected = np.concatenate([drawn.expected_counts(of, BIN_WIDTH) for of in windows])[..., ~drawn.training.held_out]
    values = np.concatenate([counts[name] for name in parts.values()])
    ds = make_dataset(
        values,
        np.ones(values.shape, bool),
        bin_width=BIN_WIDTH,
        kind="units",
        trial_start=BIN_WIDTH * np.concatenate([of.first_bins for of in windows]),
        coords={"split": ("trial", np.repeat([*parts], [len(counts[name]) for name in parts.values()]))},
        attrs={"unit": "counts", "session_id": f"maze-{settings.seed}"},
    )
    return ds.assign(true_rates=(DIMS, (expected / BIN_WIDTH).astype(np.float32)))


def _rows(whole: xr.Dataset, k: int, seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Score the schemes; the fit to speckled samples serves two of them."""
    config = override(sb.FitConfig(seed=seed), arguments.settings)
    for scheme in DRAWN:
        wanted = scheme in arguments.schemes
        chooses = scheme == "speckled" and "scheduled" in arguments.schemes
        if not wanted and not chooses:
            continue
        limited = observe(whole, k, seed=seed, scheme=scheme)
        part = sampled_part(limited)
        with fitted_to(part, config) as (fitted, seconds):
            rates = spread_out(fitted.infer(part)["rates"].values, limited, whole)
            if wanted:
                yield {"scheme": scheme, **_row(whole, limited, rates, seconds)}
            if chooses:
                yield from _scheduled(whole, limited, fitted, config, k, arguments)


def _scheduled(
    whole: xr.Dataset,
    speckled: xr.Dataset,
    fitted: sb.Fitted,
    config: sb.FitConfig,
    k: int,
    arguments: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """Let a fit to speckled samples choose, and infer what it has chosen; and a fit to that."""
    with tempfile.TemporaryDirectory() as folder:
        chooser, seconds = fitted, 0.0
        if arguments.choosing:
            chooser, seconds = timed_fit(speckled, override(config, arguments.choosing), Path(folder) / "chooser")
        for explore in arguments.explore:
            scheduler = sb.schedule(chooser, budget=k, data=speckled, explore=explore, seed=config.seed)
            started = time.process_time()
            chosen = scheduler.limit(whole)
            per_bin = (time.process_time() - started) / (whole.sizes["trial"] * whole.sizes["time"])
            row = {"explore": explore, "R2, online": _online(whole, scheduler), "ms a bin": 1e3 * per_bin}
            yield {"scheme": "scheduled", **_row(whole, chosen, fitted.infer(chosen)["rates"].values, seconds), **row}
            if arguments.example:
                name = f"{arguments.example.stem}_{whole.attrs['session_id']}_{k}_{explore:g}"
                example(chosen, whole).savefig(arguments.example.with_stem(name), dpi=150)
            if arguments.refit:
                again, seconds_again = timed_fit(chosen, config, Path(folder) / f"refit_{explore:g}")
                rates = again.infer(chosen)["rates"].values
                yield {"scheme": "refitted", **_row(whole, chosen, rates, seconds_again), "explore": explore}


def _online(whole: xr.Dataset, scheduler: Scheduler) -> float:
    """R² of the validation trials as they are inferred bin by bin, at the lag of the fit that chooses."""
    valid = whole.isel(trial=np.flatnonzero(whole["split"].values == "valid"))
    rates = np.full(valid["values"].shape, np.nan)
    for i, first in enumerate(bin_numbers(valid)[:, 0]):
        scheduler.reset(int(first))
        for values in valid["values"].values[i]:
            step = scheduler.step(values)
            if step.bin >= 0:
                rates[i, step.bin] = step.rates
    given = np.isfinite(rates).all((0, 2))
    return float(r2(valid["true_rates"].values[:, given], rates[:, given]))


def _row(whole: xr.Dataset, limited: xr.Dataset, rates: NDArray[np.floating], seconds: float) -> dict[str, Any]:
    training = limited["observed"].values[limited["split"].values == "train"]
    return {
        "R2": _score(whole, rates),
        "CPU-seconds": seconds,
        "counts per sample": float(limited["values"].values.sum() / limited["observed"].values.sum()),
        "fewest samples": int(training.sum((0, 1)).min()),
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
    labels = [
        f"{row['task']}, {row['scheme'].replace('_', ' ')}, {row['sampled']} of {row['of']}"
        + (f", {row['explore']:.0%} at random" if "explore" in row else "")
        for row in rows
    ]
    axes.barh(labels[::-1], [max(row["R2"], 0) for row in rows][::-1], color="#0072B2")
    axes.set(xlabel="R² to true rates (validation)", xlim=(0, 1))
    return figure


if __name__ == "__main__":
    main()
