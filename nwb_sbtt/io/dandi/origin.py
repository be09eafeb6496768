"""What is known of a fetched file: a small JSON file beside it says which asset of which dandiset it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nwb_sbtt.atomic import write_text
from nwb_sbtt.io.dandi.address import Address
from nwb_sbtt.io.dandi.assets import Asset
from nwb_sbtt.io.dandi.digests import Digests

SUFFIX = ".dandi.json"
KEYS = ("dandiset", "version", "asset_id", "asset_path", "archive")


def facts(asset: Asset) -> dict[str, str]:
    """What of an asset travels into data, run folders and results."""
    values = (asset.dandiset, asset.version, asset.asset_id, asset.path, asset.archive)
    return {key: value for key, value in zip(KEYS, values, strict=True) if value}


def record_path(path: Path) -> Path:
    """Where the record of a file lies."""
    return path.with_name(path.name + SUFFIX)


def write_record(path: Path, asset: Asset, found: Digests) -> None:
    """Write down where a file came from, with the digests that it was found to have.

    Raises
    ------
    FileError
        If the disk is full.
    """
    digests = {"sha2-256": found.sha256, "dandi-etag": found.etag}
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    content = {**facts(asset), "size": found.size, "digests": digests, "fetched": moment}
    write_text(record_path(path), json.dumps(content, indent=2) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """Read what was written down of a file; None where there is nothing, or something else under that name."""
    try:
        content = json.loads(record_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("digests"), dict):
        return None
    return content


def origin_of(path: Path, sha256: str) -> dict[str, str]:
    """Which asset a file is; nothing where it was not fetched, or has been changed since.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the file as it is now.
    """
    record = read_record(path)
    if record is None or record["digests"].get("sha2-256") != sha256:
        return {}
    return {key: str(record[key]) for key in KEYS if key in record}


def address_of(origin: Mapping[str, str]) -> str:
    """The address of an asset with its version, from what is recorded of it."""
    return str(Address(None, origin.get("dandiset") or None, origin.get("version") or None, origin.get("asset_path")))
