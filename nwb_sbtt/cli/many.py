"""The commands for many fits; `main` registers them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nwb_sbtt import stopping
from nwb_sbtt.cli.options import (
    Append,
    Assignments,
    BinWidth,
    ChopText,
    Device,
    Init,
    Json,
    LikelihoodName,
    ModelName,
    Name,
    Offsets,
    Overwrite,
    Seed,
    Seeds,
    Series,
    SettingsFile,
    TrialsRelative,
    TrialsTable,
    TrialsText,
    WindowText,
    settings_of,
)

FAILED = 3
"""Exit code where some of many fits failed."""


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold some", show_default=False)],
    csv: Annotated[Path | None, typer.Option(help="write the whole table as a CSV file", show_default=False)] = None,
    html: Annotated[Path | None, typer.Option(help="write it as an HTML page", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Compare fits in one table.

    Scores beside baselines, checks, data, epochs, state (finished, unfinished or failed, with the cause), and the settings
    that differ. A folder that cannot be read becomes a row with the cause.
    """
    from nwb_sbtt.report.listing import table_of_runs
    from nwb_sbtt.runs.comparison import compare_runs

    table = compare_runs(runs)
    if csv is not None:
        table.write_csv(csv)
    if html is not None:
        table.write_html(html)
    if as_json:
        _print_json(table.as_dict())
    else:
        typer.echo(table_of_runs(table.as_dict()))


def fit_all(
    context: typer.Context,
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="PLACES", help="NWB files, folders, addresses on DANDI; one fit a file", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder of all run folders, results and tables", show_default=False)],
    glob: Annotated[
        str | None, typer.Option(help="only files of folders and dandisets whose path matches, e.g. '*train*.nwb'")
    ] = None,
    joint: Annotated[
        str | None,
        typer.Option(help="fit together what has one value of the metadata: subject, subject.FIELD or FIELD"),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="fits at once on this machine [default: one a CPU]")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, auto or HOST:PORT [default: this machine]", show_default=False)
    ] = None,
    cpus_per_fit: Annotated[float, typer.Option(min=0.01, help="CPU cores of each fit")] = 1.0,
    gpus_per_fit: Annotated[float, typer.Option(min=0, help="GPUs of each fit; 0.25 puts four fits on one")] = 0.0,
    memory_per_fit: Annotated[
        float | None, typer.Option(help="memory of each fit, in GB [default: not counted]")
    ] = None,
    series: Series = None,
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
    init: Init = None,
    device: Device = None,
    config: SettingsFile = None,
    set_: Assignments = None,
    offsets: Offsets = None,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    as_json: Json = False,
) -> None:
    """Fit many files, each on its own; the same command goes on where it ended.

    Run folders are in runs, results in results, named after the files; summary.csv and summary.html compare all. Fits that are
    done are skipped. Failures are listed at the end, and the exit code is then 3. With --joint, files of one subject, or of
    one value of another field, are fitted together.
    """
    read_config, fit_config = settings_of(context)
    from nwb_sbtt.report.listing import table_of_runs
    from nwb_sbtt.runs.fitall import SUMMARY, Spread, fit_places
    from nwb_sbtt.runs.single import Plan
    from nwb_sbtt.runs.view import View
    from nwb_sbtt.searching.cluster import Resources

    def log(text: str) -> None:
        typer.echo(text, err=as_json)

    resources = Resources(cpus_per_fit, gpus_per_fit, memory_per_fit)
    plan = Plan(out.absolute(), read_config, fit_config, tuple(offsets or ()), overwrite, append, name)
    spread = Spread(glob, joint, jobs, address, resources)
    with stopping.by_signal():
        fits = fit_places(places, plan, spread, view=View(log), log=log)
        content = fits.table.as_dict()
        if as_json:
            _print_json({**content, "outcomes": [vars(outcome) for outcome in fits.outcomes]})
        else:
            typer.echo(table_of_runs(content))
        log(f"tables of all fits: {out / SUMMARY}.csv, {out / SUMMARY}.html")
        if fits.interrupted:
            raise stopping.Stopped if stopping.is_requested() else KeyboardInterrupt
    if fits.failed:
        raise typer.Exit(FAILED)


COMMANDS = (compare, fit_all)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
