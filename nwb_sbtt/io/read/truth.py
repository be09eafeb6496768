"""The truth that simulated files carry, added to data that were read from them.

The truth of a file is a step function: its TimeSeries have one sample in the middle of each step, all of one width.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.schema import DIMS
from nwb_sbtt.errors import MismatchError, SelectionError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.results import GROUND_TRUTH

RATES, LATENTS, INPUTS = "rates", "latents", "inputs"
SPIKES, CALCIUM = "spikes", "calcium"
"""Names of the TimeSeries of the truth."""
ROUNDING = 1e-6
"""Share of a step by which the edges of a bin may miss the truth through rounding."""


def read_truth(path: Path | str, ds: xr.Dataset) -> xr.Dataset:
    """Add the true rates, latents, inputs, spikes and calcium of a simulated file to data that were read from it.

    A bin that covers several steps of the truth gets their mean, so that the data may have any bins and trials.

    Parameters
    ----------
    path : path
        A file of `write_task` or `write_simulation`.
    ds : Dataset
        Read from the file's units, or from the ROIs of simulated imaging.

    Returns
    -------
    Dataset
        With ``true_rates`` (trial, time, channel) in Hz, ``true_latents`` (trial, time, latent) and, where the file has
        them, ``true_inputs`` (trial, time, true_input), ``true_spikes`` (counts) and ``true_calcium`` (trial, time, channel).

    Raises
    ------
    SelectionError
        If the file has no truth.
    MismatchError
        If the data have channels that the file's table does not have, ids repeat in that, or bins lie outside the truth.
    """
    with open_nwb(path, external_data=True) as nwbfile:
        if GROUND_TRUTH not in nwbfile.processing or RATES not in nwbfile.processing[GROUND_TRUTH].data_interfaces:
            raise SelectionError(f"{str(path)!r} has no 'processing/{GROUND_TRUTH}/{RATES}'; expected a simulated file")
        module = nwbfile.processing[GROUND_TRUTH]
        series = {
            name: np.asarray(module[name].data[:])
            for name in (RATES, SPIKES, CALCIUM, LATENTS, INPUTS)
            if name in module.data_interfaces
        }
        steps = _Steps.centred_at(np.asarray(module[RATES].timestamps[:]))
        kind, table = _channels(nwbfile)
        table_ids = [int(channel_id) for channel_id in table.id[:]]
        row_of = {channel_id: row for row, channel_id in enumerate(table_ids)}
    channel_ids = ds["channel_id"].values.tolist()
    unknown = [channel_id for channel_id in channel_ids if channel_id not in row_of]
    if unknown or ds.attrs["kind"] != kind:
        raise MismatchError(
            f"the channels {unknown[:5]} of the data are not in {str(path)!r}, which has the {kind} {[*row_of][:5]} …"
        )
    if repeated := [channel_id for channel_id, count in Counter(table_ids).items() if count > 1]:
        raise MismatchError(
            f"the ids {repeated[:5]} stand in several rows of the {kind} of {str(path)!r}, so it is unknown which truth "
            "is theirs; write the file again with ids that do not repeat"
        )
    rows = [row_of[channel_id] for channel_id in channel_ids]
    edges = bin_edges(ds)
    steps.check_covers(edges, float(ds.attrs["bin_width"]))
    truth = {}
    for name, values in series.items():
        if name in (LATENTS, INPUTS):
            # Known inputs have the dim `input`.
            dim = "true_input" if name == INPUTS else name.removesuffix("s")
            truth[f"true_{name}"] = ("trial", "time", dim), steps.mean(values, edges)
        else:
            truth[f"true_{name}"] = DIMS, steps.mean(values[:, rows], edges)
    if SPIKES in series:
        # The mean is per step, and counts are per bin.
        steps_per_bin = np.float32(float(ds.attrs["bin_width"]) / steps.width)
        truth[f"true_{SPIKES}"] = DIMS, truth[f"true_{SPIKES}"][1] * steps_per_bin
    return ds.assign(truth)


def attach_truth(path: Path | str, ds: xr.Dataset) -> xr.Dataset:
    """Add the truth as `read_truth` does if the file has it for these data; return other data as they are.

    Parameters
    ----------
    path : path
    ds : Dataset
        Read from the file.
    """
    try:
        return read_truth(path, ds)
    except (SelectionError, MismatchError):
        return ds


def bin_edges(ds: xr.Dataset) -> NDArray[np.float64]:
    """Return the edges of the bins of a Dataset.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    array (trial, time + 1)
        Seconds on the session clock.
    """
    offsets = np.arange(ds.sizes["time"] + 1) * float(ds.attrs["bin_width"])
    return np.asarray(ds["trial_start"].values[:, None] + offsets)


@dataclass(frozen=True)
class _Steps:
    """Steps of a step function, from each start to its stop; arrays (step), seconds on the session clock."""

    width: float
    starts: NDArray[np.float64]
    stops: NDArray[np.float64]

    @classmethod
    def centred_at(cls, times: NDArray[np.float64]) -> _Steps:
        width = float(np.diff(times).min())
        return cls(width, times - width / 2, times + width / 2)

    def check_covers(self, edges: NDArray[np.float64], bin_width: float) -> None:
        """Refuse bins that lie, at least in part, outside the steps."""
        slack = 4 * float(tolerance(edges).max()) + ROUNDING * self.width
        uncovered = np.abs(np.diff(self._covered_time(edges), axis=1) - bin_width) > slack
        if uncovered.any():
            raise MismatchError(
                f"{int(uncovered.sum())} of {uncovered.size} bins of the data are at least partly outside the trials "
                "of the simulation, where the true rates are unknown; cut with Trials('start_time', …) inside the "
                "trials"
            )

    def mean(self, values: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float32]:
        """Mean over each bin (trial, time, column) of a function with the given values (step, column)."""
        widths = (self.stops - self.starts)[:, None]
        integral_to = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values * widths, axis=0)])
        position = self._covered_time(edges) / (self.stops[0] - self.starts[0])
        # Up to an edge the integral is that of all whole steps before it, and of a share of the step in which it lies.
        whole = np.clip(np.floor(position + 1e-9).astype(int), 0, len(values) - 1)
        share = np.clip(position - whole, 0, 1)[..., None]
        integral = integral_to[whole] + share * (integral_to[whole + 1] - integral_to[whole])
        return np.asarray(np.diff(integral, axis=1) / np.diff(edges, axis=1)[..., None], dtype=np.float32)

    def _covered_time(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds that the steps cover before each edge."""
        covered = np.cumsum(self.stops - self.starts)
        times = np.column_stack([self.starts, self.stops]).reshape(-1)
        # Neighbouring steps meet but for rounding, and `interp` needs rising times.
        rising = np.maximum.accumulate(times)
        covered_to = np.column_stack([covered - (self.stops - self.starts), covered]).reshape(-1)
        return np.asarray(np.interp(edges, rising, covered_to))


def _channels(nwbfile: Any) -> tuple[str, Any]:
    """Kind of the channels of a simulated file, and their table."""
    if nwbfile.units is not None:
        return "units", nwbfile.units
    return "rois", nwbfile.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
