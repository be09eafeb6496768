"""Whether a file is valid NWB, and whether DANDI would take it; for each finding, what to do."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import h5py
import pynwb

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.dandi.places import local_file
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.write.hints import UNREADABLE, remedy_of_check, remedy_of_schema

Level = Literal["error", "critical", "violation", "suggestion"]
_LEVELS: dict[str, Level] = {
    "ERROR": "error",
    "PYNWB_VALIDATION": "error",
    "CRITICAL": "critical",
    "BEST_PRACTICE_VIOLATION": "violation",
    "BEST_PRACTICE_SUGGESTION": "suggestion",
}
ORDER: tuple[Level, ...] = ("error", "critical", "violation", "suggestion")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Parameters
    ----------
    level : str
        "error" (not valid NWB), "critical" (DANDI refuses the file), "violation" or "suggestion" (of best practices).
    check : str
        Name of the check.
    place : str
        Within the file.
    message : str
    remedy : str
        What to do.
    """

    level: Level
    check: str
    place: str
    message: str
    remedy: str

    @property
    def blocks(self) -> bool:
        """Whether DANDI refuses the file for it."""
        return self.level in ("error", "critical")

    def as_dict(self) -> dict[str, str]:
        """Plain values that JSON can hold."""
        return asdict(self)


def validate(path: Path | str) -> list[Finding]:
    """Check a file with pynwb's validator and with nwbinspector, set as DANDI sets it.

    Parameters
    ----------
    path : Path or str
        HDF5 file, or the address of one on DANDI.

    Returns
    -------
    list of Finding
        The gravest first; empty where all is well.

    Raises
    ------
    FileError
        If the file cannot be read, is a Zarr store, or nwbinspector is not installed.

    Examples
    --------
    >>> [each for each in validate("maze_latents.nwb") if each.blocks]  # doctest: +SKIP
    """
    path = local_file(path)
    if path.is_dir():
        raise FileError(f"{str(path)!r} is a Zarr store; the validators read HDF5 files only")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unreadable = _unreadable(path)
        found = [*unreadable, *_against_schema(path)]
        if not unreadable:
            found += _against_practices(path)
    return sorted(dict.fromkeys(found), key=lambda each: ORDER.index(each.level))


def _unreadable(path: Path) -> list[Finding]:
    """A finding if pynwb cannot read the file; what is no file of HDF5, or not all of one, is the caller's mistake."""
    try:
        with open_nwb(path):
            return []
    except FileError as error:
        if not _is_whole(path):
            raise
        return [Finding("error", "read", "the file", str(error), UNREADABLE)]


def _is_whole(path: Path) -> bool:
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


def _against_schema(path: Path) -> list[Finding]:
    try:
        problems = pynwb.validate(path=str(path))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        text = " ".join(str(error).split())[:300]
        return [Finding("error", "validate", "the file", f"the validator cannot read it: {text}", UNREADABLE)]
    return [
        Finding(
            "error",
            type(each).__name__,
            str(each.location or each.name),
            each.reason,
            remedy_of_schema(type(each).__name__),
        )
        for each in problems
    ]


def _against_practices(path: Path) -> list[Finding]:
    try:
        from nwbinspector import inspect_nwbfile, load_config
    except ModuleNotFoundError:
        raise FileError('to check files for DANDI: pip install "nwb_sbtt[validate]"') from None
    config = load_config(filepath_or_keyword="dandi")
    findings = []
    for each in inspect_nwbfile(nwbfile_path=str(path), config=config, skip_validate=True):
        if each is None:
            continue
        level = _LEVELS[each.importance.name]
        where = "/".join(filter(None, (str(each.location or "").strip("/"), _own_name(each))))
        remedy = UNREADABLE if level == "error" else remedy_of_check(each.check_function_name)
        message = " ".join(str(each.message).split())
        findings.append(Finding(level, str(each.check_function_name), where or "the file", message, remedy))
    return findings


def _own_name(message: object) -> str:
    """Name of the object where its place does not say it."""
    name, location = str(getattr(message, "object_name", "") or ""), str(getattr(message, "location", "") or "")
    return "" if name == "root" or location.rstrip("/").endswith(name) else name
