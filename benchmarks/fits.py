"""Fits of the benchmarks: the Lorenz task, limits on bandwidth, changes of the default settings, and a fit in a temporary run
folder."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz_courses
from nwb_sbtt.train.trackers import Silent

N_NEURONS = 29
"""Of the Lorenz task."""
SCHEMES = ("speckled", "round_robin", "decimate")
"""Ways to sample some of them, of which every neuron gets its share."""


def lorenz_task(
    observed: int,
    *,
    seed: int,
    conditions: int = 65,
    split_by: Literal["trial", "condition"] = "trial",
    scheme: str = "speckled",
) -> xr.Dataset:
    """Simulate the Lorenz task, of whose neurons so many are observed in each bin; validation is of trials or conditions."""
    dynamics = LorenzDynamics(split_by=split_by)
    ds = sb.simulate.lorenz(n_channels=N_NEURONS, conditions=conditions, seed=seed, dynamics=dynamics)
    return observe(ds, observed, seed=seed, scheme=scheme)


def lorenz_scale(seed: int, conditions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sd that `nwb_sbtt.simulate.lorenz` standardises latents by."""
    courses = lorenz_courses(np.random.default_rng(seed), conditions)
    return courses.mean((0, 1)), courses.std((0, 1))


def observe(ds: xr.Dataset, k: int, *, seed: int, scheme: str = "speckled") -> xr.Dataset:
    """Leave k channels of each bin observed; of data with k channels, all."""
    if k == ds.sizes["channel"]:
        return ds
    return sb.data.limit_bandwidth(ds, BandwidthConfig.model_validate({"scheme": scheme, "k": k, "seed": seed}))


def quiet(text: str) -> None:
    """Say nothing."""


def take_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="changes of the defaults, a.b=value")


def without_system(fitted: sb.Fitted) -> sb.Fitted:
    """Return a fit whose learned system takes no part."""
    return replace(fitted, members=tuple(replace(member, dynamics=None) for member in fitted.members))


@contextmanager
def fitted_to(
    ds: xr.Dataset, config: sb.FitConfig, *, run_dir: Path | None = None
) -> Iterator[tuple[sb.Fitted, float]]:
    """Fit a model in a run folder, by default one that is removed after the block; give the fit and its CPU-seconds."""
    with tempfile.TemporaryDirectory() as folder:
        yield timed_fit(ds, config, run_dir or Path(folder) / "run")


def timed_fit(
    ds: xr.Dataset | Mapping[str, xr.Dataset], config: sb.FitConfig, run_dir: Path
) -> tuple[sb.Fitted, float]:
    """Fit a model; return the fit and its CPU-seconds."""
    started = time.process_time()
    fitted = sb.fit(ds, config, run_dir=run_dir, tracker=Silent())
    return fitted, time.process_time() - started
