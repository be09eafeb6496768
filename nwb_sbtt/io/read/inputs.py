"""Known inputs of a recording, such as stimuli, kinematics and pulses, in the bins of its data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from hdmf.common import DynamicTable
from numpy.typing import NDArray
from pynwb.epoch import TimeIntervals

from nwb_sbtt.config import ReadConfig, Trials
from nwb_sbtt.data.binning import place_events
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.data.intervals import Intervals, covered_share, union
from nwb_sbtt.errors import DataError, SbttError, SelectionError
from nwb_sbtt.io.read.clock import sample_clock
from nwb_sbtt.io.read.indices import interval_bounds
from nwb_sbtt.io.read.layout import sample_layout
from nwb_sbtt.io.read.masks import invalid_intervals
from nwb_sbtt.io.read.neurodata import neurodata_types
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.selection import StoredSeries, find_series, unreadable_series
from nwb_sbtt.io.read.series_columns import chosen_columns, column_names, split_column
from nwb_sbtt.io.read.tables import plain_column
from nwb_sbtt.io.read.timeseries import TimeSeriesSource
from nwb_sbtt.io.read.trials import (
    EDGE,
    EVENT_TIME,
    MOST_OUTSIDE,
    event_times,
    is_events_table,
    session_times,
    table_named,
    trial_tables,
)
from nwb_sbtt.suggestions import nearest

EVENTS_IN = ("BehavioralEvents", "AnnotationSeries")
"""Types whose series, or those inside, hold events: their times matter, whatever the values."""
INTERVAL_SERIES = "IntervalSeries"
TIMES_TYPE = "TimestampVectorData"
LONGEST_STEP = 1.5
"""Sampling periods between two samples up to which values are interpolated, in bins that are shorter than a period."""
SLOW = 50
"""Bins in a sampling period from which on a note asks whether timestamps are in seconds."""
MOST_LISTED = 8
"""Series and tables that an error lists."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """One input in the bins of a grid.

    Parameters
    ----------
    name : str
        Last part of the path, with the column where there are several.
    path : str
        In-file path, with the column where there are several.
    values : array (trial, time)
        NaN where the input is not known.
    what : str
        What the numbers are, for a note.
    """

    name: str
    path: str
    values: Floats
    what: str


def read_inputs(nwbfile: Any, config: ReadConfig, grid: Grid) -> tuple[dict[str, Floats], list[str]]:
    """Read the inputs that the settings name.

    Samples of a series are averaged in each bin, and interpolated linearly where bins are shorter than its sampling period.
    Events are counted, and intervals are the share of the bin that they cover.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    config : ReadConfig
        Its `inputs` are paths with columns.
    grid : Grid

    Returns
    -------
    inputs : dict of name to array (trial, time)
        NaN where an input is not known. Names are last parts of paths, as far as these differ.
    notes : list of str

    Raises
    ------
    SelectionError
        If there is no such series, table or column, or it holds no numbers.
    DataError
        If an input cannot be read, or is known in no bin.
    """
    places = _Places.of(nwbfile, config)
    found = [each for text in config.inputs for each in _found(nwbfile, text, places, config, grid)]
    names = [each.name for each in found]
    labels = [each.path if names.count(each.name) > 1 else each.name for each in found]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise SelectionError(f"`inputs` (--input) name {repeated[0]!r} twice; name each input once")
    notes = []
    for label, each in zip(labels, found, strict=True):
        known = np.isfinite(each.values)
        if not known.any():
            raise DataError(
                f"input {each.path!r} is not known in any bin of the data; compare its times with those of the trials "
                "(`nwb-sbtt inspect`), or omit it"
            )
        share = "" if known.all() else f", known in {known.mean():.0%} of the bins"
        notes.append(f"known input {label!r}: {each.what}{share}")
    return {label: each.values for label, each in zip(labels, found, strict=True)}, notes


@dataclass(frozen=True)
class _Places:
    """Where inputs are found in a file, by in-file path, and its invalid times; the same for all inputs."""

    series: dict[str, StoredSeries]
    timed: dict[str, Any]
    tables: dict[str, DynamicTable]
    invalid: Intervals

    @classmethod
    def of(cls, nwbfile: Any, config: ReadConfig) -> _Places:
        timed = {
            in_file_path(nwbfile, item): item
            for item in nwbfile.objects.values()
            if _holds_events(item) or INTERVAL_SERIES in neurodata_types(type(item))
        }
        series = {each.path: each for each in find_series(nwbfile) if each.path not in timed}
        return cls(series, timed, trial_tables(nwbfile), invalid_intervals(nwbfile, config))


def _found(nwbfile: Any, text: str, places: _Places, config: ReadConfig, grid: Grid) -> list[Found]:
    path, column = split_column(text)
    if path in places.series:
        return _of_series(nwbfile, places.series[path], column, config, grid)
    if path in places.timed:
        if column:
            raise SelectionError(f"{path!r} has no columns, only times; omit {':' + column!r}")
        return [_of_times(path, places.timed[path], places.invalid, grid)]
    table = table_named(places.tables, path)
    if table is not None:
        at = next(place for place, each in places.tables.items() if each is table)
        return [_of_table(table, at, column, places.invalid, grid)]
    if why := {place: reason for place, (_, reason) in unreadable_series(nwbfile).items()}.get(path):
        raise SelectionError(f"input {path!r} cannot be read: {why}")
    raise SelectionError(_no_match(text, [*places.series, *places.timed, *places.tables]))


def _holds_events(item: Any) -> bool:
    """Whether a series stands for its times alone."""
    types = [*neurodata_types(type(item)), *neurodata_types(type(getattr(item, "parent", None)))]
    return hasattr(item, "timestamps") and any(name in types for name in EVENTS_IN)


def _of_series(nwbfile: Any, stored: StoredSeries, column: str, config: ReadConfig, grid: Grid) -> list[Found]:
    if stored.kind != "series":
        raise SelectionError(
            f"{stored.path!r} holds {stored.kind}, which are data to fit, not an input; choose a TimeSeries, a SpatialSeries "
            "or a table"
        )
    source = stored.reader(nwbfile, stored.nwb_object, config)
    assert isinstance(source, TimeSeriesSource)
    names = column_names(stored.nwb_object, len(source.channel_id))
    n_samples = sample_layout(stored.nwb_object).n_samples
    if not column and len(names) > n_samples:
        raise DataError(
            f"{stored.path!r} has {n_samples} samples of {len(names)} columns, so it seems to be transposed; expected samples "
            "along the first axis. Name the columns to use them as they are, such as ':0,1'"
        )
    chosen = sorted(chosen_columns(column, names, path=stored.path))
    source = source.only(np.isin(np.arange(len(names)), chosen))
    values, how = _sampled(source, grid)
    several = len(names) > 1
    last = stored.path.rpartition("/")[2]
    return [
        Found(
            f"{last}:{names[place]}" if several else last,
            f"{stored.path}:{names[place]}" if several else stored.path,
            values[:, :, i],
            f"{stored.path!r}{f', column {names[place]}' if several else ''}, in {source.unit or 'no unit'}, {how}",
        )
        for i, place in enumerate(chosen)
    ]


def _sampled(source: TimeSeriesSource, grid: Grid) -> tuple[Floats, str]:
    """Mean of the samples in each bin; (trial, time, column), NaN where there are none."""
    period, width = source.sampling_period, grid.bin_width
    if period is None or period <= width:
        binned = source.bin(grid)
        return np.where(binned.observed, binned.values, np.float32(np.nan)), "averaged in each bin"
    # Samples on either side of a window tell of its first and last bins.
    step = math.floor(LONGEST_STEP * period / width)
    wide = replace(grid, starts=grid.starts - step * width, n_bins=grid.n_bins + 2 * step)
    binned = source.bin(wide)
    values = np.full(binned.values.shape, np.nan, np.float32)
    bins = np.arange(wide.n_bins)
    n_trials, _, n_columns = binned.values.shape
    for trial, column in product(range(n_trials), range(n_columns)):
        at = np.flatnonzero(binned.observed[trial, :, column])
        if len(at) == 0:
            continue
        after = np.searchsorted(at, bins).clip(max=len(at) - 1)
        before = (np.searchsorted(at, bins, side="right") - 1).clip(min=0)
        near = (at[before] <= bins) & (bins <= at[after]) & (at[after] - at[before] <= step)
        line = np.interp(bins, at, binned.values[trial, at, column])
        values[trial, near, column] = line[near]
    inside = values[:, step : step + grid.n_bins]
    doubt = ", which is many bins: check that its timestamps are in seconds" if period > SLOW * width else ""
    return inside, f"interpolated linearly between samples {period:.3g} s apart{doubt}"


def _of_times(path: str, item: Any, invalid: Intervals, grid: Grid) -> Found:
    times = sample_clock(item, n_samples=len(item.data)).times(0, len(item.data))
    name = path.rpartition("/")[2]
    if INTERVAL_SERIES in neurodata_types(type(item)):
        return Found(name, path, _covered(_intervals(path, times, np.asarray(item.data[:])), invalid, grid), _COVERED)
    return Found(name, path, _counted(times, invalid, grid), _COUNTED)


def _intervals(path: str, times: NDArray[np.float64], codes: NDArray[Any]) -> Intervals:
    """Starts (positive codes) and stops (negative ones) of an IntervalSeries, type by type."""
    rows: list[tuple[float, float]] = []
    for kind in np.unique(np.abs(codes[codes != 0])):
        starts, stops = times[codes == kind], times[codes == -kind]
        if len(starts) != len(stops) or (np.sort(starts) >= np.sort(stops)).any():
            raise DataError(
                f"{path!r} has {len(starts)} starts and {len(stops)} stops of intervals of type {kind}; expected a stop after "
                "each start"
            )
        rows += zip(np.sort(starts), np.sort(stops), strict=True)
    return np.array(rows, float).reshape(-1, 2)


_COUNTED = "events in each bin, 0 where there is none"
_COVERED = "share of each bin inside its intervals, 0 outside"


def _of_table(table: DynamicTable, path: str, column: str, invalid: Intervals, grid: Grid) -> Found:
    last = path.rpartition("/")[2]
    if not column and not is_events_table(table):
        return Found(last, path, _covered(interval_bounds(table, path=path), invalid, grid), _COVERED)
    name, full = (f"{last}:{column}", f"{path}:{column}") if column else (last, path)
    if is_events_table(table):
        when = event_times(table, column or EVENT_TIME)
        if column and not _named_times(table, column):
            raise SelectionError(
                f"column {column!r} of {path!r} holds values of events, not times; name only the table ({path!r}) to count "
                "the events, or a column of times"
            )
        return Found(name, full, _counted(when, invalid, grid), _COUNTED)
    times = _times_in(table, column)
    if times is not None:
        return Found(name, full, _counted(times, invalid, grid), f"{_COUNTED}; the column holds times")
    values = _numbers_in(table, column)
    return Found(
        name,
        full,
        _during(interval_bounds(table, path=path), values, invalid, grid),
        "value of the row during its interval",
    )


def _named_times(table: DynamicTable, column: str) -> bool:
    """Whether a column of a table of events holds times, by its type or its name."""
    return column.endswith(("time", "times", EVENT_TIME)) or TIMES_TYPE in neurodata_types(type(table[column]))


def _times_in(table: DynamicTable, column: str) -> NDArray[np.float64] | None:
    """Times of a column, if it holds numbers that are times of their own rows; else None: it is then read as values."""
    if plain_column(table, column).dtype.kind != "f" or not isinstance(table, TimeIntervals):
        return None
    try:
        times, _ = session_times(table, Trials(event=column, start=0.0, stop=1.0))
    except SbttError:
        return None
    bounds = interval_bounds(table, path=table.name)
    known = np.isfinite(times)
    inside = (times[known] >= bounds[known, 0] - EDGE) & (times[known] <= bounds[known, 1] + EDGE)
    return times if known.any() and inside.mean() > 1 - MOST_OUTSIDE else None


def _numbers_in(table: DynamicTable, column: str) -> NDArray[np.float32]:
    values = plain_column(table, column)
    if values.dtype.kind not in "biuf":
        raise SelectionError(
            f"column {column!r} of {table.name!r} holds {values.dtype.type.__name__.rstrip('_')} values such as "
            f"{str(values[0])!r}; expected numbers: times, or a value for each row. Write a column of 0 and 1 for each value"
        )
    return values.astype(np.float32)


def _counted(times: NDArray[np.float64], invalid: Intervals, grid: Grid) -> Floats:
    times = np.sort(times[np.isfinite(times)])
    counts = np.bincount(place_events(times, grid), minlength=int(np.prod(grid.shape)))
    return _without(counts.reshape(grid.shape).astype(np.float32), invalid, grid)


def _covered(intervals: Intervals, invalid: Intervals, grid: Grid) -> Floats:
    return _without(covered_share(intervals[np.isfinite(intervals).all(1)], grid), invalid, grid)


def _during(bounds: Intervals, values: Floats, invalid: Intervals, grid: Grid) -> Floats:
    """Mean over the rows that overlap a bin, weighted by how long; NaN outside all rows."""
    sums, shares = np.zeros(grid.shape), np.zeros(grid.shape)
    usable = np.isfinite(bounds).all(1) & np.isfinite(values)
    for value in np.unique(values[usable]):
        share = covered_share(union(bounds[usable & (values == value)]), grid)
        sums += value * share
        shares += share
    result = np.full(grid.shape, np.nan, np.float32)
    return _without(np.divide(sums, shares, out=result, where=shares > 0, casting="same_kind"), invalid, grid)


def _without(values: Floats, invalid: Intervals, grid: Grid) -> Floats:
    return np.where(covered_share(invalid, grid) > 0, np.float32(np.nan), values) if len(invalid) else values


def _no_match(text: str, paths: Sequence[str]) -> str:
    name = text.partition(":")[0].strip("/")
    similar = nearest(name, paths, n=3, cutoff=0.5)
    similar += [
        other for other in paths if other.rpartition("/")[2] == name.rpartition("/")[2] and other not in similar
    ]
    if similar:
        return f"no series or table matches the input {text!r}; did you mean {' or '.join(map(repr, similar[:3]))}?"
    listed = ", ".join(map(repr, paths[:MOST_LISTED])) or "neither"
    return f"no series or table matches the input {text!r}; the file has {listed}"
