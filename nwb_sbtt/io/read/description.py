"""What `inspect` lists of a series: its shape, its times and the share that was observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.binning import simplest
from nwb_sbtt.data.grid import Kind
from nwb_sbtt.data.intervals import Intervals, total_duration
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.clock import BLOCK, GAP, REGULAR, sample_clock
from nwb_sbtt.io.read.indices import region_rows, row_ids
from nwb_sbtt.io.read.layout import sample_layout
from nwb_sbtt.io.read.results import Role
from nwb_sbtt.io.read.rounding import find_quantum, find_slips
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.io.read.tables import note_on_ids, table_region

MOST_EXACT = 10_000_000
"""Most timestamps, or entries of data, of which all are read; of longer series only parts, spread evenly."""
N_PARTS = 64
"""Parts that are read of a longer series,"""
ENTRIES_PER_PART = 1 << 17
"""and entries of data in each of them."""


@dataclass(frozen=True)
class Candidate:
    """One series that `read_nwb` can read.

    Parameters
    ----------
    path : str
        In-file path, to be passed as ``series``.
    type : str
        Neurodata type.
    kind : "units", "electrodes", "rois" or "series"
        What a channel is.
    default : bool
        Whether it is read without being named, if it is the only such series.
    role : "recording", "mask", "result", "copy" or "truth"
        Whether it was recorded. A result of a model, a copy beside results and the truth of a simulation are read by their
        exact paths alone.
    readable : bool
        Whether it can be read; if not, the notes say why.
    shape : tuple of int
        Of the stored data; for units (units, spikes).
    channels : int
        Number of channels.
    unit : str
        Unit of the values.
    rate : float or None
        Samples per second, from the median step where there are timestamps; None for spikes.
    regular : bool or None
        Whether all samples are evenly spaced.
    start, stop : float or None
        First and last moment, in seconds on the session clock.
    observed : float or None
        Share of the time from start to stop that was observed, mean over channels: by timestamps, finite values, invalid
        times, stored masks and, of units, their intervals.
    estimated : bool
        Whether `observed` and the gaps are estimated from parts of the series.
    gaps : int or None
        Number of gaps: steps longer than 1.5 sampling periods; for units, times in which no unit was observed.
    missing_time : float
        Sum of the gaps of a series [s]; 0 for units.
    longest_gap : float or None
        Seconds.
    notes : tuple of str
        One-line remarks for the user.
    """

    path: str
    type: str
    kind: Kind
    default: bool
    role: Role = "recording"
    readable: bool = True
    shape: tuple[int, ...] = ()
    channels: int = 0
    unit: str = ""
    rate: float | None = None
    regular: bool | None = None
    start: float | None = None
    stop: float | None = None
    observed: float | None = None
    estimated: bool = False
    gaps: int | None = None
    longest_gap: float | None = None
    missing_time: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float | None:
        """Seconds from start to stop."""
        return None if self.start is None or self.stop is None else self.stop - self.start

    def as_dict(self) -> dict[str, object]:
        """Return all fields, and the duration, as values that JSON can hold."""
        values = {**asdict(self), "duration": self.duration}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def describe_samples(candidate: Candidate, series: Any, invalid_times: Intervals) -> Candidate:
    """Complete what is listed of a TimeSeries: its shape, its times, and the share of samples that were observed.

    Parameters
    ----------
    candidate : Candidate
        With path, type, kind and default.
    series : pynwb.TimeSeries
        Numbers, in a layout that `nwb_sbtt.io.read.layout.sample_layout` knows.
    invalid_times : array (interval, 2)
        Seconds on the session clock.

    Raises
    ------
    DataError
        If the layout of the data is not known, or the times of the samples cannot be used.
    """
    layout = sample_layout(series)
    slabs = Slabs(series.data, transposed=layout.transposed)
    timing = _timing(series, n_samples=layout.n_samples)
    finite_share, partly_read = _finite_share(slabs)
    invalid_seconds = total_duration(np.clip(invalid_times, timing.start, timing.stop))
    notes = [*layout.notes, *timing.notes, *_note_on_channels(series, candidate.path)]
    if series.control is not None:
        notes.append(
            "has `control`, which is ignored; to use it, list the values that mark observed samples in the setting "
            "read.control"
        )
    duration = timing.stop - timing.start
    valid_share = 1.0
    if duration > 0:
        valid_share = max(0.0, 1 - timing.missing_time / duration) * (1 - invalid_seconds / duration)
    # Invalid times, gaps and missing values may coincide; the product of their shares is exact only where they do not.
    may_coincide = invalid_seconds > 0 and (timing.missing_time > 0 or finite_share < 1)
    return replace(
        candidate,
        shape=layout.shape,
        channels=layout.n_channels,
        unit=str(series.unit),
        rate=None if timing.period is None else simplest(1 / timing.period),
        regular=timing.regular,
        start=timing.start,
        stop=timing.stop,
        observed=finite_share * valid_share,
        estimated=timing.estimated or partly_read or may_coincide,
        gaps=timing.gaps,
        longest_gap=timing.longest_gap,
        missing_time=timing.missing_time,
        notes=tuple(notes),
    )


def _note_on_channels(series: Any, path: str) -> tuple[str, ...]:
    region = table_region(series)
    if region is None:
        return ()
    rows = np.unique(region_rows(region, path=path))
    return note_on_ids(row_ids(region.table, path=region.table.name)[rows], region.table.name)


@dataclass(frozen=True)
class _Timing:
    """When a series was sampled: seconds on the session clock, the sampling period [s], and its gaps."""

    start: float
    stop: float
    period: float | None
    regular: bool
    gaps: int
    longest_gap: float
    missing_time: float
    estimated: bool
    notes: tuple[str, ...] = ()


def _timing(series: Any, *, n_samples: int) -> _Timing:
    if series.timestamps is not None and n_samples > MOST_EXACT:
        return _estimated_timing(series, n_samples=n_samples)
    clock = sample_clock(series, n_samples=n_samples)
    return _Timing(
        *clock.span,
        clock.period,
        clock.regular,
        clock.gaps,
        clock.longest_gap,
        clock.missing_time,
        estimated=False,
        notes=clock.notes,
    )


def _estimated_timing(series: Any, *, n_samples: int) -> _Timing:
    """Times from parts of the timestamps; a gap between two parts shows in the time between them."""
    timestamps = Slabs(series.timestamps)
    part_indices: list[NDArray[np.intp]] = []
    part_times: list[NDArray[np.float64]] = []
    for first in np.linspace(0, n_samples - BLOCK, N_PARTS).astype(int):
        stored = timestamps.read(int(first), int(first) + BLOCK)[:, 0].astype(np.float64)
        valid = np.flatnonzero(np.isfinite(stored))
        part_indices.append(first + valid)
        part_times.append(stored[valid])
    quantum = find_quantum(part_times, timestamps.dtype)
    slipped = [np.zeros(len(part), dtype=bool) for part in part_times]
    if quantum is not None and quantum.slips:
        slipped = [find_slips(part, quantum.period) for part in part_times]
    kept = ~np.concatenate(slipped)
    indices, times = np.concatenate(part_indices)[kept], np.concatenate(part_times)[kept]
    if len(times) < 2:
        raise DataError(f"almost no timestamp of {series.name!r} is valid; expected seconds on the session clock")
    steps, index_steps = np.diff(times), np.diff(indices)
    period = float(np.median(steps[index_steps == 1])) if quantum is None else quantum.period
    rounding = 0.0 if quantum is None else quantum.size
    excess = steps - index_steps * period
    # Small deviations add up between two parts: only more than half a period and a thousandth of the step is a gap.
    is_gap = excess > np.maximum((GAP - 1) * period + rounding, np.where(index_steps > 1, REGULAR * steps, 0))
    notes = ["some timestamps decrease"] * bool((steps < 0).any())
    if quantum is not None and quantum.slips:
        notes.append(
            "some timestamps repeat the previous one or are half a sampling period off, and the next makes up for it; the "
            "others tell the rate and the gaps"
        )
    elif quantum is not None:
        notes.append(f"timestamps are rounded to {quantum}; the rate is computed from their mean step")
    return _Timing(
        start=float(times[0]),
        stop=float(times[-1]) + period,
        period=period,
        regular=bool((np.abs(excess[index_steps == 1]) <= REGULAR * period + rounding).all() and not is_gap.any()),
        gaps=int(is_gap.sum()),
        longest_gap=float((excess[is_gap] + period).max(initial=0.0)),
        missing_time=float(excess[is_gap].sum()),
        estimated=True,
        notes=tuple(notes),
    )


def share_of_entries(slabs: Slabs, counts: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> tuple[float, bool]:
    """Estimate which share of the entries of an array count.

    Parameters
    ----------
    slabs : Slabs
    counts : callable (entries) -> bool array
        Which of some entries count.

    Returns
    -------
    share : float
        1 for an array without entries.
    partly_read : bool
        Whether only parts were read, spread evenly.
    """
    if slabs.n_rows * slabs.n_columns == 0:
        return 1.0, False
    if slabs.n_rows * slabs.n_columns <= MOST_EXACT:
        return float(counts(slabs.read(0, slabs.n_rows)).mean()), False
    length = max(ENTRIES_PER_PART // slabs.n_columns, 1)
    starts = np.unique(np.linspace(0, max(slabs.n_rows - length, 0), N_PARTS).astype(int))
    shares = [counts(slabs.read(int(start), int(start) + length)).mean() for start in starts]
    return float(np.mean(shares)), True


def _finite_share(slabs: Slabs) -> tuple[float, bool]:
    """Share of entries that are finite, and whether only parts were read; integers always are finite."""
    return (1.0, False) if slabs.dtype.kind != "f" else share_of_entries(slabs, np.isfinite)
