"""What is measured of a learned system, as Datasets, without a fit."""

import numpy as np
import xarray as xr


def flow():
    grid = np.linspace(-1, 1, 9)
    x, y = np.meshgrid(grid, grid)
    turn = np.linspace(0, 6, 20)
    courses = np.stack([r * np.stack([np.cos(turn), np.sin(turn)], 1) for r in (0.5, 0.7, 0.9)])
    return xr.Dataset(
        {
            "velocity": (("y", "x", "component"), np.stack([-y, x], 2)),
            "distance": (("y", "x"), np.maximum(np.hypot(x, y) - 0.9, 0)),
            "trajectory": (("trial", "time", "component"), courses),
            "axis": (("component", "latent"), np.eye(2, 3)),
            "origin": ("latent", np.zeros(3)),
            "share": ("component", [0.7, 0.2]),
        },
        coords={"x": grid, "y": grid},
    )


def points(kinds=("saddle", "stable"), distances=(0.05, 0.5), **attrs):
    n = len(kinds)
    return xr.Dataset(
        {
            "state": (("point", "latent"), 0.3 * np.arange(3 * n).reshape(n, 3)),
            "stability": ("point", np.array(kinds, dtype=str)),
            "distance": ("point", np.array(distances, dtype=float)),
            "reached_from": ("point", np.full(n, 0.9 / max(n, 1))),
            "growth_rate": (("point", "mode"), np.tile([np.log(2) / 0.2, np.log(2) / 0.2, -np.log(2) / 0.05], (n, 1))),
            "frequency": (("point", "mode"), np.tile([4.0, 4.0, 0.0], (n, 1))),
        },
        coords={"point": np.arange(1, n + 1), "latent": [1, 2, 3], "mode": [1, 2, 3]},
        attrs={"starts": 40, "unresolved": 0.1, "at_edge": 0.0, **attrs},
    )


def exponents(largest=2.0, *, left=0, far=0, runs=4):
    is_left = np.arange(runs) < left
    kept = ~is_left
    return xr.Dataset(
        {
            "exponent": ((), largest if kept.any() else np.nan),
            "exponent_se": ((), 0.1),
            "left": ("run", is_left),
            "distance": ("run", np.where(np.arange(runs) >= runs - far, 0.9, 0.01)),
        },
        attrs={"bins": 1000, "bin_width": 0.02},
    )


def errors(excess=(0.0, 0.5, 0.2, 0.3), *, truths=("inferred",), horizons=10):
    names = ["forecast", "persistence", "average", "linear"]
    rising = np.linspace(0.3, 0.95, horizons)
    table = np.stack([rising, rising + 0.2, np.ones(horizons), rising + 0.1])
    return xr.Dataset(
        {
            "error": (("truth", "predictor", "horizon"), np.stack([table + 0.1 * i for i in range(len(truths))])),
            "excess": (("truth", "predictor"), np.tile(excess, (len(truths), 1))),
            "excess_se": (("truth", "predictor"), np.full((len(truths), 4), 0.05)),
        },
        coords={
            "truth": list(truths),
            "predictor": names,
            "horizon": np.arange(1, horizons + 1),
            "lead": ("horizon", 0.02 * np.arange(1, horizons + 1)),
        },
        attrs={"given": 10, "trials": 8},
    )
