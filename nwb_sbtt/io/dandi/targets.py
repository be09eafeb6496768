"""Where files of an archive may lie on this disk: inside the folder asked for, under names that it can hold."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from nwb_sbtt.errors import FileError

LONGEST = 200
"""Bytes of one part of a path: file systems hold 255, and names beside the file are longer than its own."""
_FORBIDDEN_ON_WINDOWS = set('<>:"|?*')
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{i}" for name in ("COM", "LPT") for i in range(1, 10))}


def target_of(folder: Path, path: str) -> Path:
    """Place of an archive's file below a folder.

    Raises
    ------
    FileError
        If the path is absolute, leads out of the folder by ``..`` or through a link, or has a part that no file system
        can hold.
    """
    parts = path.split("/")
    for part in parts:
        if problem := _problem(part):
            raise FileError(f"the archive's path {path!r} cannot be a file here: {problem}")
    target = folder.joinpath(*parts)
    inside = folder.resolve()
    if not target.parent.resolve().is_relative_to(inside):
        raise FileError(
            f"{str(target)!r} would lie outside {str(folder)!r}: a link leads out; remove it, or use another folder"
        )
    if target.is_dir():
        raise FileError(f"{str(target)!r} is a folder, and the archive's {path!r} a file; use another folder")
    return target


def check_together(paths: Sequence[str], folder: Path) -> None:
    """Refuse paths that cannot be there at once.

    Raises
    ------
    FileError
        If one is a folder of another, or two are the same where the file system knows no case.
    """
    files = set(paths)
    for path in paths:
        for above in PurePosixPath(path).parents:
            if str(above) in files:
                raise FileError(f"{str(above)!r} would have to be both a file and the folder of {path!r}")
    if not _folds_case(folder):
        return
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other != path:
            raise FileError(f"{other!r} and {path!r} are one file on this disk; fetch them into two folders")


def _problem(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "it is absolute, or leads out of its folder"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in part):
        return f"{part!r} has a control character in it"
    if "\\" in part:
        return f"{part!r} has a backslash in it"
    if len(part.encode()) > LONGEST:
        return f"a name of {len(part.encode())} bytes is too long"
    if os.name == "nt" and (
        _FORBIDDEN_ON_WINDOWS & set(part) or part[-1] in ". " or part.split(".")[0].upper() in _DEVICES
    ):
        return f"{part!r} cannot be a name on Windows"
    return None


def _folds_case(folder: Path) -> bool:
    """Whether the file system takes upper and lower case for the same, as far as an existing name shows it."""
    named = next(
        (each for each in (folder, *folder.parents) if each.exists() and each.name.swapcase() != each.name), None
    )
    return named is not None and named.with_name(named.name.swapcase()).exists()
