"""What tables are indexed by, and the numbers in them: each is checked here before anything is read by it.

A damaged index would move values from one row of a table to another without a trace, and a negative row number would be
counted from the end. Every error names the column, the row and the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hdmf.common import VectorIndex
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError

REWRITE = "this part of the file is damaged; write or download the file again"


@dataclass(frozen=True)
class Ragged:
    """A column that holds several values per row.

    Parameters
    ----------
    values : array-like (value, …)
        All values as stored, row after row; not read yet.
    bounds : int array (row + 1)
        First value of each row, and the number of values.
    """

    values: Any
    bounds: NDArray[np.int64]


def ragged_column(table: Any, name: str, *, path: str, remedy: str = REWRITE) -> Ragged:
    """Check the index of a column of several values per row.

    Parameters
    ----------
    table : hdmf.common.DynamicTable
        With that column.
    name : str
        Of the column, without "_index".
    path : str
        In-file path of the table, for errors.
    remedy : str
        What errors propose.

    Returns
    -------
    Ragged

    Raises
    ------
    DataError
        If the column has no index, or its index is not one whole number per row, never falling, up to the number of values.
    """
    column = table[name]
    where = f"column {name + '_index'!r} of {path!r}"
    if not isinstance(column, VectorIndex):
        raise DataError(
            f"column {name!r} of {path!r} has no index ({name + '_index'!r}), so the row of each value is unknown; "
            f"{remedy}"
        )
    if isinstance(column.target, VectorIndex):
        raise DataError(f"{where} indexes another index; expected one list of values per row; {remedy}")
    ends = whole_numbers(column.data, where, remedy=remedy)
    n_values = len(column.target.data)
    if len(ends) != len(table):
        raise DataError(f"{where} has {len(ends)} rows; expected one for each of the {len(table)} rows; {remedy}")
    starts = np.concatenate([[0], ends[:-1]])
    wrong = np.flatnonzero((ends < starts) | (ends > n_values))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}, row {row}: {int(ends[row])}; expected the end of the values of this row, at least "
            f"{int(starts[row])} (where they start) and at most {n_values} (the number of values); {remedy}"
        )
    if ends[-1] != n_values:
        raise DataError(
            f"{where}, row {len(ends) - 1}: {int(ends[-1])}; expected {n_values}, the number of values, for the last "
            f"row: {n_values - int(ends[-1])} values do not belong to any row; {remedy}"
        )
    return Ragged(column.target.data, np.concatenate([[0], ends]))


def region_rows(region: Any, *, path: str) -> NDArray[np.intp]:
    """Check the rows of another table that a region names.

    Parameters
    ----------
    region : hdmf.common.DynamicTableRegion
        Such as the ``electrodes`` of an ElectricalSeries.
    path : str
        In-file path of the object that has the region, for errors.

    Returns
    -------
    int array (channel)
        Rows, counted from 0.

    Raises
    ------
    DataError
        If the region is not a list of whole numbers from 0 to the number of rows less one.
    """
    n_rows = len(region.table)
    where = f"{region.name!r} of {path!r}"
    remedy = f"name rows of {region.table.name!r}, counted from 0, not the ids of its rows"
    rows = whole_numbers(region.data, where, remedy=remedy)
    wrong = np.flatnonzero((rows < 0) | (rows >= n_rows))
    if len(wrong):
        raise DataError(
            f"{where}, row {int(wrong[0])}: {int(rows[wrong[0]])}; {region.table.name!r} has {n_rows} rows, so expected "
            f"numbers from 0 to {n_rows - 1} ({len(wrong)} of {len(rows)} are not); {remedy}"
        )
    return rows.astype(np.intp)


def interval_bounds(table: Any, *, path: str, remedy: str = REWRITE) -> NDArray[np.float64]:
    """Read start and stop of the rows of a table of intervals.

    Parameters
    ----------
    table : pynwb.epoch.TimeIntervals
    path : str
        In-file path of the table, for errors.
    remedy : str
        What errors propose.

    Returns
    -------
    array (row, 2)
        As stored; seconds on the session clock.

    Raises
    ------
    DataError
        If a column holds something else than one real number per row.
    """
    columns = [
        real_numbers(table[name].data, f"column {name!r} of {path!r}", remedy=remedy)
        for name in ("start_time", "stop_time")
    ]
    if len(columns[0]) != len(columns[1]):
        raise DataError(
            f"{path!r} has {len(columns[0])} starts and {len(columns[1])} stops; expected equal numbers; {remedy}"
        )
    return np.column_stack(columns)


def row_ids(table: Any, *, path: str) -> NDArray[np.generic]:
    """Read the ids of the rows of a table.

    Parameters
    ----------
    table : hdmf.common.DynamicTable
    path : str
        In-file path of the table, for errors.

    Returns
    -------
    int array (row)
        Of the type in which they are stored.

    Raises
    ------
    DataError
        If they are not whole numbers, one per row.
    """
    where = f"column 'id' of {path!r}"
    whole_numbers(table.id.data, where, remedy=REWRITE)
    return _one_per_row(table.id.data, where, remedy=REWRITE)


def whole_numbers(stored: Any, where: str, *, remedy: str) -> NDArray[np.int64]:
    """Read one whole number per row.

    Parameters
    ----------
    stored : array-like (row)
        Of an integer type, or whole numbers of a type with decimals.
    where, remedy : str
        What errors call the numbers, and what they propose.

    Returns
    -------
    int array (row)

    Raises
    ------
    DataError
        If it has another shape or type, or a number is not whole or too large.
    """
    numbers = _one_per_row(stored, where, remedy=remedy)
    if numbers.size == 0:
        return np.empty(0, dtype=np.int64)
    if numbers.dtype.kind not in "iuf":
        raise DataError(
            f"{where}, row 0: {_shown(numbers[0])} of type {numbers.dtype}; expected whole numbers; {remedy}"
        )
    # From where floats are more than 1 apart they may have been rounded to another whole number.
    is_whole = np.ones(len(numbers), dtype=bool)
    if numbers.dtype.kind == "f":
        finite = np.isfinite(numbers)
        is_whole = finite & (np.floor(numbers) == numbers)
        is_whole[finite] &= np.spacing(np.abs(numbers[finite])) <= 1
    elif numbers.dtype.kind == "u":
        is_whole = numbers <= np.iinfo(np.int64).max
    wrong = np.flatnonzero(~is_whole)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{where}, row {row}: {_shown(numbers[row])}; expected a whole number; {remedy}")
    return numbers.astype(np.int64)


def real_numbers(stored: Any, where: str, *, remedy: str = REWRITE) -> NDArray[np.float64]:
    """Read one real number per row.

    Parameters
    ----------
    stored : array-like (row)
    where, remedy : str
        What errors call the numbers, and what they propose.

    Returns
    -------
    array (row)

    Raises
    ------
    DataError
        If it has another shape, or holds text, flags or complex numbers.
    """
    numbers = _one_per_row(stored, where, remedy=remedy)
    if numbers.size == 0:
        return np.empty(0)
    check_real(numbers, where, remedy=remedy)
    return numbers.astype(np.float64)


def stored_dtype(stored: Any) -> np.dtype[Any]:
    """Return the type of an array's entries, without reading it: `void` for compounds that hdmf wraps, `object` for references.

    Parameters
    ----------
    stored : array-like
        In memory, or of h5py, zarr or hdmf.
    """
    dtype = stored.dtype if hasattr(stored, "dtype") else np.asarray(stored).dtype
    if isinstance(dtype, np.dtype):
        return dtype
    return np.dtype("V" if isinstance(dtype, list) else "O")


def check_real(stored: Any, where: str, *, remedy: str = REWRITE) -> None:
    """Refuse a stored array of something else than real numbers; only its first value is read.

    Parameters
    ----------
    stored : array-like
    where, remedy : str
        What errors call the numbers, and what they propose.

    Raises
    ------
    DataError
    """
    array = stored if hasattr(stored, "dtype") and hasattr(stored, "shape") else np.asarray(stored)
    dtype = stored_dtype(array)
    if dtype.kind not in "iuf" and 0 not in array.shape:
        first = array[(0,) * len(array.shape)]
        raise DataError(f"{where}, row 0: {_shown(first)} of type {dtype}; expected real numbers; {remedy}")


def _one_per_row(stored: Any, where: str, *, remedy: str) -> NDArray[Any]:
    shape = np.shape(stored)
    if len(shape) != 1:
        raise DataError(f"{where} has shape {shape}; expected one number per row; {remedy}")
    return np.asarray(stored[:])


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return repr(value.decode("utf-8", errors="replace"))
    return repr(value.item()) if isinstance(value, np.generic) else repr(value)
