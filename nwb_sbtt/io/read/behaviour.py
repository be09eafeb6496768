"""Behaviour that a recording holds, added to data that were read from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.schema import with_notes
from nwb_sbtt.errors import SbttError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.selection import find_series

MODULE = "processing/behavior/"
MOST_SERIES, MOST_COLUMNS = 4, 8
"""Most series that are taken, and most columns of one: pictures and tables of features are no behaviour to decode."""


def attach_behaviour(path: Path | str, ds: xr.Dataset, config: ReadConfig) -> xr.Dataset:
    """Add the series in ``processing/behavior`` to data, in the bins of these.

    Parameters
    ----------
    path : path
        The file that the data were read from.
    ds : Dataset
        Data of its channels.
    config : ReadConfig
        They were read with; series of behaviour are read with its bins and cut.

    Returns
    -------
    Dataset
        With a variable (trial, time, column) for each series, named after it: the mean of its samples in each bin, NaN where
        there is none, ``units`` in its attributes. What cannot be read is said in a note.
    """
    with open_nwb(path, external_data=False) as nwbfile:
        paths = [
            each.path
            for each in find_series(nwbfile)
            if each.path.startswith(MODULE) and each.kind == "series" and each.role == "recording"
        ]
    added, notes = {}, []
    for series in [each for each in paths if each not in (config.series or ())][:MOST_SERIES]:
        of_series = ReadConfig(series=(series,), bin_width=config.bin_width, cut=config.cut)
        try:
            behaviour = read_nwb(path, of_series)
        except SbttError as error:
            notes.append(f"behaviour {series!r} was not read: {error}")
            continue
        if behaviour.sizes["channel"] <= MOST_COLUMNS and behaviour.sizes["time"] == ds.sizes["time"]:
            added[_name(series, ds)] = _in_trials(behaviour, ds)
    return with_notes(ds.assign(added), notes)


def _name(series: str, ds: xr.Dataset) -> str:
    """The last part of the path, as long as nothing else in the data has that name."""
    last = series.rpartition("/")[2]
    return series if last in ds.variables or last in ds.dims else last


def _in_trials(behaviour: xr.Dataset, ds: xr.Dataset) -> xr.DataArray:
    """Behaviour in the trials of the data, found by their start; NaN where it was not measured."""
    values = np.where(behaviour["observed"].values, behaviour["values"].values, np.nan).astype(np.float32)
    row = {start: i for i, start in enumerate(behaviour["trial_start"].values.tolist())}
    found = [row.get(start, -1) for start in ds["trial_start"].values.tolist()]
    of_trials = np.where((np.array(found) >= 0)[:, None, None], values[found], np.nan).astype(np.float32)
    name = str(behaviour["series"].values[0]).rpartition("/")[2]
    columns = [f"{name} {i + 1}" for i in range(values.shape[2])] if values.shape[2] > 1 else [name]
    dim = f"{name}_column"
    return xr.DataArray(
        of_trials,
        dims=("trial", "time", dim),
        coords={dim: columns},
        attrs={"units": str(behaviour.attrs.get("unit", ""))},
    )
