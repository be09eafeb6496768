"""Is the system that a fit learns the right one: its fixed points and Lyapunov exponent beside those of the Lorenz system.

Fits with `dynamics` to the Lorenz task of `accuracy.py`. States are brought to the true latents by linear regression on the
validation trials (R² in `states`). Of each fixed point of the Lorenz system (two wings and the origin): the distance of the
nearest learned one, in sd of the latents, and there the growth rate [1/s] of the fastest pair that rotates (of the origin: of
the fastest direction), and its frequency [Hz]. The truth is in the last row; its largest exponent is 0.9056 per Lorenz time
unit (Sprott 2003, Chaos and Time-Series Analysis). The origin is far from all states that trials visit.

The figure has flow, fixed points (stars: true ones) and errors of forecasts of the first fit.

    python benchmarks/learned_system.py --levels 5 2 --json learned_system.json --figure docs/learned_system.png
    python benchmarks/learned_system.py --small
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from fits import fitted_to, lorenz_scale, lorenz_task, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression
from systems import Floats, lorenz_velocity

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.dynamics.held import HeldSystem
from nwb_sbtt.fitting.dynamics.plane import flow_of
from nwb_sbtt.fitting.dynamics.stability import exponents_of, points_of
from nwb_sbtt.plot.style import styled
from nwb_sbtt.simulate.lorenz import LorenzDynamics

WING = np.sqrt(8 / 3 * 27)
POINTS = {"left": (-WING, -WING, 27.0), "right": (WING, WING, 27.0), "origin": (0.0, 0.0, 0.0)}
EXPONENT = 0.9056
"""Per Lorenz time unit."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a fit, and the true fixed points in coordinates of its states."""

    level: int
    flow: xr.Dataset
    points: xr.Dataset
    errors: xr.Dataset
    true: Floats


def main() -> None:
    """Fit each level, and print the table."""
    parser = options(__doc__, small="few data, epochs and steps, one level")
    parser.add_argument("--levels", type=int, nargs="+", default=[5, 2], help="neurons observed per bin")
    parser.add_argument("--seed", type=int, default=0, help="of data, masks and models")
    parser.add_argument("--runs", type=Path, help="where run folders are kept, and found again")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions, steps = 65, "dynamics.steps=1200"
    if arguments.small:
        arguments.levels, conditions, steps = [10], 7, "dynamics.steps=20"
        arguments.settings = ["train.epochs=4", "model.width=16", "model.groups=4", *arguments.settings]
    rows, measured = list[dict[str, Any]](), list[Measured]()
    config = override(sb.FitConfig(seed=arguments.seed), [steps, *arguments.settings])
    for level in arguments.levels:
        ds = lorenz_task(level, seed=arguments.seed, conditions=conditions)
        run_dir = arguments.runs and arguments.runs / f"{level}_{arguments.seed}_trial"
        with fitted_to(ds, config, run_dir=run_dir) as (fitted, _):
            row, found = _measure(fitted, ds, level, scale=lorenz_scale(arguments.seed, conditions))
        rows.append(row)
        measured.append(found)
        print(row, flush=True)
    rows.append(_truth(_per_second(ds)))
    report(arguments, rows, lambda: _figure(measured[0]))


def _per_second(ds: xr.Dataset) -> float:
    return LorenzDynamics.speed / float(ds.attrs["bin_width"])


def _measure(
    fitted: sb.Fitted, ds: xr.Dataset, level: int, *, scale: tuple[Floats, Floats]
) -> tuple[dict[str, Any], Measured]:
    """Measure the system of a fit, given mean and sd that the true latents were standardised by."""
    system = HeldSystem.of(fitted, ds, session=None, inputs=None)
    points, flow, exponent = points_of(system), flow_of(system), exponents_of(system)
    valid = np.flatnonzero(ds["split"].values == "valid")
    latents = ds["true_latents"].values[valid].reshape(-1, 3)
    states = system.states[valid].flatten(0, 1).numpy()
    in_plane = flow["trajectory"].values[valid].reshape(-1, 2)
    mean, sd = scale
    true = (np.array(list(POINTS.values())) - mean) / sd
    to_latents = LinearRegression().fit(states, latents)
    row: dict[str, Any] = {
        "observed of 29": level,
        "states": r2(latents, to_latents.predict(states)),
        "points": points.sizes["point"],
    }
    learned = to_latents.predict(points["state"].values) if points.sizes["point"] else np.empty((0, 3))
    for name, place in zip(POINTS, true, strict=True):
        if not len(learned):
            continue
        apart = np.linalg.norm(learned - place, axis=1)
        nearest = points.isel(point=int(apart.argmin()))
        modes = np.arange(nearest.sizes["mode"])
        if name != "origin" and (nearest["frequency"].values > 0).any():
            modes = np.flatnonzero(nearest["frequency"].values > 0)
        row[f"{name}: distance"] = float(apart.min())
        row[f"{name}: rate"] = float(nearest["growth_rate"].values[modes[0]])
        row[f"{name}: Hz"] = float(nearest["frequency"].values[modes[0]])
    row |= {"exponent": float(exponent["exponent"]), "se": float(exponent["exponent_se"])}
    errors = sb.dynamics.forecast_error(fitted, ds)
    return row, Measured(level, flow, points, errors, LinearRegression().fit(latents, in_plane).predict(true))


def _truth(per_second: float) -> dict[str, Any]:
    """The row of the Lorenz system itself."""
    row: dict[str, Any] = {"observed of 29": "truth", "states": 1.0, "points": 3}
    for name, place in POINTS.items():
        jacobian = torch.func.jacrev(lorenz_velocity)(torch.tensor(place, dtype=torch.float64))
        values = np.linalg.eigvals(jacobian.numpy()) * per_second
        value = values[np.argmax(values.real)]
        row |= {f"{name}: distance": 0.0, f"{name}: rate": float(value.real)}
        row[f"{name}: Hz"] = float(abs(value.imag) / (2 * np.pi))
    return row | {"exponent": EXPONENT * per_second, "se": 0.0}


@styled
def _figure(measured: Measured) -> Figure:
    figure = canvas(10.5, 3.5)
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1.0])
    sb.plot.flow_field(measured.flow, measured.points, ax=left)
    left.plot(*measured.true[:2].T, "k*", ms=13, mfc="none", mew=1.4, zorder=5, label="true point")
    left.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=1.4, borderaxespad=0.0)
    left.set_title(f"{measured.level} of 29 observed", loc="left")
    sb.plot.forecast_error(measured.errors, truth="true", ax=right)
    return figure


if __name__ == "__main__":
    main()
