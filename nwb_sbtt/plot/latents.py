"""Figures of latents: trajectories of factors, and inferred inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from numpy.typing import NDArray

from nwb_sbtt.plot.selection import select_bins, thin, time_label
from nwb_sbtt.plot.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, WIDTH, styled

MAX_TRIALS = 50
MAX_POINTS = 40_000
MAX_INPUTS = 6
CONDITION_COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
Floats = NDArray[np.float64]


@styled
def latent_space(latents: xr.Dataset, *, truth: xr.Dataset | None = None) -> Figure:
    """Draw the factors of up to 50 trials in the space of their first three principal components.

    Colour is the condition, if trials have a coordinate ``condition`` with up to six values, and else time within the trial.
    In simulations, the true latents (right) are drawn beside those decoded linearly from the factors (left).

    Parameters
    ----------
    latents : Dataset
        With ``factors``.
    truth : Dataset, optional
        With ``true_latents`` of the same trials; None, or a Dataset without, draws the factors alone.

    Returns
    -------
    Figure
    """
    factors = latents["factors"].values.astype(np.float64)
    trials = thin(np.arange(len(factors)), MAX_TRIALS)
    panels: list[tuple[str, Floats, Floats | None]]
    if truth is not None and "true_latents" in truth:
        true = truth["true_latents"].values.astype(np.float64)
        panels = [("latents decoded from the factors", _decode(factors, true), None), ("true latents", true, None)]
    else:
        components, shares = principal_components(factors)
        panels = [(f"factors, first {components.shape[2]} principal components", components, shares)]
    width, bar = (WIDTH, 0.9) if len(panels) > 1 else (WIDTH * 0.62, 0.84)
    figure = Figure(figsize=(width, 4.4))
    colours, key = _colours(latents, trials)
    for i, (title, paths, share) in enumerate(panels):
        in_3d = paths.shape[2] >= 3
        left, panel_width = i * bar / len(panels), bar / len(panels)
        bounds = (left, 0.02, panel_width, 0.9) if in_3d else (left + 0.1, 0.14, panel_width - 0.13, 0.76)
        axis: Any = figure.add_axes(bounds, projection="3d" if in_3d else None)
        step = max(1, len(trials) * paths.shape[1] // MAX_POINTS)
        for trial in trials:
            _add_path(axis, paths[trial, ::step], colours(int(trial), paths.shape[1])[::step])
        axis.set_title(title, y=0.98)
        _label_axes(axis, paths[trials], share)
    scale = figure.colorbar(key.scale, cax=figure.add_axes((bar + 0.01, 0.25, 0.14 / width, 0.5)), label=key.label)
    if key.names:
        scale.set_ticks(range(len(key.names)), labels=key.names)
    return figure


@styled
def inferred_inputs(latents: xr.Dataset, *, trials: int = 30) -> Figure:
    """Draw the inputs that the controller inferred: single trials and their mean over all trials.

    Parameters
    ----------
    latents : Dataset
        With ``inputs``; the first six are drawn.
    trials : int
        Number of single trials.

    Returns
    -------
    Figure
    """
    inputs = latents["inputs"].values[:, select_bins(latents)]
    time = latents["time"].values[select_bins(latents)]
    n_drawn = min(inputs.shape[2], MAX_INPUTS)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.3 * n_drawn), layout="constrained")
    axes = np.asarray(figure.subplots(n_drawn, 1, sharex=True, squeeze=False))[:, 0]
    for i, axis in enumerate(axes):
        axis.axhline(0, color=GREY, lw=0.6)
        for trial in thin(np.arange(len(inputs)), trials):
            axis.plot(time, inputs[trial, :, i], color=SKY, lw=0.6, alpha=0.6)
        axis.plot(time, inputs[:, :, i].mean(0), color=BLUE, lw=1.8)
        axis.set_ylabel(f"input {i + 1}")
    axes[-1].set_xlabel(time_label(latents))
    return figure


def principal_components(factors: Floats) -> tuple[Floats, Floats]:
    """Compute up to three principal components of the factors. The largest loading of each is positive.

    Parameters
    ----------
    factors : array (trial, time, factor)

    Returns
    -------
    components : array (trial, time, component)
    shares : array (component)
        Share of the variance of each.
    """
    flat = factors.reshape(-1, factors.shape[2])
    centred = flat - flat.mean(0)
    variance, vectors = np.linalg.eigh(centred.T @ centred / len(flat))
    vectors = vectors[:, ::-1][:, :3]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    total = max(float(variance.sum()), 1e-300)
    components: Floats = (centred @ vectors).reshape(*factors.shape[:2], -1)
    return components, np.maximum(variance[::-1][:3], 0) / total


def _decode(factors: Floats, true: Floats) -> Floats:
    """True latents regressed on the factors (trial, time, latent)."""
    flat = np.column_stack([factors.reshape(-1, factors.shape[2]), np.ones(factors.shape[0] * factors.shape[1])])
    weights, *_ = np.linalg.lstsq(flat, true.reshape(-1, true.shape[2]), rcond=None)
    return np.asarray((flat @ weights).reshape(true.shape))


@dataclass(frozen=True)
class _Key:
    """What a colour bar needs."""

    scale: Any
    label: str
    names: list[str]


def _colours(latents: xr.Dataset, trials: NDArray[np.intp]) -> tuple[Callable[[int, int], Floats], _Key]:
    """A function from trial and number of bins to colours (time, 4), and what the colours mean."""
    if "condition" in latents.coords:
        names = np.unique(latents["condition"].values.astype(str)[trials])
        if 1 < len(names) <= len(CONDITION_COLOURS):
            index = {name: i for i, name in enumerate(names)}
            condition = latents["condition"].values.astype(str)

            def by_condition(trial: int, n_bins: int) -> Floats:
                colour = CONDITION_COLOURS[index[condition[trial]]]
                return np.tile(matplotlib.colors.to_rgba(colour, 0.7), (n_bins, 1))

            colours = matplotlib.colors.ListedColormap(CONDITION_COLOURS[: len(names)])
            norm = matplotlib.colors.Normalize(-0.5, len(names) - 0.5)
            return by_condition, _Key(matplotlib.cm.ScalarMappable(norm, colours), "condition", names.tolist())
    time = latents["time"].values
    span = matplotlib.colors.Normalize(float(time[0]), float(time[-1]) if len(time) > 1 else float(time[0]) + 1)
    scale = matplotlib.cm.ScalarMappable(span, matplotlib.colormaps["viridis"])

    def by_time(trial: int, n_bins: int) -> Floats:
        return np.asarray(scale.to_rgba(time[:n_bins], alpha=0.8), dtype=np.float64)

    return by_time, _Key(scale, "time (s)", [])


def _add_path(axis: Any, path: Floats, colours: Floats) -> None:
    """One trial as a line whose colour may change along it; a dot where there is a single bin."""
    if path.shape[1] == 1:
        path = np.column_stack([np.arange(len(path)), path])
    if len(path) == 1:
        axis.scatter(*path.T, color=colours, s=8)
        return
    segments = np.stack([path[:-1], path[1:]], axis=1)
    collection: Any = Line3DCollection if path.shape[1] >= 3 else LineCollection
    axis.add_collection(collection(segments, colors=colours[:-1], linewidths=1.0))


def _label_axes(axis: Any, paths: Floats, shares: Floats | None) -> None:
    """Names and limits of the axes."""
    n = paths.shape[2]
    names = [f"latent {i + 1}" if shares is None else f"PC {i + 1} ({shares[i]:.0%})" for i in range(n)]
    limits = [(float(paths[..., i].min()), float(paths[..., i].max())) for i in range(n)]
    limits = [(low, high) if high > low else (low - 1, high + 1) for low, high in limits]
    if n == 1:
        names, limits = ["bin", *names], [(0.0, max(paths.shape[1] - 1.0, 1.0)), *limits]
    for letter, name, (low, high) in zip("xyz", names, limits, strict=False):
        margin = 0.03 * (high - low)
        getattr(axis, f"set_{letter}label")(name)
        getattr(axis, f"set_{letter}lim")(low - margin, high + margin)
        if n >= 3:
            getattr(axis, f"{letter}axis").set_ticklabels([])
            getattr(axis, f"{letter}axis").pane.set_visible(False)
            getattr(axis, f"{letter}axis").labelpad = -10
    if n >= 3:
        axis.grid(False)
        axis.set_box_aspect((1, 1, 1), zoom=1.05)
        axis.view_init(elev=22, azim=-65)
