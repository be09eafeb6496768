"""The files of a dandiset: which there are, how large, and the digests by which their bytes are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from nwb_sbtt.errors import ArchiveError, SelectionError
from nwb_sbtt.io.dandi.address import DRAFT, Address
from nwb_sbtt.io.dandi.client import NotThereError, ask, connect, place
from nwb_sbtt.io.dandi.digests import Digests

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient

EXAMPLES = 5


@dataclass(frozen=True)
class Asset:
    """One file as an archive describes it.

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
        """The strongest digest known.

        Raises
        ------
        ArchiveError
            If there is none, so that nothing could be checked.
        """
        digest = self.sha256 or self.etag
        if digest is None:
            raise ArchiveError(f"the archive has no digest of {self} yet, so it cannot be checked; try again later")
        return digest

    def unlike(self, found: Digests) -> str | None:
        """Say how a file differs from this one; None where it does not."""
        known = (("size", self.size), ("sha2-256", self.sha256), ("dandi-etag", self.etag))
        for (name, expected), got in zip(known, (found.size, found.sha256, found.etag), strict=True):
            if expected is not None and expected != got:
                return f"its {name} is {got}, the archive says {expected}"
        return None

    def __str__(self) -> str:
        return str(Address(None, self.dandiset or None, self.version or None, self.path))


@dataclass(frozen=True)
class Selection:
    """Files that were asked for, of one version of one dandiset.

    Parameters
    ----------
    client : DandiAPIClient
        The archive.
    dandiset, version : str
    assets : tuple of Asset
        Sorted by path.
    newest : bool
        Whether no version was named, so that the newest published one was taken.
    """

    client: DandiAPIClient
    dandiset: str
    version: str
    assets: tuple[Asset, ...]
    newest: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(asset.size for asset in self.assets)

    def __str__(self) -> str:
        named = str(Address(None, self.dandiset, self.version)) if self.dandiset else "one asset"
        return f"{named} (the newest published version)" if self.newest else named


def find_assets(address: Address) -> Selection:
    """Ask an archive for the files that an address means.

    Raises
    ------
    ArchiveError
        If the archive cannot be reached, or has no such dandiset or version; if nothing was published and the draft was
        not asked for.
    SelectionError
        If no file matches.
    """
    client = connect(address.instance)
    if address.asset_id is not None:
        return _one(client, address)
    assert address.dandiset is not None
    pinned = address if address.version is not None else replace(address, version=_newest(client, address.dandiset))
    query = {"path": pinned.path} if pinned.path else {"glob": pinned.glob} if pinned.glob else {}
    try:
        rows = _list(client, pinned, query)
    except NotThereError:
        raise _no_version(client, pinned) from None
    chosen = [_asset(client, row, pinned) for row in rows if _is_meant(row["path"], pinned.path)]
    if not chosen:
        raise _nothing_matches(client, pinned)
    chosen.sort(key=lambda asset: asset.path)
    assert pinned.dandiset is not None and pinned.version is not None
    return Selection(client, pinned.dandiset, pinned.version, tuple(chosen), newest=address.version is None)


def _newest(client: DandiAPIClient, dandiset: str) -> str:
    """Newest published version. The client would quietly take the draft where there is none."""
    found = client.get_dandiset(dandiset)
    newest = ask(client, lambda: found.most_recent_published_version, what=f"DANDI:{dandiset} cannot be read")
    if newest is None:
        raise ArchiveError(
            f"DANDI:{dandiset} has no published version; its draft, which may change at any time, is DANDI:{dandiset}/{DRAFT}"
        )
    return str(newest.identifier)


def _list(client: DandiAPIClient, address: Address, query: dict[str, str]) -> list[dict[str, Any]]:
    found = client.get_dandiset(str(address.dandiset), address.version)
    return ask(
        client,
        lambda: list(client.paginate(f"{found.version_api_path}assets/", params={"metadata": "true", **query})),
        what=f"{replace(address, path=None)} cannot be read",
    )


def _one(client: DandiAPIClient, address: Address) -> Selection:
    what = f"the asset {address.asset_id} cannot be read"
    row = ask(client, lambda: client.get(f"/assets/{address.asset_id}/info/"), what=what)
    return Selection(client, address.dandiset or "", address.version or "", (_asset(client, row, address),))


def _asset(client: DandiAPIClient, row: dict[str, Any], address: Address) -> Asset:
    metadata = row.get("metadata")
    if metadata is None:
        what = f"{row['path']!r} cannot be read"
        metadata = ask(client, lambda: client.get(f"/assets/{row['asset_id']}/"), what=what)
    digests = metadata.get("digest") or {}
    return Asset(
        archive=client.api_url.rstrip("/"),
        dandiset=address.dandiset or "",
        version=address.version or "",
        asset_id=row["asset_id"],
        path=row["path"],
        size=int(row["size"]),
        etag=digests.get("dandi:dandi-etag"),
        sha256=digests.get("dandi:sha2-256"),
        zarr=row.get("zarr") is not None,
    )


def _is_meant(path: str, wanted: str | None) -> bool:
    """The archive goes by the beginning of the path; a file or a folder is meant."""
    return wanted is None or path == wanted or path.startswith(wanted.rstrip("/") + "/")


def _no_version(client: DandiAPIClient, address: Address) -> ArchiveError:
    found = client.get_dandiset(str(address.dandiset))
    what = f"DANDI:{address.dandiset} cannot be read"
    versions = [version.identifier for version in ask(client, lambda: list(found.get_versions()), what=what)]
    return ArchiveError(f"DANDI:{address.dandiset} has no version {address.version!r}; it has {', '.join(versions)}")


def _nothing_matches(client: DandiAPIClient, address: Address) -> SelectionError:
    rows = _list(client, address, {}) if address.path or address.glob else []
    whole = replace(address, path=None)
    if not rows:
        return SelectionError(f"{whole} on {place(client)} holds no files")
    names = [repr(row["path"]) for row in rows]
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return SelectionError(
        f"no file of {whole} matches {address.path or address.glob!r}; it holds {', '.join(names[:EXAMPLES])}{more}"
    )
