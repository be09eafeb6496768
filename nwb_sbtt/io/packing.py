"""How arrays are stored: chunks and compression, for the backend that a file's name asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, NWBFile

from nwb_sbtt.errors import FileError

Pack: TypeAlias = Callable[[NDArray[Any]], Any]
"""Says how the file's backend is to store an array."""
CHUNK_BYTES = 2**20
CHUNK_COLUMNS = 1024


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


def chunks(array: NDArray[Any]) -> tuple[int, ...]:
    """Shape of a chunk: all of up to 1024 columns, and as many rows as make about a megabyte."""
    columns = tuple(min(size, CHUNK_COLUMNS) for size in array.shape[1:])
    rows = max(1, CHUNK_BYTES // (array.itemsize * int(np.prod(columns, dtype=np.int64))))
    return (min(rows, array.shape[0]), *columns)


def save(nwbfile: NWBFile, path: Path) -> None:
    """Write a new file in the format that its name asks for."""
    if is_zarr(path):
        from hdmf_zarr.nwb import NWBZarrIO

        with NWBZarrIO(path=str(path), mode="w") as io:
            io.write(nwbfile)
    else:
        with NWBHDF5IO(path, mode="w") as io:
            io.write(nwbfile)
