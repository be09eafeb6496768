"""Recordings of tasks in the Neural Latents Benchmark's files: read and write units, trials and behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pynwb
from numpy.typing import NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.file import Subject

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.data.intervals import Intervals
from nwb_sbtt.errors import DataError, FileError, SelectionError
from nwb_sbtt.io.dandi.locations import local_file
from nwb_sbtt.io.read.files import file_facts, open_nwb
from nwb_sbtt.io.read.masks import obs_intervals
from nwb_sbtt.io.read.selection import find_series
from nwb_sbtt.io.read.tables import plain_columns
from nwb_sbtt.io.read.units import spikes_by_unit, stored_spikes
from nwb_sbtt.io.write.packing import pack_hdf5, save_nwb

HELD_OUT_COLUMN = "heldout"
"""Column of the units that are held out for co-smoothing."""


@dataclass(frozen=True)
class SampledSeries:
    """A sampled series.

    Parameters
    ----------
    times : array (sample)
        Seconds, rising.
    values : array (sample, column)
        NaN where one is missing.
    """

    times: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class TaskRecording:
    """The parts of a recording that the benchmark uses.

    Parameters
    ----------
    unit_id : array (unit)
    spikes : tuple of arrays
        Sorted spike times of each unit, seconds.
    intervals : tuple of arrays (interval, 2), or None
        When each unit was observed, seconds; None where the file has no such intervals.
    held_out : bool array (unit)
        Never shown to a model (co-smoothing).
    trials : mapping of column to array (trial)
        With ``id``, ``start_time`` and ``stop_time``.
    samples : mapping of name to SampledSeries
        The TimeSeries read, by name.
    source : mapping
        Path, digest and, where known, dandiset of the file.
    """

    unit_id: NDArray[np.int64]
    spikes: tuple[NDArray[np.float64], ...] = field(repr=False)
    intervals: tuple[Intervals, ...] | None = field(repr=False)
    held_out: NDArray[np.bool_]
    trials: Mapping[str, NDArray[Any]] = field(repr=False)
    samples: Mapping[str, SampledSeries] = field(default_factory=dict, repr=False)
    source: Mapping[str, str] = field(default_factory=dict)


def read_task_recording(path: Path | str, *, series: tuple[str, ...] = ()) -> TaskRecording:
    """Read units, trials and some TimeSeries of a file.

    Parameters
    ----------
    path : path
        Or the address of a file on DANDI, which is fetched into the cache.
    series : tuple of str
        Names of TimeSeries, anywhere in the file; missing ones are left out.

    Returns
    -------
    TaskRecording

    Raises
    ------
    FileError
        If the file cannot be read.
    DataError, SelectionError
        If it has no units with spike times, no trials, two series of one name, or times that do not rise.
    """
    path = local_file(Path(path))
    with open_nwb(path) as nwbfile:
        if nwbfile.units is None or nwbfile.trials is None:
            missing = "units" if nwbfile.units is None else "trials"
            raise SelectionError(
                f"{path.name!r} has no table {missing}; expected a file of the Neural Latents Benchmark"
            )
        units = nwbfile.units
        stored, bounds = stored_spikes(units, "units")
        parts: list[list[NDArray[np.float64]]] = [[] for _ in range(len(units))]
        for unit, times in spikes_by_unit(stored, bounds, range(len(units))):
            parts[unit].append(times.copy())
        columns = plain_columns(units)
        held_out = columns.get(HELD_OUT_COLUMN, np.zeros(len(units), dtype=bool)).astype(bool)
        return TaskRecording(
            unit_id=np.asarray(units.id.data[:], dtype=np.int64),
            spikes=tuple(np.concatenate(times) if times else np.empty(0) for times in parts),
            intervals=obs_intervals(units, "units"),
            held_out=held_out,
            trials={"id": np.asarray(nwbfile.trials.id.data[:]), **plain_columns(nwbfile.trials)},
            samples={name: samples for name in series if (samples := _samples(nwbfile, name)) is not None},
            source=file_facts(path),
        )


def write_task_recording(
    recorded: TaskRecording, path: Path | str, *, description: str, overwrite: bool = False
) -> Path:
    """Write a simulated recording in the layout of the benchmark's files, checked by pynwb's validator.

    Parameters
    ----------
    recorded : TaskRecording
    path : path
        Ends in ``.nwb``.
    description : str
        Of the session.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError
        If the file exists and may not be replaced, cannot be written, or would not be valid NWB.
    """
    target = Path(path).absolute()
    if target.suffix != ".nwb":
        raise FileError(f"cannot write {target.name!r}: end the name in '.nwb'")
    if target.exists() and not overwrite:
        raise FileError(f"{str(target)!r} exists; pass another path, or overwrite=True (--overwrite) to replace it")
    with atomic_write(target, suffix=".nwb", parents=True) as temporary:
        save_nwb(_file(recorded, description), temporary)
        if problems := pynwb.validate(path=str(temporary)):
            raise FileError(f"the file would not be valid NWB, so it was removed: {problems[0]}")
    return target


def _samples(nwbfile: NWBFile, name: str) -> SampledSeries | None:
    named = [candidate for candidate in find_series(nwbfile) if candidate.nwb_object.name == name]
    matches = [candidate for candidate in named if isinstance(candidate.nwb_object, TimeSeries)]
    if len(matches) > 1:
        raise SelectionError(f"several TimeSeries are called {name!r}: {[match.path for match in matches]}")
    if not matches:
        return None
    series = matches[0].nwb_object
    values = np.asarray(series.data[:], dtype=np.float64)
    values = values.reshape(len(values), -1) * float(series.conversion) + float(series.offset)
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], dtype=np.float64)
    else:
        times = float(series.starting_time) + np.arange(len(values)) / float(series.rate)
    if len(times) != len(values) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise DataError(
            f"the times of {matches[0].path!r} cannot be used; expected one finite, increasing time per sample"
        )
    return SampledSeries(times, values)


def _file(recorded: TaskRecording, description: str) -> NWBFile:
    nwbfile = NWBFile(
        session_description=description,
        identifier=str(uuid4()),
        session_start_time=datetime(2024, 1, 1, tzinfo=UTC),
        session_id="simulated",
        experiment_description="Simulation: no animal was recorded.",
        keywords=["simulation", "Neural Latents Benchmark"],
    )
    nwbfile.subject = Subject(
        subject_id="simulated", description="No animal: the data are simulated.", species="Macaca mulatta", sex="U"
    )
    nwbfile.add_unit_column(HELD_OUT_COLUMN, "Whether the unit is held out for co-smoothing.")
    for unit, (number, times) in enumerate(zip(recorded.unit_id, recorded.spikes, strict=True)):
        intervals = {} if recorded.intervals is None else {"obs_intervals": recorded.intervals[unit]}
        nwbfile.add_unit(id=int(number), spike_times=times, heldout=bool(recorded.held_out[unit]), **intervals)
    for name in recorded.trials:
        if name not in ("id", "start_time", "stop_time"):
            nwbfile.add_trial_column(name, f"{name} of the simulated task")
    for row in range(len(recorded.trials["start_time"])):
        cells = {name: column[row] for name, column in recorded.trials.items()}
        nwbfile.add_trial(**{name: _cell(value) for name, value in cells.items()})
    if recorded.samples:
        module = nwbfile.create_processing_module("behavior", "Simulated behaviour.")
        for name, samples in recorded.samples.items():
            module.add(
                TimeSeries(
                    name=name,
                    description="Simulated; follows the latents.",
                    comments="columns=[x,y]",
                    data=pack_hdf5(samples.values),
                    unit="mm/s",
                    timestamps=pack_hdf5(samples.times),
                )
            )
    return nwbfile


def _cell(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
