"""The command line; `nwb_sbtt.pipeline` does what most of them do. Heavy packages are imported inside the commands."""

from __future__ import annotations

import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    Inputs,
    Json,
    Lag,
    LikelihoodName,
    ModelName,
    Moved,
    Name,
    Offsets,
    Out,
    OutOrNone,
    Overwrite,
    RunDir,
    SameChannels,
    Seed,
    Seeds,
    Series,
    Session,
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
from nwb_sbtt.lazy import loading
from nwb_sbtt.printable import Printable

if TYPE_CHECKING:
    from nwb_sbtt.config import Chop, Trials, Window
    from nwb_sbtt.pipeline import Output

app = App(
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Fit LFADS-type models to NWB files with selective backpropagation through time, and write rates and latents.",
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
    """List the series of a file that can be fitted.

    For each series: in-file path, type, shape, sampling rate, channels, unit, times, observed share and gaps. For each table
    of trials: its events and conditions, and their missing values. For each stored mask: the share that it leaves observed.
    Series that cannot be read are listed with the reason.
    """
    # Not by way of `pipeline`: it imports torch, and a look at a file should not wait for that.
    with loading():
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
    out: OutOrNone = None,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    write: Write = None,
    as_json: Json = False,
) -> None:
    """Fit a model, score it, and write a report and the results.

    An interrupted fit resumes from its last saved state. --out writes the rates and latents of all trials to an NWB file.
    `nwb-sbtt settings` lists all settings for --set. With --init, model and likelihood are those of the initial fit, and
    `--set init.freeze=` chooses the weights that stay fixed: none, dynamics, generator or decoder.
    """
    from nwb_sbtt import pipeline

    write_config = write_settings_of(context)
    read_config, fit_config = settings_of(context)
    if out is None and (append or overwrite or name != "sbtt" or write_config != type(write_config)()):
        raise ConfigError("--append, --overwrite, --name and --write apply to a result file; name the file with --out")
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
    session: Session = None,
    trials: TrialsText = None,
    trials_table: TrialsTable = None,
    trials_relative: TrialsRelative = False,
    window: WindowText = None,
    chop: ChopText = None,
    same_channels: SameChannels = False,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    write: Write = None,
    set_: WriteAssignments = None,
) -> None:
    """Apply a fitted model to a recording.

    The recording is that of the fit, or another one of the same channels. The file is read with the settings of the fit. If it
    is another recording, --same-channels confirms that its channels are the same. --trials, or --window and --chop, select
    another part of the file.
    """
    from nwb_sbtt import pipeline

    cut, output = _part_and_output(context)
    pipeline.infer_file(run_dir, file, output=output, session=session, cut=cut, same_channels=same_channels)


@app.command()
def replay(
    context: typer.Context,
    run_dir: RunDir,
    file: File,
    out: Out,
    speed: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            help="multiple of real time at which bins come, e.g. 1 [default: as fast as they are inferred]",
        ),
    ] = None,
    session: Session = None,
    trials: TrialsText = None,
    trials_table: TrialsTable = None,
    trials_relative: TrialsRelative = False,
    window: WindowText = None,
    chop: ChopText = None,
    same_channels: SameChannels = False,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    write: Write = None,
    set_: WriteAssignments = None,
    as_json: Json = False,
) -> None:
    """Infer a recording bin by bin, as during an experiment.

    The model needs a lag (`nwb-sbtt fit --lag 0`). Each bin is given to a stream when it is complete, and the result file
    contains what the stream inferred. The time that each bin takes is reported, and with --speed the number of results that
    came after the next bin.
    """
    from nwb_sbtt import pipeline

    cut, output = _part_and_output(context)
    log = logger(as_json)
    found = pipeline.replay_file(
        run_dir, file, output=output, speed=speed, session=session, cut=cut, same_channels=same_channels, log=log
    )
    if as_json:
        print_json(found)
        return
    log(
        f"{found['bins']} bins: {found['p50_ms']:.2f} ms in the median, 99 % within {found['p99_ms']:.2f} ms, at most "
        f"{found['max_ms']:.2f} ms"
    )
    log("  " + ", ".join(f"{label}: {count}" for label, count in found["histogram"].items() if count))
    if speed is not None:
        log(f"{found['missed_deadlines']} of {found['bins']} results came after the next bin was complete")
    log(
        f"largest difference to the inference of whole trials: {found['largest_difference']:.1e} of a channel's maximum"
    )
    log(f"wrote {out}")


@app.command()
def decode(
    context: typer.Context,
    run_dir: RunDir,
    file: File,
    behaviour: Annotated[
        list[str],
        typer.Option(
            help="in-file path of a series, with columns or without (processing/behavior/hand:0,1), or a column of the trials; "
            "repeat for several",
            show_default=False,
        ),
    ],
    lag: Annotated[
        float,
        typer.Option(help="seconds by which behaviour is later than the latents that it is decoded from, e.g. 0.1"),
    ] = 0.0,
    of: Annotated[
        Literal["factors", "aligned_factors", "rates", "mean"], typer.Option(help="latents to decode from")
    ] = "factors",
    figure: Annotated[
        Path | None, typer.Option(help="picture of measured and decoded behaviour (.png, .svg or .pdf)")
    ] = None,
    out: OutOrNone = None,
    session: Session = None,
    trials: TrialsText = None,
    trials_table: TrialsTable = None,
    trials_relative: TrialsRelative = False,
    window: WindowText = None,
    chop: ChopText = None,
    same_channels: SameChannels = False,
    overwrite: Overwrite = False,
    name: Name = "sbtt",
    write: Write = None,
    set_: WriteAssignments = None,
    as_json: Json = False,
) -> None:
    """Decode behaviour from latents and from smoothed data.

    Each trial is decoded by a linear regression on other trials. Scores are those of the trials that the fit was not trained
    on. --out writes the rates and latents, and the decoded behaviour in processing/behavior, to an NWB file.
    """
    from nwb_sbtt import pipeline
    from nwb_sbtt.report.listing import table_of_decoding

    cut, output = _part_and_output(context)
    if out is None and (overwrite or name != "sbtt" or write):
        raise ConfigError("--overwrite, --name and --write apply to a result file; name the file with --out")
    log = logger(as_json)
    found = pipeline.decode_file(
        run_dir,
        file,
        behaviour,
        lag=lag,
        of=of,
        output=output if out is not None else None,
        figure=figure,
        session=session,
        cut=cut,
        same_channels=same_channels,
        log=log,
    )
    if as_json:
        print_json(found)
    else:
        typer.echo(table_of_decoding(found))


@app.command()
def export(
    run_dir: RunDir,
    model: Annotated[Path, typer.Argument(help="file to write, ending in .onnx", show_default=False)],
    session: Session = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a fit as an ONNX file, for a rig.

    Other programs run the file bin by bin, without this package. The model needs a lag (`nwb-sbtt fit --lag 0`). Needs the
    packages onnx and onnxscript: pip install "nwb_sbtt[export]".
    """
    from nwb_sbtt.fitting.loading import load

    written = load(run_dir).export(model, session=session, overwrite=overwrite)
    logger(False)(f"wrote {written}")


def _part_and_output(context: typer.Context) -> tuple[Trials | Window | Chop | None, Output]:
    """Part of the file, and how results are written, of a command that applies a fit; its --set takes no other settings."""
    from nwb_sbtt.config import ReadConfig, build
    from nwb_sbtt.pipeline import Output

    given = context.params
    cut = cut_of(*(given[name] for name in ("trials", "trials_table", "trials_relative", "window", "chop")))
    write_config = write_settings_of(context)
    if context.params["set_"]:
        raise ConfigError(
            f"--set {context.params['set_'][0]} is not a setting of the result file; settings of the fit are stored "
            "in its run folder and cannot be changed here"
        )
    # A command that need not write results may have no path of any.
    target = given["out"] or Path()
    output = Output(target, given["overwrite"], given.get("append", False), given["name"], write_config)
    return build(ReadConfig, {"cut": cut}, within="read").cut, output


@app.command()
def evaluate(run_dir: RunDir, file: Moved = None, as_json: Json = False) -> None:
    """Score a fit and the baselines.

    All are scored on the same entries of the validation trials, which were hidden from the model and from the baselines.
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
        str,
        typer.Option(
            help="column of the trials table with the conditions; labels must be the same in all sessions",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(help="run folder of an aligned fit whose factors are the reference [default: the first session]"),
    ] = None,
    file: Moved = None,
    as_json: Json = False,
) -> None:
    """Align the factors of all sessions of a fit.

    A linear map matches each session's factors, averaged over the trials of each condition, to those of the reference. The
    reference is the first session or, if the fit started from another fit, that of the other fit. Afterwards `infer` and
    `report` include `aligned_factors`.
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
        list[Path],
        typer.Argument(help="run folder; for several run folders, one page compares them", show_default=False),
    ],
    file: Moved = None,
    color_by: Annotated[
        str | None, typer.Option(help="trial column for the colours and the PSTHs [default: condition, if it was read]")
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            help="add latents and traces that you can rotate and zoom (the page grows by 5 MB, for plotly)",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="file of the comparison page [default: comparison.html]")] = None,
) -> None:
    """Write the report of a fit again, or compare several fits.

    The report is one HTML page, with all pictures inside. For several run folders, or a folder that contains several, one page
    compares the scores and settings of all.
    """
    from nwb_sbtt.runs.comparison import compare_runs, find_runs

    if len(runs) == 1 and find_runs(runs[0]) == runs:
        from nwb_sbtt import pipeline

        if out is not None:
            raise ConfigError(
                "--out is only for the page that compares several run folders; the report of one fit is written into "
                "its run folder"
            )
        for page in pipeline.report_run(runs[0], files=file or [], color_by=color_by, interactive=interactive):
            typer.echo(page)
        return
    if file or color_by is not None or interactive:
        raise ConfigError(
            "--file, --color-by and --interactive are only for the report of one run folder; you named several"
        )
    page = out or Path("comparison.html")
    compare_runs(runs).write_html(page)
    typer.echo(page)


@app.command()
def mask(
    file: File,
    observed: Annotated[
        Path,
        typer.Argument(help=".npy array (sample, channel); true or 1 where a sample was measured", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="file to write: the copy of FILE with the mask", show_default=False)],
    series: Annotated[
        str | None, typer.Option(help="in-file path of the series [default: the only series of the file]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="sampling rate of the mask in Hz [default: that of the series]")
    ] = None,
    starting_time: Annotated[
        float | None, typer.Option(help="time of the first sample of the mask, in seconds on the session clock")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="name of the mask [default: name of the series followed by _mask]")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy a recording and add a mask of the measured samples.

    `fit` and `inspect` then treat all other samples of that series as missing. A mask of units needs its own clock, and so
    does a mask with a lower sampling rate than the series: set --rate and --starting-time.
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
    task: Annotated[str, typer.Argument(help="simulated task: lorenz, perturbation, calcium or calcium-subframe")],
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
        str, typer.Option(help="trial: single trials are held out for validation; condition: whole conditions are")
    ] = "trial",
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write a simulated recording and its true rates.

    The file contains the true rates, latents and perturbations in processing/ground_truth. `lorenz` simulates an autonomous
    system. In `perturbation` each trial is perturbed at a random time (`kick_time` in the table of trials). `calcium` simulates
    fluorescence at 10 frames per second. In `calcium-subframe` each cell is sampled at its own time within the frame (read it
    with --bin-width 0.01 --set read.rois.offset=column).
    """
    from nwb_sbtt.simulate.tasks import Task, write_task

    settings = Task(task, channels, conditions, trials_per_condition, speed, split_by, seed)
    write_task(out, settings, observed_per_bin=observed_per_bin, overwrite=overwrite)
    typer.echo(f"wrote {out}")


@app.command()
def simulate_fit(
    run_dir: RunDir,
    out: Out,
    trials: Annotated[int | None, typer.Option(min=1, help="trials [default: as many as the recording has]")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="observe every entry [default: trials are sampled as the recording was]")
    ] = False,
    by: Annotated[
        Literal["system", "markov"],
        typer.Option(help="the system, or the hidden Markov model, for activity that turns at random"),
    ] = "system",
    session: Session = None,
    file: Annotated[Path | None, typer.Option(help="new path of the recording, if it was moved after the fit")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write simulated trials of a fit that learned a system.

    The file is a recording like the one that was fitted, with the true rates and the states of the system in
    processing/ground_truth (with --by markov, the factors of each state). Its trials are cut as those of the recording. It
    needs a fit to counts of sorted units; `fit` says why it has learned no system.
    """
    from nwb_sbtt.fitting.forward import doubts
    from nwb_sbtt.fitting.loading import load
    from nwb_sbtt.simulate.learned import write_learned

    written = write_learned(
        out, run_dir, trials=trials, masked=not full, by=by, session=session, file=file, seed=seed, overwrite=overwrite
    )
    fitted = load(run_dir)
    for remark in doubts(fitted, fitted.session_name(session), by=by):
        typer.echo(f"warn: {remark}")
    typer.echo(f"wrote {written}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="folder of the recording, the results and the run")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier demo")] = False,
) -> None:
    """Run all steps on a simulated recording.

    The steps are simulate, inspect, fit, score, write and report. They take about a minute.
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
