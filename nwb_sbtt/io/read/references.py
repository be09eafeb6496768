"""References from one object of an HDF5 file to another, where they lead nowhere: hdmf then ends in an error of its own."""

from __future__ import annotations

from pathlib import Path

import h5py


def broken_reference(path: Path) -> str | None:
    """Name an object of an HDF5 file one of whose attributes refers to an object that is not there.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str or None
        The first such attribute, such as the ``table`` of a region; None where there is none, or the file cannot be searched.
    """

    def describe(name: str, item: h5py.Group | h5py.Dataset) -> str | None:
        broken = (key for key, value in item.attrs.items() if _leads_nowhere(item.file, value))
        attribute = next(broken, None)
        return None if attribute is None else f"attribute {attribute!r} of {name!r}"

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            found: str | None = file.visititems(describe)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return None
    return found


def _leads_nowhere(file: h5py.File, value: object) -> bool:
    if not isinstance(value, h5py.Reference) or isinstance(value, h5py.RegionReference):
        return False
    try:
        return not value or file[value].name is None
    except (OSError, RuntimeError, KeyError, ValueError):
        return True
