"""The truth that simulated files carry, added to data that were read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.schema import DIMS
from nwb_sbtt.errors import MismatchError, SelectionError
from nwb_sbtt.io.read.files import open_nwb

MODULE, RATES, LATENTS, INPUTS = "ground_truth", "rates", "latents", "inputs"
SPIKES, CALCIUM = "spikes", "calcium"
"""Where the truth stands in a file."""


def read_truth(path: Path | str, ds: xr.Dataset) -> xr.Dataset:
    """Add the true rates, latents, inputs, spikes and calcium of a simulated file to data that were read from it.

    The truth is a step function; a bin that covers several of its steps gets their mean, so any bins and trials will do.

    Parameters
    ----------
    path : path
        A file of `write_task` or `write_simulation`.
    ds : Dataset
        Read from the file's units, or the ROIs of simulated imaging.

    Returns
    -------
    Dataset
        With ``true_rates`` (trial, time, channel) in Hz, ``true_latents`` (trial, time, latent) and, where the file holds
        them, ``true_inputs`` (trial, time, input), ``true_spikes`` (counts) and ``true_calcium`` (trial, time, channel).

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
        rates = np.asarray(module[RATES].data[:])
        others = {
            name: np.asarray(module[name].data[:]) for name in (LATENTS, INPUTS) if name in module.data_interfaces
        }
        of_channel = {
            name: np.asarray(module[name].data[:]) for name in (SPIKES, CALCIUM) if name in module.data_interfaces
        }
        kind, table = _table(nwb)
        row = {int(unit): i for i, unit in enumerate(table.id[:])}
    wanted = ds["channel_id"].values.tolist()
    unknown = [unit for unit in wanted if unit not in row]
    if unknown or ds.attrs["kind"] != kind:
        raise MismatchError(
            f"the data have channels {unknown[:5]} that are no {kind} of {str(path)!r}, which has {[*row][:5]} …"
        )
    share = _shares(times, ds)
    rates = rates[:, [row[unit] for unit in wanted]]
    known = {"true_rates": (DIMS, _averaged(rates, *share))}
    for name, steps in of_channel.items():
        mean = _averaged(steps[:, [row[unit] for unit in wanted]], *share)
        known[f"true_{name}"] = DIMS, mean * _steps_in_a_bin(times, ds) if name == SPIKES else mean
    for name, steps in others.items():
        known[f"true_{name}"] = ("trial", "time", name.removesuffix("s")), _averaged(steps, *share)
    return ds.assign(known)


def _table(nwb: Any) -> tuple[str, Any]:
    """What the channels of a simulated file are, and the table of them."""
    if nwb.units is not None:
        return "units", nwb.units
    return "rois", nwb.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]


def _steps_in_a_bin(times: NDArray[np.float64], ds: xr.Dataset) -> np.float32:
    return np.float32(float(ds.attrs["bin_width"]) / float(np.diff(times).min()))


def attach_truth(path: Path | str, ds: xr.Dataset) -> xr.Dataset:
    """Add the truth as `read_truth` does where the file holds it for these data; give all other data back as they are."""
    try:
        return read_truth(path, ds)
    except (SelectionError, MismatchError):
        return ds


def bin_edges(ds: xr.Dataset) -> NDArray[np.float64]:
    """Edges of the bins (trial, time + 1), in seconds on the session clock."""
    steps = np.arange(ds.sizes["time"] + 1) * float(ds.attrs["bin_width"])
    return np.asarray(ds["trial_start"].values[:, None] + steps)


def _shares(
    times: NDArray[np.float64], ds: xr.Dataset
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps of the truth as (start, stop), and the edges of the data's bins."""
    width = float(np.diff(times).min())
    edges = bin_edges(ds)
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
