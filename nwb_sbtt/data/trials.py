"""Where trials lie: around events, in one window, or in the whole session chopped with overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import Chop, Trials, Window
from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import ConfigError, DataError

BIN_TOLERANCE = 1e-6
"""A length within this many bins of a whole number of bins is one."""
CHOP_BINS, LEAST_CHOPS, LEAST_BINS = 100, 10, 10
"""Default length of a chop in bins; where a session would have fewer than `LEAST_CHOPS` of these, chops are shorter, but not
shorter than `LEAST_BINS`."""
FEWEST_CHOPS = 4
"""Least number of chops of a length that is set by how slow the signal is."""
OVERLAP = 0.2
"""Default overlap, as a share of a chop."""


@dataclass(frozen=True)
class Windows:
    """Trials on the session clock.

    Parameters
    ----------
    grid : Grid
    start : float
        Left edge of the first bin relative to the event, or 0 where nothing is aligned; seconds.
    rows : int array (trial), optional
        Row of the table of intervals that each trial comes from.
    notes : tuple of str
        One-line remarks for the user.
    """

    grid: Grid
    start: float = 0.0
    rows: NDArray[np.intp] | None = None
    notes: tuple[str, ...] = ()


def whole_bins(seconds: float, bin_width: float, what: str) -> int:
    """Return the number of bins in a length of time.

    Parameters
    ----------
    seconds, bin_width : float
        Seconds.
    what : str
        Of the length, for the message.

    Raises
    ------
    ConfigError
        If it is not a whole number of bins, one at least; the message names the nearest lengths that are.
    """
    exact = seconds / bin_width
    n_bins = round(exact)
    if n_bins >= 1 and abs(exact - n_bins) <= max(BIN_TOLERANCE, 1e-12 * exact):
        return n_bins
    lower = math.floor(exact)
    lengths = " or ".join(f"{n * bin_width:g}" for n in (lower, lower + 1) if n >= 1)
    raise ConfigError(
        f"{what} of {seconds:g} s is {exact:.6g} bins of {bin_width:g} s; expected a whole number: make it {lengths} s, "
        "or change bin_width (--bin-width)"
    )


def trial_windows(events: NDArray[np.float64], cut: Trials, bin_width: float) -> Windows:
    """Lay windows around events, in the order of the table.

    Parameters
    ----------
    events : array (row)
        Seconds on the session clock; rows with NaN are left out, and a note says how many.
    cut : Trials
    bin_width : float
        Seconds.

    Raises
    ------
    ConfigError
        If the window is not a whole number of bins.
    DataError
        If no row has an event, or all have the same.
    """
    n_bins = whole_bins(cut.stop - cut.start, bin_width, f"the window from {cut.start:g} to {cut.stop:g} s")
    rows = np.flatnonzero(np.isfinite(events))
    if len(rows) == 0:
        raise DataError(
            f"none of the {len(events)} rows of {cut.table!r} has a time in {cut.event!r}, so there is no trial to "
            "cut; name another column, or chop the session (cut=Chop(), or --chop)"
        )
    order = np.sort(events[rows])
    same = np.diff(order) <= tolerance(order[1:])
    if len(rows) > 1 and same.all():
        raise DataError(
            f"all {len(rows)} rows of {cut.table!r} have the same time in {cut.event!r}, {order[0]:g} s, so all "
            "trials would be the same data; name another column, or chop the session (cut=Chop(), or --chop)"
        )
    notes = [f"{len(rows)} trials of {len(events)} rows of {cut.table!r}, aligned to {cut.event!r}"]
    if len(rows) < len(events):
        notes.append(f"{len(events) - len(rows)} rows of {cut.table!r} have no time in {cut.event!r} and are left out")
    if same.any():
        # Each of a run of equal times counts.
        n_same = int((np.append(same, False) | np.insert(same, 0, False)).sum())
        notes.append(
            f"{n_same} of {len(rows)} trials start at the same time as another one and have the same data; all trials "
            "with the same data are in the same part of the split"
        )
    return Windows(Grid(events[rows] + cut.start, bin_width, n_bins), cut.start, rows, tuple(notes))


def single_window(cut: Window, bin_width: float) -> Windows:
    """Lay the one window that the settings name.

    Parameters
    ----------
    cut : Window
    bin_width : float
        Seconds.

    Raises
    ------
    ConfigError
        If it is not a whole number of bins.
    """
    n_bins = whole_bins(cut.stop - cut.start, bin_width, f"the window from {cut.start:g} to {cut.stop:g} s")
    return Windows(Grid(np.array([cut.start]), bin_width, n_bins))


def chop_windows(cut: Chop, bin_width: float, span: tuple[float, float], *, least_length: float = 0.0) -> Windows:
    """Lay overlapping windows over a session, or over the part of it that the settings name.

    The last window is moved back to end with the session, so that nothing is lost and nothing lies beyond. The default length
    is 100 bins, or less where a short session would have fewer than ten such windows.

    Parameters
    ----------
    cut : Chop
    bin_width : float
        Seconds.
    span : (float, float)
        First and last moment of the series, in seconds on the session clock.
    least_length : float
        Seconds that the default length has at least, or a fourth of the session where that is shorter.

    Raises
    ------
    ConfigError
        If length or overlap are not whole numbers of bins, or the length exceeds the session.
    """
    start = span[0] if cut.start is None else cut.start
    stop = span[1] if cut.stop is None else cut.stop
    slack = float(tolerance(start, stop))
    n_bins = math.ceil((stop - start - slack) / bin_width)
    if n_bins < 1:
        raise ConfigError(
            f"the part of the session from {start:g} to {stop:g} s has no bin; the series runs from {span[0]:g} to "
            f"{span[1]:g} s"
        )
    if cut.length is None:
        length = min(n_bins, CHOP_BINS, max(LEAST_BINS, n_bins // LEAST_CHOPS))
        length = max(length, min(math.ceil(least_length / bin_width - BIN_TOLERANCE), n_bins // FEWEST_CHOPS))
        overlap = round(OVERLAP * length) if n_bins > length else 0
    else:
        length = whole_bins(cut.length, bin_width, "the length")
        overlap = round(OVERLAP * length) if cut.overlap is None else 0
        if cut.overlap:
            overlap = whole_bins(cut.overlap, bin_width, "the overlap")
        if length > n_bins:
            raise ConfigError(
                f"chops of {cut.length:g} s are longer than the session, which has {n_bins * bin_width:g} s (from "
                f"{start:g} to {stop:g} s); choose a shorter length"
            )
    firsts = chop_starts(n_bins, length, overlap)
    return Windows(Grid(np.asarray(start + firsts * bin_width, dtype=np.float64), bin_width, length))


def chop_starts(n_bins: int, length: int, overlap: int) -> NDArray[np.intp]:
    """Return the first bin of each chop: steps of `length` − `overlap`, the last moved back to end with the session.

    Parameters
    ----------
    n_bins, length, overlap : int
        Bins of the session, of a chop, and shared by neighbours.

    Returns
    -------
    int array (chop)

    Examples
    --------
    >>> chop_starts(10, 4, 1).tolist()
    [0, 3, 6]
    """
    starts = np.arange(0, max(n_bins - length, 0) + 1, length - overlap)
    return starts if starts[-1] + length >= n_bins else np.append(starts, n_bins - length)
