"""Read results from a file, as the labelled Dataset that was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule, TimeSeries

from nwb_sbtt.data.schema import name_units, with_ids_as_index
from nwb_sbtt.errors import FileError, SelectionError
from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.results import MODEL_TYPE
from nwb_sbtt.io.write.layout import (
    CHANNEL_VARIABLES,
    FOUND_IN_SAMPLES,
    INITIAL_CONDITION,
    LATENT_VARIABLES,
    channel_groups,
    group_suffixes,
    series_name,
)
from nwb_sbtt.io.write.provenance import model_attributes, read_description


def read_result(path: Path | str, *, name: str | None = None) -> xr.Dataset:
    """Read results that `write_nwb` wrote.

    The package of the extension ndx-sbtt is not needed, because the file contains the definitions of its types.

    Parameters
    ----------
    path : path
        HDF5 or Zarr.
    name : str, optional
        Name of the results, as passed to `write_nwb`. Default: the only results of the file.

    Returns
    -------
    Dataset
        ``rates`` [Hz] or ``mean``, ``events``, ``denoised`` (trial, time, channel), ``factors``, ``inputs``,
        ``initial_condition``, if they were written, each with its ``_sd``, and ``observed``; with the coordinates
        and attributes of the data they were inferred from (the path of the recording on the writer's disk is not kept).

    Raises
    ------
    FileError
        If the file cannot be read, or parts of the results are missing.
    SelectionError
        If the file has no results, none of that name, or several and `name` is not given.

    Examples
    --------
    >>> latents = read_result("maze_latents.nwb")  # doctest: +SKIP
    """
    file = path_of(path, "the file of results")
    with open_nwb(file) as nwb:
        record = _record(nwb, file, name)
        return _Results(record).dataset()


def read_model(path: Path | str, *, name: str | None = None) -> dict[str, Any]:
    """Read the record of the model of results that `write_nwb` wrote, without the results.

    Parameters
    ----------
    path : path
    name : str, optional
        As for `read_result`.

    Returns
    -------
    dict
        ``model_type``, ``software_version``, ``config``, ``checkpoint_sha256``, …

    Raises
    ------
    FileError, SelectionError
        As `read_result`.
    """
    file = path_of(path, "the file of results")
    with open_nwb(file) as nwb:
        model: dict[str, Any] = json.loads(model_attributes(_record(nwb, file, name))["model"])
    return model


def _record(nwb: NWBFile, path: Path, name: str | None) -> Any:
    children = [item for module in nwb.processing.values() for item in module.data_interfaces.values()]
    records = [item for item in children if type(item).__name__ == MODEL_TYPE and item.name.endswith("_model")]
    names = sorted(item.name.removesuffix("_model") for item in records)
    if name is not None:
        records = [item for item in records if item.name == f"{name}_model"]
        if not records:
            raise SelectionError(f"{path.name!r} has no results named {name!r}; it has {names or 'none'}")
    if not records:
        raise SelectionError(f"{path.name!r} has no results; expected a file written by `write_nwb`")
    if len(records) > 1:
        raise SelectionError(f"{path.name!r} has several results; set `name` to one of {names}")
    return records[0]


class _Results:
    """The objects of one set of results in an open file."""

    def __init__(self, record: Any) -> None:
        self._record = record
        self._name = record.name.removesuffix("_model")
        self._module: ProcessingModule = record.parent
        self._description = read_description(record)
        self._segments = self._item(f"{self._name}_segments", DynamicTable)
        n_segments = len(self._segments)
        order = self._numbers(self._segments, "order", n_segments)
        if not np.array_equal(np.sort(order), np.arange(n_segments)):
            raise self._damaged("the column 'order' of its segments is not a numbering from 0")
        # Segments are stored by time; this puts them back into the order of the data.
        self._unsort = np.argsort(order, kind="stable")
        has_layers = "layer" in self._segments.colnames
        self._layer = self._numbers(self._segments, "layer", n_segments) if has_layers else np.ones(n_segments, int)
        if not np.array_equal(np.unique(self._layer), np.arange(1, 1 + len(np.unique(self._layer)))):
            raise self._damaged("the column 'layer' of its segments does not count layers from 1")
        if record.bin_times is None:
            raise self._damaged("its bin times are missing")
        self._bin_times = np.asarray(record.bin_times[:])
        if self._bin_times.ndim != 1 or self._bin_times.dtype.kind != "f" or not (np.diff(self._bin_times) > 0).all():
            raise self._damaged("its bin times do not increase")

    def dataset(self) -> xr.Dataset:
        """Assemble the Dataset."""
        attrs = model_attributes(self._record)
        frame = self._assembled(xr.Dataset(attrs=attrs), self._coords())
        data: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {}
        paths = np.array(channel_groups(frame))
        for variable in _with_sd(CHANNEL_VARIABLES):
            if (values := self._by_channel(variable, paths)) is not None:
                data[variable] = (("trial", "time", "channel"), values)
        for variable in _with_sd(tuple(LATENT_VARIABLES)):
            if (values := self._by_trial(variable, "")) is not None:
                data[variable] = (("trial", "time", LATENT_VARIABLES[variable.removesuffix("_sd")]), values)
        for variable in _with_sd((INITIAL_CONDITION,)):
            if variable in self._segments.colnames:
                data[variable] = (("trial", "initial"), self._by_segment(variable))
        observed = self._by_channel("mask", paths)
        shape = (frame.sizes["trial"], frame.sizes["time"], frame.sizes["channel"])
        data["observed"] = (("trial", "time", "channel"), np.ones(shape, bool) if observed is None else observed == 1)
        for variable, (_, values) in data.items():
            numbers = values.dtype.kind in "fb"
            if not numbers or not (np.isfinite(values) | (np.isnan(values) & (variable in FOUND_IN_SAMPLES))).all():
                raise self._damaged(f"{variable!r} has values that are not finite")
        return name_units(self._assembled(frame, data))

    def _assembled(self, frame: xr.Dataset, parts: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]]) -> xr.Dataset:
        """Add arrays to a Dataset, if their sizes agree."""
        sizes = dict(frame.sizes)
        for name, (dims, values) in parts.items():
            if values.ndim != len(dims) or any(
                sizes.setdefault(d, n) != n for d, n in zip(dims, values.shape, strict=True)
            ):
                raise self._damaged(f"{name!r} has shape {values.shape}, which does not fit {sizes}")
        return frame.assign(parts) if frame.sizes else frame.assign_coords(parts)

    def _coords(self) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
        channels = self._item(f"{self._name}_channels", DynamicTable)
        coords: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {
            "time": (("time",), self._bin_times),
            "trial_start": (("trial",), self._by_segment("start_time")),
        }
        for key, column in self._description.columns["trial"].items():
            coords[key] = (("trial",), self._by_segment(column))
        for key, column in self._description.columns["channel"].items():
            coords[key] = (("channel",), self._column(channels, column))
        for key, other in self._description.coords.items():
            coords[key] = (tuple(other.dims), np.asarray(other.values))
        ids = with_ids_as_index(coords).items()
        return {name: ((dims,) if isinstance(dims, str) else dims, values) for name, (dims, values) in ids}

    def _by_segment(self, name: str) -> NDArray[Any]:
        """A column of the segments, in the order of the data."""
        values = self._column(self._segments, name)
        if len(values) != len(self._unsort):
            raise self._damaged(
                f"the column {name!r} has {len(values)} rows, not one for each of {len(self._unsort)} segments"
            )
        return values[self._unsort]

    def _by_channel(self, variable: str, paths: NDArray[np.str_]) -> NDArray[Any] | None:
        """Join the series of all tables, each column at its channel."""
        by_table = {path: self._by_trial(variable, suffix) for path, suffix in group_suffixes(paths.tolist()).items()}
        parts = {path: values for path, values in by_table.items() if values is not None}
        if not parts:
            return None
        if missing := sorted(set(by_table) - set(parts)):
            raise FileError(
                f"the results {self._name!r} have no {variable!r} for the channels of {missing}; write the results "
                "again"
            )
        for path, values in parts.items():
            if values.shape[2] != (paths == path).sum():
                raise self._damaged(
                    f"{variable!r} has {values.shape[2]} columns, but there are {(paths == path).sum()} channels of "
                    f"{path!r}"
                )
        first = next(iter(parts.values()))
        joined = np.empty((*first.shape[:2], len(paths)), dtype=first.dtype)
        for path, values in parts.items():
            joined[:, :, paths == path] = values
        return joined

    def _by_trial(self, variable: str, suffix: str) -> NDArray[Any] | None:
        """Cut the series of all layers back into trials, in the order of the data; None where there is no such series."""
        if series_name(self._name, variable, suffix=suffix) not in self._module.data_interfaces:
            return None
        n_trials, n_bins = len(self._layer), len(self._bin_times)
        trials: NDArray[Any] | None = None
        for layer in np.unique(self._layer):
            series = self._item(series_name(self._name, variable, suffix=suffix, layer=int(layer)), TimeSeries)
            rows = np.flatnonzero(self._layer == layer)
            values = np.asarray(series.data[:])
            n_columns = values.shape[-1] if trials is None else trials.shape[2]
            if values.dtype.kind not in "fiub" or values.shape != (len(rows) * n_bins, n_columns):
                raise self._damaged(
                    f"{series.name!r} has {values.dtype} values of shape {values.shape}, not {len(rows)} segments of "
                    f"{n_bins} bins"
                )
            if trials is None:
                trials = np.empty((n_trials, n_bins, values.shape[1]), dtype=values.dtype)
            trials[rows] = values.reshape(len(rows), n_bins, -1)
        return None if trials is None else trials[self._unsort]

    def _item(self, name: str, kind: type) -> Any:
        if name not in self._module.data_interfaces:
            raise FileError(f"the results {self._name!r} are incomplete: {name!r} is missing")
        item = self._module[name]
        if not isinstance(item, kind):
            raise self._damaged(f"{name!r} is a {type(item).__name__}, not a {kind.__name__}")
        return item

    def _column(self, table: DynamicTable, name: str) -> NDArray[Any]:
        if name not in table.colnames:
            raise FileError(f"the results {self._name!r} are incomplete: {table.name!r} has no column {name!r}")
        values = np.asarray(table[name].data[:])
        return np.array(values.tolist(), dtype=str) if values.dtype.kind in "OST" else values

    def _numbers(self, table: DynamicTable, name: str, n_rows: int) -> NDArray[Any]:
        values = self._column(table, name)
        if values.dtype.kind not in "iu" or values.shape != (n_rows,):
            raise self._damaged(
                f"the column {name!r} has {values.dtype} values of shape {values.shape}, not one integer per row"
            )
        return values

    def _damaged(self, reason: str) -> FileError:
        return FileError(f"the results {self._name!r} are damaged: {reason}")


def _with_sd(variables: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for variable in variables for name in (variable, f"{variable}_sd"))
