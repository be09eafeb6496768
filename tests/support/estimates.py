"""Data and what a model might infer from them, of any shape, for tests of the report."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.evaluate.summary import evaluate_latents
from nwb_sbtt.simulate.lorenz import lorenz


def simulated(*, share: float = 0.4) -> xr.Dataset:
    """A small masked Lorenz task with notes and a source."""
    ds = _population().copy(deep=True)
    observed = np.random.default_rng(0).random(ds["values"].shape) < share
    source = {"name": "lorenz.nwb", "path": "lorenz.nwb", "sha256": "0" * 64, "series": ["units"]}
    return ds.assign(observed=(DIMS, observed), values=ds["values"].where(observed, 0)).assign_attrs(
        source=json.dumps(source), notes=json.dumps(["read 'units'"])
    )


@cache
def _population() -> xr.Dataset:
    return lorenz(conditions=5, trials_per_condition=8, n_channels=12)


def plain(shape: tuple[int, int, int], *, counts: bool = True, seed: int = 0) -> xr.Dataset:
    """Data of any shape without truth, split or source; the first channel is never observed where there are several."""
    rng = np.random.default_rng(seed)
    observed = rng.random(shape) < 0.7
    observed[0, 0, -1] = True
    if shape[2] > 1:
        observed[:, :, 0] = False
    values = rng.poisson(0.5, shape) if counts else rng.normal(size=shape) * 1e-5
    unit = "counts" if counts else "volts"
    return make_dataset(
        values,
        observed,
        bin_width=0.01,
        kind="units" if counts else "electrodes",
        attrs={"unit": unit, "session_id": "s"},
    )


def inferred(ds: xr.Dataset, *, factors: int = 4, inputs: int = 0, sd: bool = True) -> xr.Dataset:
    """Smooth made-up estimates with factors, and inputs where asked for."""
    rng = np.random.default_rng(1)
    n_trials, n_bins, n_channels = ds["values"].shape
    counts = ds.attrs["unit"] == "counts"
    name = "rates" if counts else "mean"
    mean = ds["true_rates"].values if "true_rates" in ds else rng.gamma(2, 10, (n_trials, n_bins, n_channels))
    mean = mean if counts else mean * 1e-6
    data: dict[str, Any] = {name: (DIMS, mean.astype(np.float32)), "observed": (DIMS, ds["observed"].values)}
    data["factors"] = (("trial", "time", "factor"), rng.normal(size=(n_trials, n_bins, factors)).cumsum(1))
    if sd:
        data[f"{name}_sd"] = (DIMS, (0.2 * mean).astype(np.float32))
    if inputs:
        data["inputs"] = (("trial", "time", "input"), rng.normal(size=(n_trials, n_bins, inputs)))
    model = {
        "model_type": "lfads",
        "likelihood": "poisson",
        "software_name": "nwb_sbtt",
        "software_version": "0.1.0",
        "seed": 0,
        "config": {"model": {"name": "lfads"}},
        "finished": "all epochs finished",
    }
    return xr.Dataset(data, coords=ds.coords, attrs={**ds.attrs, "model": json.dumps(model)})


def history(epochs: int = 30) -> list[dict[str, float]]:
    """Losses that fall, and rise again after two thirds."""
    steps = np.arange(1, epochs + 1)
    falling = np.exp(-steps / 5)
    rising = 0.01 * np.maximum(steps - 2 * epochs // 3, 0)
    return [
        {"epoch": int(i), "train_loss": 0.4 + a, "valid_loss": 0.42 + a + b}
        for i, a, b in zip(steps, falling, rising, strict=True)
    ]


def scored(ds: xr.Dataset, latents: xr.Dataset) -> dict[str, Any]:
    """Metrics on a random third of the validation entries."""
    hidden = ds["observed"].values & (np.random.default_rng(2).random(ds["values"].shape) < 0.3)
    if "split" in ds.coords:
        hidden &= (ds["split"].values == "valid")[:, None, None]
    return evaluate_latents(ds, latents, hidden)
