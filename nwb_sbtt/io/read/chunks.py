"""Rows of a stored array; compressed chunks are decompressed by several threads at once.

Nearly all of the time that a compressed recording takes to read is spent in gzip, and HDF5 decompresses one chunk at a time
behind a lock of the whole process. `h5py.h5d.DatasetID.read_direct_chunk` returns chunks as they are stored, and isal, which
has the interface of `zlib`, decompresses them outside of Python's lock in half the time that HDF5 takes. Two threads take half
the time on two free cores, and lose nothing on one. Where isal is not installed, as on processors that it has no fast code
for, `zlib` makes the same numbers as fast as HDF5 does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads

inflate: Any = import_module("isal.isal_zlib" if find_spec("isal") else "zlib")

BYTES_AT_ONCE = 1 << 22
"""Bytes read at once where columns are selected from what HDF5 decompresses itself."""
GZIP, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
ORDINARY_FILE = "sec2"
"""HDF5 driver of an ordinary file. A streamed file waits for the network, not for the processor."""
NUMBERS = "iufb"
"""Kinds of the types of plain numbers."""


def read_rows(data: Any, first: int, stop: int, *, into: NDArray[Any], columns: NDArray[np.intp] | None = None) -> None:
    """Read rows `first` to `stop` − 1 of an array (row,) or (row, column), as they are stored.

    Parameters
    ----------
    data : h5py or zarr dataset, or array
    first, stop : int
    into : array (row, column)
        Receives the rows; of the stored type, contiguous within each row.
    columns : int array, optional
        Columns to read, in this order; default: all.

    Raises
    ------
    OSError
        If a chunk is damaged.
    """
    if stop <= first:
        return
    if can_decompress(data) and _decompress_rows(data, first, stop, into=into, columns=columns):
        return
    if columns is None:
        _read_all_columns(data, first, stop, into)
        return
    low, high = int(columns.min()), int(columns.max()) + 1
    step = max(BYTES_AT_ONCE // max((high - low) * into.itemsize, 1), _chunk_rows(data), 1)
    for start in range(first, stop, step):
        end = min(start + step, stop)
        rows = np.asarray(data[start:end]).reshape(end - start, -1) if data.ndim == 1 else data[start:end, low:high]
        into[start - first : end - first] = rows[:, _as_slice(columns - low)]


@dataclass(frozen=True)
class ContiguousArray:
    """An array that lies in one piece in an ordinary file.

    Parameters
    ----------
    file : h5py.h5f.FileID
        Keeps the file open.
    descriptor : int
        The system's file descriptor.
    address : int
        First byte of the array in the file.
    """

    file: h5py.h5f.FileID
    descriptor: int
    address: int


def contiguous_array(data: Any) -> ContiguousArray | None:
    """Find where an array of plain numbers lies in its file; None where it does not lie there in one piece.

    Parameters
    ----------
    data : h5py or zarr dataset, or array
    """
    if not isinstance(data, h5py.Dataset) or data.chunks is not None or not hasattr(os, "preadv"):
        return None
    file = data.file
    if file.mode != "r" or file.driver != ORDINARY_FILE or data.dtype.kind not in NUMBERS:
        return None
    if data.external or data.is_virtual or not _has_memory_type(data):
        return None
    address = data.id.get_offset()
    return None if address is None else ContiguousArray(file.id, int(file.id.get_vfd_handle()), int(address))


def copy_bytes(stored: ContiguousArray, first: int, *, into: NDArray[Any]) -> None:
    """Fill an array with the stored bytes of another, from byte `first` on.

    HDF5 does the same behind its lock, where threads wait for each other.

    Parameters
    ----------
    stored : ContiguousArray
    first : int
        Counted from the start of the stored array.
    into : array
        Contiguous in memory.

    Raises
    ------
    OSError
        If the file ends before.
    """
    address, remaining = stored.address + first, memoryview(into.reshape(-1).view(np.uint8).data)
    while len(remaining):
        n_bytes = os.preadv(stored.descriptor, [remaining], address)
        if n_bytes == 0:
            raise OSError("the file ends before its data do: it is incomplete")
        address, remaining = address + n_bytes, remaining[n_bytes:]


def can_decompress(data: Any) -> bool:
    """Whether this module can decompress the chunks of an array.

    It can for plain numbers in an ordinary file, compressed by gzip or by shuffle and gzip. Everything else (checksums, other
    compressors) is left to h5py.

    Parameters
    ----------
    data : h5py or zarr dataset, or array
    """
    if not isinstance(data, h5py.Dataset) or data.chunks is None or data.ndim > 2 or data.dtype.kind not in NUMBERS:
        return False
    if data.file.driver != ORDINARY_FILE or not _has_memory_type(data):
        return False
    pipeline = data.id.get_create_plist()
    return [pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())] in ([GZIP], [SHUFFLE, GZIP])


def _has_memory_type(data: h5py.Dataset) -> bool:
    """Whether the stored bytes are those of numpy's type."""
    return bool(data.id.get_type() == h5py.h5t.py_create(data.dtype, logical=True))


def _decompress_rows(
    data: h5py.Dataset, first: int, stop: int, *, into: NDArray[Any], columns: NDArray[np.intp] | None
) -> bool:
    """Fill `into` chunk by chunk; False, and nothing read, where a chunk was never written or skipped a filter."""
    chunk_shape = (*data.chunks, 1)[:2]
    n_columns = data.shape[1] if data.ndim == 2 else 1
    wanted = np.arange(n_columns) if columns is None else columns
    first_columns = np.unique(wanted // chunk_shape[1]) * chunk_shape[1]
    first_rows = range(first - first % chunk_shape[0], stop, chunk_shape[0])
    corners = [(int(row), int(column)) for row in first_rows for column in first_columns]
    stored = [data.id.get_chunk_info_by_coord(corner[: data.ndim]) for corner in corners]
    if any(chunk.byte_offset is None or chunk.filter_mask for chunk in stored):
        return False
    # Columns of `into` that come from the chunks that begin at a column.
    targets = {
        int(column): np.flatnonzero(wanted // chunk_shape[1] * chunk_shape[1] == column) for column in first_columns
    }
    shuffled, dtype = bool(data.shuffle), data.dtype

    def decompress(corner: tuple[int, int]) -> None:
        row, column = corner
        _, compressed = data.id.read_direct_chunk(corner[: data.ndim])
        chunk = _decompressed(compressed, dtype, chunk_shape, shuffled=shuffled)
        low, high = max(first, row), min(stop, row + chunk_shape[0])
        rows = chunk[low - row : high - row]
        if columns is None:
            width = min(chunk_shape[1], n_columns - column)
            into[low - first : high - first, column : column + width] = rows[:, :width]
        else:
            target = targets[column]
            into[low - first : high - first, _as_slice(target)] = rows[:, _as_slice(columns[target] - column)]

    in_threads(decompress, corners)
    return True


def _decompressed(compressed: bytes, dtype: np.dtype[Any], shape: tuple[int, int], *, shuffled: bool) -> NDArray[Any]:
    n_entries = shape[0] * shape[1]
    n_bytes = n_entries * dtype.itemsize
    stream = inflate.decompressobj()
    try:
        # No more than one byte beyond the chunk: a few kilobytes of gzip can stand for gigabytes.
        content = stream.decompress(compressed, n_bytes + 1)
    except inflate.error as error:
        # What h5py raises for the same damage.
        raise OSError(f"a compressed chunk cannot be decompressed, the file is damaged: {error}") from error
    if len(content) != n_bytes or not stream.eof:
        held = f"more than {n_bytes}" if len(content) > n_bytes else f"{len(content)}"
        raise OSError(
            f"a compressed chunk cannot be decompressed, the file is damaged: it holds {held} bytes, not {n_bytes}"
        )
    if not shuffled:
        return np.frombuffer(content, dtype=dtype).reshape(shape)
    # Shuffle stores the first bytes of all entries, then their second bytes, and so on.
    by_byte = np.frombuffer(content, dtype=np.uint8).reshape(dtype.itemsize, n_entries)
    return np.ascontiguousarray(by_byte.T).view(dtype).reshape(shape)


def _as_slice(indices: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Neighbours in rising order as a slice, which numpy copies many times faster."""
    first = int(indices[0])
    return slice(first, first + len(indices)) if (np.diff(indices) == 1).all() else indices


def _read_all_columns(data: Any, first: int, stop: int, into: NDArray[Any]) -> None:
    if hasattr(data, "read_direct") and into.flags.c_contiguous:
        data.read_direct(into.reshape(stop - first, *data.shape[1:]), np.s_[first:stop])
    else:
        into[...] = np.asarray(data[first:stop]).reshape(into.shape)


def _chunk_rows(data: Any) -> int:
    chunks = getattr(data, "chunks", None)
    return int(chunks[0]) if chunks else 1
