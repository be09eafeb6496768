"""Which trials a set takes, and where their windows lie on the session's grid of bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.trials import whole_bins
from nwb_sbtt.errors import DataError
from nwb_sbtt.nlb.definitions import FORWARD, Definition

Bools = NDArray[np.bool_]
JITTER_SEED = 0
"""Of the benchmark's draw of the moves of windows."""


@dataclass(frozen=True)
class Windows:
    """Windows of some trials.

    Parameters
    ----------
    rows : int array (trial)
        Rows of the table of trials, in its order.
    first : int array (trial)
        First bin of each window, counted from the session's start.
    jitter : int array (trial)
        Bins by which each window was moved later.
    scored : bool array (trial, time)
        Bins that are evaluated.
    forward : int
        Bins after each window that are to be predicted.
    """

    rows: NDArray[np.intp]
    first: NDArray[np.int64]
    jitter: NDArray[np.int64]
    scored: Bools
    forward: int

    @property
    def n_bins(self) -> int:
        """Bins of a window, without those to predict."""
        return int(self.scored.shape[1])


def place_windows(
    trials: Mapping[str, NDArray[Any]], which: Definition, bin_width: float, splits: Sequence[str]
) -> Windows:
    """Windows of the trials of some splits; trials without an event are left out.

    Raises
    ------
    DataError
        If the table lacks a column that the set's definition names, or no trial is left.
    """
    times = column(trials, which.event).astype(np.float64)
    rows = np.flatnonzero(np.isin(column(trials, "split").astype(str), list(splits)))
    jitter = _jitter(trials, which, bin_width, rows)
    there = np.isfinite(times[rows])
    rows, jitter = rows[there], jitter[there]
    if len(rows) == 0:
        raise DataError(f"no trial of split {' or '.join(splits)} has a time in {which.event!r}")
    n_bins = whole_bins(which.stop - which.start, bin_width, "the window")
    first = grid_bin(times[rows] + which.start, bin_width) + jitter
    scored = np.ones((len(rows), n_bins), dtype=bool)
    if which.produced is not None:
        begin = grid_bin(column(trials, which.produced.scored_from)[rows].astype(np.float64), bin_width)
        place = first[:, None] + np.arange(n_bins)
        scored = (place >= begin[:, None]) & (place < grid_bin(times[rows], bin_width)[:, None])
    return Windows(rows, first, jitter, scored, whole_bins(FORWARD, bin_width, "the time to predict"))


def grid_bin(times: NDArray[np.float64], bin_width: float) -> NDArray[np.int64]:
    """First bin of the session's grid that starts at each time or after it."""
    return np.ceil((times - tolerance(times)) / bin_width).astype(np.int64)


def column(trials: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """A column of the trials.

    Raises
    ------
    DataError
        Naming the columns there are.
    """
    if name not in trials:
        raise DataError(f"the trials have no column {name!r}, which this set needs; they have {sorted(trials)}")
    return np.asarray(trials[name])


def _jitter(
    trials: Mapping[str, NDArray[Any]], which: Definition, bin_width: float, rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Bins to move each window; drawn for all trials of the splits, as the benchmark's own program does."""
    testing = (column(trials, "split")[rows].astype(str) == "test").any()
    if which.produced is None or testing:
        return np.zeros(len(rows), dtype=np.int64)
    left = (which.stop - which.start) - column(trials, "tp")[rows].astype(np.float64) / 1000
    room = np.nan_to_num(np.clip(left, 0, which.produced.jitter))
    most = np.floor(np.round(room / bin_width, 4))
    # The legacy generator: with it the windows are those of the published targets.
    drawn = np.random.RandomState(JITTER_SEED).random_sample(len(rows))
    return np.asarray(np.round(drawn * most), dtype=np.int64)
