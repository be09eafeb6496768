"""Tables that trials are cut from: intervals (trials, epochs, …), and events without an end (EventsTable)."""

from __future__ import annotations

from typing import Any

import numpy as np
from hdmf.common import DynamicTable
from numpy.typing import NDArray
from pynwb.epoch import TimeIntervals

from nwb_sbtt.config import Trials
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.neurodata import neurodata_types
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.tables import as_times, plain_column, plain_columns

EVENTS_TYPE, EVENT_TIME = "EventsTable", "timestamp"
"""Neurodata type of tables of events, in the core and in ndx-events, and their column of times."""
NO_TRIALS = frozenset({"ValidUnitPeriods"})
"""Types of intervals that tell when something was observed, and are no trials."""


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
    """Tell whether an object is a table of events, each with a time of its own."""
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
    table = _named(tables, cut.table)
    if cut.table == Trials.model_fields["table"].default and (table is None or cut.event not in table.colnames):
        events = _named({path: item for path, item in tables.items() if is_events_table(item)}, cut.event)
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
            f"column {event!r} of {table.name!r} holds {column.dtype.type.__name__.rstrip('_')} such as "
            f"{str(column[0])!r}, not times; columns of numbers are {usable}"
        )
    return times


def _named(tables: dict[str, DynamicTable], name: str) -> DynamicTable | None:
    path = name.strip("/")
    ends = [candidate for candidate in tables if candidate.rsplit("/", 1)[-1] == path]
    for candidate in (path, f"intervals/{path}", path.removeprefix("intervals/"), f"events/{path}"):
        if candidate in tables:
            return tables[candidate]
    return tables[ends[0]] if len(ends) == 1 else None


def _holds_trials(nwb_object: Any) -> bool:
    return isinstance(nwb_object, TimeIntervals) and NO_TRIALS.isdisjoint(neurodata_types(type(nwb_object)))
