"""What is decoded: behaviour in bins, or a column of the trials, checked and moved by its lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.columns import has_few_values, trial_columns
from nwb_sbtt.data.datasets import finite_number
from nwb_sbtt.errors import DataError, MismatchError, SelectionError
from nwb_sbtt.evaluate.classes import FEWEST_OF_CLASS

FEWEST_BINS = 20
"""Bins with behaviour that a decoder is fitted to, at least."""


@dataclass(frozen=True)
class Target:
    """What is decoded.

    Parameters
    ----------
    name : str
    values : array (trial, time, column)
        Of a trial column with one bin.
    known : bool array (trial, time)
        Where it was measured.
    columns : list of str
        Their names.
    unit : str
    lag : float
        Seconds by which it is later than the latents.
    by_trial : bool
        Whether it is a trial column.
    is_classes : bool
    notes : tuple of str
        For the user.
    reference_frame : str or None
        Of positions in space.
    """

    name: str
    values: NDArray[Any]
    known: NDArray[np.bool_]
    columns: list[str]
    unit: str
    lag: float
    by_trial: bool = False
    is_classes: bool = False
    notes: tuple[str, ...] = ()
    reference_frame: str | None = None

    @property
    def labels(self) -> NDArray[np.str_]:
        """The class of each trial, of which each fold has its share."""
        return self.values[:, 0, 0].astype(str) if self.is_classes else np.full(len(self.values), "")


def target_of(latents: xr.Dataset, behaviour: xr.DataArray | str, lag: float, classes: bool | None) -> Target:
    """Check behaviour, and put it beside the latents that it is decoded from.

    Parameters
    ----------
    latents : Dataset
    behaviour : DataArray or str
    lag : float
    classes : bool or None
        As for `nwb_sbtt.evaluate.decode`.

    Returns
    -------
    Target

    Raises
    ------
    DataError, MismatchError, SelectionError
        As for `nwb_sbtt.evaluate.decode`.
    """
    if isinstance(behaviour, str):
        if behaviour not in trial_columns(latents):
            raise SelectionError(
                f"the latents have no trial column {behaviour!r}; they have {', '.join(trial_columns(latents))}. Read "
                "behaviour of a file with sb.read_behaviour(path, in-file path, latents)"
            )
        behaviour = latents[behaviour].reset_coords(drop=True).rename(behaviour)
    if not isinstance(behaviour, xr.DataArray):
        raise DataError(
            f"got a {type(behaviour).__name__} as behaviour; expected a DataArray (trial, time, column), or the name of a "
            "trial column"
        )
    if behaviour.dims != ("trial",) and (behaviour.dims[:2] != ("trial", "time") or behaviour.ndim not in (2, 3)):
        raise DataError(
            f"behaviour has dims {behaviour.dims}; expected (trial, time, column), (trial, time), or (trial) of a column"
        )
    shape = tuple(latents.sizes[dim] for dim in ("trial", "time"))[: behaviour.ndim]
    if behaviour.shape[:2] != shape:
        raise MismatchError(f"behaviour {behaviour.shape} and latents {shape} must have the same trials and bins")
    if (seconds := finite_number(lag)) is None:
        raise DataError(f"lag is {lag!r}; expected seconds by which behaviour is later than the latents, such as 0.1")
    if behaviour.ndim == 1:
        return _column_target(behaviour, seconds, classes)
    if classes:
        raise DataError("behaviour in bins is decoded as numbers; `classes` is for a trial column")
    return _bins_target(behaviour, seconds, float(latents.attrs.get("bin_width", 1.0)))


def _bins_target(behaviour: xr.DataArray, lag: float, width: float) -> Target:
    name = str(behaviour.name or "behaviour")
    if behaviour.dtype.kind not in "iufb":
        raise DataError(f"{name} holds {behaviour.dtype}; expected numbers")
    values = behaviour.values.astype(float).reshape(*behaviour.shape[:2], -1)
    bins = round(lag / width)
    n_bins = values.shape[1]
    if abs(bins) >= n_bins:
        raise DataError(f"lag is {lag:g} s, but a trial has {n_bins * width:g} s; expected a shorter one")
    shifted = np.full(values.shape, np.nan)
    shifted[:, max(-bins, 0) : n_bins - max(bins, 0)] = values[:, max(bins, 0) : n_bins - max(-bins, 0)]
    known = np.isfinite(shifted).all(2)
    if (n := int(known.sum())) < FEWEST_BINS:
        raise DataError(
            f"{name} was measured in {n} of {known.size} bins; at least {FEWEST_BINS} are needed to decode it. Does it overlap "
            "with the trials, and is every column measured? Columns can be chosen"
        )
    unit = str(behaviour.attrs.get("units", behaviour.attrs.get("unit", "a.u.")))
    whole = bins * width + float(behaviour.attrs.get("lag", 0.0))
    return Target(
        name,
        np.where(known[:, :, None], shifted, np.nan),
        known,
        _names(behaviour),
        unit,
        whole,
        reference_frame=behaviour.attrs.get("reference_frame"),
    )


def _column_target(behaviour: xr.DataArray, lag: float, classes: bool | None) -> Target:
    name = str(behaviour.name or "behaviour")
    if lag:
        raise DataError(f"{name} has one value for each trial, so it has no lag in bins; leave it out")
    values = behaviour.values
    is_number = values.dtype.kind in "iuf"
    is_classes = (not is_number or has_few_values(values)) if classes is None else classes
    if not is_number and not is_classes:
        raise DataError(f"{name} holds text, which is decoded as classes; omit `classes`")
    known = np.isfinite(values.astype(float)) if is_number else np.array([bool(str(value)) for value in values])
    notes: tuple[str, ...] = ()
    if is_classes:
        texts = np.array([f"{value:g}" if is_number else str(value) for value in values.tolist()])
        names, counts = np.unique(texts[known], return_counts=True)
        if len(rare := names[counts < FEWEST_OF_CLASS]):
            known &= ~np.isin(texts, rare)
            notes = (
                f"trials of {', '.join(map(repr, rare.tolist()))} are left out: a class needs at least {FEWEST_OF_CLASS} "
                "trials",
            )
        values = np.where(known, texts, "")
        if (n := len(np.unique(values[known]))) < 2:
            raise DataError(
                f"{name} has {n} class{'es' * (n != 1)} with at least {FEWEST_OF_CLASS} trials; expected two or more"
            )
    elif not known.any():
        raise DataError(f"{name} is known of no trial; choose another column")
    return Target(name, values.reshape(-1, 1, 1), known[:, None], [name], "", 0.0, True, is_classes, notes)


def _names(behaviour: xr.DataArray) -> list[str]:
    """Names of the columns: their labels, or the name of the behaviour with a number."""
    name = str(behaviour.name or "behaviour")
    if behaviour.ndim == 2:
        return [name]
    if behaviour.dims[2] in behaviour.coords:
        return [str(each) for each in behaviour[behaviour.dims[2]].values]
    n = behaviour.shape[2]
    return [name] if n == 1 else [f"{name} {i}" for i in range(n)]
