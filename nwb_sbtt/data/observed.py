"""What share of each bin was observed, from intervals of the session clock.

Intervals are arrays (interval, 2) of start and stop in seconds, half open: a moment equal to `stop` is outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.grid import Grid

SMALLEST_SHARE = 1e-6
"""A bin observed for less than this share counts as unobserved, one that lacks less than this as whole."""

Intervals = NDArray[np.float64]


def union(intervals: ArrayLike) -> Intervals:
    """Sorted intervals that do not touch, covering the same moments; empty ones vanish."""
    given = np.asarray(intervals, dtype=np.float64).reshape(-1, 2)
    given = given[given[:, 1] > given[:, 0]]
    if len(given) == 0:
        return given
    given = given[np.argsort(given[:, 0], kind="stable")]
    reached = np.maximum.accumulate(given[:, 1])
    fresh = np.flatnonzero(np.concatenate([[True], given[1:, 0] > reached[:-1]]))
    return np.column_stack([given[fresh, 0], np.append(reached[fresh[1:] - 1], reached[-1])])


def difference(intervals: ArrayLike, removed: ArrayLike) -> Intervals:
    """Moments of `intervals` that lie in none of `removed`."""
    kept, gone = union(intervals), union(removed)
    if len(kept) == 0 or len(gone) == 0:
        return kept
    between = np.column_stack([np.append(-np.inf, gone[:, 1]), np.append(gone[:, 0], np.inf)])
    first = np.searchsorted(between[:, 1], kept[:, 0], side="right")
    count = np.searchsorted(between[:, 0], kept[:, 1], side="left") - first
    owner = np.repeat(np.arange(len(kept)), count)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count - first, count)
    return union(
        np.column_stack([np.maximum(kept[owner, 0], between[piece, 0]), np.minimum(kept[owner, 1], between[piece, 1])])
    )


def inside(times: NDArray[np.float64], intervals: Intervals) -> NDArray[np.bool_]:
    """Whether each moment lies in one of the intervals, which must be as `union` gives them."""
    if len(intervals) == 0:
        return np.zeros(times.shape, dtype=bool)
    moments = times + tolerance(times)
    nearest = np.searchsorted(intervals[:, 0], moments, side="right") - 1
    within: NDArray[np.bool_] = (nearest >= 0) & (moments < intervals[nearest, 1])
    return within


def select_inside(times: NDArray[np.float64], intervals: Intervals) -> NDArray[np.float64]:
    """Those of many rising moments that lie in one of the intervals, which must be as `union` gives them."""
    return select_between(times, limits(intervals))


def limits(intervals: Intervals) -> Intervals:
    """What moments are compared with to tell whether they lie in the intervals; for `select_between`, `count_between`."""
    return intervals - tolerance(intervals)


def select_between(times: NDArray[np.float64], bounds: Intervals) -> NDArray[np.float64]:
    """Those of many rising moments that lie in one of the intervals that `bounds` are the limits of."""
    first, last = np.searchsorted(times, bounds).T
    if len(bounds) == 1:
        return times[first[0] : last[0]]
    return np.concatenate([times[a:b] for a, b in zip(first, last, strict=True)]) if len(first) else times[:0]


def count_between(times: NDArray[np.float64], bounds: Intervals) -> int:
    """How many of many rising moments lie in one of the intervals that `bounds` are the limits of."""
    first, last = np.searchsorted(times, bounds).T
    return int((last - first).sum())


def total(intervals: ArrayLike) -> float:
    """Seconds covered."""
    covered = union(intervals)
    return float((covered[:, 1] - covered[:, 0]).sum())


def coverage(intervals: ArrayLike, grid: Grid) -> NDArray[np.float32]:
    """Share of each bin that the intervals cover, in [0, 1]; an array (trial, time).

    Shares within a millionth (or the precision of the clock, where that is worse) of 0 or 1 are exactly 0 or 1.
    """
    covered = union(intervals)
    if len(covered) == 0 or len(grid.starts) == 0:
        return np.zeros(grid.shape, dtype=np.float32)
    edges = grid.starts[:, None] + np.arange(grid.n_bins + 1) * grid.bin_width
    covered = np.clip(covered, edges.min() - 1, edges.max() + 1)
    lengths = covered[:, 1] - covered[:, 0]
    reached = np.cumsum(lengths)
    clock = np.interp(edges, covered.reshape(-1), np.column_stack([reached - lengths, reached]).reshape(-1))
    share = np.diff(clock, axis=1) / grid.bin_width
    slack = np.maximum(SMALLEST_SHARE, 2 * tolerance(grid.starts, grid.stops) / grid.bin_width)[:, None]
    share[share < slack] = 0
    share[share > 1 - slack] = 1
    return share.astype(np.float32)
