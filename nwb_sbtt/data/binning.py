"""Events and samples put into bins, so that a time written in milliseconds lands where it belongs.

A bin holds the moments from its left edge up to, but not including, its right edge. Times are floats, and an event whose
time is *exactly* an edge on paper (0.3 s, bins of 0.1 s) may come out a hair before it. Every comparison here therefore
moves edges back by `tolerance`: more than floats can err, less than any recording clock can resolve. If all times, window
starts and the bin width are multiples of a clock period longer than twice the tolerance, each event lands in the bin
of exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.grid import Grid

RESOLUTION = 1e-9
"""Seconds; times closer than this are the same moment, since no recording clock ticks faster."""

SHORT_DIGITS, SAME = 7, 1e-9
"""Digits of a short decimal, and the part of a number that is rounding."""


def tolerance(*times: ArrayLike) -> NDArray[np.float64]:
    """Return by how much a time may be off through rounding, and still be the same moment.

    A nanosecond, or where the times are so large (more than about two weeks) that floats are coarser, eight steps of
    the floats.

    Parameters
    ----------
    *times : arrays
        Seconds; broadcast over each other.

    Returns
    -------
    array
        Seconds.
    """
    largest = np.abs(np.asarray(times[0], dtype=np.float64))
    for others in times[1:]:
        largest = np.maximum(largest, np.abs(np.asarray(others, dtype=np.float64)))
    slack: NDArray[np.float64] = np.maximum(RESOLUTION, 8 * np.spacing(np.where(np.isfinite(largest), largest, 0.0)))
    return slack


def simplest(value: float) -> float:
    """Return the short decimal that a number is within rounding, or else the number itself.

    Widths and rates that follow from differences of times, or from each other, end in digits without meaning: 0.0999999999994
    stands for 0.1.

    Parameters
    ----------
    value : float

    Returns
    -------
    float
        Of at most seven digits if one differs by less than one part in 10⁹; a longer one is no coincidence, but says nothing.

    Examples
    --------
    >>> simplest(0.0999999999994), simplest(1 / 0.07), simplest(1 / (1 / 29.97))
    (0.1, 14.285714285714285, 29.97)
    """
    short = float(f"{value:.{SHORT_DIGITS}g}")
    return short if abs(short - value) <= SAME * abs(value) else value


def bin_index(times: ArrayLike, start: float, bin_width: float) -> NDArray[np.intp]:
    """Return the bin of each time, counted from the bin whose left edge is `start`.

    Parameters
    ----------
    times : array
        Seconds, in any order and shape.
    start, bin_width : float
        Seconds.

    Returns
    -------
    int array of the shape of `times`
        Negative before `start`; −1 for a time that is not finite.

    Examples
    --------
    >>> bin_index([0.3, 0.29], 0.0, 0.1).tolist()
    [3, 2]
    """
    moments = np.asarray(times, dtype=np.float64)
    finite = np.isfinite(moments)
    usable = np.where(finite, moments, start)
    index = np.floor((usable - start + tolerance(usable, start)) / bin_width)
    bins: NDArray[np.intp] = np.where(finite, index, -1).astype(np.intp)
    return bins


def place_events(times: NDArray[np.float64], grid: Grid) -> NDArray[np.intp]:
    """Find the bin of each event in every window that holds it.

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
    return event_placer(grid)(times)


def event_placer(grid: Grid) -> Callable[[NDArray[np.float64]], NDArray[np.intp]]:
    """Prepare `place_events` for one grid, for many calls with some events each.

    Parameters
    ----------
    grid : Grid

    Returns
    -------
    callable
        `place_events` without its second argument.
    """
    slack = tolerance(grid.starts, grid.stops)
    starts, stops = grid.starts - slack, grid.stops - slack
    width, n_bins = grid.bin_width, grid.n_bins
    offsets = np.arange(len(starts)) * n_bins

    def place(times: NDArray[np.float64]) -> NDArray[np.intp]:
        first = np.searchsorted(times, starts)
        count = np.maximum(np.searchsorted(times, stops) - first, 0)
        end = np.cumsum(count)
        if len(starts) == 1:
            since = times[first[0] : first[0] + count[0]] - starts[0]
        elif len(starts) and (first[1:] == first[:-1] + count[:-1]).all():
            # Windows one after the other, as those of most sessions, hold neighbours: no need to gather.
            since = times[first[0] : first[0] + end[-1]] - np.repeat(starts, count)
        else:
            since = times[np.arange(count.sum()) - np.repeat(end - count - first, count)]
            since -= np.repeat(starts, count)
        since /= width
        bins: NDArray[np.intp] = since.astype(np.intp)
        # Times rise, so that only the last of each window can be rounded out of it.
        if len(bins) and (bins[end[count > 0] - 1] >= n_bins).any():
            np.minimum(bins, n_bins - 1, out=bins)
        if len(starts) > 1:
            bins += np.repeat(offsets, count)
        return bins

    return place


def add_samples(
    samples: NDArray[np.float64], bins: NDArray[np.intp], n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Add up samples bin by bin.

    Parameters
    ----------
    samples : array (sample, channel)
        NaN where a sample is missing.
    bins : int array (sample)
        In rising order; samples outside 0 … n_bins − 1 are left out.
    n_bins : int

    Returns
    -------
    sums : array (bin, channel)
        Sums of the samples that are not missing.
    counts : int array (bin, channel)
        Their number.
    """
    inside = (bins >= 0) & (bins < n_bins)
    samples, bins = samples[inside], bins[inside]
    sums = np.zeros((n_bins, samples.shape[1]))
    counts = np.zeros(sums.shape, dtype=np.intp)
    if len(bins):
        firsts = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
        finite = np.isfinite(samples)
        sums[bins[firsts]] = np.add.reduceat(np.where(finite, samples, 0.0), firsts, axis=0)
        counts[bins[firsts]] = np.add.reduceat(finite.astype(np.intp), firsts, axis=0)
    return sums, counts
