"""Sorted units put into bins: counts, and which share of each bin each unit was watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from hdmf.common import VectorIndex
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.binning import place_events, tolerance
from nwb_sbtt.data.grid import Binned, Grid
from nwb_sbtt.data.observed import Intervals, coverage, difference, select_inside, union
from nwb_sbtt.data.schema import Kind
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.masks import StoredMask, stored_masks
from nwb_sbtt.io.paths import in_file_path
from nwb_sbtt.io.tables import plain_columns
from nwb_sbtt.io.validity import check_intervals, invalid_intervals

BLOCK = 1 << 22
"""Spikes read and binned at once."""
ALWAYS = np.array([[-np.inf, np.inf]])
LAST_SPIKE = 1e-6
"""Seconds by which a recording of unknown length outlasts its last spike, so that this spike lies in a bin."""


@dataclass(frozen=True)
class UnitsSource:
    """A units table ready to be put on any grid.

    ``watched`` holds the intervals in which each unit was observed: its own `obs_intervals` less the invalid times. The
    stored ``masks`` are taken off in whole bins.
    """

    path: str
    channel_id: NDArray[np.generic]
    channel_columns: Mapping[str, NDArray[np.generic]]
    span: tuple[float, float]
    notes: tuple[str, ...]
    watched: tuple[Intervals, ...] = field(repr=False)
    spike_times: Any = field(repr=False)
    bounds: NDArray[np.int64] = field(repr=False)
    masks: tuple[StoredMask, ...] = field(default=(), repr=False)
    kind: Kind = "units"
    unit: str = "counts"
    sampling_period: float | None = None

    @property
    def table(self) -> str:
        """In-file path of the table that the ids count in."""
        return self.path

    @property
    def channel_row(self) -> NDArray[np.intp]:
        """Row of each unit."""
        return np.arange(len(self.channel_id))

    def bin(self, grid: Grid) -> Binned:
        """Count spikes; a spike outside its unit's intervals is not counted, a bin outside them is unobserved."""
        observed, exposure = self._observation(grid)
        for mask in self.masks:
            observed &= mask.bin(grid, self.channel_row)
        n_units = len(self.channel_id)
        values = np.zeros((*grid.shape, n_units), dtype=np.float32)
        flat = values.reshape(-1)
        for unit, times in spikes_by_unit(self.spike_times, self.bounds):
            if self.watched[unit] is not ALWAYS:
                times = select_inside(times, self.watched[unit])
            _, place = place_events(times, grid)
            np.add.at(flat, place * n_units + unit, np.float32(1))
        # Spikes under a stored mask, or in the sliver of a bin that is too short to count as observed.
        values[~observed] = 0
        return Binned(values, observed, exposure)

    def _observation(self, grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None]:
        shape = (*grid.shape, len(self.channel_id))
        observed = np.ones(shape, dtype=bool)
        exposure: NDArray[np.float32] | None = None
        for units, intervals in _alike(self.watched):
            if intervals is ALWAYS:
                continue
            share = coverage(intervals, grid)
            observed[:, :, units] = (share > 0)[:, :, None]
            if ((share > 0) & (share < 1)).any():
                exposure = np.ones(shape, dtype=np.float32) if exposure is None else exposure
                exposure[:, :, units] = np.where(share > 0, share, 1)[:, :, None]
        return observed, exposure


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
    own = obs_intervals(units, path) if config.observed == "intervals" else None
    invalid = invalid_intervals(nwbfile, config)
    watched = _watched(own, invalid, n_units=len(units))
    spikes = _survey(spike_times, bounds, own)
    return UnitsSource(
        path=path,
        channel_id=np.asarray(units.id.data[:]),
        channel_columns=plain_columns(units),
        span=_span(own, spikes, path),
        notes=_notes(own, spikes, path, given=config.observed == "intervals"),
        watched=watched,
        spike_times=spike_times,
        bounds=bounds,
        masks=stored_masks(nwbfile, units),
    )


def stored_spikes(units: Any, path: str) -> tuple[Any, NDArray[np.int64]]:
    """Flat array of all spike times, as stored, and where each unit's part begins; the last bound is the number of spikes.

    Raises
    ------
    DataError
        If there are no units or spike times, or their index is damaged.
    """
    if "spike_times" not in units.colnames:
        raise DataError(f"table {path!r} has no column 'spike_times', only {sorted(units.colnames)}; nothing to count")
    if len(units) == 0:
        raise DataError(f"table {path!r} has no rows: no unit to read")
    column = units["spike_times"]
    if not isinstance(column, VectorIndex):
        raise DataError(f"the spike times of {path!r} have no index, so it cannot be told which unit each belongs to")
    bounds = np.concatenate([[0], np.asarray(column.data[:], dtype=np.int64)])
    n_spikes = len(column.target.data)
    if (np.diff(bounds) < 0).any() or bounds[-1] > n_spikes or len(bounds) != len(units) + 1:
        raise DataError(
            f"the index of the spike times of {path!r} is damaged: {len(units)} units, {n_spikes} spikes, last index "
            f"{bounds[-1]}; expected rising numbers up to the number of spikes"
        )
    return column.target.data, bounds


def spikes_by_unit(stored: Any, bounds: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Sorted, finite spike times of each unit in seconds; long trains come in several pieces, silent units not at all.

    The flat array is read in one pass, in blocks of whole units where these are short.
    """
    first = 0
    while first < len(bounds) - 1:
        last = max(int(np.searchsorted(bounds, bounds[first] + BLOCK, side="right")) - 1, first + 1)
        if bounds[last] - bounds[first] <= BLOCK:
            block = np.asarray(stored[bounds[first] : bounds[last]], dtype=np.float64)
            for unit in range(first, last):
                yield from _pieces(unit, block[bounds[unit] - bounds[first] : bounds[unit + 1] - bounds[first]])
        else:
            for start in range(int(bounds[first]), int(bounds[last]), BLOCK):
                block = np.asarray(stored[start : min(start + BLOCK, int(bounds[last]))], dtype=np.float64)
                yield from _pieces(first, block)
        first = last


def _pieces(unit: int, times: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    finite = np.isfinite(times)
    if not finite.all():
        times = times[finite]
    if len(times):
        yield unit, times if (times[1:] >= times[:-1]).all() else np.sort(times)


@dataclass(frozen=True)
class _Spikes:
    """What one pass over all spikes finds."""

    first: float
    last: float
    not_finite: int
    outside: int


def _survey(stored: Any, bounds: NDArray[np.int64], own: tuple[Intervals, ...] | None) -> _Spikes:
    first, last, found, outside = np.inf, -np.inf, 0, 0
    for unit, times in spikes_by_unit(stored, bounds):
        first, last = min(first, float(times[0])), max(last, float(times[-1]))
        found += len(times)
        if own is not None and own[unit] is not ALWAYS:
            # A spike on the very end of an interval belongs to it, though not to any bin within.
            widened = union(own[unit] + [0, 2] * tolerance(own[unit]))
            outside += len(times) - len(select_inside(times, widened))
    return _Spikes(first, last, int(bounds[-1]) - found, outside)


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


def _alike(watched: tuple[Intervals, ...]) -> Iterator[tuple[NDArray[np.intp], Intervals]]:
    """Units that share their intervals, which `obs_intervals` makes one object."""
    units: dict[int, list[int]] = {}
    for unit, intervals in enumerate(watched):
        units.setdefault(id(intervals), []).append(unit)
    for members in units.values():
        yield np.array(members), watched[members[0]]


def _span(own: tuple[Intervals, ...] | None, spikes: _Spikes, path: str) -> tuple[float, float]:
    """First and last moment: of the finite intervals where there are any, and of the spikes where a unit has none."""
    moments = [each for each in own or () if each is not ALWAYS and len(each)]
    bounds = np.concatenate([each.reshape(-1) for each in moments]) if moments else np.empty(0)
    bounds = bounds[np.isfinite(bounds)]
    if len(bounds) == 0 or (own is None or any(each is ALWAYS for each in own)):
        if not np.isfinite(spikes.first) and len(bounds) == 0:
            raise DataError(f"no unit of {path!r} has a spike or an observation interval: there is nothing to read")
        if np.isfinite(spikes.first):
            bounds = np.append(bounds, [spikes.first, spikes.last + LAST_SPIKE])
    return float(bounds.min()), float(bounds.max())


def _notes(own: tuple[Intervals, ...] | None, spikes: _Spikes, path: str, *, given: bool) -> tuple[str, ...]:
    notes = []
    if own is None and given:
        notes.append(f"{path!r} has no obs_intervals: every unit is taken as observed throughout")
    elif own is not None and (always := sum(each is ALWAYS for each in own)):
        notes.append(f"{always} of {len(own)} units of {path!r} have no obs_intervals and are taken as always observed")
    if spikes.not_finite:
        notes.append(f"{spikes.not_finite} spike times of {path!r} are not finite and are left out")
    if spikes.outside:
        notes.append(f"{spikes.outside} spikes of {path!r} lie outside their unit's obs_intervals and are not counted")
    return tuple(notes)
