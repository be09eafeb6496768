"""Figures of the report: pictures of `plot`, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nwb_sbtt import plot
from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.errors import ConfigError, FileError
from nwb_sbtt.plot.colours import colours_by, default_column
from nwb_sbtt.plot.images import add_mask_key, images_of
from nwb_sbtt.plot.selection import Pair, liveliest, select_trials, trial_ids
from nwb_sbtt.plot.style import BLUE, ORANGE, WIDTH, image_height, row_of_axes, styled, theme

MAX_COMPONENTS, MAX_INPUTS, MAX_PSTHS = 3, 6, 6
DOTS = 150
"""Per inch, of pictures that are saved on their own."""
Floats = NDArray[np.float64]


@styled
def masks(data: xr.Dataset) -> Figure:
    """Draw what was observed in three trials.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    Figure
    """
    rows = select_trials(data, 3)
    figure = _figure(WIDTH, image_height(min(data.sizes["channel"], 120)))
    axes = row_of_axes(figure, len(rows))
    for ax, row in zip(axes, rows, strict=True):
        plot.mask(data, trial=trial_ids(data)[row].item(), key=False, ax=ax)
        _inner(ax, axes)
    if patches := add_mask_key(axes, axes[-1].images[0], data):
        figure.legend(handles=patches, loc="outside upper right", ncols=2)
    return figure


@styled
def rates(data: xr.Dataset, latents: xr.Dataset) -> Figure:
    """Draw a trial as observed, as inferred, and as it truly was where that is known.

    Parameters
    ----------
    data, latents : Dataset

    Returns
    -------
    Figure
    """
    images = images_of(Pair(data, latents))
    figure = _figure(WIDTH, image_height(len(images.channels)))
    axes = row_of_axes(figure, len(images.panels))
    for ax, of in zip(axes, images.panels, strict=True):
        plot.rates(data, latents, of=of, trial=trial_ids(data)[images.row].item(), key=False, ax=ax)
        ax.set_title(images.title(of), loc="left")
        _inner(ax, axes)
    bar = figure.colorbar(axes[-1].images[0], ax=axes, fraction=0.03, pad=0.01, extend=images.extend)
    bar.set_label(images.label)
    if not data["observed"].values[images.row].all():
        figure.legend(handles=[Patch(facecolor=theme().missing, label="missing")], loc="outside upper right")
    return figure


@styled
def traces(data: xr.Dataset, latents: xr.Dataset) -> Figure:
    """Draw channels of a trial.

    Parameters
    ----------
    data, latents : Dataset

    Returns
    -------
    Figure
    """
    n = min(6, data.sizes["channel"])
    figure = _figure(WIDTH * 0.85, 0.9 + 0.8 * n)
    plot.traces(data, latents, ax=figure.add_subplot())
    return figure


@styled
def calcium(data: xr.Dataset, latents: xr.Dataset) -> Figure:
    """Draw one ROI.

    Parameters
    ----------
    data, latents : Dataset

    Returns
    -------
    Figure
    """
    figure = _figure(WIDTH * 0.85, 4.0)
    plot.calcium(data, latents, ax=figure.add_subplot())
    return figure


@styled
def psths(data: xr.Dataset, latents: xr.Dataset, *, by: str | None) -> Figure:
    """Draw averages of six channels over the trials of each condition.

    Parameters
    ----------
    data, latents : Dataset
    by : str or None
        Column of trials.

    Returns
    -------
    Figure
    """
    name = "mean" if "mean" in latents else "rates"
    channels = liveliest(data, latents[name].values, MAX_PSTHS)
    columns = min(3, len(channels))
    n_rows = -(-len(channels) // columns)
    figure = _figure(WIDTH, 0.6 + 2.1 * n_rows)
    grid = np.asarray(figure.subplots(n_rows, columns, sharex=True, squeeze=False))
    for ax in grid.flat[len(channels) :]:
        ax.set_visible(False)
    shown = list(grid.flat[: len(channels)])
    for i, (ax, channel) in enumerate(zip(shown, channels, strict=True)):
        # Not by its id, which bands of an electrode share.
        plot.psth(data.isel(channel=[channel]), latents.isel(channel=[channel]), by=by, ax=ax)
        ax.set_title("", loc="right")
        ax.set_ylabel(ax.get_ylabel() if i % columns == 0 else "")
        ax.set_xlabel(ax.get_xlabel() if i + columns >= len(channels) else "")
        if (legend := ax.get_legend()) is not None:
            handles, labels, title = (
                legend.legend_handles,
                [text.get_text() for text in legend.texts],
                legend.get_title(),
            )
            legend.remove()
            if i == len(shown) - 1:
                figure.legend(handles, labels, title=title.get_text(), loc="outside right upper", handlelength=1.2)
    return figure


@styled
def latent_space(latents: xr.Dataset, data: xr.Dataset, *, color_by: str | None) -> Figure:
    """Draw the factors; of a simulation, latents decoded from them (left) beside the true ones (right).

    Parameters
    ----------
    latents, data : Dataset
    color_by : str or None
        Column of trials.

    Returns
    -------
    Figure
    """
    if "true_latents" not in data:
        deep = min(3, latents.sizes["factor"]) == 3
        figure = _figure(WIDTH * 0.72, 4.6)
        plot.latents(latents, color_by=color_by, ax=figure.add_subplot(projection="3d" if deep else None))
        return figure
    projection = "3d" if data["true_latents"].shape[2] >= 3 else None
    figure = _figure(WIDTH, 4.0)
    left, right = (figure.add_subplot(1, 2, i, projection=projection) for i in (1, 2))
    plot.latents(latents, truth=data, color_by=color_by, key=False, ax=left)
    plot.true_latents(data, color_by=color_by, ax=right)
    return figure


@styled
def inputs(latents: xr.Dataset, *, color_by: str | None) -> Figure:
    """Draw up to six inferred inputs.

    Parameters
    ----------
    latents : Dataset
    color_by : str or None
        Column of trials.

    Returns
    -------
    Figure
    """
    n = min(latents.sizes["input"], MAX_INPUTS)
    column = color_by if color_by is not None and colours_by(latents, color_by).groups else None
    figure = _figure(WIDTH, 0.6 + 1.4 * n)
    axes = list(np.asarray(figure.subplots(n, 1, sharex=True, squeeze=False))[:, 0])
    for i, ax in enumerate(axes):
        plot.inputs(latents, number=i + 1, color_by=column, ax=ax)
        if ax is not axes[-1]:
            ax.set_xlabel("")
        if i and (legend := ax.get_legend()) is not None:
            legend.remove()
    return figure


@styled
def flow_field(flow: xr.Dataset, points: xr.Dataset) -> Figure:
    """Draw the flow of a learned system, with its fixed points.

    Parameters
    ----------
    flow, points : Dataset
        From `nwb_sbtt.dynamics.flow_field` and `nwb_sbtt.dynamics.fixed_points`.

    Returns
    -------
    Figure
    """
    figure = _figure(WIDTH * 0.8, WIDTH * 0.5)
    plot.flow_field(flow, points, ax=figure.add_subplot())
    return figure


@styled
def forecast_errors(errors: xr.Dataset) -> Figure:
    """Draw errors of forecasts by horizon; against what is inferred (left) and the true rates (right), where these are known.

    Parameters
    ----------
    errors : Dataset
        From `nwb_sbtt.dynamics.forecast_error`.

    Returns
    -------
    Figure
    """
    truths = errors["truth"].values.tolist()
    figure = _figure(WIDTH * (0.6 if len(truths) == 1 else 1.0), 3.2)
    axes = row_of_axes(figure, len(truths))
    for ax, truth in zip(axes, truths, strict=True):
        plot.forecast_error(errors, truth=truth, ax=ax)
        _inner(ax, axes)
        if ax is not axes[-1] and (legend := ax.get_legend()) is not None:
            legend.remove()
    return figure


@styled
def factors_across_sessions(
    reference: Floats, as_fitted: Floats | None, aligned: Floats, *, conditions: tuple[str, ...], time: Floats
) -> Figure:
    """Draw condition averages of a session's factors over those of the reference: as fitted (left) and aligned (right).

    Parameters
    ----------
    reference, aligned : array (condition, time, factor)
    as_fitted : array (condition, time, factor) or None
        None where the session has another number of factors.
    conditions : tuple of str
    time : array (time)
        Seconds.

    Returns
    -------
    Figure
    """
    n = min(MAX_COMPONENTS, reference.shape[2], reference.shape[0] * reference.shape[1])
    panels = [(as_fitted, "as fitted", ORANGE)] if as_fitted is not None else []
    panels.append((aligned, "aligned", BLUE))
    figure = _figure(WIDTH, 0.8 + 1.3 * n)
    grid = np.asarray(figure.subplots(n, len(panels), sharex=True, sharey="row", squeeze=False))
    for j, (courses, title, colour) in enumerate(panels):
        for i in range(n):
            ax = grid[i, j]
            plot.condition_courses(
                reference, courses, conditions=conditions, time=time, component=i + 1, color=colour, ax=ax
            )
            ax.set_ylabel(ax.get_ylabel() if j == 0 else "")
            ax.set_xlabel(ax.get_xlabel() if i == n - 1 else "")
        grid[0, j].set_title(title, loc="left")
    return figure


@styled
def decodings(decoded: Sequence[xr.Dataset], *, color_by: str | None = None) -> Figure:
    """Draw behaviours as measured and as decoded, one above the other.

    Parameters
    ----------
    decoded : sequence of Dataset
    color_by : str, optional
        Column of trials.

    Returns
    -------
    Figure
    """
    heights = [
        1.2 + 1.1 * min(4, ds.sizes["column"]) if "time" in ds["decoded"].dims else WIDTH * 0.45 for ds in decoded
    ]
    figure = _figure(WIDTH, sum(heights))
    axes = np.asarray(figure.subplots(len(decoded), 1, squeeze=False, gridspec_kw={"height_ratios": heights}))[:, 0]
    for ds, ax in zip(decoded, axes, strict=True):
        plot.decoding(ds, color_by=color_by, ax=ax)
    return figure


@styled
def channel_scores(metrics: Mapping[str, Any]) -> Figure:
    """Draw the scores of channels against those of masked smoothing.

    Parameters
    ----------
    metrics : mapping

    Returns
    -------
    Figure
    """
    figure = _figure(WIDTH * 0.45, WIDTH * 0.45)
    plot.scores(metrics, against="masked_smoothing", ax=figure.add_subplot())
    return figure


@styled
def training(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw losses over epochs.

    Parameters
    ----------
    history : sequence of mapping

    Returns
    -------
    Figure
    """
    figure = _figure(WIDTH * 0.6, 3.0)
    plot.training(history, ax=figure.add_subplot())
    return figure


def check_picture(path: Path) -> None:
    """Refuse a picture that cannot be saved.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ConfigError
        If matplotlib writes no such files.
    FileError
        If its folder does not exist.
    """
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        raise ConfigError(f"cannot draw {str(path)!r}; expected a name that ends in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise FileError(f"the folder {str(path.absolute().parent)!r} of the picture does not exist; create it first")


def save_picture(figure: Figure, path: Path) -> None:
    """Save a figure, in one step.

    Parameters
    ----------
    figure : Figure
    path : Path
        Replaced if it exists; see `check_picture`.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    with atomic_write(path.absolute(), suffix=path.suffix) as temporary:
        figure.savefig(temporary, dpi=DOTS)


def column_of(data: xr.Dataset, color_by: str | None) -> str | None:
    """Resolve the column that trials are coloured by.

    Parameters
    ----------
    data : Dataset
    color_by : str or None
        None takes ``condition`` where there is one.

    Returns
    -------
    str or None

    Raises
    ------
    SelectionError
        If trials have no such column.
    """
    return default_column(data) if color_by is None else colours_by(data, color_by).column


def _figure(width: float, height: float) -> Figure:
    """A figure without a window, whatever else the process draws."""
    return Figure(figsize=(width, height), layout="constrained")


def _inner(ax: Axes, axes: Sequence[Axes]) -> None:
    """Leave out of inner panels what the first one says."""
    if ax is not axes[0]:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)
