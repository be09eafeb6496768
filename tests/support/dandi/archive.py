"""A small DANDI archive on loopback: what the dandi client asks for, the way a real server answers it.

The API and the storage behind it are two servers, as they are in the world: the API redirects to links that are signed
and expire. What goes wrong in the world can be ordered: `Archive.fail`, `cut`, `slow`, `expire_links`, and the content
of a blob may be changed behind the archive's back. Every request is kept in `Archive.requests`.

    python -m tests.support.dandi.archive FILE.nwb    # serves it as DANDI:000140/0.220113.0408, and says how to reach it
"""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from dandischema.digests.dandietag import DandiETag, PartGenerator

from tests.support.dandi.serving import Fault, Request, Servers

TOKEN = "5a0e6f2d1c7b4893a6f0e1d2c3b4a59687786950"
PERSON = "Tests, DANDI-Cli"
CONTEXT = "https://raw.githubusercontent.com/dandi/schema/master/releases/0.7.0/context.json"
OPEN, EMBARGOED = "OPEN", "EMBARGOED"


def now() -> str:
    """The moment as the archive writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def etag_of(content: bytes) -> str:
    """dandi-etag: the MD5 of the MD5s of all parts."""
    etag = DandiETag(len(content))
    for part in etag.get_parts():
        etag.update(content[part.offset : part.offset + part.size])
    return etag.as_str()


@dataclass
class Blob:
    """Bytes in the storage; size and digests are those of what was uploaded, whatever becomes of the bytes."""

    content: bytes
    etag: str
    sha256: str | None
    modified: str = field(default_factory=now)
    id: str = field(default_factory=lambda: str(uuid4()))
    size: int = -1

    def __post_init__(self) -> None:
        self.size = len(self.content)

    @property
    def key(self) -> str:
        return f"dandi-dandisets/blobs/{self.id[:3]}/{self.id[3:6]}/{self.id}"


@dataclass
class Asset:
    """A blob under a path, with metadata; one that is changed is a new one, with another id."""

    path: str
    blob: Blob
    metadata: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid4()))
    created: str = field(default_factory=now)
    modified: str = field(default_factory=now)


@dataclass
class Version:
    """A draft or a published version."""

    id: str
    name: str
    metadata: dict[str, Any]
    status: str = "Pending"
    assets: dict[str, Asset] = field(default_factory=dict)
    created: str = field(default_factory=now)
    modified: str = field(default_factory=now)


@dataclass
class Dandiset:
    """Its versions by id; the draft is always among them."""

    id: str
    versions: dict[str, Version]
    embargo: str = OPEN
    created: str = field(default_factory=now)
    modified: str = field(default_factory=now)


class Archive:
    """The archive's state, and the two servers while it is entered.

    Parameters
    ----------
    page_size : int
        Rows of a listing where the client does not say.
    digests_sha256 : bool
        Whether an upload is given its SHA-256 at once; where not, when it is published.
    """

    def __init__(self, *, page_size: int = 100, digests_sha256: bool = True) -> None:
        self.page_size, self.digests_sha256 = page_size, digests_sha256
        self.token = TOKEN
        self.dandisets: dict[str, Dandiset] = {}
        self.blobs: dict[str, Blob] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.link_key = uuid4().hex
        self.link_seconds = 21600
        self.lock = threading.RLock()
        self._servers = Servers(self)

    def __enter__(self) -> Self:
        self._servers.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.stop()

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self._servers.api_port}/api"

    @property
    def storage(self) -> str:
        """Address of the storage."""
        return f"http://127.0.0.1:{self._servers.storage_port}"

    @property
    def name(self) -> str:
        """What the dandi client calls this instance; it looks for the key in NAME_API_KEY."""
        return f"127.0.0.1:{self._servers.api_port}"

    def add(self, dandiset: str, path: str, content: bytes, *, metadata: dict[str, Any] | None = None) -> Asset:
        """Put a file into the draft of a dandiset, which is made if it is not there."""
        if dandiset not in self.dandisets:
            self.create(dandiset)
        return self.new_asset(self.dandisets[dandiset].versions["draft"], path, self.keep(content), metadata or {})

    def create(self, identifier: str | None = None, *, name: str = "sample", embargoed: bool = False) -> Dandiset:
        """Make an empty dandiset."""
        identifier = identifier or f"{len(self.dandisets) + 1:06d}"
        metadata = {"name": name, "schemaKey": "Dandiset", "schemaVersion": "0.7.0", "description": "x"}
        draft = Version("draft", name, metadata)
        made = Dandiset(identifier, {"draft": draft}, EMBARGOED if embargoed else OPEN)
        self.dandisets[identifier] = made
        return made

    def publish(self, dandiset: str, version: str) -> None:
        """Freeze the draft under a version's name; digests that are missing are there by then."""
        draft = self.dandisets[dandiset].versions["draft"]
        draft.status = "Published"
        for asset in draft.assets.values():
            asset.blob.sha256 = asset.blob.sha256 or hashlib.sha256(asset.blob.content).hexdigest()
        frozen = Version(version, draft.name, draft.metadata, "Valid", dict(draft.assets))
        self.dandisets[dandiset].versions[version] = frozen

    def keep(self, content: bytes) -> Blob:
        """Store bytes; the same bytes are the same blob."""
        etag = etag_of(content)
        blob = next((stored for stored in self.blobs.values() if stored.etag == etag), None)
        if blob is None:
            digest = hashlib.sha256(content).hexdigest() if self.digests_sha256 else None
            blob = Blob(content, etag, digest)
            self.blobs[blob.id] = blob
        return blob

    def new_asset(self, version: Version, path: str, blob: Blob, metadata: dict[str, Any]) -> Asset:
        """Add an asset to a draft."""
        asset = Asset(path, blob, {**metadata, "path": path})
        version.assets[asset.id] = asset
        version.modified, version.status = now(), "Valid"
        return asset

    def replace(self, dandiset: str, path: str, content: bytes) -> Asset:
        """Change what lies under a path of the draft: another asset id, and the old one is gone."""
        draft = self.dandisets[dandiset].versions["draft"]
        old = next(asset for asset in draft.assets.values() if asset.path == path)
        del draft.assets[old.id]
        return self.new_asset(draft, path, self.keep(content), old.metadata)

    def fail(self, status: int, *, times: int = 1, on: str = "", retry_after: object = None) -> None:
        """Answer the next requests whose "api GET /path" contains `on` with an error."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.faults.append(Fault(on=on, times=times, status=status, headers=headers))

    def cut(self, share: float, *, times: int = 1, on: str = "storage GET") -> None:
        """Close the connection after that share of the body."""
        self.faults.append(Fault(on=on, times=times, cut=share))

    def slow(self, seconds: float, *, times: int = 1, on: str = "storage GET") -> None:
        """Wait before the answer."""
        self.faults.append(Fault(on=on, times=times, wait=seconds))

    def expire_links(self) -> None:
        """All links given out so far are refused from now on."""
        self.link_key = uuid4().hex

    def count(self, text: str = "") -> int:
        """Requests so far whose "api GET /path" contains a text."""
        return sum(text in str(request) for request in self.requests)

    def sent(self, text: str = "storage GET") -> int:
        """Bytes of the bodies that were sent in answer to such requests."""
        return sum(request.sent for request in self.requests if text in str(request))

    def find_asset(self, asset_id: str) -> tuple[Dandiset, Asset] | None:
        """An asset of any version, and the dandiset it is in."""
        for dandiset in self.dandisets.values():
            for version in dandiset.versions.values():
                if asset_id in version.assets:
                    return dandiset, version.assets[asset_id]
        return None

    # What stands in the bodies.

    def describe_dandiset(self, dandiset: Dandiset, *, short: bool = False) -> dict[str, Any]:
        about = {
            "identifier": dandiset.id,
            "created": dandiset.created,
            "modified": dandiset.modified,
            "contact_person": PERSON,
            "embargo_status": dandiset.embargo,
            "star_count": 0,
            "is_starred": False,
        }
        if short:
            return about
        published = [version for version in dandiset.versions.values() if version.id != "draft"]
        newest = max(published, key=lambda version: version.created, default=None)
        return about | {
            "most_recent_published_version": newest and self.describe_version(newest),
            "draft_version": self.describe_version(dandiset.versions["draft"]),
        }

    def describe_version(self, version: Version) -> dict[str, Any]:
        return {
            "version": version.id,
            "name": version.name,
            "asset_count": len(version.assets),
            "active_uploads": 0,
            "size": sum(asset.blob.size for asset in version.assets.values()),
            "status": version.status,
            "created": version.created,
            "modified": version.modified,
            "release_notes": "",
        }

    def version_info(self, dandiset: Dandiset, version: Version) -> dict[str, Any]:
        return {
            **self.describe_version(version),
            "dandiset": self.describe_dandiset(dandiset, short=True),
            "asset_validation_errors": [],
            "version_validation_errors": [],
            "metadata": self.version_metadata(dandiset, version),
            "contact_person": PERSON,
        }

    def version_metadata(self, dandiset: Dandiset, version: Version) -> dict[str, Any]:
        return {
            "id": f"DANDI:{dandiset.id}/{version.id}",
            "url": f"http://127.0.0.1:1/dandiset/{dandiset.id}/{version.id}",
            "access": [self._access(dandiset)],
            "license": ["spdx:CC0-1.0"],
            "version": version.id,
            "@context": CONTEXT,
            "citation": f"{version.name} (Version {version.id}) [Data set]. DANDI Archive.",
            "identifier": f"DANDI:{dandiset.id}",
            "repository": "http://127.0.0.1:1",
            "contributor": [{"name": PERSON, "schemaKey": "Person", "email": "nemo@example.com", "roleName": []}],
            "dateCreated": dandiset.created,
            "assetsSummary": {"schemaKey": "AssetsSummary", "numberOfBytes": 0, "numberOfFiles": 0},
            "manifestLocation": [f"{self.url}/dandisets/{dandiset.id}/versions/{version.id}/assets/"],
            **version.metadata,
        }

    def describe_asset(self, dandiset: Dandiset, asset: Asset, *, metadata: bool = False) -> dict[str, Any]:
        row = {
            "asset_id": asset.id,
            "blob": asset.blob.id,
            "zarr": None,
            "path": asset.path,
            "size": asset.blob.size,
            "created": asset.created,
            "modified": asset.modified,
        }
        return {**row, "metadata": self.asset_metadata(dandiset, asset)} if metadata else row

    def asset_metadata(self, dandiset: Dandiset, asset: Asset) -> dict[str, Any]:
        sha256 = {"dandi:sha2-256": asset.blob.sha256} if asset.blob.sha256 else {}
        return {
            "schemaKey": "Asset",
            "schemaVersion": "0.7.0",
            "encodingFormat": "application/x-nwb",
            **asset.metadata,
            "id": f"dandiasset:{asset.id}",
            "access": [self._access(dandiset)],
            "identifier": asset.id,
            "contentUrl": [f"{self.url}/assets/{asset.id}/download/", f"{self.storage}/{asset.blob.key}"],
            "contentSize": asset.blob.size,
            "digest": {"dandi:dandi-etag": asset.blob.etag, **sha256},
            "@context": CONTEXT,
        }

    def select(self, version: Version, query: dict[str, str]) -> list[Asset]:
        """Assets by the beginning of their path, or by a glob in which `*` crosses folders."""
        chosen = sorted(version.assets.values(), key=lambda asset: asset.created)
        if "path" in query:
            chosen = [asset for asset in chosen if asset.path.startswith(query["path"])]
        if "glob" in query:
            chosen = [asset for asset in chosen if fnmatchcase(asset.path, query["glob"])]
        return chosen

    def plan_parts(self, size: int) -> list[Any]:
        """Parts that an upload of that size comes in."""
        return list(PartGenerator.for_file_size(size))

    def _access(self, dandiset: Dandiset) -> dict[str, str]:
        status = "dandi:OpenAccess" if dandiset.embargo == OPEN else "dandi:EmbargoedAccess"
        return {"schemaKey": "AccessRequirements", "status": status}


def main() -> None:
    """Serve a file until interrupted."""
    path = Path(sys.argv[1])
    with Archive() as archive:
        archive.add("000140", f"sub-Jenkins/{path.name}", path.read_bytes())
        archive.publish("000140", "0.220113.0408")
        archive.create("000999", name="where results go")
        print(f"export DANDI_NO_ET=1 DANDI_INSTANCE={archive.url}", flush=True)
        key = f"'{archive.name}_API_KEY={archive.token}'"  # a name that a shell takes in `env` only
        print(f"env {key} nwb-sbtt upload RESULT.nwb --dandiset 000999", flush=True)
        print(f"env {key} jupyter lab tutorials/06_dandi.ipynb  # with dandiset = '000999'", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
