"""Origin of a fetched file: a small JSON record beside it names its asset and dandiset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nwb_sbtt.atomic import write_text
from nwb_sbtt.io.dandi.address import Address
from nwb_sbtt.io.dandi.assets import Asset, Digests

SUFFIX = ".dandi.json"
KEYS = ("dandiset", "version", "asset_id", "asset_path", "archive")


def origin_fields(asset: Asset) -> dict[str, str]:
    """Return the fields that identify an asset in data, run folders and results.

    Parameters
    ----------
    asset : Asset

    Returns
    -------
    dict
        As many of `KEYS` as are not empty.
    """
    values = (asset.dandiset, asset.version, asset.asset_id, asset.path, asset.archive)
    return {key: value for key, value in zip(KEYS, values, strict=True) if value}


def record_path(path: Path) -> Path:
    """Return the path of a file's record.

    Parameters
    ----------
    path : Path
        Of the file.
    """
    return path.with_name(path.name + SUFFIX)


def write_record(path: Path, asset: Asset, digests: Digests) -> None:
    """Write the record of a file.

    Parameters
    ----------
    path : Path
        Of the file.
    asset : Asset
        That was fetched.
    digests : Digests
        Computed from the file.

    Raises
    ------
    FileError
        If the disk is full.
    """
    content = {
        **origin_fields(asset),
        "size": digests.size,
        "digests": {"sha2-256": digests.sha256, "dandi-etag": digests.etag},
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(record_path(path), json.dumps(content, indent=2) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the record of a file.

    Parameters
    ----------
    path : Path
        Of the file.

    Returns
    -------
    dict or None
        None if there is no record, or something else under its name.
    """
    try:
        content = json.loads(record_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("digests"), dict):
        return None
    return content


def origin_of(path: Path, sha256: str) -> dict[str, str]:
    """Return which asset a file is.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the file's present content.

    Returns
    -------
    dict
        Of `KEYS`; empty if the file was not fetched, or was changed afterwards.
    """
    record = read_record(path)
    if record is None or record["digests"].get("sha2-256") != sha256:
        return {}
    return {key: str(record[key]) for key in KEYS if key in record}


def address_of(origin: Mapping[str, str]) -> str:
    """Return the address of an asset, with its version.

    Parameters
    ----------
    origin : mapping
        As from `origin_of`.
    """
    return str(Address(None, origin.get("dandiset") or None, origin.get("version") or None, origin.get("asset_path")))
