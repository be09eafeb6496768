"""What functions are given as a Dataset: that it is one, and that it has trials. `schema` has the rules of its content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.config.base import LARGEST_INT
from nwb_sbtt.errors import DataError, MismatchError

Of = Literal["data", "latents", "either"]
MAKERS: dict[Of, str] = {
    "data": "a Dataset, as sb.read_nwb or sb.from_numpy return it",
    "latents": "a Dataset of latents, as Fitted.infer or sb.read_result return it",
    "either": "a Dataset of data (sb.read_nwb, sb.from_numpy) or latents (Fitted.infer, sb.read_result)",
}


def finite_number(value: object) -> float | None:
    """Return a finite number as a float.

    Parameters
    ----------
    value : object
        As it was passed.

    Returns
    -------
    float or None
        None where it is no number (true and false are none), or not finite.
    """
    is_number = isinstance(value, float | int | np.integer | np.floating) and not isinstance(value, bool)
    return float(value) if is_number and np.isfinite(value) else None  # type: ignore[arg-type,call-overload]


def whole_number(name: str, given: object, *, least: int = 1) -> int:
    """Check that a number is whole.

    Parameters
    ----------
    name : str
        For the error.
    given : object
        As it was passed.
    least : int
        0 or 1, the smallest that will do.

    Returns
    -------
    int

    Raises
    ------
    DataError
        If it is anything else, or does not fit into 64 bits, as seeds of torch and sizes of arrays must.
    """
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < least:
        raise DataError(f"{name} is {given!r}; expected a whole number, {('zero', 'one')[least]} or more")
    if given > LARGEST_INT:
        raise DataError(f"{name} is {given!r}; expected a whole number from {least} to 2**63 − 1")
    return int(given)


def masked_as_nan(given: ArrayLike) -> NDArray[np.float32]:
    """Give an array of numbers, NaN where a masked array masks.

    Parameters
    ----------
    given : array

    Returns
    -------
    float32 array

    Raises
    ------
    TypeError, ValueError
        If it cannot be an array of numbers.
    """
    if not isinstance(given, np.ma.MaskedArray):
        return np.asarray(given, dtype=np.float32)
    values: NDArray[np.float32] = np.ma.getdata(given).astype(np.float32)
    values[np.ma.getmaskarray(given)] = np.nan
    return values


def dataset_of(given: object, *, of: Of = "data", expected: str = "") -> xr.Dataset:
    """Return what was given, if it is a Dataset; else say what came, and what to try.

    Parameters
    ----------
    given : object
    of : "data", "latents" or "either"
        What it should be a Dataset of.
    expected : str, optional
        In words, where a function takes other things too.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If it is anything else.
    """
    if isinstance(given, xr.Dataset):
        return given
    came = f"the path {str(given)!r}" if isinstance(given, str | Path) else f"a {type(given).__name__}"
    if given is None:
        came = "None"
    elif isinstance(given, Mapping):
        came = f"a mapping of {len(given)} ({', '.join(repr(name) for name in list(given)[:4])})"
    remedy = _remedy(given, of)
    raise DataError(f"got {came}; expected {expected or MAKERS[of]}" + (f"; {remedy}" if remedy else ""))


def _remedy(given: object, of: Of) -> str:
    """What makes a Dataset of something else."""
    if isinstance(given, str | Path):
        recording, results = "sb.read_nwb(path) of a recording", "sb.read_result(path) of results"
        readers = {
            "data": recording,
            "latents": results,
            "either": f"{recording}, {results}, sb.load(path) of a run folder",
        }
        return f"load it first: {readers[of]}"
    if isinstance(given, Mapping):
        return f"take one session at a time: data[{next(iter(given), 'name')!r}]"
    if isinstance(given, xr.DataArray):
        whole = "pass the whole Dataset, not one of its variables"
        return whole if of == "latents" else f"{whole}, or make one of it with sb.from_xarray"
    if isinstance(given, np.ndarray | list | tuple):
        return "infer latents from data first" if of == "latents" else "sb.from_numpy(array, bin_width=…) makes one"
    if callable(getattr(given, "infer", None)):
        return "a fit infers latents from data: fitted.infer(data); those that it was fitted to are fitted.data()"
    return ""


def check_matching(first: xr.Dataset, second: xr.Dataset, *, names: tuple[str, str] = ("data", "latents")) -> None:
    """Check that two Datasets are of the same trials, bins and channels, as far as both have labels of them.

    Parameters
    ----------
    first, second : Dataset
    names : (str, str)
        What they are, for the error.

    Raises
    ------
    MismatchError
        Naming what differs first.
    """
    of_both = " and ".join(names)
    dims = [dim for dim in ("trial", "time", "channel") if dim in first.dims and dim in second.dims]
    if differing := [dim for dim in dims if first.sizes[dim] != second.sizes[dim]]:
        sizes = ", ".join(f"{first.sizes[dim]} and {second.sizes[dim]} of {dim!r}" for dim in differing)
        raise MismatchError(f"{of_both} must have the same trials, bins and channels; they have {sizes}")
    for name, dim in (("trial_id", "trial"), ("trial_start", "trial"), ("time", "time"), ("channel_id", "channel")):
        if dim not in dims or name not in first.coords or name not in second.coords:
            continue
        ours, theirs = first[name].values, second[name].values
        if name in ("trial_start", "time"):
            # A file may have rounded them.
            alike = np.isclose(ours, theirs, rtol=0, atol=0.01 * float(first.attrs.get("bin_width", 0)), equal_nan=True)
        else:
            alike = np.asarray(ours == theirs)
        if not alike.all():
            i = int(np.flatnonzero(~alike)[0])
            raise MismatchError(
                f"{of_both} do not have the same {name!r} in the same order: {ours[i]} and {theirs[i]}; choose the same of "
                "both, such as data.isel(trial=…) and latents.isel(trial=…)"
            )


def with_trials(ds: xr.Dataset) -> xr.Dataset:
    """Give one trial alone, as ``ds.isel(trial=0)`` returns it, its dim of trials back; refuse a Dataset without any.

    Parameters
    ----------
    ds : Dataset
        Data or latents.

    Returns
    -------
    Dataset
        With the dim ``trial`` in front.

    Raises
    ------
    DataError
        If it has no trial.
    """
    if "trial" in ds.dims:
        if ds.sizes["trial"] == 0:
            raise DataError("the Dataset has no trial: those that were chosen are none; look at ds['trial_id']")
        return ds
    if "time" not in ds.dims:
        return ds
    # What had the dim of trials is now without it; labels of trials became scalars.
    labels = {str(name): ("trial", [coord.values[()]]) for name, coord in ds.coords.items() if coord.ndim == 0}
    bare = ds.drop_vars(list(labels))
    of_trials = [name for name, each in bare.data_vars.items() if {"time", "initial"} & set(each.dims)]
    return bare.assign({name: bare[name].variable.expand_dims("trial") for name in of_trials}).assign_coords(labels)
