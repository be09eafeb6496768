"""The labelled container that every reader returns and every fit takes.

An `xarray.Dataset` with dims ``(trial, time, channel)`` and

* ``values`` float32, finite, 0 where nothing was observed; ``observed`` bool; ``exposure`` float32 in (0, 1], only where
  some bins are observed in part; where `observed` is the same for all channels a reader may return it as a view that cannot
  be written into: replace masks by new ones, as in ``ds["observed"] = ds["observed"] & mask``;
* where there are known inputs, such as stimuli, ``inputs`` float32 (trial, time, input), finite, 0 where ``inputs_observed``
  is false, and their names in ``input``;
* coords ``time`` (bin centres, seconds from the alignment event or, where nothing is aligned, from the window's start),
  ``trial_start`` (left edge of each trial's first bin, seconds on the session clock), ``channel_id`` (ids of the table,
  not row numbers; also the index of ``channel``, as ``trial_id`` is of ``trial``, so that ``ds.sel(channel=7)`` goes by id),
  and any other trial or channel column; ``held_out`` of channels and ``forecast`` of bins are flags, not all of them set;
* attrs ``bin_width`` [s], ``kind``, ``unit``, ``session_id``, ``source`` (a JSON text), all JSON-safe.

The centre of bin `i` of trial `k` lies at ``trial_start[k] + (i + 0.5) * bin_width`` on the session clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.datasets import dataset_of
from nwb_sbtt.data.grid import Kind
from nwb_sbtt.data.threads import in_threads, split_range
from nwb_sbtt.errors import DataError

Slices = tuple[slice, slice]
"""Slices of trials and of bins."""
CHECKED_AT_ONCE = 1 << 18
"""Entries checked at once, so that intermediate arrays stay in the cache."""
DIMS = ("trial", "time", "channel")
INPUT_DIMS = ("trial", "time", "input")
IDS = {"channel_id": "channel", "trial_id": "trial"}
LATENT_DIMS = {
    "rates": ("trial", "time", "channel"),
    "mean": ("trial", "time", "channel"),
    "events": ("trial", "time", "channel"),
    "denoised": ("trial", "time", "channel"),
    "factors": ("trial", "time", "factor"),
    "inputs": ("trial", "time", "input"),
    "initial_condition": ("trial", "initial"),
}
"""Variables of a latents Dataset and their dims; each may have a companion ``<name>_sd``."""
"""Coordinates with the ids of channels and trials, and the dims that these index."""
NEVER_SHOWN = {"held_out": "channel", "forecast": "time"}
"""Coordinates that mark channels (co-smoothing) and bins (forward prediction) as never shown, and their dims."""


def make_dataset(
    values: ArrayLike,
    observed: ArrayLike,
    *,
    bin_width: float,
    kind: Kind,
    channel_id: Sequence[int | str] | NDArray[np.generic] | None = None,
    exposure: ArrayLike | None = None,
    start: float = 0.0,
    trial_start: ArrayLike | None = None,
    coords: Mapping[str, tuple[str, ArrayLike]] | None = None,
    attrs: Mapping[str, str | float | int] | None = None,
) -> xr.Dataset:
    """Put arrays into the labelled container.

    Parameters
    ----------
    values : array (trial, time, channel)
        Values outside `observed`, NaN too, become 0. An array that is float32 and 0 there already is not copied.
    observed : bool array (trial, time, channel)
    bin_width : float
        Seconds.
    kind : "units", "electrodes", "rois" or "series"
        What a channel is.
    channel_id : sequence, optional
        The table's ids. Default: 0 … n−1.
    exposure : array (trial, time, channel), optional
        Share of each bin observed; left out of the Dataset where it is 1 in every observed entry.
    start : float
        Left edge of the first bin relative to the alignment event, in seconds.
    trial_start : array (trial), optional
        Left edge of the first bin on the session clock, in seconds.
    coords : mapping of name to (dim, array), optional
    attrs : mapping, optional
        ``unit``, ``session_id``, ``source`` and others, JSON-safe.

    Returns
    -------
    Dataset
        Checked by `check_dataset`.

    Raises
    ------
    DataError
        If shapes do not agree, nothing is observed, or an observed value is not finite.
    """
    observed = np.asarray(observed, dtype=bool)
    values = np.asarray(values)
    if observed.shape != values.shape or observed.ndim != 3:
        raise DataError(
            f"values {values.shape} and observed {observed.shape} must have the same shape (trial, time, channel)"
        )
    n_trials, n_bins, n_channels = values.shape
    data = {
        "values": (DIMS, _zero_outside(values, observed)),
        "observed": (DIMS, observed),
    }
    if exposure is not None:
        exposure = np.where(observed, np.asarray(exposure, dtype=np.float32), np.float32(1))
        if (exposure != 1).any():
            data["exposure"] = (DIMS, exposure)
    labels: dict[str, tuple[str, ArrayLike]] = {
        "time": ("time", start + (np.arange(n_bins) + 0.5) * bin_width),
        "trial_start": ("trial", np.zeros(n_trials) if trial_start is None else np.asarray(trial_start, dtype=float)),
        "channel_id": ("channel", np.arange(n_channels) if channel_id is None else np.asarray(channel_id)),
    }
    labels.update(coords or {})
    ds = xr.Dataset(
        data, coords=with_ids_as_index(labels), attrs={"bin_width": float(bin_width), "kind": kind, **(attrs or {})}
    )
    return check_dataset(ds)


def with_ids_as_index(coords: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Let channels and trials be chosen by their ids: ``ds.sel(channel=7)`` is the channel with the id 7, wherever it lies.

    Parameters
    ----------
    coords : mapping of name to (dim, array)
        Trials without ``trial_id``, such as those of a chopped session, have no index.

    Returns
    -------
    dict
        With the ids also under the names of their dims.
    """
    return {**coords, **{dim: (dim, coords[name][1]) for name, dim in IDS.items() if name in coords}}


def check_dataset(ds: xr.Dataset) -> xr.Dataset:
    """Check the rules of this module, and return the Dataset unchanged.

    Parameters
    ----------
    ds : Dataset

    Raises
    ------
    DataError
        If it is no Dataset, or a rule is broken; the message names the first.
    """
    dataset_of(ds)
    if "time" in ds.dims and "trial" not in ds.dims:
        raise DataError("the Dataset has no dim 'trial'; ds.isel(trial=[0]) selects one trial and keeps the dim")
    for name in ("values", "observed"):
        if name not in ds or ds[name].dims != DIMS:
            raise DataError(f"the Dataset needs {name!r} with dims {DIMS}; it has {dict(ds.sizes)} and {list(ds)}")
    if ds.sizes["channel"] == 0 or ds.sizes["time"] == 0 or ds.sizes["trial"] == 0:
        raise DataError(f"the Dataset is empty: {dict(ds.sizes)}")
    if ds.attrs.get("kind") not in get_args(Kind):
        raise DataError(f"attrs['kind'] is {ds.attrs.get('kind')!r}; expected one of {get_args(Kind)}")
    width = ds.attrs.get("bin_width")
    if not isinstance(width, float) or not np.isfinite(width) or width <= 0:
        raise DataError(f"attrs['bin_width'] is {width!r}; expected a positive number of seconds")
    values, observed = ds["values"].values, ds["observed"].values
    if observed.dtype != bool or values.dtype != np.float32:
        raise DataError(f"values must be float32 and observed bool, not {values.dtype} and {observed.dtype}")
    if not observed.any():
        of_file = (
            "; look at `nwb-sbtt inspect` for the gaps, the observation intervals and the invalid times of the file"
        )
        raise DataError(f"nothing is observed: every entry is masked{of_file if 'source' in ds.attrs else ''}")
    if not _everywhere(values.shape, lambda part: bool(np.isfinite(values[part]).all())):
        raise DataError(f"{int((~np.isfinite(values)).sum())} values are not finite; mask them in 'observed'")
    if _nonzero_outside(values, observed):
        raise DataError("values outside 'observed' must be 0")
    if "exposure" in ds:
        exposure = ds["exposure"].values[observed]
        if not ((exposure > 0) & (exposure <= 1)).all():
            raise DataError("'exposure' must lie in (0, 1] wherever something is observed")
    for name, dim in NEVER_SHOWN.items():
        _check_flags(ds, name, dim)
    _check_inputs(ds)
    if taken := [name for name in ds.coords if str(name).removesuffix("_sd") in LATENT_DIMS]:
        raise DataError(
            f"the coordinate {taken[0]!r} has the name of a variable that a model infers; rename it, for example with "
            f"ds.rename({taken[0]}={str(taken[0]) + '_column'!r}), or leave it out of read.trial_columns"
        )
    json.dumps(ds.attrs)
    return ds


def notes_of(ds: xr.Dataset) -> list[str]:
    """Return the remarks that a Dataset carries for the user.

    Parameters
    ----------
    ds : Dataset
        Data or latents.
    """
    return list(json.loads(ds.attrs.get("notes", "[]")))


def with_notes(ds: xr.Dataset, notes: Sequence[str]) -> xr.Dataset:
    """Return a Dataset with further remarks for the user, each of them once.

    Parameters
    ----------
    ds : Dataset
        Data or latents.
    notes : sequence of str
    """
    all_notes = list(dict.fromkeys([*notes_of(ds), *notes]))
    return ds.assign_attrs(notes=json.dumps(all_notes)) if len(all_notes) > len(notes_of(ds)) else ds


def is_chopped(ds: xr.Dataset) -> bool:
    """Return whether trials are chops of a session, which may share samples.

    Parameters
    ----------
    ds : Dataset
        Data or latents.
    """
    return (json.loads(str(ds.attrs.get("cut", "null"))) or {}).get("by") == "chop"


def infers_spikes(latents: xr.Dataset) -> bool:
    """Return whether ``events`` of a latents Dataset are spikes per bin, inferred between fluorescence and rates.

    Parameters
    ----------
    latents : Dataset
    """
    # With `denoised`, events were found before the fit.
    return {"events", "rates"} <= set(latents) and "denoised" not in latents


def name_units(latents: xr.Dataset) -> xr.Dataset:
    """Put the unit of inferred variables into their ``attrs["units"]``, in place: Hz of rates, the data's own of means.

    Parameters
    ----------
    latents : Dataset
        With ``rates``, ``mean`` or ``denoised``, with or without ``_sd``.

    Returns
    -------
    Dataset
        The same.
    """
    data_unit = latents.attrs.get("unit")
    for name, unit in (("rates", "Hz"), ("mean", data_unit), ("denoised", data_unit)):
        for variable in (name, f"{name}_sd"):
            if variable in latents and unit is not None:
                latents[variable].attrs["units"] = unit
    return latents


def _check_flags(ds: xr.Dataset, name: str, dim: str) -> None:
    if name not in ds.coords:
        return
    stored = ds[name]
    if stored.dims != (dim,):
        raise DataError(f"{name!r} has dims {stored.dims}; expected a flag for each {dim}: dims ({dim!r},)")
    flags = stored.values
    if flags.dtype.kind not in "biuf" or not np.isin(flags, (0, 1)).all():
        raise DataError(
            f"{name!r} holds {flags.dtype} such as {flags.tolist()[:3]}; expected a flag for each {dim}: true or false, 1 or 0"
        )
    if flags.all():
        raise DataError(f"{name!r} marks every {dim}, so nothing is left to infer from; leave at least one unmarked")


def _check_inputs(ds: xr.Dataset) -> None:
    if "inputs" not in ds and "inputs_observed" not in ds:
        return
    for name, dtype in (("inputs", np.float32), ("inputs_observed", bool)):
        if name not in ds or ds[name].dims != INPUT_DIMS or ds[name].dtype != dtype:
            has = f"{ds[name].dtype} with dims {ds[name].dims}" if name in ds else "missing"
            raise DataError(
                f"{name!r} is {has}; expected {np.dtype(dtype)} with dims {INPUT_DIMS}, as sb.with_inputs makes it"
            )
    names = ds["input"].values.tolist() if "input" in ds.coords else []
    if len(set(names)) < ds.sizes["input"] or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"the inputs are named {names}; expected a different text for each of {ds.sizes['input']} inputs"
        )
    inputs, known = ds["inputs"].values, ds["inputs_observed"].values
    if not np.isfinite(inputs).all() or (inputs[~known] != 0).any():
        raise DataError("inputs must be finite, and 0 where 'inputs_observed' is false; use sb.with_inputs")


def _zero_outside(values: NDArray[np.generic], observed: NDArray[np.bool_]) -> NDArray[np.float32]:
    if values.dtype == np.float32 and not _nonzero_outside(values, observed):
        return values.astype(np.float32, copy=False)
    return np.where(observed, values, 0).astype(np.float32, copy=False)


def _nonzero_outside(values: NDArray[np.generic], observed: NDArray[np.bool_]) -> bool:
    """Whether anything but 0 lies outside `observed`."""

    def clean(part: Slices) -> bool:
        mask = observed[part]
        return bool(mask.all()) or not ((values[part] != 0) & ~mask).any()

    return not _everywhere(values.shape, clean)


def _everywhere(shape: tuple[int, ...], holds: Callable[[Slices], bool]) -> bool:
    """Whether something holds for all parts of an array (trial, time, channel), of about `CHECKED_AT_ONCE` entries each."""
    length = max(CHECKED_AT_ONCE // max(shape[2], 1), 1)
    trials = max(length // max(shape[1], 1), 1)
    parts = [
        (slice(trial, trial + trials), slice(first, first + length))
        for trial in range(0, shape[0], trials)
        for first in range(0, shape[1], length)
    ]
    return all(in_threads(lambda numbers: all(holds(parts[i]) for i in numbers), split_range(0, len(parts))))
