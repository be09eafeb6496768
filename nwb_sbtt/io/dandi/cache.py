"""Cache of files that were fetched from archives to be read, up to a size limit."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from nwb_sbtt.errors import ConfigError, FileError
from nwb_sbtt.io.dandi.assets import Asset
from nwb_sbtt.io.dandi.downloads import fetch
from nwb_sbtt.io.dandi.origin import SUFFIX, read_record, record_path
from nwb_sbtt.io.dandi.targets import target_path
from nwb_sbtt.io.dandi.transfer import RemoteFile
from nwb_sbtt.io.progress import show_progress

FOLDER, LIMIT = "NWB_SBTT_CACHE_DIR", "NWB_SBTT_CACHE_LIMIT"
"""Environment variables."""
DEFAULT_LIMIT = "50GB"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
WRITABLE = 0o222
"""Bits of a file's mode that are taken away; who may read it is decided by the user's umask."""


@dataclass(frozen=True)
class CachedFile:
    """One file of the cache.

    Parameters
    ----------
    path : Path
    address : str
        Of its asset.
    size : int
        Bytes.
    used : datetime
        When it was last read.
    """

    path: Path
    address: str
    size: int
    used: datetime


def cache_folder() -> Path:
    """Return the folder named in ``NWB_SBTT_CACHE_DIR``, or else the platform's for caches."""
    folder = os.environ.get(FOLDER)
    return Path(folder).absolute() if folder else Path(platformdirs.user_cache_dir("nwb_sbtt")) / "dandi"


def cache_limit() -> int:
    """Return the bytes that the cache may hold: ``NWB_SBTT_CACHE_LIMIT``, such as 200GB, or else 50 GB.

    Raises
    ------
    ConfigError
        If the variable is not a size.
    """
    text = os.environ.get(LIMIT) or DEFAULT_LIMIT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{LIMIT} is {text!r}; expected a size such as {DEFAULT_LIMIT}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def cached_file(asset: Asset) -> Path | None:
    """Return the file of an asset if it is in the cache, and mark it as just used.

    Parameters
    ----------
    asset : Asset

    Returns
    -------
    Path or None

    Raises
    ------
    ArchiveError
        If the archive has no digest of the asset.
    """
    path = _cache_path(asset)
    record = read_record(path)
    if record is None or not path.is_file() or path.stat().st_size != asset.size:
        return None
    if asset.digest not in record["digests"].values():
        return None
    os.utime(record_path(path))
    return path


def fetch_cached(remote: RemoteFile) -> Path:
    """Return the cached file of an asset; if it is missing, fetch and check it, and remove the least recently used files.

    Parameters
    ----------
    remote : RemoteFile

    Returns
    -------
    Path
        Read-only.

    Raises
    ------
    ArchiveError, FileError
        As `fetch`; also if the file is larger than the limit of the cache.
    """
    asset = remote.asset
    path = cached_file(asset)
    if path is not None:
        return path
    _make_room(asset)
    path = _cache_path(asset)
    with show_progress(asset.size, label=f"downloading {asset}") as advance:
        fetch(remote, path, advance=advance)
    # Results name these files as their source, so they must not be edited.
    path.chmod(path.stat().st_mode & ~WRITABLE)
    return path


def list_cache() -> list[CachedFile]:
    """List the files of the cache, the least recently used first.

    Returns
    -------
    list of CachedFile
    """
    files = []
    for record_file in cache_folder().rglob(f"*{SUFFIX}"):
        path = record_file.with_name(record_file.name.removesuffix(SUFFIX))
        record = read_record(path)
        if record is not None and path.is_file():
            parts = (f"DANDI:{record.get('dandiset', '')}", record.get("version", ""), record.get("asset_path", ""))
            used = datetime.fromtimestamp(record_file.stat().st_mtime, tz=UTC)
            files.append(CachedFile(path, "/".join(map(str, parts)), path.stat().st_size, used))
    return sorted(files, key=lambda file: file.used)


def clear_cache() -> int:
    """Remove all files of the cache, partly fetched ones too.

    Returns
    -------
    int
        Bytes freed.

    Raises
    ------
    FileError
        If a file cannot be removed.
    """
    folder = cache_folder()
    if not folder.exists():
        return 0
    freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise FileError(f"cannot clear the cache {str(folder)!r}: {error.strerror}") from None
    return freed


def _cache_path(asset: Asset) -> Path:
    """Path by digest: an asset's id changes with its path, its digest only with its bytes."""
    return target_path(cache_folder() / (asset.dandiset or "assets") / asset.digest[:16], asset.path)


def _make_room(asset: Asset) -> None:
    limit = cache_limit()
    if asset.size > limit:
        raise FileError(
            f"{asset} has {asset.size} bytes, but the cache is limited to {limit} bytes; raise {LIMIT}, or download "
            "the file with `nwb-sbtt download` and pass the file"
        )
    files = list_cache()
    total = sum(file.size for file in files)
    for file in files:
        if total + asset.size <= limit:
            return
        file.path.unlink(missing_ok=True)
        record_path(file.path).unlink(missing_ok=True)
        total -= file.size
