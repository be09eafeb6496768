"""Texts and references of an HDF5 file that were overwritten by zeros, which HDF5 would read for ever.

HDF5 keeps texts and other values of variable length in collections: "GCOL", version 1, a length, then objects, each with an
index, a count of references and a length. The object with index 0 is the rest that is free, and its length counts its own
header. The library steps from object to object by these lengths. Where a block of zeros lies over a collection, as after a
download or a copy that was cut off, it finds index 0 and length 0, and stays there (seen in HDF5 2.0.0); nothing in this
process could stop it. So collections are looked at before a file is opened.

A collection that nothing refers to is not read, so that zeros in one do no harm: only those are refused whose address is
found in the file.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from nwb_sbtt.errors import FileError

SEARCHED = 1 << 27
"""Bytes at the start and at the end of a file that are searched; of larger ones the middle is not, which holds samples."""
_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_OBJECT = struct.Struct("<HHIQ")


def check_heaps(path: Path) -> None:
    """Refuse an HDF5 file whose texts were overwritten by zeros.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FileError
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            parts = [(0, min(len(content), SEARCHED)), (max(SEARCHED, len(content) - SEARCHED), len(content))]
            for address in _overwritten(content, parts):
                reference = struct.pack("<Q", address)
                if any(content.find(reference, start, stop) >= 0 for start, stop in parts):
                    reason = f"it is damaged or incomplete (its texts are overwritten with zeros at byte {address})"
                    raise FileError(f"cannot read {str(path)!r}: {reason}; download it again")


def _overwritten(content: mmap.mmap, parts: list[tuple[int, int]]) -> Iterator[int]:
    """Addresses of collections with an object that has no length."""
    for start, stop in parts:
        address = content.find(_SIGNATURE, start, stop)
        while address >= 0:
            if _has_endless_object(content, address):
                yield address
            address = content.find(_SIGNATURE, address + 1, stop)


def _has_endless_object(content: mmap.mmap, address: int) -> bool:
    position = address + len(_SIGNATURE)
    if position + 8 > len(content):
        return False
    end = min(address + int.from_bytes(content[position : position + 8], "little"), len(content))
    position += 8
    while position + _OBJECT.size <= end:
        index, _, _, length = _OBJECT.unpack_from(content, position)
        if index == 0 and length == 0:
            return True
        position += length if index == 0 else _OBJECT.size + (length + 7) // 8 * 8
    return False
