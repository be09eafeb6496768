"""Columns of the tables in a file, as arrays with one value per row."""

from __future__ import annotations

from typing import Any

import numpy as np
from hdmf.common import DynamicTableRegion, VectorIndex
from hdmf.container import AbstractContainer
from hdmf.query import ReferenceResolver
from numpy.typing import NDArray

from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.indices import row_ids
from nwb_sbtt.suggestions import nearest

MOST_IDS = 10
"""Most repeated ids that a note lists."""
REGIONS = ("electrodes", "rois", "table_region")
"""Names under which series of the core types and of ndx-microscopy hold the region of their channels."""


def table_region(series: Any) -> DynamicTableRegion | None:
    """Return the region of the table of electrodes or ROIs that a series names; None where it names none.

    Parameters
    ----------
    series : pynwb.TimeSeries
    """
    regions = (getattr(series, name, None) for name in REGIONS)
    return next((region for region in regions if isinstance(region, DynamicTableRegion)), None)


def note_on_ids(ids: NDArray[np.generic], path: str) -> tuple[str, ...]:
    """Note ids that several channels of a table have, as those of probes that were sorted one by one.

    Parameters
    ----------
    ids : array (channel)
        One for each channel.
    path : str
        In-file path of the table.

    Returns
    -------
    tuple of str
        Empty where each channel has an id of its own.
    """
    values, counts = np.unique(ids, return_counts=True)
    repeated = values[counts > 1].tolist()
    if not repeated:
        return ()
    more = f" and {len(repeated) - MOST_IDS} more" if len(repeated) > MOST_IDS else ""
    return (
        f"ids of {path!r} repeat: {', '.join(map(str, repeated[:MOST_IDS]))}{more}; channels with the same id are "
        "distinguished by their row in the table (`channel_row`)",
    )


def plain_columns(table: Any) -> dict[str, NDArray[np.generic]]:
    """Read all columns that hold one number, text or flag per row.

    Ragged columns, columns of several values per row, and references to other objects are left out.

    Parameters
    ----------
    table : hdmf.common.DynamicTable

    Returns
    -------
    dict of name to array (row)
    """
    names = [name for name in table.colnames if _is_plain(table, name)]
    return {name: _values(table, name) for name in names}


def plain_column(table: Any, name: str) -> NDArray[np.generic]:
    """Read one column that holds one number, text or flag per row.

    Parameters
    ----------
    table : hdmf.common.DynamicTable
    name : str
        Of the column; "id" for the ids of the rows.

    Returns
    -------
    array (row)

    Raises
    ------
    SelectionError
        If the table has no such column, or the column holds something else.
    """
    if name == "id":
        return row_ids(table, path=table.name)
    if name not in table.colnames:
        near = nearest(name, table.colnames)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SelectionError(f"table {table.name!r} has no column {name!r}; it has {sorted(table.colnames)}{hint}")
    if not _is_plain(table, name):
        plain = sorted(other for other in table.colnames if _is_plain(table, other))
        raise SelectionError(
            f"column {name!r} of table {table.name!r} does not have one value per row; choose one of {plain}"
        )
    return _values(table, name)


def as_times(values: NDArray[np.generic]) -> NDArray[np.float64] | None:
    """Convert a column to seconds.

    Parameters
    ----------
    values : array (row)
        Numbers, or texts that may hold numbers.

    Returns
    -------
    array (row) or None
        NaN where a text is no number; None where no text is.
    """
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    times = np.full(len(values), np.nan)
    any_number = False
    for row, text in enumerate(values):
        try:
            times[row] = float(str(text))
        except ValueError:
            continue
        any_number = True
    return times if any_number else None


def _is_plain(table: Any, name: str) -> bool:
    column = table[name]
    # A VectorIndex stands before ragged data, a DynamicTableRegion holds rows of another table.
    if isinstance(column, VectorIndex | DynamicTableRegion) or _holds_references(column.data):
        return False
    return bool(np.shape(column.data) == (len(table),))


def _holds_references(data: Any) -> bool:
    """Whether a column holds other objects of the file (the group of an electrode), stored or not yet written."""
    return isinstance(data, ReferenceResolver) or (len(data) > 0 and isinstance(data[0], AbstractContainer))


def _values(table: Any, name: str) -> NDArray[np.generic]:
    values = np.asarray(table[name].data[:])
    if values.dtype.kind in "OST":
        values = np.array([_text(value) for value in values], dtype=str)
    return values


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
