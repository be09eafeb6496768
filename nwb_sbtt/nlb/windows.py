"""Trials of a set, and where their windows lie on the session's grid of bins."""

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
"""Seed of the benchmark's own draw of jitter."""


@dataclass(frozen=True)
class BenchmarkWindows:
    """Windows of some trials of the benchmark.

    Parameters
    ----------
    rows : int array (trial)
        Rows of the table of trials, in its order.
    first_bins : int array (trial)
        First bin of each window, counted from the session's start.
    jitter : int array (trial)
        Bins by which each window was moved later.
    scored : bool array (trial, time)
        Bins that are evaluated.
    n_forward : int
        Forecast bins after each window.
    """

    rows: NDArray[np.intp]
    first_bins: NDArray[np.int64]
    jitter: NDArray[np.int64]
    scored: Bools
    n_forward: int

    @property
    def n_bins(self) -> int:
        """Bins of a window, without the forecast bins after it."""
        return int(self.scored.shape[1])


def place_windows(
    trials: Mapping[str, NDArray[Any]], definition: Definition, bin_width: float, splits: Sequence[str]
) -> BenchmarkWindows:
    """Lay windows around the events of the trials of some splits; trials without an event are left out.

    Parameters
    ----------
    trials : mapping of column to array (trial)
        Times in seconds on the session clock.
    definition : Definition
    bin_width : float
        Seconds.
    splits : sequence of str
        Values of the trials' column ``split``.

    Raises
    ------
    DataError
        If the table lacks a column that the set's definition names, or no trial is left.
    """
    times = trial_column(trials, definition.event).astype(np.float64)
    rows = np.flatnonzero(np.isin(trial_column(trials, "split").astype(str), list(splits)))
    jitter = _jitter(trials, definition, bin_width, rows)
    has_event = np.isfinite(times[rows])
    rows, jitter = rows[has_event], jitter[has_event]
    if len(rows) == 0:
        raise DataError(f"no trial of split {' or '.join(splits)} has a time in {definition.event!r}")
    n_bins = whole_bins(definition.stop - definition.start, bin_width, "the window")
    first = grid_bin(times[rows] + definition.start, bin_width) + jitter
    scored = np.ones((len(rows), n_bins), dtype=bool)
    if definition.produced is not None:
        begin = grid_bin(trial_column(trials, definition.produced.scored_from)[rows].astype(np.float64), bin_width)
        bins = first[:, None] + np.arange(n_bins)
        scored = (bins >= begin[:, None]) & (bins < grid_bin(times[rows], bin_width)[:, None])
    return BenchmarkWindows(rows, first, jitter, scored, whole_bins(FORWARD, bin_width, "the forecast"))


def grid_bin(times: NDArray[np.float64], bin_width: float) -> NDArray[np.int64]:
    """Return the first bin of the session's grid that starts at each time or after it.

    Parameters
    ----------
    times : array
        Seconds from the session's start.
    bin_width : float
        Seconds.

    Returns
    -------
    int array of the shape of `times`
    """
    return np.ceil((times - tolerance(times)) / bin_width).astype(np.int64)


def trial_column(trials: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Return a column of the trials.

    Parameters
    ----------
    trials : mapping of column to array (trial)
    name : str

    Raises
    ------
    DataError
        If there is no such column; the message names those there are.
    """
    if name not in trials:
        raise DataError(f"the trials have no column {name!r}, which this set needs; they have {sorted(trials)}")
    return np.asarray(trials[name])


def _jitter(
    trials: Mapping[str, NDArray[Any]], definition: Definition, bin_width: float, rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Bins to move each window, (trial); drawn for all trials of the splits, as the benchmark's own program does."""
    testing = (trial_column(trials, "split")[rows].astype(str) == "test").any()
    if definition.produced is None or testing:
        return np.zeros(len(rows), dtype=np.int64)
    left = (definition.stop - definition.start) - trial_column(trials, "tp")[rows].astype(np.float64) / 1000
    most_seconds = np.nan_to_num(np.clip(left, 0, definition.produced.jitter))
    most_bins = np.floor(np.round(most_seconds / bin_width, 4))
    # The legacy generator: with it the windows are those of the published targets.
    draws = np.random.RandomState(JITTER_SEED).random_sample(len(rows))
    return np.asarray(np.round(draws * most_bins), dtype=np.int64)
