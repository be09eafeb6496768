"""NWB files: opened for reading, HDF5 and Zarr alike, and identified by their SHA-256.

Each way in which a file can be wrong has an error of one line.

Computing a digest reads all of a file, of which a reader may need a small part, and so does, of most files, the search for
damaged texts (`heaps`). Of a large file both are therefore done once, and the process remembers the outcome while the file is
unchanged: same path, file and size, and same times of the last change of its content and of its status. The latter (`ctime`) is
set by the system alone, so that a program that resets a file's modification time cannot hide a change. Of a file that changed
within the last seconds nothing is remembered: it might change again within the resolution of the clock.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import h5py
from hdmf.build import BuildError, ConstructError, ContainerConfigurationError
from pynwb import NWBHDF5IO, NWBFile

from nwb_sbtt.errors import FileError
from nwb_sbtt.fileerrors import SCHEMA_LIBRARIES, FileErrors, check_is_file, library_of, reason_of
from nwb_sbtt.io.dandi.locations import locate
from nwb_sbtt.io.dandi.origin import origin_fields, origin_of, read_record
from nwb_sbtt.io.dandi.stream import RangeFile
from nwb_sbtt.io.dandi.transfer import RemoteFile
from nwb_sbtt.io.read.extensions import (
    import_extension,
    is_event_waveform,
    manager_of,
    mend_event_waveforms,
    missing_namespace,
)
from nwb_sbtt.io.read.filters import missing_codec_of_store, missing_filter_of_file, register_plugins
from nwb_sbtt.io.read.heaps import check_heaps
from nwb_sbtt.io.read.outside import (
    Outside,
    refuse_outside,
    remember_outside,
    scan_hdf5,
    scan_zarr,
    without_outside,
)
from nwb_sbtt.io.read.references import broken_reference

CHUNK_CACHE = 64 * 2**20
"""Bytes of HDF5's cache for each dataset; the default of HDF5 holds two of the chunks that are usual in NWB files."""
CACHED_NAMESPACES = r"(?i)ignoring .*cached namespace"
"""The warning that a file carries definitions of types that are already loaded."""
SMALLEST_REMEMBERED = 1 << 24
"""Bytes of the smallest file whose digest is remembered; smaller ones take less than a hundredth of a second."""
SETTLED = 2.0
"""Seconds for which a file must have stayed as it is for its digest to be remembered."""
OLDEST = 2
"""Major version of the oldest NWB files that are read."""

FileState = tuple[int, ...]
_digests: dict[Path, tuple[FileState, str]] = {}
_searched: dict[Path, tuple[FileState, None]] = {}
T = TypeVar("T")


@contextmanager
def open_nwb(path: Path | str | RemoteFile, *, external_data: bool = False) -> Iterator[NWBFile]:
    """Open an NWB file for reading; it is closed when the block ends, and can no longer be read then.

    Of what the file stores outside itself, measurements can be read and all else is left out; `outside_of` lists both.

    Parameters
    ----------
    path : Path, str or RemoteFile
        An HDF5 file, the folder of a Zarr store, or the address of a file on DANDI, which is streamed unless it is in the
        cache.
    external_data : bool
        Whether a file that was fetched from an archive, or a Zarr store, may store data outside itself.

    Yields
    ------
    pynwb.NWBFile

    Raises
    ------
    FileError
        If the file is missing, is neither HDF5 nor Zarr, is damaged, is not NWB, or is of NWB 1.x; or if it stores data outside
        itself and may not.
    ArchiveError
        If an archive cannot be reached, or refuses.
    """
    with FileErrors(path):
        path = locate(path)
    if isinstance(path, RemoteFile):
        with _streamed(path, external_data) as nwbfile:
            yield nwbfile
        return
    opened = partial(_open_zarr if path.is_dir() else _open_hdf5, external_data=external_data)
    with _file_errors(path), _read(opened, path) as nwbfile:
        yield nwbfile


@contextmanager
def made_nwb(nwbfile: NWBFile) -> Iterator[NWBFile]:
    """Write a recording that is in no file in memory, and open it there for reading.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        As made; it belongs to that memory afterwards, and cannot be written elsewhere.

    Yields
    ------
    pynwb.NWBFile
        As read; it can be read until the block ends.
    """
    name = f"{nwbfile.identifier} in memory"
    with h5py.File(name, "w", driver="core", backing_store=False) as file, NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwbfile)
        with NWBHDF5IO(file=file, mode="r") as reading:
            yield reading.read()


def file_facts(path: Path | RemoteFile) -> dict[str, str]:
    """Describe where a file is from.

    Parameters
    ----------
    path : Path or RemoteFile

    Returns
    -------
    dict
        Its ``path``, ``name`` and ``sha256`` and, where it is known, the dandiset.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    if isinstance(path, RemoteFile):
        return {"path": str(path), "name": path.name, "sha256": str(path.asset.sha256), **origin_fields(path.asset)}
    digest = sha256(path)
    return {"path": str(path.absolute()), "name": path.name, "sha256": digest, **origin_of(path, digest)}


def sha256(path: Path | str) -> str:
    """Compute the SHA-256 of a file or a folder, as hexadecimal digits.

    That of a folder is computed from the names and digests of its files, sorted by name.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileError
        If it cannot be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    with _file_errors(path):
        if not path.is_dir():
            check_is_file(path)
            return file_sha256(path)
        for member in sorted(part for part in path.rglob("*") if part.is_file()):
            with member.open("rb") as file:
                content = hashlib.file_digest(file, "sha256")
            digest.update(member.relative_to(path).as_posix().encode() + b"\0" + content.digest())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, or recall that of a large one that has not changed; as hexadecimal digits.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return _remembered(path, _digests, lambda file: hashlib.file_digest(file, "sha256").hexdigest())


def forget_digests() -> None:
    """Forget the digests of all files, so that the next one is computed."""
    _digests.clear()


def _remembered(path: Path, known: dict[Path, tuple[FileState, T]], compute: Callable[[BufferedReader], T]) -> T:
    """Compute what follows from the content of a file, or recall it of a large one that has not changed."""
    with path.open("rb") as file:
        now, before = time.time(), os.fstat(file.fileno())
        # On other systems `ctime` is the time at which the file was made.
        can_be_remembered = before.st_size >= SMALLEST_REMEMBERED and os.name == "posix"
        remembered = known.get(path.absolute())
        if can_be_remembered and remembered is not None and remembered[0] == _file_state(before):
            return remembered[1]
        result = compute(file)
        settled = now - max(before.st_mtime, before.st_ctime) > SETTLED
        if can_be_remembered and settled and _file_state(os.fstat(file.fileno())) == _file_state(before):
            known[path.absolute()] = _file_state(before), result
    return result


def _file_state(status: os.stat_result) -> FileState:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def _streamed(remote: RemoteFile, external_data: bool) -> Iterator[NWBFile]:
    """Open a file of an archive; if a download failed, that is the error, not the one of HDF5 that follows from it."""
    stream = RangeFile(remote)
    try:
        with _file_errors(remote), _read(partial(_open_stream, stream, external_data=external_data), remote) as nwbfile:
            yield nwbfile
    finally:
        # The error holds the frames of h5py, these hold HDF5's settings, and those hold the stream. A stream that kept its
        # error would live to the end of the process, when HDF5 closes it and there is no Python left to do so.
        failure, stream.failure = stream.failure, None
        if failure is not None:
            raise failure


def _file_errors(path: Path | RemoteFile) -> FileErrors:
    """Make the context in which a file is read."""

    def known_cause(error: Exception) -> str | None:
        # HDF5 says that it cannot find a folder of plug-ins, or that a filter is not registered.
        if isinstance(error, OSError) and isinstance(path, Path) and re.search("plugin|filter", str(error)):
            missing = missing_filter_of_file(path)
            return None if missing is None else f"cannot read a part of {str(path)!r}: {missing}"
        if isinstance(path, Path) and path.is_dir() and "codec" in str(error).lower():
            missing = missing_codec_of_store(path)
            return None if missing is None else f"cannot read {str(path)!r}: {missing}"
        if isinstance(path, Path) and path.is_file() and library_of(error) in (*SCHEMA_LIBRARIES, "h5py"):
            broken = broken_reference(path)
            if broken is not None:
                return (
                    f"{str(path)!r} does not follow the NWB schema: {broken} refers to an object that is not in the "
                    "file; in a copy of the file, add that object, or remove the reference"
                )
        return None

    return FileErrors(path, explain=known_cause)


def _open_stream(stream: RangeFile, remote: RemoteFile, *, external_data: bool) -> Any:
    register_plugins()
    return _checked(h5py.File(stream, "r", rdcc_nbytes=CHUNK_CACHE), remote, external_data)


def _open_hdf5(path: Path, *, external_data: bool) -> Any:
    register_plugins()
    check_is_file(path)
    with path.open("rb"):  # raises the system's own error for a missing file or permission, which HDF5 would hide
        pass
    if not h5py.is_hdf5(path):
        raise FileError(f"{str(path)!r} is not an HDF5 file{_size(path)}, so it cannot be an NWB file")
    # A command opens a recording several times, and the search takes a fifth of a second of a large one.
    _remembered(path, _searched, lambda file: check_heaps(path))
    # Shared disks often have no locks; a reader does not need one.
    file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE, locking="best-effort")
    return _checked(file, path, external_data or read_record(path) is None)


def _checked(file: h5py.File, path: Path | RemoteFile, may_be_outside: bool) -> Any:
    try:
        # NWB 1.x stores its version in a dataset, NWB 2 in an attribute.
        version = file.attrs.get("nwb_version", file["nwb_version"][()] if "nwb_version" in file else None)
        _check_version(version, path)
        found = scan_hdf5(file)
        _check_outside(found, path, may_be_outside)
        _register_types(file.get("specifications", ()))
    except BaseException:
        file.close()
        raise
    return _closing(without_outside(NWBHDF5IO, found)(file=file, mode="r", manager=manager_of(file)), file, found)


def _register_types(namespaces: Container[str]) -> None:
    """Import the package's own types for a file that has them: this takes as long as opening it, and most have none."""
    if "ndx-sbtt" in namespaces:
        # Where it is not installed, its types are built from the definitions in the file.
        with suppress(ModuleNotFoundError):
            import ndx_sbtt  # noqa: F401


@contextmanager
def _closing(io: Any, file: Any, found: tuple[Outside, ...]) -> Iterator[tuple[Any, tuple[Outside, ...]]]:
    with file, io:
        yield io, found


def _check_outside(found: tuple[Outside, ...], path: Path | RemoteFile, allowed: bool) -> None:
    """Refuse what a file from elsewhere stores outside itself, and what no file can be read right without."""
    refuse_outside(
        path,
        [each for each in found if each.is_device()],
        why="It is not a regular file, and reading it might never end",
        remedy="copy its data into the file",
    )
    refuse_outside(
        path,
        [each for each in found if each.is_needed()],
        why="Ids, indices, intervals and type definitions must be in the file itself",
        remedy="copy them into the file",
    )
    refuse_outside(
        path,
        () if allowed else found,
        why="A downloaded file could make any file of this machine appear as its data",
        remedy="if you trust this file, allow it: --set read.external_data=true, or external_data=True in Python",
    )


def _open_zarr(path: Path, *, external_data: bool) -> Any:
    if not any((path / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata")):
        raise FileError(
            f"{str(path)!r} is a folder, but not a Zarr store; pass a file, or the folder that ends in .zarr"
        )
    try:
        import zarr
        from hdmf_zarr.nwb import NWBZarrIO
    except ModuleNotFoundError:
        raise FileError(f'{str(path)!r} is a Zarr store; to read it: pip install "nwb_sbtt[zarr]"') from None
    root = zarr.open(str(path), mode="r")
    _check_version(root.attrs.get("nwb_version"), path)
    _register_types(root.get("specifications", ()))
    found = scan_zarr(path)
    _check_outside(found, path, external_data)
    return _opened_zarr(without_outside(NWBZarrIO, found)(str(path), mode="r", load_namespaces=True), found)


@contextmanager
def _opened_zarr(io: Any, found: tuple[Outside, ...]) -> Iterator[tuple[Any, tuple[Outside, ...]]]:
    with io:
        yield io, found


@contextmanager
def _read(open_io: Callable[[Any], Any], path: Path | RemoteFile) -> Iterator[NWBFile]:
    """Read the objects of a file; if a type is missing that can be had, it is, and the file is read again."""
    tried: set[str] = set()
    found: tuple[Outside, ...] = ()
    with ExitStack() as opened:
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=CACHED_NAMESPACES)
                    io, found = opened.enter_context(open_io(path))
                    nwbfile = io.read()
                remember_outside(nwbfile, found)
                break
            except (
                BuildError,
                ConstructError,
                ContainerConfigurationError,
                KeyError,
                ValueError,
                TypeError,
                AttributeError,
            ) as error:
                opened.close()
                missing = "EventWaveform" if is_event_waveform(error) else missing_namespace(error)
                if missing is None or missing in tried:
                    refuse_outside(
                        path,
                        [each for each in found if not each.is_read()],
                        why=f"Without it the file does not follow the NWB schema: {reason_of(error)}",
                        remedy="copy it into the file",
                    )
                    raise
            if missing == "EventWaveform":
                mend_event_waveforms()
            else:
                import_extension(missing, path)
            tried.add(missing)
        yield nwbfile


def _check_version(version: object, path: Path | RemoteFile) -> None:
    if version is None:
        raise FileError(f"{str(path)!r} is not an NWB file: it has no NWB version")
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    major = re.match(r"(?:nwb-)?v?(\d{1,9})", text.strip(), flags=re.IGNORECASE)
    if major is None:
        raise FileError(f"{str(path)!r} states the NWB version {text!r}; expected numbers such as 2.9.0")
    if int(major[1]) < OLDEST:
        raise FileError(f"{str(path)!r} has NWB version {text}; expected 2.0 or later: convert the file first")


def _size(path: Path) -> str:
    return " (it is empty)" if path.stat().st_size == 0 else ""
