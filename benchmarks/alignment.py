"""Do factors mean the same on all days? A decoder of the first day's factors, carried to the others.

Days of a Lorenz and of a Rössler system: the same trajectories (10 conditions of 16 trials, 50 bins of 20 ms), about 30 other
neurons each day. Three days are fitted together; then a fourth is adapted to that fit (`--init`, new channels) with 20 trials,
two of each condition. A linear decoder of the true latents is fitted to the factors of the first day and applied to each
day's; of the adapted day, to the trials that were not in the fit. R² of the latents, 1 − SSE/SST. Ways:

* plain: read-in and read-out of each day start from random weights, as without `sessions.condition`;
* stitched: they start from a principal component regression on condition averages (`sessions.stitching`).

Each with the factors as fitted (carried), with aligned ones (carried, aligned), and with a decoder of the day's own factors,
the most that an alignment can reach (own decoder).

    python benchmarks/alignment.py --json alignment.json --figure alignment.png
    python benchmarks/alignment.py --small
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import take_settings, timed_fit
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import InitConfig, SessionsConfig, override
from nwb_sbtt.evaluate import r2
from nwb_sbtt.simulate.lorenz import lorenz_velocity
from nwb_sbtt.simulate.population import Readout, counts_dataset, split_labels, trial_starts

Floats = NDArray[np.float64]
BIN_WIDTH, DEPTH, SUBSTEPS = 0.02, 1.35, 20
SMALL = ["train.epochs=12", "train.batch_size=8", "model.width=32", "model.layers=2", "model.factors=12"]
FIRST, ADAPTED = "day 0", "day 3"


def rossler_velocity(state: Floats) -> Floats:
    """Rössler equations (1976, Physics Letters A 57:397) at a = b = .2, c = 5.7."""
    x, y, z = state.T
    return np.stack([-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)], 1)


SYSTEMS: dict[str, tuple[Callable[[Floats], Floats], float, tuple[list[float], list[float]]]] = {
    "Lorenz": (lorenz_velocity, 0.05, ([8.0, 9.0, 8.0], [0.0, 0.0, 24.0])),
    "Rössler": (rossler_velocity, 0.25, ([3.0, 3.0, 0.1], [0.0, 0.0, 0.5])),
}
"""Velocity, time units a bin, and sd and mean of the starts, by name."""


def main() -> None:
    """Fit both systems in both ways and print the table."""
    parser = options(__doc__, small="one system, 6 conditions of 8 trials, few epochs of a small model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data and models")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    take_settings(parser)
    arguments = parser.parse_args()
    conditions, per_condition = 10, 16
    if arguments.small:
        arguments.systems, conditions, per_condition = ["Lorenz"], 6, 8
        arguments.settings = [*SMALL, *arguments.settings]
    rows = [
        row
        for seed in arguments.seeds
        for system in arguments.systems
        for row in _rows(system, days(system, seed, conditions, per_condition), seed, arguments.settings)
    ]
    report(arguments, rows, lambda: _figure(rows))


def days(system: str, seed: int, conditions: int, per_condition: int, n_days: int = 4) -> dict[str, xr.Dataset]:
    """Simulate days of the same trajectories with other neurons, as many give or take four."""
    latents = trajectories(system, np.random.default_rng([seed, 7]), conditions, n_bins=50)
    made = {}
    for day in range(n_days):
        generator = np.random.default_rng([seed, day])
        rates = Readout(DEPTH).rates(generator, latents, 30 + int(generator.integers(-4, 5)))
        condition = generator.permutation(np.repeat(np.arange(conditions), per_condition))
        made[f"day {day}"] = counts_dataset(
            generator.poisson(rates[condition] * BIN_WIDTH),
            bin_width=BIN_WIDTH,
            starts=trial_starts(generator, len(condition), latents.shape[1] * BIN_WIDTH),
            rates=rates[condition],
            latents=latents[condition],
            coords={
                "condition": ("trial", condition),
                "split": ("trial", split_labels(generator, condition, by="trial")),
            },
            attrs={"session_id": f"{system} {day}", "system": system},
        )
    return made


def trajectories(system: str, generator: np.random.Generator, conditions: int, *, n_bins: int) -> Floats:
    """Latents (condition, time, 3) of unit variance on the attractor."""
    velocity, per_bin, (sd, mean) = SYSTEMS[system]
    state = _advance(generator.normal(size=(conditions, 3)) * sd + mean, velocity, per_bin / SUBSTEPS, 400 * SUBSTEPS)
    latents = np.empty((conditions, n_bins, 3))
    for i in range(n_bins):
        latents[:, i] = state
        state = _advance(state, velocity, per_bin / SUBSTEPS, SUBSTEPS)
    return np.asarray((latents - latents.mean((0, 1))) / latents.std((0, 1)))


def decoder(latents: xr.Dataset, data: xr.Dataset) -> Floats:
    """Least-squares weights of the true latents on factors and a one, hardly regularised."""
    design, true = _design(latents["factors"]), data["true_latents"].values.reshape(-1, 3).astype(float)
    ridge = 1e-3 * len(design) * float(design[:, :-1].var(0).mean()) * np.eye(design.shape[1])
    ridge[-1, -1] = 0
    return np.asarray(np.linalg.solve(design.T @ design + ridge, design.T @ true))


def _advance(state: Floats, velocity: Callable[[Floats], Floats], step: float, n: int) -> Floats:
    """Follow an equation by the Runge–Kutta method of fourth order."""
    for _ in range(n):
        a = velocity(state)
        b = velocity(state + step / 2 * a)
        c = velocity(state + step / 2 * b)
        state = state + step / 6 * (a + 2 * b + 2 * c + velocity(state + step * c))
    return state


def _design(factors: xr.DataArray) -> Floats:
    flat = factors.values.reshape(-1, factors.shape[2]).astype(float)
    return np.column_stack([flat, np.ones(len(flat))])


def _rows(system: str, data: dict[str, xr.Dataset], seed: int, settings: list[str]) -> list[dict[str, Any]]:
    joint = {name: ds for name, ds in data.items() if name != ADAPTED}
    condition = data[ADAPTED]["condition"].values
    generator = np.random.default_rng(seed)
    few = np.sort(
        np.concatenate([generator.permutation(np.flatnonzero(condition == c))[:2] for c in np.unique(condition)])
    )
    seen = data[ADAPTED].isel(trial=few).drop_vars("split")
    unseen = data[ADAPTED].isel(trial=np.setdiff1d(np.arange(len(condition)), few))
    rows = []
    for way in ("plain", "stitched"):
        sessions = SessionsConfig(condition="condition", stitching=way == "stitched")
        config = override(sb.FitConfig(seed=seed, sessions=sessions), settings)
        with tempfile.TemporaryDirectory() as folder:
            fitted, _ = timed_fit(joint, config, Path(folder) / "joint")
            init = InitConfig(run_dir=fitted.run_dir, channels="new")
            later, _ = timed_fit({ADAPTED: seen}, config.model_copy(update={"init": init}), Path(folder) / "later")
            inferred = {name: (ds, fitted.infer(ds, session=name)) for name, ds in joint.items()}
            inferred[ADAPTED] = unseen, later.infer(unseen)
        weights = decoder(inferred[FIRST][1], inferred[FIRST][0])
        for name, (ds, latents) in inferred.items():
            true = ds["true_latents"].values.reshape(-1, 3)
            row = {
                "system": system,
                "seed": seed,
                "start": way,
                "day": name,
                "fitted": "adapted" if name == ADAPTED else "joint",
                "rates": r2(ds["true_rates"].values, latents["rates"].values),
                "carried": r2(true, _design(latents["factors"]) @ weights),
                "carried, aligned": r2(true, _design(latents["aligned_factors"]) @ weights),
                "own decoder": r2(true, _design(latents["factors"]) @ decoder(latents, ds)),
                "alike": latents["aligned_factors"].attrs["as_fitted"],
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(8.5, 3.5)
    systems = list(dict.fromkeys(row["system"] for row in rows))
    for axis, system in zip(np.atleast_1d(figure.subplots(1, len(systems), sharey=True)), systems, strict=True):
        for way, colour in (("plain", "#D55E00"), ("stitched", "#0072B2")):
            chosen = [row for row in rows if (row["system"], row["start"]) == (system, way)]
            for column, marker in (("carried", "o"), ("carried, aligned", "^")):
                axis.plot(
                    [row["day"] for row in chosen],
                    [max(row[column], -1) for row in chosen],
                    marker,
                    color=colour,
                    label=f"{way}, {column}",
                    mfc="none" if column == "carried" else colour,
                )
        axis.axhline(0.95, color="#888888", lw=0.8)
        axis.set_title(system)
    axis.legend(frameon=False, fontsize="small")
    figure.supylabel("R² of the first day's decoder (−1: or less)")
    return figure


if __name__ == "__main__":
    main()
