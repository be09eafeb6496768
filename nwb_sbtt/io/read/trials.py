"""Tables that trials are cut from: intervals (trials, epochs, …), and events without an end (EventsTable)."""

from __future__ import annotations

from typing import Any

import numpy as np
from hdmf.common import DynamicTable
from numpy.typing import NDArray
from pynwb.epoch import TimeIntervals

from nwb_sbtt.config import Trials
from nwb_sbtt.errors import ConfigError, DataError, SelectionError
from nwb_sbtt.io.read.indices import interval_bounds
from nwb_sbtt.io.read.neurodata import neurodata_types
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.periods import PERIODS_TYPE
from nwb_sbtt.io.read.rounding import note_on_spacing
from nwb_sbtt.io.read.tables import as_times, plain_column, plain_columns

EVENTS_TYPE, EVENT_TIME = "EventsTable", "timestamp"
"""Neurodata type of tables of events, in the core and in ndx-events, and their column of times."""
NO_TRIALS = frozenset({PERIODS_TYPE})
"""Types of intervals that tell when something was observed, and are no trials."""
EDGE = 1e-3
"""Seconds by which an event may lie outside its trial through rounding."""
MOST_OUTSIDE, FITTING = 0.5, 0.9
"""Share of the events that may lie outside their own trial; and share that must lie inside for another reading of them to be
proposed."""
FEWEST_EVENTS = 3
"""Different times of events beside which a repeated number, such as 0 or −1, is taken for "no event"."""
MOST_CODES, ROWS_PER_CODE = 20, 2
"""Most different whole numbers of a column that are flags or codes, and least number of rows for each of them."""
MOST_SHOWN = 4
"""Most of them that an error lists."""
LEAST_MILLISECONDS = 10.0
"""Median of numbers that may be milliseconds from the start of a trial; smaller ones, such as counts, would always fit."""


def trial_tables(nwbfile: Any) -> dict[str, DynamicTable]:
    """Find the tables that trials can be cut from.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile

    Returns
    -------
    dict of in-file path to pynwb.epoch.TimeIntervals or EventsTable
        Sorted by path.
    """
    tables = {
        in_file_path(nwbfile, item): item
        for item in nwbfile.objects.values()
        if item is not nwbfile.invalid_times and (is_events_table(item) or _holds_trials(item))
    }
    return dict(sorted(tables.items()))


def is_events_table(nwb_object: Any) -> bool:
    """Tell whether an object is a table of events, each with a time of its own.

    Parameters
    ----------
    nwb_object : pynwb object

    Returns
    -------
    bool
    """
    return isinstance(nwb_object, DynamicTable) and EVENTS_TYPE in neurodata_types(type(nwb_object))


def trial_table(nwbfile: Any, cut: Trials) -> tuple[DynamicTable, Trials]:
    """Find the table that a cut names.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    cut : Trials
        Its `table` is a name or an in-file path, such as "trials", "epochs" or "events/licks". Its `event` is a column of that
        table or, with the default table, the name of a table of events.

    Returns
    -------
    table : pynwb.epoch.TimeIntervals or EventsTable
    cut : Trials
        With the name of that table, and of a column of it.

    Raises
    ------
    SelectionError
        If there is no such table; the error names those of the file.
    """
    tables = trial_tables(nwbfile)
    table = table_named(tables, cut.table)
    if cut.table == Trials.model_fields["table"].default and (table is None or cut.event not in table.colnames):
        events = table_named({path: item for path, item in tables.items() if is_events_table(item)}, cut.event)
        if events is not None:
            return events, cut.model_copy(update={"table": events.name, "event": EVENT_TIME})
    if table is None:
        hint = f"it has {sorted(tables)}" if tables else "it has none; use Window or Chop"
        raise SelectionError(f"the file has no table of intervals {cut.table!r}; {hint}")
    return table, cut


def event_times(table: DynamicTable, event: str) -> NDArray[np.float64]:
    """Read when an event of each row of a table happened.

    Parameters
    ----------
    table : pynwb.epoch.TimeIntervals or EventsTable
    event : str
        Name of a column.

    Returns
    -------
    array (row)
        Seconds on the session clock, NaN where a row has no such event.

    Raises
    ------
    SelectionError
        If there is no such column, or it holds no times; the error names those that do.
    """
    column = plain_column(table, event)
    times = as_times(column)
    if times is None or column.dtype.kind == "b":
        columns = {name: as_times(values) for name, values in plain_columns(table).items() if values.dtype.kind == "f"}
        usable = sorted(name for name, values in columns.items() if values is not None and np.isfinite(values).any())
        raise SelectionError(
            f"column {event!r} of {table.name!r} has {column.dtype.type.__name__.rstrip('_')} values such as "
            f"{str(column[0])!r}; expected times in seconds; choose one of {usable}"
        )
    return times


def session_times(
    table: DynamicTable, cut: Trials, *, bin_width: float | None = None
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Read when the event of each trial happened, and check that it belongs to the trial.

    Parameters
    ----------
    table : pynwb.epoch.TimeIntervals or EventsTable
    cut : Trials
        With a column of that table.
    bin_width : float, optional
        Seconds; a note says where times are stored in coarser steps.

    Returns
    -------
    times : array (row)
        Seconds on the session clock, NaN where a row has no such event.
    notes : tuple of str
        One-line remarks for the user.

    Raises
    ------
    ConfigError
        If events should be relative to trials in a table without trials.
    DataError
        If most events cannot be meant on the session clock: they lie outside their own trial, and are flags or codes, times
        from its start or milliseconds, or lie further away than the trial is long and the next trial begins.
    SelectionError
        As for `event_times`.
    """
    times = event_times(table, cut.event)
    what = f"the times in {cut.event!r} of {table.name!r}"
    rounded = note_on_spacing(table[cut.event].data, times, what, bin_width=bin_width)
    if not isinstance(table, TimeIntervals):
        if cut.relative:
            raise ConfigError(
                f"{table.name!r} is a table of events without trials, so its times cannot be relative to trials; omit "
                "`relative` (--trials-relative)"
            )
        return times, rounded
    bounds = interval_bounds(table, path=table.name)
    remarks = (*rounded, *_backward(bounds, table.name))
    if not cut.relative:
        times, placeholders = without_placeholders(times, bounds)
        notes = [
            (
                f"{count} rows of {table.name!r} have {value:g} in {cut.event!r}, which is outside all trials; these rows "
                "are treated as trials without the event"
            )
            for value, count in placeholders.items()
        ]
        return times, (*remarks, *notes, *_check_within(times, bounds, table, cut))
    # A start itself is not relative to anything.
    if cut.event in ("start_time", "stop_time"):
        raise ConfigError(
            f"{cut.event!r} of {table.name!r} is on the session clock; omit `relative` (--trials-relative)"
        )
    return bounds[:, 0] + times, (*remarks, *_check_within(bounds[:, 0] + times, bounds, table, cut))


def without_placeholders(
    times: NDArray[np.float64], bounds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], dict[float, int]]:
    """Find numbers that stand for "no event", such as 0 or −1, as laboratories write them in place of NaN.

    Such a number is the same in several rows and lies before or after all trials, while nearly all other times lie inside their
    own trial.

    Parameters
    ----------
    times : array (row)
        Seconds on the session clock, NaN where a row has no event.
    bounds : array (row, 2)
        Start and stop of the trials [s].

    Returns
    -------
    times : array (row)
        With NaN for such numbers.
    placeholders : dict of float to int
        The numbers, and how many rows have each.
    """
    starts, stops = bounds.T
    is_inside = (times >= starts - EDGE) & (times <= stops + EDGE)
    known = bounds[np.isfinite(bounds)]
    if len(known) == 0:
        return times, {}
    is_beyond = ~is_inside & ((times <= known.min() + EDGE) | (times >= known.max() - EDGE))
    values, counts = np.unique(times[is_beyond], return_counts=True)
    placeholders = dict(zip(values[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))
    replaced = is_beyond & np.isin(times, list(placeholders))
    others = np.isfinite(times) & ~replaced
    if not placeholders or len(np.unique(times[others])) < FEWEST_EVENTS or is_inside[others].mean() < FITTING:
        return times, {}
    return np.where(replaced, np.nan, times), placeholders


def table_named(tables: dict[str, DynamicTable], name: str) -> DynamicTable | None:
    """Find a table by its name or in-file path.

    Parameters
    ----------
    tables : dict of in-file path to table
        As returned by `trial_tables`.
    name : str
        A path, or its last part where that is clear.

    Returns
    -------
    pynwb.epoch.TimeIntervals or EventsTable, or None
        None where there is no such table.
    """
    path = name.strip("/")
    ends = [candidate for candidate in tables if candidate.rsplit("/", 1)[-1] == path]
    for candidate in (path, f"intervals/{path}", path.removeprefix("intervals/"), f"events/{path}"):
        if candidate in tables:
            return tables[candidate]
    return tables[ends[0]] if len(ends) == 1 else None


def _backward(bounds: NDArray[np.float64], path: str) -> tuple[str, ...]:
    """A note on rows that stop before they start: no event is compared with them."""
    rows = np.flatnonzero(bounds[:, 1] < bounds[:, 0])
    if len(rows) == 0:
        return ()
    start, stop = bounds[rows[0]]
    return (
        f"{len(rows)} of {len(bounds)} rows of {path!r} stop before they start (row {int(rows[0])}: from {start:g} to "
        f"{stop:g} s); for these trials it was not checked whether events are inside them",
    )


def _codes(values: NDArray[np.float64]) -> str:
    """A few whole numbers that many rows share, with their counts; empty where the values are no flags or codes."""
    numbers, counts = np.unique(values, return_counts=True)
    if len(numbers) > min(MOST_CODES, len(values) / ROWS_PER_CODE) or (numbers != np.round(numbers)).any():
        return ""
    shown = ", ".join(
        f"{number:g} in {count} rows" for number, count in zip(numbers[:MOST_SHOWN], counts[:MOST_SHOWN], strict=True)
    )
    return f"{shown}, …" if len(numbers) > MOST_SHOWN else shown


def _check_within(
    times: NDArray[np.float64], bounds: NDArray[np.float64], table: DynamicTable, cut: Trials
) -> tuple[str, ...]:
    """Refuse events most of which are not of their own trial; note where some lie outside it."""
    starts, stops = bounds.T
    rows = np.flatnonzero(np.isfinite(times) & np.isfinite(starts) & (stops > starts) & np.isfinite(stops))
    times, starts, stops = times[rows], starts[rows], stops[rows]
    away = np.maximum(starts - times, times - stops) - EDGE
    outside = away > 0
    if not outside.any():
        return ()
    row = int(np.argmax(away))
    what = (
        f"{int(outside.sum())} of {len(rows)} times in {cut.event!r} of {table.name!r} are outside their own trial "
        f"(row {int(rows[row])}: {times[row]:g} s, trial from {starts[row]:g} to {stops[row]:g} s)"
    )
    if outside.mean() <= MOST_OUTSIDE:
        return (what,)

    def fits(others: NDArray[np.float64]) -> bool:
        return bool(((others >= starts - EDGE) & (others <= stops + EDGE)).mean() >= FITTING)

    seconds, codes = "write the column again in seconds on the session clock", _codes(times)
    if cut.relative:
        also = "without `relative` they would be inside; omit it" if fits(times - starts) else seconds
        raise DataError(f"{what}, if they are relative to its start (`relative`); {also}")
    if fits(starts + times):
        if codes:
            raise DataError(
                f"{what}; they look like flags or codes ({codes}), not times; name a column of times. If they are "
                "whole seconds from the start of the trial, pass relative=True in Trials, or --trials-relative"
            )
        raise DataError(
            f"{what}; they look relative to the start of the trial; pass relative=True in Trials, or --trials-relative"
        )
    # An answer may come after a short stimulus, but hardly after the next one.
    spacing = np.median(np.diff(np.sort(starts))) if len(starts) > 1 else 0.0
    if np.median(away[outside]) <= max(np.median(stops - starts), spacing):
        return (what,)
    if fits(times / 1000) or (np.median(times) >= LEAST_MILLISECONDS and fits(starts + times / 1000)):
        either = f"codes ({codes}), or " if codes else ""
        raise DataError(f"{what}; they look like {either}milliseconds; {seconds}")
    raise DataError(f"{what}; they do not match these trials (they may be sample or block numbers); {seconds}")


def _holds_trials(nwb_object: Any) -> bool:
    return isinstance(nwb_object, TimeIntervals) and NO_TRIALS.isdisjoint(neurodata_types(type(nwb_object)))
