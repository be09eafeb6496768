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

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import lorenz_task, take_settings, timed_fit
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import explained_variance
from nwb_sbtt.fitting.dynamics.held import HeldSystem
from nwb_sbtt.plot.style import styled
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz_courses

WING = np.sqrt(8 / 3 * 27)
POINTS = {"left": (-WING, -WING, 27.0), "right": (WING, WING, 27.0), "origin": (0.0, 0.0, 0.0)}
EXPONENT = 0.9056
"""Per Lorenz time unit."""
Floats = NDArray[np.float64]


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
        with tempfile.TemporaryDirectory() as folder:
            run_dir = (arguments.runs or Path(folder)) / f"{level}_{arguments.seed}_trial"
            fitted, _ = timed_fit(ds, config, run_dir)
            row, found = _measure(fitted, ds, level, raw=_raw(arguments.seed, conditions))
        rows.append(row)
        measured.append(found)
        print(row, flush=True)
    rows.append(_truth(_per_second(ds)))
    report(arguments, rows, lambda: _figure(measured[0]))


def _raw(seed: int, conditions: int) -> tuple[Floats, Floats]:
    """Mean and sd that the latents of the task were standardised by."""
    courses = lorenz_courses(np.random.default_rng(seed), conditions)
    return courses.mean((0, 1)), courses.std((0, 1))


def _per_second(ds: xr.Dataset) -> float:
    return LorenzDynamics.speed / float(ds.attrs["bin_width"])


def _measure(
    fitted: sb.Fitted, ds: xr.Dataset, level: int, *, raw: tuple[Floats, Floats]
) -> tuple[dict[str, Any], Measured]:
    points, flow = sb.dynamics.fixed_points(fitted, ds), sb.dynamics.flow_field(fitted, ds)
    exponent, errors = sb.dynamics.lyapunov_exponent(fitted, ds), sb.dynamics.forecast_error(fitted, ds)
    valid = np.flatnonzero(ds["split"].values == "valid")
    latents = ds["true_latents"].values[valid].reshape(-1, 3)
    in_plane = flow["trajectory"].values[valid].reshape(-1, 2)
    mean, sd = raw
    true = (np.array(list(POINTS.values())) - mean) / sd
    states = _states(fitted, ds.isel(trial=valid))
    inferred = _regressed(states, latents, states)
    row: dict[str, Any] = {
        "observed of 29": level,
        "states": explained_variance(inferred, latents, np.ones(latents.shape, bool)),
        "points": points.sizes["point"],
    }
    learned = _regressed(states, latents, points["state"].values) if points.sizes["point"] else np.empty((0, 3))
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
    return row, Measured(level, flow, points, errors, _regressed(latents, in_plane, true))


def _truth(per_second: float) -> dict[str, Any]:
    """The row of the Lorenz system itself."""
    row: dict[str, Any] = {"observed of 29": "truth", "states": 1.0, "points": 3}
    for name, (x, y, z) in POINTS.items():
        values = np.linalg.eigvals(np.array([[-10.0, 10.0, 0.0], [28.0 - z, -1.0, -x], [y, x, -8 / 3]])) * per_second
        value = values[np.argmax(values.real)]
        row |= {f"{name}: distance": 0.0, f"{name}: rate": float(value.real)}
        row[f"{name}: Hz"] = float(abs(value.imag) / (2 * np.pi))
    return row | {"exponent": EXPONENT * per_second, "se": 0.0}


def _states(fitted: sb.Fitted, ds: xr.Dataset) -> Floats:
    """Inferred states (entry, dimension)."""
    return np.asarray(HeldSystem.of(fitted, ds, session=None, inputs=None).visited.numpy())


def _regressed(given: Floats, wanted: Floats, at: Floats) -> Floats:
    """Regress one on the other, and predict."""
    table, *_ = np.linalg.lstsq(np.column_stack([given, np.ones(len(given))]), wanted, rcond=None)
    return np.asarray(np.column_stack([at, np.ones(len(at))]) @ table)


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
