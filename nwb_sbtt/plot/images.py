"""Images of one trial, time by channel: observed values with what is missing, and rates beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, PowerNorm, to_rgba
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nwb_sbtt.data.schema import infers_spikes
from nwb_sbtt.errors import DataError
from nwb_sbtt.plot.selection import (
    Pair,
    Source,
    channel_label,
    data_of,
    image_extent,
    label_ids,
    pair_of,
    peak_order,
    plotted_values,
    select_bins,
    select_channels,
    standardise,
    time_label,
    trial_row,
    trial_title,
)
from nwb_sbtt.plot.style import WIDTH, axes_of, image_height, picture, theme

Of = Literal["inferred", "observed", "spikes", "rates", "true"]
TITLES: dict[Of, str] = {"spikes": "inferred spikes", "rates": "inferred rate", "true": "true rate"}


@picture
def mask(
    source: Source,
    *,
    trial: int | str | None = None,
    session: str | None = None,
    key: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw what was observed in a trial; missing entries have a colour that no observed value has.

    Parameters
    ----------
    source : Dataset or Fitted
        Data from `read_nwb`; of a fit, its own data are read again.
    trial : int or str, optional
        Id of the trial; by default one of validation.
    session : str, optional
        Fitted session, of a fit of several.
    key : bool
        Whether colours are explained.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If anything but data comes.
    SelectionError
        If there is no such trial.
    """
    data = data_of(source, session)
    row, channels, bins = trial_row(data, trial), select_channels(data), select_bins(data)
    is_counts = data.attrs.get("unit") == "counts"
    values, observed = data["values"].values, data["observed"].values
    image = np.ma.MaskedArray(values[row, bins][:, channels], ~observed[row, bins][:, channels])
    if not is_counts:
        image = standardise(image, values[:, :, channels], observed[:, :, channels])
    ax = axes_of(ax, (WIDTH * 0.62, image_height(len(channels))))
    colours, norm = _colours(values[:, :, channels], is_counts)
    drawn = _draw(ax, data, image, channels, norm=norm, colours=colours)
    ax.set_title(trial_title(data, row), loc="left")
    ax.set_ylabel(channel_label(data, len(channels)))
    if key and (patches := add_mask_key(ax, drawn, data)):
        ax.legend(handles=patches, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
    return ax


def add_mask_key(ax: Any, drawn: AxesImage, data: xr.Dataset) -> list[Patch]:
    """Add the colour bar of `mask`, and return what a legend of its other colours holds.

    Parameters
    ----------
    ax : axes or list of axes
        That the colour bar stands beside.
    drawn : AxesImage
        Image of one of them.
    data : Dataset

    Returns
    -------
    list of Patch
        With labels.
    """
    is_counts = data.attrs.get("unit") == "counts"
    bar = drawn.axes.figure.colorbar(drawn, ax=ax, fraction=0.03, pad=0.01)
    bar.set_label("spikes per bin" if is_counts else "SD from mean")
    if is_counts:
        largest = round(drawn.get_clim()[1] or 0.5)
        bar.set_ticks(range(largest + 1), labels=[*map(str, range(largest)), f"≥{largest}"])
    patches = [] if data["observed"].values.all() else [Patch(facecolor=theme().missing, label="missing")]
    if is_counts:
        patches.append(Patch(facecolor=theme().paper, edgecolor=theme().grey, label="observed, no spike"))
    return patches


@picture
def rates(
    source: Source,
    latents: xr.Dataset | None = None,
    *,
    of: Of = "inferred",
    trial: int | str | None = None,
    session: str | None = None,
    key: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the inferred rates (or means of signals) of a trial, with channels sorted by when theirs peak.

    Parameters
    ----------
    source : Dataset or Fitted
        Data, or latents alone, also those of a forecast; a fit reads its data again and infers them.
    latents : Dataset, optional
        What was inferred from the data.
    of : "inferred", "observed", "spikes", "rates" or "true"
        What is drawn, in the scale and order of what was inferred: also the observed values, the spikes and rates that a
        ladder infers from fluorescence, or the true rates of a simulation.
    trial : int or str, optional
        Id of the trial; by default one of validation.
    session : str, optional
        Fitted session, of a fit of several.
    key : bool
        Whether a colour bar explains the scale.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If nothing was inferred, or what `of` names is not there.
    MismatchError
        If latents and data do not match.
    SelectionError
        If there is no such trial.
    """
    pair = pair_of(source, latents, session)
    images = images_of(pair, trial)
    if of not in images.panels:
        raise DataError(f"of={of!r} is not in these data; choose one of {', '.join(images.panels)}")
    ax = axes_of(ax, (WIDTH * 0.62, image_height(len(images.channels))))
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=theme().missing)
    drawn = _draw(ax, pair.base, images.panels[of], images.channels, norm=images.norm, colours=colours)
    title = f"forecast {images.name}" if pair.verb == "forecast" else images.title(of)
    ax.set_title(f"{title}, {trial_title(pair.base, images.row)}", loc="left")
    ax.set_ylabel(f"{channel_label(pair.base, len(images.channels))}, by time of peak")
    if key:
        add_rates_key(ax, drawn, images)
    return ax


def add_rates_key(ax: Any, drawn: AxesImage, images: Images) -> None:
    """Explain the colours of `rates`.

    Parameters
    ----------
    ax : axes or list of axes
        That the colour bar stands beside.
    drawn : AxesImage
    images : Images
    """
    first = ax[0] if isinstance(ax, list) else ax
    first.figure.colorbar(drawn, ax=ax, fraction=0.03, pad=0.01, extend=images.extend).set_label(images.label)


@dataclass(frozen=True)
class Images:
    """What was observed and inferred of a trial, in one scale and order.

    Parameters
    ----------
    row : int
        Of the trial.
    channels : int array (channel)
        Rows, sorted by the time of their peak.
    panels : mapping of what to masked array (time, channel)
    norm : Normalize
    label : str
        Of the scale.
    extend : "max" or "both"
        Where values may lie outside the scale.
    name : "rate" or "mean"
    """

    row: int
    channels: NDArray[np.intp]
    panels: dict[Of, Any]
    norm: Normalize
    label: str
    extend: Literal["max", "both"]
    name: str

    def title(self, of: Of) -> str:
        """Name a panel.

        Parameters
        ----------
        of : str
        """
        return TITLES.get(of, "observed" if of == "observed" else f"inferred {self.name}")


def images_of(pair: Pair, trial: int | str | None = None) -> Images:
    """Put what is known of a trial in one scale.

    Parameters
    ----------
    pair : Pair
    trial : int, str or None
        Id; None takes a validation trial.

    Returns
    -------
    Images

    Raises
    ------
    DataError
        If nothing was inferred.
    SelectionError
        If there is no such trial.
    """
    inferred, base, latents = pair.inferred(), pair.base, pair.latents
    assert latents is not None
    row, channels, bins = trial_row(base, trial), select_channels(base), select_bins(base)
    mean = inferred.mean[row, bins][:, channels]
    order = peak_order(mean)
    channels, mean = channels[order], mean[:, order]
    panels: dict[Of, Any] = {}
    if pair.data is not None:
        observed = pair.data["observed"].values[row, bins][:, channels]
        panels["observed"] = np.ma.MaskedArray(plotted_values(pair.data)[row, bins][:, channels], ~observed)
    panels["inferred"] = np.ma.MaskedArray(mean)
    true = (
        None if pair.data is None or "true_rates" not in pair.data else pair.data["true_rates"].values[:, :, channels]
    )
    if inferred.is_counts:
        if true is not None:
            panels["true"] = np.ma.MaskedArray(true[row, bins])
        norm: Normalize = PowerNorm(0.5, 0, max(float(np.quantile(mean, 0.995)), 1e-6))
        label = f"{inferred.name} ({inferred.unit}), square-root scale"
        return Images(row, channels, panels, norm, label, "max", inferred.name)
    values = inferred.mean if pair.data is None else pair.data["values"].values
    measured = np.ones(values.shape, dtype=bool) if pair.data is None else base["observed"].values
    for name in panels:
        panels[name] = standardise(panels[name], values[:, :, channels], measured[:, :, channels])
    both = np.concatenate([image.compressed() for image in panels.values()])
    others: tuple[tuple[Of, str], ...] = (("spikes", "events" if infers_spikes(latents) else ""), ("rates", "rates"))
    for of, variable in others:
        if variable in latents:
            panels[of] = _in_own_sds(
                latents[variable].values[row, bins][:, channels], latents[variable].values[:, :, channels]
            )
    if true is not None:
        panels["true"] = _in_own_sds(true[row, bins], true)
    limit = max(float(np.quantile(np.abs(both), 0.98)), 1e-6)
    return Images(row, channels, panels, Normalize(-limit, limit), "SD from mean", "both", inferred.name)


def _draw(
    ax: Axes, base: xr.Dataset, image: Any, channels: NDArray[np.intp], *, norm: Normalize, colours: Any
) -> AxesImage:
    extent = image_extent(base, len(channels))
    drawn = ax.imshow(image.T, cmap=colours, norm=norm, extent=extent, aspect="auto", interpolation="nearest")
    ax.set_xlabel(time_label(base))
    ax.tick_params(length=2)
    label_ids(ax, base["channel_id"].values[channels])
    return drawn


def _colours(values: NDArray[np.floating], is_counts: bool) -> tuple[Any, Normalize]:
    """Colour map and scale, the same in all trials; a count of 0 has the colour of the paper."""
    if not is_counts:
        return matplotlib.colormaps["viridis"].with_extremes(bad=theme().missing), Normalize(-3, 3)
    largest = int(np.clip(values.max(), 1, 6))
    shades = matplotlib.colormaps[theme().counts](np.linspace(0.3, 1, largest))
    colours = ListedColormap(np.vstack([to_rgba(theme().paper), shades])).with_extremes(bad=theme().missing)
    return colours, Normalize(-0.5, largest + 0.5)


def _in_own_sds(part: NDArray[Any], rates: NDArray[Any]) -> Any:
    """Rates in sd from their own mean: the data have another unit."""
    return standardise(np.ma.MaskedArray(part), rates, np.ones(rates.shape, dtype=bool))
