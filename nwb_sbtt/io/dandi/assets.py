"""Files of a dandiset: list them, and identify their bytes by size and digests."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nwb_sbtt.errors import ArchiveError, SelectionError
from nwb_sbtt.io.dandi.address import DRAFT, Address
from nwb_sbtt.io.dandi.client import NoSuchItemError, archive_name, call_archive, connect

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient

EXAMPLES = 5
"""Paths named in an error."""
READ_BYTES = 1 << 20
"""Bytes read at once."""
ETAG, SHA256 = "dandi:dandi-etag", "dandi:sha2-256"
"""Names of an asset's digests in its metadata."""
_FORMS = {ETAG: re.compile("[0-9a-f]{32}-[0-9]{1,5}"), SHA256: re.compile("[0-9a-f]{64}")}


@dataclass(frozen=True)
class Digests:
    """Size and digests of a file.

    Parameters
    ----------
    size : int
        Bytes.
    etag : str
        dandi-etag.
    sha256 : str
    """

    size: int
    etag: str
    sha256: str


@dataclass(frozen=True)
class Asset:
    """One file, as an archive describes it.

    Parameters
    ----------
    archive : str
        Address of the archive's API.
    dandiset, version : str
        Empty where only the asset's id was given.
    asset_id : str
        Changes with the file, and with its path.
    path : str
        Within the dandiset.
    size : int
        Bytes.
    etag, sha256 : str or None
        dandi-etag and SHA-256; a fresh draft may have the first only.
    zarr : bool
        Whether it is a folder of many objects.
    """

    archive: str
    dandiset: str
    version: str
    asset_id: str
    path: str
    size: int
    etag: str | None = None
    sha256: str | None = None
    zarr: bool = False

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def digest(self) -> str:
        """SHA-256, or else the dandi-etag.

        Raises
        ------
        ArchiveError
            If the archive has neither, so that a file could not be checked.
        """
        digest = self.sha256 or self.etag
        if digest is None:
            raise ArchiveError(f"the archive has no digest of {self} yet, so it cannot be checked; try again later")
        return digest

    def difference(self, digests: Digests) -> str | None:
        """Compare a file with this asset.

        Parameters
        ----------
        digests : Digests
            Of the file.

        Returns
        -------
        str or None
            The first difference, in words; None if there is none.
        """
        expected = (("size", self.size), ("sha2-256", self.sha256), ("dandi-etag", self.etag))
        for (name, value), actual in zip(expected, (digests.size, digests.sha256, digests.etag), strict=True):
            if value is not None and value != actual:
                return f"its {name} is {actual}, that of the archive {value}"
        return None

    def __str__(self) -> str:
        return str(Address(None, self.dandiset or None, self.version or None, self.path))


@dataclass(frozen=True)
class Selection:
    """Files that an address names, of one version of one dandiset.

    Parameters
    ----------
    client : DandiAPIClient
        The archive.
    dandiset, version : str
    assets : tuple of Asset
        Sorted by path.
    newest : bool
        Whether the address names no version, so that this is the newest published one.
    """

    client: DandiAPIClient
    dandiset: str
    version: str
    assets: tuple[Asset, ...]
    newest: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(asset.size for asset in self.assets)

    def __str__(self) -> str:
        named = str(Address(None, self.dandiset, self.version)) if self.dandiset else "one asset"
        return f"{named} (the newest published version)" if self.newest else named


def digests_of(path: Path) -> Digests:
    """Compute both digests of a file, reading it once.

    A dandi-etag is the MD5 of the MD5s of the parts that a file is uploaded in, with their number; dandischema defines the
    parts.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Digests
    """
    from dandischema.digests.dandietag import PartGenerator

    size = path.stat().st_size
    sha256, parts, n_parts = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        for part in PartGenerator.for_file_size(size):
            md5, left = hashlib.md5(usedforsecurity=False), part.size
            while left > 0 and (block := file.read(min(READ_BYTES, left))):
                md5.update(block)
                sha256.update(block)
                left -= len(block)
            parts.update(md5.digest())
            n_parts += 1
    return Digests(size, f"{parts.hexdigest()}-{n_parts}", sha256.hexdigest())


def find_assets(address: Address) -> Selection:
    """List the files that an address names.

    Parameters
    ----------
    address : Address

    Returns
    -------
    Selection

    Raises
    ------
    ConfigError
        If there is no archive of that name.
    ArchiveError
        If the archive cannot be reached, or has no such dandiset or version; if nothing was published and the address
        does not name the draft.
    SelectionError
        If no file matches.
    """
    client = connect(address.instance)
    if address.asset_id is not None:
        return _select_asset(client, address)
    assert address.dandiset is not None
    pinned = address if address.version is not None else replace(address, version=_newest(client, address.dandiset))
    query = {"path": pinned.path} if pinned.path else {"glob": pinned.glob} if pinned.glob else {}
    try:
        rows = _list(client, pinned, query)
    except NoSuchItemError:
        raise _no_version(client, pinned) from None
    assets = [_asset(client, row, pinned) for row in rows if _is_selected(row["path"], pinned.path)]
    if not assets:
        raise _no_match(client, pinned)
    assets.sort(key=lambda asset: asset.path)
    assert pinned.dandiset is not None and pinned.version is not None
    return Selection(client, pinned.dandiset, pinned.version, tuple(assets), newest=address.version is None)


def _newest(client: DandiAPIClient, dandiset: str) -> str:
    """Newest published version. Without one, the client itself would take the draft unasked."""
    remote = client.get_dandiset(dandiset)
    newest = call_archive(
        client, lambda: remote.most_recent_published_version, message=f"DANDI:{dandiset} cannot be read"
    )
    if newest is None:
        raise ArchiveError(
            f"DANDI:{dandiset} has no published version; its draft, which may change at any time, is DANDI:{dandiset}/{DRAFT}"
        )
    return str(newest.identifier)


def _list(client: DandiAPIClient, address: Address, query: dict[str, str]) -> list[dict[str, Any]]:
    remote = client.get_dandiset(str(address.dandiset), address.version)
    return call_archive(
        client,
        lambda: list(client.paginate(f"{remote.version_api_path}assets/", params={"metadata": "true", **query})),
        message=f"{replace(address, path=None)} cannot be read",
    )


def _select_asset(client: DandiAPIClient, address: Address) -> Selection:
    message = f"the asset {address.asset_id} cannot be read"
    row = call_archive(client, lambda: client.get(f"/assets/{address.asset_id}/info/"), message=message)
    return Selection(client, address.dandiset or "", address.version or "", (_asset(client, row, address),))


def _asset(client: DandiAPIClient, row: dict[str, Any], address: Address) -> Asset:
    metadata = row.get("metadata")
    if metadata is None:
        message = f"{row['path']!r} cannot be read"
        metadata = call_archive(client, lambda: client.get(f"/assets/{row['asset_id']}/"), message=message)
    digests = metadata.get("digest") or {}
    for name, form in _FORMS.items():
        # They become parts of paths.
        if (digest := digests.get(name)) is not None and not (isinstance(digest, str) and form.fullmatch(digest)):
            raise ArchiveError(
                f"{archive_name(client)} has {digest!r} as {name} of {row['path']!r}; expected hexadecimal digits"
            )
    return Asset(
        archive=client.api_url.rstrip("/"),
        dandiset=address.dandiset or "",
        version=address.version or "",
        asset_id=row["asset_id"],
        path=row["path"],
        size=int(row["size"]),
        etag=digests.get(ETAG),
        sha256=digests.get(SHA256),
        zarr=row.get("zarr") is not None,
    )


def _is_selected(path: str, selected: str | None) -> bool:
    """Whether a path is the file or in the folder selected; the archive also lists others that begin alike."""
    return selected is None or path == selected or path.startswith(selected.rstrip("/") + "/")


def _no_version(client: DandiAPIClient, address: Address) -> ArchiveError:
    remote = client.get_dandiset(str(address.dandiset))
    message = f"DANDI:{address.dandiset} cannot be read"
    versions = [
        version.identifier for version in call_archive(client, lambda: list(remote.get_versions()), message=message)
    ]
    return ArchiveError(f"DANDI:{address.dandiset} has no version {address.version!r}; it has {', '.join(versions)}")


def _no_match(client: DandiAPIClient, address: Address) -> SelectionError:
    rows = _list(client, address, {}) if address.path or address.glob else []
    dandiset = replace(address, path=None)
    if not rows:
        return SelectionError(f"{dandiset} on {archive_name(client)} has no files; choose another dandiset or version")
    names = [repr(row["path"]) for row in rows]
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return SelectionError(
        f"no file of {dandiset} matches {address.path or address.glob!r}; it has {', '.join(names[:EXAMPLES])}{more}"
    )
