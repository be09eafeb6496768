"""A file of an archive read where it lies, in ranges, as if it were on the disk."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

from nwb_sbtt.errors import ArchiveError
from nwb_sbtt.io.dandi.transfer import Source

BLOCK = 1 << 18
FIRST, MOST = 4, 64
"""Blocks fetched at once: at a new place, and at most where reading goes on in order."""
KEPT = 1024
"""Blocks kept in memory."""


class RangeFile(io.RawIOBase):
    """A read-only file whose bytes are fetched when they are read, in blocks, and kept.

    What lies in order is read ahead, twice as far each time. Links that have expired are renewed, failed requests
    repeated; what still fails is kept in `failure`, because libraries between hide it.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self._source, self._position = source, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._ahead = -1, FIRST
        self.failure: ArchiveError | None = None

    @property
    def source(self) -> Source:
        """Where the bytes come from."""
        return self._source

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.asset.size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on, as far as the file goes.

        Raises
        ------
        ArchiveError
            If the bytes do not come.
        """
        view = memoryview(buffer).cast("B")
        stop = min(self._position + len(view), self._source.asset.size)
        done = 0
        while self._position < stop:
            index, offset = divmod(self._position, BLOCK)
            piece = self._block(index, last=(stop - 1) // BLOCK)[offset : offset + stop - self._position]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def _block(self, index: int, last: int) -> bytes:
        if index not in self._blocks:
            self._fetch(index, last)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _fetch(self, index: int, last: int) -> None:
        """Get a block with those after it that are needed or likely to be."""
        self._ahead = min(self._ahead * 2, MOST) if index == self._next else FIRST
        stop = index + 1
        while stop < max(last + 1, index + self._ahead) and stop not in self._blocks:
            stop += 1
        try:
            content = self._source.read(index * BLOCK, min(stop * BLOCK, self._source.asset.size))
        except ArchiveError as error:
            self.failure = error
            raise
        for i in range(index, stop):
            self._blocks[i] = content[(i - index) * BLOCK : (i - index + 1) * BLOCK]
        self._next = stop
        while len(self._blocks) > KEPT + stop - index:
            self._blocks.popitem(last=False)
