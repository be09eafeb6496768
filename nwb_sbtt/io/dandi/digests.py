"""Digests of a file, as DANDI takes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20


@dataclass(frozen=True)
class Digests:
    """Bytes, dandi-etag and SHA-256 of a file."""

    size: int
    etag: str
    sha256: str


def digests_of(path: Path) -> Digests:
    """Read a file once for both digests.

    A dandi-etag is the MD5 of the MD5s of the parts that a file is uploaded in, with their number; the plan of the parts
    belongs to DANDI's schema.
    """
    from dandischema.digests.dandietag import PartGenerator

    size = path.stat().st_size
    whole, parts, n_parts = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        for part in PartGenerator.for_file_size(size):
            own, left = hashlib.md5(usedforsecurity=False), part.size
            while left > 0 and (block := file.read(min(BLOCK, left))):
                own.update(block)
                whole.update(block)
                left -= len(block)
            parts.update(own.digest())
            n_parts += 1
    return Digests(size, f"{parts.hexdigest()}-{n_parts}", whole.hexdigest())
