"""How arrays are stored: chunks and compression, for the backend that a file's name asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from hdmf.backends.hdf5 import H5DataIO
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, NWBFile, get_manager

from nwb_sbtt.atomic import reserve_space
from nwb_sbtt.errors import FileError

Pack: TypeAlias = Callable[[NDArray[Any]], Any]
"""Wraps an array to say how the file's backend is to store it."""
CHUNK_BYTES = 2**20
CHUNK_COLUMNS = 1024
FILE_BYTES = 2**22
"""What a file holds besides its arrays: mostly the definitions of its types."""
OBJECT_BYTES = 2**13


def is_zarr(path: Path) -> bool:
    """Whether the name asks for Zarr; HDF5 otherwise.

    Raises
    ------
    FileError
        If the name ends in neither ``.nwb`` nor ``.zarr``, or hdmf-zarr is asked for and not installed.
    """
    if path.suffix == ".nwb":
        return False
    if path.suffix != ".zarr":
        raise FileError(f"cannot tell the format of {path.name!r}: end the name in '.nwb' (HDF5) or '.nwb.zarr' (Zarr)")
    try:
        import hdmf_zarr  # noqa: F401
    except ImportError as error:
        raise FileError(
            f"{path.name!r} asks for Zarr, and hdmf-zarr is not installed: pip install 'nwb_sbtt[zarr]'"
        ) from error
    return True


def pack_hdf5(array: NDArray[Any]) -> H5DataIO:
    """Chunks of about a megabyte, gzip."""
    return H5DataIO(data=array, chunks=chunks(array), compression="gzip", compression_opts=4, shuffle=True)


def pack_zarr(array: NDArray[Any]) -> Any:
    """Chunks of about a megabyte, the default compressor."""
    from hdmf_zarr import ZarrDataIO

    return ZarrDataIO(data=array, chunks=chunks(array))


@dataclass(frozen=True)
class Backend:
    """What a backend can do: how it stores arrays, and whether a table can hold references to samples of a series."""

    pack: Pack
    references: bool


def chunks(array: NDArray[Any]) -> tuple[int, ...]:
    """Shape of a chunk: all of up to 1024 columns, and as many rows as make about a megabyte."""
    columns = tuple(min(size, CHUNK_COLUMNS) for size in array.shape[1:])
    rows = max(1, CHUNK_BYTES // (array.itemsize * int(np.prod(columns, dtype=np.int64))))
    return (min(rows, array.shape[0]), *columns)


def save(nwbfile: NWBFile, path: Path) -> None:
    """Write a new file in the format that its name asks for."""
    if is_zarr(path):
        import numcodecs
        from hdmf_zarr import ZarrIO

        # The default codec is pickle, which nobody should have to trust; numcodecs refuses it, and NWBZarrIO knows no other.
        with ZarrIO(path=str(path), manager=get_manager(), mode="w", object_codec_class=numcodecs.JSON) as io:
            io.write(nwbfile)
    else:
        reserve_space(path, size(nwbfile))
        with NWBHDF5IO(path, mode="w") as io:
            io.write(nwbfile)


def addition(latents: xr.Dataset) -> int:
    """Bytes that results add to a file at most."""
    n_trials, n_bins = latents.sizes["trial"], latents.sizes["time"]
    return latents.nbytes + 8 * n_trials * n_bins + OBJECT_BYTES * (n_trials + 100) + FILE_BYTES


def size(nwbfile: NWBFile) -> int:
    """Bytes that a new file takes at most: all arrays uncompressed, and some for each object and each file."""
    total = 0
    for item in nwbfile.all_children():
        values = {id(value): value for value in (*item.fields.values(), getattr(item, "data", None))}.values()
        arrays = (value.data if isinstance(value, H5DataIO) else value for value in values)
        total += OBJECT_BYTES + sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    return total + FILE_BYTES


HDF5 = Backend(pack_hdf5, references=True)
ZARR = Backend(pack_zarr, references=False)
