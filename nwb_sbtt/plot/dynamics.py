"""A learned system: its flow and fixed points, and how far its forecasts miss."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from nwb_sbtt.errors import DataError
from nwb_sbtt.plot.selection import thin
from nwb_sbtt.plot.style import BLUE, GREEN, ORANGE, RED, WIDTH, axes_of, picture, theme

FAR = 0.2
"""Distance to the nearest visited state, as a share of the states' typical distance from their mean, beyond which no flow is
drawn, and fixed points are drawn pale."""
MAX_TRIALS = 60
"""Most trials whose trajectories are drawn."""
MARKERS: dict[str, dict[str, Any]] = {
    "stable": {"marker": "o", "fillstyle": "full", "color": GREEN},
    "saddle": {"marker": "D", "fillstyle": "left", "color": ORANGE},
    "unstable": {"marker": "o", "fillstyle": "none", "color": RED},
}
NAMES = {"forecast": "learned system", "persistence": "persistence", "linear": "linear system"}
TRUTHS = {"inferred": "what is inferred from whole trials", "true": "true rates"}


@picture
def flow_field(flow: xr.Dataset, points: xr.Dataset | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw where a learned system moves states to in the plane of their first two axes, over inferred trajectories.

    Lines follow the flow, thicker where it is faster; there are none where no inferred state is near.

    Parameters
    ----------
    flow : Dataset
        From `nwb_sbtt.dynamics.flow_field`, which says what dimensions beyond the plane are.
    points : Dataset, optional
        From `nwb_sbtt.dynamics.fixed_points`: numbered, and marked by their stability, pale where no inferred state is near.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If anything else comes.
    """
    ds = _checked(
        flow, {"velocity", "distance", "trajectory", "axis", "origin", "share"}, "sb.dynamics.flow_field(fitted)"
    )
    ax = axes_of(ax, (WIDTH * 0.68, WIDTH * 0.45))
    for trial in thin(np.arange(ds.sizes["trial"]), MAX_TRIALS):
        ax.plot(*ds["trajectory"].values[trial].T, color=theme().grey, lw=0.7, alpha=0.35, zorder=1)
    velocity = np.where(ds["distance"].values[..., None] > FAR, np.nan, ds["velocity"].values)
    speed = np.linalg.norm(velocity, axis=2)
    fastest = float(np.nanmax(speed, initial=0.0))
    if fastest > 0:
        ax.streamplot(
            ds["x"].values,
            ds["y"].values,
            velocity[..., 0],
            velocity[..., 1],
            color=BLUE,
            linewidth=0.4 + 1.4 * np.nan_to_num(speed) / fastest,
            arrowsize=0.9,
            density=1.3,
            zorder=2,
        )
    ax.plot([], [], color=theme().grey, lw=0.7, label="inferred trials")
    ax.plot([], [], color=BLUE, lw=1.2, label="flow")
    if points is not None:
        found = _checked(points, {"state", "stability", "distance"}, "sb.dynamics.fixed_points(fitted)")
        places = (found["state"].values - ds["origin"].values) @ ds["axis"].values.T
        for kind, how in MARKERS.items():
            for far in (False, True):
                rows = (found["stability"].values == kind) & ((found["distance"].values > FAR) == far)
                label = f"{kind} point, far from the data" if far else f"{kind} point"
                if rows.any():
                    ax.plot(
                        *places[rows].T, ls="", ms=9, mew=1.6, alpha=0.4 if far else 1, label=label, zorder=3, **how
                    )
        for number, place in zip(found["point"].values, places, strict=True):
            ax.annotate(str(number), place, (7, 5), textcoords="offset points", fontweight="bold", zorder=4)
    ax.set_aspect("equal")
    ax.set_xlim(float(ds["x"].values[0]), float(ds["x"].values[-1]))
    ax.set_ylim(float(ds["y"].values[0]), float(ds["y"].values[-1]))
    first, second = ds["share"].values
    ax.set_xlabel(f"axis 1 ({first:.0%} of the variance)")
    ax.set_ylabel(f"axis 2 ({second:.0%} of the variance)")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=1.4, borderaxespad=0.0)
    return ax


@picture
def forecast_error(errors: xr.Dataset, *, truth: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how far forecasts of a learned system miss, by horizon, beside persistence and a linear system.

    Parameters
    ----------
    errors : Dataset
        From `nwb_sbtt.dynamics.forecast_error`.
    truth : "inferred" or "true", optional
        What forecasts are compared with. Default: true rates where they are known.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes
        At 0 a forecast is perfect; at 1 (line) it is as good as the average of the trials.

    Raises
    ------
    DataError
        If anything else comes, or there is no such truth.
    """
    ds = _checked(errors, {"error", "excess"}, "sb.dynamics.forecast_error(fitted)")
    known = ds["truth"].values.tolist()
    truth = known[-1] if truth is None else truth
    if truth not in known:
        raise DataError(f"truth={truth!r} is not among the errors; choose one of {', '.join(known)}")
    ax = axes_of(ax, (WIDTH * 0.55, 3.2))
    milliseconds = 1000 * ds["lead"].values
    marker = "o" if len(milliseconds) < 3 else ""
    for name, colour in (("persistence", theme().grey), ("linear", ORANGE), ("forecast", BLUE)):
        error = ds["error"].sel(truth=truth, predictor=name).values
        ax.plot(
            milliseconds, error, color=colour, lw=2.0 if name == "forecast" else 1.4, marker=marker, label=NAMES[name]
        )
    ax.axhline(1, color=theme().grey, lw=0.8, ls=":", label="average of the trials")
    highest = float(ds["error"].sel(predictor=["forecast", "persistence"]).max())
    ax.set_ylim(0, max(1.25, min(1.1 * highest, 3.0)))
    ax.set_xlim(0, float(milliseconds[-1]))
    ax.set_xlabel("ms after the last bin given")
    ax.set_ylabel("squared error / variance")
    ax.set_title(f"against {TRUTHS[truth]}", loc="left")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=1.4, borderaxespad=0.0)
    return ax


def _checked(given: object, needed: set[str], call: str) -> xr.Dataset:
    if isinstance(given, xr.Dataset) and needed <= set(given):
        return given
    came = f"a Dataset of {sorted(map(str, given))}" if isinstance(given, xr.Dataset) else f"a {type(given).__name__}"
    raise DataError(f"got {came}; expected the result of {call}")
