"""Read and write named arrays in HDF5, the files of benchmark programs. Arrays of several lengths under one name are ragged."""

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
from nwb_sbtt.fileerrors import FileErrors, check_is_file

_Array = NDArray[Any]
Ragged = Sequence[_Array]
Group = Mapping[str, _Array | Ragged]
ABOUT = "nwb_sbtt"
"""Attribute of the file that describes it, as JSON."""
OVERHEAD_BYTES = 1 << 16
"""Upper bound of what a file takes besides its arrays."""


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
        JSON-safe; stored as an attribute of the file.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError
        If the file exists and may not be replaced, or cannot be written.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise FileError(f"{str(target)!r} exists; pass another path, or overwrite=True (--overwrite) to replace it")
    with atomic_write(target, suffix=".h5") as temporary:
        reserve_space(
            temporary,
            OVERHEAD_BYTES + 2 * sum(_n_bytes(array) for group in groups.values() for array in group.values()),
        )
        with h5py.File(temporary, "w") as file:
            for name, group in groups.items():
                parent = file.require_group(name) if name else file
                for key, array in group.items():
                    _write_array(parent, key, array)
            if about is not None:
                file.attrs[ABOUT] = json.dumps(about, allow_nan=False)
    return target


def read_tensors(path: Path | str) -> dict[str, dict[str, _Array | list[_Array]]]:
    """Read groups of arrays.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of group name to dict of name to array
        The root is the group ""; ragged arrays are lists.

    Raises
    ------
    FileError
        If the file cannot be read as HDF5.
    """
    groups: dict[str, dict[str, _Array | list[_Array]]] = {}
    with _open(path) as file:
        for name, item in file.items():
            if isinstance(item, h5py.Group):
                groups[name] = {
                    key: _read_array(array) for key, array in item.items() if isinstance(array, h5py.Dataset)
                }
            else:
                groups.setdefault("", {})[name] = _read_array(item)
    return groups


def read_about(path: Path | str) -> dict[str, Any]:
    """Read the description that `write_tensors` stored.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        Empty for files of other programs.

    Raises
    ------
    FileError
        If the file cannot be read as HDF5.
    """
    with _open(path) as file:
        return dict(json.loads(file.attrs[ABOUT])) if ABOUT in file.attrs else {}


@contextmanager
def _open(path: Path | str) -> Iterator[h5py.File]:
    with FileErrors(path, hint="make it again"):
        check_is_file(Path(path))
        with h5py.File(path, "r") as file:
            yield file


def _n_bytes(array: _Array | Ragged) -> int:
    return array.nbytes if isinstance(array, np.ndarray) else sum(row.nbytes + 64 for row in array)


def _write_array(parent: h5py.Group, key: str, array: _Array | Ragged) -> None:
    if isinstance(array, np.ndarray):
        data = array.astype(np.float32) if array.dtype.kind == "f" else array
        options = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if data.size and data.ndim else {}
        parent.create_dataset(key, data=data, **options)
        return
    ragged = parent.create_dataset(key, (len(array),), dtype=h5py.vlen_dtype(np.int32))
    for i, row in enumerate(array):
        ragged[i] = np.asarray(row, dtype=np.int32)


def _read_array(item: h5py.Dataset) -> _Array | list[_Array]:
    values = item[()]
    if h5py.check_vlen_dtype(item.dtype) is not None:
        return [np.asarray(row) for row in values]
    return np.asarray(values)
