"""Named arrays in HDF5 files: what benchmark programs exchange. Arrays of different lengths under one name are ragged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.atomic import atomic_write, reserve_space
from nwb_sbtt.errors import FileError

Array = NDArray[Any]
Ragged = Sequence[Array]
Group = Mapping[str, Array | Ragged]
ABOUT = "nwb_sbtt"
"""Attribute of the file that holds what is known of it, as JSON."""
SMALLEST = 1 << 16
"""Bytes that a file takes beside its arrays, at most."""


def write_tensors(
    path: Path | str, groups: Mapping[str, Group], *, about: Mapping[str, Any] | None = None, overwrite: bool = False
) -> Path:
    """Write groups of arrays; floats become 32-bit.

    Parameters
    ----------
    path : path
    groups : mapping of group name to mapping of name to array
        A list of integer arrays is stored as one ragged array; the group "" is the root.
    about : mapping, optional
        JSON-safe; kept as an attribute of the file.

    Raises
    ------
    FileError
        If the file exists and may not be replaced, or cannot be written.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise FileError(f"{str(target)!r} exists; give another place, or pass --overwrite to replace it")
    with atomic_write(target, suffix=".h5") as temporary:
        reserve_space(
            temporary, SMALLEST + 2 * sum(_size(each) for group in groups.values() for each in group.values())
        )
        with h5py.File(temporary, "w") as file:
            for name, group in groups.items():
                place = file.require_group(name) if name else file
                for key, array in group.items():
                    _put(place, key, array)
            if about is not None:
                file.attrs[ABOUT] = json.dumps(about, allow_nan=False)
    return target


def read_tensors(path: Path | str) -> dict[str, dict[str, Array | list[Array]]]:
    """Read groups of arrays; what lies at the root is the group "".

    Raises
    ------
    FileError
        If the file cannot be read as HDF5.
    """
    groups: dict[str, dict[str, Array | list[Array]]] = {}
    with _open(path) as file:
        for name, item in file.items():
            if isinstance(item, h5py.Group):
                groups[name] = {key: _get(each) for key, each in item.items() if isinstance(each, h5py.Dataset)}
            else:
                groups.setdefault("", {})[name] = _get(item)
    return groups


def read_about(path: Path | str) -> dict[str, Any]:
    """What `write_tensors` was told about a file; empty for files of other programs."""
    with _open(path) as file:
        return dict(json.loads(file.attrs[ABOUT])) if ABOUT in file.attrs else {}


@contextmanager
def _open(path: Path | str) -> Iterator[h5py.File]:
    if not Path(path).is_file():
        raise FileError(f"there is no file {str(path)!r}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r} as HDF5: {error}") from None
    with file:
        yield file


def _size(array: Array | Ragged) -> int:
    return array.nbytes if isinstance(array, np.ndarray) else sum(each.nbytes + 64 for each in array)


def _put(place: h5py.Group, key: str, array: Array | Ragged) -> None:
    if isinstance(array, np.ndarray):
        kept = array.astype(np.float32) if array.dtype.kind == "f" else array
        packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if kept.size and kept.ndim else {}
        place.create_dataset(key, data=kept, **packed)
        return
    ragged = place.create_dataset(key, (len(array),), dtype=h5py.vlen_dtype(np.int32))
    for i, each in enumerate(array):
        ragged[i] = np.asarray(each, dtype=np.int32)


def _get(item: h5py.Dataset) -> Array | list[Array]:
    values = item[()]
    if h5py.check_vlen_dtype(item.dtype) is not None:
        return [np.asarray(each) for each in values]
    return np.asarray(values)
