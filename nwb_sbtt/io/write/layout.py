"""Where results lie in a file: names of the series, order of the trials, and their samples on the session clock.

Writer and reader both use this module, so that names and order are decided once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.binning import simplest
from nwb_sbtt.data.grid import Kind
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.suggestions import nearest

EXPECTED_SIGNALS = ("rates", "mean")
"""What a model predicts of each channel: its rate, or the mean of its signal."""
FOUND_IN_SAMPLES = ("events", "denoised")
"""Variables that are NaN where nothing was sampled, if they were found before the fit."""
CHANNEL_VARIABLES = (*EXPECTED_SIGNALS, *FOUND_IN_SAMPLES)
"""Variables (trial, time, channel); each may have a companion ``_sd``. Events are inferred from fluorescence; ``denoised`` is
the fluorescence expected from them, where they were inferred before the model was fitted."""
LATENT_VARIABLES = {"factors": "factor", "aligned_factors": "aligned_factor", "inputs": "input"}
"""Variables (trial, time, *) and the name of their last dim; each may have a companion ``_sd``."""
INITIAL_CONDITION = "initial_condition"
VARIABLES = tuple(
    f"{name}{sd}" for name in (*CHANNEL_VARIABLES, *LATENT_VARIABLES, INITIAL_CONDITION) for sd in ("", "_sd")
)
"""All that can be written, by name."""
RESULT_PARTS = (*CHANNEL_VARIABLES, *LATENT_VARIABLES, "mask", "model", "channels", "segments")
"""What follows the name of the results in the name of each object."""
_START_DECIMALS = 9
"""Of a starting time [s]: a nanosecond is less than any clock resolves."""
STEP_TOLERANCE = 1e-9
"""Bin centres whose steps agree to this many seconds are stored as a rate; nwbinspector has the same limit."""


@dataclass(frozen=True)
class TimeLayer:
    """Trials that do not overlap in time, in the order of the session clock: one time axis without a step back.

    Parameters
    ----------
    number : int
        From 1.
    trials : array (trial)
        Rows of the Dataset.
    centres : array (trial * time)
        Bin centres in seconds on the session clock, trial after trial.
    bin_width : float
        Seconds.
    """

    number: int
    trials: NDArray[np.intp]
    centres: NDArray[np.float64]
    bin_width: float

    @property
    def step(self) -> float | None:
        """Seconds from each bin to the next if it is always the same, else None."""
        steps = np.diff(self.centres)
        expected = (
            self.bin_width if not len(steps) or abs(steps[0] - self.bin_width) < STEP_TOLERANCE else float(steps[0])
        )
        return expected if (np.abs(steps - expected) < STEP_TOLERANCE).all() else None


def layers(latents: xr.Dataset) -> list[TimeLayer]:
    """Sort the trials into layers, each without overlap in time, and as few as possible.

    Parameters
    ----------
    latents : Dataset
        With ``trial_start``, ``time`` and ``attrs["bin_width"]``.

    Returns
    -------
    list of TimeLayer
        Each trial is in exactly one; there are as many as trials overlap at the busiest moment.
    """
    starts = latents["trial_start"].values.astype(np.float64)
    width, length = float(latents.attrs["bin_width"]), window_length(latents)
    free_from: list[float] = []
    members: list[list[int]] = []
    for trial in np.argsort(starts, kind="stable"):
        start = starts[trial] + 1e-6 * width
        number = next((i for i, free in enumerate(free_from) if free <= start), len(free_from))
        if number == len(free_from):
            free_from.append(0.0)
            members.append([])
        free_from[number] = starts[trial] + length
        members[number].append(int(trial))
    steps = _centres(latents)
    return [
        TimeLayer(i + 1, np.array(trials), (starts[trials][:, None] + steps).reshape(-1), width)
        for i, trials in enumerate(members)
    ]


def timing_of(layer: TimeLayer) -> dict[str, float] | None:
    """Return starting time and rate of a series with a sample at each bin, as pynwb takes them.

    Parameters
    ----------
    layer : TimeLayer

    Returns
    -------
    dict or None
        None where bins are not evenly spaced, so that timestamps are needed.
    """
    if layer.step is None:
        return None
    return {"starting_time": round(float(layer.centres[0]), _START_DECIMALS), "rate": simplest(1.0 / layer.step)}


def window_length(latents: xr.Dataset) -> float:
    """Return the seconds from the left edge of a trial's first bin to the right edge of its last.

    Parameters
    ----------
    latents : Dataset
        With ``time`` and ``attrs["bin_width"]``.
    """
    return float(_centres(latents)[-1]) + float(latents.attrs["bin_width"]) / 2


def _centres(latents: xr.Dataset) -> NDArray[np.float64]:
    """Bin centres in seconds from the trial's start; a merged session may have gaps between them."""
    width, time = float(latents.attrs["bin_width"]), latents["time"].values.astype(np.float64)
    regular = (np.arange(len(time)) + 0.5) * width
    centres = time - time[0] + width / 2
    return np.asarray(regular if np.abs(centres - regular).max() < 1e-3 * width else centres)


def channel_groups(latents: xr.Dataset) -> list[str]:
    """List the group of series that each channel is stored in: one for each table, and each band where there are several.

    Parameters
    ----------
    latents : Dataset

    Returns
    -------
    list of str
        Path of the table, and after a colon the name of the band.
    """
    tables = channel_tables(latents)
    if "frequency_band" not in latents.coords:
        return tables
    return [f"{table}:{band}" for table, band in zip(tables, latents["frequency_band"].values.tolist(), strict=True)]


def group_suffixes(groups: Iterable[str]) -> dict[str, str]:
    """Choose a short suffix for the series of each group of channels: none where there is one group only.

    Parameters
    ----------
    groups : iterable of str
        From `channel_groups`, repeated or not.

    Returns
    -------
    dict of group to suffix
        The name of the band, or of the table, or both where there are several bands and tables.
    """
    distinct = list(dict.fromkeys(groups))
    if len(distinct) == 1:
        return {distinct[0]: ""}
    bands = {group: group.rpartition(":")[2] if ":" in group else "" for group in distinct}
    tables = {group: group.removesuffix(f":{band}") if band else group for group, band in bands.items()}
    if len(set(tables.values())) == 1:
        return {group: f"_{band}" for group, band in bands.items()}
    of_tables = _table_suffixes(tables.values())
    return {group: of_tables[tables[group]] + (f"_{bands[group]}" if bands[group] else "") for group in distinct}


def _table_suffixes(tables: Iterable[str]) -> dict[str, str]:
    """A short suffix for each of several tables, by their paths."""
    distinct = list(dict.fromkeys(tables))
    suffixes: dict[str, str] = {}
    for table in distinct:
        stem = suffix = f"_{table.rsplit('/', 1)[-1] or 'channels'}"
        number = 1
        while suffix in suffixes.values():
            number += 1
            suffix = f"{stem}_{number}"
        suffixes[table] = suffix
    return suffixes


def series_name(name: str, variable: str, *, suffix: str = "", layer: int = 1) -> str:
    """Return the name of one series.

    Parameters
    ----------
    name : str
        Of the results.
    variable : str
        With or without ``_sd``.
    suffix : str
        Of the group of channels, from `group_suffixes`.
    layer : int
        From 1; the first is not named.

    Examples
    --------
    >>> series_name("sbtt", "rates_sd", layer=2)
    'sbtt_rates_sd_overlap2'
    """
    part, sd = (variable.removesuffix("_sd"), "_sd") if variable.endswith("_sd") else (variable, "")
    return f"{name}_{part}{suffix}{sd}" + (f"_overlap{layer}" if layer > 1 else "")


def channel_tables(latents: xr.Dataset) -> list[str]:
    """List the in-file path of each channel's table.

    Parameters
    ----------
    latents : Dataset

    Returns
    -------
    list of str
        Empty text where the Dataset names no table.
    """
    if "table" in latents.coords:
        return [str(table) for table in latents["table"].values]
    default = {"units": "units", "electrodes": "electrodes"}.get(str(latents.attrs["kind"]), "")
    return [default] * latents.sizes["channel"]


def check_name(name: str) -> str:
    """Return a name of results if names in a file can begin with it.

    Parameters
    ----------
    name : str

    Raises
    ------
    ConfigError
        If it is empty, has a space at an end, or contains ``/``, ``:`` or ``.``.
    """
    if not name or set(name) & set("/:.") or name != name.strip():
        raise ConfigError(
            f"results cannot be named {name!r}; choose a name without '/', ':' and '.', for example 'sbtt'"
        )
    return name


def check_variables(names: Sequence[str] | None) -> None:
    """Refuse names of variables that no result has.

    Parameters
    ----------
    names : sequence of str or None
        None stands for all.

    Raises
    ------
    ConfigError
        If a name is unknown, none is given, or an sd is named without its variable.
    """
    if names is None:
        return
    known = f"available: {', '.join(VARIABLES)}"
    if not names:
        raise ConfigError(f"the list of variables to write (--write) is empty; {known}")
    for name in names:
        if name not in VARIABLES:
            hint = "".join(f"did you mean {near!r}? " for near in nearest(name, VARIABLES))
            raise ConfigError(f"{name!r} cannot be written (--write): {hint}{known}")
        if (variable := name.removesuffix("_sd")) not in names:
            raise ConfigError(
                f"{name!r} is the sd of {variable!r}, which is not in the list; add {variable!r} (--write)"
            )


def only(latents: xr.Dataset, names: Sequence[str] | None) -> xr.Dataset:
    """Keep the named variables, and the mask of what was observed.

    Parameters
    ----------
    latents : Dataset
    names : sequence of str or None
        None keeps all.

    Raises
    ------
    ConfigError
        As `check_variables`.
    DataError
        If one of them was not inferred.
    """
    check_variables(names)
    if names is None:
        return latents
    present = [str(name) for name in latents.data_vars if name != "observed"]
    if missing := [name for name in names if name not in present]:
        raise DataError(
            f"the model does not infer {_listed(missing)}; choose from {', '.join(sorted(present))} (--write), or "
            "omit the choice to write all"
        )
    return latents[[*dict.fromkeys(names), "observed"]]


def check_latents(latents: xr.Dataset) -> xr.Dataset:
    """Return the Dataset unchanged if it holds what can be written, and nothing else.

    Parameters
    ----------
    latents : Dataset
        As `write_nwb` expects it.

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
    expected[INITIAL_CONDITION] = expected[f"{INITIAL_CONDITION}_sd"] = ("trial", "initial")
    _check_variables(latents, expected)
    for variable in map(str, latents.data_vars):
        values = latents[variable].values
        if latents[variable].dims != expected[variable] or values.size == 0:
            raise DataError(f"{variable!r} has dims {latents[variable].dims} {values.shape}, not {expected[variable]}")
        dtype = bool if variable == "observed" else np.float32
        if values.dtype != dtype:
            raise DataError(f"{variable!r} is {values.dtype}; expected {np.dtype(dtype)}")
        # Events are found where something was sampled; whatever a model infers, it infers everywhere.
        bad = np.isinf(values) if variable in FOUND_IN_SAMPLES else ~np.isfinite(values)
        if bad.any():
            raise DataError(f"{variable!r} has {int(bad.sum())} values that are not finite")
    for coord in ("trial_start", "channel_id", "time"):
        if coord not in latents.coords:
            raise DataError(f"the Dataset has no coordinate {coord!r}; it has {sorted(map(str, latents.coords))}")
    width = latents.attrs.get("bin_width")
    if not isinstance(width, float) or not np.isfinite(width) or width <= 0:
        raise DataError(f"attrs['bin_width'] is {width!r}; expected a positive number of seconds")
    if not np.isfinite(latents["trial_start"].values).all():
        raise DataError(
            "some 'trial_start' are not finite; expected the start of every trial in seconds on the session clock"
        )
    if latents.attrs.get("kind") not in get_args(Kind):
        raise DataError(f"attrs['kind'] is {latents.attrs.get('kind')!r}; expected one of {get_args(Kind)}")
    return latents


def _check_variables(latents: xr.Dataset, expected: dict[str, tuple[str, ...]]) -> None:
    present = set(map(str, latents.data_vars))
    if unknown := sorted(present - set(expected)):
        raise DataError(
            f"cannot write {_listed(unknown)}; expected only {_listed(expected)}; remove others with Dataset.drop_vars"
        )
    if "observed" not in present:
        raise DataError("the Dataset has no 'observed'; expected this mask, true where an entry was measured")
    from_spikes = "events" in present or "gain" in latents.coords
    if (set(EXPECTED_SIGNALS) <= present and not from_spikes) or not present - {"observed"}:
        raise DataError(
            f"the Dataset holds {_listed(sorted(present))}; expected 'rates' or 'mean' (both, if there are 'events' "
            "or channels have a 'gain'), 'factors', …"
        )
    if orphans := [
        name for name in sorted(present) if name.endswith("_sd") and name.removesuffix("_sd") not in present
    ]:
        raise DataError(
            f"{_listed(orphans)} is in the Dataset, but the variable it belongs to is not; add the variable, or "
            "remove it with Dataset.drop_vars"
        )


def _listed(names: Iterable[str] | Sequence[str]) -> str:
    return ", ".join(map(repr, names))
