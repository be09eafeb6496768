"""Latents for other tools: objects of pynapple, tables of pandas, a MATLAB file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.data.chops import merge_chops
from nwb_sbtt.data.datasets import dataset_of, with_trials
from nwb_sbtt.errors import DataError, FileError, SelectionError
from nwb_sbtt.exchange.recordings import import_pynapple
from nwb_sbtt.fileerrors import follow_links, path_of

if TYPE_CHECKING:
    import pandas as pd

INSET = 1e-6
"""Seconds by which supports are shorter than their trials at either end: pynapple joins intervals that touch."""
LARGEST_MAT = 2**31 - 1
"""Bytes of the largest array that a MATLAB file of level 5 holds."""
LONGEST_MAT_NAME = 31


def to_pynapple(latents: xr.Dataset, variable: str = "rates") -> Any:
    """Convert one variable to a pynapple TsdFrame, on the session clock.

    Parameters
    ----------
    latents : Dataset
        Latents from `Fitted.infer`, or data. Chops of a session are merged first.
    variable : str
        Variable with a time axis: "rates" (Hz), "mean", "factors", "events", "values", …

    Returns
    -------
    pynapple.TsdFrame
        One row per bin, at its centre [s]; one column per channel (named by its id) or factor. ``time_support`` has one
        interval per trial, with the columns of the trials as metadata; names that pynapple uses get ``trial_`` in front, as
        ``trial_split``. Entries that were not inferred are NaN.

    Raises
    ------
    SelectionError
        If there is no such variable along trials and bins.
    DataError
        If trials overlap in time.
    ConfigError
        If pynapple is not installed.
    """
    nap = import_pynapple()
    latents, values = _along_time(latents, variable)
    width = float(latents.attrs["bin_width"])
    order = np.argsort(latents["trial_start"].values, kind="stable")
    latents, values = latents.isel(trial=order), values[order]
    starts, length = latents["trial_start"].values.astype(float), latents.sizes["time"] * width
    if (np.diff(starts) < length - INSET).any():
        raise DataError(
            "trials overlap in time, but a pynapple object can have only one row per time; choose trials that do not "
            "overlap with latents.isel(trial=…), or use a table: to_pandas"
        )
    times = (starts[:, None] + (np.arange(latents.sizes["time"]) + 0.5) * width).ravel()
    inset = min(INSET, width / 10)
    columns = {
        # What has the name of a method, as `split` has, could not be looked up.
        (f"trial_{name}" if hasattr(nap.IntervalSet, name) else name): labels
        for name, labels in _labels(latents, "trial").items()
        if name not in ("trial_start", "trial")
    }
    support = nap.IntervalSet(starts + inset, starts + length - inset, metadata=columns or None)
    names = _names(latents, str(latents[variable].dims[2]))
    return nap.TsdFrame(t=times, d=values.reshape(len(times), -1), columns=names, time_support=support)


def to_pandas(latents: xr.Dataset, variable: str = "rates") -> pd.DataFrame:
    """Convert one variable to a pandas DataFrame.

    Parameters
    ----------
    latents : Dataset
        Latents from `Fitted.infer`, or data. Chops of a session are merged first.
    variable : str
        Variable with a time axis: "rates" (Hz), "mean", "factors", "events", "values", …

    Returns
    -------
    DataFrame
        One row per bin, with the index ``(trial, time)``: the trial's id, and the bin's centre relative to the trial's event
        [s]; one column per channel (named by its id) or factor. Entries that were not inferred are NaN.

    Raises
    ------
    SelectionError
        If there is no such variable along trials and bins.
    """
    import pandas as pd

    latents, values = _along_time(latents, variable)
    dim = str(latents[variable].dims[2])
    ids = latents["trial_id"].values if "trial_id" in latents.coords else np.arange(latents.sizes["trial"])
    index = pd.MultiIndex.from_product([ids, latents["time"].values], names=["trial", "time"])
    columns = pd.Index(_names(latents, dim), name=dim)
    return pd.DataFrame(values.reshape(len(index), -1), index=index, columns=columns)


def to_mat(latents: xr.Dataset, path: Path | str, *, overwrite: bool = False) -> Path:
    """Write all variables and labels to a MATLAB file (level 5).

    Parameters
    ----------
    latents : Dataset
        Latents from `Fitted.infer`, or data.
    path : path
        Ends in ``.mat``.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the file: each variable under its name, with the dims (trial, time, channel) in this order; labels of trials, bins
        and channels; ``bin_width`` [s], and ``dims``, which names the dims of each variable.

    Raises
    ------
    FileError
        If the path does not end in ``.mat``, the file exists, or cannot be written.
    DataError
        If an array is larger than such a file can hold.
    """
    from scipy.io import savemat

    latents = with_trials(dataset_of(latents, of="either"))
    target = path_of(path, "the MATLAB file").absolute()
    if target.suffix != ".mat":
        raise FileError(f"{str(path)!r} does not end in .mat; expected a file name such as results.mat")
    target = follow_links(target)
    if target.exists() and not overwrite:
        raise FileError(f"{str(path)!r} exists; pass another path, or `overwrite` to replace it")
    arrays = {str(name): variable for name, variable in {**latents.data_vars, **latents.coords}.items()}
    if large := [name for name, variable in arrays.items() if variable.nbytes > LARGEST_MAT]:
        raise DataError(
            f"{large[0]!r} has {arrays[large[0]].nbytes:.3g} bytes, more than an array of a MATLAB file can have; write fewer "
            "trials, or an NWB file with write_nwb, which MatNWB reads"
        )
    content: dict[str, Any] = {name[:LONGEST_MAT_NAME]: _for_matlab(each.values) for name, each in arrays.items()}
    content["dims"] = {name[:LONGEST_MAT_NAME]: ", ".join(map(str, each.dims)) for name, each in arrays.items()}
    content["bin_width"] = float(latents.attrs["bin_width"])
    with atomic_write(target, suffix=".mat", parents=True) as temporary:
        savemat(temporary, content, do_compression=True, oned_as="column")
    return target


def _for_matlab(values: NDArray[np.generic]) -> Any:
    """Texts as a cell array; all else as it is."""
    return values.astype(object) if values.dtype.kind in "UTO" else values


def _along_time(latents: xr.Dataset, variable: str) -> tuple[xr.Dataset, NDArray[np.floating]]:
    """The Dataset, merged where it has chops, and the values of a variable, NaN where there are none."""
    latents = with_trials(dataset_of(latents, of="either"))
    named = [
        str(name) for name, each in latents.data_vars.items() if each.dims[:2] == ("trial", "time") and each.ndim == 3
    ]
    if variable not in named:
        have = f"choose one of {named}" if named else f"the Dataset has none, but {sorted(map(str, latents.data_vars))}"
        raise SelectionError(f"there is no variable {variable!r} with trials and bins; {have}")
    latents = merge_chops(latents)
    values = latents[variable].values.astype(float if latents[variable].dtype == np.float64 else np.float32)
    if variable == "values":
        values = np.where(latents["observed"].values, values, np.nan)
    if "covered" in latents.coords:
        values = np.where(latents["covered"].values[None, :, None], values, np.nan)
    return latents, values


def _labels(ds: xr.Dataset, dim: str) -> dict[str, NDArray[np.generic]]:
    return {str(name): coord.values for name, coord in ds.coords.items() if coord.dims == (dim,)}


def _names(ds: xr.Dataset, dim: str) -> list[Any]:
    """Ids of channels where they tell them apart, numbers otherwise."""
    ids = ds["channel_id"].values.tolist() if dim == "channel" else list(range(ds.sizes[dim]))
    return ids if len(set(ids)) == len(ids) else list(range(len(ids)))
