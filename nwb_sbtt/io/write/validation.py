"""Check whether a file is valid NWB and whether DANDI would accept it, with a hint for each finding."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import h5py
import pynwb

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.dandi.locations import local_file
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.write.hints import UNREADABLE, hint_for_check, hint_for_schema

FindingLevel = Literal["error", "critical", "violation", "suggestion"]
_LEVELS: dict[str, FindingLevel] = {
    "ERROR": "error",
    "PYNWB_VALIDATION": "error",
    "CRITICAL": "critical",
    "BEST_PRACTICE_VIOLATION": "violation",
    "BEST_PRACTICE_SUGGESTION": "suggestion",
}
ORDER: tuple[FindingLevel, ...] = ("error", "critical", "violation", "suggestion")


@dataclass(frozen=True)
class Finding:
    """One problem of a file.

    Parameters
    ----------
    level : str
        "error" (not valid NWB), "critical" (DANDI refuses the file), "violation" or "suggestion" (of best practices).
    check : str
        Name of the check.
    location : str
        Within the file.
    message : str
    hint : str
        What to do.
    """

    level: FindingLevel
    check: str
    location: str
    message: str
    hint: str

    @property
    def blocks(self) -> bool:
        """Whether DANDI refuses the file because of it."""
        return self.level in ("error", "critical")

    def as_dict(self) -> dict[str, str]:
        """Return the fields as plain values that JSON can hold."""
        return asdict(self)


def validate(path: Path | str) -> list[Finding]:
    """Check a file with pynwb's validator and with nwbinspector in DANDI's configuration.

    Parameters
    ----------
    path : Path or str
        HDF5 file, or the address of one on DANDI.

    Returns
    -------
    list of Finding
        The most severe first; empty if there is nothing to report.

    Raises
    ------
    FileError
        If the file cannot be read, is a Zarr store, or nwbinspector is not installed.

    Examples
    --------
    >>> [finding for finding in validate("maze_latents.nwb") if finding.blocks]  # doctest: +SKIP
    """
    path = local_file(path)
    if path.is_dir():
        raise FileError(
            f"{str(path)!r} is a Zarr store, but the validators read only HDF5; write the file as .nwb to check it"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unreadable = _unreadable(path)
        findings = [*unreadable, *_check_schema(path)]
        if not unreadable:
            findings += _check_practices(path)
    return sorted(dict.fromkeys(findings), key=lambda finding: ORDER.index(finding.level))


def _unreadable(path: Path) -> list[Finding]:
    """A finding if pynwb cannot read the file; raises for what is not HDF5, or incomplete."""
    try:
        with open_nwb(path):
            return []
    except FileError as error:
        if not _is_hdf5(path):
            raise
        return [Finding("error", "read", "the file", str(error), UNREADABLE)]


def _is_hdf5(path: Path) -> bool:
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


def _check_schema(path: Path) -> list[Finding]:
    try:
        problems = pynwb.validate(path=str(path))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        text = " ".join(str(error).split())[:300]
        return [Finding("error", "validate", "the file", f"the validator cannot read it: {text}", UNREADABLE)]
    return [
        Finding(
            "error",
            type(problem).__name__,
            str(problem.location or problem.name),
            problem.reason,
            hint_for_schema(type(problem).__name__),
        )
        for problem in problems
    ]


def _check_practices(path: Path) -> list[Finding]:
    try:
        from nwbinspector import inspect_nwbfile, load_config
    except ModuleNotFoundError:
        raise FileError('to check files for DANDI: pip install "nwb_sbtt[validate]"') from None
    config = load_config(filepath_or_keyword="dandi")
    findings = []
    for problem in inspect_nwbfile(nwbfile_path=str(path), config=config, skip_validate=True):
        if problem is None:
            continue
        level = _LEVELS[problem.importance.name]
        location = "/".join(filter(None, (str(problem.location or "").strip("/"), _object_name(problem))))
        hint = UNREADABLE if level == "error" else hint_for_check(problem.check_function_name)
        message = " ".join(str(problem.message).split())
        findings.append(Finding(level, str(problem.check_function_name), location or "the file", message, hint))
    return findings


def _object_name(message: object) -> str:
    """Name of the object where its location does not end in it."""
    name, location = str(getattr(message, "object_name", "") or ""), str(getattr(message, "location", "") or "")
    return "" if name == "root" or location.rstrip("/").endswith(name) else name
