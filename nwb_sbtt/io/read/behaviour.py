"""Behaviour that a recording holds, in the bins of data that were read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pynwb.behavior import SpatialSeries

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.datasets import dataset_of, finite_number, with_trials
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.data.schema import with_notes
from nwb_sbtt.errors import DataError, SbttError, SelectionError
from nwb_sbtt.io.dandi.locations import local_file
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.selection import StoredSeries, find_series, select, unreadable_series
from nwb_sbtt.io.read.series_columns import chosen_columns, column_names, split_column

MODULE = "processing/behavior/"
MOST_SERIES, MOST_COLUMNS = 4, 8
"""Most series that are taken, and most columns of one: pictures and tables of features are no behaviour to decode."""


def read_behaviour(path: Path | str, name: str, ds: xr.Dataset, *, lag: float = 0.0) -> xr.DataArray:
    """Read a TimeSeries or SpatialSeries of behaviour, in the bins of data or latents.

    A bin has the mean of the samples in it, and NaN where there is none: outside the series, in gaps of its timestamps, at
    samples that are not finite, and in ``invalid_times``. Nothing is interpolated.

    Parameters
    ----------
    path : path
        The recording; HDF5 or Zarr, or its address on DANDI.
    name : str
        In-file path of the series, such as "processing/behavior/Position/hand". Columns can be chosen, counted from 0:
        "processing/behavior/Position/hand:0,1"; those of a SpatialSeries also as x, y and z.
    ds : Dataset
        Data or latents, with ``trial_start`` on the session clock.
    lag : float
        Seconds by which behaviour is read later than the bins; so none is lost at the ends of trials.

    Returns
    -------
    DataArray (trial, time, column)
        Named after the series; ``attrs``: ``units``, ``lag`` [s], ``path`` in the file, and ``reference_frame`` of positions.

    Raises
    ------
    FileError
        If the file cannot be read.
    SelectionError
        If there is no such series or column.
    DataError
        If the series has no sample in the bins.

    Examples
    --------
    >>> hand = read_behaviour("maze.nwb", "processing/behavior/hand_vel", latents, lag=0.1)  # doctest: +SKIP
    """
    ds = with_trials(dataset_of(ds, of="either"))
    if (seconds := finite_number(lag)) is None:
        raise DataError(f"lag is {lag!r}; expected seconds by which behaviour is later than the bins, such as 0.1")
    if "trial_start" not in ds.coords:
        raise DataError("the Dataset has no 'trial_start', so its bins are not on the session clock of the file")
    pattern, columns = split_column(name)
    with open_nwb(local_file(path), external_data=False) as nwbfile:
        why = {where: reason for where, (_, reason) in unreadable_series(nwbfile).items()}
        selected = select(find_series(nwbfile), [pattern], unreadable=why)
        if len(selected) > 1:
            names = ", ".join(repr(each.path) for each in selected)
            raise SelectionError(f"{pattern!r} matches {len(selected)} series: {names}; name one of them")
        (stored,) = selected
        if stored.kind != "series":
            raise SelectionError(f"{stored.path!r} is a {stored.type}; expected a TimeSeries or SpatialSeries")
        behaviour = _binned(nwbfile, stored, ds, lag=seconds)
        among = column_names(stored.nwb_object, behaviour.shape[2])
        behaviour = behaviour[:, :, chosen_columns(columns, among, path=stored.path)]
    if not np.isfinite(behaviour.values).any():
        raise DataError(
            f"{stored.path!r} has no sample in the {ds.sizes['trial']} trials{' at this lag' if seconds else ''}; expected "
            "behaviour at the same times, on the session clock"
        )
    return behaviour


def attach_behaviour(path: Path | str, ds: xr.Dataset, config: ReadConfig) -> xr.Dataset:
    """Add the series in ``processing/behavior`` to data, in the bins of these.

    Parameters
    ----------
    path : path
        The file that the data were read from.
    ds : Dataset
        Data of its channels.
    config : ReadConfig
        They were read with.

    Returns
    -------
    Dataset
        With a variable (trial, time, column) for each series, named after it: the mean of its samples in each bin, NaN where
        there is none, ``units`` in its attributes. What cannot be read is said in a note.
    """
    added, notes = {}, []
    with open_nwb(path, external_data=False) as nwbfile:
        found = [
            each
            for each in find_series(nwbfile)
            if each.path.startswith(MODULE) and each.kind == "series" and each.role == "recording"
        ]
        for stored in [each for each in found if each.path not in (config.series or ())][:MOST_SERIES]:
            try:
                behaviour = _binned(nwbfile, stored, ds)
            except SbttError as error:
                notes.append(f"behaviour {stored.path!r} was not read: {error}")
                continue
            if behaviour.shape[2] <= MOST_COLUMNS and np.isfinite(behaviour.values).any():
                added[_name(stored.path, ds)] = behaviour.rename({"column": f"{behaviour.name}_column"})
    return with_notes(ds.assign(added), notes)


def _binned(nwbfile: Any, stored: StoredSeries, ds: xr.Dataset, *, lag: float = 0.0) -> xr.DataArray:
    """A series in the bins of data, later by the lag; NaN where it was not measured."""
    source = stored.reader(nwbfile, stored.nwb_object, ReadConfig())
    starts = ds["trial_start"].values.astype(float) + lag
    binned = source.bin(Grid(starts, float(ds.attrs["bin_width"]), ds.sizes["time"]))
    values = np.where(binned.observed, binned.values, np.nan).astype(np.float32)
    name = stored.path.rpartition("/")[2]
    columns = column_names(stored.nwb_object, values.shape[2])
    columns = [f"{name} {column}" for column in columns] if len(columns) > 1 else [name]
    attrs = {"units": source.unit, "lag": lag, "path": stored.path}
    if isinstance(stored.nwb_object, SpatialSeries):
        attrs["reference_frame"] = str(stored.nwb_object.reference_frame or "unknown")
    return xr.DataArray(
        values,
        dims=("trial", "time", "column"),
        coords={"column": columns},
        attrs=attrs,
        name=name,
    )


def _name(series: str, ds: xr.Dataset) -> str:
    """The last part of the path, as long as nothing else in the data has that name."""
    last = series.rpartition("/")[2]
    return series if last in ds.variables or last in ds.dims else last
