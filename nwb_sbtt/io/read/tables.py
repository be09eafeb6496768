"""Columns of the tables of a file, as arrays with one plain value a row."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
from hdmf.common import DynamicTableRegion, VectorIndex
from hdmf.container import AbstractContainer
from hdmf.query import ReferenceResolver
from numpy.typing import NDArray

from nwb_sbtt.errors import SelectionError


def plain_columns(table: Any) -> dict[str, NDArray[np.generic]]:
    """All columns that hold one number, text or flag a row; ragged, many-valued and referring columns are left out."""
    names = [name for name in table.colnames if _is_plain(table, name)]
    return {name: _values(table, name) for name in names}


def plain_column(table: Any, name: str) -> NDArray[np.generic]:
    """One column with one number, text or flag a row; "id" gives the ids of the rows.

    Raises
    ------
    SelectionError
        If the table has no such column, or the column holds something else.
    """
    if name == "id":
        return np.asarray(table.id.data[:])
    if name not in table.colnames:
        near = difflib.get_close_matches(name, table.colnames, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise SelectionError(f"table {table.name!r} has no column {name!r}, it has {sorted(table.colnames)}{meant}")
    if not _is_plain(table, name):
        plain = sorted(each for each in table.colnames if _is_plain(table, each))
        raise SelectionError(f"column {name!r} of table {table.name!r} has no single value in each row; {plain} have")
    return _values(table, name)


def as_times(values: NDArray[np.generic]) -> NDArray[np.float64] | None:
    """Read a column as seconds, NaN where there is no number; None where no text is a number at all."""
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    times = np.full(len(values), np.nan)
    found = False
    for row, text in enumerate(values):
        try:
            times[row] = float(str(text))
            found = True
        except ValueError:
            continue
    return times if found else None


def _is_plain(table: Any, name: str) -> bool:
    column = table[name]
    # A VectorIndex stands before ragged data, a DynamicTableRegion holds rows of another table.
    if isinstance(column, VectorIndex | DynamicTableRegion) or _refers(column.data):
        return False
    return len(np.shape(column.data)) == 1


def _refers(data: Any) -> bool:
    """Whether a column holds other objects of the file (the group of an electrode), stored or not yet written."""
    return isinstance(data, ReferenceResolver) or (len(data) > 0 and isinstance(data[0], AbstractContainer))


def _values(table: Any, name: str) -> NDArray[np.generic]:
    values = np.asarray(table[name].data[:])
    if values.dtype.kind in "OST":
        values = np.array([_text(each) for each in values], dtype=str)
    return values


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
