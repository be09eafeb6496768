"""Intervals of time: their arithmetic, which moments lie in them, and which share of each bin they cover.

Intervals are arrays (interval, 2) of start and stop in seconds, half open: a moment equal to `stop` is outside. The functions
whose documentation requires it need them as `union` returns them: sorted, not empty, not touching.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.grid import Grid

SMALLEST_SHARE = 1e-6
"""A bin observed for less than this share counts as missing, one that lacks less than this as whole."""

Intervals = NDArray[np.float64]


def union(intervals: ArrayLike) -> Intervals:
    """Sort intervals and merge those that touch; empty ones vanish.

    Parameters
    ----------
    intervals : array (interval, 2)
        Seconds, in any order.

    Returns
    -------
    array (interval, 2)
        Intervals that do not touch and cover the same moments.

    Examples
    --------
    >>> union([[2, 3], [0, 1], [1, 1.5]]).tolist()
    [[0.0, 1.5], [2.0, 3.0]]
    """
    rows = np.asarray(intervals, dtype=np.float64).reshape(-1, 2)
    rows = rows[rows[:, 1] > rows[:, 0]]
    if len(rows) == 0:
        return rows
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    # An interval begins a new one where it starts after all before it have stopped.
    latest_stop = np.maximum.accumulate(rows[:, 1])
    begins = np.flatnonzero(np.concatenate([[True], rows[1:, 0] > latest_stop[:-1]]))
    return np.column_stack([rows[begins, 0], np.append(latest_stop[begins[1:] - 1], latest_stop[-1])])


def padded(intervals: Intervals, before: float, after: float) -> Intervals:
    """Return intervals that begin and end so many seconds earlier and later.

    Parameters
    ----------
    intervals : array (interval, 2)
        Seconds.
    before, after : float
        Seconds.

    Returns
    -------
    array (interval, 2)
        Those that touch are one.
    """
    return union(intervals + np.array([-before, after])) if len(intervals) else intervals


def difference(intervals: ArrayLike, removed: ArrayLike) -> Intervals:
    """Remove intervals from others.

    Parameters
    ----------
    intervals, removed : array (interval, 2)
        Seconds, in any order.

    Returns
    -------
    array (interval, 2)
        Moments of `intervals` that lie in none of `removed`.

    Examples
    --------
    >>> difference([[0, 3]], [[1, 2]]).tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    rows, gaps = union(intervals), union(removed)
    if len(rows) == 0 or len(gaps) == 0:
        return rows
    # The complement of the gaps, intersected with each row: row by row those parts of it that the row reaches.
    complement = np.column_stack([np.append(-np.inf, gaps[:, 1]), np.append(gaps[:, 0], np.inf)])
    first = np.searchsorted(complement[:, 1], rows[:, 0], side="right")
    count = np.searchsorted(complement[:, 0], rows[:, 1], side="left") - first
    row = np.repeat(np.arange(len(rows)), count)
    part = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - first, count)
    starts = np.maximum(rows[row, 0], complement[part, 0])
    stops = np.minimum(rows[row, 1], complement[part, 1])
    return union(np.column_stack([starts, stops]))


def inside(times: NDArray[np.float64], intervals: Intervals) -> NDArray[np.bool_]:
    """Tell which moments lie in one of the intervals.

    Parameters
    ----------
    times : array
        Seconds, in any order and shape.
    intervals : array (interval, 2)
        As `union` returns them.

    Returns
    -------
    bool array of the shape of `times`
    """
    if len(intervals) == 0:
        return np.zeros(times.shape, dtype=bool)
    moments = times + tolerance(times)
    nearest = np.searchsorted(intervals[:, 0], moments, side="right") - 1
    within: NDArray[np.bool_] = (nearest >= 0) & (moments < intervals[nearest, 1])
    return within


def select_inside(times: NDArray[np.float64], intervals: Intervals) -> NDArray[np.float64]:
    """Select the moments that lie in one of the intervals.

    Parameters
    ----------
    times : array (moment)
        Seconds, rising.
    intervals : array (interval, 2)
        As `union` returns them.
    """
    return select_between(times, limits(intervals))


def limits(intervals: Intervals) -> Intervals:
    """Shift intervals by the tolerance of their edges, once for many calls of `select_between` and `count_between`.

    Parameters
    ----------
    intervals : array (interval, 2)
        As `union` returns them.
    """
    return intervals - tolerance(intervals)


def select_between(times: NDArray[np.float64], bounds: Intervals) -> NDArray[np.float64]:
    """Select the moments that lie in one of the intervals of which `bounds` are the limits.

    Parameters
    ----------
    times : array (moment)
        Seconds, rising.
    bounds : array (interval, 2)
        As `limits` returns them.
    """
    first, last = np.searchsorted(times, bounds).T
    if len(bounds) == 1:
        return times[first[0] : last[0]]
    parts = [times[start:stop] for start, stop in zip(first, last, strict=True)]
    return np.concatenate(parts) if parts else times[:0]


def count_between(times: NDArray[np.float64], bounds: Intervals) -> int:
    """Count the moments that lie in one of the intervals of which `bounds` are the limits.

    Parameters
    ----------
    times : array (moment)
        Seconds, rising.
    bounds : array (interval, 2)
        As `limits` returns them.
    """
    first, last = np.searchsorted(times, bounds).T
    return int((last - first).sum())


def total_duration(intervals: ArrayLike) -> float:
    """Return the seconds that intervals cover together.

    Parameters
    ----------
    intervals : array (interval, 2)
        Seconds, in any order; overlaps count once.
    """
    covered = union(intervals)
    return float((covered[:, 1] - covered[:, 0]).sum())


def covered_share(intervals: ArrayLike, grid: Grid) -> NDArray[np.float32]:
    """Compute which share of each bin the intervals cover.

    Parameters
    ----------
    intervals : array (interval, 2)
        Seconds, in any order.
    grid : Grid

    Returns
    -------
    array (trial, time)
        Between 0 and 1. Shares within a millionth (or the precision of the clock, where that is worse) of 0 or 1 are
        exactly 0 or 1.
    """
    covered = union(intervals)
    if len(covered) == 0 or len(grid.starts) == 0:
        return np.zeros(grid.shape, dtype=np.float32)
    edges = grid.starts[:, None] + np.arange(grid.n_bins + 1) * grid.bin_width
    # Intervals may reach to infinity.
    covered = np.clip(covered, edges.min() - 1, edges.max() + 1)
    # The time covered up to a moment is piecewise linear, with a knot at each start and stop.
    durations = covered[:, 1] - covered[:, 0]
    reached = np.cumsum(durations)
    elapsed = np.interp(edges, covered.reshape(-1), np.column_stack([reached - durations, reached]).reshape(-1))
    share = np.diff(elapsed, axis=1) / grid.bin_width
    slack = np.maximum(SMALLEST_SHARE, 2 * tolerance(grid.starts, grid.stops) / grid.bin_width)[:, None]
    share[share < slack] = 0
    share[share > 1 - slack] = 1
    return share.astype(np.float32)
