"""Compression of HDF5 arrays that is not part of HDF5 itself: plug-ins, and what to install where one is missing.

The package hdf5plugin brings the common ones (Blosc, Zstandard, LZ4, …). It is used wherever it is installed.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from nwb_sbtt.errors import DataError

PLUGINS = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
    32033: "HTJ2K",
}
"""Filters of the package hdf5plugin by their number, which the HDF Group registers."""


def register_plugins() -> None:
    """Let HDF5 use the filters of hdf5plugin, where that package is installed."""
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (registers its filters)


def missing_filter(data: Any) -> str | None:
    """Say which filter a stored array needs that is not there, and what to install.

    Parameters
    ----------
    data : h5py or zarr dataset, or array

    Returns
    -------
    str or None
        None where HDF5 has all filters of the array.
    """
    if not isinstance(data, h5py.Dataset) or data.chunks is None:
        return None
    created = data.id.get_create_plist()
    for position in range(created.get_nfilters()):
        number, _, _, stored_name = created.get_filter(position)
        if not h5py.h5z.filter_avail(number):
            name = PLUGINS.get(number) or stored_name.decode(errors="replace").split(";")[0] or "without a name"
            remedy = "pip install hdf5plugin" if number in PLUGINS else "install it where HDF5_PLUGIN_PATH points"
            return f"it is compressed with the HDF5 filter {name} (number {number}), which is not installed: {remedy}"
    return None


def missing_filter_of_file(path: Path) -> str | None:
    """Say which filter an array of an HDF5 file needs that is not there, and what to install.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str or None
        The first such array with its filter; None where there is none, or the file cannot be searched.
    """

    def describe(name: str, item: object) -> str | None:
        reason = missing_filter(item)
        return None if reason is None else f"of {name!r}, {reason}"

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            found: str | None = file.visititems(describe)
    except (OSError, RuntimeError, KeyError, ValueError):
        return None
    return found


def missing_codec_of_store(store: Path) -> str | None:
    """Say which codec an array of a Zarr store needs that numcodecs does not have, and what to install.

    Parameters
    ----------
    store : Path
        Its folder.

    Returns
    -------
    str or None
        The first such array with its codec; None where there is none.
    """
    from numcodecs.registry import codec_registry, entries

    for path in sorted(store.rglob(".zarray")):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # zarr reports it.
        if not isinstance(stored, dict):
            continue
        for codec in [stored.get("compressor"), *(stored.get("filters") or ())]:
            name = codec.get("id") if isinstance(codec, dict) else None
            if name is not None and name not in codec_registry and name not in entries:
                array = path.parent.relative_to(store).as_posix()
                return (
                    f"{array!r} is compressed with the codec {name!r}, which numcodecs does not have: install a newer "
                    "numcodecs, or the package that brings it (of electrophysiology often wavpack-numcodecs)"
                )
    return None


def unreadable(data: Any, error: OSError) -> DataError:
    """Make the error for an array of which a part cannot be read.

    Parameters
    ----------
    data : h5py or zarr dataset, or array
    error : OSError
        What reading it raised.
    """
    name = repr(str(data.name).strip("/")) if isinstance(data, h5py.Dataset) else "an array"
    reason = missing_filter(data) or f"it is damaged or incomplete ({' '.join(str(error).split())})"
    return DataError(f"cannot read {name}: {reason}")
