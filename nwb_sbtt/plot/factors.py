"""Latents: trajectories of factors, and inferred inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from numpy.typing import NDArray

from nwb_sbtt.data.datasets import check_matching
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.plot.colours import TrialColours, colours_by, default_column
from nwb_sbtt.plot.selection import Fit, dataset_of, pair_of, select_bins, thin, time_label
from nwb_sbtt.plot.style import BLUE, SKY, axes_of, picture, theme

MAX_TRIALS = 50
MAX_POINTS = 40_000
SESSION = "session"
"""Column that several sessions get in one picture."""
Floats = NDArray[np.float64]


@picture
def latents(
    source: xr.Dataset | Fit | Mapping[str, xr.Dataset],
    *,
    truth: xr.Dataset | None = None,
    color_by: str | None = None,
    dims: Literal[2, 3] | None = None,
    session: str | None = None,
    key: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the factors of up to 50 trials in the plane or space of their first principal components.

    Parameters
    ----------
    source : Dataset, Fitted, or mapping of session to Dataset
        Latents with ``factors``; a fit infers those of its own data. Latents of several sessions are drawn in colours of the
        session, by their ``aligned_factors``.
    truth : Dataset, optional
        Of a simulation, with ``true_latents`` of the same trials: the factors are then rotated linearly to these.
    color_by : str, optional
        Column of trials; by default ``condition`` if there is one, and else colour is the time within the trial.
    dims : 2 or 3, optional
        Default: those of the axes that are given, and else 3 where there are as many.
    session : str, optional
        Fitted session, of a fit of several.
    key : bool
        Whether colours are explained.
    ax : Axes, optional
        Flat or with ``projection="3d"``. Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ConfigError
        If `dims` is neither 2 nor 3, or not that of the axes.
    DataError
        If there are no factors, fewer than `dims`, or those of several sessions are not aligned.
    SelectionError
        If trials have no such column.
    """
    several = not isinstance(source, xr.Dataset) and isinstance(source, Mapping)
    found = _of_sessions(dict(source)) if several else _latents_of(source, session)  # type: ignore[arg-type]
    factors = found["aligned_factors" if several else "factors"].values.astype(np.float64)
    column = color_by or (SESSION if several else default_column(found))
    colours = None if column is None else colours_by(found, column)
    drawn = thin(np.arange(len(factors)), MAX_TRIALS)
    if truth is not None and "true_latents" in dataset_of(truth):
        truth = dataset_of(truth)
        check_matching(found, truth, names=("factors", "truth"))
        paths, shares, title = decoded_latents(factors, truth), None, "latents decoded from the factors"
    else:
        paths, shares = principal_components(factors)
        title = "factors"
    drawing = _Drawing(paths, shares, title, found["time"].values, drawn, colours)
    return drawing.on(ax, dims, key=key)


@picture
def true_latents(
    truth: xr.Dataset, *, color_by: str | None = None, dims: Literal[2, 3] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the true latents of a simulation, as `latents` draws those inferred.

    Parameters
    ----------
    truth : Dataset
        With ``true_latents``.
    color_by : str, optional
        As for `latents`.
    dims : 2 or 3, optional
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ConfigError
        As of `latents`.
    DataError
        If there are no true latents, or fewer than `dims`.
    """
    truth = dataset_of(truth)
    if "true_latents" not in truth:
        raise DataError("the Dataset has no 'true_latents'; only simulations have them (sb.simulate.read_truth)")
    paths = truth["true_latents"].values.astype(np.float64)
    column = color_by or default_column(truth)
    colours = None if column is None else colours_by(truth, column)
    drawn = thin(np.arange(len(paths)), MAX_TRIALS)
    return _Drawing(paths, None, "true latents", truth["time"].values, drawn, colours).on(ax, dims)


@picture
def inputs(
    source: xr.Dataset | Fit,
    *,
    number: int = 1,
    color_by: str | None = None,
    session: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw an input that the controller inferred: 30 single trials (thin) and averages (thick).

    Parameters
    ----------
    source : Dataset or Fitted
        Latents with ``inputs``; a fit infers those of its own data.
    number : int
        Of the input, from 1.
    color_by : str, optional
        Column of trials: one average for each of its values; by default all trials are averaged.
    session : str, optional
        Fitted session, of a fit of several.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If there are no inferred inputs, or not so many.
    SelectionError
        If trials have no such column.
    """
    found = pair_of(source, session=session).latents if isinstance(source, Fit) else dataset_of(source)
    if found is None or "inputs" not in found:
        raise DataError("there are no inferred 'inputs'; they need a model with a controller, such as lfads")
    if not 1 <= number <= found.sizes["input"]:
        raise DataError(f"number is {number}; expected 1 to {found.sizes['input']}")
    colours = None if color_by is None else colours_by(found, color_by)
    if colours is not None:
        colours.check_groups()
    values, time = found["inputs"].values[:, select_bins(found), number - 1], found["time"].values[select_bins(found)]
    ax = axes_of(ax, (6.0, 2.6))
    ax.axhline(0, color=theme().grey, lw=0.6)
    for row in thin(np.arange(len(values)), 30):
        thin_colour = SKY if colours is None else colours.of(colours.values[row])
        ax.plot(time, values[row], color=thin_colour, lw=0.6, alpha=0.4)
    groups: dict[Any, NDArray[np.intp]] = {None: np.arange(len(values))}
    if colours is not None:
        groups = {group: colours.rows(group) for group in colours.groups}
    for group, rows in groups.items():
        ax.plot(time, values[rows].mean(0), color=BLUE if colours is None else colours.of(group), lw=1.8)
    ax.set_ylabel(f"input {number} (a.u.)")
    ax.set_xlabel(time_label(found))
    ax.set_xlim(float(time[0]), float(time[-1]) if len(time) > 1 else float(time[0]) + 1)
    if colours is not None:
        colours.add_key(ax)
    return ax


def _latents_of(source: object, session: str | None) -> xr.Dataset:
    found = pair_of(source, session=session).latents if isinstance(source, Fit) else dataset_of(source)
    if found is None or "factors" not in found:
        raise DataError("the Dataset has no 'factors'; pass latents (from Fitted.infer or read_result), not data")
    return found


def _of_sessions(sessions: Mapping[Any, Any]) -> xr.Dataset:
    """The aligned factors of several sessions one after the other, with their names as a column of trials."""
    each = {name: dataset_of(ds) for name, ds in sessions.items()}
    if without := [name for name, ds in each.items() if "aligned_factors" not in ds]:
        raise DataError(
            f"{', '.join(map(repr, without))}: no 'aligned_factors', but factors of different sessions cannot be "
            "compared before alignment; align them with Fitted.align, or set sessions.condition in the fit"
        )
    n_bins = min(ds.sizes["time"] for ds in each.values())
    parts = [
        xr.Dataset(
            {"aligned_factors": (("trial", "time", "factor"), ds["aligned_factors"].values[:, :n_bins])},
            coords={
                SESSION: ("trial", [str(name)] * ds.sizes["trial"]),
                **({"condition": ("trial", ds["condition"].values.astype(str))} if "condition" in ds.coords else {}),
            },
        )
        for name, ds in each.items()
    ]
    return xr.concat(parts, "trial").assign_coords(time=next(iter(each.values()))["time"].values[:n_bins])


@dataclass(frozen=True)
class _Drawing:
    """Trajectories (trial, time, dimension) with their colours."""

    paths: Floats
    shares: Floats | None
    title: str
    time: Floats
    drawn: NDArray[np.intp]
    colours: TrialColours | None

    def on(self, ax: Axes | None, dims: int | None, *, key: bool = True) -> Axes:
        """Draw them, with the names of the axes."""
        if dims not in (None, 2, 3):
            raise ConfigError(f"dims is {dims!r}; expected 2 or 3")
        n = self.paths.shape[2]
        if dims == 3 and n < 3:
            raise DataError(f"dims is 3, but there are {n} dimensions; omit it, or pass dims=2")
        if ax is None:
            ax = axes_of(None, (6.0, 4.6), projection="3d" if dims != 2 and n >= 3 else None)
        elif dims is not None and dims != (3 if isinstance(ax, Axes3D) else 2):
            raise ConfigError(
                f"dims is {dims}, but the axes have {3 if isinstance(ax, Axes3D) else 2}; omit dims, or make axes with "
                "plt.subplot(projection='3d') for 3 and plt.subplot() for 2"
            )
        deep = isinstance(ax, Axes3D)
        if deep and n < 3:
            raise DataError(f"there are {n} dimensions, but 3-D axes need 3; pass 2-D axes")
        paths = self.paths[..., : 3 if deep else 2]
        span = Normalize(float(self.time[0]), float(self.time[-1]) if len(self.time) > 1 else float(self.time[0]) + 1)
        by_time = ScalarMappable(span, matplotlib.colormaps["viridis"])
        step = max(1, len(self.drawn) * paths.shape[1] // MAX_POINTS)
        for trial in self.drawn:
            path = paths[trial, ::step]
            if self.colours is None:
                along = np.asarray(by_time.to_rgba(self.time[::step], alpha=0.8), dtype=np.float64)
            else:
                along = np.tile([*self.colours.of(self.colours.values[trial])[:3], 0.7], (len(path), 1))
            _add_path(ax, path, along)
        some = len(self.drawn) < len(paths)
        ax.set_title(f"{self.title}, {len(self.drawn)} of {len(paths)} trials" if some else self.title, loc="left")
        _label_axes(ax, paths[self.drawn], self.shares)
        if key and self.colours is not None:
            self.colours.add_key(ax)
        elif key:
            bar = ax.figure.colorbar(by_time, ax=ax, fraction=0.04, pad=0.12 if deep else 0.02, shrink=0.6)
            bar.set_label("time (s)")
        return ax


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


def decoded_latents(factors: Floats, truth: xr.Dataset) -> Floats:
    """Regress true latents on the factors.

    Parameters
    ----------
    factors : array (trial, time, factor)
    truth : Dataset
        With ``true_latents`` of the same trials and bins.

    Returns
    -------
    array (trial, time, latent)

    Raises
    ------
    DataError
        If trials or bins differ.
    """
    true = truth["true_latents"].values.astype(np.float64)
    if true.shape[:2] != factors.shape[:2]:
        raise DataError(f"factors {factors.shape} and true latents {true.shape} have different trials or bins")
    flat = np.column_stack([factors.reshape(-1, factors.shape[2]), np.ones(factors.shape[0] * factors.shape[1])])
    weights, *_ = np.linalg.lstsq(flat, true.reshape(-1, true.shape[2]), rcond=None)
    return np.asarray((flat @ weights).reshape(true.shape))


def _add_path(ax: Any, path: Floats, colours: Floats) -> None:
    """One trial as a line whose colour may change along it; a dot where there is a single bin."""
    if path.shape[1] == 1:
        path = np.column_stack([np.arange(len(path)), path])
    if len(path) == 1:
        ax.scatter(*path.T, color=colours, s=8)
        return
    segments = np.stack([path[:-1], path[1:]], axis=1)
    collection: Any = Line3DCollection if path.shape[1] >= 3 else LineCollection
    ax.add_collection(collection(segments, colors=colours[:-1], linewidths=1.0))


def _label_axes(ax: Any, paths: Floats, shares: Floats | None) -> None:
    """Names and limits of the axes."""
    n = paths.shape[2]
    names = [f"latent {i + 1} (a.u.)" if shares is None else f"PC {i + 1} ({shares[i]:.0%})" for i in range(n)]
    limits = [(float(paths[..., i].min()), float(paths[..., i].max())) for i in range(n)]
    limits = [(low, high) if high > low else (low - 1, high + 1) for low, high in limits]
    if n == 1:
        names, limits = ["bin", *names], [(0.0, max(paths.shape[1] - 1.0, 1.0)), *limits]
    for letter, name, (low, high) in zip("xyz", names, limits, strict=False):
        margin = 0.03 * (high - low)
        getattr(ax, f"set_{letter}label")(name)
        getattr(ax, f"set_{letter}lim")(low - margin, high + margin)
        if n >= 3:
            getattr(ax, f"{letter}axis").set_ticklabels([])
            getattr(ax, f"{letter}axis").pane.set_visible(False)
            getattr(ax, f"{letter}axis").labelpad = -10
    if n >= 3:
        ax.grid(False)
        ax.set_box_aspect((1, 1, 1), zoom=1.12)
        ax.view_init(elev=22, azim=-65)
