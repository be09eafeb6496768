"""Searches against the defaults by held-out units: on recorded segments of motor cortex, and on a simulated maze.

`folds FILE`: the folds of `cosmoothing.py`. A search for each fold sees its 80 training trials alone, of which a fifth
compares the fits; the fold's test trials are scored once, at the end. `refitted` fits the settings of the best trial (`single`)
and of the best five (`averaged`) anew, on nine tenths of the training trials, as a fit with the defaults does.

`maze`: the simulated set of `nlb_accuracy.py`, with the true rates known. `of oracle` is co-bps relative to that of the true
rates, on evaluated trials that no search is given. A search keeps 3 % of the training trials for a last score of its own.

    python benchmarks/search_heldout.py folds sub-Jenkins_ses-small_desc-test_ecephys.nwb --runs FOLDER --json folds.json
    python benchmarks/search_heldout.py maze --models conv:optuna:24 lfads:pbt:8 --runs FOLDER --json maze.json
    python benchmarks/search_heldout.py maze --small
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from cosmoothing import BIN, N_TRIALS, N_UNITS, averaged_bits, drawn, log_counts, read_segments
from fits import fitted_to, quiet, take_settings
from machine import options, save, show
from nlb_accuracy import oracle, scores_of
from numpy.typing import NDArray
from processes import SPENT, metered

import nwb_sbtt as sb
from nwb_sbtt.config import SearchConfig, override
from nwb_sbtt.nlb.modelling import infer_rates, trials_dataset
from nwb_sbtt.nlb.preparation import Prepared, prepare
from nwb_sbtt.nlb.presets import starting_config
from nwb_sbtt.searching.cluster import connected
from nwb_sbtt.searching.search import Searched
from nwb_sbtt.searching.space import settings_with
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set

AVERAGED = 5
VALID = 0.2
"""Share of a fold's training trials that compares the fits of a search; they are few."""


def main() -> None:
    """Search, and print the table."""
    parser = options(__doc__, small="one fold or a small set, few trials and epochs", figure=False)
    parser.add_argument("part", choices=["folds", "maze"])
    parser.add_argument("file", type=Path, nargs="?", help="the test file of DANDI:000140, for `folds`")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--models", nargs="+", help="MODEL:STRATEGY:TRIALS [default: conv:optuna:24, for maze lfads:pbt:8 too]"
    )
    parser.add_argument("--jobs", type=int, help="trials at once [default: one a CPU]")
    parser.add_argument("--runs", type=Path, help="where all folders are kept, and an interrupted call goes on")
    take_settings(parser)
    arguments = parser.parse_args()
    models = arguments.models or ["conv:optuna:24", *(["lfads:pbt:8"] if arguments.part == "maze" else [])]
    if arguments.small:
        models, arguments.folds = ["conv:random:2"], arguments.folds[:1]
        arguments.settings = ["train.epochs=4", "posterior_samples=4", *arguments.settings]
    part = _folds if arguments.part == "folds" else _maze
    with tempfile.TemporaryDirectory() as temporary, connected(cpus=arguments.jobs):
        rows = part(models, arguments.runs or Path(temporary), arguments)
    show(rows)
    save(arguments.json, vars(arguments), rows)


def _search(
    folder: Path, ds: xr.Dataset, config: sb.FitConfig, strategy: str, trials: str, test_fraction: float = 0.1
) -> tuple[Searched, float]:
    """Search in a folder; give what was found and the CPU-seconds of its trials."""
    folder.mkdir(parents=True, exist_ok=True)
    search = override(
        SearchConfig(ensemble=AVERAGED), [f"strategy={strategy}", f"trials={trials}", f"test_fraction={test_fraction}"]
    )
    with metered(folder / SPENT) as spent:
        found = sb.search(ds, search, run_dir=folder / "search", fit=config, log=quiet)
    return found, spent()


def _folds(models: Sequence[str], runs: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    if arguments.file is None:
        raise SystemExit("folds are of a recording: name the test file of DANDI:000140")
    ds = read_segments(arguments.file)
    rows = []
    for model in models:
        name, strategy, trials = model.split(":")
        config = override(sb.FitConfig(), [f"model={name}", f"valid_fraction={VALID}", *arguments.settings])
        for fold in arguments.folds:
            held_out, test = drawn(fold)
            hidden = np.isin(np.arange(N_UNITS), held_out)
            split = np.where(np.isin(np.arange(N_TRIALS), test), "test", "train")
            data = ds.assign_coords(held_out=("channel", hidden), split=("trial", split))
            folder = runs / f"{name}-{strategy}-{fold}"
            found, spent = _search(folder, data, config, strategy, trials)
            row: dict[str, Any] = {"model": name, "strategy": strategy, "fold": fold, "CPU-seconds": spent}
            assert found.ensemble is not None
            counts = ds["values"].values[test]
            for label, fitted in (("single", found.best), ("averaged", found.ensemble)):
                row[label] = averaged_bits([log_counts(fitted, data, test)], counts, hidden)
            logs = [_refitted(found, data, test, rank) for rank in range(min(AVERAGED, len(found.record.ranked)))]
            row |= {
                "refitted, single": averaged_bits(logs[:1], counts, hidden),
                "refitted, averaged": averaged_bits(logs, counts, hidden),
            }
            print(row, flush=True)
            rows.append(row)
    for model in models:
        name, strategy, _ = model.split(":")
        of_model = [row for row in rows if (row["model"], row["strategy"]) == (name, strategy)]
        means = {
            key: float(np.mean([row[key] for row in of_model])) for key in rows[0] if key not in ("model", "strategy")
        }
        rows.append({"model": name, "strategy": strategy, **means, "fold": "mean"})
    return rows


def _refitted(found: Searched, data: xr.Dataset, test: NDArray[np.intp], rank: int) -> NDArray[np.floating]:
    """Fit with the settings of one of the best trials, on as many training trials as a fit with the defaults."""
    record = found.record
    valid = sb.FitConfig().valid_fraction
    config = settings_with(record.fit, record.ranked[rank].settings)
    config = config.model_copy(update={"valid_fraction": valid, "seed": rank})
    with fitted_to(data, config) as (fitted, _):
        return log_counts(fitted, data, test)


def _maze(models: Sequence[str], runs: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    settings = SetSettings("mc_maze", 300, 100, 2, 120, rate=6.0, depth=0.55, seed=0)
    if arguments.small:
        settings = SetSettings("mc_maze", 48, 16, 2, 16, rate=12.0, depth=0.9, seed=0)
    simulated = simulate_set(settings)
    prepared = prepare(settings.name, [simulated.training], bin_width=BIN)
    best = scores_of(oracle(simulated, prepared), prepared)["co-bps"]
    rows: list[dict[str, Any]] = []
    for model in models:
        name, strategy, trials = model.split(":")
        config = override(starting_config(settings.name, BIN, model=name), arguments.settings)
        folder = runs / f"maze-{name}-{strategy}"
        found, spent = _search(folder, trials_dataset(prepared, "train"), config, strategy, trials, test_fraction=0.03)
        assert found.ensemble is not None
        for label, fitted in ((f"best of {trials}", found.best), (f"{AVERAGED} averaged", found.ensemble)):
            rows.append(
                {
                    "model": name,
                    "strategy": strategy,
                    "rates": label,
                    **_scored(prepared, fitted, best),
                    "CPU-seconds": spent,
                }
            )
            print(rows[-1], flush=True)
    print(f"true rates: {best:.3f} bits per spike")
    return rows


def _scored(prepared: Prepared, fitted: sb.Fitted, best: float) -> dict[str, float]:
    scores = scores_of(infer_rates(prepared, fitted), prepared)
    return {**scores, "of oracle": scores["co-bps"] / best}


if __name__ == "__main__":
    main()
