"""Read results from a file, as the labelled Dataset that was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule

from nwb_sbtt.data.schema import name_units, with_ids_as_index
from nwb_sbtt.errors import FileError, SelectionError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.results import MODEL_TYPE
from nwb_sbtt.io.write.layout import (
    CHANNEL_VARIABLES,
    INITIAL_CONDITION,
    LATENT_VARIABLES,
    channel_tables,
    series_name,
    table_suffixes,
)
from nwb_sbtt.io.write.provenance import model_attributes


def read_result(path: Path | str, *, name: str | None = None) -> xr.Dataset:
    """Read what `write_nwb` wrote.

    The extension's own package is not needed: the file holds the definitions of its types.

    Parameters
    ----------
    path : path
        HDF5 or Zarr.
    name : str, optional
        Of the results, as passed to `write_nwb`; None takes the only ones.

    Returns
    -------
    Dataset
        ``rates`` [Hz] or ``mean``, ``events``, ``denoised`` (trial, time, channel), ``factors``, ``inputs``,
        ``initial_condition``, as far as they were written, each with its ``_sd``, and ``observed``; with the coordinates
        and attributes of the data they were inferred from (the path of the recording on the writer's disk is not kept).

    Raises
    ------
    FileError
        If the file cannot be read, or parts of the results are missing.
    SelectionError
        If it holds no results, none of that name, or several and `name` is None.

    Examples
    --------
    >>> latents = read_result("maze_latents.nwb")  # doctest: +SKIP
    """
    with open_nwb(Path(path)) as nwb:
        record = _record(nwb, Path(path), name)
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
    with open_nwb(Path(path)) as nwb:
        model: dict[str, Any] = json.loads(model_attributes(_record(nwb, Path(path), name))["model"])
    return model


def _record(nwb: NWBFile, path: Path, name: str | None) -> Any:
    children = [item for module in nwb.processing.values() for item in module.data_interfaces.values()]
    records = [item for item in children if type(item).__name__ == MODEL_TYPE and item.name.endswith("_model")]
    names = sorted(item.name.removesuffix("_model") for item in records)
    if name is not None:
        records = [item for item in records if item.name == f"{name}_model"]
        if not records:
            raise SelectionError(f"{path.name!r} holds no results named {name!r}; it holds {names or 'none'}")
    if not records:
        raise SelectionError(f"{path.name!r} holds no results: expected what `write_nwb` writes")
    if len(records) > 1:
        raise SelectionError(f"{path.name!r} holds several results; pass name= as one of {names}")
    return records[0]


class _Results:
    """The objects of one set of results in an open file."""

    def __init__(self, record: Any) -> None:
        self._record = record
        self._name = record.name.removesuffix("_model")
        self._module: ProcessingModule = record.parent
        self._columns = json.loads(record.input_description)["columns"]
        self._segments = self._item(f"{self._name}_segments")
        order = np.asarray(self._segments["order"].data[:])
        # Segments are stored by time; this puts them back into the order of the data.
        self._unsort = np.argsort(order, kind="stable")
        layer = self._segments["layer"].data[:] if "layer" in self._segments.colnames else np.ones(len(order), int)
        self._layer = np.asarray(layer)

    def dataset(self) -> xr.Dataset:
        """Assemble the Dataset."""
        attrs = model_attributes(self._record)
        coords = self._coords()
        frame = xr.Dataset(coords=coords, attrs=attrs)
        data: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {}
        paths = np.array(channel_tables(frame))
        for variable in _with_sd(CHANNEL_VARIABLES):
            if (values := self._by_channel(variable, paths)) is not None:
                data[variable] = (("trial", "time", "channel"), values)
        for variable in _with_sd(tuple(LATENT_VARIABLES)):
            if (values := self._by_trial(variable, "")) is not None:
                data[variable] = (("trial", "time", LATENT_VARIABLES[variable.removesuffix("_sd")]), values)
        for variable in _with_sd((INITIAL_CONDITION,)):
            if variable in self._segments.colnames:
                data[variable] = (("trial", "initial"), self._column(self._segments, variable)[self._unsort])
        observed = self._by_channel("mask", paths)
        shape = (frame.sizes["trial"], frame.sizes["time"], frame.sizes["channel"])
        data["observed"] = (("trial", "time", "channel"), np.ones(shape, bool) if observed is None else observed == 1)
        return name_units(frame.assign(data))

    def _coords(self) -> dict[str, tuple[Any, Any]]:
        channels = self._item(f"{self._name}_channels")
        coords: dict[str, tuple[Any, Any]] = {
            "time": ("time", np.asarray(self._record.bin_times[:])),
            "trial_start": ("trial", self._column(self._segments, "start_time")[self._unsort]),
        }
        for key, column in self._columns["trial"].items():
            coords[key] = ("trial", self._column(self._segments, column)[self._unsort])
        for key, column in self._columns["channel"].items():
            coords[key] = ("channel", self._column(channels, column))
        for key, other in json.loads(self._record.input_description)["coords"].items():
            coords[key] = (tuple(other["dims"]), np.asarray(other["values"]))
        return with_ids_as_index(coords)

    def _by_channel(self, variable: str, paths: NDArray[np.str_]) -> NDArray[Any] | None:
        """Join the series of all tables, each column at its channel."""
        by_table = {path: self._by_trial(variable, suffix) for path, suffix in table_suffixes(paths.tolist()).items()}
        parts = {path: values for path, values in by_table.items() if values is not None}
        if not parts:
            return None
        if missing := sorted(set(by_table) - set(parts)):
            raise FileError(f"the results {self._name!r} have no {variable!r} for the channels of {missing}")
        first = next(iter(parts.values()))
        joined = np.empty((*first.shape[:2], len(paths)), dtype=first.dtype)
        for path, values in parts.items():
            joined[:, :, paths == path] = values
        return joined

    def _by_trial(self, variable: str, suffix: str) -> NDArray[Any] | None:
        """Cut the series of all layers back into trials, in the order of the data; None where there is no such series."""
        if series_name(self._name, variable, suffix=suffix) not in self._module.data_interfaces:
            return None
        n_trials, n_bins = len(self._layer), len(self._record.bin_times)
        trials: NDArray[Any] | None = None
        for layer in np.unique(self._layer):
            series = self._item(series_name(self._name, variable, suffix=suffix, layer=int(layer)))
            rows = np.flatnonzero(self._layer == layer)
            values = np.asarray(series.data[:])
            if values.shape[0] != len(rows) * n_bins:
                raise FileError(f"{series.name!r} has {values.shape[0]} samples, not {len(rows)} segments of {n_bins}")
            if trials is None:
                trials = np.empty((n_trials, n_bins, values.shape[1]), dtype=values.dtype)
            trials[rows] = values.reshape(len(rows), n_bins, -1)
        return None if trials is None else trials[self._unsort]

    def _item(self, name: str) -> Any:
        if name not in self._module.data_interfaces:
            raise FileError(f"the results {self._name!r} are incomplete: {name!r} is missing")
        return self._module[name]

    def _column(self, table: Any, name: str) -> NDArray[Any]:
        values = np.asarray(table[name].data[:])
        return np.array(values.tolist(), dtype=str) if values.dtype.kind in "OST" else values


def _with_sd(variables: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for variable in variables for name in (variable, f"{variable}_sd"))
