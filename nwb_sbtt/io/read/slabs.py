"""Ranges of rows of a stored array, read in order so that each chunk is read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.chunks import contiguous_array, copy_bytes, read_rows
from nwb_sbtt.io.read.filters import unreadable
from nwb_sbtt.io.read.indices import stored_dtype


class Slabs:
    """Reads ranges of rows (samples) of an array (row, column), and keeps what the next range shares with the last.

    Compressed arrays are stored in chunks, and reading one row costs a whole chunk. Ranges that are asked for in rising order
    are therefore extended to the end of their last chunk, and rows that are in memory are not read again.

    Parameters
    ----------
    data : array-like
        An h5py or zarr dataset or an array, of one or two dimensions; one dimension is a single column.
    transposed : bool
        Whether the array is stored (column, row).
    columns : int array, optional
        Columns to read, in this order; default: all. Chunks without any of them are not read.

    Attributes
    ----------
    n_rows, n_columns : int
    dtype : dtype
        Of the stored array.
    chunk_rows : int
        Rows in a chunk; 1 where there are no chunks.
    in_parts : bool
        Whether some ranges are to be read again and again, as `keep` was told, whether or not there is memory for them.

    Raises
    ------
    DataError
        If the array has more than two dimensions, or none.
    """

    def __init__(self, data: Any, *, transposed: bool = False, columns: NDArray[np.intp] | None = None) -> None:
        self._data = data if hasattr(data, "shape") and hasattr(data, "dtype") else np.asarray(data)
        self._transposed = transposed
        shape = tuple(self._data.shape)
        if len(shape) not in (1, 2):
            raise DataError(f"data of shape {shape} have {len(shape)} dimensions; expected (time,) or (time, channel)")
        self.n_rows = shape[-1] if transposed else shape[0]
        stored_columns = 1 if len(shape) == 1 else shape[0] if transposed else shape[1]
        all_columns = columns is None or np.array_equal(columns, np.arange(stored_columns))
        self._columns = None if all_columns else columns
        self.n_columns = stored_columns if self._columns is None else len(self._columns)
        self.dtype = stored_dtype(self._data)
        chunks = getattr(self._data, "chunks", None)
        self.chunk_rows = min(int(chunks[-1 if transposed else 0]), max(self.n_rows, 1)) if chunks else 1
        self._contiguous = None if transposed or self._columns is not None else contiguous_array(self._data)
        self._first = 0
        self._rows: NDArray[Any] = np.empty((0, self.n_columns), dtype=self.dtype)
        self._wanted_again: list[tuple[int, int]] = []
        self._kept: dict[tuple[int, int], NDArray[Any]] = {}
        self.in_parts = False

    def only(self, columns: NDArray[np.intp]) -> Slabs:
        """Return the same array with some of its columns.

        Parameters
        ----------
        columns : int array
            Among those that are read now, in the order in which they shall be read.
        """
        columns = columns if self._columns is None else self._columns[columns]
        return Slabs(self._data, transposed=self._transposed, columns=columns)

    def keep(self, ranges: Sequence[tuple[int, int]], *, limit: float) -> None:
        """Keep some ranges in memory, once they are read, until another call.

        Parameters
        ----------
        ranges : sequence of (int, int)
            First row of each and the one after its last. A range is read as a whole when any of its rows are asked for.
        limit : float
            Bytes; where all ranges take more, none is kept.
        """
        within = [(max(first, 0), min(stop, self.n_rows)) for first, stop in ranges]
        needed = sum(stop - first for first, stop in within) * self.n_columns * self.dtype.itemsize
        self._wanted_again = within if needed <= limit else []
        self._kept = {}
        self.in_parts = bool(ranges)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Read some rows.

        Parameters
        ----------
        first, stop : int
            Rows `first` to `stop` − 1, or as many of them as there are.

        Returns
        -------
        array (row, column)
            As it is stored; a view of memory that the next range may replace.

        Raises
        ------
        DataError
            If they are damaged, or compressed with a filter that is not installed.
        """
        first, stop = max(first, 0), min(stop, self.n_rows)
        for low, high in self._wanted_again:
            if low <= first and stop <= high:
                if (low, high) not in self._kept:
                    rows = np.empty((high - low, self.n_columns), dtype=self.dtype)
                    self._fetch(low, high, rows)
                    self._kept[low, high] = rows
                return self._kept[low, high][first - low : stop - low]
        end = self._first + len(self._rows)
        if not (self._first <= first and stop <= end):
            chunk_end = min(-(-stop // self.chunk_rows) * self.chunk_rows, self.n_rows)
            shared = self._rows[first - self._first :].copy() if self._first <= first < end else self._rows[:0].copy()
            # Rows that are no longer needed go before the next ones come, so that memory holds one range.
            self._rows = shared
            rows = np.empty((max(chunk_end - first, 0), self.n_columns), dtype=self.dtype)
            rows[: len(shared)] = shared
            self._fetch(first + len(shared), chunk_end, rows[len(shared) :])
            self._first, self._rows = first, rows
        return self._rows[first - self._first : stop - self._first]

    def _fetch(self, first: int, stop: int, into: NDArray[Any]) -> None:
        try:
            self._copy(first, stop, into)
        except OSError as error:
            raise unreadable(self._data, error) from error

    def _copy(self, first: int, stop: int, into: NDArray[Any]) -> None:
        if self._contiguous is not None:
            copy_bytes(self._contiguous, first * self.n_columns * self.dtype.itemsize, into=into)
        elif self._transposed:
            rows = np.asarray(self._data[..., first:stop]).reshape(-1, stop - first).T
            into[...] = rows if self._columns is None else rows[:, self._columns]
        else:
            read_rows(self._data, first, stop, into=into, columns=self._columns)


def in_unit(stored: NDArray[Any], series: Any, *, missing_value: float | None) -> NDArray[np.float64]:
    """Convert stored values to the unit of their series.

    Parameters
    ----------
    stored : array
    series : pynwb.TimeSeries
        With `conversion` and `offset`.
    missing_value : float or None
        Stored value that stands for a missing sample.

    Returns
    -------
    array
        NaN where a sample is missing: not finite, or the missing value.
    """
    samples = stored.astype(np.float64) * float(series.conversion) + float(series.offset)
    samples[~np.isfinite(samples)] = np.nan
    if missing_value is not None:
        samples[stored == missing_value] = np.nan
    return samples
