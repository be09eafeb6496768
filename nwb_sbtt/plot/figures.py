"""Figures of data, estimates, latents and training; each function gives a matplotlib Figure that a notebook can show.

No global state of matplotlib is changed. Colours can be told apart with any kind of colour vision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nwb_sbtt.plot.choice import (
    Estimate,
    by_peak,
    channel_axis,
    channel_name,
    estimate_of,
    extent,
    in_unit,
    shown_bins,
    shown_channels,
    shown_trials,
    spread,
    time_axis,
    trial_title,
)
from nwb_sbtt.plot.space import latent_space
from nwb_sbtt.plot.style import BLUE, GREY, INK, ORANGE, RED, SKY, UNOBSERVED, WIDTH, styled

__all__ = [
    "channel_scores",
    "channel_traces",
    "data_raster",
    "estimates_beside_data",
    "inferred_inputs",
    "latent_space",
    "loss_curves",
]


@styled
def data_raster(data: xr.Dataset, *, trials: int = 3) -> Figure:
    """Draw what was observed in some trials: a bin without a spike looks unlike a bin that nobody watched.

    Parameters
    ----------
    data : Dataset
        As `read_nwb` gives it.
    trials : int
        How many to draw, side by side.
    """
    rows = shown_trials(data, trials)
    channels, bins = shown_channels(data), shown_bins(data)
    counts = data.attrs.get("unit") == "counts"
    values, observed = data["values"].values, data["observed"].values
    part = np.ma.MaskedArray(values[rows][:, bins][:, :, channels], ~observed[rows][:, bins][:, :, channels])
    if not counts:
        part = _standardised(part, values[:, :, channels], observed[:, :, channels])
    figure = Figure(figsize=(WIDTH, _height(len(channels))), layout="constrained")
    axes = _row_of_axes(figure, len(rows))
    colours, norm = _data_colours(part, counts)
    for axis, trial, image in zip(axes, rows, part, strict=True):
        picture = axis.imshow(
            image.T, cmap=colours, norm=norm, extent=extent(data, len(channels)), aspect="auto", interpolation="nearest"
        )
        axis.set_title(trial_title(data, int(trial)))
        axis.set_xlabel(time_axis(data))
        axis.tick_params(length=2)
    axes[0].set_ylabel(channel_axis(data, len(channels)))
    bar = figure.colorbar(picture, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label("spikes in the bin" if counts else "SD from mean")
    if counts:
        bar.set_ticks(
            range(int(norm.vmax or 1) + 1), labels=[*map(str, range(int(norm.vmax or 1))), f"≥{norm.vmax:.0f}"]
        )
    patches = [Patch(facecolor=UNOBSERVED, label="not observed")] if np.ma.getmaskarray(part).any() else []
    if counts:
        patches.append(Patch(facecolor="white", edgecolor=GREY, label="observed, no spike"))
    figure.legend(handles=patches, loc="outside upper right", ncols=2)
    return figure


@styled
def estimates_beside_data(data: xr.Dataset, latents: xr.Dataset, *, trial: int | None = None) -> Figure:
    """Draw one trial as observed and as inferred (and as it truly was, in simulations), in one colour scale.

    Channels are sorted by when their estimate peaks.

    Parameters
    ----------
    data, latents : Dataset
        Of the same trials, bins and channels.
    trial : int, optional
        Row; None takes a validation trial.
    """
    estimate = estimate_of(data, latents)
    trial = int(shown_trials(data, 1)[0]) if trial is None else trial
    channels, bins = shown_channels(data), shown_bins(data)
    inferred = estimate.mean[trial, bins][:, channels]
    order = by_peak(inferred)
    channels, inferred = channels[order], inferred[:, order]
    seen = data["observed"].values[trial, bins][:, channels]
    panels: list[tuple[str, Any]] = [
        ("observed", np.ma.MaskedArray(in_unit(data)[trial, bins][:, channels], ~seen)),
        (f"inferred {estimate.name}", np.ma.MaskedArray(inferred)),
    ]
    if "true_rates" in data:
        panels.append(("true rate", np.ma.MaskedArray(data["true_rates"].values[trial, bins][:, channels])))
    label = f"{estimate.name} ({estimate.unit})"
    norm: Normalize
    if estimate.counts:
        norm = PowerNorm(0.5, 0, max(float(np.quantile(inferred, 0.995)), 1e-6))
        label += ", square-root scale"
    else:
        values, observed = data["values"].values[:, :, channels], data["observed"].values[:, :, channels]
        panels = [(name, _standardised(np.ma.MaskedArray(image), values, observed)) for name, image in panels]
        both = np.concatenate([image.compressed() for _, image in panels[:2]])
        limit = max(float(np.quantile(np.abs(both), 0.98)), 1e-6)
        norm, label = Normalize(-limit, limit), "SD from mean"
    figure = Figure(figsize=(WIDTH, _height(len(channels))), layout="constrained")
    axes = _row_of_axes(figure, len(panels))
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=UNOBSERVED)
    for axis, (name, image) in zip(axes, panels, strict=True):
        picture = axis.imshow(
            image.T, cmap=colours, norm=norm, extent=extent(data, len(channels)), aspect="auto", interpolation="nearest"
        )
        axis.set_title(name)
        axis.set_xlabel(time_axis(data))
        axis.tick_params(length=2)
    axes[0].set_ylabel(f"{channel_axis(data, len(channels))}, sorted by peak")
    figure.colorbar(picture, ax=axes, fraction=0.03, pad=0.01, extend="max" if estimate.counts else "both").set_label(
        label
    )
    if not seen.all():
        figure.legend(handles=[Patch(facecolor=UNOBSERVED, label="not observed")], loc="outside upper right")
    figure.suptitle(trial_title(data, trial), x=0.01, ha="left", fontsize=10)
    return figure


@styled
def channel_traces(data: xr.Dataset, latents: xr.Dataset, *, trial: int | None = None, channels: int = 6) -> Figure:
    """Draw single channels of one trial: what was observed, the estimate with its posterior, and the truth if known.

    Parameters
    ----------
    data, latents : Dataset
    trial : int, optional
        Row; None takes a validation trial.
    channels : int
        How many; those whose estimates vary most in the trial, among channels observed in it.
    """
    estimate = estimate_of(data, latents)
    trial = int(shown_trials(data, 1)[0]) if trial is None else trial
    bins = shown_bins(data)
    seen = np.flatnonzero(data["observed"].values[trial, bins].any(0))
    varied = seen[np.argsort(-estimate.mean[trial, bins][:, seen].std(0), kind="stable")]
    chosen = np.sort(spread(varied[: max(channels, len(varied) // 2)], channels))
    n_columns = 1 if len(chosen) == 1 else 2
    n_rows = -(-len(chosen) // n_columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.6 * n_rows), layout="constrained")
    grid = np.asarray(figure.subplots(n_rows, n_columns, sharex=True, squeeze=False))
    for axis in grid.flat[len(chosen) :]:
        axis.set_visible(False)
    for axis, channel in zip(grid.flat, chosen, strict=False):
        _trace(axis, data, estimate, trial=trial, channel=int(channel))
    for axis in grid[-1]:
        axis.set_xlabel(time_axis(data))
    figure.supylabel(f"{estimate.name} ({estimate.unit})", fontsize=10)
    handles: dict[str, Any] = {}
    for axis in grid.flat:
        handles.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=5)
    return figure


@styled
def inferred_inputs(latents: xr.Dataset, *, trials: int = 30) -> Figure:
    """Draw the inputs that the controller inferred: single trials and their mean.

    Parameters
    ----------
    latents : Dataset
        With ``inputs``.
    trials : int
        How many single trials.
    """
    inputs = latents["inputs"].values[:, shown_bins(latents)]
    time = latents["time"].values[shown_bins(latents)]
    shown = min(inputs.shape[2], 6)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.3 * shown), layout="constrained")
    axes = np.asarray(figure.subplots(shown, 1, sharex=True, squeeze=False))[:, 0]
    for i, axis in enumerate(axes):
        axis.axhline(0, color=GREY, lw=0.6)
        for trial in spread(np.arange(len(inputs)), trials):
            axis.plot(time, inputs[trial, :, i], color=SKY, lw=0.6, alpha=0.6)
        axis.plot(time, inputs[:, :, i].mean(0), color=BLUE, lw=1.8)
        axis.set_ylabel(f"input {i + 1}")
    axes[-1].set_xlabel(time_axis(latents))
    return figure


@styled
def loss_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw training and validation loss over epochs, with the best epoch marked.

    Parameters
    ----------
    history : sequence of mapping
        ``epoch``, ``train_loss`` and ``valid_loss`` of each epoch, as `Fitted.history` gives them.
    """
    figure = Figure(figsize=(WIDTH * 0.6, 3.0), layout="constrained")
    axis = figure.subplots()
    epochs = [entry["epoch"] for entry in history]
    marker = "o" if len(history) < 3 else ""
    train, valid = ([entry[name] for entry in history] for name in ("train_loss", "valid_loss"))
    axis.plot(epochs, train, color=ORANGE, lw=1.4, marker=marker, label="training")
    axis.plot(epochs, valid, color=BLUE, lw=1.6, marker=marker, label="validation, hidden entries")
    best = int(np.argmin(valid))
    axis.plot(epochs[best], valid[best], "o", color=RED, ms=7, label=f"best: epoch {epochs[best]:g}")
    # The first epochs are far off and would flatten the rest.
    late = np.concatenate([train[len(train) // 20 :], valid[len(valid) // 20 :]])
    room = 0.08 * max(float(np.ptp(late)), 1e-6)
    axis.set_ylim(float(late.min()) - room, float(late.max()) + room)
    axis.set_xlabel("epoch")
    axis.set_ylabel("nats per scored entry")
    axis.legend()
    return figure


@styled
def channel_scores(metrics: Mapping[str, Any], *, baseline: str = "masked_smoothing") -> Figure:
    """Draw each channel's score against that of a baseline; above the diagonal the model is better.

    A dot's area follows the number of scored spikes (or entries): small dots are uncertain.

    Parameters
    ----------
    metrics : mapping
        As `evaluate_latents` gives them.
    baseline : str
        Key of ``metrics["scores"]``.
    """
    table = metrics["by_channel"]
    weight = "spikes" if "spikes" in table else "entries"
    columns = zip(table[baseline], table["model"], table[weight], strict=True)
    rows = [row for row in columns if row[0] is not None and row[1] is not None]
    points = np.array(rows, dtype=float).reshape(-1, 3)
    figure = Figure(figsize=(WIDTH * 0.42, WIDTH * 0.42), layout="constrained")
    axis = figure.subplots()
    low, high = (float(x) for x in (points[:, :2].min(initial=-0.05), points[:, :2].max(initial=0.05)))
    room = 0.05 * (high - low)
    axis.plot([low - room, high + room], [low - room, high + room], color=GREY, lw=0.8)
    axis.axhline(0, color=GREY, lw=0.4)
    axis.axvline(0, color=GREY, lw=0.4)
    area = np.clip(60 * points[:, 2] / max(points[:, 2].max(initial=0), 1), 5, 60)
    axis.scatter(points[:, 0], points[:, 1], s=area, color=BLUE, alpha=0.7, lw=0)
    axis.set_xlim(low - room, high + room)
    axis.set_ylim(low - room, high + room)
    axis.set_aspect("equal")
    better = int((points[:, 1] > points[:, 0]).sum())
    axis.set_title(f"model better on {better} of {len(points)} channels", loc="left")
    axis.set_xlabel(f"{baseline.replace('_', ' ')} ({metrics['metric']})")
    axis.set_ylabel(f"model ({metrics['metric']})")
    return figure


def _trace(axis: Axes, data: xr.Dataset, estimate: Estimate, *, trial: int, channel: int) -> None:
    bins = shown_bins(data)
    time, half = data["time"].values[bins], float(data.attrs["bin_width"]) / 2
    seen = data["observed"].values[trial, bins, channel]
    mean = estimate.mean[trial, bins, channel].astype(float)
    for left, right in _runs(~seen):
        axis.axvspan(time[left] - half, time[right] + half, color=UNOBSERVED, lw=0, alpha=0.6, label="not observed")
    if estimate.sd is not None:
        sd = estimate.sd[trial, bins, channel]
        lowest = 0.0 if estimate.counts else -np.inf
        axis.fill_between(
            time, np.maximum(mean - sd, lowest), mean + sd, color=BLUE, alpha=0.25, lw=0, label="posterior ± SD"
        )
    if "true_rates" in data:
        axis.plot(
            time, data["true_rates"].values[trial, bins, channel], color=INK, lw=1.2, ls=(0, (4, 2)), label="truth"
        )
    axis.plot(time, mean, color=BLUE, lw=1.8, label=f"inferred {estimate.name}")
    values = data["values"].values[trial, bins, channel]
    if estimate.counts:
        top = axis.get_ylim()[1]
        spikes = seen & (values > 0)
        axis.scatter(
            time[spikes], np.full(int(spikes.sum()), -0.08 * top), marker="|", s=30 * values[spikes], color=RED, lw=1.2,
            label="spikes (longer: more)",
        )  # fmt: skip
        axis.set_ylim(-0.18 * top, top)
    else:
        axis.plot(time[seen], values[seen], ".", color=RED, ms=3, label="observed")
    axis.set_xlim(time[0] - half, time[-1] + half)
    axis.set_title(f"{channel_name(data)} {data['channel_id'].values[channel]}", loc="left", fontsize=9, pad=2)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last place of each run of True."""
    edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))


def _data_colours(part: NDArray[Any], counts: bool) -> tuple[Any, Normalize]:
    if not counts:
        limit = max(float(np.ma.abs(part).max()), 1e-6)
        return matplotlib.colormaps["viridis"].with_extremes(bad=UNOBSERVED), Normalize(-min(limit, 4), min(limit, 4))
    most = int(np.clip(part.max(), 1, 6))
    shades = matplotlib.colormaps["inferno_r"](np.linspace(0.3, 1, most))
    return ListedColormap(np.vstack([[1, 1, 1, 1], shades]), bad=UNOBSERVED), Normalize(-0.5, most + 0.5)


def _standardised(part: Any, values: NDArray[Any], observed: NDArray[np.bool_]) -> Any:
    """In standard deviations from each channel's mean over all that was observed."""
    n = np.maximum(observed.sum((0, 1)), 1)
    mean = np.where(observed, values, 0).sum((0, 1), dtype=float) / n
    sd = np.sqrt(np.where(observed, (values - mean) ** 2, 0).sum((0, 1)) / n)
    return (part - mean) / np.where(sd > 0, sd, 1)


def _row_of_axes(figure: Figure, n: int) -> list[Axes]:
    return list(np.asarray(figure.subplots(1, n, sharey=True, squeeze=False))[0])


def _height(n_channels: int) -> float:
    return float(np.clip(1.5 + 0.06 * n_channels, 2.6, 5.5))
