"""Paths of an archive's files on this disk: inside the folder, with names that the file system can hold."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from nwb_sbtt.errors import FileError

LONGEST = 200
"""Bytes of one part of a path: file systems allow 255, and hidden names beside the file are longer than its own."""
_FORBIDDEN_ON_WINDOWS = set('<>:"|?*')
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{i}" for name in ("COM", "LPT") for i in range(1, 10))}


def target_path(folder: Path, path: str) -> Path:
    """Return the path of an archive's file below a folder.

    Parameters
    ----------
    folder : Path
    path : str
        Of the file, within the dandiset.

    Raises
    ------
    FileError
        If the path is absolute, leads out of the folder by ``..`` or through a link, or has a part that a file system
        cannot hold.
    """
    parts = path.split("/")
    for part in parts:
        if problem := _problem(part):
            raise FileError(f"the archive's path {path!r} cannot be a file on this disk: {problem}")
    target = folder.joinpath(*parts)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise FileError(
            f"{str(target)!r} would be outside {str(folder)!r}, because of a symbolic link; remove the link, or "
            "choose another folder"
        )
    if target.is_dir():
        raise FileError(f"{str(target)!r} is a folder, and the archive's {path!r} a file; choose another folder")
    return target


def check_compatible(paths: Sequence[str], folder: Path) -> None:
    """Refuse paths that cannot exist at once.

    Parameters
    ----------
    paths : sequence of str
        Within the dandiset.
    folder : Path
        Its file system decides whether upper and lower case differ.

    Raises
    ------
    FileError
        If one is a folder of another, or two differ in case only on a file system that ignores case.
    """
    files = set(paths)
    for path in paths:
        for above in PurePosixPath(path).parents:
            if str(above) in files:
                raise FileError(
                    f"{str(above)!r} would be both a file and the folder of {path!r}; download them into two folders"
                )
    if not _ignores_case(folder):
        return
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other != path:
            raise FileError(f"{other!r} and {path!r} have the same name on this disk; download them into two folders")


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


def _ignores_case(folder: Path) -> bool:
    """Whether the file system ignores case, as far as an existing name shows it."""
    existing = (path for path in (folder, *folder.parents) if path.exists() and path.name.swapcase() != path.name)
    probe = next(existing, None)
    return probe is not None and probe.with_name(probe.name.swapcase()).exists()
