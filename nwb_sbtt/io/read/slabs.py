"""Rows of a stored array, read in order with each chunk touched once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.chunks import copy_bytes, plain, read_rows


class Slabs:
    """Reads ranges of rows (samples) of an array (rows, columns), keeping what the next range shares with the last.

    Compressed arrays are stored in chunks, and reading one row costs a whole chunk. Ranges asked for in rising order are
    therefore extended to the end of their last chunk, and rows already held are not read again.

    Parameters
    ----------
    data : array-like
        An h5py or zarr dataset or an array, of one or two dimensions; one dimension is a single column.
    transposed : bool
        The array is stored (columns, rows).
    columns : int array, optional
        Columns that are wanted, in the order wanted; all where left out. Chunks without any of them are not touched.
    """

    def __init__(self, data: Any, *, transposed: bool = False, columns: NDArray[np.intp] | None = None) -> None:
        self._data = data if hasattr(data, "shape") and hasattr(data, "dtype") else np.asarray(data)
        self._transposed = transposed
        shape = tuple(self._data.shape)
        if len(shape) not in (1, 2):
            raise DataError(f"data of shape {shape} have {len(shape)} dimensions; expected (time,) or (time, channel)")
        self.n_rows = shape[-1] if transposed else shape[0]
        stored_columns = 1 if len(shape) == 1 else shape[0] if transposed else shape[1]
        whole = columns is None or np.array_equal(columns, np.arange(stored_columns))
        self._columns = None if whole else columns
        self.n_columns = stored_columns if self._columns is None else len(self._columns)
        self.dtype = np.dtype(self._data.dtype)
        chunks = getattr(self._data, "chunks", None)
        self.chunk_rows = min(int(chunks[-1 if transposed else 0]), max(self.n_rows, 1)) if chunks else 1
        self._plain = None if transposed or self._columns is not None else plain(self._data)
        self._first = 0
        self._held: NDArray[Any] = np.empty((0, self.n_columns), dtype=self.dtype)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Rows `first` to `stop` (clipped to the array), shape (rows, columns), as they are stored."""
        first, stop = max(first, 0), min(stop, self.n_rows)
        end = self._first + len(self._held)
        if not (self._first <= first and stop <= end):
            until = min(-(-stop // self.chunk_rows) * self.chunk_rows, self.n_rows)
            kept = self._held[first - self._first :].copy() if self._first <= first < end else self._held[:0].copy()
            # What is not needed any more goes before the next part comes, so that memory holds one part.
            self._held = kept
            held = np.empty((max(until - first, 0), self.n_columns), dtype=self.dtype)
            held[: len(kept)] = kept
            self._fetch(first + len(kept), until, held[len(kept) :])
            self._first, self._held = first, held
        return self._held[first - self._first : stop - self._first]

    def _fetch(self, first: int, stop: int, into: NDArray[Any]) -> None:
        if self._plain is not None:
            copy_bytes(self._plain, first * self.n_columns * self.dtype.itemsize, into=into)
        elif self._transposed:
            rows = np.asarray(self._data[..., first:stop]).reshape(-1, stop - first).T
            into[...] = rows if self._columns is None else rows[:, self._columns]
        else:
            read_rows(self._data, first, stop, into=into, columns=self._columns)


def in_unit(stored: NDArray[Any], series: Any, *, sentinel: float | None) -> NDArray[np.float64]:
    """Values in the series' unit, NaN where a sample is missing: not finite, or stored as the sentinel."""
    samples = stored.astype(np.float64) * float(series.conversion) + float(series.offset)
    samples[~np.isfinite(samples)] = np.nan
    if sentinel is not None:
        samples[stored == sentinel] = np.nan
    return samples
