"""The storage of the loopback archive: signed links that expire, ranges, uploads in parts."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from tests.support.dandi.serving import Answer, Request

if TYPE_CHECKING:
    from tests.support.dandi.archive import Archive

XML = '<?xml version="1.0" encoding="UTF-8"?>'


def signed(archive: Archive, key: str, **query: str) -> str:
    """A link to an object that is valid for a while."""
    query = {
        **query,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "X-Amz-Expires": str(archive.link_seconds),
        "X-Amz-SignedHeaders": "host",
    }
    query["X-Amz-Signature"] = _signature(archive, key, query)
    return f"{archive.storage}/{quote(key)}?{urlencode(query)}"


def _signature(archive: Archive, key: str, query: dict[str, str]) -> str:
    text = key + urlencode({name: value for name, value in query.items() if name != "X-Amz-Signature"})
    return hmac.new(archive.link_key.encode(), text.encode(), "sha256").hexdigest()


def _is_valid(archive: Archive, key: str, query: dict[str, str]) -> bool:
    if not hmac.compare_digest(query["X-Amz-Signature"], _signature(archive, key, query)):
        return False
    began = calendar.timegm(time.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    return time.time() < began + 1 + float(query["X-Amz-Expires"])


def answer_storage(archive: Archive, request: Request, body: bytes) -> Answer:
    """Give, take or complete an object."""
    key = request.path.lstrip("/")
    if "X-Amz-Signature" in request.query:
        if not _is_valid(archive, key, request.query):
            return Answer(403, f"{XML}<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
    elif request.method != "GET" or _is_embargoed(archive, key):
        return Answer(403, f"{XML}<Error><Code>AccessDenied</Code></Error>")
    if request.method in ("GET", "HEAD"):
        return _serve(archive, key, request.headers.get("Range"))
    upload = next((started for started in archive.uploads.values() if started["key"] == key), None)
    if upload is None:
        return Answer(404, f"{XML}<Error><Code>NoSuchUpload</Code></Error>")
    if request.method == "PUT":
        upload["parts"][int(request.query["partNumber"])] = body
        return Answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
    upload["content"] = b"".join(upload["parts"][number] for number in sorted(upload["parts"]))
    whole = hashlib.md5(b"".join(hashlib.md5(upload["parts"][n]).digest() for n in sorted(upload["parts"])))
    tag, etag = "CompleteMultipartUploadResponse", f"{whole.hexdigest()}-{len(upload['parts'])}"
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return Answer(200, f'{XML}\n<{tag} xmlns="{space}"><Key>{key}</Key><ETag>"{etag}"</ETag></{tag}>')


def _is_embargoed(archive: Archive, key: str) -> bool:
    return any(
        asset.blob.key == key and dandiset.embargo != "OPEN"
        for dandiset in archive.dandisets.values()
        for version in dandiset.versions.values()
        for asset in version.assets.values()
    )


def _serve(archive: Archive, key: str, byte_range: str | None) -> Answer:
    blob = next((stored for stored in archive.blobs.values() if stored.key == key), None)
    if blob is None:
        return Answer(404, f"{XML}<Error><Code>NoSuchKey</Code></Error>")
    size = len(blob.content)
    headers = {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
    if byte_range is None:
        return Answer(200, blob.content, headers)
    first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", byte_range).groups()
    start, stop = int(first), min(int(last) + 1 if last else size, size)
    if start >= size:
        return Answer(416, f"{XML}<Error><Code>InvalidRange</Code></Error>")
    return Answer(206, blob.content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})
