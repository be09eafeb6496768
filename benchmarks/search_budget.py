"""Searches against the defaults, at an equal budget of CPU-seconds: R² of inferred to true rates on trials kept aside.

The Lorenz task of `accuracy.py` with 5 of 29 neurons observed per bin; 1248 trials for training, 156 for validation, by which
fits are compared, and 156 for the test, on which R² is computed (1 − SSE/SST, mean over neurons). Each arm may use --budget
CPU-seconds of training: as many fits with the defaults and other seeds of training, or trials of a search (`random`, `optuna`
with early stopping, members of a population, `pbt`), as that pays for. The five with the best validation score are averaged;
`defaults, the first 5` are averaged as `nwb-sbtt fit --seeds 5` does, whatever their score, and use less.

CPU-seconds are those of the processes that fit, their start (some seconds) among them, without scores and reports at the end.
The number of trials follows from the CPU-seconds of a fit with the defaults; a search by `random` or `optuna` that leaves a
tenth of its budget or more is given further trials, at most four times. With --runs an interrupted call goes on where it was;
it is also where the folders of all searches, with their pages, can be looked at.

A budget of 3000 pays for some 15 fits of 200 CPU-seconds: with three seeds and four arms ten hours on one core, five on two.

    nice python benchmarks/search_budget.py --budget 3000 --seeds 0 1 2 --runs FOLDER --json search_budget.json
    python benchmarks/search_budget.py --budget 3000 --seeds 0 --strategies optuna --runs FOLDER   # one arm beside the defaults
    python benchmarks/search_budget.py --small
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from fits import lorenz_task, quiet, take_settings, timed_fit
from machine import options, save, show
from processes import SPENT, metered

import nwb_sbtt as sb
from nwb_sbtt.atomic import write_text
from nwb_sbtt.config import SearchConfig, override
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.assembly import assemble
from nwb_sbtt.fitting.fit import named_sessions
from nwb_sbtt.searching.cluster import connected

OBSERVED, AVERAGED = 5, 5
Strategy = Literal["random", "optuna", "pbt"]
STRATEGIES = get_args(Strategy)
COST: dict[Strategy, float] = {"random": 1.0, "optuna": 0.4, "pbt": 1.0}
"""Of a trial, compared with a fit with the defaults, before any was run: most trials of `optuna` are stopped early."""
ROUNDS = 5
"""Of a search, each with further trials."""


def main() -> None:
    """Fit and search for each seed, and print the table."""
    parser = options(__doc__, small="few data and epochs, two arms", figure=False)
    parser.add_argument("--budget", type=float, default=3000.0, help="CPU-seconds of training of each arm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of data, masks and models")
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--jobs", type=int, help="trials at once [default: one a CPU]")
    parser.add_argument("--runs", type=Path, help="where all folders are kept, and an interrupted call goes on")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        arguments.seeds, arguments.strategies, conditions, arguments.budget = [0], ["optuna"], 4, 0.0
        arguments.settings = ["train.epochs=6", "train.batch_size=12", *arguments.settings]
    with tempfile.TemporaryDirectory() as temporary:
        runs = arguments.runs or Path(temporary)
        rows = []
        with connected(cpus=arguments.jobs):
            for seed in arguments.seeds:
                for row in _rows(runs / f"seed-{seed}", seed, conditions, arguments):
                    print(row, flush=True)
                    rows.append({"data seed": seed, **row})
                    save(arguments.json, vars(arguments), rows)
    show(rows)


def task(seed: int, conditions: int) -> xr.Dataset:
    """Simulate the data; half of the trials that would validate are kept for the test."""
    ds = lorenz_task(OBSERVED, seed=seed, conditions=conditions)
    labels = ds["split"].values.astype("<U5")
    valid = np.random.default_rng(seed).permutation(np.flatnonzero(labels == "valid"))
    labels[valid[: len(valid) // 2]] = "test"
    return ds.assign_coords(split=("trial", labels))


def _rows(folder: Path, seed: int, conditions: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All arms of one data set: the defaults first, since they say what a fit costs."""
    ds = task(seed, conditions)
    config = override(sb.FitConfig(seed=seed), arguments.settings)
    defaults, seconds = _defaults(folder / "defaults", ds, config, arguments.budget)
    first = defaults[:AVERAGED]
    ranked = sorted(defaults, key=lambda fitted: fitted.members[0].progress.best_score)
    cost = sum(seconds) / len(seconds)
    rows = [
        _row(
            "defaults, the first 5", ds, first[0], _averaged(folder / "first", first, ds), len(first), cost * len(first)
        ),
        _row("defaults", ds, ranked[0], _averaged(folder / "best", ranked, ds), len(ranked), sum(seconds)),
    ]
    for strategy in arguments.strategies:
        found, spent = _search(folder / strategy, ds, config, strategy, cost=cost, budget=arguments.budget)
        rows.append(_row(strategy, ds, found.best, found.ensemble, len(found.record.rows), spent))
    return rows


def _defaults(folder: Path, ds: xr.Dataset, config: sb.FitConfig, budget: float) -> tuple[list[sb.Fitted], list[float]]:
    """Fit with other seeds of training until the budget is spent, five times at least; give fits and CPU-seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    fits: list[sb.Fitted] = []
    seconds: list[float] = []
    while len(fits) < AVERAGED or sum(seconds) * (1 + 1 / len(seconds)) <= budget:
        each = config.model_copy(update={"train": config.train.model_copy(update={"seed": 1000 + len(fits)})})
        run_dir = folder / f"{len(fits):04d}"
        record = folder / f"{len(fits):04d}.json"
        before = float(json.loads(record.read_text())) if record.exists() else 0.0
        fitted, took = timed_fit(ds, each, run_dir)
        if not before:
            write_text(record, json.dumps(took))
        fits.append(fitted)
        seconds.append(before or took)
    return fits, seconds


def _averaged(folder: Path, fits: Sequence[sb.Fitted], ds: xr.Dataset) -> sb.Fitted:
    if not folder.exists():
        assemble(folder, [fitted.run_dir for fitted in fits[:AVERAGED]], named_sessions(ds))
    return sb.load(folder)


def _search(
    folder: Path, ds: xr.Dataset, config: sb.FitConfig, strategy: Strategy, *, cost: float, budget: float
) -> tuple[Any, float]:
    """Search with as many trials as the budget pays for; give what was found and the CPU-seconds spent."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "trials.json"
    trials = int(json.loads(plan.read_text())) if plan.exists() else 0
    with metered(folder / SPENT) as spent:
        for number in range(ROUNDS):
            trials = trials or max(AVERAGED, int(budget / (COST[strategy] * cost)))
            write_text(plan, json.dumps(trials))
            search = SearchConfig(strategy=strategy, trials=trials, seed=config.seed, pieces=20, ensemble=AVERAGED)
            found = sb.search(ds, search, run_dir=folder / "search", fit=config, log=quiet)
            left = budget - spent()
            if strategy == "pbt" or left < 0.1 * budget or number == ROUNDS - 1:
                break
            trials += max(1, int(left * trials / spent()))
        return found, spent()


def _row(name: str, ds: xr.Dataset, best: sb.Fitted, averaged: sb.Fitted, fits: int, seconds: float) -> dict[str, Any]:
    """Score the best fit and the average on the test trials."""
    test = ds.isel(trial=np.flatnonzero(ds["split"].values == "test"))
    true = test["true_rates"].values
    return {
        "arm": name,
        "fits": fits,
        "CPU-seconds": seconds,
        "R2 of the best": r2(true, best.infer(test)["rates"].values),
        f"R2 of {AVERAGED} averaged": r2(true, averaged.infer(test)["rates"].values),
        "validation loss": min(member.progress.best_score for member in best.members),
    }


if __name__ == "__main__":
    main()
