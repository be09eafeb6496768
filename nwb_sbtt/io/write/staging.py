"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from nwb_sbtt.errors import FileError


@contextmanager
def staged(target: Path, *, suffix: str) -> Iterator[Path]:
    """Give a temporary name beside the target; move it there when the block ends well, remove it when it does not.

    A process that is killed inside the block leaves the target as it was, and a hidden file that the next call for the
    same target removes. An existing file at the target is replaced in one step; an existing folder (Zarr) in two.

    Parameters
    ----------
    target : Path
        Its folder must exist.
    suffix : str
        End of the temporary name, for programs that go by it.

    Raises
    ------
    FileError
        If the folder is missing or cannot be written to, or the system refuses to write: no space, no permission.
    """
    if not target.parent.is_dir():
        raise FileError(
            f"cannot write {str(target)!r}: the folder {str(target.parent)!r} does not exist; create it first"
        )
    _clean(target)
    # Everything below is on the target's own file system, where a rename is one step.
    temporary = target.with_name(f"{_prefix(target)}{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}{suffix}")
    try:
        yield temporary
        _sync(temporary)
        _move(temporary, target)
    except (OSError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise FileError(f"cannot write {str(target)!r}: {reason}; nothing was left behind") from error
    finally:
        _remove(temporary)


def reserve(path: Path, n_bytes: int) -> None:
    """Lengthen a file by so many bytes, or fail now.

    HDF5 does not recover from a write that the system refuses: it fails again when the file is closed, and may take the
    process down with it. So a full disk has to be found before HDF5 is let loose. The program that writes the file cuts
    it back to its true length.

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


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def _clean(target: Path) -> None:
    """Remove what processes of this machine that are gone have left of the same target."""
    ours = f"{_prefix(target)}{socket.gethostname()}-"
    for leftover in target.parent.iterdir():
        if leftover.name.startswith(ours):
            pid = leftover.name.removeprefix(ours).split("-")[0]
            if pid.isdigit() and not _alive(int(pid)):
                _remove(leftover)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
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


def _reason(error: OSError | RuntimeError) -> str | None:
    """What the system said; HDF5 has it in its text only. None where it was not the system."""
    _, _, rest = str(error).partition("errno = ")
    digits = rest.split(",")[0]
    if digits.isdigit():
        return os.strerror(int(digits))
    return (error.strerror or str(error)) if isinstance(error, OSError) else None
