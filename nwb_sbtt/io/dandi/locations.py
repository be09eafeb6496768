"""Locate a recording: on the disk, in the cache, or in an archive, from which it is streamed or fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py

from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.io.dandi.address import Address, is_address
from nwb_sbtt.io.dandi.cache import cached_file, fetch_cached
from nwb_sbtt.io.dandi.transfer import RemoteFile, find_remote_file

MIN_STREAMED_SIZE, MAX_STREAMED_SHARE = 50_000_000, 0.1
"""Smaller files (bytes), and those of which a larger share is needed, are fetched whole and checked by digest."""


def locate(path: Path | str | RemoteFile) -> Path | RemoteFile:
    """Locate a file.

    Parameters
    ----------
    path : path, address or RemoteFile

    Returns
    -------
    Path or RemoteFile
        A path on the disk or in the cache; otherwise the file in an archive.

    Raises
    ------
    ConfigError, ArchiveError, SelectionError
        If an address names no file, or several.
    """
    if not isinstance(path, RemoteFile):
        if not is_address(path):
            return path_of(path, "the file")
        path = find_remote_file(path)
    return cached_file(path.asset) or path


def locate_with_title(path: Path | str) -> tuple[Path | RemoteFile, str]:
    """Locate a file, and return its title for people.

    Parameters
    ----------
    path : path or address

    Returns
    -------
    file : Path or RemoteFile
    title : str
        Name of a file on disk; address, with the version, of a file in an archive.

    Raises
    ------
    ConfigError, ArchiveError, SelectionError
        If an address names no file, or several.
    """
    if not is_address(path):
        return path_of(path, "the file"), Path(path).name
    remote = find_remote_file(path)
    return remote, str(remote.asset)


def local_file(path: Path | str | RemoteFile) -> Path:
    """Return the path of a file on disk; what an address names is fetched into the cache if it is missing there.

    Parameters
    ----------
    path : path, address or RemoteFile

    Raises
    ------
    ConfigError, ArchiveError, SelectionError, FileError
        If an address names no file, or several, or the file cannot be fetched.
    """
    location = locate(path)
    return fetch_cached(location) if isinstance(location, RemoteFile) else location


def recorded_file(source: Mapping[str, Any]) -> Path:
    """Return the path of the file that data were read from.

    If it does not exist any more, a file from DANDI is fetched again; the path of any other file is returned as it is.

    Parameters
    ----------
    source : mapping
        As in ``attrs["source"]`` of the data.

    Raises
    ------
    ArchiveError, SelectionError, FileError
        If it has to be fetched, and cannot be.
    """
    path = Path(source["path"])
    if path.exists() or "asset_path" not in source:
        return path
    address = Address(source.get("archive"), source.get("dandiset"), source.get("version"), source["asset_path"])
    return local_file(find_remote_file(address))


def can_be_streamed(remote: RemoteFile, items: Iterable[Any]) -> bool:
    """Decide whether a file is streamed: a small share of it is needed, and the archive has its SHA-256.

    Parameters
    ----------
    remote : RemoteFile
    items : iterable of NWB objects
        That will be read, with everything in them.

    Returns
    -------
    bool
        Whether to stream it; otherwise it is fetched.
    """
    if remote.asset.sha256 is None or remote.asset.size < MIN_STREAMED_SIZE:
        return False
    return sum(_stored_bytes(item) for item in items) <= MAX_STREAMED_SHARE * remote.asset.size


def _stored_bytes(item: Any) -> int:
    """Bytes in the file of the arrays of an object and of the objects in it."""
    arrays = [value for value in item.fields.values() if isinstance(value, h5py.Dataset)]
    return sum(int(value.id.get_storage_size()) for value in arrays) + sum(
        _stored_bytes(child) for child in item.children
    )
