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

UNITS: dict[str, str] = {"units": "counts"}
"""Unit of the values of each kind of channel, where it has one."""
STEP_TOLERANCE = 1e-6
"""Relative difference of two steps of a time axis from which on it is not even."""


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
        Spike counts per bin or, with another `kind`, a signal. NaN is missing; a zero is a measured zero. One recording
        without trials is chopped with overlap.
    bin_width : float
        Seconds.
    observed : bool array of the shape of `values`, optional
        Where a measurement exists. Default: wherever a value is not NaN.
    kind : "units", "electrodes", "rois" or "series"
        Type of the channels. Values of units are counts (Poisson likelihood); values of the others are signals (Gaussian).
    unit : str, optional
        Unit of the values. Default: "counts" for units, "a.u." for the others.
    channel_id : sequence, optional
        Default: 0 … n−1.
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
        If shapes do not agree, counts are not whole numbers from 0 on, or a value that was observed is not finite.
    ConfigError
        If the bin width is not positive, or chops are longer than the recording.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.5, (20, 50, 8)).astype(float)
    >>> counts[:, ::2, :4] = np.nan
    >>> ds = from_numpy(counts, bin_width=0.02)
    >>> float(ds["observed"].mean())
    0.75
    """
    array = numbers(values, "values")
    if array.ndim not in (2, 3):
        raise DataError(f"values have shape {array.shape}; expected (trial, time, channel) or (time, channel)")
    if not (isinstance(bin_width, float | int | np.number) and np.isfinite(bin_width) and bin_width > 0):
        raise ConfigError(f"bin_width is {bin_width!r}; expected a positive number of seconds")
    bin_width = float(bin_width)
    measured = _observed(array, observed)
    if kind == "units":
        _check_counts(array[measured])
    shares = None if exposure is None else _of_shape(numbers(exposure, "exposure"), array.shape, "exposure")
    attrs: dict[str, str] = {"unit": unit or UNITS.get(kind, "a.u."), "notes": json.dumps([_note(measured)])}
    starts = None if trial_start is None else numbers(trial_start, "trial_start")
    if array.ndim == 2:
        cut = chop or Chop()
        first = 0.0 if starts is None else float(np.ravel(starts)[0])
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
        channel_id=channel_id,
        exposure=shares,
        start=start,
        trial_start=starts,
        coords=coords,
        attrs=attrs,
    )


def from_xarray(
    data: xr.DataArray | xr.Dataset,
    *,
    bin_width: float | None = None,
    dims: Mapping[str, str] | None = None,
    observed: ArrayLike | xr.DataArray | None = None,
    kind: Kind = "units",
    unit: str | None = None,
    chop: Chop | None = None,
) -> xr.Dataset:
    """Convert xarray data to a Dataset for `fit`.

    Parameters
    ----------
    data : DataArray or Dataset
        A DataArray of trials, bins and channels, or of bins and channels; NaN is missing. A Dataset that follows
        `nwb_sbtt.data.schema` is checked and returned as it is.
    bin_width : float, optional
        Seconds. Default: the step of the coordinate ``time``, which holds the centres of the bins.
    dims : mapping of name to "trial", "time" or "channel", optional
        Roles of dimensions that have other names: ``{"neuron": "channel"}``.
    observed, kind, unit, chop
        As of `from_numpy`.

    Returns
    -------
    Dataset
        With the coordinates of trials and channels.

    Raises
    ------
    DataError
        If dimensions are missing or unknown, or the steps of ``time`` are not equal; or as `from_numpy`.
    """
    if isinstance(data, xr.Dataset):
        return check_dataset(data)
    if not isinstance(data, xr.DataArray):
        raise DataError(f"expected an xarray DataArray or Dataset, not a {type(data).__name__}")
    data = data.rename({name: dim for name, dim in (dims or {}).items() if name in data.dims})
    expected = DIMS if data.ndim == len(DIMS) else DIMS[1:]
    if set(data.dims) != set(expected):
        raise DataError(
            f"the DataArray has dims {tuple(map(str, data.dims))}; expected {DIMS} or {DIMS[1:]}; rename them with "
            "`dims`, such as dims={'neuron': 'channel'}"
        )
    mask = observed
    if isinstance(observed, xr.DataArray):
        mask = observed.rename({name: dim for name, dim in (dims or {}).items() if name in observed.dims})
        mask = mask.transpose(*expected).values
    data = data.transpose(*expected)
    coords = {
        str(name): (str(coord.dims[0]), coord.values)
        for name, coord in data.coords.items()
        if coord.ndim == 1 and coord.dims[0] in ("trial", "channel") and name not in DIMS
    }
    ids = coords.pop("channel_id", (None, data["channel"].values if "channel" in data.coords else None))[1]
    if "trial" in data.coords and "trial_id" not in coords:
        coords["trial_id"] = ("trial", data["trial"].values)
    starts = coords.pop("trial_start", (None, None))[1]
    width, start = _bins(data, bin_width)
    if "trial" not in data.dims:
        starts, start = [start], 0.0
    return from_numpy(
        data.values,
        bin_width=width,
        observed=mask,
        kind=kind,
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
    centres = np.asarray(data["time"].values, dtype=float)
    if bin_width is None:
        steps = np.diff(centres)
        if len(steps) == 0 or not np.allclose(steps, steps.mean(), rtol=STEP_TOLERANCE, atol=0) or not steps.mean() > 0:
            raise DataError(
                "the coordinate 'time' does not increase in equal steps, so the bin width is unknown; use bins of "
                "equal width, or pass bin_width in seconds"
            )
        bin_width = float((centres[-1] - centres[0]) / (len(centres) - 1))
    return bin_width, float(centres[0]) - bin_width / 2


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
    except (TypeError, ValueError) as error:
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


def _observed(array: NDArray[Any], observed: ArrayLike | None) -> NDArray[np.bool_]:
    """Where a measurement exists; without a mask, wherever a value is not NaN."""
    missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
    if observed is None:
        return ~missing
    mask = _of_shape(numbers(observed, "observed"), array.shape, "observed")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise DataError(
            f"observed contains {mask.dtype} values other than 0 and 1; expected true where a measurement exists, "
            "else false"
        )
    mask = mask.astype(bool)
    if n_missing := int((missing & mask).sum()):
        raise DataError(f"{n_missing} values are NaN where `observed` is true; set it to false there")
    return mask


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
