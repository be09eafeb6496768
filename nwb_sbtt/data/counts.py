"""Events counted channel by channel in narrow integers, in the memory that their counts as float32 will take.

Three things decide how fast events of a long recording are counted, and each has an answer here.

*The cache.* Added to an array (bin, channel) of float32, the events of one channel fall on another page each, which takes
46 ns an event where one that stays in the cache takes one. So events are counted in bytes first, in an array whose bins lie
next to each other; a type of 2 or 4 bytes is tried only where a bin may have more than 255 events (`Counts.add`).

*The transposition.* The result has channels next to each other, and an array of hundreds of MB is filled three times as fast
in long rows as in rows of 64 channels. So up to 8 channels share a word of 8 bytes, one byte each: 8 channels are transposed
by moving one word, and viewed as bytes again the row has its channels in order.

*Fresh memory* costs more than all the counting. So the counts lie in the last quarter of the result's own memory (bytes take
a quarter of what float32 takes)::

    result, row after row   |  bin 0 | bin 1 | ...                    | ... | last bin |
    counts                                                    | word 0 | word 1 | ... |
                            0                              before                    nbytes

The rows of the result are filled from the first on. The rows that end before `before` overwrite no count; before the others are
filled, what is left of the counts is copied out of their way: the bins of about a quarter of the rows, in bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nwb_sbtt.data.threads import in_threads, split_range

COUNT_TYPES = (np.uint8, np.uint16, np.uint32)
"""Types that events are counted in; the narrowest that holds the largest count is the fastest."""
CHANNELS_PER_WORD = {1: 8, 2: 4, 4: 1}
"""Channels that share a word, at most, by the bytes of a count.

The last word may have lanes without a channel. With the next power of two above `n` channels as a further limit there are fewer
than ``2 n`` lanes of 1 or 2 bytes, or exactly `n` of 4: never more than the ``4 n`` bytes a bin of the result.
"""
BINS_AT_ONCE = 256
"""Bins transposed at once."""


class Counts:
    """Counts of some channels, of one of the types `COUNT_TYPES`.

    Several threads may add events at once, each of other channels.

    Parameters
    ----------
    n_channels, n_bins : int
    dtype : dtype
        Type of the counts until they are finished.

    Examples
    --------
    >>> counts = Counts(2, 3, dtype=np.uint8)
    >>> counts.add(0, np.array([0, 2, 2])), counts.add(1, np.array([1]))
    (True, True)
    >>> counts.finish(np.ones((3, 1), dtype=bool)).tolist()
    [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]
    """

    def __init__(self, n_channels: int, n_bins: int, *, dtype: DTypeLike) -> None:
        count_type = np.dtype(dtype)
        self._values = np.zeros((n_bins, n_channels), dtype=np.float32)
        next_power = 1 << max(n_channels - 1, 0).bit_length()
        self._lanes = min(CHANNELS_PER_WORD[count_type.itemsize], next_power)
        self._word = np.dtype(f"u{self._lanes * count_type.itemsize}")
        shape = (-(-n_channels // self._lanes), n_bins, self._lanes)
        size = int(np.prod(shape)) * count_type.itemsize
        # Words must be aligned, so the counts may end a few bytes before the result does.
        self._before = (self._values.nbytes - size) // self._word.itemsize * self._word.itemsize
        memory = self._values.reshape(-1).view(np.uint8)[self._before : self._before + size]
        self._counts = memory.view(count_type).reshape(shape)
        self._largest = int(np.iinfo(count_type).max)
        self._one = count_type.type(1)
        self._full = False

    def add(self, channel: int, bins: NDArray[np.intp], *, n_parts: int = 1) -> bool:
        """Count events of one channel.

        Parameters
        ----------
        channel : int
        bins : int array (event)
            Bin of each event; events of the same bin are neighbours, as in rising order.
        n_parts : int
            Calls in which the events of a channel come, at most.

        Returns
        -------
        bool
            False, and nothing counted, where a bin may get more events than the type can hold, or one did before.
        """
        # An overflow would be silent, and counting first how many events each bin has would take as long as counting. So
        # only every `step`-th event is looked at. A bin with 2 * step events or more, which are neighbours, has two of
        # these one after the other; where no two successive ones share a bin, none has more than 2 * step - 1. With
        # 2 * step <= largest // n_parts + 1 that is at most largest // n_parts in each of the n_parts calls, and at most
        # `largest` in all. What is refused has a bin of more than `step` events, within a factor of two of what would
        # not fit: then the next type is taken, which costs time but no count. step = 0 says that even one event in each
        # call may be too many.
        step = (self._largest // n_parts + 1) // 2
        self._full |= step == 0 or bool((bins[step::step] == bins[:-step:step]).any())
        if not self._full:
            word, lane = divmod(channel, self._lanes)
            np.add.at(self._counts[word, :, lane], bins, self._one)
        return not self._full

    def finish(self, observed: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Turn the counts into the result, in its own memory; nothing can be counted any more.

        Parameters
        ----------
        observed : bool array (bin, channel) or (bin, 1)
            Where there are counts; whatever was counted elsewhere becomes 0.

        Returns
        -------
        float32 array (bin, channel)
        """
        n_bins = len(self._values)
        # Rows of the result up to this one end before the counts begin.
        n_free = min(self._before // max(self._values.strides[0], 1), n_bins)
        words = self._counts.view(self._word)[:, :, 0]

        def transpose(bins: range, source: NDArray[Any], first: int) -> None:
            """Fill rows of the result from words (word, bin), whose first bin is `first`."""
            for start in range(bins.start, bins.stop, BINS_AT_ONCE):
                part = slice(start, min(start + BINS_AT_ONCE, bins.stop))
                transposed = np.ascontiguousarray(source[:, part.start - first : part.stop - first].T)
                rows, mask = self._values[part], observed[part]
                # Lanes of a word lie in memory as its channels do, whatever the byte order; those beyond the last
                # channel are cut off.
                rows[...] = transposed.view(self._counts.dtype)[:, : rows.shape[1]]
                if not mask.all():
                    rows *= mask

        in_threads(lambda bins: transpose(bins, words, 0), split_range(0, n_free, size=BINS_AT_ONCE))
        remaining = words[:, n_free:].copy()
        in_threads(lambda bins: transpose(bins, remaining, n_free), split_range(n_free, n_bins, size=BINS_AT_ONCE))
        return self._values
