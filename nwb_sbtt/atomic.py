"""Atomic writes: a temporary name, then a rename, so that a reader finds the old content or the new one, whole.

Imports nothing of the package but `errors`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from nwb_sbtt.errors import FileError

LONGEST_NAME = 255
"""Bytes of the longest name that the usual file systems have."""


def write_text(path: Path, text: str, *, parents: bool = False) -> None:
    """Write a text file atomically, replacing what is there.

    Parameters
    ----------
    path : Path
    text : str
        Written as UTF-8.
    parents : bool
        As of `atomic_write`.

    Raises
    ------
    FileError
        If the disk is full or not writable; nothing half written stays.
    """
    with atomic_write(path, suffix="", parents=parents) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_write(target: Path, *, suffix: str, parents: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside the target; rename it to the target on success, remove it on an error.

    A process that is killed inside the block leaves the target as it was, and a hidden file that the next write to the
    same target removes. An existing file at the target is replaced in one step; an existing folder (Zarr) in two.

    Parameters
    ----------
    target : Path
    suffix : str
        End of the temporary name, for programs that choose a format by it.
    parents : bool
        Create the folder of the target where it is missing, as for what a user named; a run folder that was removed is not
        to come back with one file in it.

    Yields
    ------
    Path
        To be written by the block, as a file or a folder.

    Raises
    ------
    FileError
        If the folder is missing or not writable, or the system refuses to write: no space, no permission.

    Examples
    --------
    >>> with atomic_write(Path("counts.csv"), suffix=".csv") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("unit,count\\n")
    """
    if parents:
        make_folder(target.parent)
    if not target.parent.is_dir():
        raise FileError(f"cannot write {str(target)!r}: the folder {str(target.parent)!r} does not exist")
    with scratch_beside(target, suffix=suffix) as temporary:
        yield temporary
        _sync(temporary)
        _move(temporary, target)


@contextmanager
def scratch_beside(target: Path, *, suffix: str) -> Iterator[Path]:
    """Yield a temporary path beside a target, where the target itself could be written; remove it when the block ends.

    Parameters
    ----------
    target : Path
    suffix : str
        End of the temporary name.

    Yields
    ------
    Path
        To be written by the block, as a file or a folder.

    Raises
    ------
    FileError
        If the folder is not writable, or the system refuses to write: no space, no permission.
    """
    try:
        _remove_leftovers(target)
    except OSError as error:
        raise FileError(f"cannot write {str(target)!r}: {error.strerror}") from None
    # In the target's own folder, hence on its file system, where a rename is one step.
    temporary = _temporary_path(target, suffix)
    try:
        yield temporary
    except (OSError, RuntimeError) as error:
        reason = _system_error(error)
        if reason is None:
            raise
        raise FileError(f"cannot write {str(target)!r}: {reason}; nothing was left behind") from error
    finally:
        _remove(temporary)


def check_writable_name(target: Path) -> None:
    """Raise if a name, or the temporary name that an atomic write needs, is longer than the system allows.

    Parameters
    ----------
    target : Path

    Raises
    ------
    FileError
    """
    excess = len(os.fsencode(_temporary_path(target, target.suffix).name)) - LONGEST_NAME
    if excess > 0:
        raise FileError(f"cannot write {target.name!r}: the name is too long, by {excess} bytes; choose a shorter one")


def reserve_space(path: Path, n_bytes: int) -> None:
    """Lengthen a file by so many bytes, or fail now.

    HDF5 does not recover from a write that the system refuses: it fails again when the file is closed, and may take the
    process down with it. So a full disk has to be noticed before HDF5 writes. Whoever writes the file afterwards cuts it
    back to its true length.

    Parameters
    ----------
    path : Path
        Created if it does not exist.
    n_bytes : int

    Raises
    ------
    OSError
        If there is no space, or the file would be longer than the system allows.
    """
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), file.tell(), n_bytes)
        elif shutil.disk_usage(path.parent).free < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_folder(path: Path | str) -> Path:
    """Create a folder and those above it, where they do not exist.

    Parameters
    ----------
    path : path

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileError
        If it cannot be created.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {str(folder)!r}: {error.strerror}; choose another path") from None
    return folder


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def _temporary_path(target: Path, suffix: str) -> Path:
    return target.with_name(f"{_prefix(target)}{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}{suffix}")


def _remove_leftovers(target: Path) -> None:
    """Remove temporary files of the same target whose processes, on this machine, have ended."""
    for leftover in temporary_files(target.parent):
        if leftover.target == target.name and leftover.is_dead():
            _remove(leftover.path)


@dataclass(frozen=True)
class TemporaryFile:
    """A file or folder that an atomic write has not renamed yet, or never will.

    Parameters
    ----------
    path : Path
    target : str
        Name that it was to get.
    host : str
    pid : int
        Process that writes it, or wrote it.
    """

    path: Path
    target: str
    host: str
    pid: int

    def is_dead(self) -> bool:
        """Whether its process, on this machine, has ended; of other machines nothing is known."""
        return self.host == socket.gethostname() and not is_alive(self.pid)


_TEMPORARY = re.compile(r"\.(?P<target>.+)\.partial-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}(?:[.-].*)?", re.DOTALL)


def temporary_files(folder: Path) -> list[TemporaryFile]:
    """List the temporary files of atomic writes in a folder.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    OSError
        If it cannot be read.
    """
    matches = ((path, _TEMPORARY.fullmatch(path.name)) for path in folder.iterdir())
    return [TemporaryFile(path, m["target"], m["host"], int(m["pid"])) for path, m in matches if m is not None]


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine lives; one of another user does as well.

    Parameters
    ----------
    pid : int
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(path: Path) -> None:
    if path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(temporary: Path, target: Path) -> None:
    if not target.is_dir():
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
        return
    aside = temporary.with_name(f"{temporary.name}-old")
    target.replace(aside)
    temporary.replace(target)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _system_error(error: OSError | RuntimeError) -> str | None:
    """What the system said, which HDF5 repeats in its text only; None where it was not the system."""
    _, _, rest = str(error).partition("errno = ")
    digits = rest.split(",")[0]
    if digits.isdigit():
        return os.strerror(int(digits))
    return (error.strerror or str(error)) if isinstance(error, OSError) else None
