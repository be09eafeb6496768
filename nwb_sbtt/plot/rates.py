"""Figures of inferred rates, or means of signals, beside the data."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nwb_sbtt.data.schema import infers_spikes
from nwb_sbtt.plot.selection import (
    Inferred,
    channel_label,
    channel_name,
    image_extent,
    inferred_values,
    peak_order,
    plotted_values,
    select_bins,
    select_channels,
    select_trials,
    standardise,
    thin,
    time_label,
    trial_title,
)
from nwb_sbtt.plot.style import BLUE, INK, PURPLE, RED, UNOBSERVED, WIDTH, image_height, row_of_axes, styled

TRUE_STYLE = (0, (4, 2))
"""Dashes of true rates."""
FEWEST_SPIKES = 0.1
"""Expected spikes in a bin from which on they are drawn."""


@styled
def rates_beside_data(data: xr.Dataset, latents: xr.Dataset, *, trial: int | None = None) -> Figure:
    """Draw one trial as observed and its inferred rates (and true rates, in simulations) in one colour scale.

    Channels are sorted by the time at which their inferred rate, or mean, peaks.

    Parameters
    ----------
    data, latents : Dataset
        Of the same trials, bins and channels.
    trial : int, optional
        Row of the trial; None selects a validation trial.

    Returns
    -------
    Figure

    Raises
    ------
    MismatchError
        If latents and data do not match.
    """
    inferred = inferred_values(data, latents)
    trial = int(select_trials(data, 1)[0]) if trial is None else trial
    channels, bins = select_channels(data), select_bins(data)
    mean = inferred.mean[trial, bins][:, channels]
    order = peak_order(mean)
    channels, mean = channels[order], mean[:, order]
    observed = data["observed"].values[trial, bins][:, channels]
    panels: list[tuple[str, Any]] = [
        ("observed", np.ma.MaskedArray(plotted_values(data)[trial, bins][:, channels], ~observed)),
        (f"inferred {inferred.name}", np.ma.MaskedArray(mean)),
    ]
    if "true_rates" in data:
        panels.append(("true rate", np.ma.MaskedArray(data["true_rates"].values[trial, bins][:, channels])))
    label = f"{inferred.name} ({inferred.unit})"
    norm: Normalize
    if inferred.is_counts:
        norm = PowerNorm(0.5, 0, max(float(np.quantile(mean, 0.995)), 1e-6))
        label += ", square-root scale"
    else:
        values, all_observed = data["values"].values[:, :, channels], data["observed"].values[:, :, channels]
        panels[:2] = [(name, standardise(image, values, all_observed)) for name, image in panels[:2]]
        if "rates" in latents:
            rates = latents["rates"].values[:, :, channels]
            panels.insert(2, ("inferred rate", _in_own_sds(rates[trial, bins], rates)))
        if infers_spikes(latents):
            spikes = latents["events"].values[:, :, channels]
            panels.insert(2, ("inferred spikes", _in_own_sds(spikes[trial, bins], spikes)))
        if "true_rates" in data:
            true = data["true_rates"].values[:, :, channels]
            panels[-1] = ("true rate", _in_own_sds(true[trial, bins], true))
        both = np.concatenate([image.compressed() for _, image in panels[:2]])
        limit = max(float(np.quantile(np.abs(both), 0.98)), 1e-6)
        norm, label = Normalize(-limit, limit), "SD from mean"
    figure = Figure(figsize=(WIDTH, image_height(len(channels))), layout="constrained")
    axes = row_of_axes(figure, len(panels))
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=UNOBSERVED)
    extent = image_extent(data, len(channels))
    for axis, (name, image) in zip(axes, panels, strict=True):
        picture = axis.imshow(image.T, cmap=colours, norm=norm, extent=extent, aspect="auto", interpolation="nearest")
        axis.set_title(name)
        axis.set_xlabel(time_label(data))
        axis.tick_params(length=2)
    axes[0].set_ylabel(f"{channel_label(data, len(channels))}, sorted by peak")
    extend = "max" if inferred.is_counts else "both"
    figure.colorbar(picture, ax=axes, fraction=0.03, pad=0.01, extend=extend).set_label(label)
    if not observed.all():
        figure.legend(handles=[Patch(facecolor=UNOBSERVED, label="missing")], loc="outside upper right")
    figure.suptitle(trial_title(data, trial), x=0.01, ha="left", fontsize=10)
    return figure


@styled
def channel_traces(data: xr.Dataset, latents: xr.Dataset, *, trial: int | None = None, channels: int = 6) -> Figure:
    """Draw single channels of one trial: observed values, inferred rate with posterior sd, and true rate if known.

    Parameters
    ----------
    data, latents : Dataset
        Of the same trials, bins and channels.
    trial : int, optional
        Row of the trial; None selects a validation trial.
    channels : int
        Number of channels. They are drawn from those observed in the trial whose inferred rates vary most.

    Returns
    -------
    Figure

    Raises
    ------
    MismatchError
        If latents and data do not match.
    """
    inferred = inferred_values(data, latents)
    trial = int(select_trials(data, 1)[0]) if trial is None else trial
    bins = select_bins(data)
    observed = np.flatnonzero(data["observed"].values[trial, bins].any(0))
    by_sd = observed[np.argsort(-inferred.mean[trial, bins][:, observed].std(0), kind="stable")]
    selected = np.sort(thin(by_sd[: max(channels, len(by_sd) // 2)], channels))
    n_columns = 1 if len(selected) == 1 else 2
    n_rows = -(-len(selected) // n_columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.6 * n_rows), layout="constrained")
    grid = np.asarray(figure.subplots(n_rows, n_columns, sharex=True, squeeze=False))
    for axis in grid.flat[len(selected) :]:
        axis.set_visible(False)
    for axis, channel in zip(grid.flat, selected, strict=False):
        _draw_channel(axis, data, inferred, trial=trial, channel=int(channel))
        if not inferred.is_counts:
            _draw_rates(axis, data, latents, trial=trial, channel=int(channel))
        if infers_spikes(latents):
            _draw_spikes(axis, data["time"].values[bins], latents["events"].values[trial, bins, channel])
    for axis in grid[-1]:
        axis.set_xlabel(time_label(data))
    figure.supylabel(f"{inferred.name} ({inferred.unit})", fontsize=10)
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        handles.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=5)
    return figure


def _draw_channel(axis: Axes, data: xr.Dataset, inferred: Inferred, *, trial: int, channel: int) -> None:
    bins = select_bins(data)
    time, half = data["time"].values[bins], float(data.attrs["bin_width"]) / 2
    observed = data["observed"].values[trial, bins, channel]
    mean = inferred.mean[trial, bins, channel].astype(float)
    for first, last in _runs(~observed):
        axis.axvspan(time[first] - half, time[last] + half, color=UNOBSERVED, lw=0, alpha=0.6, label="missing")
    if inferred.sd is not None:
        sd = inferred.sd[trial, bins, channel]
        lowest = 0.0 if inferred.is_counts else -np.inf
        axis.fill_between(
            time, np.maximum(mean - sd, lowest), mean + sd, color=BLUE, alpha=0.25, lw=0, label="± posterior SD"
        )
    if "true_rates" in data and inferred.is_counts:
        true = data["true_rates"].values[trial, bins, channel]
        axis.plot(time, true, color=INK, lw=1.2, ls=TRUE_STYLE, label="true rate")
    axis.plot(time, mean, color=BLUE, lw=1.8, label=f"inferred {inferred.name}")
    values = data["values"].values[trial, bins, channel]
    if inferred.is_counts:
        top = axis.get_ylim()[1]
        spikes = observed & (values > 0)
        axis.scatter(
            time[spikes], np.full(int(spikes.sum()), -0.08 * top), marker="|", s=30 * values[spikes], color=RED, lw=1.2,
            label="spikes (longer: more)",
        )  # fmt: skip
        axis.set_ylim(-0.18 * top, top)
    else:
        axis.plot(time[observed], values[observed], ".", color=RED, ms=3, label="observed")
    axis.set_xlim(time[0] - half, time[-1] + half)
    axis.set_title(f"{channel_name(data)} {data['channel_id'].values[channel]}", loc="left", fontsize=9, pad=2)


def _draw_rates(axis: Axes, data: xr.Dataset, latents: xr.Dataset, *, trial: int, channel: int) -> None:
    """Rates behind a signal, inferred or true, on an axis of their own [Hz]: a signal has another unit."""
    inferred, true = latents.get("rates"), data.get("true_rates")
    if inferred is None and true is None:
        return
    bins = select_bins(data)
    time, of_rates = data["time"].values[bins], axis.twinx()
    if inferred is not None:
        of_rates.plot(time, inferred.values[trial, bins, channel], color=INK, lw=1.0, label="inferred rate (Hz, right)")
    if true is not None:
        of_rates.plot(
            time, true.values[trial, bins, channel], color=INK, lw=1.2, ls=TRUE_STYLE, label="true rate (Hz, right)"
        )
    of_rates.set_ylim(bottom=0)
    of_rates.tick_params(labelsize=8)


def _draw_spikes(axis: Axes, time: NDArray[Any], spikes: NDArray[Any]) -> None:
    shown = spikes >= FEWEST_SPIKES
    colours = [(*to_rgb(PURPLE), min(1.0, number)) for number in spikes[shown].tolist()]
    place = axis.get_xaxis_transform()
    axis.vlines(time[shown], 0, 0.1, colors=colours, lw=1.5, transform=place)
    axis.vlines([], 0, 0.1, colors=PURPLE, lw=1.5, transform=place, label="inferred spikes (paler: less than one)")


def _in_own_sds(part: NDArray[Any], rates: NDArray[Any]) -> Any:
    """Rates in sd from their own mean: the data have another unit."""
    return standardise(np.ma.MaskedArray(part), rates, np.ones(rates.shape, dtype=bool))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))
