"""Sorted units put into bins: counts, and the share of each bin during which each unit was observed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import Chop, ReadConfig
from nwb_sbtt.data.binning import event_placer, tolerance
from nwb_sbtt.data.counts import BINS_AT_ONCE, COUNT_TYPES, Counts
from nwb_sbtt.data.grid import Binned, Grid, Kind
from nwb_sbtt.data.intervals import (
    Intervals,
    count_between,
    covered_share,
    difference,
    inside,
    limits,
    select_between,
    total_duration,
    union,
)
from nwb_sbtt.data.memory import SPIKE, check_memory
from nwb_sbtt.data.threads import in_threads, split_range
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.description import Candidate
from nwb_sbtt.io.read.indices import check_real, ragged_column, row_ids
from nwb_sbtt.io.read.masks import StoredMask, invalid_intervals, obs_intervals, one_interval_each, stored_masks
from nwb_sbtt.io.read.neurodata import reader
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.periods import UnitPeriods, valid_periods
from nwb_sbtt.io.read.plausibility import IF_SLOW, IN_SECONDS, OddRate, Uncounted, check_losses, odd_rate
from nwb_sbtt.io.read.rounding import note_on_spacing
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.io.read.tables import note_on_ids, plain_columns

ALWAYS = np.array([[-np.inf, np.inf]])
"""The intervals of units that do not tell when they were observed; told from others by identity, not by value."""
BLOCK = 1 << 16
"""Spikes read and binned at once, so that what is computed from them stays in the cache."""
GROUP = 64
"""Units of different intervals whose observed bins are written at once."""
LAST_SPIKE = 1e-6
"""Seconds by which a recording of unknown length outlasts its last spike, so that this spike lies in a bin."""
MOST_LOOKED_AT = 8
"""Units of which `inspect` compares a spike with their intervals."""
MOST_EXACT = 10_000_000
"""Most spikes that are all read to find the first and the last; with more, only the ends of each unit's train are."""
Scalar = TypeVar("Scalar", np.bool_, np.float32)


@dataclass(frozen=True)
class UnitsSource:
    """A units table ready to be put on any grid.

    Parameters
    ----------
    path : str
        In-file path of the table.
    channel_id : array (unit)
    channel_row : int array (unit)
        Row of each unit in the table.
    channel_columns : mapping of name to array (unit)
    span : (float, float)
        First and last moment, in seconds on the session clock.
    notes : tuple of str
        One-line remarks for the user.
    obs_intervals : tuple of arrays (interval, 2), or None
        Those of each unit in the table [s]; None where it has none or the settings ignore them.
    observed_intervals : tuple of arrays (interval, 2)
        The same within the units' valid periods, less the invalid times.
    slow : OddRate or None
        What is said of units that fire far more slowly than neurons do, for longer than a recording lasts.
    spike_times : array-like (spike)
        All spike times as stored, unit after unit.
    bounds : int array (unit + 1)
        First spike of each row of the table, and the number of spikes.
    config : ReadConfig
    masks : tuple of StoredMask
        They hide whole bins.
    kind : "units"
        What a channel is.
    unit : "counts"
    sampling_period : None
        Spikes have none.
    """

    path: str
    channel_id: NDArray[np.generic]
    channel_row: NDArray[np.intp]
    channel_columns: Mapping[str, NDArray[np.generic]]
    span: tuple[float, float]
    notes: tuple[str, ...]
    obs_intervals: tuple[Intervals, ...] | None = field(repr=False)
    observed_intervals: tuple[Intervals, ...] = field(repr=False)
    slow: OddRate | None = field(repr=False)
    spike_times: Any = field(repr=False)
    bounds: NDArray[np.int64] = field(repr=False)
    config: ReadConfig = field(repr=False)
    masks: tuple[StoredMask, ...] = field(default=(), repr=False)
    kind: Kind = "units"
    unit: str = "counts"
    sampling_period: float | None = None

    @property
    def table(self) -> str:
        """In-file path of the table that the ids belong to."""
        return self.path

    def only(self, keep: NDArray[np.bool_]) -> UnitsSource:
        """Return the same table with some of its units; the spikes of the others are not read."""
        units = np.flatnonzero(keep)
        obs = self.obs_intervals
        return replace(
            self,
            channel_id=self.channel_id[units],
            channel_row=self.channel_row[units],
            channel_columns={name: values[units] for name, values in self.channel_columns.items()},
            obs_intervals=None if obs is None else tuple(obs[unit] for unit in units),
            observed_intervals=tuple(self.observed_intervals[unit] for unit in units),
        )

    def bin(self, grid: Grid) -> Binned:
        """Count spikes; a spike outside its unit's intervals is not counted, a bin outside them is unobserved.

        Each spike is read once and counted in the memory of the result, by several threads; see `nwb_sbtt.data.counts`.

        Raises
        ------
        DataError
            If a bin holds more spikes than can be counted, most spikes of a unit lie outside its intervals, or spike times
            cannot be seconds.
        """
        observed, exposure = self._observed_bins(grid)
        shape = (*grid.shape, len(self.channel_id))
        for mask in self.masks:
            observed = observed & mask.bin(grid, self.channel_row).reshape(-1, shape[2])
        values, uncounted = self._counts(grid, observed)
        self._check_losses(uncounted)
        self._check_rate(float(values.sum(dtype=np.float64)), observed, grid)
        return Binned(
            values.reshape(shape),
            _for_all_units(observed, shape),
            None if exposure is None else _for_all_units(exposure, shape),
            (*self._notes_on_unrecorded_bins(grid), *self._notes_on_uncounted(uncounted)),
        )

    def _counts(self, grid: Grid, observed: NDArray[np.bool_]) -> tuple[NDArray[np.float32], Uncounted]:
        """Counts (bin, unit), and the spikes that are in none of them."""
        lookup = _Lookup(
            event_placer(grid),
            # A spike on the very end of an obs_interval belongs to it, though to no bin in it.
            {id(array): limits(union(array + [0, 2] * tolerance(array))) for array in _distinct(self.obs_intervals)},
            {id(array): limits(array) for array in _distinct(self.observed_intervals)},
        )
        for width in COUNT_TYPES:
            counts = Counts(len(self.channel_id), grid.shape[0] * grid.n_bins, dtype=width)
            parts = in_threads(partial(self._count, counts, lookup), split_range(0, len(self.channel_id)))
            uncounted = [part for part in parts if part is not None]
            if len(uncounted) == len(parts):
                return counts.finish(observed), Uncounted.joined(uncounted)
            # The next width needs the memory.
            del counts
        raise DataError(f"a bin of {self.path!r} has more spikes than can be counted; its spike times are damaged")

    def _count(self, counts: Counts, lookup: _Lookup, units: range) -> Uncounted | None:
        """Count the spikes of some units; None where there are more than `counts` can hold."""
        rows = self.channel_row[units.start : units.stop]
        n_spikes = self.bounds[rows + 1] - self.bounds[rows]
        n_parts = max(-(-int(n_spikes.max()) // BLOCK), 1)
        n_finite, outside = np.zeros((2, len(units)), dtype=np.int64)
        for index, times in spikes_by_unit(self.spike_times, self.bounds, rows):
            unit = units[index]
            n_finite[index] += len(times)
            if self.obs_intervals is not None:
                outside[index] += len(times) - count_between(times, lookup.obs_limits[id(self.obs_intervals[unit])])
            if self.observed_intervals[unit] is not ALWAYS:
                times = select_between(times, lookup.observed_limits[id(self.observed_intervals[unit])])
            if not counts.add(unit, lookup.bins(times), n_parts=n_parts):
                return None
        return Uncounted(n_spikes - n_finite, outside)

    def _observed_bins(self, grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None]:
        """Whether each unit was observed in each bin, and for which share if any was in part; arrays (bin, unit).

        Where all units share their intervals the arrays have one column.
        """
        distinct = _distinct(self.observed_intervals)
        intervals = self.observed_intervals if len(distinct) > 1 else distinct
        shape = (grid.shape[0] * grid.n_bins, len(intervals))
        observed = np.empty(shape, dtype=bool)
        exposure: NDArray[np.float32] | None = None
        share_of: dict[int, NDArray[np.float32]] = {}
        for first in range(0, len(intervals), GROUP):
            group = intervals[first : first + GROUP]
            # What the group before has computed is used again, and no more than one group is in memory.
            share_of = {
                id(array): share_of[id(array)] if id(array) in share_of else _observed_share(array, grid)
                for array in _distinct(group)
            }
            observed_of = {key: share > 0 for key, share in share_of.items()}
            _write_rows(observed, first, [observed_of[id(array)] for array in group])
            if any(((share > 0) & (share < 1)).any() for share in share_of.values()):
                exposure = np.ones(shape, dtype=np.float32) if exposure is None else exposure
                exposure_of = {key: np.where(share > 0, share, np.float32(1)) for key, share in share_of.items()}
                _write_rows(exposure, first, [exposure_of[id(array)] for array in group])
        return observed, exposure

    def _notes_on_unrecorded_bins(self, grid: Grid) -> tuple[str, ...]:
        """A note on bins that count as observed for want of intervals, though the file records nothing in them."""
        if self.obs_intervals is not None or not self.config.obs_intervals:
            return ()
        outside = covered_share([self.span], grid) == 0
        if any(array is not ALWAYS for array in self.observed_intervals):
            outside &= covered_share(union(np.concatenate(_distinct(self.observed_intervals))), grid) > 0
        if not outside.any():
            return ()
        first, last = self.span
        return (
            f"{int(outside.sum())} of {outside.size} bins, in {int(outside.any(axis=1).sum())} of {len(outside)} "
            f"windows, are before the first or after the last spike ({first:g} to {last:g} s); they count as "
            f"observed, because the units of {self.path!r} have no obs_intervals",
        )

    def _notes_on_uncounted(self, uncounted: Uncounted) -> tuple[str, ...]:
        notes = []
        if n_not_finite := int(uncounted.not_finite.sum()):
            notes.append(f"{n_not_finite} spike times of {self.path!r} are not finite and are left out")
        if n_outside := int(uncounted.outside.sum()):
            notes.append(
                f"{n_outside} spikes of {self.path!r} are outside the obs_intervals of their unit and are not counted"
            )
        return tuple(notes)

    def _check_losses(self, uncounted: Uncounted) -> None:
        never = np.zeros(len(self.channel_id), dtype=bool)
        if self.obs_intervals is not None:
            never = np.array([len(array) == 0 for array in self.obs_intervals])
        n_spikes = np.diff(self.bounds)[self.channel_row]
        check_losses(self.path, self.channel_id, n_spikes, uncounted, never_observed=never)

    def _check_rate(self, n_counted: float, observed: NDArray[np.bool_], grid: Grid) -> None:
        """Refuse windows with hardly a spike in a table whose times cannot be seconds."""
        if self.slow is not None and n_counted < self.slow.slowest * observed.mean() * len(self.channel_id) * _seconds(
            grid
        ):
            raise DataError(f"{self.slow.remark}; the {len(grid.starts)} windows have {n_counted:g} spikes; {IF_SLOW}")


def has_spikes(units: Any) -> bool:
    """Tell whether a units table has units and spike times.

    Parameters
    ----------
    units : pynwb.misc.Units
    """
    return "spike_times" in units.colnames and len(units) > 0


def describe_units(candidate: Candidate, units: Any, invalid_times: Intervals) -> Candidate:
    """Complete what is listed of a units table: its size, its times, and the share of them that was observed.

    Parameters
    ----------
    candidate : Candidate
        With path, type, kind and default.
    units : pynwb.misc.Units
    invalid_times : array (interval, 2)
        Seconds on the session clock.

    Raises
    ------
    DataError
        If there are no units or spike times, or their index or their intervals are damaged.
    """
    spike_times, bounds = stored_spikes(units, candidate.path)
    obs = obs_intervals(units, candidate.path)
    candidate = replace(candidate, shape=(len(units), int(bounds[-1])), channels=len(units), unit="counts")
    start, stop = _span(spike_times, bounds, obs)
    ids = row_ids(units, path=candidate.path)
    notes = (*_notes(units, obs, bounds, candidate.path, ReadConfig()), *note_on_ids(ids, candidate.path))
    if not stop > start:
        return replace(candidate, notes=("no spikes and no observation intervals", *notes))
    session = np.array([[start, stop]])
    intervals = [session] * len(units) if obs is None else obs
    observed = {id(array): difference(np.clip(array, start, stop), invalid_times) for array in intervals}
    share = np.mean([total_duration(observed[id(array)]) for array in intervals]) / (stop - start)
    by_any_unit = union(np.concatenate(list(observed.values())))
    gaps = by_any_unit[1:, 0] - by_any_unit[:-1, 1]
    seconds = _observed_seconds(obs, (start, stop), n_units=len(units))
    active = partial(_active_seconds, spike_times, bounds)
    odd = odd_rate(units, candidate.path, n_spikes=int(bounds[-1]), observed=seconds, span=(start, stop), active=active)
    return replace(
        candidate,
        start=start,
        stop=stop,
        observed=float(share),
        gaps=len(gaps),
        longest_gap=float(gaps.max(initial=0.0)),
        notes=(
            *notes,
            *note_on_spacing(spike_times, (start, stop), f"the spike times of {candidate.path!r}"),
            *_outside_note(spike_times, bounds, obs),
            *([] if odd is None else [f"{odd.remark}; {IF_SLOW}" if odd.is_refused else odd.remark]),
        ),
    )


@reader("Units", kind="units", default=has_spikes, describe=describe_units)
def units_source(nwbfile: Any, units: Any, config: ReadConfig) -> UnitsSource:
    """Prepare a units table for reading.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    units : pynwb.misc.Units
    config : ReadConfig

    Raises
    ------
    DataError
        If there are no units or spike times, the index of the spike times is damaged, or an interval has no bounds.
    """
    path = in_file_path(nwbfile, units)
    spike_times, bounds = stored_spikes(units, path)
    obs = obs_intervals(units, path) if config.obs_intervals else None
    span = recorded_span(units, path, config)
    n_spikes, observed = int(bounds[-1]), _observed_seconds(obs, span, n_units=len(units))
    active = partial(_active_seconds, spike_times, bounds)
    odd = odd_rate(units, path, n_spikes=n_spikes, observed=observed, span=span, active=active)
    periods = valid_periods(nwbfile, units, config)
    masks, about_masks = stored_masks(nwbfile, units, config, span=span)
    notes = [*_notes(units, obs, bounds, path, config), *about_masks]
    notes += [] if odd is None else [odd.remark]
    notes += note_on_spacing(spike_times, span, f"the spike times of {path!r}", bin_width=config.bin_width)
    notes += [] if periods is None else [periods.note(span)]
    slow = odd if odd is not None and odd.is_refused and not config.slow_units else None
    cut = config.cut or Chop()
    if slow is not None and isinstance(cut, Chop) and cut.start is None and cut.stop is None:
        raise DataError(
            f"{slow.remark}; correct the file, or select the part to read with start and stop of a Chop (--window); "
            f"{IF_SLOW}"
        )
    ids = row_ids(units, path=path)
    notes += note_on_ids(ids, path)
    return UnitsSource(
        path=path,
        channel_id=ids,
        channel_row=np.arange(len(units)),
        channel_columns=plain_columns(units),
        span=span,
        notes=tuple(notes),
        obs_intervals=obs,
        observed_intervals=_observed_intervals(
            obs, periods, invalid_intervals(nwbfile, config, units), n_units=len(units)
        ),
        slow=slow,
        spike_times=spike_times,
        bounds=bounds,
        config=config,
        masks=masks,
    )


def recorded_span(units: Any, path: str, config: ReadConfig) -> tuple[float, float]:
    """Find the first and the last moment of the observation intervals of units or, without any, of their spikes.

    Parameters
    ----------
    units : pynwb.misc.Units
    path : str
        In-file path of the table, for errors.
    config : ReadConfig

    Returns
    -------
    (float, float)
        Seconds on the session clock.

    Raises
    ------
    DataError
        If there are no units or spike times, the index of the spike times is damaged, an interval has no bounds, or there is
        neither a spike nor an interval.
    """
    spike_times, bounds = stored_spikes(units, path)
    obs = obs_intervals(units, path) if config.obs_intervals else None
    ends = _ends(obs, partial(first_and_last, spike_times, bounds))
    if len(ends) == 0:
        raise DataError(f"no unit of {path!r} has a spike or an observation interval, so there is nothing to read")
    return float(ends.min()), float(ends.max())


def stored_spikes(units: Any, path: str) -> tuple[Any, NDArray[np.int64]]:
    """Return the spike times of a units table as they are stored.

    Parameters
    ----------
    units : pynwb.misc.Units
    path : str
        In-file path of the table, for errors.

    Returns
    -------
    spike_times : array-like (spike)
        Seconds on the session clock, unit after unit; not read yet.
    bounds : int array (unit + 1)
        First spike of each unit, and the number of spikes.

    Raises
    ------
    DataError
        If there are no units or spike times, the times are not one real number per spike, or their index is damaged.
    """
    if "spike_times" not in units.colnames:
        raise DataError(f"table {path!r} has no column 'spike_times'; it has {sorted(units.colnames)}")
    if len(units) == 0:
        raise DataError(f"table {path!r} has no rows, so there is no unit to read")
    column = ragged_column(units, "spike_times", path=path)
    shape = np.shape(column.values)
    if len(shape) != 1:
        raise DataError(f"column 'spike_times' of {path!r} has shape {shape}; expected one time per spike: (spike,)")
    check_real(column.values, f"column 'spike_times' of {path!r}")
    check_memory(
        shape[0], SPIKE, what=f"the {shape[0]} spike times of {path!r}", remedy="check whether the table is damaged"
    )
    return column.values, column.bounds


def spikes_by_unit(
    spike_times: Any, bounds: NDArray[np.int64], units: Sequence[int] | NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Read the spikes of some units in one pass, in blocks that hold several short trains, or a part of a long one.

    Parameters
    ----------
    spike_times, bounds
        As `stored_spikes` returns them.
    units : sequence of int
        Rows of the table, rising.

    Yields
    ------
    index : int
        Which of the units asked for. Long trains come in several parts, silent units not at all.
    times : array (spike)
        Finite spike times in rising order, seconds on the session clock.
    """
    slabs = Slabs(spike_times)
    block = max(BLOCK, 2 * slabs.chunk_rows)
    index = 0
    while index < len(units):
        begin, after = bounds[units[index]], index + 1
        while after < len(units) and units[after] == units[after - 1] + 1 and bounds[units[after] + 1] - begin <= block:
            after += 1
        end = bounds[units[after - 1] + 1]
        if end - begin <= block:
            times = _read_times(slabs, begin, end)
            for i in range(index, after):
                yield from _rising_part(i, times[bounds[units[i]] - begin : bounds[units[i] + 1] - begin])
        else:
            for start in range(int(begin), int(end), block):
                yield from _rising_part(index, _read_times(slabs, start, min(start + block, int(end))))
        index = after


def first_and_last(spike_times: Any, bounds: NDArray[np.int64]) -> list[float]:
    """Find the time of the first spike, and the end of the recording as far as the last spike tells.

    Parameters
    ----------
    spike_times, bounds
        As `stored_spikes` returns them.

    Returns
    -------
    list of float
        Two times in seconds on the session clock; empty where no spike time is finite.
    """
    parts = in_threads(partial(_lowest_and_highest, spike_times), split_range(0, int(bounds[-1]), size=BLOCK))
    first = min((lowest for lowest, _ in parts), default=np.inf)
    last = max((highest for _, highest in parts), default=-np.inf)
    return [first, last + LAST_SPIKE] if np.isfinite(first) else []


@dataclass(frozen=True)
class _Lookup:
    """How spikes are assigned to bins and intervals; the limits of intervals by the identity of their array."""

    bins: Callable[[NDArray[np.float64]], NDArray[np.intp]]
    obs_limits: Mapping[int, Intervals]
    observed_limits: Mapping[int, Intervals]


def _observed_intervals(
    obs: tuple[Intervals, ...] | None, periods: UnitPeriods | None, invalid: Intervals, *, n_units: int
) -> tuple[Intervals, ...]:
    intervals = obs if obs is not None else (ALWAYS,) * n_units
    if periods is not None:
        # Units of the same intervals and periods share an array.
        shared: dict[tuple[int, bytes], Intervals] = {}
        keys = []
        for array, allowed in zip(intervals, periods.intervals, strict=True):
            keys.append((id(array), allowed.tobytes()))
            if keys[-1] not in shared:
                shared[keys[-1]] = difference(array, difference(ALWAYS, allowed))
        intervals = tuple(shared[key] for key in keys)
    if len(invalid) == 0:
        return intervals
    valid = {id(array): difference(array, invalid) for array in _distinct(intervals)}
    return tuple(valid[id(array)] for array in intervals)


def _distinct(intervals: Sequence[Intervals] | None) -> list[Intervals]:
    """Arrays that several units share, once each."""
    return list({id(array): array for array in intervals or ()}.values())


def _observed_share(intervals: Intervals, grid: Grid) -> NDArray[np.float32]:
    """Observed share of each bin, trial after trial."""
    if intervals is ALWAYS:
        return np.ones(grid.shape[0] * grid.n_bins, dtype=np.float32)
    return covered_share(intervals, grid).reshape(-1)


def _for_all_units(columns: NDArray[Scalar], shape: tuple[int, int, int]) -> NDArray[Scalar]:
    """An array (bin, unit), or (bin, 1) for all units, as (trial, time, unit); the latter takes no more memory."""
    array = columns.reshape(*shape[:2], columns.shape[1])
    return array if array.shape == shape else np.broadcast_to(array, shape)


def _write_rows(target: NDArray[Any], first: int, rows: Sequence[NDArray[Any]]) -> None:
    """Write a row (bin) for each unit, from unit `first` on, into an array (bin, unit)."""
    stop = first + len(rows)
    if all(row is rows[0] for row in rows):
        target[:, first:stop] = rows[0][:, None]
        return
    stacked = np.stack(rows)
    for low in range(0, len(target), BINS_AT_ONCE):
        target[low : low + BINS_AT_ONCE, first:stop] = stacked[:, low : low + BINS_AT_ONCE].T


def _ends(obs: tuple[Intervals, ...] | None, of_spikes: Callable[[], list[float]]) -> NDArray[np.float64]:
    """Bounds of all intervals; those of the spikes too where there are none, or an interval has no end."""
    bounds = np.concatenate([array.reshape(-1) for array in _distinct(obs)] or [np.empty(0)])
    finite = bounds[np.isfinite(bounds)]
    return finite if 0 < len(finite) == len(bounds) else np.append(finite, of_spikes())


def _span(spike_times: Any, bounds: NDArray[np.int64], obs: tuple[Intervals, ...] | None) -> tuple[float, float]:
    """First and last moment of the intervals or, without any, of the spikes, which are read for that only."""

    def of_spikes() -> list[float]:
        spikes = _spikes_with_ends(spike_times, bounds)
        return [float(spikes.min()), float(spikes.max()) + LAST_SPIKE] if len(spikes) else []

    ends = _ends(obs, of_spikes)
    return (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 0.0)


def _spikes_with_ends(spike_times: Any, bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """All finite spike times; of very many, the first and the last of each train."""
    if bounds[-1] <= MOST_EXACT:
        times = np.asarray(spike_times[: bounds[-1]], dtype=np.float64)
    else:
        active = np.flatnonzero(np.diff(bounds))
        ends = np.unique(np.concatenate([bounds[active], bounds[active + 1] - 1]))
        times = np.array([spike_times[int(index)] for index in ends], dtype=np.float64)
    return times[np.isfinite(times)]


def _lowest_and_highest(spike_times: Any, part: range) -> tuple[float, float]:
    """Smallest and largest finite one of some spike times; infinity and its negative where there is none."""
    slabs, lowest, highest = Slabs(spike_times), np.inf, -np.inf
    block = max(BLOCK, 2 * slabs.chunk_rows)
    for start in range(part.start, part.stop, block):
        times = _read_times(slabs, start, min(start + block, part.stop))
        if not (np.isfinite(times.min()) and np.isfinite(times.max())):
            times = times[np.isfinite(times)]
        if len(times):
            lowest, highest = min(lowest, float(times.min())), max(highest, float(times.max()))
    return lowest, highest


def _read_times(slabs: Slabs, first: int, stop: int) -> NDArray[np.float64]:
    return np.asarray(slabs.read(int(first), int(stop)), dtype=np.float64).reshape(-1)


def _rising_part(index: int, times: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    # NaN is in no order, and infinity can only be at an end: one comparison tells that the times are good.
    if len(times) and not ((times[1:] >= times[:-1]).all() and isfinite(times[0]) and isfinite(times[-1])):
        times = np.sort(times[np.isfinite(times)])
    if len(times):
        yield index, times


def _observed_seconds(obs: tuple[Intervals, ...] | None, span: tuple[float, float], *, n_units: int) -> float:
    """Seconds during which units were observed, summed over them."""
    if obs is None:
        return n_units * (span[1] - span[0])
    seconds = {id(array): total_duration(np.clip(array, *span)) for array in _distinct(obs)}
    return sum(seconds[id(array)] for array in obs)


def _active_seconds(spike_times: Any, bounds: NDArray[np.int64]) -> float:
    """Seconds from the first to the last spike of each unit, summed over them; all spikes are read."""
    firsts, lasts = np.full((2, len(bounds) - 1), np.nan)
    for unit, times in spikes_by_unit(spike_times, bounds, np.arange(len(firsts))):
        firsts[unit], lasts[unit] = np.fmin(firsts[unit], times[0]), np.fmax(lasts[unit], times[-1])
    return float(np.nansum(lasts - firsts))


def _seconds(grid: Grid) -> float:
    return grid.shape[0] * grid.n_bins * grid.bin_width


def _outside_note(spike_times: Any, bounds: NDArray[np.int64], obs: tuple[Intervals, ...] | None) -> tuple[str, ...]:
    """A remark where the first spikes of some units, which are all that is read, lie outside their intervals."""
    if obs is None:
        return ()
    units = [unit for unit in np.flatnonzero(np.diff(bounds)) if len(obs[unit])][:MOST_LOOKED_AT]
    middles = [(unit, float(spike_times[int(bounds[unit] + bounds[unit + 1]) // 2])) for unit in units]
    outside = [(unit, time) for unit, time in middles if not inside(np.array([time]), obs[unit]).any()]
    if len(outside) <= len(units) / 2:
        return ()
    unit, time = outside[0]
    return (
        f"in {len(outside)} of {len(units)} units the median spike time is outside obs_intervals (row {unit}: "
        f"{time:g} s, intervals from {obs[unit].min():g} to {obs[unit].max():g} s); {IN_SECONDS}",
    )


def _notes(
    units: Any, obs: tuple[Intervals, ...] | None, bounds: NDArray[np.int64], path: str, config: ReadConfig
) -> tuple[str, ...]:
    """Which reading is taken of intervals that are not given, or empty."""
    if obs is None and config.obs_intervals:
        given = "has empty obs_intervals for all units, which are treated as not given" * (
            "obs_intervals" in units.colnames
        )
        return (
            f"{path!r} {given or 'has no obs_intervals'}, so every unit counts as observed all the time, except where a mask "
            "or invalid_times exclude it",
        )
    if obs is not None and one_interval_each(units):
        return (f"the obs_intervals of {path!r} have no index; row n is used as the only interval of unit n",)
    never = np.array([len(array) == 0 for array in obs or ()], dtype=bool)
    if never.any():
        n_spikes = int(np.diff(bounds)[never].sum())
        return (
            f"{int(never.sum())} of {len(units)} units of {path!r} have no interval in obs_intervals, so they were never "
            f"observed; their {n_spikes} spikes are not counted (--set read.obs_intervals=false counts all)",
        )
    return ()
