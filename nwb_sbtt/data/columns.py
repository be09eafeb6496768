"""Columns of trials: which there are, and which have few values."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

MAX_CATEGORIES = 12
"""Most different values of a column that are called few."""


def trial_columns(ds: xr.Dataset) -> list[str]:
    """List the columns of trials.

    Parameters
    ----------
    ds : Dataset
        Data or latents.

    Returns
    -------
    list of str
    """
    return sorted(str(name) for name, each in ds.coords.items() if each.dims == ("trial",) and name != "trial")


def known_values(values: NDArray[Any]) -> NDArray[Any]:
    """Return the different values of a column, in order, without NaN; anything but numbers as text.

    Parameters
    ----------
    values : array (trial)

    Returns
    -------
    array
    """
    if values.dtype.kind not in "iuf":
        return np.unique(values.astype(str))
    return np.unique(values[np.isfinite(values)])


def has_few_values(values: NDArray[Any]) -> bool:
    """Tell whether a column has several values, but few: at most 12, with two trials each in the mean.

    Parameters
    ----------
    values : array (trial)

    Returns
    -------
    bool
    """
    n = len(known_values(values))
    return 2 <= n <= MAX_CATEGORIES and len(values) >= 2 * n
