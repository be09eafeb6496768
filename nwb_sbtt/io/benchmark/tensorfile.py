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
from nwb_sbtt.io.read.heaps import check_heaps

_Array = NDArray[Any]
Ragged = Sequence[_Array]
Group = Mapping[str, _Array | Ragged]
ABOUT = "nwb_sbtt"
"""Attribute of the file that describes it, as JSON."""
OVERHEAD_BYTES = 1 << 16
"""Upper bound of what a file takes besides its arrays."""
MAX_RATIO = 1100
"""No compression of HDF5's own makes an array smaller than by this factor."""


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
    with atomic_write(target, suffix=".h5", parents=True) as temporary:
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
        If the file cannot be read as HDF5, or holds anything but numbers.
    """
    groups: dict[str, dict[str, _Array | list[_Array]]] = {}
    with _open(path) as file:
        for name, item in file.items():
            if isinstance(item, h5py.Group):
                below = {key: array for key, array in item.items() if not isinstance(array, h5py.Group)}
                groups[name] = {key: _read_array(array, f"{name}/{key}") for key, array in below.items()}
            else:
                groups.setdefault("", {})[name] = _read_array(item, name)
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
        about = json.loads(str(file.attrs[ABOUT])) if ABOUT in file.attrs else {}
    if not isinstance(about, dict):
        raise FileError(f"{str(path)!r} is damaged: its description is a {type(about).__name__}; make it again")
    return about


@contextmanager
def _open(path: Path | str) -> Iterator[h5py.File]:
    with FileErrors(path, hint="make it again"):
        check_is_file(Path(path))
        check_heaps(Path(path))
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


def _read_array(item: object, name: str) -> _Array | list[_Array]:
    """Read an array of numbers; one that declares far more than the file holds is not even tried."""
    if not isinstance(item, h5py.Dataset):
        raise FileError(
            f"{name!r} of the file is {'a broken link' if item is None else 'no array'}; make the file again"
        )
    ragged = h5py.check_vlen_dtype(item.dtype)
    kind = getattr(ragged or item.dtype, "kind", "O")
    if kind not in "biuf" or item.shape is None:
        raise FileError(f"{name!r} of the file contains {item.dtype}; expected numbers. Make the file again")
    if item.size * item.dtype.itemsize > MAX_RATIO * max(item.id.get_storage_size(), OVERHEAD_BYTES):
        raise FileError(
            f"{name!r} of the file has the declared shape {item.shape}, but only {item.id.get_storage_size()} bytes "
            "of it are stored; make the file again"
        )
    values = item[()]
    return [np.asarray(row) for row in values.reshape(-1)] if ragged is not None else np.asarray(values)
