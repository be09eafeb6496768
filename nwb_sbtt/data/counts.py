"""Events counted channel by channel in narrow integers, in the memory that their counts as float32 will take.

Counted where it belongs, each event of a long recording falls on another page of an array (bin, channel), which takes 46 ns
where one that stays in the cache takes one. And an array of hundreds of MB is filled three times as fast in long rows as
in rows of 64 channels. So events are counted in bytes at first, eight channels to a word of memory, which are turned as
one. These bytes are the last quarter of the result's own memory, since fresh memory costs more than all the counting: its
rows are filled from the first on, and where they come to that quarter, what is left of it has been moved out of the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads, shares

WIDTHS = (np.uint8, np.uint16, np.uint32)
"""Types that events are counted in, the narrowest that holds the largest count."""
SHARING = {1: 8, 2: 4, 4: 1}
"""Channels that share a word, at most, by the bytes of a count; so many that counts never take more than the result."""
TURNED = 256
"""Bins put into place at once."""


class Counts:
    """Counts of some channels, of one of the types `WIDTHS`.

    Channels may be added to by several threads at once, each its own.

    Parameters
    ----------
    n_channels, n_bins : int
    dtype : dtype
        Counts are of this type until they are put into place.
    """

    def __init__(self, n_channels: int, n_bins: int, *, dtype: Any) -> None:
        dtype = np.dtype(dtype)
        self._values = np.zeros((n_bins, n_channels), dtype=np.float32)
        self._shared = min(SHARING[dtype.itemsize], 1 << max(n_channels - 1, 0).bit_length())
        self._word = np.dtype(f"u{self._shared * dtype.itemsize}")
        shape = (-(-n_channels // self._shared), n_bins, self._shared)
        size = int(np.prod(shape)) * dtype.itemsize
        self._before = (self._values.nbytes - size) // self._word.itemsize * self._word.itemsize
        memory = self._values.reshape(-1).view(np.uint8)[self._before : self._before + size]
        self._counts = memory.view(dtype).reshape(shape)
        self._largest = int(np.iinfo(dtype).max)
        self._one = dtype.type(1)
        self._full = False

    def add(self, channel: int, places: NDArray[np.intp], *, n_parts: int = 1) -> bool:
        """Count events of one channel.

        Parameters
        ----------
        channel : int
        places : int array (event)
            Bin of each event; the same bins lie together, as in rising order.
        n_parts : int
            Calls in which the events of a channel come, at most.

        Returns
        -------
        bool
            False, and nothing counted, where a bin may get more events than the type can hold, or one did before.
        """
        # Where no two events so many places apart share a bin, no bin has more than `2 * step - 1` of them.
        step = (self._largest // n_parts + 1) // 2
        self._full |= step == 0 or bool((places[step::step] == places[:-step:step]).any())
        if not self._full:
            word, lane = divmod(channel, self._shared)
            np.add.at(self._counts[word, :, lane], places, self._one)
        return not self._full

    def put(self, observed: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Put all counts into place; after this nothing can be counted.

        Parameters
        ----------
        observed : bool array (bin, channel) or (bin, 1)
            Where there are counts; what was counted elsewhere becomes 0.

        Returns
        -------
        float32 array (bin, channel)
        """
        n_bins = len(self._values)
        # Up to this bin the rows end before the counts begin.
        free = min(self._before // max(self._values.strides[0], 1), n_bins)
        words = self._counts.view(self._word)[:, :, 0]

        def turn(bins: range, source: NDArray[Any], first: int) -> None:
            for low in range(bins.start, bins.stop, TURNED):
                part = slice(low, min(low + TURNED, bins.stop))
                turned = np.ascontiguousarray(source[:, part.start - first : part.stop - first].T)
                rows, seen = self._values[part], observed[part]
                rows[...] = turned.view(self._counts.dtype)[:, : rows.shape[1]]
                if not seen.all():
                    rows *= seen

        in_threads(lambda bins: turn(bins, words, 0), shares(0, free, size=TURNED))
        left = words[:, free:].copy()
        in_threads(lambda bins: turn(bins, left, free), shares(free, n_bins, size=TURNED))
        return self._values
