"""The data of a fit, read again from the files that it was fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from nwb_sbtt.config import Chop, ReadConfig, Trials, Window, build
from nwb_sbtt.errors import FileError, MismatchError
from nwb_sbtt.fitting.signature import SessionSignature
from nwb_sbtt.io.dandi.locations import local_file, recorded_file
from nwb_sbtt.io.read.behaviour import attach_behaviour
from nwb_sbtt.io.read.columns import attach_conditions
from nwb_sbtt.io.read.files import sha256
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import attach_truth

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted


def fitted_data(fitted: Fitted, path: Path, session: str, *, columns: Sequence[str] = ()) -> xr.Dataset:
    """Read the data of a fitted session again.

    Parameters
    ----------
    fitted : Fitted
    path : Path
        Its file.
    session : str
    columns : sequence of str
        Trial columns that are read besides those of the fit.

    Returns
    -------
    Dataset
        With the columns of conditions and the behaviour that the file holds, and the truth of a simulated one.

    Raises
    ------
    MismatchError
        If they differ from those of the fit.
    """
    ds = read_again(fitted, path, session, columns=columns)
    if not fitted.is_fitted_to(ds, session=session):
        raise MismatchError(
            f"the data of {str(path)!r} differ from those that the model was fitted to, which were changed after "
            "reading; pass the changed data to Fitted.evaluate in Python"
        )
    settings = build(ReadConfig, fitted.signature.sessions[session].read_config or {})
    return attach_behaviour(path, attach_truth(path, attach_conditions(path, ds, settings)), settings)


def read_again(
    fitted: Fitted,
    path: Path,
    session: str | None,
    cut: Trials | Window | Chop | None = None,
    *,
    columns: Sequence[str] = (),
) -> xr.Dataset:
    """Read a file with the settings of a fitted session.

    Parameters
    ----------
    fitted : Fitted
    path : Path
    session : str or None
        None for a fit of one.
    cut : Trials, Window or Chop, optional
        Another cut than that of the fit. Length and overlap of a `Chop` default to those of the fit.
    columns : sequence of str
        Trial columns that are read besides those of the fit.

    Returns
    -------
    Dataset

    Raises
    ------
    MismatchError
        If the data of the fit did not come from a file.
    """
    signature = fitted.signature.sessions[fitted.session_name(session)]
    if signature.read_config is None:
        raise MismatchError(
            "the model was fitted to a Dataset that did not come from a file; use Fitted.infer in Python"
        )
    settings = signature.read_config
    if cut is not None:
        settings = {**settings, "cut": _resolve_cut(cut, signature)}
    if more := [name for name in columns if name not in settings.get("trial_columns", [])]:
        settings = {**settings, "trial_columns": [*settings.get("trial_columns", []), *more]}
    return read_nwb(path, build(ReadConfig, settings), offsets=signature.offsets)


def source_files(fitted: Fitted, files: Sequence[Path] = ()) -> dict[str, Path]:
    """Find the file of each session.

    Parameters
    ----------
    fitted : Fitted
    files : sequence of Path
        Where the files have moved, one a session in any order: that with the digest of the session's is taken.

    Returns
    -------
    dict of session to Path

    Raises
    ------
    FileError
        If a session did not come from a file, or that is not there any more.
    MismatchError
        If a file is another one.
    """
    sessions = fitted.signature.sessions
    if files and len(files) != len(sessions):
        raise MismatchError(
            f"the run has {len(sessions)} sessions, {list(sessions)}; got {len(files)} files. Pass one file for each "
            "session"
        )
    given = {sha256(path): path for path in map(local_file, files)}
    sources = {}
    for name, signature in sessions.items():
        if signature.source is None:
            raise FileError(f"session {name!r} did not come from a file; evaluate it in Python with Fitted.evaluate")
        digest = signature.source["sha256"]
        if files:
            if digest not in given:
                raise MismatchError(
                    f"{', '.join(repr(str(path)) for path in files)}: expected the file that session {name!r} of the "
                    "fit was read from, but the sha256 is different"
                )
            sources[name] = given[digest]
            continue
        sources[name] = _source_file(signature.source)
    return sources


def source_file(fitted: Fitted, session: str, *, moved: Path | None = None) -> Path:
    """Find the file of one session.

    Parameters
    ----------
    fitted : Fitted
    session : str
    moved : Path, optional
        Where the file is now. Default: where it was read from.

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If the session did not come from a file, or that is not there any more.
    MismatchError
        If the file is another one.
    """
    source = fitted.signature.sessions[session].source
    if source is None or "sha256" not in source:
        raise FileError(
            f"session {session!r} did not come from a file, and a run folder does not store data; pass the Dataset"
        )
    return _source_file(source, moved)


def _source_file(source: dict[str, Any], moved: Path | None = None) -> Path:
    path = recorded_file(source) if moved is None else local_file(moved)
    if not path.exists():
        raise FileError(f"the data of this run are no longer at {str(path)!r}; pass their new path with --file")
    if sha256(path) != source["sha256"]:
        raise MismatchError(
            f"{str(path)!r} is not the file that the model was fitted to (the sha256 is different); pass the original "
            "file"
        )
    return path


def _resolve_cut(cut: Trials | Window | Chop, signature: SessionSignature) -> dict[str, Any]:
    """Resolve a cut's settings; length and overlap of a chop default to those of the fit."""
    settings = cut.model_dump(mode="json", exclude_none=True)
    if cut.by != "chop" or cut.length is not None:
        return settings
    fitted_cut = (signature.read_config or {}).get("cut") or {}
    overlap = fitted_cut.get("overlap") if fitted_cut.get("by") == "chop" else None
    return {**settings, "length": signature.bins * signature.bin_width, "overlap": overlap}
