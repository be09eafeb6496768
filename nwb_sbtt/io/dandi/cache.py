"""Files of archives that were fetched to be read, kept for the next time up to a limit."""

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
from nwb_sbtt.io.dandi.fetching import fetch
from nwb_sbtt.io.dandi.origin import SUFFIX, read_record, record_path
from nwb_sbtt.io.dandi.progress import shown
from nwb_sbtt.io.dandi.targets import target_of
from nwb_sbtt.io.dandi.transfer import Source

FOLDER, LIMIT = "NWB_SBTT_CACHE_DIR", "NWB_SBTT_CACHE_LIMIT"
"""Names in the environment."""
USUAL_LIMIT = "50GB"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
READ_ONLY = 0o444


@dataclass(frozen=True)
class Cached:
    """One file of the cache.

    Parameters
    ----------
    path : Path
    address : str
        Which file of which dandiset it is.
    size : int
        Bytes.
    used : datetime
        Last time that it was asked for.
    """

    path: Path
    address: str
    size: int
    used: datetime


def cache_folder() -> Path:
    """The platform's folder for caches, or that of ``NWB_SBTT_CACHE_DIR``."""
    given = os.environ.get(FOLDER)
    return Path(given).absolute() if given else Path(platformdirs.user_cache_dir("nwb_sbtt")) / "dandi"


def cache_limit() -> int:
    """Bytes that the cache may hold: ``NWB_SBTT_CACHE_LIMIT``, such as 200GB, or 50 GB.

    Raises
    ------
    ConfigError
        If what is set is not a size.
    """
    text = os.environ.get(LIMIT) or USUAL_LIMIT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{LIMIT} is {text!r}; expected a size such as {USUAL_LIMIT}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def cached_file(asset: Asset) -> Path | None:
    """The file of an asset, if it is in the cache; it then counts as just used."""
    path = _place(asset)
    record = read_record(path)
    if record is None or not path.is_file() or path.stat().st_size != asset.size:
        return None
    if asset.digest not in record["digests"].values():
        return None
    os.utime(record_path(path))
    return path


def fetch_cached(source: Source) -> Path:
    """Give the file of an asset, fetched and checked if it was not there; files used longest ago make room for it.

    Raises
    ------
    ArchiveError, FileError
        As `fetch`; also if the file is larger than the whole cache may be.
    """
    asset = source.asset
    known = cached_file(asset)
    if known is not None:
        return known
    _make_room(asset)
    path = _place(asset)
    with shown(asset.size, label=f"fetching {asset}") as told:
        fetch(source, path, told=told)
    # Results name these files as their source: nobody should edit them.
    path.chmod(READ_ONLY)
    return path


def list_cache() -> list[Cached]:
    """Files of the cache, the one used longest ago first."""
    found = []
    for record_file in cache_folder().rglob(f"*{SUFFIX}"):
        path = record_file.with_name(record_file.name.removesuffix(SUFFIX))
        record = read_record(path)
        if record is not None and path.is_file():
            parts = (f"DANDI:{record.get('dandiset', '')}", record.get("version", ""), record.get("asset_path", ""))
            used = datetime.fromtimestamp(record_file.stat().st_mtime, tz=UTC)
            found.append(Cached(path, "/".join(map(str, parts)), path.stat().st_size, used))
    return sorted(found, key=lambda each: each.used)


def clear_cache() -> int:
    """Remove everything, half-fetched files too; gives the bytes that were freed.

    Raises
    ------
    FileError
        If something cannot be removed.
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


def _place(asset: Asset) -> Path:
    """By digest and path: an asset's id changes with its path, its digest only with its bytes."""
    return target_of(cache_folder() / (asset.dandiset or "assets") / asset.digest[:16], asset.path)


def _make_room(asset: Asset) -> None:
    limit = cache_limit()
    if asset.size > limit:
        raise FileError(
            f"{asset} has {asset.size} bytes, and the cache may hold {limit}; raise {LIMIT}, or fetch it with "
            "`nwb-sbtt download` and give the file"
        )
    kept = list_cache()
    total = sum(each.size for each in kept)
    for each in kept:
        if total + asset.size <= limit:
            return
        each.path.unlink(missing_ok=True)
        record_path(each.path).unlink(missing_ok=True)
        total -= each.size
