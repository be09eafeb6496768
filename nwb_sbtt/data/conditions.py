"""Validation on conditions that training never saw."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_sbtt.errors import DataError


def split_by_label(ds: xr.Dataset, label: str, *, valid: float = 0.2, seed: int = 0) -> xr.Dataset:
    """Give all trials of a condition to training or all to validation, and leave the label itself as it is.

    Where trials of a condition repeat the same course, a model that keeps a table of courses does well on their
    other trials; on conditions of which it saw no trial it must have learned how courses go on. `label` is any trial
    coordinate (`ReadConfig.trial_columns` reads it from the table of trials) and stays as it is. Whole conditions are drawn
    until they hold about the share of the trials asked for. A ``split`` that the trials had is replaced.

    Parameters
    ----------
    ds : Dataset
    label : str
        Trial coordinate whose equal values make a condition.
    valid : float
        Share of the trials.
    seed : int

    Raises
    ------
    DataError
        If there is no such coordinate, it has missing values, or too few conditions.

    Examples
    --------
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = split_by_label(lorenz(conditions=10, trials_per_condition=4), "condition")
    >>> len(np.unique(ds["condition"][ds["split"] == "valid"]))
    2
    """
    if not 0 < valid < 1:
        raise DataError(f"valid is {valid}; expected a share between 0 and 1, such as 0.2")
    if label not in ds.coords or ds[label].dims != ("trial",):
        known = sorted(str(name) for name, coord in ds.coords.items() if coord.dims == ("trial",))
        raise DataError(f"the trials have no label {label!r}, but {known}; read it with trial_columns")
    values = ds[label].values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} trials have no {label!r}; leave them out first")
    names, which = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"all trials have the same {label!r}; at least two conditions are needed, to train on and to validate"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    held = np.cumsum(np.bincount(which)[order])[:-1]
    count = int(np.argmin(np.abs(held - valid * len(which)))) + 1
    return ds.assign_coords(split=("trial", np.where(np.isin(which, order[:count]), "valid", "train")))
