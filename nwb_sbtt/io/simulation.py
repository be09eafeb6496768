"""Simulated data as NWB files that carry their truth."""

from __future__ import annotations

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

from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.schema import DIMS, check_dataset
from nwb_sbtt.data.simulate import lorenz
from nwb_sbtt.errors import DataError, FileError, MismatchError, SelectionError
from nwb_sbtt.io.files import open_nwb
from nwb_sbtt.io.packing import pack_hdf5, save
from nwb_sbtt.io.staging import staged

MODULE, RATES, LATENTS = "ground_truth", "rates", "latents"
MARGIN = 1e-3
"""Share of a bin, at either end, in which no spike is placed."""
RESOLUTION = 1e-6
"""Seconds between possible spike times; less where bins are so short that this exceeds the margin."""
COLUMNS = {
    "go_time": "Time of the go cue.",
    "condition": "Which start of the Lorenz system the trial follows.",
    "split": "Whether the trial is for training or validation.",
}
"""Trial coordinates that are written, with their descriptions."""


def simulate_lorenz(
    path: Path | str,
    *,
    n_channels: int = 29,
    conditions: int = 65,
    trials_per_condition: int = 24,
    observed_per_bin: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Simulate a Lorenz task and write it to an NWB file: `lorenz` and `write_simulation` in one.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    n_channels, conditions, trials_per_condition : int
        As for `nwb_sbtt.data.simulate.lorenz`, which has further settings.
    observed_per_bin, seed, overwrite
        As for `write_simulation`; the seed is that of the simulation too.

    Examples
    --------
    >>> simulate_lorenz("lorenz.nwb", observed_per_bin=5)  # doctest: +SKIP
    """
    target = _target(path, overwrite=overwrite)
    ds = lorenz(n_channels=n_channels, conditions=conditions, trials_per_condition=trials_per_condition, seed=seed)
    return write_simulation(target, ds, observed_per_bin=observed_per_bin, seed=seed, overwrite=overwrite)


def write_simulation(
    path: Path | str, ds: xr.Dataset, *, observed_per_bin: int | None = None, seed: int = 0, overwrite: bool = False
) -> Path:
    """Write simulated spikes to an NWB file, with the true rates and latents in ``processing/ground_truth``.

    Each spike lies at a random moment of its bin. Each unit's ``obs_intervals`` are the bins in which it was observed:
    the trials, or less where the data are masked. Spikes elsewhere are not stored, so the file looks like the recording
    of a device that samples only some channels at a time.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    ds : Dataset
        Of `nwb_sbtt.data.simulate.lorenz`, or like it; what it says is not observed is not written.
    observed_per_bin : int, optional
        Units observed in each bin, drawn at random; None leaves all.
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
    target = _target(path, overwrite=overwrite)
    ds = _checked(ds)
    if observed_per_bin is not None:
        ds = _checked(limit_bandwidth(ds, BandwidthConfig(k=observed_per_bin, seed=seed)))
    nwbfile = _file(ds, np.random.default_rng(seed))
    with staged(target, suffix=target.suffix) as temporary:
        save(nwbfile, temporary)
        problems = pynwb.validate(path=str(temporary))
        if problems:
            raise FileError(f"the file would not be valid NWB, so it was not kept: {problems[0]}")
    return target


def read_truth(path: Path | str, ds: xr.Dataset) -> xr.Dataset:
    """Add the true rates and latents of a simulated file to data that were read from it.

    The truth is a step function; a bin that covers several of its steps gets their mean, so any bins and trials will do.

    Parameters
    ----------
    path : path
        A file of `simulate_lorenz`.
    ds : Dataset
        Read from the file's units.

    Returns
    -------
    Dataset
        With ``true_rates`` (trial, time, channel) in Hz and ``true_latents`` (trial, time, latent).

    Raises
    ------
    SelectionError
        If the file holds no truth.
    MismatchError
        If the data have channels that the file's units do not, or bins in which there is no truth.
    """
    with open_nwb(path) as nwb:
        if MODULE not in nwb.processing or RATES not in nwb.processing[MODULE].data_interfaces:
            raise SelectionError(f"{str(path)!r} holds no 'processing/{MODULE}/{RATES}': it is not a simulated file")
        module = nwb.processing[MODULE]
        times = np.asarray(module[RATES].timestamps[:])
        rates, latents = np.asarray(module[RATES].data[:]), np.asarray(module[LATENTS].data[:])
        row = {int(unit): i for i, unit in enumerate(nwb.units.id[:])}
    wanted = ds["channel_id"].values.tolist()
    unknown = [unit for unit in wanted if unit not in row]
    if unknown or ds.attrs["kind"] != "units":
        raise MismatchError(
            f"the data have channels {unknown[:5]} that are no units of {str(path)!r}, which has {[*row][:5]} …"
        )
    share = _shares(times, ds)
    rates = rates[:, [row[unit] for unit in wanted]]
    return ds.assign(
        true_rates=(DIMS, _averaged(rates, *share)),
        true_latents=(("trial", "time", "latent"), _averaged(latents, *share)),
    )


def attach_truth(path: Path | str, ds: xr.Dataset) -> xr.Dataset:
    """Add the truth as `read_truth` does where the file holds it for these data; give all other data back as they are."""
    try:
        return read_truth(path, ds)
    except (SelectionError, MismatchError):
        return ds


def _target(path: Path | str, *, overwrite: bool) -> Path:
    target = Path(path).absolute()
    if target.suffix != ".nwb":
        raise FileError(f"cannot write {target.name!r}: end the name in '.nwb'")
    if target.exists() and (target.is_dir() or not overwrite):
        raise FileError(f"{str(target)!r} exists; give another path, or overwrite=True to replace it")
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
    nwbfile = NWBFile(
        session_description="Simulated spikes of neurons whose rates follow a Lorenz system; the truth is in "
        f"processing/{MODULE}.",
        identifier=str(uuid4()),
        session_start_time=datetime(2024, 1, 1, tzinfo=UTC),
        session_id=str(ds.attrs["session_id"]),
        experiment_description="Simulation: no animal was recorded.",
        keywords=["simulation", "Lorenz", "ground truth"],
        institution="none (simulation)",
        experimenter=["Simulation, Lorenz"],
    )
    nwbfile.subject = Subject(
        subject_id="simulated",
        description="No animal: the data are simulated. Species, age and sex stand for those of a recording.",
        species="Mus musculus",
        age="P90D",
        sex="U",
    )
    nwbfile.units = _units(ds, generator)
    nwbfile.trials = _trials(ds)
    module = nwbfile.create_processing_module(MODULE, "What the simulation knows: true rates and latents.")
    rates = TimeSeries(
        name=RATES,
        description="True firing rate of each unit in each bin, at the bins' centres.",
        comments="Columns are the rows of the units table, in order.",
        data=pack_hdf5(_flat(ds["true_rates"].values)),
        unit="Hz",
        timestamps=pack_hdf5((_edges(ds)[:, :-1] + float(ds.attrs["bin_width"]) / 2).reshape(-1)),
    )
    module.add(rates)
    module.add(
        TimeSeries(
            name=LATENTS,
            description="The variables x, y and z of the Lorenz system, centred and scaled to unit variance.",
            data=pack_hdf5(_flat(ds["true_latents"].values)),
            unit="standard deviations",
            timestamps=rates,
        )
    )
    return nwbfile


def _flat(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.reshape(-1, array.shape[-1])


def _edges(ds: xr.Dataset) -> NDArray[np.float64]:
    """Edges of the bins (trial, time + 1), in seconds on the session clock."""
    steps = np.arange(ds.sizes["time"] + 1) * float(ds.attrs["bin_width"])
    return np.asarray(ds["trial_start"].values[:, None] + steps)


def _units(ds: xr.Dataset, generator: np.random.Generator) -> Units:
    edges, width = _edges(ds), float(ds.attrs["bin_width"])
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
    edges = _edges(ds)
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


def _shares(
    times: NDArray[np.float64], ds: xr.Dataset
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps of the truth as (start, stop), and the edges of the data's bins."""
    width = float(np.diff(times).min())
    edges = _edges(ds)
    starts, stops = times - width / 2, times + width / 2
    slack = 4 * float(tolerance(edges).max())
    covered = np.interp(edges, *_clock(starts, stops))
    lacking = np.abs(np.diff(covered, axis=1) - float(ds.attrs["bin_width"])) > slack + 1e-6 * width
    if lacking.any():
        raise MismatchError(
            f"{int(lacking.sum())} of {lacking.size} bins of the data lie, at least in part, outside the trials of the "
            "simulation, where there is no truth; cut with Trials('start_time', …) inside the trials"
        )
    return starts, stops, edges


def _clock(starts: NDArray[np.float64], stops: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moments, and the time covered by steps up to each."""
    reached = np.cumsum(stops - starts)
    moments = np.column_stack([starts, stops]).reshape(-1)
    # Neighbouring steps meet but for rounding.
    return np.maximum.accumulate(moments), np.column_stack([reached - (stops - starts), reached]).reshape(-1)


def _averaged(
    steps: NDArray[np.float32], starts: NDArray[np.float64], stops: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Mean of a step function over each bin; (trial, time, column)."""
    total = np.concatenate([np.zeros((1, steps.shape[1])), np.cumsum(steps * (stops - starts)[:, None], axis=0)])
    position = np.interp(edges, *_clock(starts, stops)) / (stops[0] - starts[0])
    # The time covered, in steps: whole ones before it, and a share of the one it lies in.
    whole = np.clip(np.floor(position + 1e-9).astype(int), 0, len(steps) - 1)
    part = np.clip(position - whole, 0, 1)[..., None]
    integral = total[whole] + part * (total[whole + 1] - total[whole])
    return np.asarray(np.diff(integral, axis=1) / np.diff(edges, axis=1)[..., None], dtype=np.float32)
