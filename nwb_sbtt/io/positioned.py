"""Files that h5py and pynwb read from elsewhere than a disk: the position in them, which is the same for all."""

from __future__ import annotations

import io
from abc import abstractmethod


class PositionedFile(io.RawIOBase):
    """A file-like object that can be read from any position; subclasses say how long it is and read it."""

    _position = 0

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """Length of the file."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position.

        Parameters
        ----------
        offset : int
            Bytes.
        whence : int
            ``io.SEEK_SET``, ``io.SEEK_CUR`` or ``io.SEEK_END``.

        Returns
        -------
        int
            The new position.
        """
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.n_bytes}[whence]
        self._position = max(0, origin + offset)
        return self._position
