"""When each sample of a series was taken: from rate and starting time, or from timestamps with all that is wrong in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.data.observed import Intervals, inside
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.io.read.validity import control_allows, invalid_intervals

BLOCK = 4096
"""Timestamps summarised by one entry of the index that is kept in memory."""
SCAN = 64 * BLOCK
"""Timestamps read at once."""
GAP = 1.5
"""Sampling periods between two samples from which on something is missing."""
REGULAR = 1e-3
"""Share of the period by which steps may differ and the clock still counts as regular."""


@dataclass(frozen=True)
class SampleClock:
    """Times of the samples of one series.

    Parameters
    ----------
    n_samples : int
    period : float or None
        Seconds from one sample to the next (the median step of timestamps); None for a single sample without a rate.
    span : (float, float)
        Time of the first sample, and of the last one plus its period. In a gap a sample stands for its own period only.
    regular : bool
        Whether all steps are the same within a thousandth.
    gaps, longest_gap, missing_time : int, float, float
        Number of steps longer than 1.5 periods, the longest of them, and the sum of what they exceed one period by [s].
    untimed : int
        Samples without a valid timestamp; they are never observed.
    notes : tuple of str
    """

    n_samples: int
    period: float | None
    span: tuple[float, float]
    regular: bool
    gaps: int
    longest_gap: float
    missing_time: float
    untimed: int
    notes: tuple[str, ...]
    starting_time: float = 0.0
    rate: float = np.nan
    stamps: _Stamps | None = field(default=None, repr=False)

    def times(self, first: int, stop: int) -> NDArray[np.float64]:
        """Seconds on the session clock of samples `first` to `stop`, NaN where a sample has no valid time."""
        if self.stamps is None:
            return self.starting_time + np.arange(first, stop) / self.rate
        return self.stamps.read(first, stop)

    def ranges(self, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First sample of each window, and the one after the last; some samples outside the window may be among them."""
        if self.stamps is not None:
            return self.stamps.ranges(grid.starts - grid.bin_width, grid.stops + grid.bin_width)
        first = np.floor((grid.starts - self.starting_time) * self.rate) - 1
        stop = np.ceil((grid.stops - self.starting_time) * self.rate) + 2
        return (
            np.clip(first, 0, self.n_samples).astype(np.intp),
            np.clip(stop, 0, self.n_samples).astype(np.intp),
        )


@dataclass(frozen=True)
class CountedTimes:
    """Times of those samples of a series that count: NaN outside valid times, and where `control` does not allow them."""

    clock: SampleClock
    series: Any = field(repr=False)
    config: ReadConfig = field(repr=False)
    invalid: Intervals = field(repr=False)

    def read(self, first: int, stop: int) -> NDArray[np.float64]:
        """Seconds on the session clock of samples `first` to `stop`, NaN where one does not count."""
        times = self.clock.times(first, stop)
        dropped = inside(times, self.invalid) | ~control_allows(self.series, self.config, first=first, stop=stop)
        return np.where(dropped, np.nan, times)


def counted_times(nwbfile: Any, series: Any, config: ReadConfig, *, n_samples: int) -> CountedTimes:
    """Times of a series with `invalid_times`, `control` and bad timestamps taken into account.

    Raises
    ------
    DataError
        As `sample_clock`, or if the table of invalid times cannot be used.
    """
    clock = sample_clock(series, n_samples=n_samples, sentinel=config.sentinel)
    return CountedTimes(clock, series, config, invalid_intervals(nwbfile, config))


def sample_clock(series: Any, *, n_samples: int, sentinel: float | None = None) -> SampleClock:
    """Find out when a series was sampled.

    Timestamps win over a rate. They may have gaps and jitter, repeat themselves, and be NaN or `sentinel` here and there
    (such samples have no time and count nowhere); they may not go back.

    Parameters
    ----------
    series : pynwb.TimeSeries
    n_samples : int
        Length of its time axis.
    sentinel : float, optional
        A timestamp that stands for a missing one.

    Raises
    ------
    DataError
        If there are no samples, no usable rate or timestamps, as many timestamps as samples are not there, or they go back.
    """
    if n_samples == 0:
        raise DataError(f"series {series.name!r} has no samples")
    if series.timestamps is None:
        return _regular_clock(series, n_samples)
    return _stamped_clock(series, n_samples, sentinel)


def _regular_clock(series: Any, n_samples: int) -> SampleClock:
    # The shortest decimal of a float32 is what was meant by it: 29.97 rather than 29.969999.
    rate = float(str(series.rate)) if isinstance(series.rate, np.float32) else series.rate
    if rate is None or not np.isfinite(rate) or rate <= 0:
        raise DataError(
            f"series {series.name!r} has no timestamps and its rate is {rate}; expected a rate above 0 Hz, or timestamps"
        )
    starting_time = float(series.starting_time or 0.0)
    if not np.isfinite(starting_time):
        raise DataError(f"series {series.name!r} starts at {starting_time} s; expected a finite starting time")
    return SampleClock(
        n_samples=n_samples,
        period=1 / float(rate),
        span=(starting_time, starting_time + n_samples / float(rate)),
        regular=True,
        gaps=0,
        longest_gap=0.0,
        missing_time=0.0,
        untimed=0,
        notes=(),
        starting_time=starting_time,
        rate=float(rate),
    )


def _stamped_clock(series: Any, n_samples: int, sentinel: float | None) -> SampleClock:
    stamps = _Stamps(series.timestamps, sentinel)
    if stamps.n != n_samples:
        raise DataError(
            f"series {series.name!r} has {n_samples} samples but {stamps.n} timestamps; expected one each: which sample "
            "belongs to which time cannot be told"
        )
    survey = stamps.survey(series.name)
    first, last, period = survey.first, survey.last, survey.period
    notes = []
    if survey.untimed:
        notes.append(
            f"{survey.untimed} of {n_samples} samples of {series.name!r} have no valid timestamp and are left out"
        )
    if survey.repeated:
        notes.append(f"{survey.repeated} timestamps of {series.name!r} repeat the one before")
    if period is None and series.rate is not None and np.isfinite(series.rate) and series.rate > 0:
        period = 1 / float(series.rate)
    return SampleClock(
        n_samples=n_samples,
        period=period,
        span=(first, last + (period or 0.0)),
        regular=survey.regular,
        gaps=survey.gaps,
        longest_gap=survey.longest_gap,
        missing_time=survey.missing_time,
        untimed=survey.untimed,
        notes=tuple(notes),
        stamps=stamps,
    )


@dataclass(frozen=True)
class _Survey:
    """What one pass over all timestamps finds."""

    first: float
    last: float
    period: float | None
    regular: bool
    gaps: int
    longest_gap: float
    missing_time: float
    untimed: int
    repeated: int


class _Stamps:
    """Stored timestamps, read in pieces, with a small index of them."""

    def __init__(self, stored: Any, sentinel: float | None) -> None:
        self._slabs = Slabs(stored)
        self._sentinel = sentinel
        self.n = self._slabs.n_rows
        self._earliest = np.empty(0)
        self._latest = np.empty(0)

    def read(self, first: int, stop: int) -> NDArray[np.float64]:
        """Timestamps `first` to `stop`, NaN where one is not valid."""
        times = self._slabs.read(first, stop)[:, 0].astype(np.float64)
        times[~np.isfinite(times)] = np.nan
        if self._sentinel is not None:
            times[times == self._sentinel] = np.nan
        return times

    def survey(self, name: str) -> _Survey:
        """Go over all timestamps once, in pieces; makes the index too.

        Raises
        ------
        DataError
            If none is valid, or if they go back.
        """
        period = self._median_step()
        earliest: list[float] = []
        latest: list[float] = []
        first = last = np.nan
        untimed = repeated = gaps = 0
        longest = missing = spread = 0.0
        for start, times in self._pieces():
            known = np.isfinite(times)
            untimed += int((~known).sum())
            places = np.flatnonzero(known)
            steps = np.diff(times[places], prepend=last)
            if (steps < 0).any():
                self._refuse(
                    name, sample=start + int(places[np.argmax(steps < 0)]), times=times, start=start, last=last
                )
            steps = steps[np.isfinite(steps)]
            repeated += int((steps == 0).sum())
            if period is not None:
                wide = steps[steps > GAP * period]
                gaps += len(wide)
                longest = max(longest, float(wide.max(initial=0.0)))
                missing += float((wide - period).sum())
                spread = max(spread, float(np.abs(steps - period).max(initial=0.0)))
            if len(places):
                first = float(times[places[0]]) if np.isnan(first) else first
                last = float(times[places[-1]])
            for block in np.split(times, range(BLOCK, len(times), BLOCK)):
                valid = block[np.isfinite(block)]
                latest.append(float(valid[-1]) if len(valid) else (latest[-1] if latest else -np.inf))
                earliest.append(float(valid[0]) if len(valid) else latest[-1])
        if np.isnan(first):
            raise DataError(
                f"none of the {self.n} timestamps of {name!r} is valid; expected seconds on the session clock"
            )
        self._earliest, self._latest = np.array(earliest), np.array(latest)
        regular = period is not None and spread <= REGULAR * period
        return _Survey(first, last, period, regular, gaps, longest, missing, untimed, repeated)

    def ranges(
        self, starts: NDArray[np.float64], stops: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Samples from the first at or after each start to the last before each stop."""
        first = np.searchsorted(self._latest, starts, side="left") * BLOCK
        stop = np.searchsorted(self._earliest, stops, side="left") * BLOCK
        order = np.argsort(starts, kind="stable")
        for each in order:
            first[each] = self._refine(int(first[each]), float(starts[each]))
        for each in order:
            stop[each] = self._refine(max(int(stop[each]) - BLOCK, 0), float(stops[each]))
        first = np.minimum(first, self.n)
        return first, np.clip(stop, first, self.n)

    def _refine(self, block: int, moment: float) -> int:
        """First sample from `block` on, within the block, whose time is not before the moment."""
        times = self.read(block, block + BLOCK)
        reached = np.maximum.accumulate(np.where(np.isfinite(times), times, -np.inf))
        return block + int(np.searchsorted(reached, moment, side="left"))

    def _median_step(self) -> float | None:
        """Median of the positive steps, from at most 16 pieces spread over the whole."""
        starts = np.unique(np.linspace(0, max(self.n - BLOCK, 0), 16).astype(int))
        steps = []
        for start in starts:
            times = self.read(start, min(start + BLOCK, self.n))
            steps.append(np.diff(times[np.isfinite(times)]))
        found = np.concatenate(steps)
        found = found[found > 0]
        return float(np.median(found)) if len(found) else None

    def _pieces(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        for start in range(0, self.n, SCAN):
            yield start, self.read(start, min(start + SCAN, self.n))

    def _refuse(self, name: str, *, sample: int, times: NDArray[np.float64], start: int, last: float) -> None:
        before = times[: sample - start]
        before = before[np.isfinite(before)]
        earlier = float(before[-1]) if len(before) else last
        raise DataError(
            f"timestamps of {name!r} go back at sample {sample}: from {earlier:g} to {times[sample - start]:g} s; expected "
            "times that never fall; sort the samples, or set `sentinel` if the value stands for a missing time"
        )
