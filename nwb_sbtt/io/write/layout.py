"""Where results lie in a file: names of the series, order of the trials, and their samples on the session clock.

The writer and the reader both go by this file, so that what one puts down the other finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.schema import Kind
from nwb_sbtt.errors import ConfigError, DataError

ESTIMATES = ("rates", "mean")
"""What a model says of each channel."""
CHANNEL_VARIABLES = (*ESTIMATES, "events", "denoised")
"""Variables (trial, time, channel); each may have a companion ``_sd``. Events lie in fluorescence, and denoised is what they
make of it where they were found before the model was fitted."""
LATENT_VARIABLES = {"factors": "factor", "inputs": "input"}
"""Variables (trial, time, *) and the name of their last dim; each may have a companion ``_sd``."""
INITIAL = "initial_condition"
PARTS = (*CHANNEL_VARIABLES, *LATENT_VARIABLES, "mask", "model", "channels", "segments")
"""What follows the name of the results in the name of each object."""
JITTER = 1e-9
"""Bin centres whose steps agree to this many seconds are written as a rate; the NWB inspector has the same limit."""


@dataclass(frozen=True)
class Layer:
    """Trials that do not overlap in time, in the order of the session clock: one time axis without a step back.

    ``centres`` are the bin centres in seconds on the session clock, trial after trial.
    """

    number: int
    trials: NDArray[np.intp]
    centres: NDArray[np.float64]
    bin_width: float

    @property
    def step(self) -> float | None:
        """Seconds from each bin to the next if it is always the same, else None."""
        steps = np.diff(self.centres)
        expected = self.bin_width if not len(steps) or abs(steps[0] - self.bin_width) < JITTER else float(steps[0])
        return expected if (np.abs(steps - expected) < JITTER).all() else None


def layers(latents: xr.Dataset) -> list[Layer]:
    """Sort the trials into as few layers as there are windows over the busiest moment.

    Every trial is in exactly one layer.
    """
    starts = latents["trial_start"].values.astype(np.float64)
    width, length = float(latents.attrs["bin_width"]), window_length(latents)
    free_from: list[float] = []
    members: list[list[int]] = []
    for trial in np.argsort(starts, kind="stable"):
        reached = starts[trial] + 1e-6 * width
        place = next((i for i, free in enumerate(free_from) if free <= reached), len(free_from))
        if place == len(free_from):
            free_from.append(0.0)
            members.append([])
        free_from[place] = starts[trial] + length
        members[place].append(int(trial))
    steps = _centres(latents)
    return [
        Layer(i + 1, np.array(trials), (starts[trials][:, None] + steps).reshape(-1), width)
        for i, trials in enumerate(members)
    ]


def window_length(latents: xr.Dataset) -> float:
    """Seconds from the left edge of a trial's first bin to the right edge of its last."""
    return float(_centres(latents)[-1]) + float(latents.attrs["bin_width"]) / 2


def _centres(latents: xr.Dataset) -> NDArray[np.float64]:
    """Bin centres in seconds from the trial's start; a merged session may have gaps between them."""
    width, time = float(latents.attrs["bin_width"]), latents["time"].values.astype(np.float64)
    whole = (np.arange(len(time)) + 0.5) * width
    given = time - time[0] + width / 2
    return np.asarray(whole if np.abs(given - whole).max() < 1e-3 * width else given)


def table_suffixes(tables: Iterable[str]) -> dict[str, str]:
    """Give each table a short suffix for the names of its series: none where there is one table only."""
    distinct = list(dict.fromkeys(tables))
    if len(distinct) == 1:
        return {distinct[0]: ""}
    suffixes: dict[str, str] = {}
    for table in distinct:
        last = suffix = f"_{table.rsplit('/', 1)[-1] or 'channels'}"
        number = 1
        while suffix in suffixes.values():
            number += 1
            suffix = f"{last}_{number}"
        suffixes[table] = suffix
    return suffixes


def series_name(name: str, variable: str, *, suffix: str = "", layer: int = 1) -> str:
    """Name of one series: result name, variable, table and, for the second layer of overlapping trials on, the layer."""
    part, sd = (variable.removesuffix("_sd"), "_sd") if variable.endswith("_sd") else (variable, "")
    return f"{name}_{part}{suffix}{sd}" + (f"_overlap{layer}" if layer > 1 else "")


def tables_of(latents: xr.Dataset) -> list[str]:
    """In-file path of the table behind each channel; empty where the Dataset names none."""
    if "table" in latents.coords:
        return [str(table) for table in latents["table"].values]
    usual = {"units": "units", "electrodes": "electrodes"}.get(str(latents.attrs["kind"]), "")
    return [usual] * latents.sizes["channel"]


def check_name(name: str) -> str:
    """Return the name if it can be part of the names in a file.

    Raises
    ------
    ConfigError
    """
    if not name or set(name) & set("/:.") or name != name.strip():
        raise ConfigError(f"results cannot be named {name!r}: give a name without '/', ':' and '.', for example 'sbtt'")
    return name


def check_latents(latents: xr.Dataset) -> xr.Dataset:
    """Return the Dataset unchanged if it holds what can be written, and nothing else.

    Raises
    ------
    DataError
        With the first rule that is broken.
    """
    expected: dict[str, tuple[str, ...]] = {"observed": ("trial", "time", "channel")}
    for variable in CHANNEL_VARIABLES:
        expected[variable] = expected[f"{variable}_sd"] = ("trial", "time", "channel")
    for variable, dim in LATENT_VARIABLES.items():
        expected[variable] = expected[f"{variable}_sd"] = ("trial", "time", dim)
    expected[INITIAL] = expected[f"{INITIAL}_sd"] = ("trial", "initial")
    _check_variables(latents, expected)
    for variable in map(str, latents.data_vars):
        values = latents[variable].values
        if latents[variable].dims != expected[variable] or values.size == 0:
            raise DataError(f"{variable!r} has dims {latents[variable].dims} {values.shape}, not {expected[variable]}")
        wanted = bool if variable == "observed" else np.float32
        if values.dtype != wanted:
            raise DataError(f"{variable!r} is {values.dtype}; expected {np.dtype(wanted)}")
        if not np.isfinite(values).all():
            raise DataError(f"{variable!r} has {int((~np.isfinite(values)).sum())} values that are not finite")
    for coord in ("trial_start", "channel_id", "time"):
        if coord not in latents.coords:
            raise DataError(f"the Dataset has no coordinate {coord!r}; it has {sorted(map(str, latents.coords))}")
    width = latents.attrs.get("bin_width")
    if not isinstance(width, float) or not np.isfinite(width) or width <= 0:
        raise DataError(f"attrs['bin_width'] is {width!r}; expected a positive number of seconds")
    if not np.isfinite(latents["trial_start"].values).all():
        raise DataError("some 'trial_start' are not finite: their samples have no place on the session clock")
    if latents.attrs.get("kind") not in get_args(Kind):
        raise DataError(f"attrs['kind'] is {latents.attrs.get('kind')!r}; expected one of {get_args(Kind)}")
    return latents


def _check_variables(latents: xr.Dataset, expected: dict[str, tuple[str, ...]]) -> None:
    present = set(map(str, latents.data_vars))
    if unknown := sorted(present - set(expected)):
        raise DataError(f"cannot write {_listed(unknown)}: known are {_listed(expected)}; use Dataset.drop_vars")
    if "observed" not in present:
        raise DataError("the Dataset has no 'observed': without it nobody can tell which entries were measured")
    of_spikes = "events" in present or "gain" in latents.coords
    if (set(ESTIMATES) <= present and not of_spikes) or not present - {"observed"}:
        raise DataError(
            f"the Dataset holds {_listed(sorted(present))}; expected 'rates' or 'mean' (both beside 'events', or where "
            "channels have a 'gain'), 'factors', …"
        )
    if orphans := [
        each for each in sorted(present) if each.endswith("_sd") and each.removesuffix("_sd") not in present
    ]:
        raise DataError(f"{_listed(orphans)} stands without the variable it belongs to")


def _listed(names: Iterable[str] | Sequence[str]) -> str:
    return ", ".join(map(repr, names))
