"""NWB files opened for reading, HDF5 and Zarr alike, with one clear line for each way in which a file can be wrong."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
from hdmf.build import BuildError, ConstructError, ContainerConfigurationError
from pynwb import NWBHDF5IO, NWBFile

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.dandi.origin import facts, origin_of
from nwb_sbtt.io.dandi.places import locate
from nwb_sbtt.io.dandi.stream import RangeFile
from nwb_sbtt.io.dandi.transfer import Source
from nwb_sbtt.io.read.digests import file_sha256

CHUNK_CACHE = 64 * 2**20
"""Bytes of HDF5's cache for each data set; the default of HDF5 holds two of the chunks that are usual in NWB files."""
CACHED_NAMESPACES = r"(?i)ignoring .*cached namespace"
"""The warning that a file brings the definitions of types along that are already known here."""


@contextmanager
def open_nwb(path: Path | str | Source) -> Iterator[NWBFile]:
    """Open an NWB file for reading; it is closed when the block ends, and what was not read by then is gone.

    Parameters
    ----------
    path : Path, str or Source
        An HDF5 file, or the folder of a Zarr store; or the address of a file on DANDI, which is streamed if it is not in
        the cache.

    Raises
    ------
    FileError
        If the file is missing, is neither HDF5 nor Zarr, is damaged, is not NWB, or is of NWB 1.x.
    ArchiveError
        If an archive cannot be reached, or refuses.
    """
    path = locate(path)
    with suppress(ModuleNotFoundError):
        import ndx_sbtt  # noqa: F401  (its import makes the types known; without it they are made from the file)
    if isinstance(path, Source):
        with _streamed(path) as nwbfile:
            yield nwbfile
        return
    with _refusals(path):
        stored = _open_zarr(path) if path.is_dir() else _open_hdf5(path)
        with stored as io:
            yield _read(io, path)


def place_facts(path: Path | Source) -> dict[str, str]:
    """Where a file lies, its name and SHA-256, and of which dandiset it is, if that is known.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    if isinstance(path, Source):
        return {"path": str(path), "name": path.name, "sha256": str(path.asset.sha256), **facts(path.asset)}
    digest = sha256(path)
    return {"path": str(path.absolute()), "name": path.name, "sha256": digest, **origin_of(path, digest)}


def sha256(path: Path | str) -> str:
    """SHA-256 of a file, or of a folder's files with their names in sorted order, as hexadecimal digits.

    That of a large file is taken once, as long as the file is left as it is; see `nwb_sbtt.io.read.digests`.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    with _refusals(path):
        if not path.is_dir():
            return file_sha256(path)
        for each in sorted(part for part in path.rglob("*") if part.is_file()):
            with each.open("rb") as file:
                own = hashlib.file_digest(file, "sha256")
            digest.update(each.relative_to(path).as_posix().encode() + b"\0" + own.digest())
    return digest.hexdigest()


@contextmanager
def _streamed(source: Source) -> Iterator[NWBFile]:
    """Open a file of an archive; where its bytes did not come, that is the error, not what it led to."""
    stream = RangeFile(source)
    try:
        with _refusals(source):
            file = h5py.File(stream, "r", rdcc_nbytes=CHUNK_CACHE)
            with _checked(file, source) as io:
                yield _read(io, source)
    finally:
        # The error that is raised knows the frames of h5py, these HDF5's settings, and those the stream: if the stream kept the
        # error, HDF5 would find a stream at the end of the process, when there is no Python left to read it.
        failure, stream.failure = stream.failure, None
        if failure is not None:
            raise failure


@contextmanager
def _refusals(path: Path | Source) -> Iterator[None]:
    """Turn the system's refusals into errors that name the file."""
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"there is no file {str(path)!r}") from None
    except PermissionError:
        raise FileError(f"no permission to read {str(path)!r}") from None
    except OSError as error:
        reason = " ".join(str(error).split())
        raise FileError(
            f"cannot read {str(path)!r}: it is damaged, incomplete or still being written ({reason}); fetch it again"
        ) from error


def _open_hdf5(path: Path) -> Any:
    with path.open("rb"):  # a missing file or permission has its own error here; HDF5's text would hide it
        pass
    if not h5py.is_hdf5(path):
        raise FileError(f"{str(path)!r} is not an HDF5 file{_size(path)}, so it cannot be an NWB file")
    # Shared disks often have no locks; a reader does not need one.
    file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE, locking="best-effort")
    return _checked(file, path)


def _checked(file: h5py.File, path: Path | Source) -> Any:
    try:
        # NWB 1.x has its version in a data set, NWB 2 in an attribute.
        version = file.attrs.get("nwb_version", file["nwb_version"][()] if "nwb_version" in file else None)
        _check_version(version, path)
    except BaseException:
        file.close()
        raise
    return _closing(NWBHDF5IO(file=file, mode="r", load_namespaces=True), file)


@contextmanager
def _closing(io: Any, file: Any) -> Iterator[Any]:
    with file, io:
        yield io


def _open_zarr(path: Path) -> Any:
    if not any((path / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata")):
        raise FileError(
            f"{str(path)!r} is a folder, but not a Zarr store; give a file, or the folder that ends in .zarr"
        )
    try:
        import zarr
        from hdmf_zarr.nwb import NWBZarrIO
    except ModuleNotFoundError:
        raise FileError(f'{str(path)!r} is a Zarr store; to read it: pip install "nwb_sbtt[zarr]"') from None
    _check_version(zarr.open(str(path), mode="r").attrs.get("nwb_version"), path)
    return NWBZarrIO(str(path), mode="r", load_namespaces=True)


def _read(io: Any, path: Path | Source) -> NWBFile:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=CACHED_NAMESPACES)
            return io.read()
    except (
        BuildError,
        ConstructError,
        ContainerConfigurationError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        # hdmf puts the whole content of the object first, and the reason last.
        reason = " ".join(str(error.args[-1] if error.args else error).split())[:300]
        raise FileError(
            f"{str(path)!r} does not follow the NWB schema: {reason}; `nwbinspector` says what is wrong with it"
        ) from error


def _check_version(version: object, path: Path | Source) -> None:
    if version is None:
        raise FileError(f"{str(path)!r} is not an NWB file: nothing in it says which version of NWB it has")
    text = version.decode() if isinstance(version, bytes) else str(version)
    if text.lower().removeprefix("nwb-").startswith(("0", "1")):
        raise FileError(f"{str(path)!r} has NWB version {text}; expected 2.0 or later: convert the file first")


def _size(path: Path) -> str:
    return " (it is empty)" if path.stat().st_size == 0 else ""
