"""Where a recording lies: on the disk, or in an archive, from which it is streamed or fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py

from nwb_sbtt.io.dandi.address import Address, is_address
from nwb_sbtt.io.dandi.cache import cached_file, fetch_cached
from nwb_sbtt.io.dandi.downloads import resolve
from nwb_sbtt.io.dandi.transfer import Source

SMALL, SHARE = 50_000_000, 0.1
"""Smaller files (bytes), and those of which more than this share is needed, are fetched whole, and can then be checked."""


def locate(path: Path | str | Source) -> Path | Source:
    """A file of the disk or of the cache; otherwise the file of the archive that an address names.

    Raises
    ------
    ConfigError, ArchiveError, SelectionError
        If an address names no file, or several.
    """
    if not isinstance(path, Source):
        if not is_address(path):
            return Path(path)
        path = resolve(path)
    return cached_file(path.asset) or path


def named(path: Path | str) -> tuple[Path | Source, str]:
    """What is meant, and its name: of a file of the disk its own, of one in an archive its address with the version.

    Raises
    ------
    ConfigError, ArchiveError, SelectionError
        If an address names no file, or several.
    """
    if not is_address(path):
        return Path(path), Path(path).name
    source = resolve(path)
    return source, str(source.asset)


def local_file(path: Path | str | Source) -> Path:
    """A file of the disk: what an address names is fetched into the cache if it is not there.

    Raises
    ------
    ConfigError, ArchiveError, SelectionError, FileError
        If an address names no file, or several, or the file cannot be fetched.
    """
    place = locate(path)
    return fetch_cached(place) if isinstance(place, Source) else place


def recorded_file(source: Mapping[str, Any]) -> Path:
    """The file that data were read from, as `source` of their attributes says; one of DANDI that is gone is fetched again.

    The file may not be there: only what came from DANDI can be asked for.

    Raises
    ------
    ArchiveError, SelectionError, FileError
        If it has to be fetched, and cannot be.
    """
    path = Path(source["path"])
    if path.exists() or "asset_path" not in source:
        return path
    address = Address(source.get("archive"), source.get("dandiset"), source.get("version"), source["asset_path"])
    return local_file(resolve(address))


def can_be_streamed(source: Source, items: Iterable[Any]) -> bool:
    """Whether so little of a file is needed that it is not worth fetching, and its digest is known without that.

    Parameters
    ----------
    source : Source
    items : iterable of NWB objects
        That will be read, with all they hold.
    """
    if source.asset.sha256 is None or source.asset.size < SMALL:
        return False
    return sum(_stored_bytes(item) for item in items) <= SHARE * source.asset.size


def _stored_bytes(item: Any) -> int:
    """Bytes that the arrays of an object and of the objects in it take in the file."""
    own = [value for value in item.fields.values() if isinstance(value, h5py.Dataset)]
    return sum(int(value.id.get_storage_size()) for value in own) + sum(_stored_bytes(child) for child in item.children)
