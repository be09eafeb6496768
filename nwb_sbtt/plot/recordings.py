"""Figures of recordings: observed values, and which entries are missing."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nwb_sbtt.plot.selection import (
    channel_label,
    image_extent,
    select_bins,
    select_channels,
    select_trials,
    standardise,
    time_label,
    trial_title,
)
from nwb_sbtt.plot.style import GREY, UNOBSERVED, WIDTH, image_height, row_of_axes, styled


@styled
def data_raster(data: xr.Dataset, *, trials: int = 3) -> Figure:
    """Draw the observed values of some trials; missing entries have a colour that no observed value has.

    Parameters
    ----------
    data : Dataset
        From `read_nwb`.
    trials : int
        Number of trials, side by side.

    Returns
    -------
    Figure
    """
    rows = select_trials(data, trials)
    channels, bins = select_channels(data), select_bins(data)
    is_counts = data.attrs.get("unit") == "counts"
    values, observed = data["values"].values, data["observed"].values
    part = np.ma.MaskedArray(values[rows][:, bins][:, :, channels], ~observed[rows][:, bins][:, :, channels])
    if not is_counts:
        part = standardise(part, values[:, :, channels], observed[:, :, channels])
    figure = Figure(figsize=(WIDTH, image_height(len(channels))), layout="constrained")
    axes = row_of_axes(figure, len(rows))
    colours, norm = _colours(part, is_counts)
    extent = image_extent(data, len(channels))
    for axis, trial, image in zip(axes, rows, part, strict=True):
        picture = axis.imshow(image.T, cmap=colours, norm=norm, extent=extent, aspect="auto", interpolation="nearest")
        axis.set_title(trial_title(data, int(trial)))
        axis.set_xlabel(time_label(data))
        axis.tick_params(length=2)
    axes[0].set_ylabel(channel_label(data, len(channels)))
    bar = figure.colorbar(picture, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label("spikes per bin" if is_counts else "SD from mean")
    if is_counts:
        largest = int(norm.vmax or 1)
        bar.set_ticks(range(largest + 1), labels=[*map(str, range(largest)), f"≥{norm.vmax:.0f}"])
    patches = [Patch(facecolor=UNOBSERVED, label="missing")] if np.ma.getmaskarray(part).any() else []
    if is_counts:
        patches.append(Patch(facecolor="white", edgecolor=GREY, label="observed, no spike"))
    figure.legend(handles=patches, loc="outside upper right", ncols=2)
    return figure


def _colours(part: NDArray[Any], is_counts: bool) -> tuple[Any, Normalize]:
    """Colour map and scale; white is a count of 0."""
    if not is_counts:
        limit = max(float(np.ma.abs(part).max()), 1e-6)
        return matplotlib.colormaps["viridis"].with_extremes(bad=UNOBSERVED), Normalize(-min(limit, 4), min(limit, 4))
    largest = int(np.clip(part.max(), 1, 6))
    shades = matplotlib.colormaps["inferno_r"](np.linspace(0.3, 1, largest))
    colours = ListedColormap(np.vstack([[1, 1, 1, 1], shades])).with_extremes(bad=UNOBSERVED)
    return colours, Normalize(-0.5, largest + 0.5)
