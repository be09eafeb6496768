"""Fits of the benchmarks: the Lorenz task, changes of the default settings, and a fit in a temporary run folder."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.simulate.lorenz import LorenzDynamics
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
    if observed == N_NEURONS:
        return ds
    config = BandwidthConfig.model_validate({"scheme": scheme, "k": observed, "seed": seed})
    return sb.data.limit_bandwidth(ds, config)


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
