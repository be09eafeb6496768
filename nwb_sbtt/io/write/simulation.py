"""Simulated data as NWB files that carry their truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pynwb
import xarray as xr
from hdmf.common import VectorData
from numpy.typing import NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.io.read.truth import CALCIUM, INPUTS, LATENTS, MODULE, RATES, SPIKES, bin_edges
from nwb_sbtt.io.write.imaging import add_imaging
from nwb_sbtt.io.write.packing import pack_hdf5, save

MARGIN = 1e-3
"""Share of a bin, at either end, in which no spike is placed."""
RESOLUTION = 1e-6
"""Seconds between possible spike times; less where bins are so short that this exceeds the margin."""
COLUMNS = {
    "go_time": "Time of the go cue.",
    "kick_time": "Middle of the kick that perturbs the latents.",
    "condition": "Which start of the latents the trial has.",
    "split": "Whether the trial is for training or validation.",
}
"""Trial coordinates that are written, with their descriptions."""

HIDDEN = {
    SPIKES: ("counts", "True number of spikes of each channel in each bin."),
    CALCIUM: ("a.u.", "True calcium of each channel in each bin, in units of what a spike adds."),
}
"""What is hidden behind fluorescence, with unit and description."""


@dataclass(frozen=True)
class Wording:
    """What a file says of the system that drove its spikes."""

    session: str
    latents: str
    latents_unit: str
    keyword: str


WORDINGS = {
    "lorenz": Wording(
        "neurons whose rates follow a Lorenz system",
        "The variables x, y and z of the Lorenz system, centred and scaled to unit variance.",
        "standard deviations",
        "Lorenz",
    ),
    "calcium": Wording(
        "cells whose rates follow a Lorenz system, seen by the fluorescence of their calcium",
        "The variables x, y and z of the Lorenz system, centred and divided by the greatest size of any.",
        "shares of the greatest size",
        "calcium imaging",
    ),
    "perturbation": Wording(
        "neurons whose rates follow an oscillation that is kicked once a trial, at an unknown time",
        "State of the oscillation in its plane; it rests on the unit circle.",
        "radii",
        "perturbation",
    ),
}
OTHER = Wording("neurons with known rates", "What drives the rates.", "unknown", "latent variables")


def new_target(path: Path | str, *, overwrite: bool) -> Path:
    """Check that a simulation may be written to a path, before any time is spent on it.

    Raises
    ------
    FileError
        If the name does not end in ``.nwb``, or a file is there that may not be replaced.
    """
    target = Path(path).absolute()
    if target.suffix != ".nwb":
        raise FileError(f"cannot write {target.name!r}: end the name in '.nwb'")
    if target.exists() and (target.is_dir() or not overwrite):
        raise FileError(f"{str(target)!r} exists; give another path, or overwrite=True to replace it")
    return target


def write_simulation(
    path: Path | str, ds: xr.Dataset, *, observed_per_bin: int | None = None, seed: int = 0, overwrite: bool = False
) -> Path:
    """Write simulated spikes, or fluorescence, to an NWB file, with the truth behind them in ``processing/ground_truth``.

    Fluorescence is written as `nwb_sbtt.io.write.imaging.add_imaging` says. Each spike lies at a random moment of its bin. Each
    unit's ``obs_intervals`` are the bins in which it was observed: the trials, or less where the data are masked. Spikes
    elsewhere are not stored, so the file looks like the recording of a device that samples only some channels at a time.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    ds : Dataset
        Of `lorenz`, `perturbation` or `calcium`, or like these; what it says is not observed is not written.
    observed_per_bin : int, optional
        Units observed in each bin, drawn at random; None leaves all, and imaging knows no other way.
    seed : int
        Of the spikes' places in their bins and of the mask.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError
        If the file exists, or cannot be written.
    DataError
        If the data carry no truth, or a unit is never observed.
    """
    target = new_target(path, overwrite=overwrite)
    ds = _checked(ds)
    if observed_per_bin is not None and ds.attrs["kind"] == "rois":
        raise DataError("observed_per_bin is for spikes; how cells are sampled by a microscope is up to the simulation")
    if observed_per_bin is not None:
        ds = _checked(limit_bandwidth(ds, BandwidthConfig(k=observed_per_bin, seed=seed)))
    nwbfile = _file(ds, np.random.default_rng(seed))
    with atomic_write(target, suffix=target.suffix) as temporary:
        save(nwbfile, temporary)
        problems = pynwb.validate(path=str(temporary))
        if problems:
            raise FileError(f"the file would not be valid NWB, so it was not kept: {problems[0]}")
    return target


def _checked(ds: xr.Dataset) -> xr.Dataset:
    check_dataset(ds)
    missing = [name for name in ("true_rates", "true_latents") if name not in ds]
    if missing or "exposure" in ds:
        raise DataError(f"expected a Dataset of `lorenz` with whole bins; this one lacks {missing or 'whole bins'}")
    never = ds["channel_id"].values[~ds["observed"].values.any((0, 1))]
    if len(never):
        raise DataError(f"channels {never.tolist()[:5]} are never observed; leave them out")
    return ds.isel(trial=np.argsort(ds["trial_start"].values, kind="stable"))


def _file(ds: xr.Dataset, generator: np.random.Generator) -> NWBFile:
    wording = WORDINGS.get(str(ds.attrs.get("system")), OTHER)
    nwbfile = NWBFile(
        session_description=f"Simulation of {wording.session}; the truth is in processing/{MODULE}.",
        identifier=str(uuid4()),
        session_start_time=datetime(2024, 1, 1, tzinfo=UTC),
        session_id=str(ds.attrs["session_id"]),
        experiment_description="Simulation: no animal was recorded.",
        keywords=["simulation", wording.keyword, "ground truth"],
        institution="none (simulation)",
        experimenter=["Simulation, Numerical"],
    )
    nwbfile.subject = Subject(
        subject_id="simulated",
        description="No animal: the data are simulated. Species, age and sex stand for those of a recording.",
        species="Mus musculus",
        age="P90D",
        sex="U",
    )
    if ds.attrs["kind"] == "rois":
        table = add_imaging(nwbfile, ds).name
    else:
        nwbfile.units, table = _units(ds, generator), "units table"
    nwbfile.trials = _trials(ds)
    module = nwbfile.create_processing_module(MODULE, "What the simulation knows: true rates, latents and inputs.")
    columns = f"Columns are the rows of the {table}, in order."
    rates = TimeSeries(
        name=RATES,
        description="True firing rate of each channel in each bin, at the bins' centres.",
        comments=columns,
        data=pack_hdf5(_flat(ds["true_rates"].values)),
        unit="Hz",
        timestamps=pack_hdf5((bin_edges(ds)[:, :-1] + float(ds.attrs["bin_width"]) / 2).reshape(-1)),
    )
    module.add(rates)
    module.add(
        TimeSeries(
            name=LATENTS,
            description=wording.latents,
            data=pack_hdf5(_flat(ds["true_latents"].values)),
            unit=wording.latents_unit,
            timestamps=rates,
        )
    )
    for name, (unit, text) in HIDDEN.items():
        if f"true_{name}" in ds:
            data = pack_hdf5(_flat(ds[f"true_{name}"].values))
            module.add(
                TimeSeries(name=name, description=text, comments=columns, data=data, unit=unit, timestamps=rates)
            )
    if "true_inputs" in ds:
        module.add(
            TimeSeries(
                name=INPUTS,
                description="What pushes the latents from outside: the mean over each bin.",
                data=pack_hdf5(_flat(ds["true_inputs"].values)),
                unit=f"{wording.latents_unit} per second",
                timestamps=rates,
            )
        )
    return nwbfile


def _flat(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.reshape(-1, array.shape[-1])


def _units(ds: xr.Dataset, generator: np.random.Generator) -> Units:
    edges, width = bin_edges(ds), float(ds.attrs["bin_width"])
    counts = ds["values"].values.astype(int)
    resolution = min(RESOLUTION, MARGIN * width)
    units = Units(name="units", description="Simulated units.", resolution=resolution)
    for i, unit in enumerate(ds["channel_id"].values.tolist()):
        places = np.repeat(np.arange(counts[:, :, i].size), counts[:, :, i].reshape(-1))
        moments = edges[:, :-1].reshape(-1)[places] + width * generator.uniform(MARGIN, 1 - MARGIN, len(places))
        times = np.sort(np.round(moments / resolution) * resolution)
        units.add_unit(id=int(unit), spike_times=times, obs_intervals=_intervals(ds["observed"].values[:, :, i], edges))
    return units


def _intervals(observed: NDArray[np.bool_], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Runs of observed bins (k, 2), in seconds."""
    padded = np.pad(observed, ((0, 0), (1, 1)))
    starts, stops = padded[:, 1:] & ~padded[:, :-1], padded[:, :-1] & ~padded[:, 1:]
    return np.column_stack([edges[starts], edges[stops]])


def _trials(ds: xr.Dataset) -> TimeIntervals:
    edges = bin_edges(ds)
    columns = {"start_time": ("First moment of the trial.", edges[:, 0]), "stop_time": ("Its end.", edges[:, -1])}
    columns |= {name: (text, ds[name].values) for name, text in COLUMNS.items() if name in ds.coords}
    return TimeIntervals(
        name="trials",
        description="Simulated trials, with pauses between them.",
        columns=[
            VectorData(name=name, description=text, data=data.tolist() if data.dtype.kind == "U" else data)
            for name, (text, data) in columns.items()
        ],
    )
