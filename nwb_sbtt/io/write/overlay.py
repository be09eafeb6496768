"""A file as it would be after changes that are never stored: what is written stays in memory, beside the file on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from nwb_sbtt.io.positioned import PositionedFile

PAGE = 1 << 16
"""Bytes of the parts of the file that are kept in memory once something is written into them."""


class Overlay(PositionedFile):
    """A file-like object over a file on disk, which is only read; h5py and pynwb can open it for writing.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = self._file.seek(0, io.SEEK_END)
        self._pages: dict[int, bytearray] = {}

    def close(self) -> None:
        """Close the file and forget what was written."""
        self._file.close()
        self._pages.clear()
        super().close()

    @property
    def n_bytes(self) -> int:
        """Length of the file with what was written."""
        return self._size

    def writable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on, and return the bytes read.

        Parameters
        ----------
        buffer : bytes-like, writable

        Returns
        -------
        int
        """
        view = memoryview(buffer).cast("B")
        n_bytes = max(min(len(view), self._size - self._position), 0)
        for page, first, stop, at in self._parts(n_bytes):
            view[at : at + stop - first] = self._page(page)[first:stop]
        self._position += n_bytes
        return n_bytes

    def write(self, data: Any) -> int:
        """Keep bytes in memory, from the position on.

        Parameters
        ----------
        data : bytes-like

        Returns
        -------
        int
            Bytes kept.
        """
        view = memoryview(data).cast("B")
        for page, first, stop, at in self._parts(len(view)):
            if page not in self._pages:
                self._pages[page] = bytearray(self._page(page))
            self._pages[page][first:stop] = view[at : at + stop - first]
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file, by default to the position.

        Parameters
        ----------
        size : int, optional
            Bytes.

        Returns
        -------
        int
            The new length.
        """
        self._size = self._position if size is None else size
        return self._size

    def _parts(self, n_bytes: int) -> list[tuple[int, int, int, int]]:
        """Pages of the next bytes: number of the page, first and last byte in it, and where they are in the whole."""
        parts, at = [], 0
        while at < n_bytes:
            page, first = divmod(self._position + at, PAGE)
            stop = min(PAGE, first + n_bytes - at)
            parts.append((page, first, stop, at))
            at += stop - first
        return parts

    def _page(self, page: int) -> bytes | bytearray:
        if page in self._pages:
            return self._pages[page]
        self._file.seek(page * PAGE)
        return self._file.read(PAGE).ljust(PAGE, b"\0")
