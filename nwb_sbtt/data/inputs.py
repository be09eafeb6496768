"""Known inputs beside the data: stimuli, kinematics, pulses, or anything else that acts on what was recorded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.chops import cut_as, n_merged_bins
from nwb_sbtt.data.datasets import dataset_of, masked_as_nan
from nwb_sbtt.data.schema import INPUT_DIMS, check_dataset, is_chopped
from nwb_sbtt.errors import DataError


def with_inputs(ds: xr.Dataset, inputs: Mapping[str, ArrayLike]) -> xr.Dataset:
    """Add known inputs to data; models that take inputs (`conv`, `lfads`, `ladder`) are then fitted with them.

    Parameters
    ----------
    ds : Dataset
        Data, as `nwb_sbtt.read_nwb` or `nwb_sbtt.from_numpy` returns them; inputs that it already has are kept.
    inputs : mapping of name to array (trial, time)
        One number for each bin, in any unit; NaN, or masked in a masked array, where the input is not known. Of a chopped
        session also an array (time) over the whole session.

    Returns
    -------
    Dataset
        With ``inputs`` (trial, time, input), 0 where ``inputs_observed`` is false.

    Raises
    ------
    DataError
        If an array does not have the trials and bins of the data, is infinite somewhere, is known nowhere, or a name repeats.

    Examples
    --------
    >>> import numpy as np, nwb_sbtt as sb
    >>> ds = sb.from_numpy(np.zeros((2, 50, 3)), bin_width=0.01)
    >>> light = np.zeros((2, 50))
    >>> light[:, 20:30] = 1
    >>> sb.with_inputs(ds, {"light": light})["inputs"].shape
    (2, 50, 1)
    """
    ds = dataset_of(ds)
    if not isinstance(inputs, Mapping) or not inputs or not all(isinstance(name, str) for name in inputs):
        came = f"a mapping of {list(inputs)}" if isinstance(inputs, Mapping) else f"a {type(inputs).__name__}"
        raise DataError(f"inputs are {came}; expected names and arrays (trial, time), such as {{'stimulus': array}}")
    kept = input_names(ds)
    if repeated := [name for name in inputs if name in kept]:
        raise DataError(f"the data have an input {repeated[0]!r} already; use another name, or remove it first")
    columns = [_column(ds, name, values) for name, values in inputs.items()]
    known = np.stack([np.isfinite(column) for column in columns], -1)
    values = np.where(known, np.stack(columns, -1), np.float32(0))
    if kept:
        values = np.concatenate([ds["inputs"].values, values], -1)
        known = np.concatenate([ds["inputs_observed"].values, known], -1)
        ds = without_inputs(ds)
    ds = ds.assign(inputs=(INPUT_DIMS, values), inputs_observed=(INPUT_DIMS, known))
    return check_dataset(ds.assign_coords(input=[*kept, *inputs]))


def without_inputs(ds: xr.Dataset) -> xr.Dataset:
    """Remove the known inputs of data.

    Parameters
    ----------
    ds : Dataset
        With or without inputs.

    Returns
    -------
    Dataset
    """
    return ds.drop_vars(["inputs", "inputs_observed", "input"], errors="ignore")


def input_names(ds: xr.Dataset) -> tuple[str, ...]:
    """Return the names of the known inputs of data.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    tuple of str
        Empty without inputs.
    """
    return tuple(map(str, ds["input"].values.tolist())) if "inputs" in ds else ()


def _column(ds: xr.Dataset, name: str, given: ArrayLike) -> NDArray[np.float32]:
    """One input (trial, time), NaN where it is not known."""
    try:
        values = masked_as_nan(given)
    except (TypeError, ValueError):
        raise DataError(f"input {name!r} is a {type(given).__name__}; expected numbers (trial, time)") from None
    shape = (ds.sizes["trial"], ds.sizes["time"])
    if is_chopped(ds) and values.shape == (n_merged_bins(ds),):
        values = cut_as(values[None], ds).astype(np.float32)
    if values.shape != shape:
        whole = f", or ({n_merged_bins(ds)},) for the whole session" if is_chopped(ds) else ""
        raise DataError(f"input {name!r} has the shape {values.shape}; expected {shape}, that of the data{whole}")
    if np.isinf(values).any():
        raise DataError(
            f"input {name!r} is infinite in {int(np.isinf(values).sum())} bins; use NaN where it is not known"
        )
    if np.isnan(values).all():
        raise DataError(f"input {name!r} is not known in any bin; omit it")
    return values
