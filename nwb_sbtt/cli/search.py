"""The command that searches over settings; `main` registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nwb_sbtt import stopping
from nwb_sbtt.cli.options import (
    Assignments,
    BinWidth,
    ChopText,
    Device,
    Files,
    Init,
    Inputs,
    Json,
    Lag,
    LikelihoodName,
    ModelName,
    Offsets,
    Seed,
    Seeds,
    Series,
    SettingsFile,
    TrialsRelative,
    TrialsTable,
    TrialsText,
    WindowText,
    settings_of,
    take_assignments,
)
from nwb_sbtt.cli.output import logger, print_json


def search(
    context: typer.Context,
    files: Files,
    run_dir: Annotated[
        Path, typer.Option(help="folder of the search; an interrupted search is resumed", show_default=False)
    ],
    strategy: Annotated[str | None, typer.Option(help="random, optuna or pbt [default: optuna]")] = None,
    n_trials: Annotated[
        int | None, typer.Option(help="number of fits, or members of the population [default: 20]")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="a setting to search: NAME=log(LOW, HIGH), NAME=uniform(LOW, HIGH) or NAME=[A, B, …]; repeat for several "
            "[default: a table for each model]"
        ),
    ] = None,
    ensemble: Annotated[int | None, typer.Option(help="number of the best fits to average [default: 1]")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join: auto or HOST:PORT [default: this machine]")
    ] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPU cores of a fit [default: 1]")] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(help="share of a GPU for each fit; 0.25: four fits share one [default: 0]")
    ] = None,
    memory_per_trial: Annotated[float | None, typer.Option(help="memory reserved for each fit, in GB")] = None,
    at_once: Annotated[
        int | None,
        typer.Option(help="maximum number of fits at the same time [default: as many as the resources allow]"),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="path that all nodes of a cluster can access, e.g. s3://bucket/path [default: --run-dir]"),
    ] = None,
    series: Series = None,
    inputs: Inputs = None,
    bin_width: BinWidth = None,
    trials: TrialsText = None,
    trials_table: TrialsTable = None,
    trials_relative: TrialsRelative = False,
    window: WindowText = None,
    chop: ChopText = None,
    model: ModelName = None,
    likelihood: LikelihoodName = None,
    seed: Seed = None,
    seeds: Seeds = None,
    lag: Lag = None,
    init: Init = None,
    device: Device = None,
    config: SettingsFile = None,
    set_: Assignments = None,
    offsets: Offsets = None,
    as_json: Json = False,
) -> None:
    """Search for good settings of a fit, with Ray.

    Many fits run in parallel. Each starts from the settings of `nwb-sbtt fit` and changes the searched ones. RUN_DIR/best is
    the run folder of the best fit, RUN_DIR/ensemble that of the average of the best fits; RUN_DIR/search.html compares all.
    After an interruption, the same command resumes. Settings of the search itself are set by --set, e.g. search.pieces=10;
    `nwb-sbtt settings --search search.` lists them. Needs pip install "nwb_sbtt[search]". Guide:
    docs/hyperparameter_search.md.
    """
    from nwb_sbtt.config import SearchConfig, build, override
    from nwb_sbtt.searching.cluster import check_installed
    from nwb_sbtt.searching.files import search_files

    check_installed()
    given: dict[str, Any] = {
        "strategy": strategy,
        "trials": n_trials,
        "space": space or None,
        "ensemble": ensemble,
        "address": address,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "memory_per_trial": memory_per_trial,
        "at_once": at_once,
        "storage": storage,
    }
    own = take_assignments(context, "search.")
    read_config, fit_config = settings_of(context)
    given |= {"seed": fit_config.seed}
    chosen = build(SearchConfig, {name: value for name, value in given.items() if value is not None}, within="search")
    chosen = override(chosen, own, within="search")
    with stopping.by_signal():
        content = search_files(
            files,
            read_config,
            chosen,
            fit_config,
            run_dir=run_dir,
            offsets=offsets or [],
            log=logger(as_json),
        )
    if as_json:
        print_json(content)


COMMANDS = (search,)
