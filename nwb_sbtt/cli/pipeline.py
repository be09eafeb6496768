"""What the command line's verbs do, as functions: from files to a run folder, and from there to files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_sbtt.atomic import make_folder, write_text
from nwb_sbtt.cli.route import route
from nwb_sbtt.config import Chop, FitConfig, ReadConfig, TrainConfig, Trials, Window, build
from nwb_sbtt.errors import FileError, MismatchError, SelectionError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.fitted import Fitted, load
from nwb_sbtt.fitting.initialisation import describe_initialisation
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.fitting.runfolder import read_config
from nwb_sbtt.fitting.signature import SIGNATURE, SessionSignature
from nwb_sbtt.io.dandi.locations import local_file, recorded_file
from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.read.files import sha256
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import attach_truth
from nwb_sbtt.io.write.results import read_model
from nwb_sbtt.io.write.writer import check_target, write_nwb
from nwb_sbtt.report.listing import table_of_candidates, table_of_scores
from nwb_sbtt.report.page import write_report
from nwb_sbtt.simulate.tasks import write_task

METRICS, REPORT = "metrics.json", "report.html"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Output:
    """Where inferred rates and latents go, and how.

    ``path`` is a file, or a folder where several files are fitted; ``append`` copies the source, adds to the copy and puts
    it at ``path``; ``name`` prefixes everything written.
    """

    path: Path
    overwrite: bool = False
    append: bool = False
    name: str = "sbtt"


def fit_files(
    paths: Sequence[Path],
    read: ReadConfig,
    config: FitConfig,
    *,
    run_dir: Path,
    output: Output | None = None,
    offsets: Path | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Read, fit (or resume), evaluate, report and, where an output is named, infer and write.

    Returns
    -------
    dict
        Metrics by session, as kept in ``metrics.json`` of the run folder.

    Raises
    ------
    SbttError
        With what to try; nothing half written stays.
    """
    paths = [local_file(path) for path in paths]
    targets = _targets(paths, output, run_dir)
    read, chosen = route(paths, read, config)
    for line in chosen:
        say(line)
    data: dict[str, xr.Dataset] = {}
    for name, path in zip(_session_names(paths), paths, strict=True):
        data[name] = read_nwb(path, read, offsets=_load_offsets(offsets))
        say(describe(path, data[name]))
    fitted = fit(data, config, run_dir=run_dir)
    if initialisation := describe_initialisation(fitted.signature, fitted.config):
        say(initialisation)
    say(f"training ended: {fitted.finished}")
    metrics = {}
    for (name, ds), path, target in zip(data.items(), paths, targets, strict=True):
        say("scoring beside the baselines, then inferring all trials …")
        known = attach_truth(path, ds)
        metrics[name] = fitted.evaluate(known, session=name)
        _write_metrics(run_dir, metrics)
        say(summarise({name: metrics[name]}))
        latents = fitted.infer(prepare(ds, config), session=name)
        say(f"report: {_report(fitted, known, latents, session=name, metrics=metrics[name])}")
        # The result comes last: once it is there the same command is refused, so nothing may be left to do.
        if output is not None and target is not None and not _is_written(target, run_dir, output):
            _write_result(latents, target, path, output)
            say(f"wrote {target}")
    return metrics


def infer_file(
    run_dir: Path,
    path: Path,
    *,
    output: Output,
    session: str | None = None,
    cut: Trials | Window | Chop | None = None,
    say: Say = print,
) -> None:
    """Apply a fitted model to a file, read the way the model's data were but, where one is given, for another `cut`.

    Of a cut into pieces, what is not given is as it was in the fit: pieces are as long as those that the model knows.

    Raises
    ------
    MismatchError
        If the file's channels or bins are not those that the model was fitted to.
    """
    path = local_file(path)
    _refuse(output.path, path, output)
    fitted = load(run_dir)
    ds = _read_again(fitted, path, session, cut)
    say(describe(path, ds))
    _write_result(fitted.infer(ds, session=session), output.path, path, output)
    say(f"wrote {output.path}")


def evaluate_run(run_dir: Path, *, files: Sequence[Path] = ()) -> dict[str, Any]:
    """Score a fitted model and the baselines again on its data; `files` says where they are if they were moved.

    Raises
    ------
    FileError
        If the data are not where they were.
    MismatchError
        If they are not the same.
    """
    fitted = load(run_dir)
    metrics = {
        name: fitted.evaluate(_fitted_data(fitted, path, name), session=name)
        for name, path in _sources(fitted, files).items()
    }
    _write_metrics(run_dir, metrics)
    return metrics


def report_run(run_dir: Path, *, files: Sequence[Path] = ()) -> list[Path]:
    """Draw the report of a run folder again."""
    fitted = load(run_dir)
    pages = []
    for name, path in _sources(fitted, files).items():
        ds = _fitted_data(fitted, path, name)
        latents, metrics = fitted.infer(prepare(ds, fitted.config), session=name), fitted.evaluate(ds, session=name)
        pages.append(_report(fitted, ds, latents, session=name, metrics=metrics))
    return pages


def demo(folder: Path, *, overwrite: bool = False, say: Say = print) -> dict[str, Any]:
    """Simulate a recording of which 10 of 29 neurons are seen at a time, fit it, and compare with the truth.

    Writes ``lorenz.nwb``, ``latents.nwb`` and the run folder ``run`` into `folder`.

    Raises
    ------
    FileError
        If the folder is not empty and may not be overwritten.
    """
    if folder.exists() and any(folder.iterdir()):
        if not overwrite or not (folder / "lorenz.nwb").exists():
            raise FileError(
                f"{str(folder)!r} is not empty; name another folder, or pass --overwrite to redo the demo there"
            )
        shutil.rmtree(folder)
    make_folder(folder)
    source, out = folder / "lorenz.nwb", folder / "latents.nwb"
    say("1. simulate: 29 neurons driven by a Lorenz system, 10 of them observed in each 20 ms bin")
    write_task(source, observed_per_bin=10)
    say("2. inspect:")
    say(list_series(source))
    say("3. fit with selective backpropagation through time, evaluate, infer, write, report")
    metrics = fit_files([source], DEMO_READ, DEMO_CONFIG, run_dir=folder / "run", output=Output(out), say=say)
    say(f"look at {folder / 'run' / REPORT}")
    return metrics


DEMO_READ = ReadConfig(series=("units",), bin_width=0.02, cut=Trials(event="start_time", start=0.0, stop=1.0))
DEMO_CONFIG = FitConfig(train=TrainConfig(epochs=15))


def settings_of(run_dir: Path) -> dict[str, Any]:
    """Settings that a fit starting from another takes from it, where it has none of its own."""
    if not (run_dir / SIGNATURE).exists():
        raise FileError(f"{str(run_dir)!r} holds no fit to start from (--init)")
    settings = read_config(run_dir).model_dump(mode="json")
    return {name: settings[name] for name in ("model", "likelihood")}


def describe(path: Path, ds: xr.Dataset) -> str:
    """One paragraph about data as read: size, share observed, and every note of the reader."""
    share = float(ds["observed"].mean())
    sizes = (
        f"{ds.sizes['trial']} trials × {ds.sizes['time']} bins of {ds.attrs['bin_width']:g} s × {ds.sizes['channel']}"
    )
    first = f"{path.name}: {sizes} {ds.attrs['kind']}, {share:.1%} observed"
    return "\n".join([first, *(f"  {note}" for note in json.loads(ds.attrs.get("notes", "[]")))])


def list_series(path: Path) -> str:
    """What `inspect` finds in a file, as a table of text."""
    return table_of_candidates(path.name, [candidate.as_dict() for candidate in inspect(path)])


def summarise(metrics: dict[str, Any]) -> str:
    """Scores of each session beside the baselines', and whatever is not in order, as text."""
    parts = []
    for session, entry in metrics.items():
        scored = entry["scored"]
        parts.append(f"{session}: {scored['entries']} hidden entries of {scored['trials']} validation trials")
        parts.append(table_of_scores(entry))
        parts += [f"{check['level']}: {check['text']}" for check in entry["checks"] if check["level"] != "ok"]
    return "\n".join(parts)


def _report(fitted: Fitted, ds: xr.Dataset, latents: xr.Dataset, *, session: str, metrics: dict[str, Any]) -> Path:
    several = len(fitted.signature.sessions) > 1
    averaged = f" · {len(fitted.members)} models averaged" if len(fitted.members) > 1 else ""
    return write_report(
        fitted.run_dir / (f"report_{session}.html" if several else REPORT),
        data=prepare(ds, fitted.config),
        latents=latents,
        history=fitted.history,
        metrics=metrics,
        title=f"{fitted.config.model.name} · {session}{averaged}",
    )


def _write_result(latents: xr.Dataset, target: Path, source: Path, output: Output) -> None:
    try:
        if target.parent == output.path:
            target.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {str(target.parent)!r}: {error.strerror}") from None
    write_nwb(latents, target, source=source, append=output.append, name=output.name, overwrite=output.overwrite)


def _targets(paths: Sequence[Path], output: Output | None, run_dir: Path) -> list[Path | None]:
    if output is None:
        return [None] * len(paths)
    if len(paths) == 1:
        targets = [output.path]
    else:
        if output.path.suffix == ".nwb":
            raise FileError(
                f"{len(paths)} files are fitted together; name a folder for the results, not {str(output.path)!r}"
            )
        targets = [output.path / f"{name}_latents.nwb" for name in _session_names(paths)]
        if not output.path.exists() and output.path.parent.is_dir():
            return list(targets)
    written = [_is_written(target, run_dir, output) for target in targets]
    for path, target, there in zip(paths, targets, written, strict=True):
        if not there or all(written):
            _refuse(target, path, output)
    return list(targets)


def _is_written(target: Path, run_dir: Path, output: Output) -> bool:
    """Whether a result is there that this very fit wrote, before it was stopped between one file and the next."""
    if output.overwrite or not target.exists() or not (run_dir / SIGNATURE).exists():
        return False
    try:
        return bool(read_model(target, name=output.name)["checkpoint_sha256"] == load(run_dir).checkpoint_sha256)
    except (FileError, SelectionError):
        return False


def _refuse(target: Path, source: Path, output: Output) -> None:
    """Refuse what could not be written, before anything is read."""
    if target.exists() and not output.overwrite and not (output.append and source.exists() and target.samefile(source)):
        raise FileError(f"{str(target)!r} exists; name another file, or pass --overwrite to replace it")
    if not target.parent.is_dir():
        raise FileError(f"the folder {str(target.parent)!r} of the result does not exist; make it first")
    check_target(target, source=source, append=output.append, name=output.name, overwrite=output.overwrite)


def _session_names(paths: Sequence[Path]) -> list[str]:
    """Names of the files, with as many of the folders above them as tell all apart."""
    whole = [path.absolute().resolve() for path in paths]
    if twice := [str(path) for i, path in enumerate(paths) if whole[i] in whole[:i]]:
        raise FileError(f"{twice[0]!r} is given twice; give each file once")
    depth = 0
    while True:
        depth += 1
        names = ["_".join(path.parts[-depth:]).removesuffix(".zarr").removesuffix(".nwb") for path in whole]
        if len(set(names)) == len(names):
            return names


def _load_offsets(path: Path | None) -> np.ndarray | None:
    if path is None:
        return None
    try:
        offsets: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read the sampling offsets {str(path)!r} as a .npy array: {error}") from None
    return offsets


def _read_again(
    fitted: Fitted, path: Path, session: str | None, cut: Trials | Window | Chop | None = None
) -> xr.Dataset:
    """Read a file the way that the data of a session were read, or in another cut."""
    entry = fitted.signature.sessions[fitted.session_name(session)]
    if entry.read_config is None:
        raise MismatchError(
            "the model was fitted to a Dataset that did not come from a file; use Fitted.infer in Python"
        )
    settings = entry.read_config
    if cut is not None:
        settings = {**settings, "cut": _like_the_fit(cut, entry)}
    return read_nwb(path, build(ReadConfig, settings), offsets=entry.offsets)


def _like_the_fit(cut: Trials | Window | Chop, entry: SessionSignature) -> dict[str, Any]:
    """Settings of a cut; pieces are of the fit's length, and overlap as they did there, unless they say otherwise."""
    given = cut.model_dump(mode="json", exclude_none=True)
    if cut.by != "chop" or cut.length is not None:
        return given
    fitted = (entry.read_config or {}).get("cut") or {}
    overlap = fitted.get("overlap") if fitted.get("by") == "chop" else None
    return {**given, "length": entry.bins * entry.bin_width, "overlap": overlap}


def _fitted_data(fitted: Fitted, path: Path, session: str) -> xr.Dataset:
    ds = _read_again(fitted, path, session)
    if not fitted.is_fitted_to(ds, session=session):
        raise MismatchError(
            f"{str(path)!r}, read again, does not give the data that the model was fitted to: they were changed after "
            "reading; use Fitted.evaluate in Python"
        )
    return attach_truth(path, ds)


def _sources(fitted: Fitted, files: Sequence[Path]) -> dict[str, Path]:
    """Files of a run's sessions, checked to be the ones it was fitted to."""
    sessions = fitted.signature.sessions
    if files and len(files) != len(sessions):
        raise MismatchError(f"the run has {len(sessions)} sessions, {list(sessions)}; {len(files)} files were given")
    found = {}
    for i, (name, entry) in enumerate(sessions.items()):
        if entry.source is None:
            raise FileError(f"session {name!r} did not come from a file; evaluate it in Python with Fitted.evaluate")
        path = local_file(files[i]) if files else recorded_file(entry.source)
        if not files and not path.exists():
            raise FileError(f"the data of this run, {str(path)!r}, are not there any more; say where with --file")
        if sha256(path) != entry.source["sha256"]:
            raise MismatchError(f"{str(path)!r} is not the file that the model was fitted to: its sha256 differs")
        found[name] = path
    return found


def _write_metrics(run_dir: Path, metrics: dict[str, Any]) -> None:
    write_text(run_dir / METRICS, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
