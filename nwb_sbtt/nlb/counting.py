"""Counts of units in windows, NaN where a bin is missing, smoothed or not; and behaviour in the same bins."""

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
LONGEST_SESSION = 2 * 86400.0
"""Seconds; longer ones than the benchmark has, by far."""
OFF_CLOCK = 1e-4
"""Seconds that a sample of behaviour may lie off the clock."""


@dataclass(frozen=True)
class SpikeCounter:
    """Units of a recording, ready to be counted in bins.

    By default each unit has its own intervals, and a bin is observed if all of it is.

    Parameters
    ----------
    recorded : TaskRecording
    units : int array (unit)
        Rows of the units, in the order of their ids.
    bin_width : float
        Seconds.
    compat : bool
        Do as nlb_tools 0.0.4 does: the intervals of that one of `units` that stands first in the file's table, in whole
        milliseconds, are those of all; and a bin is observed if its first millisecond is, even if the rest is not.
    """

    recorded: TaskRecording
    units: NDArray[np.intp]
    bin_width: float
    compat: bool = False

    def counts(self, first: NDArray[np.int64], n_bins: int) -> NDArray[np.float32]:
        """Count spikes in windows.

        Parameters
        ----------
        first : int array (trial)
            First bin of each window, counted from the session's start.
        n_bins : int
            Bins of a window.

        Returns
        -------
        array (trial, time, unit)
            NaN where a bin is missing.
        """
        grid = Grid(np.asarray(first * self.bin_width, dtype=np.float64), self.bin_width, n_bins)
        counts = np.empty((*grid.shape, len(self.units)), dtype=np.float32)
        for column, unit in enumerate(self.units):
            intervals = self._intervals(unit)
            times = self._spikes(unit, intervals)
            in_bins = np.bincount(place_events(times, grid), minlength=len(first) * n_bins).astype(np.float32)
            in_bins[~self._observed(intervals, grid).reshape(-1)] = np.nan
            counts[:, :, column] = in_bins.reshape(grid.shape)
        return counts

    def smoothed(self, sd: float) -> Floats:
        """Count the spikes of the whole session, smoothed on the clock with a Gaussian.

        Smoothing stays within the observed intervals; the weight lost at their edges is not made up for.

        Parameters
        ----------
        sd : float
            Seconds.

        Returns
        -------
        array (time, unit)
            Smoothed counts per bin; NaN where a bin is missing.
        """
        factor = round(self.bin_width / CLOCK)
        n_ms = session_length_ms(self.recorded)
        n_bins = -(-n_ms // factor)
        grid = Grid(np.zeros(1), CLOCK, n_bins * factor)
        kernel = _kernel(sd)
        counts = np.empty((n_bins, len(self.units)))
        for column, unit in enumerate(self.units):
            intervals = self._intervals(unit)
            observed = self._observed(intervals, grid)[0]
            observed[n_ms:] = False
            in_ms = np.bincount(place_events(self._spikes(unit, intervals), grid), minlength=grid.n_bins)
            smooth = _smooth(in_ms * observed, observed, kernel).reshape(n_bins, factor)
            mask = observed.reshape(n_bins, factor)
            counts[:, column] = np.where(mask[:, 0] if self.compat else mask.all(1), smooth.sum(1), np.nan)
        return counts

    def _intervals(self, unit: int) -> Intervals | None:
        intervals = self.recorded.intervals
        if intervals is None:
            return None
        if not self.compat:
            return intervals[unit]
        ticks = np.round(intervals[self.units.min()] / CLOCK, 6)
        return union(np.column_stack([np.ceil(ticks[:, 0]), np.floor(ticks[:, 1])]) * CLOCK)

    def _spikes(self, unit: int, intervals: Intervals | None) -> Floats:
        times = self.recorded.spikes[unit]
        return times if intervals is None else select_inside(times, intervals)

    def _observed(self, intervals: Intervals | None, grid: Grid) -> NDArray[np.bool_]:
        if intervals is None:
            return np.ones(grid.shape, dtype=bool)
        if not self.compat:
            return np.asarray(covered_share(intervals, grid) == 1)
        starts = grid.starts[:, None] + np.arange(grid.n_bins) * grid.bin_width
        return inside(starts + CLOCK / 2, intervals)


def session_length_ms(recorded: TaskRecording) -> int:
    """Return the milliseconds from the session's start to the end of the last trial or observed interval.

    Parameters
    ----------
    recorded : TaskRecording
    """
    ends = [float(np.nanmax(recorded.trials["stop_time"]))]
    last = [float(intervals[-1, 1]) for intervals in recorded.intervals or () if len(intervals)]
    ends += [end for end in last if np.isfinite(end)]
    length = max(ends)
    if not 0 < length <= LONGEST_SESSION:
        raise DataError(
            f"the trials and intervals of the session end at {length:g} s; expected up to {LONGEST_SESSION:g} s; "
            "check whether they are in ms, or damaged"
        )
    return round(length / CLOCK)


def behavior_on_grid(samples: SampledSeries, recorded: TaskRecording, bin_width: float) -> Floats:
    """Filter and decimate behaviour to the session's grid of bins.

    Parameters
    ----------
    samples : SampledSeries
        On a clock of a millisecond.
    recorded : TaskRecording
    bin_width : float
        Seconds.

    Returns
    -------
    array (time, column)
        NaN where the sample at a bin's start is missing.

    Raises
    ------
    DataError
        If samples lie off the clock of a millisecond.
    """
    from scipy.signal import decimate

    ticks = np.round(samples.times / CLOCK).astype(np.int64)
    off = np.abs(samples.times - ticks * CLOCK).max()
    if off > OFF_CLOCK or len(np.unique(ticks)) < len(ticks):
        raise DataError(
            f"behaviour is sampled up to {off:.2g} s off the 1-ms clock of the benchmark; expected at most "
            f"{OFF_CLOCK:g} s"
        )
    n_ms = session_length_ms(recorded)
    fine = np.full((n_ms, samples.values.shape[1]), np.nan)
    within = (ticks >= 0) & (ticks < n_ms)
    fine[ticks[within]] = samples.values[within]
    factor = round(bin_width / CLOCK)
    missing = np.isnan(fine[::factor])
    moments = np.arange(n_ms)
    for values in fine.T:
        finite = np.isfinite(values)
        values[:] = np.interp(moments, moments[finite], values[finite]) if finite.any() else 0.0
    coarse: Floats = decimate(fine, factor, n=TAPS, ftype="fir", axis=0)
    coarse[missing] = np.nan
    return coarse


def cut_windows(series: Floats, first: NDArray[np.int64], n_bins: int) -> Floats:
    """Cut windows out of a session, NaN beyond its ends.

    Parameters
    ----------
    series : array (time, column)
        Bins of the session.
    first : int array (trial)
        First bin of each window.
    n_bins : int
        Bins of a window.

    Returns
    -------
    array (trial, time, column)
    """
    bins = first[:, None] + np.arange(n_bins)
    in_session = (bins >= 0) & (bins < len(series))
    windows: Floats = series[np.clip(bins, 0, len(series) - 1)]
    windows[~in_session] = np.nan
    return windows


def units_in_order(recorded: TaskRecording, *, held_out: bool) -> NDArray[np.intp]:
    """Return the rows of the held-in or of the held-out units, in the order of their ids.

    Parameters
    ----------
    recorded : TaskRecording
    held_out : bool
        Which of the two.

    Returns
    -------
    int array (unit)
    """
    rows = np.flatnonzero(recorded.held_out == held_out)
    return rows[np.argsort(recorded.unit_id[rows], kind="stable")]


def _kernel(sd: float) -> Floats:
    """Gaussian of six sds, cut to a whole number of clock periods as in nlb_tools: an even number shifts it by half of one."""
    from scipy.signal.windows import gaussian

    weights: Floats = gaussian(int(6 * sd / CLOCK + 1e-9), sd / CLOCK)
    return np.asarray(weights / weights.sum())


def _smooth(counts: Floats, observed: NDArray[np.bool_], kernel: Floats) -> Floats:
    """Counts on the clock smoothed within each observed interval; all (time)."""
    from scipy.signal import oaconvolve

    edges = np.flatnonzero(np.diff(observed.astype(np.int8), prepend=0, append=0))
    smooth = np.zeros(len(counts))
    for begin, end in edges.reshape(-1, 2):
        part = counts[begin:end]
        if part.any():
            # Rounding of the transform may leave values below 0.
            smooth[begin:end] = np.maximum(oaconvolve(part, kernel, mode="same"), 0)
    return smooth
