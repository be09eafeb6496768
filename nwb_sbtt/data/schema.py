"""The labelled container: what every reader gives and every fit takes.

An `xarray.Dataset` with dims ``(trial, time, channel)`` and

* ``values`` float32, finite, 0 where nothing was observed; ``observed`` bool; ``exposure`` float32 in (0, 1], only where
  some bins are observed in part; a reader may give `observed` as a view that cannot be written into, where it is the same
  for all channels: masks are changed by a new one, as in ``ds["observed"] = ds["observed"] & kept``;
* coords ``time`` (bin centres, seconds from the alignment event or, where nothing is aligned, from the window's start),
  ``trial_start`` (left edge of each trial's first bin, seconds on the session clock), ``channel_id`` (ids of the table,
  not row numbers), and any other trial or channel column;
* attrs ``bin_width`` [s], ``kind``, ``unit``, ``session_id``, ``source`` (a JSON text), all JSON-safe.

The centre of bin `i` of trial `k` lies at ``trial_start[k] + (i + 0.5) * bin_width`` on the session clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.threads import in_threads, shares
from nwb_sbtt.errors import DataError

Part = tuple[slice, slice]
"""Some bins of some trials."""
Kind = Literal["units", "electrodes", "rois", "series"]
CHECKED = 1 << 18
"""Entries looked at at once, so that what is computed from them stays in the cache."""
DIMS = ("trial", "time", "channel")


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
        Whatever lies outside `observed` (NaN too) becomes 0. What is float32 and 0 there already is taken as it is, not
        copied.
    observed : bool array (trial, time, channel)
    bin_width : float
        Seconds.
    kind : "units", "electrodes", "rois" or "series"
        What a channel is.
    channel_id : sequence, optional
        The table's ids; 0 … n−1 where there is no table.
    exposure : array (trial, time, channel), optional
        Share of each bin observed; left out where it is 1 wherever something was observed.
    start : float
        Left edge of the first bin relative to the alignment event, in seconds.
    trial_start : array (trial), optional
        Left edge of the first bin on the session clock, in seconds.
    coords : mapping of name to (dim, array), optional
    attrs : mapping, optional
        ``unit``, ``session_id``, ``source`` and others, JSON-safe.

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
        "values": (DIMS, _without_junk(values, observed)),
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
    ds = xr.Dataset(data, coords=labels, attrs={"bin_width": float(bin_width), "kind": kind, **(attrs or {})})
    return check_dataset(ds)


def check_dataset(ds: xr.Dataset) -> xr.Dataset:
    """Return the Dataset unchanged if it keeps the rules above.

    Raises
    ------
    DataError
        With the first rule that is broken.
    """
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
        raise DataError(
            "nothing is observed: every entry is masked; look at `nwb-sbtt inspect` for the gaps, "
            "the observation intervals and the invalid times of the file"
        )
    if not _everywhere(values.shape, lambda part: bool(np.isfinite(values[part]).all())):
        raise DataError(f"{int((~np.isfinite(values)).sum())} values are not finite; mask them in 'observed'")
    if _has_junk(values, observed):
        raise DataError("values outside 'observed' must be 0")
    if "exposure" in ds:
        exposure = ds["exposure"].values[observed]
        if not ((exposure > 0) & (exposure <= 1)).all():
            raise DataError("'exposure' must lie in (0, 1] wherever something is observed")
    json.dumps(ds.attrs)
    return ds


def name_units(latents: xr.Dataset) -> xr.Dataset:
    """Say in ``attrs["units"]`` of what was inferred for each channel its unit: Hz of rates, the data's own of means."""
    own = latents.attrs.get("unit")
    for name, unit in (("rates", "Hz"), ("mean", own), ("denoised", own)):
        for each in (name, f"{name}_sd"):
            if each in latents and unit is not None:
                latents[each].attrs["units"] = unit
    return latents


def _without_junk(values: NDArray[np.generic], observed: NDArray[np.bool_]) -> NDArray[np.float32]:
    if values.dtype == np.float32 and not _has_junk(values, observed):
        return values.astype(np.float32, copy=False)
    return np.where(observed, values, 0).astype(np.float32, copy=False)


def _has_junk(values: NDArray[np.generic], observed: NDArray[np.bool_]) -> bool:
    """Whether anything but 0 lies outside `observed`."""

    def clean(part: Part) -> bool:
        seen = observed[part]
        return bool(seen.all()) or not ((values[part] != 0) & ~seen).any()

    return not _everywhere(values.shape, clean)


def _everywhere(shape: tuple[int, ...], holds: Callable[[Part], bool]) -> bool:
    """Whether something holds for all parts of an array (trial, time, channel), of about `CHECKED` entries each."""
    length = max(CHECKED // max(shape[2], 1), 1)
    trials = max(length // max(shape[1], 1), 1)
    parts = [
        (slice(trial, trial + trials), slice(first, first + length))
        for trial in range(0, shape[0], trials)
        for first in range(0, shape[1], length)
    ]
    return all(in_threads(lambda some: all(holds(parts[i]) for i in some), shares(0, len(parts))))
