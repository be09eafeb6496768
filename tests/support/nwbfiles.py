"""Generated NWB files for tests: start with `new_file`, add what is needed, then `write`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.event import EventsTable
from pynwb.file import Subject
from pynwb.ophys import Fluorescence, ImageSegmentation, PlaneSegmentation, RoiResponseSeries

from nwb_sbtt.io.read.extensions import loaded_types


@dataclass(frozen=True)
class Imaged:
    """A series (time, ROI) of the plane of that number, in a container of that type or, without one, in processing/ophys."""

    name: str
    data: NDArray[np.float64]
    kind: type | None = None
    unit: str = "a.u."
    plane: int = 0
    start: float = 0.0


def new_file(*, session_id: str = "session-1", identifier: str = "generated") -> NWBFile:
    """An empty file with a subject."""
    nwbfile = NWBFile(
        session_description="generated for a test",
        identifier=identifier,
        session_start_time=datetime(2024, 3, 1, 12, 0, tzinfo=UTC),
        session_id=session_id,
    )
    nwbfile.subject = Subject(subject_id="S1", species="Mus musculus", age="P90D", sex="F")
    return nwbfile


def write(nwbfile: NWBFile, path: Path, *, zarr: bool = False) -> Path:
    """Write the file, as HDF5 or as a Zarr folder, and give its path back."""
    if zarr:
        from hdmf_zarr.nwb import NWBZarrIO

        with NWBZarrIO(str(path), mode="w") as io:
            io.write(nwbfile)
    else:
        with NWBHDF5IO(path, "w", manager=loaded_types()) as io:
            io.write(nwbfile)
    return path


def add_units(
    nwbfile: NWBFile,
    spike_times: Sequence[ArrayLike],
    *,
    obs_intervals: Sequence[ArrayLike] | None = None,
    columns: Mapping[str, Sequence[object]] | None = None,
    ids: Sequence[int] | None = None,
) -> None:
    """Add a units table; `obs_intervals` has (k, 2) seconds for each unit, `columns` one value for each unit."""
    columns = columns or {}
    for name in columns:
        nwbfile.add_unit_column(name, f"column {name}")
    for row, times in enumerate(spike_times):
        fields: dict[str, object] = {name: values[row] for name, values in columns.items()}
        if obs_intervals is not None:
            fields["obs_intervals"] = np.asarray(obs_intervals[row], dtype=float).reshape(-1, 2)
        if ids is not None:
            fields["id"] = ids[row]
        nwbfile.add_unit(spike_times=np.asarray(times, dtype=float), **fields)


def add_watched_units(nwbfile: NWBFile, random: np.random.Generator) -> None:
    """Add three units of 20 s, each with intervals of its own in which it was watched."""
    add_units(
        nwbfile,
        [np.sort(random.uniform(0, 20, 400)).round(3) for _ in range(3)],
        obs_intervals=[[[0, 20]], [[0, 8], [9, 20]], [[5, 20]]],
        columns={"heldout": [False, True, False], "area": ["V1", "M1", "M1"], "depth": [1.0, 2.0, 3.0]},
        ids=[10, 20, 30],
    )


def replace_spikes(path: Path, spike_times: Sequence[NDArray[np.float64]]) -> None:
    """Put other spikes in the place of those in an HDF5 file; for numbers that pynwb is slow to write."""
    with h5py.File(path, "a") as file:
        attributes = dict(file["units/spike_times"].attrs)
        del file["units/spike_times"]
        stored = file["units"].create_dataset("spike_times", data=np.concatenate(spike_times), chunks=(100_000,))
        stored.attrs.update(attributes)
        index = file["units/spike_times_index"]
        attributes = dict(index.attrs)
        del file["units/spike_times_index"]
        ends = np.cumsum([len(times) for times in spike_times])
        file["units"].create_dataset("spike_times_index", data=ends.astype("u8")).attrs.update(attributes)
        file["units/spike_times_index"].attrs["target"] = stored.ref


def compress(path: Path, dataset: str, *, filter_number: int) -> None:
    """Store an array of an HDF5 file anew, behind a filter that need not be there: its bytes are those of the array."""
    with h5py.File(path, "a") as file:
        values, attributes = file[dataset][...], dict(file[dataset].attrs)
        parent, name = file[dataset].parent, dataset.rsplit("/", 1)[-1]
        del parent[name]
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk(values.shape)
        created.set_filter(filter_number, h5py.h5z.FLAG_OPTIONAL)
        space, stored_type = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
        h5py.h5d.create(parent.id, name.encode(), stored_type, space, created).write_direct_chunk(
            (0,) * values.ndim, values.tobytes()
        )
        parent[name].attrs.update(attributes)


def add_trials(nwbfile: NWBFile, start_time: ArrayLike, stop_time: ArrayLike, **columns: Sequence[object]) -> None:
    """Add a trials table with any further columns."""
    for name in columns:
        nwbfile.add_trial_column(name, f"column {name}")
    for row, (start, stop) in enumerate(zip(np.asarray(start_time), np.asarray(stop_time), strict=True)):
        fields = {name: values[row] for name, values in columns.items()}
        nwbfile.add_trial(start_time=float(start), stop_time=float(stop), **fields)


def add_events(nwbfile: NWBFile, name: str, times: ArrayLike, **columns: Sequence[object]) -> None:
    """Add a table of events at these times [s] with any further columns."""
    table = EventsTable(name=name, description="generated")
    for column in columns:
        table.add_column(column, f"column {column}")
    for row, time in enumerate(np.asarray(times, dtype=float)):
        table.add_event(timestamp=float(time), **{column: values[row] for column, values in columns.items()})
    nwbfile.add_events_table(table)


def add_invalid_times(nwbfile: NWBFile, intervals: ArrayLike) -> None:
    """Mark (k, 2) seconds as invalid."""
    for start, stop in np.asarray(intervals, dtype=float).reshape(-1, 2):
        nwbfile.add_invalid_time_interval(start_time=start, stop_time=stop, tags=["artefact"])


def add_electrodes(nwbfile: NWBFile, n: int, *, columns: Mapping[str, Sequence[object]] | None = None) -> None:
    """Add a device, a group and `n` electrodes with ids 100, 101, …"""
    device = nwbfile.create_device(name="probe", description="generated")
    group = nwbfile.create_electrode_group(name="shank", description="generated", location="cortex", device=device)
    for name in columns or {}:
        nwbfile.add_electrode_column(name, f"column {name}")
    for row in range(n):
        fields = {name: values[row] for name, values in (columns or {}).items()}
        nwbfile.add_electrode(id=100 + row, group=group, location="cortex", **fields)


def add_electrical(
    nwbfile: NWBFile,
    data: ArrayLike,
    *,
    name: str = "ElectricalSeries",
    rows: Sequence[int] | None = None,
    rate: float | None = None,
    timestamps: ArrayLike | None = None,
    starting_time: float = 0.0,
    lfp: bool = False,
) -> ElectricalSeries:
    """Add an ElectricalSeries (time, electrode) on the table's `rows`, to acquisition or to processing/ecephys/LFP."""
    data = np.asarray(data)
    rows = list(range(data.shape[1])) if rows is None else list(rows)
    clock = {"timestamps": timestamps} if timestamps is not None else {"rate": rate, "starting_time": starting_time}
    series = ElectricalSeries(
        name=name, data=data, electrodes=nwbfile.create_electrode_table_region(rows, "electrodes"), **clock
    )
    if lfp:
        module = _module(nwbfile, "ecephys")
        if "LFP" not in module.data_interfaces:
            module.add(LFP(name="LFP"))
        module["LFP"].add_electrical_series(series)
    else:
        nwbfile.add_acquisition(series)
    return series


def add_rois(
    nwbfile: NWBFile,
    data: ArrayLike,
    *,
    name: str = "RoiResponseSeries",
    plane: str = "PlaneSegmentation",
    rows: Sequence[int] | None = None,
    rate: float | None = None,
    timestamps: ArrayLike | None = None,
    starting_time: float = 0.0,
) -> RoiResponseSeries:
    """Add a RoiResponseSeries (time, ROI) in Fluorescence; a segmentation of that name is made where there is none."""
    data = np.asarray(data)
    table = _segmentation(nwbfile, plane, n_rois=data.shape[1] if rows is None else max(rows) + 1)
    rows = list(range(data.shape[1])) if rows is None else list(rows)
    clock = {"timestamps": timestamps} if timestamps is not None else {"rate": rate, "starting_time": starting_time}
    series = RoiResponseSeries(
        name=name,
        data=data,
        unit="a.u.",
        rois=table.create_roi_table_region(region=rows, description="ROIs"),
        **clock,
    )
    _hold(nwbfile, series, Fluorescence)
    return series


def imaging_file(*all_series: Imaged, offsets: Sequence[float] | None = None, rate: float = 10.0) -> NWBFile:
    """A file of these series; the planes are called Seg0, Seg1, …, their ROIs sampled `offsets` seconds into each frame."""
    nwbfile = new_file()
    for each in all_series:
        table = _segmentation(nwbfile, f"Seg{each.plane}", n_rois=each.data.shape[1])
        if offsets is not None and "sampling_time_offset" not in table.colnames:
            table.add_column("sampling_time_offset", "seconds", data=list(offsets))
        region = table.create_roi_table_region(region=list(range(each.data.shape[1])), description="ROIs")
        series = RoiResponseSeries(
            name=each.name, data=each.data, unit=each.unit, rois=region, rate=rate, starting_time=each.start
        )
        _hold(nwbfile, series, each.kind)
    return nwbfile


def add_series(nwbfile: NWBFile, data: ArrayLike, *, module: str | None = None, **fields: object) -> TimeSeries:
    """Add a TimeSeries to acquisition, or to a processing module; `fields` go to its constructor."""
    series = TimeSeries(**{"name": "series", "unit": "V", "data": data, **fields})
    if module is None:
        nwbfile.add_acquisition(series)
    else:
        _module(nwbfile, module).add(series)
    return series


def _module(nwbfile: NWBFile, name: str):
    if name not in nwbfile.processing:
        nwbfile.create_processing_module(name=name, description="generated")
    return nwbfile.processing[name]


def _hold(nwbfile: NWBFile, series: RoiResponseSeries, kind: type | None) -> None:
    """Put the series into the container of that type, or into processing/ophys itself."""
    ophys = _module(nwbfile, "ophys")
    if kind is None:
        ophys.add(series)
        return
    if kind.__name__ not in ophys.data_interfaces:
        ophys.add(kind())
    ophys[kind.__name__].add_roi_response_series(series)


def _segmentation(nwbfile: NWBFile, name: str, *, n_rois: int) -> PlaneSegmentation:
    """The plane's table of ROIs, made where there is none."""
    ophys = _module(nwbfile, "ophys")
    if "ImageSegmentation" not in ophys.data_interfaces:
        ophys.add(ImageSegmentation())
    segmentation = ophys["ImageSegmentation"]
    if name in segmentation.plane_segmentations:
        return segmentation.plane_segmentations[name]
    if "microscope" not in nwbfile.devices:
        nwbfile.create_device(name="microscope", description="generated")
    plane = nwbfile.create_imaging_plane(
        name=f"{name}_plane",
        optical_channel=_optical_channel(),
        description="generated",
        device=nwbfile.devices["microscope"],
        excitation_lambda=920.0,
        indicator="GCaMP6f",
        location="V1",
    )
    table = segmentation.create_plane_segmentation(name=name, description="generated", imaging_plane=plane)
    for row in range(n_rois):
        table.add_roi(pixel_mask=[(row, 2 * row, 1.0)])
    return table


def _optical_channel():
    from pynwb.ophys import OpticalChannel

    return OpticalChannel(name="green", description="generated", emission_lambda=510.0)
