"""Decoded behaviour as core NWB types in ``processing/behavior``: series of bins, or a table of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from hdmf.common import VectorData
from pynwb import NWBFile, ProcessingModule, TimeSeries
from pynwb.behavior import SpatialSeries
from pynwb.epoch import TimeIntervals

from nwb_sbtt.data.chops import merge_chops, without_uncovered
from nwb_sbtt.data.datasets import check_matching, dataset_of
from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.io.read.results import decoded_prefix
from nwb_sbtt.io.write.layout import layers, timing_of
from nwb_sbtt.io.write.packing import Backend

MODULE = "behavior"
MOST_SPATIAL = 3
"""Most columns of a SpatialSeries."""


def decoded_of(decoded: xr.Dataset | Sequence[xr.Dataset] | None, latents: xr.Dataset) -> tuple[xr.Dataset, ...]:
    """Check decoded behaviour that is written with latents.

    Parameters
    ----------
    decoded : Dataset, sequence of these, or None
        From `nwb_sbtt.decode`.
    latents : Dataset
        That it was decoded from.

    Returns
    -------
    tuple of Dataset

    Raises
    ------
    DataError
        If it is anything else, or two have one name.
    MismatchError
        If it is of other trials.
    """
    if decoded is None:
        return ()
    each = (decoded,) if isinstance(decoded, xr.Dataset) else tuple(decoded)
    for ds in each:
        ds = dataset_of(ds, expected="the result of sb.decode(latents, behaviour)")
        if not {"measured", "decoded"} <= set(ds) or not {"behaviour", "description"} <= set(ds.attrs):
            raise DataError(
                f"the Dataset has {sorted(map(str, ds.data_vars))}; expected the result of sb.decode(latents, behaviour)"
            )
        check_matching(ds, latents, names=("decoded behaviour", "latents"))
    names = [str(ds.attrs["behaviour"]) for ds in each]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(
            f"{repeated[0]!r} was decoded {names.count(repeated[0])} times; write one of them, or rename it"
        )
    return each


def add_decoded(nwb: NWBFile, decoded: Sequence[xr.Dataset], *, name: str, backend: Backend) -> None:
    """Add decoded behaviour to a file.

    Parameters
    ----------
    nwb : NWBFile
        New, or a copy of the recording; its own behaviour stays as it is.
    decoded : sequence of Dataset
        Checked by `decoded_of`.
    name : str
        Start of the names of what is added.
    backend : Backend

    Raises
    ------
    FileError
        If the file has something of that name.
    """
    if not decoded:
        return
    module = nwb.processing.get(MODULE) or nwb.create_processing_module(name=MODULE, description="Behaviour.")
    for ds in decoded:
        label = decoded_prefix(name) + str(ds.attrs["behaviour"]).rpartition("/")[2].replace(":", "_")
        if label in module.data_interfaces:
            raise FileError(
                f"the module {MODULE!r} of the recording already holds {label!r}; pass another name, for example "
                f"name={name + '2'!r} (--name {name}2)"
            )
        if "time" in ds["decoded"].dims:
            _add_series(module, ds, label, backend)
        else:
            _add_table(module, ds, label, backend)


def _add_series(module: ProcessingModule, ds: xr.Dataset, label: str, backend: Backend) -> None:
    """Of bins: at the times of the behaviour, which are later than those of the latents by the lag."""
    values = ds["decoded"].isel(predictor=0, drop=True).astype(np.float32)
    later = ds["trial_start"] + float(ds.attrs["lag"])
    frame = without_uncovered(
        merge_chops(xr.Dataset({"decoded": values}, attrs=ds.attrs).assign_coords(trial_start=later))
    )
    columns = [str(column) for column in ds["column"].values]
    for layer in layers(frame):
        flat = frame["decoded"].values[layer.trials].reshape(-1, len(columns))
        common: dict[str, Any] = {
            "name": label + (f"_overlap{layer.number}" if layer.number > 1 else ""),
            "data": backend.pack(flat[:, 0] if len(columns) == 1 else flat),
            "unit": str(ds.attrs.get("unit") or "a.u."),
            "description": f"{ds.attrs['description']} Each timestamp is the centre of a bin of {layer.bin_width:g} s.",
            "comments": f"columns: {', '.join(columns)}",
        }
        timing = timing_of(layer) or {"timestamps": backend.pack(layer.centres)}
        frame_of_reference = ds.attrs.get("reference_frame")
        if frame_of_reference is not None and len(columns) <= MOST_SPATIAL:
            module.add(SpatialSeries(**common, **timing, reference_frame=str(frame_of_reference)))
        else:
            module.add(TimeSeries(**common, **timing))


def _add_table(module: ProcessingModule, ds: xr.Dataset, label: str, backend: Backend) -> None:
    starts = ds["trial_start"].values.astype(float)
    order = np.argsort(starts, kind="stable")
    decoded, measured = (each[order] for each in (ds["decoded"].values[0, :, 0], ds["measured"].values[:, 0]))
    texts = decoded.dtype.kind not in "iuf"
    values = {
        "start_time": (starts[order], "start of the trial's first bin, in seconds on the session clock"),
        "stop_time": (starts[order] + float(ds.attrs["trial_length"]), "end of its last bin"),
        "decoded": (decoded, "decoded value"),
        "measured": (measured, "measured value; empty or NaN where there is none"),
        "scored": (ds["scored"].values[order], "whether the trial is among those that scores are of"),
    }
    columns = [
        VectorData(
            name=name,
            description=text,
            data=[str(value) for value in array] if texts and array.dtype.kind in "UO" else backend.pack_column(array),
        )
        for name, (array, text) in values.items()
    ]
    module.add(
        TimeIntervals(name=label, description=str(ds.attrs["description"]), id=np.arange(len(order)), columns=columns)
    )
