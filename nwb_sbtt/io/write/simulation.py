"""Write simulated data to NWB files, with their truth."""

from __future__ import annotations

from collections.abc import Mapping
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
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, PlaneSegmentation, RoiResponseSeries

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.io.read.results import GROUND_TRUTH
from nwb_sbtt.io.read.truth import CALCIUM, INPUTS, LATENTS, RATES, SPIKES, bin_edges
from nwb_sbtt.io.write.packing import pack_hdf5, save_nwb

MARGIN = 1e-3
"""Share of a bin, at either end, in which no spike is placed."""
SPIKE_TIME_STEP = 1e-6
"""Seconds between possible spike times; less where bins are so short that this exceeds the margin."""
IMAGING_MODULE, IMAGING_SERIES, OFFSET_COLUMN = "ophys", "dff", "sampling_time_offset"
_INDICATOR = "none (simulated calcium that decays exponentially)"
TRIAL_COLUMNS = {
    "go_time": "Time of the go cue.",
    "kick_time": "Middle of the kick that perturbs the latents.",
    "condition": "Number of the trial's initial state of the latents.",
    "split": "Whether the trial is for training or validation.",
}
"""Trial coordinates that are written, with their descriptions."""

IMAGING_TRUTH = {
    SPIKES: ("counts", "True number of spikes of each channel in each bin."),
    CALCIUM: ("a.u.", "True calcium of each channel in each bin, in units of the spike amplitude."),
}
"""True variables of simulated fluorescence, with unit and description."""


@dataclass(frozen=True)
class TrialTable:
    """Table of intervals that simulated trials stand in, where it says more than when their bins begin and end.

    Parameters
    ----------
    name : str
        "trials", "epochs" or any other.
    description : str
    columns : mapping of name to (str, array (trial))
        Description and times [s] of each column, trials in the order of their starts: ``start_time``, ``stop_time`` and others.
    """

    name: str
    description: str
    columns: Mapping[str, tuple[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class SystemDescription:
    """Texts in a file about the system that drove its spikes.

    Parameters
    ----------
    session : str
        Ends the sentence "Simulation of …".
    latents, latents_unit : str
        Description and unit of the true latents.
    keyword : str
    inputs_unit : str
        Of the true inputs.
    """

    session: str
    latents: str
    latents_unit: str
    keyword: str
    inputs_unit: str = "unknown"


DESCRIPTIONS = {
    "lorenz": SystemDescription(
        "neurons whose rates follow a Lorenz system",
        "The variables x, y and z of the Lorenz system, centred and scaled to unit variance.",
        "standard deviations",
        "Lorenz",
    ),
    "calcium": SystemDescription(
        "cells whose rates follow a Lorenz system, observed by the fluorescence of their calcium",
        "The variables x, y and z of the Lorenz system, centred and divided by the largest absolute value of any.",
        "shares of the largest absolute value",
        "calcium imaging",
    ),
    "perturbation": SystemDescription(
        "neurons whose rates follow an oscillation that is kicked once a trial, at an unknown time",
        "State of the oscillation in its plane; it rests on the unit circle.",
        "radii",
        "perturbation",
        "radii per second",
    ),
    "learned": SystemDescription(
        "neurons whose rates follow a system that was learned from a recording",
        "States of the learned system.",
        "standard deviations over the training trials",
        "learned dynamics",
    ),
    "markov": SystemDescription(
        "neurons whose rates follow a hidden Markov model that was learned from a recording",
        "Mean of the factors that were inferred in each state of the hidden Markov model.",
        "arbitrary",
        "hidden Markov model",
    ),
}
OTHER_SYSTEM = SystemDescription(
    "neurons with known rates", "Latents that drive the rates.", "unknown", "latent variables"
)


def check_simulation_path(path: Path | str, *, overwrite: bool) -> Path:
    """Check that a simulation may be written to a path, before it is simulated.

    Parameters
    ----------
    path : path
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    FileError
        If the name does not end in ``.nwb``, or a file exists that may not be replaced.
    """
    target = path_of(path, "the path of the simulation").absolute()
    if target.suffix != ".nwb":
        raise FileError(f"cannot write {target.name!r}: end the name in '.nwb'")
    if target.exists() and (target.is_dir() or not overwrite):
        raise FileError(f"{str(target)!r} exists; pass another path, or overwrite=True (--overwrite) to replace it")
    return target


def write_simulation(
    path: Path | str,
    ds: xr.Dataset,
    *,
    observed_per_bin: int | None = None,
    table: TrialTable | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write simulated spikes or fluorescence to an NWB file, with the true rates and latents in ``processing/ground_truth``.

    Spikes: each lies at a random time within its bin. Each unit's ``obs_intervals`` are the bins in which it was observed:
    the trials, or less where the data are masked. Spikes elsewhere are not stored, so the file looks like the recording of
    a device that samples only some channels at a time.

    Fluorescence: a RoiResponseSeries of frames; the column ``sampling_time_offset`` of the ROIs' table holds the seconds
    after the start of a frame at which each is sampled. Entries that were not observed are NaN.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    ds : Dataset
        Of `lorenz`, `perturbation` or `calcium`, or with the same variables; entries that are not observed are not written.
    observed_per_bin : int, optional
        Units observed in each bin, drawn at random; None leaves all. Not for fluorescence.
    table : TrialTable, optional
        Of the trials. Default: ``trials``, each from its first bin to its last one.
    seed : int
        Of the spike times within their bins, and of the mask.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError
        If the file exists, or cannot be written.
    DataError
        If the data have no true rates and latents, ids of channels repeat, or a unit is never observed.
    """
    target = check_simulation_path(path, overwrite=overwrite)
    ds = _checked(ds)
    if observed_per_bin is not None and ds.attrs["kind"] == "rois":
        raise DataError(
            "observed_per_bin is for spikes only; for calcium the simulation determines which frames sample a cell"
        )
    if observed_per_bin is not None:
        ds = _checked(limit_bandwidth(ds, BandwidthConfig(k=observed_per_bin, seed=seed)))
    nwbfile = _file(ds, np.random.default_rng(seed))
    _add_trials(nwbfile, _trials(ds) if table is None else table)
    with atomic_write(target, suffix=target.suffix, parents=True) as temporary:
        save_nwb(nwbfile, temporary)
        problems = pynwb.validate(path=str(temporary))
        if problems:
            raise FileError(f"the file would not be valid NWB, so it was removed: {problems[0]}")
    return target


def repeated_ids(ds: xr.Dataset) -> list[int]:
    """Find the ids that several channels have.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    list of int
    """
    ids, counts = np.unique(ds["channel_id"].values, return_counts=True)
    return [int(channel_id) for channel_id in ids[counts > 1]]


def _checked(ds: xr.Dataset) -> xr.Dataset:
    check_dataset(ds)
    missing = [name for name in ("true_rates", "true_latents") if name not in ds]
    if missing or "exposure" in ds:
        raise DataError(f"expected a Dataset of `lorenz` with whole bins; this one has no {missing or 'whole bins'}")
    if repeated := repeated_ids(ds):
        raise DataError(f"the channel ids {repeated[:5]} repeat, so their truth could not be told apart; give others")
    unobserved = ds["channel_id"].values[~ds["observed"].values.any((0, 1))]
    if len(unobserved):
        raise DataError(f"channels {unobserved.tolist()[:5]} are never observed; remove them")
    return ds.isel(trial=np.argsort(ds["trial_start"].values, kind="stable"))


def _file(ds: xr.Dataset, generator: np.random.Generator) -> NWBFile:
    description = DESCRIPTIONS.get(str(ds.attrs.get("system")), OTHER_SYSTEM)
    nwbfile = NWBFile(
        session_description=f"Simulation of {description.session}; the truth is in processing/{GROUND_TRUTH}.",
        identifier=str(uuid4()),
        session_start_time=datetime(2024, 1, 1, tzinfo=UTC),
        session_id=str(ds.attrs["session_id"]),
        experiment_description="Simulation: no animal was recorded.",
        keywords=["simulation", description.keyword, "ground truth"],
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
        table = _add_imaging(nwbfile, ds).name
    else:
        nwbfile.units, table = _units(ds, generator), "units table"
    module = nwbfile.create_processing_module(
        GROUND_TRUTH, "Ground truth of the simulation: rates, latents and inputs."
    )
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
            description=description.latents,
            data=pack_hdf5(_flat(ds["true_latents"].values)),
            unit=description.latents_unit,
            timestamps=rates,
        )
    )
    for name, (unit, text) in IMAGING_TRUTH.items():
        if f"true_{name}" in ds:
            data = pack_hdf5(_flat(ds[f"true_{name}"].values))
            module.add(
                TimeSeries(name=name, description=text, comments=columns, data=data, unit=unit, timestamps=rates)
            )
    if "true_inputs" in ds:
        module.add(
            TimeSeries(
                name=INPUTS,
                description="True inputs to the latents: the mean over each bin.",
                data=pack_hdf5(_flat(ds["true_inputs"].values)),
                unit=description.inputs_unit,
                timestamps=rates,
            )
        )
    return nwbfile


def _flat(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.reshape(-1, array.shape[-1])


def _units(ds: xr.Dataset, generator: np.random.Generator) -> Units:
    edges, width = bin_edges(ds), float(ds.attrs["bin_width"])
    counts = ds["values"].values.astype(int)
    resolution = min(SPIKE_TIME_STEP, MARGIN * width)
    units = Units(name="units", description="Simulated units.", resolution=resolution)
    for i, unit in enumerate(ds["channel_id"].values.tolist()):
        bins = np.repeat(np.arange(counts[:, :, i].size), counts[:, :, i].reshape(-1))
        drawn = edges[:, :-1].reshape(-1)[bins] + width * generator.uniform(MARGIN, 1 - MARGIN, len(bins))
        times = np.sort(np.round(drawn / resolution) * resolution)
        units.add_unit(id=int(unit), spike_times=times, obs_intervals=_intervals(ds["observed"].values[:, :, i], edges))
    return units


def _intervals(observed: NDArray[np.bool_], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Runs of observed bins (k, 2), in seconds."""
    padded = np.pad(observed, ((0, 0), (1, 1)))
    starts, stops = padded[:, 1:] & ~padded[:, :-1], padded[:, :-1] & ~padded[:, 1:]
    return np.column_stack([edges[starts], edges[stops]])


def _trials(ds: xr.Dataset) -> TrialTable:
    edges = bin_edges(ds)
    starts, stops = edges[:, 0], edges[:, -1]
    apart = len(starts) > 1 and bool((starts[1:] - stops[:-1] > tolerance(starts[1:])).all())
    columns = {"start_time": ("Start of the trial.", starts), "stop_time": ("End of the trial.", stops)}
    columns |= {name: (text, ds[name].values) for name, text in TRIAL_COLUMNS.items() if name in ds.coords}
    return TrialTable("trials", f"Simulated trials{', with pauses between them' if apart else ''}.", columns)


def _add_trials(nwbfile: NWBFile, table: TrialTable) -> None:
    intervals = TimeIntervals(
        name=table.name,
        description=table.description,
        columns=[
            VectorData(name=name, description=text, data=data.tolist() if data.dtype.kind == "U" else data)
            for name, (text, data) in table.columns.items()
        ],
    )
    if table.name in ("trials", "epochs"):
        setattr(nwbfile, table.name, intervals)
    else:
        nwbfile.add_time_intervals(intervals)


def _add_imaging(nwbfile: NWBFile, ds: xr.Dataset) -> PlaneSegmentation:
    """Add the plane, the ROIs and their fluorescence, as a microscope's pipeline leaves them.

    A frame begins half a bin after a bin's start, so that each sample lies in the middle of its bin.
    """
    width, frame = float(ds.attrs["bin_width"]), int(ds.attrs["frame"])
    offsets = ds["sampling_offset"].values.astype(float)
    data, times = _frames(ds, frame=frame, phases=np.round(offsets / width).astype(int))
    plane = nwbfile.create_imaging_plane(
        name="ImagingPlane",
        description="Simulated cells; their masks are placeholders.",
        optical_channel=OpticalChannel(name="green", description="simulated", emission_lambda=510.0),
        device=nwbfile.create_device(name="Microscope", description="None: the data are simulated."),
        excitation_lambda=920.0,
        indicator=_INDICATOR,
        location="nowhere (simulation)",
        imaging_rate=1 / (frame * width),
    )
    module = nwbfile.create_processing_module(IMAGING_MODULE, "Simulated imaging.")
    segmentation = ImageSegmentation()
    module.add(segmentation)
    df_over_f = DfOverF(name="DfOverF")
    module.add(df_over_f)
    table = segmentation.create_plane_segmentation(
        name="PlaneSegmentation", description="Simulated cells.", imaging_plane=plane
    )
    for i, cell in enumerate(ds["channel_id"].values.tolist()):
        table.add_roi(id=int(cell), pixel_mask=[(2 * i, i, 1.0), (2 * i + 1, i, 1.0)])
    table.add_column(
        name=OFFSET_COLUMN, description="Seconds after its frame at which the ROI is sampled.", data=offsets.tolist()
    )
    region = table.create_roi_table_region(region=list(range(len(offsets))), description="All cells.")
    series = RoiResponseSeries(
        name=IMAGING_SERIES,
        description="Fluorescence of each cell in each frame, in units of the spike amplitude.",
        data=pack_hdf5(data),
        unit="a.u.",
        rois=region,
        timestamps=pack_hdf5(times),
    )
    df_over_f.add_roi_response_series(series)
    return table


def _frames(
    ds: xr.Dataset, *, frame: int, phases: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Samples (frame, ROI) of all trials, NaN where none was observed, and the frames' times [s]."""
    n_trials, n_bins, n_rois = ds["values"].shape
    width, n_frames = float(ds.attrs["bin_width"]), -(-n_bins // frame)
    values = np.where(ds["observed"].values, ds["values"].values, np.float32("nan"))
    # One frame more, of NaN, for ROIs that are sampled after the trial's last bin.
    padded = np.full((n_trials, (n_frames + 1) * frame, n_rois), np.float32("nan"))
    padded[:, :n_bins] = values
    bins = np.arange(n_frames)[:, None] * frame + phases
    data = padded[:, bins, np.arange(n_rois)].reshape(-1, n_rois)
    times = ds["trial_start"].values[:, None] + (np.arange(n_frames) * frame + 0.5) * width
    return data, times.reshape(-1)
