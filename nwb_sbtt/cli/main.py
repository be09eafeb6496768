"""The command line: one verb, one function of `nwb_sbtt.cli.pipeline`. Heavy packages are imported inside the verbs."""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nwb_sbtt.cli import dandi as cli_dandi
from nwb_sbtt.cli import nlb as cli_nlb
from nwb_sbtt.cli import settings as cli_settings
from nwb_sbtt.errors import ConfigError, SbttError

if TYPE_CHECKING:
    from nwb_sbtt.config import FitConfig, ReadConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fit LFADS-type models to NWB files with selective backpropagation through time, and write what they infer.",
)

File = Annotated[
    Path, typer.Argument(help="NWB file (HDF5, or a Zarr folder), or its address on DANDI", show_default=False)
]
Files = Annotated[list[Path], typer.Argument(help="NWB files; several are fitted together", show_default=False)]
RunDir = Annotated[Path, typer.Argument(help="run folder of a fit", show_default=False)]
Out = Annotated[Path, typer.Option(help="result file", show_default=False)]
OutOrNone = Annotated[Path | None, typer.Option(help="result file (a folder for several FILEs)")]
Moved = Annotated[list[Path] | None, typer.Option("--file", help="where the data are, if they were moved")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace a result that exists")]
Append = Annotated[bool, typer.Option("--append", help="copy the source, add to the copy, put it at --out")]
Name = Annotated[str, typer.Option(help="prefix of everything written into the result")]
TrialsText = Annotated[str | None, typer.Option("--trials", help="EVENT:START:STOP, e.g. move_onset_time:-0.25:0.45")]
TrialsTable = Annotated[str | None, typer.Option(help="table of intervals that EVENT is a column of [default: trials]")]
WindowText = Annotated[
    str | None, typer.Option("--window", help="START:STOP, only this part of the session, in pieces")
]
ChopText = Annotated[
    str | None, typer.Option("--chop", help="LENGTH[:OVERLAP], the whole session in pieces [default of a fit]")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
INTERRUPTED = 130
"""What the shell, and so typer, calls the end by Ctrl-C."""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"nwb-sbtt {version('nwb_sbtt')}")
        raise typer.Exit


@app.callback()
def _before(
    _version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Nothing to do before a verb; here is where options of the whole command line stand."""


@app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """List every series that can be fitted.

    In-file path, type, shape, rate, channels, unit, times, observed share and gaps of each.
    """
    # Not by way of the verbs: they bring torch, for which a look at a file should not wait.
    from nwb_sbtt.io.dandi.locations import locate_with_title
    from nwb_sbtt.io.read.candidates import inspect as inspect_file
    from nwb_sbtt.report.listing import table_of_candidates

    # The title of what an address means names the version that was taken.
    place, title = locate_with_title(file)
    found = [candidate.as_dict() for candidate in inspect_file(place)]
    if as_json:
        _print_json(found)
    else:
        typer.echo(table_of_candidates(title, found))


@app.command()
def fit(
    files: Files,
    run_dir: Annotated[
        Path, typer.Option(help="folder that the fit is kept in; an interrupted one is resumed", show_default=False)
    ],
    series: Annotated[list[str] | None, typer.Option(help="in-file path or glob; repeat for several")] = None,
    bin_width: Annotated[float | None, typer.Option(help="seconds")] = None,
    trials: TrialsText = None,
    trials_table: TrialsTable = None,
    window: WindowText = None,
    chop: ChopText = None,
    model: Annotated[
        str | None, typer.Option(help="name of a model; `nwb-sbtt models` lists them [default: conv]")
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(help="name of a likelihood; `nwb-sbtt models` lists them [default: by the data]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="seed of everything random [default: 0]")] = None,
    seeds: Annotated[int | None, typer.Option(help="models to fit and to average [default: 1]")] = None,
    init: Annotated[Path | None, typer.Option(help="run folder of a finished fit to start from")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="one setting, e.g. train.epochs=100 or read.control=[1]")
    ] = None,
    offsets: Annotated[
        Path | None, typer.Option(help=".npy array: seconds in the frame at which each ROI is sampled")
    ] = None,
    out: OutOrNone = None,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
    as_json: Json = False,
) -> None:
    """Read, fit or resume, score and report; write.

    An interrupted fit goes on from its last saved state. With --out the rates and latents of all trials are written into an NWB
    file. Every setting in a run folder's config.yaml has a name for --set. With --init, model and likelihood are those of
    the fit started from, and `--set init.freeze=` says what of it stays as it is: none, dynamics, generator or decoder.
    """
    from nwb_sbtt.cli import pipeline

    shortcuts: dict[str, Any] = {
        "model": {"name": model} if model else None,
        "likelihood": likelihood,
        "seed": seed,
        "seeds": seeds,
        "init.run_dir": str(init) if init else None,
        "read.series": series or None,
        "read.bin_width": bin_width,
        "read.cut": _cut(trials, trials_table, window, chop),
    }
    first = pipeline.settings_of(init) if init else {}
    read_config, fit_config = _settings(config, first, shortcuts, set_ or [])
    if out is None and (append or overwrite or name != "sbtt"):
        raise ConfigError("--append, --overwrite and --name say how a result is written; name it with --out")
    output = pipeline.Output(out, overwrite, append, name) if out else None
    metrics = pipeline.fit_files(
        files, read_config, fit_config, run_dir=run_dir, output=output, offsets=offsets, say=_say(as_json)
    )
    if as_json:
        _print_json(metrics)


@app.command()
def infer(
    run_dir: RunDir,
    file: File,
    out: Out,
    session: Annotated[str | None, typer.Option(help="which fitted session's channels these are")] = None,
    trials: TrialsText = None,
    trials_table: TrialsTable = None,
    window: WindowText = None,
    chop: ChopText = None,
    overwrite: Overwrite = False,
    append: Append = False,
    name: Name = "sbtt",
) -> None:
    """Apply a fitted model to another file.

    The file is read as the fitted one was, and must hold the same channels; --trials, or --window and --chop, take another part
    of it.
    """
    from nwb_sbtt.cli import pipeline
    from nwb_sbtt.config import ReadConfig, build

    cut = build(ReadConfig, {"cut": _cut(trials, trials_table, window, chop)}).cut
    pipeline.infer_file(run_dir, file, output=pipeline.Output(out, overwrite, append, name), session=session, cut=cut)


@app.command()
def evaluate(run_dir: RunDir, file: Moved = None, as_json: Json = False) -> None:
    """Score a fit beside simple baselines.

    On the entries of the validation trials that neither the model nor a baseline saw.
    """
    from nwb_sbtt.cli import pipeline

    metrics = pipeline.evaluate_run(run_dir, files=file or [])
    if as_json:
        _print_json(metrics)
    else:
        typer.echo(pipeline.summarise(metrics))


@app.command()
def report(run_dir: RunDir, file: Moved = None) -> None:
    """Draw the report of a fit again.

    One HTML page that needs nothing else.
    """
    from nwb_sbtt.cli import pipeline

    for page in pipeline.report_run(run_dir, files=file or []):
        typer.echo(page)


@app.command()
def simulate(
    task: Annotated[str, typer.Argument(help="lorenz, perturbation, calcium or calcium-subframe")],
    out: Out,
    observed_per_bin: Annotated[int | None, typer.Option(help="neurons observed in each bin [default: all]")] = None,
    channels: Annotated[int | None, typer.Option(help="neurons [default: as published]")] = None,
    conditions: Annotated[
        int | None, typer.Option(help="different starts of the latents [default: as published]")
    ] = None,
    trials_per_condition: Annotated[int | None, typer.Option(help="repeats of each [default: as published]")] = None,
    speed: Annotated[float, typer.Option(help="of the latents, in multiples of the usual")] = 1.0,
    split_by: Annotated[str, typer.Option(help="trial, or condition: validation on starts of their own")] = "trial",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write a recording with known truth.

    True rates and latents, and what perturbs these, stand in processing/ground_truth of the file. Of `lorenz` the start decides
    all that follows; in `perturbation` each trial is kicked at a moment of its own (`kick_time` in the table of trials). Of
    `calcium` there is fluorescence at 10 frames a second; of `calcium-subframe`, of each cell at its own moment of a frame
    (read it with --bin-width 0.01 --set read.rois.offset=column).
    """
    from nwb_sbtt.simulate.tasks import Task, write_task

    settings = Task(task, channels, conditions, trials_per_condition, speed, split_by, seed)
    write_task(out, settings, observed_per_bin=observed_per_bin, overwrite=overwrite)
    typer.echo(f"wrote {out}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where everything goes")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="redo a demo that is there")] = False,
) -> None:
    """Do all of it on a simulation.

    Simulate, inspect, fit, score, write and report, in about a minute.
    """
    from nwb_sbtt.cli import pipeline

    pipeline.demo(folder, overwrite=overwrite)


for verb in (*cli_settings.VERBS, *cli_dandi.VERBS):
    app.command()(verb)
app.add_typer(cli_nlb.app, name="nlb")


def main() -> None:
    """Run the command line; an error of the input is one line and exit code 2.

    Warnings of other packages are for programmers, and are not shown; ``PYTHONWARNINGS=default`` shows them.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="nwb-sbtt", standalone_mode=False)
    except SbttError as error:
        code = _fail(f"error: {error}", 2)
    except typer.TyperException as error:
        code = _fail(f"error: {_sentence(error.format_message())}; see `{_usage()} --help`", 2)
    except MemoryError as error:
        code = _fail(f"error: not enough memory: {_sentence(str(error))}; take a shorter part or wider bins", 2)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail(
            "interrupted; with the same command a fit goes on from its last saved state, a download from its last byte",
            code,
        )
    sys.exit(code)


def _fail(text: str, code: int) -> int:
    typer.echo(text, err=True)
    return code


def _usage() -> str:
    """The command whose help says what the command line should have been."""
    verbs = {command.callback.__name__ for command in app.registered_commands if command.callback} | {"nlb"}
    return " ".join(["nwb-sbtt", *(word for word in sys.argv[1:2] if word in verbs)])


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _settings(
    path: Path | None, first: dict[str, Any], shortcuts: dict[str, Any], assignments: list[str]
) -> tuple[ReadConfig, FitConfig]:
    """Those of the fit started from, then the file, options and --set; names that begin with `read.` are the reader's."""
    from nwb_sbtt.config import FitConfig, ReadConfig, build, override
    from nwb_sbtt.config.base import load_settings

    settings = {**first, **(load_settings(path) if path else {})}
    for name, value in shortcuts.items():
        section, _, last = name.rpartition(".")
        if value is not None:
            if section and settings.get(section) is None:
                settings[section] = {}
            place = settings[section] if section else settings
            if not isinstance(place, dict):
                raise ConfigError(f"{section!r} is {place!r} in {str(path)!r}; expected names and values below it")
            place[last] = value
    read = build(ReadConfig, settings.pop("read", None) or {})
    ours = [text.strip().removeprefix("read.") for text in assignments if text.strip().startswith("read.")]
    rest = [text for text in assignments if not text.strip().startswith("read.")]
    for text in rest:
        if text.strip().split(".")[0].partition("=")[0] in ReadConfig.model_fields:
            raise ConfigError(f"{text.strip()!r} is a setting of the reader; write read.{text.strip()}")
    return override(read, ours), override(build(FitConfig, settings), rest)


def _cut(trials: str | None, table: str | None, window: str | None, chop: str | None) -> dict[str, Any] | None:
    if trials is not None and (window is not None or chop is not None):
        raise ConfigError("give --trials, or --window and --chop")
    if table is not None and trials is None:
        raise ConfigError("--trials-table needs --trials EVENT:START:STOP")
    cut: dict[str, Any] = {}
    if trials is not None:
        cut["by"] = "trials"
        cut["event"], cut["start"], cut["stop"] = _parts(trials, "--trials", ("EVENT", "START", "STOP"))
        return cut if table is None else {**cut, "table": table}
    if window is not None:
        cut["start"], cut["stop"] = _parts(window, "--window", ("START", "STOP"))
    if chop is not None:
        length, _, overlap = chop.partition(":")
        cut.update(length=length, overlap=overlap or None)
    return {"by": "chop", **cut} if cut else None


def _parts(text: str, option: str, names: tuple[str, ...]) -> list[str]:
    parts = text.rsplit(":", len(names) - 1)
    if len(parts) != len(names):
        raise ConfigError(f"{option} is {text!r}; expected {':'.join(names)}")
    return parts


def _say(as_json: bool) -> Any:
    """Progress goes to standard output for people, to standard error beside JSON."""
    return lambda text: typer.echo(text, err=as_json)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
