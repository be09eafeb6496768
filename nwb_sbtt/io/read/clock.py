"""When each sample of a series was taken: from a rate and a starting time, or from timestamps with their gaps and faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.indices import check_real
from nwb_sbtt.io.read.rounding import Lines, Quantum, find_quantum, lay_lines
from nwb_sbtt.io.read.slabs import Slabs

BLOCK = 4096
"""Timestamps that one entry of the index in memory stands for."""
SCAN = 64 * BLOCK
"""Timestamps read at once."""
MEDIAN_BLOCKS = 16
"""Blocks, spread over all timestamps, whose steps give the sampling period."""
GAP = 1.5
"""A step of more than this many sampling periods is a gap."""
SECONDS = frozenset({"seconds", "second", "secs", "sec", "s", ""})
"""Units of time that mean seconds, in lower case."""
DRIFTED = 0.1
"""Sampling periods by which samples may drift past multiples of the median step before the mean step is the period."""
REGULAR = 1e-3
"""Steps of a regular clock differ from the sampling period by this share of it at most."""


@dataclass(frozen=True)
class SampleClock:
    """Times of the samples of one series.

    Parameters
    ----------
    n_samples : int
    period : float or None
        Seconds from one sample to the next (the median step of timestamps, or the mean one where jitter sets these apart);
        None for a single sample without a rate.
    span : (float, float)
        Time of the first sample, and of the last one plus its period; seconds on the session clock.
    regular : bool
        Whether all steps are the same within a thousandth.
    gaps, longest_gap, missing_time : int, float, float
        Number of steps longer than 1.5 periods, the longest of them [s], and the sum of their excess over one period [s].
    untimed : int
        Number of samples without a valid timestamp; they are never observed.
    notes : tuple of str
        One-line remarks for the user.
    starting_time, rate : float, float
        Time of the first sample [s] and samples per second, where there are no timestamps.
    timestamps : Timestamps or None
    rounded_to : str or None
        What the timestamps are rounded to, where that is coarse and the clock behind them was not found.
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
    timestamps: Timestamps | None = field(default=None, repr=False)
    rounded_to: str | None = None

    def times(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the times of some samples.

        Parameters
        ----------
        first, stop : int
            Samples `first` to `stop` − 1.

        Returns
        -------
        array (sample)
            Seconds on the session clock, NaN where a sample has no valid time.
        """
        if self.timestamps is None:
            return self.starting_time + np.arange(first, stop) / self.rate
        return self.timestamps.read(first, stop)

    def ranges(self, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find the samples of each window of a grid; a few samples outside the window may be among them.

        Parameters
        ----------
        grid : Grid

        Returns
        -------
        firsts, stops : int arrays (trial)
            The first sample of each window, and the one after its last.
        """
        if self.timestamps is not None:
            return self.timestamps.ranges(grid.starts - grid.bin_width, grid.stops + grid.bin_width)
        firsts = np.floor((grid.starts - self.starting_time) * self.rate) - 1
        stops = np.ceil((grid.stops - self.starting_time) * self.rate) + 2
        return (
            np.clip(firsts, 0, self.n_samples).astype(np.intp),
            np.clip(stops, 0, self.n_samples).astype(np.intp),
        )


def sample_clock(series: Any, *, n_samples: int, missing_value: float | None = None) -> SampleClock:
    """Find out when the samples of a series were taken.

    Timestamps are used rather than a rate. They may have gaps and jitter, repeat, and be NaN or `missing_value` in places (such
    samples have no time and are never observed); they may not go back.

    Parameters
    ----------
    series : pynwb.TimeSeries
    n_samples : int
        Length of its time axis.
    missing_value : float, optional
        Value that stands for a missing timestamp.

    Raises
    ------
    DataError
        If there are no samples, the rate or all timestamps are not valid, there are more or fewer timestamps than samples,
        timestamps go back, or times are no real numbers or in another unit than seconds.
    """
    if n_samples == 0:
        raise DataError(f"series {series.name!r} has no samples")
    _check_unit(series)
    if series.timestamps is None:
        return _clock_from_rate(series, n_samples)
    return _clock_from_timestamps(series, n_samples, missing_value)


def _check_unit(series: Any) -> None:
    """Refuse times that a file states in another unit than seconds, the only one that NWB allows."""
    io = series.get_read_io()
    if series.timestamps is not None:
        name, attributes = "timestamps", getattr(series.timestamps, "attrs", {})
    elif io is not None:
        # pynwb reads all times as seconds; what the file says stands in what the object was made from.
        name, attributes = "starting_time", io.manager.get_builder(series)["starting_time"].attributes
    else:
        return
    unit = attributes.get("unit", "seconds")
    unit = unit.decode("utf-8", errors="replace") if isinstance(unit, bytes) else str(unit)
    if unit.strip().lower() not in SECONDS:
        raise DataError(
            f"{name!r} of {series.name!r} is in {unit!r}; expected seconds; convert it to seconds, and set the unit "
            "to seconds"
        )


def _clock_from_rate(series: Any, n_samples: int) -> SampleClock:
    # The shortest decimal of a float32 is the rate that was meant: 29.97 rather than 29.969999.
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


def _clock_from_timestamps(series: Any, n_samples: int, missing_value: float | None) -> SampleClock:
    check_real(series.timestamps, f"timestamps of {series.name!r}", remedy="expected seconds on the session clock")
    shape = np.shape(series.timestamps)
    if len(shape) != 1:
        raise DataError(f"timestamps of {series.name!r} have shape {shape}; expected one time per sample: (sample,)")
    timestamps = Timestamps(series.timestamps, missing_value)
    if timestamps.n != n_samples:
        raise DataError(
            f"series {series.name!r} has {n_samples} samples but {timestamps.n} timestamps; expected one timestamp "
            "per sample, because the time of each sample is otherwise unknown; correct the file"
        )
    survey = timestamps.survey(series.name)
    notes = []
    quantum = None if survey.regular and not survey.repeated else timestamps.find_quantum()
    if quantum is not None and timestamps.straighten(quantum):
        survey = timestamps.survey(series.name)
        if timestamps.block > 1:
            notes.append(
                f"each {timestamps.block} samples of {series.name!r} share a timestamp, which is used as the time of "
                f"the first of them; the sampling period is {survey.period:.6g} s"
            )
        elif quantum.slips:
            notes.append(
                f"{timestamps.slipped} timestamps of {series.name!r} repeat the previous one or are half a sampling period "
                "off, and the next makes up for it; such a sample is read at the time between its neighbours"
            )
        else:
            notes.append(
                f"timestamps of {series.name!r} are rounded to {quantum}, the sampling period is {survey.period:.6g} "
                "s; times are taken from a straight line through each run of samples, which differs from the "
                "timestamps by at most half of the rounding"
            )
        quantum = None
    if survey.untimed:
        notes.append(
            f"{survey.untimed} of {n_samples} samples of {series.name!r} have no valid timestamp and are left out"
        )
    if survey.repeated:
        notes.append(f"{survey.repeated} timestamps of {series.name!r} repeat the previous one")
    period = survey.period
    if period is None and series.rate is not None and np.isfinite(series.rate) and series.rate > 0:
        period = 1 / float(series.rate)
    return SampleClock(
        n_samples=n_samples,
        period=period,
        span=(survey.first, survey.last + (period or 0.0)),
        regular=survey.regular,
        gaps=survey.gaps,
        longest_gap=survey.longest_gap,
        missing_time=survey.missing_time,
        untimed=survey.untimed,
        notes=tuple(notes),
        timestamps=timestamps,
        rounded_to=None if quantum is None or quantum.slips else str(quantum),
    )


@dataclass(frozen=True)
class Survey:
    """What one pass over all timestamps tells: first and last [s], period [s], gaps and numbers of faulty timestamps.

    Parameters
    ----------
    first, last : float
        First and last timestamp, in seconds on the session clock.
    period : float or None
        Sampling period [s]; None for a single timestamp.
    regular : bool
        Whether all steps are the sampling period within a small share of it.
    gaps : int
        Number of gaps.
    longest_gap, missing_time : float
        Seconds.
    untimed, repeated : int
        Numbers of timestamps that are not finite, and of those equal to the one before.
    """

    first: float
    last: float
    period: float | None
    regular: bool
    gaps: int
    longest_gap: float
    missing_time: float
    untimed: int
    repeated: int


class Timestamps:
    """Stored timestamps, read in blocks, with an index of the blocks in memory.

    Parameters
    ----------
    stored : array-like (sample)
        An h5py or zarr dataset or an array; seconds on the session clock.
    missing_value : float or None
        Value that stands for a missing timestamp.
    """

    def __init__(self, stored: Any, missing_value: float | None) -> None:
        self._slabs = Slabs(stored)
        self._missing_value = missing_value
        self._lines: Lines | None = None
        self.n = self._slabs.n_rows
        # First valid time at or after the start of each block, and last valid time up to its end; set by `survey`.
        self._earliest = np.empty(0)
        self._latest = np.empty(0)

    def read(self, first: int, stop: int) -> NDArray[np.float64]:
        """Read some timestamps.

        Parameters
        ----------
        first, stop : int
            Timestamps `first` to `stop` − 1.

        Returns
        -------
        array (sample)
            Seconds on the session clock, NaN where one is not valid.
        """
        times = self._slabs.read(first, stop)[:, 0].astype(np.float64)
        times[~np.isfinite(times)] = np.nan
        if self._missing_value is not None:
            times[times == self._missing_value] = np.nan
        if self._lines is None:
            return times
        return np.where(np.isfinite(times), self._lines.times(max(first, 0), min(stop, self.n)), np.nan)

    @property
    def block(self) -> int:
        """Samples that share a timestamp because blocks of them were stamped; 1 otherwise."""
        return 1 if self._lines is None else self._lines.block

    @property
    def slipped(self) -> int:
        """Single timestamps that lie half a sampling period or a whole one beside the even clock of the others."""
        return 0 if self._lines is None else self._lines.slipped

    def find_quantum(self) -> Quantum | None:
        """Find out from some blocks whether timestamps are rounded so coarsely that it shows between two samples."""
        return find_quantum(list(self._blocks(self._some_starts())), self._slabs.dtype)

    def straighten(self, quantum: Quantum) -> bool:
        """Replace rounded timestamps by lines through each run of samples, if there are such lines, and tell so.

        Parameters
        ----------
        quantum : Quantum
            What `find_quantum` found. `survey` must be called again.
        """
        self._lines = lay_lines(self.read, self.n, quantum)
        return self._lines is not None

    def survey(self, name: str) -> Survey:
        """Read all timestamps once, in parts, and index them.

        Parameters
        ----------
        name : str
            Of the series, for errors.

        Raises
        ------
        DataError
            If none is valid, or if they go back.
        """
        period = self._median_step() if self._lines is None else self._lines.period
        earliest: list[float] = []
        latest: list[float] = []
        first = last = np.nan
        untimed = repeated = gaps = 0
        longest_gap = missing_time = largest_deviation = even_time = 0.0
        n_even = 0
        for start in range(0, self.n, SCAN):
            times = self.read(start, min(start + SCAN, self.n))
            valid = np.flatnonzero(np.isfinite(times))
            untimed += len(times) - len(valid)
            steps = np.diff(times[valid], prepend=last)
            if (steps < 0).any():
                raise DataError(_goes_back(name, times, int(valid[np.argmax(steps < 0)]), start=start, last=last))
            steps = steps[np.isfinite(steps)]
            repeated += int((steps == 0).sum())
            if period is not None:
                gap_steps = steps[steps > GAP * period]
                even_time += float(steps[steps <= GAP * period].sum())
                n_even += int((steps <= GAP * period).sum())
                gaps += len(gap_steps)
                longest_gap = max(longest_gap, float(gap_steps.max(initial=0.0)))
                missing_time += float((gap_steps - period).sum())
                largest_deviation = max(largest_deviation, float(np.abs(steps - period).max(initial=0.0)))
            if len(valid):
                first = float(times[valid[0]]) if np.isnan(first) else first
                last = float(times[valid[-1]])
            for block in np.split(times, range(BLOCK, len(times), BLOCK)):
                block_times = block[np.isfinite(block)]
                latest.append(float(block_times[-1]) if len(block_times) else (latest[-1] if latest else -np.inf))
                earliest.append(float(block_times[0]) if len(block_times) else latest[-1])
        if np.isnan(first):
            raise DataError(
                f"none of the {self.n} timestamps of {name!r} is valid; expected seconds on the session clock"
            )
        self._earliest, self._latest = np.array(earliest), np.array(latest)
        # With jitter the median step is a little off, and over a recording bins of that width would drift past the samples.
        if period is not None and not repeated and abs(even_time - n_even * period) > DRIFTED * period:
            period = even_time / n_even
        # Of large times the differences are not exact.
        slack = 0.0 if self._lines is None else 2 * float(np.spacing(abs(last)))
        regular = period is not None and largest_deviation <= REGULAR * period + slack
        return Survey(first, last, period, regular, gaps, longest_gap, missing_time, untimed, repeated)

    def ranges(
        self, starts: NDArray[np.float64], stops: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find the samples of each window; `survey` must have been called.

        Parameters
        ----------
        starts, stops : arrays (window)
            Seconds on the session clock.

        Returns
        -------
        firsts, stops : int arrays (window)
            The first sample at or after each start, and the one after the last sample before each stop.
        """
        firsts = np.searchsorted(self._latest, starts, side="left") * BLOCK
        ends = np.searchsorted(self._earliest, stops, side="left") * BLOCK
        # Rising order, so that each chunk of the file is read once.
        order = np.argsort(starts, kind="stable")
        for window in order:
            firsts[window] = self._first_at(int(firsts[window]), float(starts[window]))
        for window in order:
            ends[window] = self._first_at(max(int(ends[window]) - BLOCK, 0), float(stops[window]))
        firsts = np.minimum(firsts, self.n)
        return firsts, np.clip(ends, firsts, self.n)

    def _first_at(self, start: int, moment: float) -> int:
        """First sample of the block that begins at `start` whose time is not before the moment."""
        times = self.read(start, start + BLOCK)
        latest = np.maximum.accumulate(np.where(np.isfinite(times), times, -np.inf))
        return start + int(np.searchsorted(latest, moment, side="left"))

    def _median_step(self) -> float | None:
        """Median of the positive steps in some blocks; None where there is none."""
        steps = np.concatenate([np.diff(times[np.isfinite(times)]) for times in self._blocks(self._some_starts())])
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else None

    def _some_starts(self) -> NDArray[np.intp]:
        return np.unique(np.linspace(0, max(self.n - BLOCK, 0), MEDIAN_BLOCKS).astype(np.intp))

    def _blocks(self, starts: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
        for start in starts:
            yield self.read(start, min(start + BLOCK, self.n))


def _goes_back(name: str, times: NDArray[np.float64], index: int, *, start: int, last: float) -> str:
    """The error about timestamp `index` of a part that begins at sample `start`; `last` is the last time before the part."""
    earlier = times[:index]
    earlier = earlier[np.isfinite(earlier)]
    previous = float(earlier[-1]) if len(earlier) else last
    return (
        f"timestamps of {name!r} decrease at sample {start + index}, from {previous:g} to {times[index]:g} s; "
        "expected times that never decrease; sort the samples, or set read.missing_value if this value marks a "
        "missing time"
    )
