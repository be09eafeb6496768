"""Stored spike times, read in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
from hdmf.common import VectorIndex
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads, shares
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.slabs import Slabs

BLOCK = 1 << 16
"""Spikes read and binned at once, so that what is computed from them stays in the cache."""
LAST_SPIKE = 1e-6
"""Seconds by which a recording of unknown length outlasts its last spike, so that this spike lies in a bin."""


def stored_spikes(units: Any, path: str) -> tuple[Any, NDArray[np.int64]]:
    """Flat array of all spike times, as stored, and where each unit's part begins; the last bound is the number of spikes.

    Raises
    ------
    DataError
        If there are no units or spike times, or their index is damaged.
    """
    if "spike_times" not in units.colnames:
        raise DataError(f"table {path!r} has no column 'spike_times', only {sorted(units.colnames)}; nothing to count")
    if len(units) == 0:
        raise DataError(f"table {path!r} has no rows: no unit to read")
    column = units["spike_times"]
    if not isinstance(column, VectorIndex):
        raise DataError(f"the spike times of {path!r} have no index, so it cannot be told which unit each belongs to")
    bounds = np.concatenate([[0], np.asarray(column.data[:], dtype=np.int64)])
    n_spikes = len(column.target.data)
    if (np.diff(bounds) < 0).any() or bounds[-1] > n_spikes or len(bounds) != len(units) + 1:
        raise DataError(
            f"the index of the spike times of {path!r} is damaged: {len(units)} units, {n_spikes} spikes, last index "
            f"{bounds[-1]}; expected rising numbers up to the number of spikes"
        )
    return column.target.data, bounds


def spikes_by_unit(
    stored: Any, bounds: NDArray[np.int64], units: Sequence[int] | NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Sorted, finite spike times of each unit in seconds, beside its place among the units asked for.

    Long trains come in several pieces, silent units not at all. What is stored is read in one pass, in blocks of several
    neighbours where these are short.
    """
    slabs = Slabs(stored)
    block = max(BLOCK, 2 * slabs.chunk_rows)
    place = 0
    while place < len(units):
        begin, last = bounds[units[place]], place + 1
        while last < len(units) and units[last] == units[last - 1] + 1 and bounds[units[last] + 1] - begin <= block:
            last += 1
        end = bounds[units[last - 1] + 1]
        if end - begin <= block:
            times = _seconds(slabs, begin, end)
            for each in range(place, last):
                yield from _pieces(each, times[bounds[units[each]] - begin : bounds[units[each] + 1] - begin])
        else:
            for start in range(int(begin), int(end), block):
                yield from _pieces(place, _seconds(slabs, start, min(start + block, int(end))))
        place = last


def _seconds(slabs: Slabs, first: int, stop: int) -> NDArray[np.float64]:
    return np.asarray(slabs.read(int(first), int(stop)), dtype=np.float64).reshape(-1)


def _pieces(place: int, times: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    # NaN is in no order, and infinity can only be at an end: one comparison says that all is well.
    if len(times) and not ((times[1:] >= times[:-1]).all() and isfinite(times[0]) and isfinite(times[-1])):
        times = np.sort(times[np.isfinite(times)])
    if len(times):
        yield place, times


def first_and_last(stored: Any, bounds: NDArray[np.int64]) -> list[float]:
    """Moment of the first spike of all, and the end of the recording as far as the last one tells; empty without spikes."""
    found = in_threads(partial(_extent, stored), shares(0, int(bounds[-1]), size=BLOCK))
    first, last = min((each[0] for each in found), default=np.inf), max((each[1] for each in found), default=-np.inf)
    return [first, last + LAST_SPIKE] if np.isfinite(first) else []


def _extent(stored: Any, part: range) -> tuple[float, float]:
    """Smallest and largest of some spike times that are finite; infinity and its negative where there is none."""
    slabs, lowest, highest = Slabs(stored), np.inf, -np.inf
    block = max(BLOCK, 2 * slabs.chunk_rows)
    for start in range(part.start, part.stop, block):
        times = _seconds(slabs, start, min(start + block, part.stop))
        if not (np.isfinite(times.min()) and np.isfinite(times.max())):
            times = times[np.isfinite(times)]
        if len(times):
            lowest, highest = min(lowest, float(times.min())), max(highest, float(times.max()))
    return lowest, highest
