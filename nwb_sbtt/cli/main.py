"""The command line; `nwb_sbtt.pipeline` does what most of them do. Heavy packages are imported inside the commands."""

from __future__ import annotations

import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from nwb_sbtt import stopping
from nwb_sbtt.cli import dandi as cli_dandi
from nwb_sbtt.cli import many as cli_many
from nwb_sbtt.cli import nlb as cli_nlb
from nwb_sbtt.cli import search as cli_search
from nwb_sbtt.cli import settings as cli_settings
from nwb_sbtt.cli.options import (
    Append,
    Assignments,
    BinWidth,
    ChopText,
    Device,
    File,
    Files,
    Init,
    Json,
    LikelihoodName,
    ModelName,
    Moved,
    Name,
    Offsets,
    Out,
    OutOrNone,
    Overwrite,
    RunDir,
    Seed,
    Seeds,
    Series,
    SettingsFile,
    TrialsRelative,
    TrialsTable,
    TrialsText,
    WindowText,
    Write,
    WriteAssignments,
    cut_of,
    settings_of,
    write_settings_of,
)
from nwb_sbtt.cli.output import App, guarded, logger, print_json, show_help
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.printable import Printable

app = App(
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Fit LFADS-type models to NWB files with selective backpropagation through time, and write what they infer.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"nwb-sbtt {version('nwb_sbtt')}")
        raise typer.Exit


@app.callback()
def _before(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Hold the options of the whole command line."""
    show_help(context)


@app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """List what can be fitted in a file.

    In-file path, type, shape, rate, channels, unit, times, observed share and gaps of each series; the events and conditions
    of each table of trials, and what is missing in them; what stored masks leave; and why other series cannot be read.
    """
    # Not by way of `pipeline`: it imports torch, and a look at a file should not wait for that.
    from nwb_sbtt.io.dandi.locations import locate_with_title
    from nwb_sbtt.io.read.candidates import inspect as inspect_file
    from nwb_sbtt.io.read.listing import listing_of_contents

    # The title names the version that an address was resolved to.
    location, title = locate_with_title(file)
    contents = inspect_file(location).as_dict()
    if as_json:
        print_json(contents)
    else:
        typer.echo(listing_of_contents(title, contents))


@app.command()
def fit(
    context: typer.Context,
    files: Files,
    run_dir: Annotated[
        Path, typer.Option(help="run folder of the fit; an interrupted fit is resumed", show_default=False)
    ],
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
    out: OutOrNone = None,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    write: Write = None,
    as_json: Json = False,
) -> None:
    """Fit a model, score it, and write a report and the results.

    An interrupted fit resumes from its last saved state. With --out the rates and latents of all trials are written to an NWB
    file. `nwb-sbtt settings` lists what --set takes. With --init, model and likelihood are those of the initial fit, and
    `--set init.freeze=` names what is frozen: none, dynamics, generator or decoder.
    """
    from nwb_sbtt import pipeline

    write_config = write_settings_of(context)
    read_config, fit_config = settings_of(context)
    if out is None and (append or overwrite or name != "sbtt" or write_config != type(write_config)()):
        raise ConfigError("--append, --overwrite, --name and --write need a result file; name it with --out")
    output = pipeline.Output(out, overwrite, append, name, write_config) if out else None
    with stopping.by_signal():
        metrics = pipeline.fit_files(
            files, read_config, fit_config, run_dir=run_dir, output=output, offsets=offsets or [], log=logger(as_json)
        )
    if as_json:
        print_json(metrics)


@app.command()
def infer(
    context: typer.Context,
    run_dir: RunDir,
    file: File,
    out: Out,
    session: Annotated[str | None, typer.Option(help="fitted session that the channels belong to")] = None,
    trials: TrialsText = None,
    trials_table: TrialsTable = None,
    trials_relative: TrialsRelative = False,
    window: WindowText = None,
    chop: ChopText = None,
    same_channels: Annotated[
        bool, typer.Option("--same-channels", help="channels of the same ids are the same, though of another recording")
    ] = False,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    write: Write = None,
    set_: WriteAssignments = None,
) -> None:
    """Apply a fitted model to a recording.

    To that of the fit, or to another of the same channels. The file is read with the settings of the fit, and must hold the
    same channels: --same-channels says so of another recording. --trials, or --window and --chop, choose another part of
    it.
    """
    from nwb_sbtt import pipeline
    from nwb_sbtt.config import ReadConfig, build

    cut = build(ReadConfig, {"cut": cut_of(trials, trials_table, trials_relative, window, chop)}, within="read").cut
    write_config = write_settings_of(context)
    if context.params["set_"]:
        raise ConfigError(
            f"--set {context.params['set_'][0]} is not a setting of the result file; those of the fit are in its run folder"
        )
    output = pipeline.Output(out, overwrite, append, name, write_config)
    pipeline.infer_file(run_dir, file, output=output, session=session, cut=cut, same_channels=same_channels)


@app.command()
def evaluate(run_dir: RunDir, file: Moved = None, as_json: Json = False) -> None:
    """Score a fit beside simple baselines.

    On the entries of the validation trials that neither the model nor a baseline saw.
    """
    from nwb_sbtt import pipeline

    metrics = pipeline.evaluate_run(run_dir, files=file or [])
    if as_json:
        print_json(metrics)
    else:
        typer.echo(pipeline.summarise(metrics))


@app.command()
def align(
    run_dir: RunDir,
    condition: Annotated[
        str, typer.Option(help="trial column of conditions that all sessions share", show_default=False)
    ],
    to: Annotated[
        Path | None, typer.Option(help="aligned fit whose factors are the reference [default: the first session]")
    ] = None,
    file: Moved = None,
    as_json: Json = False,
) -> None:
    """Make factors mean the same in all sessions of a fit.

    They are matched by their averages over the trials of each condition, with those of the first session or, of a fit that
    started from another, with that fit's. `infer` and `report` then give `aligned_factors` too.
    """
    from nwb_sbtt import pipeline
    from nwb_sbtt.report.listing import table_of_alignment

    records = pipeline.align_run(run_dir, condition=condition, to=to, files=file or [])
    if as_json:
        print_json(records)
    else:
        typer.echo(table_of_alignment(records))


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="run folder; of several, one page compares them", show_default=False)
    ],
    file: Moved = None,
    color_by: Annotated[
        str | None, typer.Option(help="trial column that gives colours and PSTHs [default: condition, if it was read]")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="latents and traces to turn and zoom; the page holds plotly, 5 MB")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="page of a comparison [default: comparison.html]")] = None,
) -> None:
    """Draw the report of a fit again, or compare several.

    One HTML page that needs nothing else. Several run folders, or a folder that holds some, get one page with the scores and
    settings of all.
    """
    from nwb_sbtt.runs.comparison import compare_runs, find_runs

    if len(runs) == 1 and find_runs(runs[0]) == runs:
        from nwb_sbtt import pipeline

        if out is not None:
            raise ConfigError("--out names the page of a comparison; that of one fit lies in its run folder")
        for page in pipeline.report_run(runs[0], files=file or [], color_by=color_by, interactive=interactive):
            typer.echo(page)
        return
    if file or color_by is not None or interactive:
        raise ConfigError(
            "--file, --color-by and --interactive are for the report of one run folder; several are compared"
        )
    page = out or Path("comparison.html")
    compare_runs(runs).write_html(page)
    typer.echo(page)


@app.command()
def mask(
    file: File,
    observed: Annotated[
        Path,
        typer.Argument(
            help=".npy array (sample, channel), true or 1 where the series was measured", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="the copy of FILE with the mask", show_default=False)],
    series: Annotated[str | None, typer.Option(help="in-file path [default: the only one that can be meant]")] = None,
    rate: Annotated[float | None, typer.Option(help="of the mask in Hz, where it is not that of the series")] = None,
    starting_time: Annotated[float | None, typer.Option(help="of the mask in seconds on the session clock")] = None,
    name: Annotated[str | None, typer.Option(help="of the mask [default: that of the series with _mask]")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy a recording with a mask of what was measured.

    `fit` and `inspect` then take all other samples of that series as missing. A mask of units, or one that is coarser than the
    samples of a series, has a clock of its own: --rate and --starting-time.
    """
    from nwb_sbtt.io.read.arrays import load_array
    from nwb_sbtt.io.write.mask import write_mask

    path = write_mask(
        file,
        load_array(observed, "the mask"),
        out=out,
        series=series,
        rate=rate,
        starting_time=starting_time,
        name=name,
        overwrite=overwrite,
    )
    typer.echo(f"wrote {path}")


@app.command()
def simulate(
    task: Annotated[str, typer.Argument(help="lorenz, perturbation, calcium or calcium-subframe")],
    out: Out,
    observed_per_bin: Annotated[int | None, typer.Option(help="neurons observed in each bin [default: all]")] = None,
    channels: Annotated[int | None, typer.Option(help="neurons [default: as published]")] = None,
    conditions: Annotated[
        int | None, typer.Option(help="initial conditions of the latents [default: as published]")
    ] = None,
    trials_per_condition: Annotated[
        int | None, typer.Option(help="trials of each condition [default: as published]")
    ] = None,
    speed: Annotated[float, typer.Option(help="speed of the latents, in multiples of the default")] = 1.0,
    split_by: Annotated[
        str, typer.Option(help="trial, or condition: whole conditions are held out for validation")
    ] = "trial",
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write a recording with known truth.

    True rates, latents and perturbations are in processing/ground_truth of the file. `lorenz` is an autonomous system; in
    `perturbation` each trial is perturbed at a random time (`kick_time` in the table of trials). `calcium` is fluorescence at
    10 frames per second; in `calcium-subframe` each cell is sampled at its own time within the frame (read it with
    --bin-width 0.01 --set read.rois.offset=column).
    """
    from nwb_sbtt.simulate.tasks import Task, write_task

    settings = Task(task, channels, conditions, trials_per_condition, speed, split_by, seed)
    write_task(out, settings, observed_per_bin=observed_per_bin, overwrite=overwrite)
    typer.echo(f"wrote {out}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="folder of the recording, the results and the run")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier demo")] = False,
) -> None:
    """Try everything on a simulated recording.

    Simulate, inspect, fit, score, write and report. Takes about a minute.
    """
    from nwb_sbtt import pipeline

    pipeline.demo(folder, overwrite=overwrite)


for command in (*cli_many.COMMANDS, *cli_search.COMMANDS, *cli_settings.COMMANDS, *cli_dandi.COMMANDS):
    app.command()(command)
app.add_typer(cli_nlb.app, name="nlb")


def main() -> None:
    """Run the command line; a wrong input ends in one line and exit code 2.

    Warnings of other packages are not shown; ``PYTHONWARNINGS=default`` shows them.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    with redirect_stdout(Printable(sys.stdout)), redirect_stderr(Printable(sys.stderr)):
        sys.exit(guarded(lambda: app(sys.argv[1:] or ["--help"], prog_name="nwb-sbtt", standalone_mode=False)))
