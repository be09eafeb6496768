"""Which trials and channels a figure shows, and what its axes are called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.errors import MismatchError

MOST_CHANNELS = 120
MOST_BINS = 600
UNITS = {"electrodes": "electrode", "rois": "ROI", "units": "unit", "series": "channel"}


@dataclass(frozen=True)
class Estimate:
    """What a model says of the channels, in units of a plot: Hz for counts, the data's own unit otherwise."""

    counts: bool
    mean: NDArray[np.float32]
    sd: NDArray[np.float32] | None
    unit: str

    @property
    def name(self) -> str:
        """What is estimated."""
        return "rate" if self.counts else "mean"


def estimate_of(data: xr.Dataset, latents: xr.Dataset) -> Estimate:
    """Take the rates or means out of a latents Dataset.

    Raises
    ------
    MismatchError
        If there are none, or they are not of the data's trials, bins and channels.
    """
    name = "mean" if "mean" in latents else "rates"
    if name not in latents:
        raise MismatchError(f"the latents have neither 'rates' nor 'mean', only {sorted(map(str, latents.data_vars))}")
    if latents[name].shape != data["values"].shape:
        raise MismatchError(
            f"data {data['values'].shape} and {name} {latents[name].shape} must be of the same trials, bins and channels"
        )
    if "channel_id" in latents.coords and (latents["channel_id"].values != data["channel_id"].values).any():
        raise MismatchError(
            "data and estimates have the same number of channels, but not the same channels in the same order"
        )
    sd = latents[f"{name}_sd"].values if f"{name}_sd" in latents else None
    counts = name == "rates"
    return Estimate(counts, latents[name].values, sd, "Hz" if counts else str(data.attrs.get("unit", "a.u.")))


def in_unit(data: xr.Dataset) -> NDArray[np.float64]:
    """Values as plotted beside estimates: counts as spikes per observed second, signals as they are."""
    values = data["values"].values.astype(np.float64)
    if data.attrs.get("unit") != "counts":
        return values
    share = data["exposure"].values if "exposure" in data else 1.0
    return np.asarray(values / (share * float(data.attrs["bin_width"])))


def shown_trials(data: xr.Dataset, most: int) -> NDArray[np.intp]:
    """Trials worth looking at, spread over the session: validation trials where there are any, never empty ones."""
    there = data["observed"].values.any((1, 2))
    if "split" in data.coords and (there & (data["split"].values == "valid")).any():
        there &= data["split"].values == "valid"
    return spread(np.flatnonzero(there), most)


def shown_channels(data: xr.Dataset, most: int = MOST_CHANNELS) -> NDArray[np.intp]:
    """Channels that were ever observed, evenly thinned out to `most`."""
    return spread(np.flatnonzero(data["observed"].values.any((0, 1))), most)


def spread(rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most so many of the rows, evenly spaced from the first to the last."""
    if len(rows) <= most:
        return rows
    places = np.round(np.linspace(0, len(rows) - 1, most)).astype(np.intp)
    return np.asarray(rows[places])


def by_peak(courses: NDArray[np.floating]) -> NDArray[np.intp]:
    """Order of the columns of (time, channel) by the time of their peak."""
    return np.argsort(courses.argmax(0), kind="stable")


def shown_bins(data: xr.Dataset) -> slice:
    """The first bins of a trial, if there are more than a figure can show."""
    return slice(0, min(data.sizes["time"], MOST_BINS))


def extent(data: xr.Dataset, n_rows: int) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of an image of the shown bins, first row on top."""
    time = data["time"].values[shown_bins(data)]
    half = float(data.attrs["bin_width"]) / 2
    return float(time[0]) - half, float(time[-1]) + half, n_rows - 0.5, -0.5


def channel_name(data: xr.Dataset) -> str:
    """What one channel is called."""
    return UNITS.get(str(data.attrs.get("kind")), "channel")


def channel_axis(data: xr.Dataset, n_shown: int) -> str:
    """Name of the channel axis; says so if not all are shown."""
    name, total = channel_name(data), data.sizes["channel"]
    return name if n_shown == total else f"{name} ({n_shown} of {total})"


def time_axis(data: xr.Dataset) -> str:
    """Name of the time axis; says so if not all is shown."""
    shown = data["time"].values[shown_bins(data)]
    return (
        "time (s)" if len(shown) == data.sizes["time"] else f"time (s), first {len(shown)} of {data.sizes['time']} bins"
    )


def trial_title(data: xr.Dataset, trial: int) -> str:
    """Which trial this is."""
    part = f", {data['split'].values[trial]}" if "split" in data.coords else ""
    return f"trial {data['trial_id'].values[trial] if 'trial_id' in data.coords else trial}{part}"
