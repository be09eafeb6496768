"""What a table of trials holds: events to align trials to, conditions, and how much of each column is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hdmf.common import DynamicTable
from numpy.typing import NDArray

from nwb_sbtt.config import Trials
from nwb_sbtt.data.trials import trial_windows
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.read.filters import unreadable
from nwb_sbtt.io.read.tables import as_times, plain_column
from nwb_sbtt.io.read.trials import EVENT_TIME, is_events_table, session_times, without_placeholders

MOST_VALUES = 20
"""Most different values of a column that is taken for one of conditions."""
INSIDE = 0.5
"""Share of the times of a column from which on, if they lie within their own rows, they are events."""
MISSING_TEXTS = frozenset({"", "na", "n/a", "nan", "none", "null"})
"""Texts, in small letters, that stand for a missing value."""
BOUNDS = ("start_time", "stop_time")
"""Columns of start and stop of a table of intervals."""


@dataclass(frozen=True)
class EventColumn:
    """A column of times that trials can be aligned to.

    Parameters
    ----------
    name : str
    start, stop : float
        First and last time, in seconds on the session clock.
    missing : float
        Share of the rows without a time.
    """

    name: str
    start: float
    stop: float
    missing: float


@dataclass(frozen=True)
class ConditionColumn:
    """A column of few different values.

    Parameters
    ----------
    name : str
    counts : dict of value to int
        Number of rows with each value, the most frequent first.
    missing : float
        Share of the rows without a value.
    """

    name: str
    counts: dict[str, int]
    missing: float


@dataclass(frozen=True)
class TrialTable:
    """A table that trials can be cut from.

    Parameters
    ----------
    path : str
        In-file path.
    type : str
        Neurodata type.
    rows : int
    start, stop : float or None
        First and last moment of its rows, in seconds on the session clock.
    events : tuple of EventColumn
    conditions : tuple of ConditionColumn
    others : dict of column to float
        Share of the rows without a value, of all other columns with one value per row.
    notes : tuple of str
        One-line remarks for the user.
    """

    path: str
    type: str
    rows: int = 0
    start: float | None = None
    stop: float | None = None
    events: tuple[EventColumn, ...] = ()
    conditions: tuple[ConditionColumn, ...] = ()
    others: dict[str, float] | None = None
    notes: tuple[str, ...] = ()


def describe_table(path: str, table: DynamicTable) -> TrialTable:
    """Describe a table that trials can be cut from.

    Parameters
    ----------
    path : str
        In-file path.
    table : pynwb.epoch.TimeIntervals or EventsTable

    Returns
    -------
    TrialTable
        With the reason among its notes where a column cannot be read, or where one of times would be refused as an event.
    """
    described = TrialTable(path, str(table.neurodata_type), rows=len(table), others={})
    spans = _spans(table)
    others: dict[str, float] = {}
    for name in table.colnames:
        try:
            values = plain_column(table, name) if _has_one_value_per_row(table, name) else None
        except (DataError, OSError) as error:
            reason = unreadable(table[name].data, error) if isinstance(error, OSError) else error
            described = replace(described, notes=(*described.notes, str(reason)))
            continue
        if values is None or len(values) == 0:
            continue
        present, missing = _present(values)
        share = float(missing.mean())
        event = None
        if name in (*BOUNDS, EVENT_TIME) or _are_events(values, spans):
            event, remarks = _event(name, table)
            described = replace(described, notes=tuple(dict.fromkeys([*described.notes, *remarks])))
        if event is not None:
            described = replace(described, events=(*described.events, event))
        elif _are_conditions(present, n_rows=len(values)):
            condition = ConditionColumn(name, _counts(present), share)
            described = replace(described, conditions=(*described.conditions, condition))
        else:
            others[name] = share
    start, stop = _span(table)
    return replace(described, start=start, stop=stop, others=others)


def _span(table: DynamicTable) -> tuple[float | None, float | None]:
    """First and last moment of a table's rows [s]; None where none is known."""
    known: list[float] = []
    for name in (EVENT_TIME,) if is_events_table(table) else BOUNDS:
        try:
            times = as_times(plain_column(table, name))
        except (DataError, OSError, SelectionError):
            continue
        known += [] if times is None else times[np.isfinite(times)].tolist()
    return min(known, default=None), max(known, default=None)


def _has_one_value_per_row(table: DynamicTable, name: str) -> bool:
    # Ragged columns (tags) and references (timeseries) come with an index, or hold objects.
    column = table[name]
    return type(column).__name__ not in ("VectorIndex", "DynamicTableRegion") and len(np.shape(column.data)) == 1


def _spans(table: DynamicTable) -> NDArray[np.float64] | None:
    """Start and stop of each row (row, 2), in seconds; None where the table has none that can be used."""
    try:
        bounds = [as_times(plain_column(table, name)) for name in BOUNDS if name in table.colnames]
    except (DataError, OSError):
        return None
    columns = [bound for bound in bounds if bound is not None]
    if len(columns) < 2 or len(columns[0]) != len(columns[1]):
        return None
    return np.column_stack(columns)


def _present(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values that are there, and which are missing (row)."""
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    elif values.dtype.kind == "U":
        missing = np.array([text.strip().lower() in MISSING_TEXTS for text in values.tolist()])
    else:
        missing = np.zeros(len(values), dtype=bool)
    return values[~missing], missing


def _are_events(values: NDArray[Any], spans: NDArray[np.float64] | None) -> bool:
    """Whether numbers with decimals, or texts of these, are times: most lie between start and stop of their own row."""
    times = as_times(values) if values.dtype.kind in "fU" else None
    if times is None or spans is None or len(spans) != len(times):
        return False
    times, _ = without_placeholders(times, spans)
    finite = np.isfinite(times)
    inside = (times >= spans[:, 0]) & (times <= spans[:, 1])
    return bool(finite.any() and inside[finite].mean() >= INSIDE)


def _event(name: str, table: DynamicTable) -> tuple[EventColumn | None, list[str]]:
    """What trials aligned to a column would be aligned to, and remarks on it; None, with the reason, where that is refused."""
    cut = Trials(table=table.name, event=name, start=0.0, stop=1.0)
    try:
        times, notes = session_times(table, cut)
        trial_windows(times, cut, bin_width=1.0)
    except OSError:
        return None, [f"{name!r} cannot be used to align trials: start and stop of the trials cannot be read"]
    except (DataError, SelectionError) as error:
        return None, [f"{name!r} cannot be used to align trials: {error}"]
    finite = times[np.isfinite(times)]
    return EventColumn(name, float(finite.min()), float(finite.max()), missing=1 - len(finite) / len(times)), list(
        notes
    )


def _are_conditions(present: NDArray[Any], *, n_rows: int) -> bool:
    n_values = len(np.unique(present))
    return 0 < n_values <= MOST_VALUES and (n_values < len(present) or n_rows == 1)


def _counts(present: NDArray[Any]) -> dict[str, int]:
    """Rows with each value; the most frequent first, equally frequent ones in their order."""
    # Negative zero is zero.
    values, counts = np.unique(present + 0.0 if present.dtype.kind == "f" else present, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {_label(value): int(count) for value, count in zip(values[order].tolist(), counts[order], strict=True)}


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
