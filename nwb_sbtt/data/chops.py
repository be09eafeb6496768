"""Chops of a session put back onto one time axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.datasets import dataset_of, with_trials
from nwb_sbtt.data.schema import is_chopped
from nwb_sbtt.errors import DataError

MEASURED = {"observed": ("values", "observed", "exposure"), "inputs_observed": ("inputs", "inputs_observed")}
"""What was measured, by the mask that says where."""


def merge(chops: xr.Dataset) -> xr.Dataset:
    """Put overlapping trials back onto one time axis.

    Measurements (`values`, `observed`, `exposure`, known `inputs`) are copied: an entry is observed where any trial observed
    it. Inferred variables are blended: over an overlap the weight of the earlier trial falls linearly and that of the later one
    rises.
    Standard deviations are blended in the same way, which is exact for trials with equal errors and too large otherwise.
    The initial condition is that of the first trial.

    Parameters
    ----------
    chops : Dataset
        Data or latents with `trial_start` on one grid of bins, in any order.

    Returns
    -------
    Dataset
        One trial from the first bin to the last. Where some bins lie in no trial, a coordinate `covered` (time) marks
        those that do; the others have 0.

    Raises
    ------
    DataError
        If the trials do not lie on a common grid of bins.
    """
    chops = with_trials(dataset_of(chops, of="either"))
    chops = chops.isel(trial=np.argsort(chops["trial_start"].values, kind="stable"))
    width, length = float(chops.attrs["bin_width"]), chops.sizes["time"]
    starts = chops["trial_start"].values
    firsts = _on_grid(starts, width)
    n_bins = int(firsts[-1]) + length
    weights = _blending(firsts, length)
    covered = np.zeros(n_bins, dtype=bool)
    for first in firsts:
        covered[first : first + length] = True
    measured = _measured(chops, firsts, n_bins)
    data: dict[str, tuple[tuple[str, ...], NDArray[np.generic]]] = {}
    for name in map(str, chops.data_vars):
        variable = chops[name]
        dims = tuple(map(str, variable.dims))
        if name in measured:
            data[name] = (dims, measured[name])
        elif dims[:2] == ("trial", "time"):
            data[name] = (dims, _blended(variable.values, firsts, weights, n_bins))
        elif dims[:1] == ("trial",):
            data[name] = (dims, variable.values[:1])
        else:
            data[name] = (dims, variable.values)
    coords: dict[str, tuple[str, ArrayLike]] = {
        str(name): (str(coord.dims[0]), coord.values)
        for name, coord in chops.coords.items()
        if coord.ndim == 1 and coord.dims[0] not in ("trial", "time")
    }
    coords["time"] = ("time", (np.arange(n_bins) + 0.5) * width)
    coords["trial_start"] = ("trial", starts[:1])
    if not covered.all():
        coords["covered"] = ("time", covered)
    return xr.Dataset(data, coords=coords, attrs=chops.attrs)


def cut_as(whole: NDArray[np.generic], chops: xr.Dataset) -> NDArray[np.generic]:
    """Cut an array over the whole time axis into chops: the inverse of `merge`, for what is the same in overlapping chops.

    Parameters
    ----------
    whole : array (1, bin, …)
        Over the bins of ``merge(chops)``.
    chops : Dataset
        In any order.

    Returns
    -------
    array (trial, time, …)
    """
    firsts = _on_grid(chops["trial_start"].values, float(chops.attrs["bin_width"]))
    return np.asarray(whole[0][firsts[:, None] + np.arange(chops.sizes["time"])])


def n_merged_bins(ds: xr.Dataset) -> int:
    """Count the bins of all trials; those that the chops of a session share count once.

    Parameters
    ----------
    ds : Dataset
        Data or latents.

    Returns
    -------
    int
    """
    n_trials, n_bins = ds.sizes["trial"], ds.sizes["time"]
    if not is_chopped(ds):
        return n_trials * n_bins
    return int(_on_grid(ds["trial_start"].values, float(ds.attrs["bin_width"])).max()) + n_bins


def merge_chops(ds: xr.Dataset) -> xr.Dataset:
    """Merge the chops of a session as `merge` does; trials and windows stay as they are.

    Parameters
    ----------
    ds : Dataset
        Data or latents.

    Returns
    -------
    Dataset
    """
    return merge(ds) if is_chopped(ds) and ds.sizes["trial"] > 1 else ds


def without_uncovered(merged: xr.Dataset) -> xr.Dataset:
    """Leave out the bins that lie in no chop: nothing was inferred there, and a zero would be read as a rate.

    Parameters
    ----------
    merged : Dataset
        From `merge` or `merge_chops`.

    Returns
    -------
    Dataset
    """
    if "covered" not in merged.coords:
        return merged
    return merged.isel(time=np.flatnonzero(merged["covered"].values)).drop_vars("covered")


def _on_grid(starts: NDArray[np.float64], width: float) -> NDArray[np.intp]:
    """First bin of each trial, counted from that of the earliest."""
    exact = (starts - starts.min()) / width
    firsts = np.round(exact)
    off = np.abs(exact - firsts)
    if off.max() > 1e-3:
        raise DataError(
            f"trial {int(np.argmax(off))} starts {off.max():.3g} bins off the grid of the first trial; expected the "
            "chops of one session (trials aligned to events cannot be merged)"
        )
    return np.asarray(firsts, dtype=np.intp)


def _blending(firsts: NDArray[np.intp], length: int) -> NDArray[np.float64]:
    """Weight of every bin of every trial, (trial, time): 1, but for linear ramps over the bins that neighbours share."""
    shared = np.maximum(length - np.diff(firsts), 0)
    before, after = np.append(0, shared), np.append(shared, 0)
    bins = np.arange(length)
    rise = np.minimum((bins + 1) / (before[:, None] + 1), 1)
    fall = np.minimum((length - bins) / (after[:, None] + 1), 1)
    return np.asarray(rise * fall)


def _blended(
    values: NDArray[np.generic], firsts: NDArray[np.intp], weights: NDArray[np.float64], n_bins: int
) -> NDArray[np.float32]:
    """Weighted mean over trials on the common axis; (1, time, …)."""
    length = values.shape[1]
    sums = np.zeros((n_bins, *values.shape[2:]))
    totals = np.zeros(n_bins)
    for trial, first in enumerate(firsts):
        weight = weights[trial]
        sums[first : first + length] += values[trial] * weight.reshape(-1, *[1] * (values.ndim - 2))
        totals[first : first + length] += weight
    totals[totals == 0] = 1
    return (sums / totals.reshape(-1, *[1] * (values.ndim - 2))).astype(np.float32)[None]


def _measured(chops: xr.Dataset, firsts: NDArray[np.intp], n_bins: int) -> dict[str, NDArray[np.generic]]:
    """Measured variables on the common axis: each entry from the first trial that observed it."""
    merged: dict[str, NDArray[np.generic]] = {}
    for mask, measured in MEASURED.items():
        if mask in chops:
            merged |= _of_mask(chops, mask, [name for name in measured if name in chops], firsts, n_bins)
    return merged


def _of_mask(
    chops: xr.Dataset, mask: str, names: Sequence[str], firsts: NDArray[np.intp], n_bins: int
) -> dict[str, NDArray[np.generic]]:
    length = chops.sizes["time"]
    observed = chops[mask].values
    merged: dict[str, NDArray[np.generic]] = {}
    for name in names:
        empty = np.ones if name == "exposure" else np.zeros
        merged[name] = empty((1, n_bins, *chops[name].shape[2:]), dtype=chops[name].dtype)
    arrays = {name: chops[name].values for name in names}
    for trial, first in enumerate(firsts):
        part = slice(first, first + length)
        new = observed[trial] & ~merged[mask][0, part].astype(bool)
        for name in names:
            target = merged[name][0, part]
            target[new] = arrays[name][trial][new]
    return merged
