"""Rows of a stored array; compressed chunks are unpacked by several threads at once.

Inflating is nearly all of the time that a compressed recording takes to read, and HDF5 does it one chunk at a time behind
a lock that is its own for the whole process. `h5py.h5d.DatasetID.read_direct_chunk` hands out chunks as they are stored,
and `zlib` inflates them outside of Python's lock, at the same rate a thread (180 MB/s where h5py has 178). Two threads
halve the seconds on two free cores and lose nothing where there is one.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads

AT_ONCE = 1 << 22
"""Bytes read at once where columns are picked out of what HDF5 unpacks by itself."""
GZIP, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
PLAIN_FILE = "sec2"
"""Driver of an ordinary file. What is streamed waits for the network, and not for the processor."""


def read_rows(data: Any, first: int, stop: int, *, into: NDArray[Any], columns: NDArray[np.intp] | None = None) -> None:
    """Read rows `first` to `stop` of an array (row,) or (row, column), as they are stored.

    Parameters
    ----------
    data : h5py or zarr dataset, or array
    first, stop : int
    into : array (row, column)
        Takes what is read; of the stored type, with rows that lie together.
    columns : int array, optional
        The columns wanted, in the order wanted; all where left out.

    Raises
    ------
    OSError
        If a chunk is damaged.
    """
    if stop <= first:
        return
    if unpackable(data) and _unpack(data, first, stop, into=into, columns=columns):
        return
    if columns is None:
        _read_whole(data, first, stop, into)
        return
    low, high = int(columns.min()), int(columns.max()) + 1
    step = max(AT_ONCE // max((high - low) * into.itemsize, 1), _chunk_rows(data), 1)
    for start in range(first, stop, step):
        end = min(start + step, stop)
        rows = np.asarray(data[start:end]).reshape(end - start, -1) if data.ndim == 1 else data[start:end, low:high]
        into[start - first : end - first] = rows[:, _as_slice(columns - low)]


@dataclass(frozen=True)
class Plain:
    """An array that lies in one piece in an ordinary file, from byte `address` on; `handle` is the system's for the file."""

    file: h5py.h5f.FileID
    handle: int
    address: int


def plain(data: Any) -> Plain | None:
    """Where an array lies, if it is one of plain numbers that lies in one piece; None elsewhere."""
    if not isinstance(data, h5py.Dataset) or data.chunks is not None or not hasattr(os, "preadv"):
        return None
    file = data.file
    if (
        file.mode != "r"
        or file.driver != PLAIN_FILE
        or data.dtype.kind not in "iufb"
        or data.external
        or data.is_virtual
    ):
        return None
    as_is = data.id.get_type() == h5py.h5t.py_create(data.dtype, logical=True)
    address = data.id.get_offset() if as_is else None
    return None if address is None else Plain(file.id, int(file.id.get_vfd_handle()), int(address))


def copy_bytes(stored: Plain, first: int, *, into: NDArray[Any]) -> None:
    """Fill an array, whose memory is in one piece, with what is stored from byte `first` of an array on.

    HDF5 would do the same behind its lock, where threads wait for each other.

    Raises
    ------
    OSError
        If the file ends before.
    """
    place, left = stored.address + first, memoryview(into.reshape(-1).view(np.uint8).data)
    while len(left):
        n_bytes = os.preadv(stored.handle, [left], place)
        if n_bytes == 0:
            raise OSError("the file ends before its data do: it is incomplete")
        place, left = place + n_bytes, left[n_bytes:]


def unpackable(data: Any) -> bool:
    """Whether the chunks can be unpacked here: plain numbers in an ordinary file, behind gzip alone or gzip and shuffle.

    Every other pipeline (checksums, other compressors) and everything else is left to h5py.
    """
    if not isinstance(data, h5py.Dataset) or data.chunks is None or data.ndim > 2 or data.dtype.kind not in "iufb":
        return False
    if data.file.driver != PLAIN_FILE:
        return False
    if data.id.get_type() != h5py.h5t.py_create(data.dtype, logical=True):
        return False
    pipeline = data.id.get_create_plist()
    return [pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())] in ([GZIP], [SHUFFLE, GZIP])


def _unpack(data: h5py.Dataset, first: int, stop: int, *, into: NDArray[Any], columns: NDArray[np.intp] | None) -> bool:
    """Fill `into` chunk by chunk; False, and nothing read, where a chunk was never written or skipped a filter."""
    shape = (*data.chunks, 1)[:2]
    n_columns = data.shape[1] if data.ndim == 2 else 1
    wanted = np.arange(n_columns) if columns is None else columns
    bands = np.unique(wanted // shape[1]) * shape[1]
    corners = [(int(row), int(column)) for row in range(first - first % shape[0], stop, shape[0]) for column in bands]
    stored = [data.id.get_chunk_info_by_coord(corner[: data.ndim]) for corner in corners]
    if any(each.byte_offset is None or each.filter_mask for each in stored):
        return False
    places = {int(band): np.flatnonzero(wanted // shape[1] * shape[1] == band) for band in bands}
    shuffled, dtype = bool(data.shuffle), data.dtype

    def unpack(corner: tuple[int, int]) -> None:
        row, column = corner
        _, packed = data.id.read_direct_chunk(corner[: data.ndim])
        chunk = _inflated(packed, dtype, shape, shuffled=shuffled)
        low, high = max(first, row), min(stop, row + shape[0])
        rows = chunk[low - row : high - row]
        if columns is None:
            width = min(shape[1], n_columns - column)
            into[low - first : high - first, column : column + width] = rows[:, :width]
        else:
            place = places[column]
            into[low - first : high - first, _as_slice(place)] = rows[:, _as_slice(columns[place] - column)]

    in_threads(unpack, corners)
    return True


def _inflated(packed: bytes, dtype: np.dtype[Any], shape: tuple[int, int], *, shuffled: bool) -> NDArray[Any]:
    n_entries = shape[0] * shape[1]
    try:
        content = zlib.decompress(packed, bufsize=n_entries * dtype.itemsize)
    except zlib.error as error:
        # What h5py raises for the same damage.
        raise OSError(f"a compressed chunk cannot be unpacked, the file is damaged: {error}") from error
    if len(content) != n_entries * dtype.itemsize:
        raise OSError(
            f"a compressed chunk cannot be unpacked, the file is damaged: it holds {len(content)} bytes, not "
            f"{n_entries * dtype.itemsize}"
        )
    if not shuffled:
        return np.frombuffer(content, dtype=dtype).reshape(shape)
    bytewise = np.frombuffer(content, dtype=np.uint8)
    together = np.ascontiguousarray(bytewise.reshape(dtype.itemsize, n_entries).T)
    return together.view(dtype).reshape(shape)


def _as_slice(places: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Neighbours in order as a slice, which numpy copies many times faster."""
    first = int(places[0])
    return slice(first, first + len(places)) if (np.diff(places) == 1).all() else places


def _read_whole(data: Any, first: int, stop: int, into: NDArray[Any]) -> None:
    if hasattr(data, "read_direct") and into.flags.c_contiguous:
        data.read_direct(into.reshape(stop - first, *data.shape[1:]), np.s_[first:stop])
    else:
        into[...] = np.asarray(data[first:stop]).reshape(into.shape)


def _chunk_rows(data: Any) -> int:
    chunks = getattr(data, "chunks", None)
    return int(chunks[0]) if chunks else 1
