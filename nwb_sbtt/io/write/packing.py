"""How arrays are stored: chunks and compression, for the format that a file's name ends in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr
from hdmf.backends.hdf5 import H5DataIO
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, NWBFile

from nwb_sbtt.atomic import reserve_space
from nwb_sbtt.errors import ConfigError, FileError
from nwb_sbtt.io.read.extensions import loaded_types

Pack: TypeAlias = Callable[[NDArray[Any]], Any]
"""Wraps an array with the backend's chunks and compression."""
Compression: TypeAlias = Literal["gzip", "blosc"]
GZIP_LEVEL = 8
"""Smaller by a few percent than at 6, for twice the time; at 9 nothing is gained for much more."""
PACKED_BYTES = 2**14
"""Columns of tables are packed from this size on; a chunk has a cost of its own."""
CHUNK_BYTES = 2**20
CHUNK_COLUMNS = 1024
FILE_BYTES = 2**22
"""Upper bound of what a file holds besides its arrays: mostly the definitions of its types."""
OBJECT_BYTES = 2**13
"""Upper bound of what an object takes besides its arrays."""


def is_zarr(path: Path) -> bool:
    """Return whether a name ends as that of a Zarr file, rather than HDF5.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FileError
        If the name ends in neither ``.nwb`` nor ``.zarr``, or in ``.zarr`` without hdmf-zarr installed.
    """
    if path.suffix == ".nwb":
        return False
    if path.suffix != ".zarr":
        raise FileError(f"the format of {path.name!r} is unknown; end the name in '.nwb' (HDF5) or '.nwb.zarr' (Zarr)")
    try:
        import hdmf_zarr  # noqa: F401
    except ImportError as error:
        raise FileError(
            f"{path.name!r} needs hdmf-zarr, which is not installed: pip install 'nwb_sbtt[zarr]'"
        ) from error
    return True


def pack_hdf5(array: NDArray[Any]) -> H5DataIO:
    """Wrap an array for HDF5: chunks of about a megabyte, bytes of equal weight side by side, gzip.

    Parameters
    ----------
    array : array

    Returns
    -------
    H5DataIO
    """
    # Pairs of times repeat as a whole, from unit to unit and from stop to start: bytes taken apart would hide that.
    shuffle = array.dtype != np.float64 or array.ndim == 1
    return H5DataIO(
        data=array, chunks=chunk_shape(array), compression="gzip", compression_opts=GZIP_LEVEL, shuffle=shuffle
    )


def pack_blosc(array: NDArray[Any]) -> H5DataIO:
    """Wrap an array for HDF5: chunks of about a megabyte, blosc with zstd.

    Parameters
    ----------
    array : array

    Returns
    -------
    H5DataIO
    """
    import hdf5plugin

    blosc = hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*may not be available on all installations of HDF5")
        return H5DataIO(data=array, chunks=chunk_shape(array), allow_plugin_filters=True, **blosc)


def pack_zarr(array: NDArray[Any]) -> Any:
    """Wrap an array for Zarr: chunks of about a megabyte, the default compressor.

    Parameters
    ----------
    array : array

    Returns
    -------
    ZarrDataIO
    """
    from hdmf_zarr import ZarrDataIO

    return ZarrDataIO(data=array, chunks=chunk_shape(array))


@dataclass(frozen=True)
class Backend:
    """What a backend can do.

    Parameters
    ----------
    pack : callable
        Wraps an array.
    references : bool
        Whether a table can hold references to samples of a series.
    """

    pack: Pack
    references: bool

    def pack_column(self, values: Any) -> Any:
        """Wrap the values of a table's column, if they are numbers, or records of numbers, and many.

        Parameters
        ----------
        values : array or list
        """
        packed = isinstance(values, np.ndarray) and values.dtype.kind in "biufV" and values.nbytes >= PACKED_BYTES
        return self.pack(values) if packed else values


def backend_of(path: Path, compression: Compression) -> Backend:
    """Choose how arrays are stored in a file.

    Parameters
    ----------
    path : Path
    compression : "gzip" or "blosc"
        Of HDF5; Zarr has a compressor of its own.

    Raises
    ------
    FileError
        As `is_zarr`.
    ConfigError
        If the compression is not installed.
    """
    if is_zarr(path):
        return Backend(pack_zarr, references=False)
    if compression == "gzip":
        return Backend(pack_hdf5, references=True)
    if find_spec("hdf5plugin") is None:
        raise ConfigError(
            "compression='blosc' needs hdf5plugin, which is not installed: pip install 'nwb_sbtt[compression]', or keep "
            "gzip (--set write.compression=gzip)"
        )
    return Backend(pack_blosc, references=True)


def chunk_shape(array: NDArray[Any]) -> tuple[int, ...]:
    """Return the shape of a chunk: up to 1,024 columns, and as many rows as make about a megabyte.

    Parameters
    ----------
    array : array
        Time, or the rows of a table, is the first axis.
    """
    columns = tuple(min(size, CHUNK_COLUMNS) for size in array.shape[1:])
    rows = max(1, CHUNK_BYTES // (array.itemsize * int(np.prod(columns, dtype=np.int64))))
    return (min(rows, array.shape[0]), *columns)


def save_nwb(nwbfile: NWBFile, path: Path) -> None:
    """Write a new file, in Zarr or HDF5 as its name ends.

    Parameters
    ----------
    nwbfile : NWBFile
    path : Path

    Raises
    ------
    FileError
        If the format is neither, or not installed.
    OSError
        If there is no space.
    """
    if is_zarr(path):
        import numcodecs
        from hdmf_zarr import ZarrIO

        # The default codec is pickle, which runs code when it is read; numcodecs refuses it, and NWBZarrIO has no other.
        with ZarrIO(path=str(path), manager=loaded_types(), mode="w", object_codec_class=numcodecs.JSON) as io:
            io.write(nwbfile)
    else:
        reserve_space(path, max_file_bytes(nwbfile))
        with NWBHDF5IO(path, mode="w", manager=loaded_types()) as io:
            io.write(nwbfile)


def max_added_bytes(latents: xr.Dataset) -> int:
    """Return an upper bound of the bytes that results add to a file.

    Parameters
    ----------
    latents : Dataset
    """
    n_trials, n_bins = latents.sizes["trial"], latents.sizes["time"]
    return latents.nbytes + 8 * n_trials * n_bins + OBJECT_BYTES * (n_trials + 100) + FILE_BYTES


def max_file_bytes(nwbfile: NWBFile) -> int:
    """Return an upper bound of the bytes of a new file: its arrays uncompressed, and some for each object and the file.

    Parameters
    ----------
    nwbfile : NWBFile
    """
    total = 0
    for item in nwbfile.all_children():
        values = {id(value): value for value in (*item.fields.values(), getattr(item, "data", None))}.values()
        arrays = (value.data if isinstance(value, H5DataIO) else value for value in values)
        total += OBJECT_BYTES + sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    return total + FILE_BYTES
