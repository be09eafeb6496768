"""What functions are given as a Dataset: that it is one, and that it has trials. `schema` has the rules of its content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from nwb_sbtt.errors import DataError

Of = Literal["data", "latents", "either"]
MAKERS: dict[Of, str] = {
    "data": "a Dataset, as sb.read_nwb or sb.from_numpy return it",
    "latents": "a Dataset of latents, as Fitted.infer or sb.read_result return it",
    "either": "a Dataset of data (sb.read_nwb, sb.from_numpy) or latents (Fitted.infer, sb.read_result)",
}


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
    raise DataError(f"{came} came; expected {expected or MAKERS[of]}" + (f"; {remedy}" if remedy else ""))


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
