"""What the commands do: from files to a run folder, and from there to result files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from nwb_sbtt.atomic import make_folder
from nwb_sbtt.config import Chop, FitConfig, ReadConfig, TrainConfig, Trials, Window, WriteConfig
from nwb_sbtt.data.chops import n_merged_bins
from nwb_sbtt.data.memory import ENSEMBLE, SCORING
from nwb_sbtt.data.schema import with_notes
from nwb_sbtt.errors import ConfigError, DataError, FileError, SelectionError
from nwb_sbtt.evaluate.decoding import Of, summary_of
from nwb_sbtt.fitting.behaviour import decode_recording, trial_columns_among
from nwb_sbtt.fitting.device import device_of
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.fitted import Fitted
from nwb_sbtt.fitting.initialisation import describe_initialisation
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import check_fits_memory, prepare
from nwb_sbtt.fitting.recorded import fitted_data, read_again, source_files
from nwb_sbtt.fitting.replay import replay
from nwb_sbtt.fitting.reporting import REPORT, report_columns, report_session, system_in_words
from nwb_sbtt.fitting.runfolder import hold_run_folder, read_config
from nwb_sbtt.fitting.scores import read_metrics
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.io.dandi.locations import local_file
from nwb_sbtt.io.progress import show_progress
from nwb_sbtt.io.read.behaviour import attach_behaviour
from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.read.columns import attach_conditions
from nwb_sbtt.io.read.files import sha256
from nwb_sbtt.io.read.listing import listing_of_contents
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import attach_truth
from nwb_sbtt.io.write.results import read_model
from nwb_sbtt.io.write.writer import check_target, rehearse, write_nwb
from nwb_sbtt.recordings import load_offsets, recordings_of, session_names
from nwb_sbtt.report.figures import check_picture, decodings, save_picture
from nwb_sbtt.report.listing import table_of_scores
from nwb_sbtt.simulate.tasks import write_task
from nwb_sbtt.train.group import join_group
from nwb_sbtt.train.trackers import Tracker

Log = Callable[[str], None]
"""Takes one line of progress, such as `print`."""


@dataclass(frozen=True)
class Output:
    """How inferred rates and latents are written.

    Parameters
    ----------
    path : Path
        Result file; a folder where several files are fitted together.
    overwrite : bool
        Replace existing results.
    append : bool
        Copy the source to `path` and add the results to the copy.
    name : str
        Prefix of the names of everything written.
    config : WriteConfig
        Which variables are written, and how they are stored.
    """

    path: Path
    overwrite: bool = False
    append: bool = False
    name: str = "sbtt"
    config: WriteConfig = field(default_factory=WriteConfig)

    @property
    def arguments(self) -> dict[str, Any]:
        """What `write_nwb` takes of this beside the path."""
        names = ("append", "name", "overwrite", "config")
        return {name: getattr(self, name) for name in names}


def fit_files(
    paths: Sequence[Path],
    read: ReadConfig,
    config: FitConfig,
    *,
    run_dir: Path,
    output: Output | None = None,
    offsets: Sequence[str] = (),
    log: Log = print,
    tracker: Tracker | None = None,
) -> dict[str, Any]:
    """Fit a model to files (resumes if interrupted), score it, write a report and the results.

    Parameters
    ----------
    paths : sequence of Path
        NWB files or addresses on DANDI; several are fitted together, each as a session. Among several, files that hold
        results of others are left out, and said.
    read : ReadConfig
    config : FitConfig
    run_dir : Path
        Run folder of the fit.
    output : Output or None
        Where results are written; None writes none.
    offsets : sequence of str
        Sampling offsets within the frame [s], each a ``.npy`` file (ROI) or a number, and of several series written
        "SERIES=" with this.
    log : callable
        Takes each line of progress.
    tracker : Tracker, optional
        Receives the numbers of each epoch, as for `fit`.

    Returns
    -------
    dict
        Metrics by session, as in ``metrics.json`` of the run folder; nothing in processes that train beside the leading one.

    Raises
    ------
    SbttError
        If anything is refused; the message names what to try, and no file is left half written.
    """
    if not join_group(gpu=device_of(config).startswith("cuda")).leads:
        _fit_beside(paths, read, config, run_dir=run_dir, offsets=offsets)
        return {}
    with hold_run_folder(run_dir):
        return _fit_held(paths, read, config, run_dir=run_dir, output=output, offsets=offsets, log=log, tracker=tracker)


def _fit_beside(
    paths: Sequence[Path], read: ReadConfig, config: FitConfig, *, run_dir: Path, offsets: Sequence[str]
) -> None:
    """Train together with the process that leads, which does all else."""
    paths, _, read = recordings_of(paths, read, config)
    named = zip(session_names(paths), paths, strict=True)
    fit({name: _read(path, read, offsets, of=len(paths)) for name, path in named}, config, run_dir=run_dir)


def _read(path: Path, read: ReadConfig, offsets: Sequence[str], *, of: int) -> xr.Dataset:
    """Read one of several recordings; errors name it."""
    try:
        return read_nwb(path, read, offsets=load_offsets(offsets))
    except (ConfigError, DataError, SelectionError) as error:
        if of == 1 or path.name in str(error):
            raise
        raise type(error)(f"{str(path)!r}: {error}") from None


def _fit_held(
    paths: Sequence[Path],
    read: ReadConfig,
    config: FitConfig,
    *,
    run_dir: Path,
    output: Output | None,
    offsets: Sequence[str],
    log: Log,
    tracker: Tracker | None,
) -> dict[str, Any]:
    """Do what `fit_files` does, while no other process may."""
    paths, left_out, read = recordings_of(paths, read, config)
    targets = _targets(paths, output, run_dir)
    for remark in left_out:
        log(remark)
    data: dict[str, xr.Dataset] = {}
    truth: dict[str, xr.Dataset] = {}
    for name, path, target in zip(session_names(paths), paths, targets, strict=True):
        ds = _read(path, read, offsets, of=len(paths))
        log(describe(path, ds))
        # What is needed after training is tried before it.
        if output is not None and target is not None and not is_written(target, run_dir, output):
            ds = _rehearsed(ds, prepare(ds, config), target, path, output, log)
        with_conditions = attach_conditions(path, ds, read)
        data[name], truth[name] = ds, attach_behaviour(path, attach_truth(path, with_conditions), read)
    check_fits_memory(list(data.values()), SCORING + (ENSEMBLE if config.seeds > 1 else 0), what="scoring the fit")
    fitted = fit(data, config, run_dir=run_dir, tracker=tracker)
    if initialisation := describe_initialisation(fitted.signature, fitted.config):
        log(initialisation)
    log(f"training ended: {fitted.finished}")
    log(f"learned system: {system_in_words(fitted)}")
    if output is not None and (done := _done(targets, list(data), run_dir, output)) is not None:
        log(
            "nothing to do: this fit and its result exist already; --overwrite scores the fit and writes the result "
            "again"
        )
        return done
    metrics = {}
    for (name, ds), path, target in zip(data.items(), paths, targets, strict=True):
        log("scoring the fit and the baselines, then inferring all trials …")
        with_truth = truth[name]
        metrics[name] = fitted.evaluate(with_truth, session=name)
        log(summarise({name: metrics[name]}))
        latents = fitted.infer(prepare(ds, config), session=name)
        log(f"report: {report_session(fitted, with_truth, latents, session=name, metrics=metrics[name])}")
        # Written last: once the results exist the same command does nothing, so nothing may be left to do.
        if output is not None and target is not None and not is_written(target, run_dir, output):
            write_nwb(latents, target, source=path, **output.arguments)
            log(f"wrote {target}")
    return metrics


def infer_file(
    run_dir: Path,
    path: Path,
    *,
    output: Output,
    session: str | None = None,
    cut: Trials | Window | Chop | None = None,
    same_channels: bool = False,
    log: Log = print,
) -> None:
    """Apply a fitted model to a file and write the results.

    Parameters
    ----------
    run_dir : Path
        Run folder of the fit.
    path : Path
        NWB file, or its address on DANDI; read with the settings of the fit.
    output : Output
    session : str, optional
        Fitted session that the channels belong to; found by the recording where it is one of the fit's.
    cut : Trials, Window or Chop, optional
        Part of the file, instead of that of the fit. Length and overlap of a `Chop` default to those of the fit.
    same_channels : bool
        Whether channels of the same ids are the same although the file is of another recording.
    log : callable
        Takes each line of progress.

    Raises
    ------
    MismatchError
        If channels, bin width or recording differ from those of the fit.
    FileError
        If the result exists, or cannot be written.
    """
    fitted, path, ds, session = _opened(run_dir, path, output, session=session, cut=cut, log=log)
    ds = _rehearsed(ds, ds, output.path, path, output, log)
    latents = fitted.infer(ds, session=session, same_channels=same_channels)
    write_nwb(latents, output.path, source=path, **output.arguments)
    log(f"wrote {output.path}")


def replay_file(
    run_dir: Path,
    path: Path,
    *,
    output: Output,
    speed: float | None = None,
    session: str | None = None,
    cut: Trials | Window | Chop | None = None,
    same_channels: bool = False,
    log: Log = print,
) -> dict[str, Any]:
    """Give a recording to a stream of a fit bin by bin, and write what it infers.

    Parameters
    ----------
    run_dir, path, output, session, cut, same_channels, log
        As for `infer_file`.
    speed : float, optional
        Multiple of real time at which bins come; by default as fast as they are taken.

    Returns
    -------
    dict
        Latencies; see `nwb_sbtt.fitting.replay.Replayed.summary`.

    Raises
    ------
    ConfigError
        If the model has no lag, or its likelihood is not one of counts or signals.
    MismatchError, FileError
        As `infer_file`.
    """
    fitted, path, ds, session = _opened(run_dir, path, output, session=session, cut=cut, log=log)
    ds = _rehearsed(ds, ds, output.path, path, output, log)
    with show_progress(n_merged_bins(ds), label="replaying", of="bins") as advance:
        found = replay(fitted, ds, session=session, same_channels=same_channels, speed=speed, advance=advance)
    write_nwb(found.latents, output.path, source=path, **output.arguments)
    return found.summary()


def decode_file(
    run_dir: Path,
    path: Path,
    behaviour: Sequence[str],
    *,
    lag: float = 0.0,
    of: Of = "factors",
    output: Output | None = None,
    figure: Path | None = None,
    session: str | None = None,
    cut: Trials | Window | Chop | None = None,
    same_channels: bool = False,
    log: Log = print,
) -> list[dict[str, Any]]:
    """Decode behaviour of a recording from what a fit infers, draw it, and write it with the results.

    Parameters
    ----------
    run_dir, path, session, cut, same_channels, log
        As for `infer_file`.
    behaviour : sequence of str
        In-file paths of series, with or without columns ("processing/behavior/hand:0,1"), and trial columns.
    lag : float
        Seconds by which behaviour in bins is later than the latents.
    of : "factors", "aligned_factors", "rates" or "mean"
        What it is decoded from, besides smoothed data.
    output : Output, optional
        Result file, with the latents and the decoded behaviour.
    figure : Path, optional
        Picture of measured and decoded behaviour.

    Returns
    -------
    list of dict
        Scores; see `nwb_sbtt.evaluate.decoding.summary_of`.

    Raises
    ------
    SelectionError, DataError
        If behaviour is not there, or cannot be decoded.
    MismatchError, FileError
        As `infer_file`.
    """
    if figure is not None:
        check_picture(figure)
    columns = trial_columns_among(behaviour)
    fitted, path, ds, session = _opened(run_dir, path, output, session=session, cut=cut, log=log, columns=columns)
    if output is not None:
        ds = _rehearsed(ds, ds, output.path, path, output, log)
    latents, decoded = decode_recording(
        fitted, path, ds, behaviour, lag=lag, of=of, session=session, same_channels=same_channels
    )
    if figure is not None:
        save_picture(decodings(decoded), figure)
        log(f"wrote {figure}")
    if output is not None:
        write_nwb(latents, output.path, source=path, decoded=decoded, **output.arguments)
        log(f"wrote {output.path}")
    return [summary_of(each) for each in decoded]


def evaluate_run(run_dir: Path, *, files: Sequence[Path] = ()) -> dict[str, Any]:
    """Score a fitted model and the baselines again on its data, and rewrite ``metrics.json``.

    Parameters
    ----------
    run_dir : Path
        Run folder of the fit.
    files : sequence of Path
        The data, one file per session in any order, where they have moved.

    Returns
    -------
    dict
        Metrics by session; see `nwb_sbtt.evaluate.summary.evaluate_latents`.

    Raises
    ------
    FileError
        If the data are not at the recorded path.
    MismatchError
        If the data differ from those of the fit.
    """
    fitted = load(run_dir)
    return {
        name: fitted.evaluate(fitted_data(fitted, path, name), session=name)
        for name, path in source_files(fitted, files).items()
    }


def align_run(
    run_dir: Path, *, condition: str, to: Path | None = None, files: Sequence[Path] = ()
) -> dict[str, dict[str, Any]]:
    """Align the factors of a fit's sessions by averages over the trials of a condition, and keep that in the run folder.

    Parameters
    ----------
    run_dir : Path
        Run folder of the fit.
    condition : str
        Trial column of the conditions, the same in all files.
    to : Path, optional
        Run folder of an aligned fit whose reference is taken.
    files : sequence of Path
        The data, one file per session in any order, where they have moved.

    Returns
    -------
    dict
        By session: reference, number of conditions and components, R² as fitted and aligned.

    Raises
    ------
    FileError
        If the data are not at the recorded path.
    MismatchError
        If the data differ from those of the fit, or sessions share too little.
    """
    fitted = load(run_dir)
    data = {
        name: fitted_data(fitted, path, name, columns=[condition]) for name, path in source_files(fitted, files).items()
    }
    aligned = fitted.align(data, condition=condition, to=None if to is None else load(to))
    assert aligned.alignment is not None
    return {name: aligned.alignment.record(name) for name in data}


def report_run(
    run_dir: Path, *, files: Sequence[Path] = (), color_by: str | None = None, interactive: bool = False
) -> list[Path]:
    """Draw the report of a run folder again.

    Parameters
    ----------
    run_dir : Path
        Run folder of the fit.
    files : sequence of Path
        The data, one file per session in any order, where they have moved.
    color_by : str, optional
        Column of trials that gives colours, and whose values PSTHs average over.
    interactive : bool
        Add latents and traces that can be turned and zoomed.

    Returns
    -------
    list of Path
        One HTML page per session.

    Raises
    ------
    FileError
        If the data are not at the recorded path.
    MismatchError
        If the data differ from those of the fit.
    """
    fitted = load(run_dir)
    columns = report_columns(fitted, color_by)
    return [
        page
        for name, path in source_files(fitted, files).items()
        for page in fitted.report(
            fitted_data(fitted, path, name, columns=columns), session=name, color_by=color_by, interactive=interactive
        )
    ]


def demo(folder: Path, *, overwrite: bool = False, log: Log = print) -> dict[str, Any]:
    """Simulate a recording with 10 of 29 neurons observed in each bin, fit it, and compare with the truth.

    Parameters
    ----------
    folder : Path
        Gets ``lorenz.nwb``, ``latents.nwb`` and the run folder ``run``.
    overwrite : bool
        Remove an earlier demo in that folder first.
    log : callable
        Takes each line of progress.

    Returns
    -------
    dict
        Metrics by session.

    Raises
    ------
    FileError
        If the folder is not empty and may not be overwritten.
    """
    if folder.exists() and any(folder.iterdir()):
        if not overwrite or not (folder / "lorenz.nwb").exists():
            raise FileError(
                f"{str(folder)!r} is not empty; use another folder, or pass --overwrite to replace the demo in it"
            )
        shutil.rmtree(folder)
    make_folder(folder)
    source, out = folder / "lorenz.nwb", folder / "latents.nwb"
    log("1. simulate: 29 neurons driven by a Lorenz system, 10 of them observed in each 20 ms bin")
    write_task(source, observed_per_bin=10)
    log("2. inspect:")
    log(list_series(source))
    log("3. fit with selective backpropagation through time, evaluate, infer, write, report")
    metrics = fit_files([source], DEMO_READ, DEMO_CONFIG, run_dir=folder / "run", output=Output(out), log=log)
    log(f"look at {folder / 'run' / REPORT}")
    return metrics


DEMO_READ = ReadConfig(series=("units",), bin_width=0.02, cut=Trials(event="start_time", start=0.0, stop=1.0))
DEMO_CONFIG = FitConfig(train=TrainConfig(epochs=15))


def initial_settings(run_dir: Path) -> dict[str, Any]:
    """Read model and likelihood of an initial fit: the defaults of a fit that starts from it.

    Parameters
    ----------
    run_dir : Path
        Run folder of the initial fit.

    Returns
    -------
    dict
        Plain values of ``model`` and ``likelihood``.

    Raises
    ------
    FileError
        If the folder holds no fit.
    """
    if not (run_dir / SIGNATURE).exists():
        raise FileError(
            f"{str(run_dir)!r} has no fit to start from; expected the run folder of a finished fit (--init)"
        )
    settings = read_config(run_dir).model_dump(mode="json")
    return {name: settings[name] for name in ("model", "likelihood")}


def describe(path: Path, ds: xr.Dataset) -> str:
    """Describe data as read: one line of sizes and share observed, then each note of the reader.

    Parameters
    ----------
    path : Path
        File that the data were read from; its name is told.
    ds : Dataset
        As returned by `read_nwb`.

    Returns
    -------
    str
    """
    share = float(ds["observed"].mean())
    sizes = (
        f"{ds.sizes['trial']} trials × {ds.sizes['time']} bins of {ds.attrs['bin_width']:g} s × {ds.sizes['channel']}"
    )
    summary = f"{path.name}: {sizes} {ds.attrs['kind']}, {share:.1%} of their bins observed"
    return "\n".join([summary, *(f"  {note}" for note in json.loads(ds.attrs.get("notes", "[]")))])


def list_series(path: Path) -> str:
    """List the series of a file that can be fitted, and its tables of trials, as text.

    Parameters
    ----------
    path : Path
        NWB file.

    Returns
    -------
    str
    """
    return listing_of_contents(path.name, inspect(path).as_dict())


def summarise(metrics: dict[str, Any]) -> str:
    """Summarise the metrics of each session as text: scores beside the baselines', then warnings and problems.

    Parameters
    ----------
    metrics : dict
        Metrics by session, as `fit_files` returns them.

    Returns
    -------
    str
    """
    parts = []
    for session, scores in metrics.items():
        scored = scores["scored"]
        parts.append(f"{session}: {scored['entries']} hidden entries of {scored['trials']} validation trials")
        parts.append(table_of_scores(scores))
        parts += [f"{check['level']}: {check['text']}" for check in scores["checks"] if check["level"] != "ok"]
    return "\n".join(parts)


def _opened(
    run_dir: Path,
    path: Path,
    output: Output | None,
    *,
    session: str | None,
    cut: Trials | Window | Chop | None,
    log: Log,
    columns: Sequence[str] = (),
) -> tuple[Fitted, Path, xr.Dataset, str | None]:
    """Load a fit, and read a recording as it was read for the fit, if results can be written."""
    path = local_file(path)
    if output is not None:
        _refuse(output.path, path, output)
    fitted = load(run_dir)
    if fitted.unfinished:
        log(fitted.unfinished)
    if session is None and len(fitted.signature.sessions) > 1:
        session = fitted.session_of({"sha256": sha256(path)})
    ds = read_again(fitted, path, session, cut, columns=columns)
    log(describe(path, ds))
    return fitted, path, ds, session


def _rehearsed(
    ds: xr.Dataset, prepared: xr.Dataset, target: Path, source: Path, output: Output, log: Log
) -> xr.Dataset:
    """Try to write results of these data, and return the data with remarks on what of the recording cannot be carried."""
    notes = rehearse(prepared, target, source=source, **output.arguments)
    for note in notes:
        log(f"  {note}")
    return with_notes(ds, notes)


def _targets(paths: Sequence[Path], output: Output | None, run_dir: Path) -> list[Path | None]:
    if output is None:
        return [None] * len(paths)
    if len(paths) == 1:
        targets = [output.path]
    else:
        if output.path.suffix == ".nwb":
            raise FileError(
                f"{len(paths)} files are fitted together, so --out must be a folder for the results, not the file "
                f"{str(output.path)!r}"
            )
        targets = [output.path / f"{name}_latents.nwb" for name in session_names(paths)]
        if not output.path.exists():
            return list(targets)
    written = [is_written(target, run_dir, output) for target in targets]
    for path, target, exists in zip(paths, targets, written, strict=True):
        if not exists:
            _refuse(target, path, output)
    return list(targets)


def is_written(target: Path, run_dir: Path, output: Output) -> bool:
    """Tell whether a fit wrote its result already: it was interrupted between two files, or is done.

    Parameters
    ----------
    target : Path
        The result.
    run_dir : Path
        Run folder of the fit.
    output : Output

    Returns
    -------
    bool
    """
    if output.overwrite or not target.exists() or not (run_dir / SIGNATURE).exists():
        return False
    try:
        return bool(read_model(target, name=output.name)["checkpoint_sha256"] == load(run_dir).checkpoint_sha256)
    except (FileError, SelectionError):
        return False


def _done(
    targets: Sequence[Path | None], sessions: Sequence[str], run_dir: Path, output: Output
) -> dict[str, Any] | None:
    """Metrics of a fit all of whose results are written; None where anything is left to do."""
    if not all(target is not None and is_written(target, run_dir, output) for target in targets):
        return None
    metrics = read_metrics(run_dir)
    return metrics if set(metrics) == set(sessions) else None


def _refuse(target: Path, source: Path, output: Output) -> None:
    """Refuse a result that could not be written, before anything is read."""
    if target.exists() and not output.overwrite and not (output.append and source.exists() and target.samefile(source)):
        raise FileError(f"{str(target)!r} exists; choose another file, or pass --overwrite to replace it")
    check_target(target, source=source, **output.arguments)
