"""SHA-256 of files; that of a large one is taken once, and remembered for as long as the process lives and the file stays.

To take one, all of a file is read, of which a recording that is read may be a small part. What is remembered counts only
for the same bytes as far as the system knows: the same path, file and size, and the very moments at which content and
anything else of it changed last. The latter (`ctime`) is the system's own, which programs that set a file's times back
cannot set. A file that changed just before is not remembered, since it might change again within the clock's resolution.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

SMALLEST = 1 << 24
"""Bytes of the smallest file whose digest is remembered; smaller ones take less than a hundredth of a second."""
SETTLED = 2.0
"""Seconds for which a file was left as it is before its digest is taken, if that is to be remembered."""

State = tuple[int, ...]
_known: dict[Path, tuple[State, str]] = {}


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
        state, digest = _known.get(path.absolute(), ((), ""))
        if lasting and state == _state(before):
            return digest
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        settled = begun - max(before.st_mtime, before.st_ctime) > SETTLED
        if lasting and settled and _state(os.fstat(file.fileno())) == _state(before):
            _known[path.absolute()] = _state(before), digest
    return digest


def forget() -> None:
    """Remember nothing."""
    _known.clear()


def _state(found: os.stat_result) -> State:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
