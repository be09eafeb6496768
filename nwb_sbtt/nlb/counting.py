"""Counts of units in windows, NaN where a bin was not observed, smoothed or not; and behaviour on the same bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.binning import place_events
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.data.intervals import Intervals, covered_share, inside, select_inside, union
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.benchmark.recordings import SampledSeries, TaskRecording

Floats = NDArray[np.float64]
CLOCK = 0.001
"""Seconds; period of the benchmark's clock: spikes are smoothed and behaviour is sampled on it."""
TAPS = 500
"""Order of the filter before behaviour is decimated."""
OFF_CLOCK = 1e-4
"""Seconds that a sample of behaviour may lie off the clock."""


@dataclass(frozen=True)
class Counter:
    """Units of a recording, in the order of their ids, ready to be counted in bins of ``bin_width`` seconds.

    By default each unit has intervals of its own, and a bin is observed if all of it is. ``compat`` repeats what nlb_tools
    0.0.4 does: the intervals of that one of `units` that stands first in the file's table, in whole milliseconds, are those of
    all; and a bin is observed if its first millisecond is, however few spikes of the rest were then recorded.
    """

    recorded: TaskRecording
    units: NDArray[np.intp]
    bin_width: float
    compat: bool = False

    def counts(self, first: NDArray[np.int64], n_bins: int) -> NDArray[np.float32]:
        """Spikes (trial, time, unit) of windows of so many bins, NaN where a bin was not observed."""
        grid = Grid(np.asarray(first * self.bin_width, dtype=np.float64), self.bin_width, n_bins)
        found = np.empty((*grid.shape, len(self.units)), dtype=np.float32)
        for place, unit in enumerate(self.units):
            intervals = self._intervals(unit)
            times = self._spikes(unit, intervals)
            counted = np.bincount(place_events(times, grid), minlength=len(first) * n_bins).astype(np.float32)
            counted[~self._observed(intervals, grid).reshape(-1)] = np.nan
            found[:, :, place] = counted.reshape(grid.shape)
        return found

    def smoothed(self, sd: float) -> Floats:
        """Counts (time, unit) of the whole session, smoothed on the clock with a Gaussian of so many seconds.

        Smoothing stays within what was observed; an edge there is not made up for.
        """
        factor = round(self.bin_width / CLOCK)
        n_ms = session_length(self.recorded)
        n_bins = -(-n_ms // factor)
        grid = Grid(np.zeros(1), CLOCK, n_bins * factor)
        kernel = _kernel(sd)
        found = np.empty((n_bins, len(self.units)))
        for place, unit in enumerate(self.units):
            intervals = self._intervals(unit)
            observed = self._observed(intervals, grid)[0]
            observed[n_ms:] = False
            counted = np.bincount(place_events(self._spikes(unit, intervals), grid), minlength=grid.n_bins)
            smooth = _smooth(counted * observed, observed, kernel).reshape(n_bins, factor)
            seen = observed.reshape(n_bins, factor)
            found[:, place] = np.where(seen[:, 0] if self.compat else seen.all(1), smooth.sum(1), np.nan)
        return found

    def _intervals(self, unit: int) -> Intervals | None:
        given = self.recorded.intervals
        if given is None:
            return None
        if not self.compat:
            return given[unit]
        own = np.round(given[self.units.min()] / CLOCK, 6)
        return union(np.column_stack([np.ceil(own[:, 0]), np.floor(own[:, 1])]) * CLOCK)

    def _spikes(self, unit: int, intervals: Intervals | None) -> Floats:
        times = self.recorded.spikes[unit]
        return times if intervals is None else select_inside(times, intervals)

    def _observed(self, intervals: Intervals | None, grid: Grid) -> NDArray[np.bool_]:
        if intervals is None:
            return np.ones(grid.shape, dtype=bool)
        if not self.compat:
            return np.asarray(covered_share(intervals, grid) == 1)
        begin = grid.starts[:, None] + np.arange(grid.n_bins) * grid.bin_width
        return inside(begin + CLOCK / 2, intervals)


def session_length(recorded: TaskRecording) -> int:
    """Milliseconds from the session's start to the last moment that any unit was observed or any trial lasted."""
    ends = [float(np.nanmax(recorded.trials["stop_time"]))]
    ends += [float(each[-1, 1]) for each in recorded.intervals or () if len(each) and np.isfinite(each[-1, 1])]
    return round(max(ends) / CLOCK)


def on_grid(samples: SampledSeries, recorded: TaskRecording, bin_width: float) -> Floats:
    """Behaviour (time, column) of the whole session on its grid of bins: filtered and decimated, NaN where it was missing.

    Raises
    ------
    DataError
        If samples lie off the clock of a millisecond.
    """
    from scipy.signal import decimate

    place = np.round(samples.times / CLOCK).astype(np.int64)
    off = np.abs(samples.times - place * CLOCK).max()
    if off > OFF_CLOCK or len(np.unique(place)) < len(place):
        raise DataError(
            f"behaviour is sampled up to {off:.2g} s off the benchmark's clock of a millisecond; expected at most {OFF_CLOCK:g}"
        )
    n_ms = session_length(recorded)
    whole = np.full((n_ms, samples.values.shape[1]), np.nan)
    kept = (place >= 0) & (place < n_ms)
    whole[place[kept]] = samples.values[kept]
    factor = round(bin_width / CLOCK)
    missing = np.isnan(whole[::factor])
    moments = np.arange(n_ms)
    for values in whole.T:
        there = np.isfinite(values)
        values[:] = np.interp(moments, moments[there], values[there]) if there.any() else 0.0
    coarse: Floats = decimate(whole, factor, n=TAPS, ftype="fir", axis=0)
    coarse[missing] = np.nan
    return coarse


def cut(course: Floats, first: NDArray[np.int64], n_bins: int) -> Floats:
    """Windows (trial, time, column) of a course (time, column) over the session, NaN beyond its ends."""
    place = first[:, None] + np.arange(n_bins)
    inside_session = (place >= 0) & (place < len(course))
    found: Floats = course[np.clip(place, 0, len(course) - 1)]
    found[~inside_session] = np.nan
    return found


def ordered(recorded: TaskRecording, *, held_out: bool) -> NDArray[np.intp]:
    """Rows of the held-in or held-out units, in the order of their ids."""
    rows = np.flatnonzero(recorded.held_out == held_out)
    return rows[np.argsort(recorded.unit_id[rows], kind="stable")]


def _kernel(sd: float) -> Floats:
    """Gaussian of six sds, cut to a whole number of clock periods, as the benchmark has it: an even one leans by half."""
    from scipy.signal.windows import gaussian

    weights: Floats = gaussian(int(6 * sd / CLOCK + 1e-9), sd / CLOCK)
    return np.asarray(weights / weights.sum())


def _smooth(counts: Floats, observed: NDArray[np.bool_], kernel: Floats) -> Floats:
    from scipy.signal import oaconvolve

    edges = np.flatnonzero(np.diff(observed.astype(np.int8), prepend=0, append=0))
    found = np.zeros(len(counts))
    for begin, end in edges.reshape(-1, 2):
        part = counts[begin:end]
        if part.any():
            # Rounding of the transform may leave less than nothing.
            found[begin:end] = np.maximum(oaconvolve(part, kernel, mode="same"), 0)
    return found
