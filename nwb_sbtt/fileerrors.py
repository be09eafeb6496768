"""What libraries raise for a file becomes one error that names the file; mistakes of this program stay what they are.

A damaged file makes h5py, hdmf, zarr and the others raise whatever comes first: OSError, KeyError, RuntimeError,
RecursionError, errors of their own. No list of classes tells those from mistakes of this program, which raise the same
classes. The place does: an exception is the file's if its class is defined in one of `LIBRARIES`, or if the innermost frame
that belongs to one of them or to this program is the library's (frames of Python's own modules and of numpy are passed over).
So a TypeError that h5py raises is the file's, and one that our own lines raise on what h5py returned is ours: what they need
has to be checked before. A call that a library refuses counts as the file's, since what it was called with came from the
file. OSErrors are always the system's or the file's, and bytes that are no text the file's.

Imports nothing of the package but `errors`, and none of the libraries.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from nwb_sbtt.errors import FileError, SbttError

SCHEMA_LIBRARIES = ("hdmf", "hdmf_zarr", "pynwb", "ndx_sbtt")
"""Libraries that know what should stand in an NWB file,"""
LIBRARIES = (*SCHEMA_LIBRARIES, "h5py", "zarr", "numcodecs", "safetensors", "safetensors_rust", "json", "yaml")
"""and all whose exceptions are those of the file that they read."""
THIS_PROGRAM = "nwb_sbtt"
MOST_OF_REASON = 300
"""Characters of a library's complaint that an error repeats."""
SYSTEM = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENAMETOOLONG: "a name in the path is longer than the system allows",
}
"""What the system refuses most, in words."""


def refusal(error: SbttError | OSError | MemoryError) -> str:
    """Say in one line what was refused: an input by this program, or anything by the system (no space, no memory).

    Parameters
    ----------
    error : SbttError, OSError or MemoryError

    Returns
    -------
    str
    """
    if isinstance(error, SbttError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"not enough memory: {' '.join(str(error).split()).rstrip('.')}; read a shorter part, or use wider bins"
    reason = str(error) if error.errno is None else SYSTEM.get(error.errno, error.strerror)
    place = "" if error.filename is None else f"{str(error.filename)!r}: "
    return " ".join(f"{place}{reason}".split())


class FileErrors:
    """Context in which a file is opened and read.

    Parameters
    ----------
    path : object
        The file; its text stands in the error.
    what : str
        What the file is, such as "the settings file"; may be left out.
    hint : str
        What to try where it is damaged.
    raising : type of SbttError
        Class of the error.
    explain : callable, optional
        Says what an exception means where this is known better; None where it is not.

    Examples
    --------
    >>> import json
    >>> with FileErrors("run/signature.json", hint="fit again"):  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     json.loads("{")
    Traceback (most recent call last):
    FileError: cannot read 'run/signature.json': it is damaged, incomplete or still being written (Expecting …); fit again
    """

    def __init__(
        self,
        path: object,
        *,
        what: str = "",
        hint: str = "download or copy it again",
        raising: type[SbttError] = FileError,
        explain: Callable[[Exception], str | None] | None = None,
    ) -> None:
        self._file, self._hint, self._raising, self._explain = f"{what} {str(path)!r}".strip(), hint, raising, explain

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        """Raise the error of the file in place of a library's; let everything else through."""
        if error is None or isinstance(error, SbttError) or not isinstance(error, Exception):
            return False
        library = library_of(error)
        if library is None and not isinstance(error, OSError | UnicodeDecodeError):
            return False
        explained = None if self._explain is None else self._explain(error)
        raise self._raising(explained or self._message(error, library)) from error

    def _message(self, error: Exception, library: str | None) -> str:
        if isinstance(error, OSError) and error.errno is not None and library is None:
            if error.errno == errno.ENOENT and self._file.startswith(("'", '"')):
                return f"there is no file {self._file}"
            return f"cannot read {self._file}: {SYSTEM.get(error.errno, os.strerror(error.errno))}"
        if isinstance(error, RecursionError):
            return f"cannot read {self._file}: parts of it contain each other in an endless loop; {self._hint}"
        reason = reason_of(error)
        if isinstance(error, MemoryError):
            return (
                f"cannot read {self._file}: the declared size of a part of it exceeds the memory of this machine "
                f"({reason})"
            )
        if library in SCHEMA_LIBRARIES:
            return f"{self._file} does not follow the NWB schema: {reason}; `nwbinspector` lists what is wrong with it"
        return f"cannot read {self._file}: it is damaged, incomplete or still being written ({reason}); {self._hint}"


def library_of(error: BaseException) -> str | None:
    """Find the library whose code raised an exception.

    Parameters
    ----------
    error : exception

    Returns
    -------
    str or None
        Name of its package; None if it was this program, or if neither had a part in it.
    """
    defined_in = _package(type(error).__module__)
    if defined_in in LIBRARIES:
        return defined_in
    for name in reversed(list(_modules(error.__traceback__))):
        package = _package(name)
        if package in LIBRARIES:
            return package
        if package == THIS_PROGRAM:
            return None
    return None


def reason_of(error: BaseException) -> str:
    """Return what a library complains of, as part of one line.

    Parameters
    ----------
    error : BaseException
        Raised by a library.

    Returns
    -------
    str
        Without line breaks; the class of the error where it says nothing.
    """
    # hdmf puts the content of the object first, and the reason last; a KeyError's text is quoted.
    only_last = isinstance(error, KeyError) or library_of(error) in SCHEMA_LIBRARIES
    reason = " ".join(str(error.args[-1] if only_last and error.args else error).split())
    if isinstance(error, KeyError) and reason and " " not in reason:
        return f"{reason!r} is missing"
    return reason[:MOST_OF_REASON] or type(error).__name__


def path_of(given: object, what: str = "the path") -> Path:
    """Make a path of what was given.

    Parameters
    ----------
    given : object
        Text, or a path.
    what : str
        What it is the path of, for the error.

    Returns
    -------
    Path

    Raises
    ------
    FileError
        If it is anything else, or empty.
    """
    if isinstance(given, os.PathLike | str):
        path = os.fspath(given)
        if isinstance(path, str) and path:
            return Path(path)
    came = repr(given) if given is None or isinstance(given, int | float | str) else f"a {type(given).__name__}"
    raise FileError(f"{what} is {came}; expected text or a pathlib.Path")


def several(given: object) -> list[Path | str]:
    """Take one path as a list of it.

    Parameters
    ----------
    given : path, or sequence of path

    Returns
    -------
    list of path
        As they came.

    Raises
    ------
    FileError
        If there is none, or one is no path.
    """
    paths: list[Any] = (
        [given] if isinstance(given, str | bytes | os.PathLike) or not isinstance(given, Iterable) else list(given)
    )
    if not paths:
        raise FileError("got no path; expected one, or a list of them")
    for each in paths:
        path_of(each)
    return paths


def check_is_file(path: Path) -> None:
    """Refuse what is no file before it is opened: a pipe would wait for its other end for ever.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FileError
        If it is a folder, a pipe, a socket or a device.
    OSError
        If it is not there, or the system does not say what it is.
    """
    path.stat()
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise FileError(f"{str(path)!r} is {what}; expected a file")


def follow_links(path: Path) -> Path:
    """Resolve the symbolic links in a path.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Path
        Absolute; it need not exist.

    Raises
    ------
    FileError
        If the links lead round in a circle.
    """
    resolved = Path(os.path.realpath(path))
    if resolved.is_symlink():
        raise FileError(f"cannot use {str(path)!r}: {SYSTEM[errno.ELOOP]}")
    return resolved


def _modules(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        yield str(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next


def _package(module: str) -> str:
    return module.partition(".")[0]
