"""Behaviour decoded linearly from latents."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.datasets import dataset_of
from nwb_sbtt.errors import DataError, MismatchError
from nwb_sbtt.evaluate.metrics import r2

FEWEST_BINS = 20
"""Bins with behaviour that a decoder is fitted to, at least."""
PENALTIES = tuple(np.logspace(-4, 4, 9))
Floats = NDArray[np.float64]


def decode(
    latents: xr.Dataset, behaviour: xr.DataArray, *, of: Literal["factors", "rates", "mean"] = "factors"
) -> xr.Dataset:
    """Decode behaviour from latents by ridge regression, fitted to the training trials and applied to the others.

    The penalty is chosen by cross-validation over blocks of training bins.

    Parameters
    ----------
    latents : Dataset
        As returned by `Fitted.infer`, with ``split``; without it the last fifth of the trials is decoded.
    behaviour : DataArray (trial, time, column) or (trial, time)
        Of the same trials and bins; NaN where it was not measured.
    of : "factors", "rates" or "mean"
        What it is decoded from.

    Returns
    -------
    Dataset
        ``measured`` and ``decoded`` (trial, time, column) of the validation trials, and ``r2`` (column) over all their bins
        with behaviour, NaN of columns that do not vary; ``attrs``: ``of``, ``unit`` of the behaviour.

    Raises
    ------
    DataError
        If there are no such latents, too few bins with behaviour, or behaviour that does not vary.
    MismatchError
        If trials or bins differ.
    """
    dataset_of(latents, of="latents")
    if not isinstance(behaviour, xr.DataArray):
        raise DataError(f"got a {type(behaviour).__name__} as behaviour; expected a DataArray (trial, time, column)")
    if of not in latents:
        raise DataError(f"the latents have no {of!r}; they have {sorted(map(str, latents.data_vars))}")
    if behaviour.dims[:2] != ("trial", "time") or behaviour.ndim not in (2, 3):
        raise DataError(f"behaviour has dims {behaviour.dims}; expected (trial, time, column) or (trial, time)")
    target = behaviour.values.astype(float).reshape(*behaviour.shape[:2], -1)
    predictors = latents[of].values.astype(float)
    if target.shape[:2] != predictors.shape[:2]:
        raise MismatchError(
            f"behaviour {behaviour.shape} and {of} {predictors.shape} must have the same trials and bins"
        )
    train, valid = _parts(latents)
    known = np.isfinite(target).all(2)
    if min(known[train].sum(), known[valid].sum()) < FEWEST_BINS:
        raise DataError(
            f"behaviour was measured in {int(known[train].sum())} bins of training and {int(known[valid].sum())} of validation "
            f"trials; at least {FEWEST_BINS} of each are needed to decode it"
        )
    decoded = _regressed(predictors, target, train, known)[valid]
    measured = np.where(known[valid][..., None], target[valid], np.nan)
    bins = known[valid]
    varies = np.ptp(measured[bins], axis=0) > 0
    if not varies.any():
        raise DataError(
            "behaviour does not vary over the validation trials, so it cannot be decoded; use trials in which it varies"
        )
    scores = [
        r2(measured[bins][:, [i]], decoded[bins][:, [i]]) if varies[i] else np.nan for i in range(target.shape[2])
    ]
    names = _names(behaviour, target.shape[2])
    kept = {
        name: each for name, each in latents.isel(trial=valid).coords.items() if set(each.dims) <= {"trial", "time"}
    }
    dims = ("trial", "time", "column")
    return xr.Dataset(
        {"measured": (dims, measured), "decoded": (dims, decoded), "r2": ("column", scores)},
        coords={**kept, "column": names},
        attrs={"of": of, "unit": str(behaviour.attrs.get("units", behaviour.attrs.get("unit", "a.u.")))},
    )


def _parts(latents: xr.Dataset) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of trials that the decoder is fitted to, and of those that it is applied to."""
    if "split" in latents.coords:
        labels = latents["split"].values.astype(str)
        train, valid = np.flatnonzero(labels == "train"), np.flatnonzero(labels == "valid")
        if len(train) and len(valid):
            return train, valid
    n = latents.sizes["trial"]
    if n < 2:
        raise DataError(
            "there is only one trial; expected at least two, because a decoder is fitted to other trials than those "
            "it is applied to"
        )
    first = min(n - 1, int(np.ceil(0.8 * n)))
    return np.arange(first), np.arange(first, n)


def _regressed(predictors: Floats, target: Floats, train: NDArray[np.intp], known: NDArray[np.bool_]) -> Floats:
    """Prediction of all bins by a ridge regression on the training bins; both standardised."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = predictors[train][known[train]], target[train][known[train]]
    search = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": PENALTIES})
    search.fit(x, y)
    flat = search.predict(predictors.reshape(-1, predictors.shape[2]))
    return np.asarray(flat, dtype=float).reshape(target.shape)


def _names(behaviour: xr.DataArray, n: int) -> list[str]:
    """Names of the columns: their labels, or the name of the behaviour with a number."""
    if behaviour.ndim == 3 and behaviour.dims[2] in behaviour.coords:
        return [str(each) for each in behaviour[behaviour.dims[2]].values]
    name = str(behaviour.name or "behaviour")
    return [name] if n == 1 else [f"{name} {i + 1}" for i in range(n)]
