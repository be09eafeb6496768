"""Results as NWB objects: series of rates, factors and masks, the table of channels and the table of segments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from ndx_sbtt import (
    InferredRateSeries,
    InferredSignalSeries,
    LatentFactorSeries,
    LatentVariableModel,
    ObservationMaskSeries,
)
from numpy.typing import NDArray
from pynwb import ProcessingModule, TimeSeries
from pynwb.base import TimeSeriesReference, TimeSeriesReferenceVectorData
from pynwb.epoch import TimeIntervals
from pynwb.ophys import PlaneSegmentation, RoiResponseSeries

from nwb_sbtt.data.schema import infers_spikes
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.write.layout import (
    CHANNEL_VARIABLES,
    INITIAL_CONDITION,
    LATENT_VARIABLES,
    TimeLayer,
    channel_groups,
    channel_tables,
    group_suffixes,
    layers,
    series_name,
    timing_of,
    window_length,
)
from nwb_sbtt.io.write.packing import Backend, Pack
from nwb_sbtt.io.write.precision import ROUNDED, ROUNDED_SD
from nwb_sbtt.io.write.provenance import model_of

ROI_COLUMN = "roi"
"""Column that links each channel to its row of a table of ROIs."""
ROI_VARIABLES = ("events", "denoised")
"""Stored as core RoiResponseSeries where the channels are ROIs, so that viewers of recorded fluorescence show them too."""
_KINDS = {"factors": "factors", "aligned_factors": "factors", "inputs": "inferred_inputs"}
_LATENT_DESCRIPTIONS = {
    "factors": "Latent factors of the population activity, from which the rates or means of all channels are read out",
    "aligned_factors": "Latent factors in the space of the reference session that the model's record names: a linear map of "
    "the factors, fitted to averages over trials of each condition",
    "inputs": "Inputs to the model's dynamical system, inferred from the data",
}
_CHANNEL_DESCRIPTIONS = {
    "rates": "Inferred rate of each channel",
    "mean": "Inferred noise-free signal of each channel",
    "events": "Sizes of the calcium events inferred from the fluorescence of each channel; NaN where there was no sample",
    "denoised": "Fluorescence expected from the events, baseline included; NaN where there was no sample",
}
_EXPECTED_EVENTS = "Inferred mean size of the calcium events of each channel in a bin"
_EXPECTED_SPIKES = "Inferred number of spikes of each channel in a bin"
_MASK_DESCRIPTION = "Which entries of the data were measured: 1 measured, 0 not measured"
_POSTERIOR_SD = "Posterior standard deviation"
_ENSEMBLE_SD = "Standard deviation, of the posterior and between the models averaged"
_COLUMN_DESCRIPTIONS = {
    "channel_id": "id of the channel in its table",
    "channel_row": "row of the channel in its table",
    "table": "path of the table in the recording",
    "series": "path, in the recording, of the series that the channel was read from",
    "sampling_offset": "time from the start of a frame to the moment the channel was sampled, in seconds",
    "frequency_band": "name of the frequency band that the channel was read in",
    "reference_id": "id of the electrode whose voltage was subtracted",
    "held_out": "whether the channel was held out: never shown to the model's encoder",
    "decay": "decay time of the channel's calcium, in seconds",
    "rise": "rise time of the channel's calcium, in seconds; 0 where it rises at once",
    "gain": "spike amplitude: fluorescence that one spike adds, in the unit of the data",
    "noise": "standard deviation of the noise, in the unit of the data",
    "noise_sd": "standard deviation of the data around their mean at entries hidden from the model, in the unit of the data; a "
    "predictive interval has the variance of the mean and of this noise together",
    "baseline": "fluorescence without events, the mean over time, in the unit of the data",
    "decay_log_sd": "posterior standard deviation of the natural logarithm of the decay time",
    "smallest_event": "size that every event of the channel exceeds, in the unit of the data",
}
_SEGMENT_DESCRIPTIONS = {
    "start_time": "left edge of the segment's first bin, in seconds on the session clock",
    "stop_time": "right edge of the segment's last bin, in seconds on the session clock",
    "order": "position of the segment in the model's input",
    "layer": "segments that overlap in time lie in different layers; those of layer 2 on are in the series '…_overlap2' on",
    INITIAL_CONDITION: "posterior mean of the initial condition of the model's dynamical system",
    f"{INITIAL_CONDITION}_sd": "posterior standard deviation of the initial condition",
}
_RESERVED_COLUMNS = {
    *_SEGMENT_DESCRIPTIONS,
    *dir(TimeIntervals),
    *("timeseries", "timeseries_index", "tags", "tags_index", "trial_start"),
    *(ROI_COLUMN, "id", "name", "description", "colnames", "columns", "namespace", "neurodata_type", "object_id"),
}


def column_names(latents: xr.Dataset) -> dict[str, dict[str, str]]:
    """Choose the column that stores each trial and each channel coordinate; some names are reserved in such tables.

    Parameters
    ----------
    latents : Dataset

    Returns
    -------
    dict
        ``{"trial": {coordinate: column}, "channel": {coordinate: column}}``.
    """
    names: dict[str, dict[str, str]] = {"trial": {}, "channel": {}}
    for key, coord in latents.coords.items():
        # The index of a dim has the ids, which are a coordinate of their own.
        if coord.dims in (("trial",), ("channel",)) and key != "trial_start" and coord.dims != (key,):
            used = set(names[coord.dims[0]].values())
            column = str(key).replace("/", "_").replace(":", "_")
            while column in _RESERVED_COLUMNS or column in used or column in map(str, set(latents.coords) - {key}):
                column = f"{column}_of_{coord.dims[0]}"
            names[str(coord.dims[0])][str(key)] = column
    return names


def check_storable(latents: xr.Dataset) -> None:
    """Refuse labels of trials and channels that no table can hold.

    Parameters
    ----------
    latents : Dataset
        Or the data of results to come.

    Raises
    ------
    DataError
        If a coordinate holds neither numbers nor text.
    """
    for names in column_names(latents).values():
        for coord in names:
            _storable(latents, coord)


def channel_rows(latents: xr.Dataset, table: DynamicTable) -> NDArray[np.intp]:
    """Look up the row of a table for each channel, whether or not the channel belongs to this table.

    Parameters
    ----------
    latents : Dataset
        With ``channel_row``, or with the ``channel_id`` that the table's ids are compared with.
    table : DynamicTable

    Returns
    -------
    array (channel)
        -1 where the table has no such id.
    """
    if "channel_row" in latents.coords:
        return latents["channel_row"].values.astype(np.intp)
    rows = {value: row for row, value in enumerate(np.asarray(table.id[:]).tolist())}
    return np.array([rows.get(value, -1) for value in latents["channel_id"].values.tolist()], dtype=np.intp)


def add_results(
    module: ProcessingModule,
    latents: xr.Dataset,
    *,
    name: str,
    tables: Mapping[str, DynamicTable],
    record: LatentVariableModel,
    backend: Backend,
    recorded: TimeSeries | None,
    rounded: Collection[str] = (),
) -> None:
    """Put a latents Dataset into a processing module.

    Parameters
    ----------
    module : ProcessingModule
    latents : Dataset
        Checked by `layout.check_latents`.
    name : str
        Start of the name of everything that is added.
    tables : mapping of in-file path to table
        The tables of the channels, in this file; channels of any other table point at the table of channels that is
        added here.
    record : LatentVariableModel
    backend : Backend
    recorded : TimeSeries or None
        The series in this file that all channels come from.
    rounded : collection of str
        Variables that `precision.rounded` rounded, whose descriptions say so.

    Raises
    ------
    DataError
        If a coordinate holds neither numbers nor text.
    """
    paths = np.array(channel_tables(latents))
    only = tables.get(str(paths[0])) if (paths == paths[0]).all() else None
    region = None if only is None else _Region(only, channel_rows(latents, only))
    channels = _channels_table(latents, name, region, backend)
    module.add(record)
    module.add(channels)
    groups = []
    groups_of = np.array(channel_groups(latents))
    for group, suffix in group_suffixes(groups_of.tolist()).items():
        columns = np.flatnonzero(groups_of == group)
        path = str(paths[columns[0]])
        rows = channel_rows(latents, tables[path])[columns] if path in tables else columns
        groups.append((suffix, columns, tables.get(path, channels), rows))
    by_layer = {}
    for layer in layers(latents):
        writer = _LayerWriter(module, latents, layer, name, backend.pack, rounded=rounded)
        for suffix, columns, table, rows in groups:
            region = _Region(table, rows)
            writer.add_channel_series(suffix, columns, region, record)
            writer.add_mask(suffix, columns, region, recorded)
        writer.add_latent_series(record)
        by_layer[layer.number] = (layer, writer.added)
    module.add(_segments_table(latents, name, by_layer, backend))


class _Region:
    """Rows of a table; every series needs a region object of its own."""

    def __init__(self, table: DynamicTable, rows: NDArray[np.intp]) -> None:
        self._table, self._rows = table, rows

    @property
    def is_of_rois(self) -> bool:
        return isinstance(self._table, PlaneSegmentation)

    def new(self, name: str = "channels", text: str = "Row of the table behind each column of the data.") -> Any:
        return DynamicTableRegion(name=name, data=self._rows.tolist(), description=text, table=self._table)


class _LayerWriter:
    """Adds the series of one layer.

    The first one owns the timestamps, which all others share. Each sd has its own, and segments do not refer to it: it can be
    deleted from the file, and all else stays readable.
    """

    def __init__(
        self,
        module: ProcessingModule,
        latents: xr.Dataset,
        layer: TimeLayer,
        name: str,
        pack: Pack,
        *,
        rounded: Collection[str],
    ) -> None:
        self._module, self._latents, self._layer, self._name, self._pack = module, latents, layer, name, pack
        self._rounded = rounded
        self.added: list[TimeSeries] = []
        self._ensemble = model_of(latents).get("ensemble")
        # Factors and inputs of different models cannot be averaged: they come from one member.
        self._member = f", of one model of the ensemble ({self._ensemble['latents_of']})" if self._ensemble else ""

    def add_channel_series(
        self, suffix: str, columns: NDArray[np.intp], region: _Region, record: LatentVariableModel
    ) -> None:
        for variable in (variable for variable in CHANNEL_VARIABLES if variable in self._latents):
            series_type = InferredRateSeries if variable == "rates" else InferredSignalSeries
            unit, text = self._unit(variable), self._channel_description(variable)
            sd = self._sd(variable, suffix, columns, unit, text)
            if variable in ROI_VARIABLES and region.is_of_rois:
                series = RoiResponseSeries(
                    name=self._series_name(variable, suffix),
                    description=self._describe(variable, text),
                    data=self._samples(variable, columns),
                    unit=unit,
                    rois=region.new("rois"),
                    **self._timing(),
                )
            else:
                series = series_type(
                    name=self._series_name(variable, suffix),
                    description=self._describe(variable, text),
                    data=self._samples(variable, columns),
                    unit=unit,
                    channels=region.new(),
                    model=record,
                    posterior_sd=sd,
                    **self._timing(),
                )
            self._add(series, sd)

    def add_latent_series(self, record: LatentVariableModel) -> None:
        for variable in (variable for variable in LATENT_VARIABLES if variable in self._latents):
            text = _LATENT_DESCRIPTIONS[variable] + self._member
            sd = self._sd(variable, "", slice(None), "a.u.", text)
            series = LatentFactorSeries(
                name=self._series_name(variable),
                description=self._describe(variable, text),
                data=self._samples(variable, slice(None)),
                unit="a.u.",
                kind=_KINDS[variable],
                model=record,
                posterior_sd=sd,
                **self._timing(),
            )
            self._add(series, sd)

    def add_mask(self, suffix: str, columns: NDArray[np.intp], region: _Region, recorded: TimeSeries | None) -> None:
        if self._latents["observed"].values.all():
            return
        self._add(
            ObservationMaskSeries(
                name=self._series_name("mask", suffix),
                description=self._describe("observed", _MASK_DESCRIPTION),
                data=self._pack(self._flat("observed", columns).astype(np.uint8)),
                unit="n/a",
                channels=region.new(),
                **({} if recorded is None else {"source_timeseries": recorded}),
                **self._timing(),
            )
        )

    def _sd(self, variable: str, suffix: str, columns: Any, unit: str, text: str) -> TimeSeries | None:
        if f"{variable}_sd" not in self._latents:
            return None
        prefix = _ENSEMBLE_SD if self._ensemble and variable in CHANNEL_VARIABLES else _POSTERIOR_SD
        return TimeSeries(
            name=self._series_name(f"{variable}_sd", suffix),
            description=self._describe(f"{variable}_sd", f"{prefix}. {text}"),
            data=self._samples(f"{variable}_sd", columns),
            unit=unit,
            **self._timing(own=True),
        )

    def _unit(self, variable: str) -> str:
        if variable == "rates":
            return "Hz"
        if variable == "events" and infers_spikes(self._latents):
            return "counts"
        return str(self._latents.attrs.get("unit", "a.u."))

    def _channel_description(self, variable: str) -> str:
        if variable == "mean" and self._latents.attrs.get("signal") == "events":
            return _EXPECTED_EVENTS
        if variable == "events" and infers_spikes(self._latents):
            return _EXPECTED_SPIKES
        return _CHANNEL_DESCRIPTIONS[variable]

    def _series_name(self, variable: str, suffix: str = "") -> str:
        return series_name(self._name, variable, suffix=suffix, layer=self._layer.number)

    def _describe(self, variable: str, text: str) -> str:
        layer = f" Layer {self._layer.number} of segments that overlap in time." if self._layer.number > 1 else ""
        rounded = ""
        if variable in self._rounded:
            rounded = f" {ROUNDED_SD if variable.endswith('_sd') else ROUNDED}."
        return f"{text}. Each timestamp is the centre of a bin of {self._layer.bin_width:g} s.{layer}{rounded}"

    def _add(self, series: TimeSeries, sd: TimeSeries | None = None) -> None:
        self._module.add(series)
        self.added.append(series)
        if sd is not None:
            self._module.add(sd)

    def _timing(self, *, own: bool = False) -> dict[str, Any]:
        if (regular := timing_of(self._layer)) is not None:
            return dict(regular)
        return {"timestamps": self.added[0] if self.added and not own else self._pack(self._layer.centres)}

    def _samples(self, variable: str, columns: Any) -> Any:
        return self._pack(self._flat(variable, columns))

    def _flat(self, variable: str, columns: Any) -> NDArray[Any]:
        values: NDArray[Any] = self._latents[variable].values[self._layer.trials]
        return values.reshape(-1, values.shape[-1])[:, columns]


def _channels_table(latents: xr.Dataset, name: str, region: _Region | None, backend: Backend) -> DynamicTable:
    """Table of the channels, each linked to its ROI where `region` holds their rows of one table of ROIs."""
    columns = [
        VectorData(
            name=column,
            description=_COLUMN_DESCRIPTIONS.get(coord, f"{coord} of the channel"),
            data=backend.pack_column(_storable(latents, coord)),
        )
        for coord, column in column_names(latents)["channel"].items()
    ]
    if region is not None and region.is_of_rois:
        columns.append(region.new(ROI_COLUMN, "the ROI that the channel is"))
    return DynamicTable(
        name=f"{name}_channels",
        description="Channels in the order of the model's input, one row per channel.",
        id=np.arange(latents.sizes["channel"]),
        columns=columns,
    )


def _segments_table(
    latents: xr.Dataset, name: str, by_layer: Mapping[int, tuple[TimeLayer, list[TimeSeries]]], backend: Backend
) -> TimeIntervals:
    starts = latents["trial_start"].values.astype(np.float64)
    n_bins, length = latents.sizes["time"], window_length(latents)
    order = np.argsort(starts, kind="stable")
    positions = {
        int(trial): (number, i) for number, (layer, _) in by_layer.items() for i, trial in enumerate(layer.trials)
    }
    values: dict[str, Any] = {
        "start_time": starts[order],
        "stop_time": starts[order] + length,
        "order": order.astype(np.int64),
    }
    if len(by_layer) > 1:
        values["layer"] = np.array([positions[int(trial)][0] for trial in order], dtype=np.int64)
    for variable in (INITIAL_CONDITION, f"{INITIAL_CONDITION}_sd"):
        if variable in latents:
            values[variable] = latents[variable].values[order]
    pack = backend.pack_column
    columns = [
        VectorData(name=key, description=_SEGMENT_DESCRIPTIONS[key], data=pack(data)) for key, data in values.items()
    ]
    for coord, column in column_names(latents)["trial"].items():
        data = _storable(latents, coord)
        ordered = [data[i] for i in order] if isinstance(data, list) else data[order]
        columns.append(VectorData(name=column, description=f"{coord} of the trial", data=pack(ordered)))
    names = [column.name for column in columns]
    if backend.references:
        columns += _references([(*positions[int(trial)], n_bins) for trial in order], by_layer)
        names.append("timeseries")
    return TimeIntervals(
        name=f"{name}_segments",
        description="Segments of the session that the model's input holds, one row per segment, in the order of time.",
        id=np.arange(len(order)),
        columns=columns,
        colnames=names,
    )


def _references(
    segments: list[tuple[int, int, int]], by_layer: Mapping[int, tuple[TimeLayer, list[TimeSeries]]]
) -> list[VectorData]:
    """Columns that point each segment, as (layer, position in it, bins), at its samples in every series."""
    samples, ends = [], []
    for layer, i, n_bins in segments:
        samples += [TimeSeriesReference(i * n_bins, n_bins, series) for series in by_layer[layer][1]]
        ends.append(len(samples))
    text = "samples of the segment in each series"
    column = TimeSeriesReferenceVectorData(name="timeseries", description=text, data=samples)
    return [column, VectorIndex(name="timeseries_index", data=np.array(ends), target=column)]


def _storable(latents: xr.Dataset, coord: str) -> Any:
    values = latents[coord].values
    if values.dtype.kind in "biuf":
        return values
    texts = values.tolist()
    if not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"the coordinate {coord!r} holds {values.dtype}, which cannot be stored; expected numbers or text"
        )
    return texts
