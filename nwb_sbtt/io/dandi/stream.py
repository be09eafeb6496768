"""Stream a file of an archive: read it in ranges, as if it were on the disk."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from nwb_sbtt.errors import ArchiveError
from nwb_sbtt.io.dandi.transfer import RemoteFile
from nwb_sbtt.io.positioned import PositionedFile

BLOCK_BYTES = 1 << 18
"""Bytes."""
FIRST_AHEAD, MAX_AHEAD = 4, 64
"""Blocks fetched at once: at a new position, and at most where reading is sequential."""
MAX_BLOCKS = 1024
"""Blocks kept in memory."""


class RangeFile(PositionedFile):
    """A read-only file whose blocks are fetched when they are read, and cached in memory.

    Sequential reading is read ahead, twice as far each time. Failed requests are repeated; the error of one that still
    fails is stored in `failure`, because h5py replaces it by its own.

    Parameters
    ----------
    remote : RemoteFile
    """

    def __init__(self, remote: RemoteFile) -> None:
        self._remote = remote
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._ahead = -1, FIRST_AHEAD
        self.failure: ArchiveError | None = None

    @property
    def remote(self) -> RemoteFile:
        """Source of the bytes."""
        return self._remote

    @property
    def n_bytes(self) -> int:
        """Length of the file, as the archive states it."""
        return self._remote.asset.size

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on, as far as the file reaches.

        Parameters
        ----------
        buffer : writable buffer

        Returns
        -------
        int
            Bytes read.

        Raises
        ------
        ArchiveError
            If the bytes cannot be fetched.
        """
        view = memoryview(buffer).cast("B")
        stop = min(self._position + len(view), self.n_bytes)
        done = 0
        while self._position < stop:
            index, offset = divmod(self._position, BLOCK_BYTES)
            content = self._block(index, last=(stop - 1) // BLOCK_BYTES)[offset : offset + stop - self._position]
            view[done : done + len(content)] = content
            done += len(content)
            self._position += len(content)
        return done

    def _block(self, index: int, last: int) -> bytes:
        if index not in self._blocks:
            self._fetch(index, last)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _fetch(self, index: int, last: int) -> None:
        """Fetch a block with the following ones that are needed or likely to be."""
        self._ahead = min(self._ahead * 2, MAX_AHEAD) if index == self._next else FIRST_AHEAD
        stop = index + 1
        while stop < max(last + 1, index + self._ahead) and stop not in self._blocks:
            stop += 1
        try:
            content = self._remote.read(index * BLOCK_BYTES, min(stop * BLOCK_BYTES, self.n_bytes))
        except ArchiveError as error:
            self.failure = error
            raise
        for i in range(index, stop):
            self._blocks[i] = content[(i - index) * BLOCK_BYTES : (i - index + 1) * BLOCK_BYTES]
        self._next = stop
        while len(self._blocks) > MAX_BLOCKS + stop - index:
            self._blocks.popitem(last=False)
