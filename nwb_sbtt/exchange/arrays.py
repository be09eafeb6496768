"""A Dataset from arrays or from xarray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.config import Chop
from nwb_sbtt.data.grid import Kind
from nwb_sbtt.data.schema import DIMS, check_dataset, make_dataset
from nwb_sbtt.data.trials import chop_windows
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.exchange.labels import channel_ids, check_kind, columns, seconds, trial_starts, with_roles

UNITS: dict[str, str] = {"units": "counts"}
"""Unit of the values of each kind of channel, where it has one."""
STEP_TOLERANCE = 1e-6
"""Relative difference of two steps of a time axis from which on it is not even."""
SAME_WIDTH = 1e-3
"""Relative difference of a bin width that was passed and the mean step of a time axis from which on they disagree."""
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", ""), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
}
"""Seconds of each unit that a time axis may be in, in lower case."""


def from_numpy(
    values: ArrayLike,
    *,
    bin_width: float,
    observed: ArrayLike | None = None,
    kind: Kind = "units",
    unit: str | None = None,
    channel_id: Sequence[int | str] | NDArray[np.generic] | None = None,
    exposure: ArrayLike | None = None,
    start: float = 0.0,
    trial_start: ArrayLike | None = None,
    chop: Chop | None = None,
    coords: Mapping[str, tuple[str, ArrayLike]] | None = None,
) -> xr.Dataset:
    """Convert an array to a Dataset for `fit`.

    Parameters
    ----------
    values : array (trial, time, channel) or (time, channel)
        Spike counts per bin or, with another `kind`, a signal. NaN is missing, and so is what a masked array masks; a zero is a
        measured zero. One recording without trials is chopped with overlap.
    bin_width : float
        Seconds.
    observed : bool array of the shape of `values`, optional
        Where a measurement exists. Default: wherever a value is not NaN. What a masked array of values masks is missing all the
        same.
    kind : "units", "electrodes", "rois" or "series"
        Type of the channels. Values of units are counts (Poisson likelihood); values of the others are signals (Gaussian).
    unit : str, optional
        Unit of the values. Default: "counts" for units, "a.u." for the others.
    channel_id : sequence, optional
        One for each channel, none twice. Default: 0 … n−1.
    exposure : array of the shape of `values`, optional
        Share of each bin during which the channel was observed, in (0, 1].
    start : float
        Left edge of the first bin relative to the event that trials are aligned to, in seconds.
    trial_start : array (trial), optional
        Left edge of each trial's first bin on the session clock, in seconds.
    chop : Chop, optional
        How one recording without trials is chopped.
    coords : mapping of name to (dim, array), optional
        Further columns of trials or channels, such as ``{"condition": ("trial", conditions)}``; ``held_out`` marks channels
        for co-smoothing, ``forecast`` bins for forward prediction.

    Returns
    -------
    Dataset
        See `nwb_sbtt.data.schema`.

    Raises
    ------
    DataError
        If shapes do not agree, a column has another length than its dim or cannot be stored, an id repeats, there is no such
        kind, counts are not whole numbers from 0 on, a value that was observed is not finite, or nothing was observed.
    ConfigError
        If the bin width is not positive, the start is no number, or chops are longer than the recording.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.5, (20, 50, 8)).astype(float)
    >>> counts[:, ::2, :4] = np.nan
    >>> ds = from_numpy(counts, bin_width=0.02)
    >>> float(ds["observed"].mean())
    0.75
    """
    masked = _masked(values)
    array = numbers(values, "values")
    if array.ndim not in (2, 3):
        raise DataError(f"values have shape {array.shape}; expected (trial, time, channel) or (time, channel)")
    if array.size == 0:
        raise DataError(
            f"values are empty: they have shape {array.shape}; expected at least one of each of {DIMS[-array.ndim :]}"
        )
    check_kind(kind)
    if unit is not None and not isinstance(unit, str):
        raise DataError(f"unit is {unit!r}; expected a text, such as 'V'")
    bin_width, start = seconds(bin_width, "bin_width", positive=True), seconds(start, "start")
    if chop is not None and not isinstance(chop, Chop):
        raise ConfigError(f"chop is {chop!r}; expected a Chop, such as Chop(length=2.0)")
    measured = _observed(array, observed, masked)
    if kind == "units":
        _check_counts(array[measured])
    shares = None if exposure is None else _of_shape(_nan_where_masked(exposure, "exposure"), array.shape, "exposure")
    attrs: dict[str, str] = {"unit": unit or UNITS.get(kind, "a.u."), "notes": json.dumps([_note(measured)])}
    n_starts = len(array) if array.ndim == len(DIMS) else 1
    starts = None if trial_start is None else trial_starts(_nan_where_masked(trial_start, "trial_start"), n_starts)
    if array.ndim == 2:
        cut = chop or Chop()
        first = 0.0 if starts is None else float(starts[0])
        grid = chop_windows(cut, bin_width, (first, first + len(array) * bin_width)).grid
        firsts = np.round((grid.starts - first) / bin_width).astype(int)
        bins = firsts[:, None] + np.arange(grid.n_bins)
        array, measured = array[bins], measured[bins]
        shares = None if shares is None else shares[bins]
        starts, attrs["cut"] = grid.starts, json.dumps(cut.model_dump(mode="json"))
    elif chop is not None:
        raise ConfigError(
            "`chop` is only for one continuous recording of shape (time, channel); these values already have trials"
        )
    return make_dataset(
        array,
        measured,
        bin_width=bin_width,
        kind=kind,
        channel_id=channel_ids(channel_id, array.shape[-1]),
        exposure=shares,
        start=start,
        trial_start=starts,
        coords=columns(coords, dict(zip(DIMS, array.shape, strict=True))),
        attrs=attrs,
    )


def from_xarray(
    data: xr.DataArray | xr.Dataset,
    *,
    bin_width: float | None = None,
    dims: Mapping[str, str] | None = None,
    observed: ArrayLike | xr.DataArray | None = None,
    kind: Kind | None = None,
    unit: str | None = None,
    chop: Chop | None = None,
) -> xr.Dataset:
    """Convert xarray data to a Dataset for `fit`.

    Parameters
    ----------
    data : DataArray or Dataset
        A DataArray of trials, bins and channels, or of bins and channels; NaN is missing. A Dataset that follows
        `nwb_sbtt.data.schema` is checked and returned as it is; it takes no further arguments.
    bin_width : float, optional
        Seconds. Default: the step of the coordinate ``time``, which holds the centres of the bins: seconds, another unit that
        ``time.attrs["units"]`` names, or ``timedelta64``. It must not contradict that step.
    dims : mapping of name to "trial", "time" or "channel", optional
        Roles of dimensions that have other names: ``{"neuron": "channel"}``.
    observed, kind, unit, chop
        As of `from_numpy`; a DataArray `observed` may have its dims in another order, and must have the labels of the values.

    Returns
    -------
    Dataset
        With the coordinates of trials and channels.

    Raises
    ------
    DataError
        If dimensions are missing or unknown, labels of `observed` are others, or the steps of ``time`` are not equal; or as
        `from_numpy`.
    ConfigError
        If `bin_width` contradicts ``time``, `dims` names a dimension that there is not, or arguments come with a Dataset; or as
        `from_numpy`.
    """
    if isinstance(data, xr.Dataset):
        given = {"bin_width": bin_width, "dims": dims, "observed": observed, "kind": kind, "unit": unit, "chop": chop}
        if extra := [name for name, value in given.items() if value is not None]:
            raise ConfigError(
                f"a Dataset is taken as it is, so `{extra[0]}` would change nothing; leave it out, or pass a DataArray such as "
                "data['values'] with it"
            )
        return check_dataset(data)
    if not isinstance(data, xr.DataArray):
        raise DataError(f"expected an xarray DataArray or Dataset, not a {type(data).__name__}")
    data = with_roles(data, dims)
    mask = with_roles(observed, dims, of=data).values if isinstance(observed, xr.DataArray) else observed
    coords = {
        str(name): (str(coord.dims[0]), coord.values)
        for name, coord in data.coords.items()
        if coord.ndim == 1 and coord.dims[0] in ("trial", "channel") and name not in DIMS
    }
    ids = coords.pop("channel_id", (None, data["channel"].values if "channel" in data.coords else None))[1]
    if "trial" in data.dims and "trial" in data.coords and "trial_id" not in coords:
        coords["trial_id"] = ("trial", data["trial"].values)
    starts = coords.pop("trial_start", (None, None))[1]
    width, start = _bins(data, bin_width)
    if "trial" not in data.dims:
        starts, start = [start], 0.0
    return from_numpy(
        data.values,
        bin_width=width,
        observed=mask,
        kind="units" if kind is None else kind,
        unit=unit or data.attrs.get("units"),
        channel_id=ids,
        start=start,
        trial_start=starts,
        chop=chop,
        coords=coords,
    )


def _bins(data: xr.DataArray, bin_width: float | None) -> tuple[float, float]:
    """Width of the bins, and the left edge of the first [s]."""
    if "time" not in data.coords:
        if bin_width is None:
            raise DataError(
                "the DataArray has no coordinate 'time' to derive the bin width from; pass bin_width in seconds"
            )
        return bin_width, 0.0
    centres = _in_seconds(data["time"])
    if bin_width is not None:
        _check_agrees(seconds(bin_width, "bin_width", positive=True), centres)
        return bin_width, float(centres[0]) - bin_width / 2
    steps = np.diff(centres)
    if len(steps) == 0 or not np.allclose(steps, steps.mean(), rtol=STEP_TOLERANCE, atol=0) or not steps.mean() > 0:
        raise DataError(
            "the coordinate 'time' does not increase in equal steps, so the bin width is unknown; use bins of equal width, or "
            "pass bin_width in seconds"
        )
    bin_width = float((centres[-1] - centres[0]) / (len(centres) - 1))
    return bin_width, float(centres[0]) - bin_width / 2


def _in_seconds(time: xr.DataArray) -> NDArray[np.float64]:
    """Values of a time axis in seconds."""
    if time.dtype.kind == "m":
        centres = np.asarray(time.values / np.timedelta64(1, "s"), dtype=float)
    elif time.dtype.kind in "iuf":
        unit = str(time.attrs.get("units", "s")).strip()
        if unit.lower() not in TIME_UNITS:
            raise DataError(
                f"the coordinate 'time' is in {unit!r}; expected seconds, or milli-, micro- or nanoseconds: "
                "data.assign_coords(time=…) in seconds"
            )
        centres = np.asarray(time.values, dtype=float) * TIME_UNITS[unit.lower()]
    else:
        raise DataError(
            f"the coordinate 'time' contains {time.dtype}; expected seconds or timedelta64, such as "
            "data.assign_coords(time=data.time - data.time[0])"
        )
    if not np.isfinite(centres).all():
        raise DataError(
            "the coordinate 'time' contains values that are not finite; expected the centre of each bin, in seconds"
        )
    return centres


def _check_agrees(bin_width: float, centres: NDArray[np.float64]) -> None:
    """Refuse a bin width that the centres of bins contradict, beyond what digits of theirs may be lost."""
    if len(centres) < 2:
        return
    step = float((centres[-1] - centres[0]) / (len(centres) - 1))
    drift = np.abs(centres - centres[0] - bin_width * np.arange(len(centres)))
    if abs(step / bin_width - 1) > SAME_WIDTH or drift.max() > bin_width / 2:
        raise ConfigError(
            f"bin_width is {bin_width:g} s, but the coordinate 'time' steps by {step:g} s on average; leave bin_width out to "
            "take the step, put the data into bins of that width, or drop the coordinate (data.drop_vars('time')) if it is "
            "not in seconds"
        )


def numbers(values: object, name: str) -> NDArray[Any]:
    """Make an array of real numbers.

    Parameters
    ----------
    values : array-like
    name : str
        For the error.

    Raises
    ------
    DataError
        If they are none.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of tensors that require a gradient
        raise DataError(f"{name} cannot be converted into an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{name} of type {type(values).__name__} contain {array.dtype}; expected an array of real numbers"
        )
    return array


def _of_shape(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    if array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}; expected the shape of the values, {shape}")
    return array


def _masked(values: object) -> NDArray[np.bool_] | None:
    """Which entries of masked arrays, one or a nested list of them, are masked; None where there are none such."""
    if isinstance(values, np.ma.MaskedArray):
        return np.asarray(np.ma.getmaskarray(values))
    if not isinstance(values, list | tuple):
        return None
    parts = [_masked(each) for each in values]
    if all(part is None for part in parts):
        return None
    full = [np.zeros(np.shape(each), bool) if part is None else part for each, part in zip(values, parts, strict=True)]
    if len({part.shape for part in full}) > 1:
        raise DataError("values cannot be converted into an array: their parts have different shapes")
    return np.stack(full)


def _observed(array: NDArray[Any], observed: ArrayLike | None, masked: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Where a measurement exists: as the mask says or, without one, wherever a value is not NaN; never where it is masked."""
    unmasked = np.ones(array.shape, dtype=bool) if masked is None else ~masked
    missing = np.isnan(array) & unmasked if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
    mask: NDArray[np.bool_] = unmasked & ~missing
    if observed is not None:
        known = _masked(observed)
        flags = _of_shape(numbers(observed, "observed"), array.shape, "observed")
        known = np.ones(array.shape, dtype=bool) if known is None else ~known
        if flags.dtype != bool and not np.isin(flags[known], (0, 1)).all():
            raise DataError(
                f"observed contains {flags.dtype} values other than 0 and 1; expected true where a measurement exists, "
                "else false"
            )
        mask = np.asarray((flags == 1) & known & unmasked)
        if n_missing := int((missing & mask).sum()):
            raise DataError(f"{n_missing} values are NaN where `observed` is true; set it to false there")
    if not mask.any():
        why = "`observed` is false" if observed is not None else "the value is NaN or masked"
        raise DataError(f"nothing is observed: {why} in all {mask.size} entries; expected at least one measurement")
    return mask


def _nan_where_masked(values: ArrayLike, name: str) -> NDArray[Any]:
    masked, array = _masked(values), numbers(values, name)
    return array if masked is None else np.where(masked, np.nan, array)


def _check_counts(counts: NDArray[Any]) -> None:
    wrong = counts[(counts < 0) | (counts != np.floor(counts))]
    if len(wrong):
        raise DataError(
            f"values of kind 'units' are spike counts; expected whole numbers of at least 0, but {len(wrong)} are "
            f"not, such as {wrong[0]:g}. For a signal pass kind='series'. For missing entries use NaN, or pass "
            "`observed`"
        )


def _note(observed: NDArray[np.bool_]) -> str:
    return f"created from an array; {observed.mean():.1%} of its entries are observed"
