"""Along which axis of a stored array time runs, and how many channels it has: decided here, for `inspect` and for reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hdmf.common import DynamicTableRegion

from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.indices import region_rows, stored_dtype
from nwb_sbtt.io.read.tables import table_region

NUMBERS = "biuf"
"""Kinds of the types of plain numbers."""
NAMES = {"electrodes": "electrodes", "rois": "ROIs", "table_region": "ROIs"}
"""What the rows of a region are called, by the region's name."""


@dataclass(frozen=True)
class Layout:
    """How the samples of a series lie in its stored array.

    Parameters
    ----------
    shape : tuple of int
        Of the stored array.
    n_samples, n_channels : int
    transposed : bool
        Whether the array is stored (channel, time).
    notes : tuple of str
        One-line remarks for the user.
    """

    shape: tuple[int, ...]
    n_samples: int
    n_channels: int
    transposed: bool = False
    notes: tuple[str, ...] = ()


def sample_layout(series: Any, region: DynamicTableRegion | None = None) -> Layout:
    """Decide along which axis of the data of a series time runs.

    NWB says (time, channel). Data stored the other way are recognised by the number of channels that the series names or,
    where it names none, by the number of its timestamps; where both axes fit, the array is what NWB says.

    Parameters
    ----------
    series : pynwb.TimeSeries
        Its data are not read.
    region : hdmf.common.DynamicTableRegion, optional
        Rows of the table of channels that the columns stand for. Default: what `table_region` finds.

    Returns
    -------
    Layout

    Raises
    ------
    DataError
        If the data are not numbers (time,) or (time, channel), have no channel, their shape fits neither orientation, or the
        region names rows that its table does not have.
    """
    if (reason := not_samples(series)) is not None:
        raise DataError(f"data of {series.name!r} {reason}")
    shape = data_shape(series)
    region = table_region(series) if region is None else region
    if 0 in shape[1:]:
        raise DataError(
            f"data of {series.name!r} have no columns, so there is no channel to read; expected (time, channel)"
        )
    n_columns = shape[1] if len(shape) == 2 else 1
    if region is not None:
        n_named, name = len(region_rows(region, path=series.name)), NAMES.get(region.name, "channels")
        if n_columns == n_named:
            return Layout(shape, shape[0], n_columns)
        if len(shape) == 2 and shape[0] == n_named:
            return _transposed(series, shape, f"it has {n_named} {name}")
        raise DataError(
            f"data of {series.name!r} have shape {shape}, but `{region.name}` refers to {n_named} {name}; expected "
            f"(time, {n_named})"
        )
    n_times = None if series.timestamps is None else len(series.timestamps)
    if len(shape) == 2 and n_times == shape[1] != shape[0]:
        return _transposed(series, shape, f"it has {n_times} timestamps")
    if n_columns > shape[0] > 0:
        many = (
            f"data of {series.name!r} have more channels ({n_columns}) than samples ({shape[0]}); if they are stored "
            "(channel, time), transpose them and write the series again as (time, channel)"
        )
        return Layout(shape, shape[0], n_columns, notes=(many,))
    return Layout(shape, shape[0], n_columns)


def not_samples(series: Any) -> str | None:
    """Say why the data of a series are not one number per channel at each time; None where they are.

    Parameters
    ----------
    series : pynwb.TimeSeries
        Its data may be of any type and shape; they are not read.

    Returns
    -------
    str or None
        A clause with "data" as its subject, such as "are text; expected numbers".
    """
    shape, dtype = data_shape(series), stored_dtype(series.data)
    if dtype.kind not in NUMBERS:
        what = "text" if dtype.kind in "OSTU" else "compound" if dtype.kind == "V" else f"of type {dtype}"
        return f"are {what}; expected numbers (time,) or (time, channel)"
    if len(shape) not in (1, 2):
        return f"of shape {shape} have {len(shape)} dimensions; expected (time,) or (time, channel)"
    return None


def data_shape(series: Any) -> tuple[int, ...]:
    """Return the shape of the stored data of a series.

    Parameters
    ----------
    series : pynwb.TimeSeries
    """
    return tuple(int(size) for size in np.shape(series.data))


def _transposed(series: Any, shape: tuple[int, ...], why: str) -> Layout:
    note = (
        f"data of {series.name!r} are stored as (channel, time), shape {shape}: {why}; NWB expects (time, channel), "
        "so they are transposed when read"
    )
    return Layout(shape, shape[1], shape[0], transposed=True, notes=(note,))
