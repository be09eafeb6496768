"""What a figure shows: trials, channels and bins, their values in the unit of the plot, and the labels of its axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.errors import MismatchError

MAX_CHANNELS = 120
MAX_BINS = 600
CHANNEL_NAMES = {"electrodes": "electrode", "rois": "ROI", "units": "unit", "series": "channel"}


@dataclass(frozen=True)
class Inferred:
    """Inferred rates of counts [Hz], or means of signals [the data's unit].

    Parameters
    ----------
    is_counts : bool
    mean : array (trial, time, channel)
    sd : array (trial, time, channel) or None
        Of the posterior.
    unit : str
    """

    is_counts: bool
    mean: NDArray[np.float32]
    sd: NDArray[np.float32] | None
    unit: str

    @property
    def name(self) -> str:
        """Name of the variable: "rate" or "mean"."""
        return "rate" if self.is_counts else "mean"


def inferred_values(data: xr.Dataset, latents: xr.Dataset) -> Inferred:
    """Return the rates or means of a latents Dataset.

    Parameters
    ----------
    data : Dataset
        What the latents were inferred from.
    latents : Dataset
        As returned by `Fitted.infer`.

    Returns
    -------
    Inferred
        Rates [Hz], or means in the data's unit, with their sd where there is one; (trial, time, channel).

    Raises
    ------
    MismatchError
        If there are none, or their trials, bins or channels are not those of the data.
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
            "data and latents have the same number of channels, but not the same channels in the same order"
        )
    sd = latents[f"{name}_sd"].values if f"{name}_sd" in latents else None
    is_counts = name == "rates"
    return Inferred(is_counts, latents[name].values, sd, "Hz" if is_counts else str(data.attrs.get("unit", "a.u.")))


def plotted_values(data: xr.Dataset) -> NDArray[np.float64]:
    """Return values in the unit of inferred ones: counts as spikes per observed second, signals as they are.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    array (trial, time, channel)
        Hz for counts, else the data's unit.
    """
    values = data["values"].values.astype(np.float64)
    if data.attrs.get("unit") != "counts":
        return values
    exposure = data["exposure"].values if "exposure" in data else 1.0
    return np.asarray(values / (exposure * float(data.attrs["bin_width"])))


def standardise(part: Any, values: NDArray[Any], observed: NDArray[np.bool_]) -> Any:
    """Express a part of the values in sd from each channel's mean over all observed entries.

    Parameters
    ----------
    part : masked array (…, channel)
    values : array (trial, time, channel)
    observed : bool array (trial, time, channel)
    """
    n = np.maximum(observed.sum((0, 1)), 1)
    mean = np.where(observed, values, 0).sum((0, 1), dtype=float) / n
    sd = np.sqrt(np.where(observed, (values - mean) ** 2, 0).sum((0, 1)) / n)
    return (part - mean) / np.where(sd > 0, sd, 1)


def select_trials(data: xr.Dataset, count: int) -> NDArray[np.intp]:
    """Select trials spread over the session: validation trials where there are any, never unobserved ones.

    Parameters
    ----------
    data : Dataset
    count : int
        Most trials to select.

    Returns
    -------
    int array (row)
        Rows of the trials, in order.
    """
    observed = data["observed"].values.any((1, 2))
    if "split" in data.coords and (observed & (data["split"].values == "valid")).any():
        observed &= data["split"].values == "valid"
    return thin(np.flatnonzero(observed), count)


def select_channels(data: xr.Dataset, count: int = MAX_CHANNELS) -> NDArray[np.intp]:
    """Select channels with observed entries, evenly spaced if there are more than `count`.

    Parameters
    ----------
    data : Dataset
    count : int
        Most channels to select.

    Returns
    -------
    int array (row)
        Numbers of the channels, in order.
    """
    return thin(np.flatnonzero(data["observed"].values.any((0, 1))), count)


def select_bins(data: xr.Dataset) -> slice:
    """Select the first 600 bins of a trial.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    slice
        Along ``time``.
    """
    return slice(0, min(data.sizes["time"], MAX_BINS))


def thin(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Select at most `count` rows, evenly spaced from the first to the last.

    Parameters
    ----------
    rows : int array (row)
    count : int

    Returns
    -------
    int array (row)
    """
    if len(rows) <= count:
        return rows
    positions = np.round(np.linspace(0, len(rows) - 1, count)).astype(np.intp)
    return np.asarray(rows[positions])


def peak_order(traces: NDArray[np.floating]) -> NDArray[np.intp]:
    """Order the columns of (time, channel) by the time of their peak.

    Parameters
    ----------
    traces : array (time, channel)

    Returns
    -------
    int array (channel)
        Numbers of the columns, that with the earliest peak first.
    """
    return np.argsort(traces.argmax(0), kind="stable")


def image_extent(data: xr.Dataset, n_rows: int) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of an image of the selected bins, with the first row on top.

    Parameters
    ----------
    data : Dataset
    n_rows : int
        Rows of the image.

    Returns
    -------
    (float, float, float, float)
        Left and right in seconds, bottom and top in rows, as `matplotlib.axes.Axes.imshow` takes them.
    """
    time = data["time"].values[select_bins(data)]
    half = float(data.attrs["bin_width"]) / 2
    return float(time[0]) - half, float(time[-1]) + half, n_rows - 0.5, -0.5


def channel_name(data: xr.Dataset) -> str:
    """Return what a channel is: "unit", "electrode", "ROI" or "channel".

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    str
    """
    return CHANNEL_NAMES.get(str(data.attrs.get("kind")), "channel")


def channel_label(data: xr.Dataset, n_plotted: int) -> str:
    """Label the channel axis, with the number of plotted channels if not all are.

    Parameters
    ----------
    data : Dataset
    n_plotted : int
        Channels that are plotted.

    Returns
    -------
    str
    """
    name, total = channel_name(data), data.sizes["channel"]
    return name if n_plotted == total else f"{name} ({n_plotted} of {total})"


def time_label(data: xr.Dataset) -> str:
    """Label the time axis, with the number of plotted bins if not all are.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    str
    """
    n_plotted, total = len(data["time"].values[select_bins(data)]), data.sizes["time"]
    return "time (s)" if n_plotted == total else f"time (s), first {n_plotted} of {total} bins"


def trial_title(data: xr.Dataset, trial: int) -> str:
    """Return id and split of a trial.

    Parameters
    ----------
    data : Dataset
    trial : int
        Row of the trial.

    Returns
    -------
    str
    """
    part = f", {data['split'].values[trial]}" if "split" in data.coords else ""
    return f"trial {data['trial_id'].values[trial] if 'trial_id' in data.coords else trial}{part}"
