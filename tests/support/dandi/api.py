"""The API of the loopback archive: which request gets which answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from tests.support.dandi.serving import Answer, Request
from tests.support.dandi.storage import XML, signed

if TYPE_CHECKING:
    from tests.support.dandi.archive import Archive

NOT_FOUND = {"detail": "Not found."}

ID, VERSION, ASSET = r"(?P<dandiset>\d{6})", r"(?P<version>draft|\d+\.\d+\.\d+)", r"(?P<asset>[^/]+)"
WITHIN = f"/api/dandisets/{ID}/versions/{VERSION}/"
Route = tuple[str, str, Callable[..., Answer]]


def answer_api(archive: Archive, request: Request, body: bytes) -> Answer:
    """Find the route; see whether the caller may; let it answer."""
    if request.path == "/server-info":
        return Answer(404, "<html><body><h1>Not Found</h1></body></html>")
    if request.path == "/api/auth/token":
        return Answer(301, b"", {"Location": "/api/auth/token/"})
    authorization = request.headers.get("Authorization")
    if authorization is not None and authorization != f"token {archive.token}":
        return Answer(401, {"detail": "Invalid token."})
    for method, pattern, act in ROUTES:
        match = re.fullmatch(pattern, request.path)
        if match is None or method != request.method.replace("HEAD", "GET"):
            continue
        refused = _refusal(archive, match.groupdict(), may=authorization is not None, writes=method != "GET")
        if refused is not None:
            return refused
        content = json.loads(body) if body else {}
        return act(archive, request, content, **match.groupdict())
    return Answer(404, NOT_FOUND)


def _refusal(archive: Archive, named: dict[str, str], *, may: bool, writes: bool) -> Answer | None:
    dandiset = archive.dandisets.get(named.get("dandiset", ""))
    if "asset" in named:
        try:
            UUID(named["asset"], version=4)
        except ValueError:
            return Answer(404, NOT_FOUND)
        owner_and_asset = archive.find_asset(named["asset"])
        dandiset = owner_and_asset[0] if owner_and_asset else dandiset
    if not may and (writes or (dandiset is not None and dandiset.embargo != "OPEN")):
        return Answer(401, {"detail": "Authentication credentials were not provided."})
    if "dandiset" in named and (dandiset is None or named.get("version", "draft") not in dandiset.versions):
        return Answer(404, NOT_FOUND)
    if "asset" in named:
        version = dandiset.versions[named["version"]] if "version" in named and dandiset else None
        if archive.find_asset(named["asset"]) is None or (version and named["asset"] not in version.assets):
            return Answer(404, NOT_FOUND)
    return None


def _page(archive: Archive, request: Request, rows: list[Any]) -> Answer:
    size, page = int(request.query.get("page_size", archive.page_size)), int(request.query.get("page", 1))
    pages = max(1, -(-len(rows) // size))
    if page > pages:
        return Answer(404, {"detail": "Invalid page."})
    base = f"{archive.url.removesuffix('/api')}{request.path}"

    def link(number: int) -> str:
        query = {name: value for name, value in request.query.items() if name != "page"}
        query = query if number == 1 else {**query, "page": str(number)}
        return f"{base}?{urlencode(sorted(query.items()))}" if query else base

    return Answer(
        200,
        {
            "count": len(rows) if page == 1 else None,
            "next": link(page + 1) if page < pages else None,
            "previous": link(page - 1) if page > 1 else None,
            "results": rows[(page - 1) * size : page * size],
        },
    )


def _info(archive: Archive, request: Request, content: Any) -> Answer:
    services = {"api": {"url": archive.url}, "webui": {"url": "http://127.0.0.1:1"}}
    allowed = ["0.4.4", "0.5.1", "0.5.2", "0.6.0", *(f"0.6.{i}" for i in range(1, 11)), "0.7.0"]
    return Answer(
        200,
        {
            "instance_config": {"instance_name": "DANDI", "instance_url": "http://127.0.0.1:1/"},
            "schema_version": "0.7.0",
            "schema_url": f"{archive.url}/schemas/?model=Dandiset",
            "allowed_schema_versions": allowed,
            "version": "0.0.1",
            "services": services,
            "cli-minimal-version": "0.74.0",
            "cli-requires-python": ">=3.10",
            "cli-bad-versions": [],
        },
    )


def _token(archive: Archive, request: Request, content: Any) -> Answer:
    if "Authorization" not in request.headers:
        return Answer(401, {"detail": "Authentication credentials were not provided."})
    return Answer(200, archive.token)


def _create_dandiset(archive: Archive, request: Request, content: Any) -> Answer:
    made = archive.create(name=content["name"], embargoed=request.query.get("embargo") == "true")
    made.versions["draft"].metadata |= content["metadata"]
    return Answer(200, archive.describe_dandiset(made))


def _dandisets(archive: Archive, request: Request, content: Any) -> Answer:
    visible = [stored for stored in archive.dandisets.values() if stored.embargo == "OPEN"]
    return _page(archive, request, [archive.describe_dandiset(stored) for stored in visible])


def _dandiset(archive: Archive, request: Request, content: Any, dandiset: str) -> Answer:
    return Answer(200, archive.describe_dandiset(archive.dandisets[dandiset]))


def _versions(archive: Archive, request: Request, content: Any, dandiset: str) -> Answer:
    stored = archive.dandisets[dandiset]
    about = {"dandiset": archive.describe_dandiset(stored, short=True)}
    ordered = sorted(stored.versions.values(), key=lambda version: version.created, reverse=True)
    return _page(archive, request, [archive.describe_version(version) | about for version in ordered])


def _version(archive: Archive, request: Request, content: Any, dandiset: str, version: str) -> Answer:
    stored = archive.dandisets[dandiset]
    return Answer(200, archive.version_metadata(stored, stored.versions[version]))


def _version_info(archive: Archive, request: Request, content: Any, dandiset: str, version: str) -> Answer:
    stored = archive.dandisets[dandiset]
    return Answer(200, archive.version_info(stored, stored.versions[version]))


def _assets(archive: Archive, request: Request, content: Any, dandiset: str, version: str) -> Answer:
    stored = archive.dandisets[dandiset]
    full = request.query.get("metadata") == "true"
    chosen = archive.select(stored.versions[version], request.query)
    return _page(archive, request, [archive.describe_asset(stored, asset, metadata=full) for asset in chosen])


def _asset(archive: Archive, request: Request, content: Any, asset: str, **_: str) -> Answer:
    dandiset, stored = archive.find_asset(asset)
    return Answer(200, archive.asset_metadata(dandiset, stored))


def _asset_info(archive: Archive, request: Request, content: Any, asset: str, **_: str) -> Answer:
    dandiset, stored = archive.find_asset(asset)
    return Answer(200, archive.describe_asset(dandiset, stored, metadata=True))


def _download(archive: Archive, request: Request, content: Any, asset: str, **_: str) -> Answer:
    _, stored = archive.find_asset(asset)
    name = stored.path.rsplit("/", 1)[-1]
    query = {"response-content-disposition": f'attachment; filename="{name}"'}
    return Answer(302, b"", {"Location": signed(archive, stored.blob.key, **query)})


def _initialize(archive: Archive, request: Request, content: Any) -> Answer:
    blob = next((stored for stored in archive.blobs.values() if stored.etag == content["digest"]["value"]), None)
    if blob is not None:
        return Answer(409, "Blob already exists.", {"Location": blob.id})
    upload_id = str(uuid4())
    key = f"dandi-dandisets/blobs/{upload_id[:3]}/{upload_id[3:6]}/{upload_id}"
    archive.uploads[upload_id] = {"key": key, "etag": content["digest"]["value"], "parts": {}, "content": None}
    parts = [
        {
            "part_number": part.number,
            "size": part.size,
            "upload_url": signed(archive, key, uploadId=upload_id, partNumber=str(part.number)),
        }
        for part in archive.plan_parts(content["contentSize"])
    ]
    return Answer(200, {"upload_id": upload_id, "parts": parts})


def _complete(archive: Archive, request: Request, content: Any, upload: str) -> Answer:
    listed = "".join(
        f'<Part><PartNumber>{part["part_number"]}</PartNumber><ETag>"{part["etag"]}"</ETag></Part>'
        for part in content["parts"]
    )
    body = f"{XML}<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    return Answer(200, {"complete_url": signed(archive, archive.uploads[upload]["key"]), "body": body})


def _validate(archive: Archive, request: Request, content: Any, upload: str) -> Answer:
    stored = archive.uploads[upload]
    blob = archive.keep(stored["content"])
    if blob.etag != stored["etag"]:
        return Answer(400, "ETag does not match.")
    del archive.blobs[blob.id]
    blob.id = upload
    archive.blobs[upload] = blob
    return Answer(200, {"blob_id": upload, "etag": blob.etag, "sha256": None, "size": len(blob.content)})


def _create_asset(archive: Archive, request: Request, content: Any, dandiset: str, version: str) -> Answer:
    stored = archive.dandisets[dandiset]
    metadata = content["metadata"]
    if any(asset.path == metadata["path"] for asset in stored.versions[version].assets.values()):
        return Answer(409, "An asset with that path already exists")
    made = archive.new_asset(stored.versions[version], metadata["path"], archive.blobs[content["blob_id"]], metadata)
    return Answer(200, archive.describe_asset(stored, made, metadata=True))


def _put_asset(archive: Archive, request: Request, content: Any, dandiset: str, version: str, asset: str) -> Answer:
    del archive.dandisets[dandiset].versions[version].assets[asset]
    return _create_asset(archive, request, content, dandiset, version)


def _delete_asset(archive: Archive, request: Request, content: Any, dandiset: str, version: str, asset: str) -> Answer:
    del archive.dandisets[dandiset].versions[version].assets[asset]
    return Answer(204)


def _publish(archive: Archive, request: Request, content: Any, dandiset: str, version: str) -> Answer:
    if archive.dandisets[dandiset].versions[version].status != "Valid":
        return Answer(409, "Metadata validation is pending for this dandiset, please try again later.")
    archive.publish(dandiset, time.strftime("0.%y%m%d.%H%M"))
    return Answer(202, b"")


def _blob_digest(archive: Archive, request: Request, content: Any) -> Answer:
    blob = next((stored for stored in archive.blobs.values() if stored.etag == content["value"]), None)
    if blob is None:
        return Answer(404, NOT_FOUND)
    return Answer(200, {"blob_id": blob.id, "etag": blob.etag, "sha256": blob.sha256, "size": len(blob.content)})


UPLOAD = r"/api/uploads/(?P<upload>[0-9a-f-]{36})/"
ROUTES: list[Route] = [
    ("GET", "/api/info/", _info),
    ("GET", "/api/auth/token/", _token),
    ("GET", "/api/dandisets/", _dandisets),
    ("POST", "/api/dandisets/", _create_dandiset),
    ("GET", f"/api/dandisets/{ID}/", _dandiset),
    ("GET", f"/api/dandisets/{ID}/versions/", _versions),
    ("GET", WITHIN, _version),
    ("GET", f"{WITHIN}info/", _version_info),
    ("POST", f"{WITHIN}publish/", _publish),
    ("GET", f"{WITHIN}assets/", _assets),
    ("POST", f"{WITHIN}assets/", _create_asset),
    ("GET", f"{WITHIN}assets/{ASSET}/", _asset),
    ("PUT", f"{WITHIN}assets/{ASSET}/", _put_asset),
    ("DELETE", f"{WITHIN}assets/{ASSET}/", _delete_asset),
    ("GET", f"{WITHIN}assets/{ASSET}/info/", _asset_info),
    ("GET", f"{WITHIN}assets/{ASSET}/download/", _download),
    ("GET", f"/api/assets/{ASSET}/", _asset),
    ("GET", f"/api/assets/{ASSET}/info/", _asset_info),
    ("GET", f"/api/assets/{ASSET}/download/", _download),
    ("POST", "/api/uploads/initialize/", _initialize),
    ("POST", f"{UPLOAD}complete/", _complete),
    ("POST", f"{UPLOAD}validate/", _validate),
    ("POST", "/api/blobs/digest/", _blob_digest),
]
