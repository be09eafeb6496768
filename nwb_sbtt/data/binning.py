"""Events and samples put into bins, so that a time written in milliseconds lands where it belongs.

A bin holds the moments from its left edge up to, but not including, its right edge. Times are floats, and an event whose
time is *exactly* an edge on paper (0.3 s, bins of 0.1 s) may come out a hair before it. Every comparison here therefore
moves edges back by `tolerance`: more than floats can err, less than any recording clock can resolve. If all times, window
starts and the bin width are multiples of a clock period longer than twice the tolerance, each event lands in the bin
that exact arithmetic says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.grid import Grid

RESOLUTION = 1e-9
"""Seconds; times closer than this are the same moment, since no recording clock ticks faster."""


def tolerance(*times: ArrayLike) -> NDArray[np.float64]:
    """How far a time in seconds may be off through rounding, and still be the same moment.

    A nanosecond, or where the times are so large (more than about two weeks) that floats are coarser, eight steps of
    the floats. Broadcasts over its arguments.
    """
    largest = np.abs(np.asarray(times[0], dtype=np.float64))
    for each in times[1:]:
        largest = np.maximum(largest, np.abs(np.asarray(each, dtype=np.float64)))
    slack: NDArray[np.float64] = np.maximum(RESOLUTION, 8 * np.spacing(np.where(np.isfinite(largest), largest, 0.0)))
    return slack


def bin_index(times: ArrayLike, start: float, bin_width: float) -> NDArray[np.intp]:
    """Bin of each time, counted from the bin whose left edge is `start`; negative before it, −1 for a time that is NaN."""
    moments = np.asarray(times, dtype=np.float64)
    finite = np.isfinite(moments)
    known = np.where(finite, moments, start)
    index = np.floor((known - start + tolerance(known, start)) / bin_width)
    placed: NDArray[np.intp] = np.where(finite, index, -1).astype(np.intp)
    return placed


def place_events(times: NDArray[np.float64], grid: Grid) -> NDArray[np.intp]:
    """Find each event in every window that holds it.

    Parameters
    ----------
    times : array (event)
        Seconds on the session clock, in rising order, finite.
    grid : Grid

    Returns
    -------
    int array
        ``trial * n_bins + bin``, one entry for each window that holds an event; window after window, rising within each.
    """
    return placing(grid)(times)


def placing(grid: Grid) -> Callable[[NDArray[np.float64]], NDArray[np.intp]]:
    """`place_events` for one grid, for many calls with some events each."""
    slack = tolerance(grid.starts, grid.stops)
    edges, ends = grid.starts - slack, grid.stops - slack
    width, n_bins = grid.bin_width, grid.n_bins
    offsets = np.arange(len(edges)) * n_bins

    def place(times: NDArray[np.float64]) -> NDArray[np.intp]:
        first = np.searchsorted(times, edges)
        count = np.maximum(np.searchsorted(times, ends) - first, 0)
        stop = np.cumsum(count)
        if len(edges) == 1:
            since = times[first[0] : first[0] + count[0]] - edges[0]
        elif len(edges) and (first[1:] == first[:-1] + count[:-1]).all():
            # Windows one after the other, as those of most sessions, hold neighbours: no need to gather.
            since = times[first[0] : first[0] + stop[-1]] - np.repeat(edges, count)
        else:
            since = times[np.arange(count.sum()) - np.repeat(stop - count - first, count)]
            since -= np.repeat(edges, count)
        since /= width
        found: NDArray[np.intp] = since.astype(np.intp)
        # Times rise, so that only the last of each window can be rounded out of it.
        if len(found) and (found[stop[count > 0] - 1] >= n_bins).any():
            np.minimum(found, n_bins - 1, out=found)
        if len(edges) > 1:
            found += np.repeat(offsets, count)
        return found

    return place


def add_samples(
    samples: NDArray[np.float64], bins: NDArray[np.intp], n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Add up samples bin by bin.

    Parameters
    ----------
    samples : array (sample, channel)
        NaN where a sample is missing.
    bins : array (sample)
        In rising order; what lies outside 0 … n_bins − 1 is left out.
    n_bins : int

    Returns
    -------
    sums, counts : arrays (n_bins, channel)
        Sum and number of the samples that are there.
    """
    inside = (bins >= 0) & (bins < n_bins)
    samples, bins = samples[inside], bins[inside]
    sums = np.zeros((n_bins, samples.shape[1]))
    counts = np.zeros(sums.shape, dtype=np.intp)
    if len(bins):
        firsts = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
        there = np.isfinite(samples)
        sums[bins[firsts]] = np.add.reduceat(np.where(there, samples, 0.0), firsts, axis=0)
        counts[bins[firsts]] = np.add.reduceat(there.astype(np.intp), firsts, axis=0)
    return sums, counts
