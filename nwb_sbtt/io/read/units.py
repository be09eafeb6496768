"""Sorted units put into bins: counts, and which share of each bin each unit was watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from hdmf.common import VectorIndex
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.binning import placing, tolerance
from nwb_sbtt.data.counts import TURNED, WIDTHS, Counts
from nwb_sbtt.data.grid import Binned, Grid
from nwb_sbtt.data.observed import (
    Intervals,
    count_between,
    coverage,
    difference,
    limits,
    select_between,
    union,
)
from nwb_sbtt.data.schema import Kind
from nwb_sbtt.data.threads import in_threads, shares
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read import spikes
from nwb_sbtt.io.read.masks import StoredMask, stored_masks
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.spikes import first_and_last, spikes_by_unit, stored_spikes
from nwb_sbtt.io.read.tables import plain_columns
from nwb_sbtt.io.read.validity import check_intervals, invalid_intervals

GROUP = 64
"""Units of different intervals whose observation is put into place at once."""
Shown = TypeVar("Shown", np.bool_, np.float32)
ALWAYS = np.array([[-np.inf, np.inf]])


@dataclass(frozen=True)
class UnitsSource:
    """A units table ready to be put on any grid.

    ``watched`` holds the intervals in which each unit was observed: its own `obs_intervals` less the invalid times;
    ``own`` the former alone, None where the table has none or they are ignored. The stored ``masks`` are taken off in
    whole bins. ``recorded`` is when anything is known to have been recorded, for the notes on units without intervals.
    """

    path: str
    channel_id: NDArray[np.generic]
    channel_row: NDArray[np.intp]
    channel_columns: Mapping[str, NDArray[np.generic]]
    span: tuple[float, float]
    notes: tuple[str, ...]
    watched: tuple[Intervals, ...] = field(repr=False)
    own: tuple[Intervals, ...] | None = field(repr=False)
    recorded: Intervals = field(repr=False)
    spike_times: Any = field(repr=False)
    bounds: NDArray[np.int64] = field(repr=False)
    config: ReadConfig = field(repr=False)
    masks: tuple[StoredMask, ...] = field(default=(), repr=False)
    kind: Kind = "units"
    unit: str = "counts"
    sampling_period: float | None = None

    @property
    def table(self) -> str:
        """In-file path of the table that the ids count in."""
        return self.path

    def only(self, keep: NDArray[np.bool_]) -> UnitsSource:
        """The same table with some of its units; the spikes of the others are not read."""
        chosen = np.flatnonzero(keep)
        return replace(
            self,
            channel_id=self.channel_id[chosen],
            channel_row=self.channel_row[chosen],
            channel_columns={name: values[chosen] for name, values in self.channel_columns.items()},
            watched=tuple(self.watched[unit] for unit in chosen),
            own=None if self.own is None else tuple(self.own[unit] for unit in chosen),
        )

    def bin(self, grid: Grid) -> Binned:
        """Count spikes; a spike outside its unit's intervals is not counted, a bin outside them is unobserved.

        Each spike is read once, and counted in the memory of the result; see ``nwb_sbtt.data.counts``. Threads share the units.
        """
        observed, exposure = self._observation(grid)
        shape = (*grid.shape, len(self.channel_id))
        for mask in self.masks:
            observed = observed & mask.bin(grid, self.channel_row).reshape(-1, shape[2])
        values, found = self._counted(grid, observed)
        notes = self._findings(sum(each.not_finite for each in found), sum(each.outside for each in found))
        return Binned(
            values.reshape(shape),
            _of_all(observed, shape),
            None if exposure is None else _of_all(exposure, shape),
            (*self._unrecorded(grid), *notes),
        )

    def _counted(self, grid: Grid, observed: NDArray[np.bool_]) -> tuple[NDArray[np.float32], list[_Found]]:
        """Counts (bin, unit), and what else the spikes say."""
        # A spike on the very end of an interval belongs to it, though not to any bin within.
        own = {id(each): limits(union(each + [0, 2] * tolerance(each))) for each in _distinct(self.own or ())}
        places = _Places(placing(grid), own, {id(each): limits(each) for each in _distinct(self.watched)})
        for width in WIDTHS:
            counts = Counts(len(self.channel_id), grid.shape[0] * grid.n_bins, dtype=width)
            some = in_threads(partial(self._count, counts, places), shares(0, len(self.channel_id)))
            found = [each for each in some if each is not None]
            if len(found) == len(some):
                return counts.put(observed), found
            del counts
        raise DataError(f"a bin of {self.path!r} holds more spikes than can be counted: its spike times are damaged")

    def _count(self, counts: Counts, places: _Places, units: range) -> _Found | None:
        """Count the spikes of some units, and give what else they say; None where there are more than `counts` can hold."""
        rows = self.channel_row[units.start : units.stop]
        sizes = self.bounds[rows + 1] - self.bounds[rows]
        n_parts = max(-(-int(sizes.max()) // spikes.BLOCK), 1)
        n_finite, outside = 0, 0
        for place, times in spikes_by_unit(self.spike_times, self.bounds, rows):
            unit = units[place]
            n_finite += len(times)
            if self.own is not None and self.own[unit] is not ALWAYS:
                outside += len(times) - count_between(times, places.own[id(self.own[unit])])
            if self.watched[unit] is not ALWAYS:
                times = select_between(times, places.watched[id(self.watched[unit])])
            if not counts.add(unit, places.of(times), n_parts=n_parts):
                return None
        return _Found(int(sizes.sum()) - n_finite, outside)

    def _observation(self, grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None]:
        """Whether each unit was watched in each bin, and for which share where any was so in part; arrays (bin, unit).

        Where all units were watched at the same times these have one column.
        """
        distinct = _distinct(self.watched)
        watched = self.watched if len(distinct) > 1 else distinct
        shape = (grid.shape[0] * grid.n_bins, len(watched))
        observed = np.empty(shape, dtype=bool)
        exposure: NDArray[np.float32] | None = None
        known: dict[int, NDArray[np.float32]] = {}
        for first in range(0, len(watched), GROUP):
            group = watched[first : first + GROUP]
            known = {
                id(each): known[id(each)] if id(each) in known else _share(each, grid) for each in _distinct(group)
            }
            seen = {key: share > 0 for key, share in known.items()}
            _put(observed, first, [seen[id(each)] for each in group])
            if any(((share > 0) & (share < 1)).any() for share in known.values()):
                exposure = np.ones(shape, dtype=np.float32) if exposure is None else exposure
                parts = {key: np.where(share > 0, share, np.float32(1)) for key, share in known.items()}
                _put(exposure, first, [parts[id(each)] for each in group])
        return observed, exposure

    def _unrecorded(self, grid: Grid) -> tuple[str, ...]:
        """How much of what counts as observed lies where the file records nothing, for units that do not say themselves."""
        silent = len(self.channel_id) if self.own is None else sum(each is ALWAYS for each in self.own)
        if not self.config.obs_intervals or not silent or not len(self.recorded):
            return ()
        beyond = coverage(self.recorded, grid) == 0
        if not beyond.any():
            return ()
        told = f"{len(self.recorded)} intervals" if len(self.recorded) > 1 else "the time"
        whose = "from the first to the last spike" if self.own is None else "in which other units were observed,"
        return (
            f"{int(beyond.sum())} of {beyond.size} bins, in {int(beyond.any(axis=1).sum())} of {len(beyond)} windows, lie "
            f"outside {told} {whose} from {self.recorded.min():g} to {self.recorded.max():g} s; "
            f"{silent} of {len(self.channel_id)} units of {self.path!r} have no obs_intervals and count as observed there",
        )

    def _findings(self, not_finite: int, outside: int) -> tuple[str, ...]:
        notes = []
        if not_finite:
            notes.append(f"{not_finite} spike times of {self.path!r} are not finite and are left out")
        if outside:
            notes.append(
                f"{outside} spikes of {self.path!r} lie outside their unit's obs_intervals and are not counted"
            )
        return tuple(notes)


@dataclass(frozen=True)
class _Places:
    """How spikes are found in bins, and in the intervals in which units were watched: limits by the intervals' id.

    Those of the units' `own` intervals have what still belongs to them.
    """

    of: Callable[[NDArray[np.float64]], NDArray[np.intp]]
    own: Mapping[int, Intervals]
    watched: Mapping[int, Intervals]


@dataclass(frozen=True)
class _Found:
    """What reading the spikes finds beside the counts."""

    not_finite: int
    outside: int


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
    given = config.obs_intervals
    own = obs_intervals(units, path) if given else None
    invalid = invalid_intervals(nwbfile, config)
    limits = _limits(own)
    if own is None or len(limits) == 0 or any(each is ALWAYS for each in own):
        limits = np.append(limits, first_and_last(spike_times, bounds))
    if len(limits) == 0:
        raise DataError(f"no unit of {path!r} has a spike or an observation interval: there is nothing to read")
    span = (float(limits.min()), float(limits.max()))
    known = [each for each in _distinct(own or ()) if each is not ALWAYS]
    return UnitsSource(
        path=path,
        channel_id=np.asarray(units.id.data[:]),
        channel_row=np.arange(len(units)),
        channel_columns=plain_columns(units),
        span=span,
        notes=_notes(own, path, given=given),
        watched=_watched(own, invalid, n_units=len(units)),
        own=own,
        recorded=union(np.concatenate(known)) if known else np.array([span]),
        spike_times=spike_times,
        bounds=bounds,
        config=config,
        masks=stored_masks(nwbfile, units),
    )


def obs_intervals(units: Any, path: str) -> tuple[Intervals, ...] | None:
    """Each unit's own intervals; `ALWAYS` for a unit without any, None for a table without the column.

    Raises
    ------
    DataError
        If an interval has no start or no later stop, or it cannot be told which unit it belongs to.
    """
    if "obs_intervals" not in units.colnames:
        return None
    column = units["obs_intervals"]
    if not isinstance(column, VectorIndex) or len(column.data) != len(units):
        raise DataError(
            f"the obs_intervals of {path!r} have no index of {len(units)} units; pass observed='all' to ignore"
        )
    rows = np.asarray(column.target.data[:], dtype=np.float64).reshape(-1, 2)
    check_intervals(rows, place=f"the obs_intervals of {path!r}", remedy="pass observed='all' to ignore them")
    bounds = np.concatenate([[0], np.asarray(column.data[:], dtype=np.int64)])
    shared: dict[bytes, Intervals] = {}
    found = []
    for first, stop in pairwise(bounds):
        key = rows[first:stop].tobytes()
        if key not in shared:
            shared[key] = union(rows[first:stop]) if stop > first else ALWAYS
        found.append(shared[key])
    return tuple(found)


def _watched(own: tuple[Intervals, ...] | None, invalid: Intervals, *, n_units: int) -> tuple[Intervals, ...]:
    given = own if own is not None else (ALWAYS,) * n_units
    if len(invalid) == 0:
        return given
    shared = {id(intervals): difference(intervals, invalid) for intervals in given}
    return tuple(shared[id(intervals)] for intervals in given)


def _distinct(many: Sequence[Intervals]) -> list[Intervals]:
    """Each array once that several units share."""
    return list({id(each): each for each in many}.values())


def _share(intervals: Intervals, grid: Grid) -> NDArray[np.float32]:
    """Share of each bin, trial after trial, that was watched."""
    if intervals is ALWAYS:
        return np.ones(grid.shape[0] * grid.n_bins, dtype=np.float32)
    return coverage(intervals, grid).reshape(-1)


def _of_all(columns: NDArray[Shown], shape: tuple[int, int, int]) -> NDArray[Shown]:
    """An array (bin, unit), or (bin, 1) of what all units share, as (trial, time, unit); the latter takes no more memory."""
    whole = columns.reshape(*shape[:2], columns.shape[1])
    return whole if whole.shape == shape else np.broadcast_to(whole, shape)


def _put(target: NDArray[Any], first: int, rows: Sequence[NDArray[Any]]) -> None:
    """Put a row for each unit, from unit `first` on, into an array (bin, unit)."""
    stop = first + len(rows)
    if all(row is rows[0] for row in rows):
        target[:, first:stop] = rows[0][:, None]
        return
    stacked = np.stack(rows)
    for low in range(0, len(target), TURNED):
        target[low : low + TURNED, first:stop] = stacked[:, low : low + TURNED].T


def _limits(own: tuple[Intervals, ...] | None) -> NDArray[np.float64]:
    """Finite bounds of all intervals."""
    given = [each.reshape(-1) for each in _distinct(own or ()) if each is not ALWAYS]
    bounds = np.concatenate(given) if given else np.empty(0)
    return bounds[np.isfinite(bounds)]


def _notes(own: tuple[Intervals, ...] | None, path: str, *, given: bool) -> tuple[str, ...]:
    if own is None and given:
        return (f"{path!r} has no obs_intervals: nothing says when, and every unit is taken as observed throughout",)
    if own is not None and (always := sum(each is ALWAYS for each in own)):
        return (f"{always} of {len(own)} units of {path!r} have no obs_intervals and are taken as always observed",)
    return ()
