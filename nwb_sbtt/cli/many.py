"""The commands for many fits; `main` registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nwb_sbtt import stopping
from nwb_sbtt.cli.options import (
    Append,
    Assignments,
    BinWidth,
    ChopText,
    Device,
    Init,
    Inputs,
    Json,
    Lag,
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
    Write,
    check_no_settings,
    settings_of,
    write_settings_of,
)
from nwb_sbtt.cli.output import logger, print_json
from nwb_sbtt.errors import ConfigError

FAILED = 3
"""Exit code where some of many fits failed."""


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold some", show_default=False)],
    csv: Annotated[Path | None, typer.Option(help="write the whole table as a CSV file", show_default=False)] = None,
    html: Annotated[Path | None, typer.Option(help="write it as an HTML page", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Compare fits in one table.

    The columns are scores of model and baselines, checks, data, epochs, state (finished, unfinished or failed, with the cause),
    and the settings that differ. A folder that cannot be read has a row with the cause.
    """
    from nwb_sbtt.report.listing import table_of_runs
    from nwb_sbtt.runs.comparison import compare_runs

    table = compare_runs(runs)
    if csv is not None:
        table.write_csv(csv)
    if html is not None:
        table.write_html(html)
    if as_json:
        print_json(table.as_dict())
    else:
        typer.echo(table_of_runs(table.as_dict()))


def fit_all(
    context: typer.Context,
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="PLACES",
            help="NWB files, folders, or addresses on DANDI; each file gets one fit",
            show_default=False,
            callback=check_no_settings,
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder of all run folders, results and tables", show_default=False)],
    glob: Annotated[
        str | None, typer.Option(help="in folders and dandisets, only files whose path matches, e.g. '*train*.nwb'")
    ] = None,
    joint: Annotated[
        str | None,
        typer.Option(
            help="fit files together that have the same value of this metadata field: subject, subject.FIELD or FIELD"
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="number of fits at the same time on this machine [default: one per CPU]")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to join: auto or HOST:PORT [default: this machine]", show_default=False),
    ] = None,
    cpus_per_fit: Annotated[float, typer.Option(min=0.01, help="CPU cores of each fit")] = 1.0,
    gpus_per_fit: Annotated[
        float, typer.Option(min=0, max=1, help="share of a GPU for each fit; 0.25: four fits share one")
    ] = 0.0,
    memory_per_fit: Annotated[
        float | None, typer.Option(help="memory of each fit, in GB [default: not counted]")
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
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    write: Write = None,
    as_json: Json = False,
) -> None:
    """Fit many files, each on its own.

    Run folders are written to OUT/runs and results to OUT/results, named after the files; summary.csv and summary.html compare
    all fits. After an interruption, the same command resumes and skips finished fits. Failures are listed at the end, and the
    exit code is then 3. With --joint, files of the same subject, or with the same value of another field, are fitted together.
    """
    write_config = write_settings_of(context)
    read_config, fit_config = settings_of(context)
    from nwb_sbtt.report.listing import table_of_runs
    from nwb_sbtt.runs.fitall import SUMMARY, Spread, fit_places
    from nwb_sbtt.runs.single import Plan
    from nwb_sbtt.runs.view import View
    from nwb_sbtt.searching.cluster import Resources

    log = logger(as_json)
    resources = Resources(cpus_per_fit, gpus_per_fit, memory_per_fit)
    plan = Plan(out.absolute(), read_config, fit_config, tuple(offsets or ()), overwrite, append, name, write_config)
    spread = Spread(glob, joint, jobs, address, resources)
    with stopping.by_signal():
        fits = fit_places(places, plan, spread, view=View(log), log=log)
        content = fits.table.as_dict()
        if as_json:
            print_json({**content, "outcomes": [vars(outcome) for outcome in fits.outcomes]})
        else:
            typer.echo(table_of_runs(content))
        log(f"tables of all fits: {out / SUMMARY}.csv, {out / SUMMARY}.html")
        if fits.interrupted:
            raise stopping.Stopped if stopping.is_requested() else KeyboardInterrupt
    if fits.failed:
        raise typer.Exit(FAILED)


def slurm(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND", help="command to run: search or fit-all, with its arguments", show_default=False
        ),
    ],
    time: Annotated[
        str,
        typer.Option(
            help="time limit, e.g. 12:00:00; the job is queued again until all fits are finished", show_default=False
        ),
    ],
    nodes: Annotated[int, typer.Option(min=1, help="number of nodes")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each node")] = 0,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPU cores of each node [default: whole nodes]")] = None,
    memory: Annotated[str | None, typer.Option(help="memory of each node, e.g. 64G", show_default=False)] = None,
    partition: Annotated[str | None, typer.Option(help="partition", show_default=False)] = None,
    account: Annotated[str | None, typer.Option(help="account", show_default=False)] = None,
    job_name: Annotated[str, typer.Option(help="name of the job and of its log")] = "nwb-sbtt",
    sbatch: Annotated[
        list[str] | None, typer.Option(help="further option of sbatch, e.g. --sbatch=--constraint=a100")
    ] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option(help="shell command that runs first, e.g. 'module load cuda'; repeat for several"),
    ] = None,
    submit: Annotated[
        bool, typer.Option("--submit", help="submit the script with sbatch instead of printing it")
    ] = False,
) -> None:
    """Print or submit a batch script for Slurm.

    Example: nwb-sbtt slurm --nodes 4 --time 12:00:00 -- fit-all …. The script starts Ray on all nodes. Before the time limit
    all fits save their state, and the job is queued again and resumes. Paths are relative to the current folder.
    """
    from nwb_sbtt.runs.slurm import Allocation, batch_script
    from nwb_sbtt.runs.slurm import submit as submit_script

    _check_command(context, command)
    allocation = Allocation(
        time,
        nodes,
        gpus,
        cpus,
        memory,
        job_name,
        partition,
        account,
        others=tuple(sbatch or ()),
        setup=tuple(setup or ()),
    )
    script = batch_script(command, allocation, folder=Path.cwd())
    if gpus and not any(word.startswith("--gpus-per-") for word in command):
        typer.echo(
            f"note: the fits use no GPU; set the share of each fit in the {command[0]} command, such as "
            "--gpus-per-fit 1",
            err=True,
        )
    typer.echo(submit_script(script) if submit else script, nl=submit)


COMMANDS = (compare, fit_all, slurm)
SPREAD = ("fit-all", "search")
"""Commands that use a cluster."""


def _check_command(context: typer.Context, words: list[str]) -> None:
    """Refuse a command that would be refused after hours in the queue."""
    commands = getattr(context.find_root().command, "commands", {})
    name = words[0]
    if name not in SPREAD or name not in commands:
        raise ConfigError(f"{name!r} cannot be spread over nodes; expected one of: {', '.join(SPREAD)}")
    # Parsed as it will be, and not run; what is wrong with it is said now.
    commands[name].make_context(name, list(words[1:]))
