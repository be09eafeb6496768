"""SHA-256 of files; that of a large one is taken once, and remembered for as long as the file is left as it is.

To take one, all of a file is read, of which a recording that is read may be a small part. What is remembered counts only
for the same bytes as far as the system knows: the same path, file and size, and the very moments at which content and
anything else of it changed last. The latter (`ctime`) is the system's own, which programs that set a file's times back
cannot set. A file that changed just before is not remembered, since it might change again within the clock's resolution.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.dandi.cache import cache_folder
from nwb_sbtt.textfiles import made_folder, write_text

SMALLEST = 1 << 24
"""Bytes of the smallest file whose digest is remembered; smaller ones take less than a hundredth of a second."""
SETTLED = 2.0
"""Seconds for which a file was left as it is before its digest is taken, if that is to be remembered."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        begun, before = time.time(), os.fstat(file.fileno())
        # Elsewhere `ctime` is when the file was made.
        lasting = before.st_size >= SMALLEST and os.name == "posix"
        if lasting and (known := _recalled(path, before)) is not None:
            return known
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        settled = begun - max(before.st_mtime, before.st_ctime) > SETTLED
        if lasting and settled and _state(os.fstat(file.fileno())) == _state(before):
            _remember(path, before, digest)
    return digest


def _state(found: os.stat_result) -> list[int]:
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _place(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
    return cache_folder() / "digests" / f"{name[:32]}.json"


def _recalled(path: Path, found: os.stat_result) -> str | None:
    try:
        content = json.loads(_place(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    facts = {"path": os.fsdecode(path.absolute()), "state": _state(found)}
    if not isinstance(content, dict) or {**content, **facts} != content:
        return None
    digest = content.get("sha256")
    return digest if isinstance(digest, str) else None


def _remember(path: Path, found: os.stat_result, digest: str) -> None:
    content = {"path": os.fsdecode(path.absolute()), "state": _state(found), "sha256": digest}
    # Where nothing can be kept, it is taken anew each time.
    with suppress(FileError):
        made_folder(_place(path).parent)
        write_text(_place(path), json.dumps(content) + "\n")
