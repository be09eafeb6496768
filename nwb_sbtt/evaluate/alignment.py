"""Factors of different sessions in one space: matched by their averages over the trials of a condition.

A model's factors are defined up to a linear map, and read-in and read-out of each session are fitted on their own. So the same
factor need not mean the same in two sessions, even of one joint fit, although their rates are right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.datasets import dataset_of
from nwb_sbtt.errors import DataError, MismatchError

ALIKE, UNLIKE = 0.9, 0.5
"""R² of condition averages from which on factors of two sessions are called the same; below which even aligned ones are not."""
MOST_FOLDS = 20
"""Most groups of conditions that are left out in turn."""
TIME_TOLERANCE = 1e-3
"""Share of a bin by which bins of two sessions may differ in time and still be the same."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Courses:
    """Averages over the trials of each condition.

    Parameters
    ----------
    conditions : tuple of str
        Sorted.
    averages : array (condition, time, factor)
    time : array (time)
        Bin centres, in seconds from the alignment event.
    """

    conditions: tuple[str, ...]
    averages: Floats
    time: Floats


@dataclass(frozen=True)
class Alignment:
    """A linear map from the factors of one session to those of another, the reference.

    Parameters
    ----------
    weights : array (factor, reference factor)
    offset : array (reference factor)
    conditions : int
        Number of conditions that both sessions have.
    components : int
        Number of principal components of the factors that the map uses.
    as_fitted : float or None
        R² of the reference's condition averages, predicted by the session's own factors as they are; None where the numbers
        of factors differ. 1 for equal factors; below 0 where the mean over all conditions is nearer.
    aligned : float
        The same for aligned factors; of conditions that were left out when the map was fitted.
    """

    weights: Floats
    offset: Floats
    conditions: int
    components: int
    as_fitted: float | None
    aligned: float

    def scores(self) -> dict[str, Any]:
        """Return how much the map is founded on and how good it is: the fields that are single numbers."""
        return {name: getattr(self, name) for name in ("conditions", "components", "as_fitted", "aligned")}

    def apply(self, factors: NDArray[np.floating]) -> Floats:
        """Map factors to those of the reference.

        Parameters
        ----------
        factors : array (trial, time, factor)

        Returns
        -------
        array (trial, time, reference factor)
        """
        return np.asarray(factors.astype(np.float64) @ self.weights + self.offset)

    def apply_to_sd(self, sd: NDArray[np.floating]) -> Floats:
        """Map posterior sds of factors, taken as independent.

        Parameters
        ----------
        sd : array (trial, time, factor)

        Returns
        -------
        array (trial, time, reference factor)
        """
        return np.sqrt(sd.astype(np.float64) ** 2 @ self.weights**2)


def align_factors(latents: xr.Dataset, reference: xr.Dataset, *, condition: str) -> xr.Dataset:
    """Add the factors of one session in the space of another's, matched by condition averages.

    Principal component regression from the averages of one session to those of the other, over the conditions and bins that
    both have; so many components are used as predict left-out conditions best. The sessions may be of one fit, of a fit and one
    that started from it, or of fits that have nothing in common.

    Parameters
    ----------
    latents : Dataset
        With ``factors``, as `Fitted.infer` or `read_result` returns it.
    reference : Dataset
        The same of the session whose factors are the reference.
    condition : str
        Trial coordinate that names each trial's condition in both; trials without one (empty, NaN) are left out.

    Returns
    -------
    Dataset
        `latents` with ``aligned_factors`` (trial, time, aligned_factor) and, where factors have a posterior sd,
        ``aligned_factors_sd``. The scores of the `Alignment` are attributes of ``aligned_factors`` and, for files, in
        ``attrs["model"]``.

    Raises
    ------
    DataError
        If there is no such coordinate.
    MismatchError
        If the sessions share fewer than two conditions, or no bins.

    Examples
    --------
    >>> later = align_factors(fitted.infer(day_2), fitted.infer(day_1), condition="target")  # doctest: +SKIP
    >>> decoder.predict(later["aligned_factors"])  # doctest: +SKIP
    """
    ours, theirs = (condition_averages(dataset_of(each, of="latents"), condition) for each in (latents, reference))
    alignment = align_courses(ours, theirs)
    record = {"reference": str(reference.attrs.get("session_id", "")), "condition": condition, **alignment.scores()}
    model = {**json.loads(latents.attrs.get("model", "{}")), "alignment": record}
    return add_aligned(latents, alignment).assign_attrs(model=json.dumps(model))


def add_aligned(latents: xr.Dataset, alignment: Alignment) -> xr.Dataset:
    """Add the factors that an alignment gives.

    Parameters
    ----------
    latents : Dataset
        With ``factors``.
    alignment : Alignment

    Returns
    -------
    Dataset
        With ``aligned_factors`` and, where there is ``factors_sd``, ``aligned_factors_sd``.
    """
    dims = ("trial", "time", "aligned_factor")
    scores = {name: value for name, value in alignment.scores().items() if value is not None}
    arrays = {"aligned_factors": (dims, alignment.apply(latents["factors"].values).astype(np.float32), scores)}
    if "factors_sd" in latents:
        sd = alignment.apply_to_sd(latents["factors_sd"].values).astype(np.float32)
        arrays["aligned_factors_sd"] = (dims, sd, {})
    return latents.assign(arrays)


def condition_averages(latents: xr.Dataset, condition: str, *, variable: str = "factors") -> Courses:
    """Average factors over the trials of each condition.

    Parameters
    ----------
    latents : Dataset
        With ``factors``.
    condition : str
        Trial coordinate; trials without a condition are left out.
    variable : str
        "factors" or "aligned_factors".

    Returns
    -------
    Courses

    Raises
    ------
    DataError
        If there is no such coordinate, or no factors.
    """
    if variable not in latents:
        raise DataError(f"the latents have no {variable!r}; they have {sorted(map(str, latents.data_vars))}")
    labels = condition_labels(latents, condition)
    names, averages = average_by(labels, latents[variable].values.astype(np.float64))
    return Courses(names, averages, latents["time"].values.astype(np.float64))


def average_by(labels: NDArray[np.str_], values: Floats) -> tuple[tuple[str, ...], Floats]:
    """Average over the trials of each label.

    Parameters
    ----------
    labels : str array (trial)
        Empty for trials that are left out.
    values : array (trial, time, feature)

    Returns
    -------
    names : tuple of str
        Sorted.
    averages : array (label, time, feature)
    """
    names = tuple(np.unique(labels[labels != ""]).tolist())
    averages = np.zeros((len(names), *values.shape[1:]))
    for i, name in enumerate(names):
        averages[i] = values[labels == name].mean(0)
    return names, averages


def condition_labels(ds: xr.Dataset, condition: str) -> NDArray[np.str_]:
    """Write each trial's condition as text, so that conditions of two files compare whatever type their columns have.

    Parameters
    ----------
    ds : Dataset
    condition : str
        Trial coordinate.

    Returns
    -------
    str array (trial)
        Empty where a trial has no condition: no text, or NaN. Whole numbers are written without a decimal point.

    Raises
    ------
    DataError
        If there is no such coordinate.
    """
    labels = sorted(str(name) for name, coord in ds.coords.items() if coord.dims == ("trial",) and name != "trial")
    if condition not in labels:
        raise DataError(
            f"the trials have no {condition!r} (sessions.condition), but {labels}; read it with trial_columns (--set "
            f"read.trial_columns=[{condition}])"
        )
    values = ds[condition].values
    if np.issubdtype(values.dtype, np.floating):
        return np.array(["" if np.isnan(value) else f"{value:g}" for value in values.tolist()])
    return np.array(["" if str(value) == "nan" else str(value) for value in values.tolist()])


def identity(courses: Courses) -> Alignment:
    """Return the alignment of the reference to itself, which changes nothing.

    Parameters
    ----------
    courses : Courses
        Of the reference.

    Returns
    -------
    Alignment
    """
    n_factors = courses.averages.shape[2]
    return Alignment(np.eye(n_factors), np.zeros(n_factors), len(courses.conditions), n_factors, 1.0, 1.0)


def align_courses(courses: Courses, reference: Courses) -> Alignment:
    """Fit the map from one session's condition averages to another's.

    Parameters
    ----------
    courses, reference : Courses

    Returns
    -------
    Alignment

    Raises
    ------
    MismatchError
        If they share fewer than two conditions, or no bins.
    """
    own, other = (each.averages for each in matched(courses, reference))
    n_conditions = len(own)
    fold = np.arange(n_conditions) % min(n_conditions, MOST_FOLDS)
    most = min(own.shape[2], int(np.prod(own.shape[:2])) - 1)
    errors = np.zeros(most)
    for left_out in np.unique(fold):
        inside = fold != left_out
        regression = _Regression(own[inside], other[inside])
        for i in range(most):
            weights, offset = regression.of(i + 1)
            errors[i] += ((other[~inside] - own[~inside] @ weights - offset) ** 2).sum()
    components = int(errors.argmin()) + 1
    weights, offset = _Regression(own, other).of(components)
    total = max(float(((other - other.mean((0, 1))) ** 2).sum()), 1e-300)
    as_fitted = 1 - float(((other - own) ** 2).sum()) / total if own.shape == other.shape else None
    return Alignment(weights, offset, n_conditions, components, as_fitted, 1 - float(errors.min()) / total)


def matched(courses: Courses, reference: Courses) -> tuple[Courses, Courses]:
    """Take the conditions and bins that two sessions have in common.

    Parameters
    ----------
    courses, reference : Courses

    Returns
    -------
    own, other : Courses
        With the same conditions and bins.

    Raises
    ------
    MismatchError
        If they share fewer than two conditions, or no bins.
    """
    shared = sorted(set(courses.conditions) & set(reference.conditions))
    if len(shared) < 2:
        raise MismatchError(
            f"to align sessions, at least two conditions must be the same in both; these share {shared or 'none'}: "
            f"the session has {_few(courses.conditions)}, the reference {_few(reference.conditions)}. Name a column "
            "with the same conditions in both"
        )
    near = np.abs(courses.time[:, None] - reference.time) < bin_tolerance(reference.time)
    own_bins, other_bins = np.nonzero(near)
    if not len(own_bins):
        raise MismatchError(
            f"no bin of the session ({courses.time[0]:g} to {courses.time[-1]:g} s) lies within the reference "
            f"({reference.time[0]:g} to {reference.time[-1]:g} s); cut the trials of both sessions in the same way"
        )
    own, other = (
        Courses(
            tuple(shared),
            each.averages[[each.conditions.index(name) for name in shared]][:, bins],
            reference.time[other_bins],
        )
        for each, bins in ((courses, own_bins), (reference, other_bins))
    )
    return own, other


def bin_tolerance(time: Floats) -> float:
    """Compute up to which difference in time two bins are the same, in seconds.

    Parameters
    ----------
    time : array (time)
        Bin centres, rising.
    """
    return TIME_TOLERANCE * (float(np.diff(time).min()) if len(time) > 1 else 1.0)


def check_alignment(record: Mapping[str, Any] | None, *, session: str, others: str) -> dict[str, str]:
    """Check whether the factors of a session mean what they do in another.

    Parameters
    ----------
    record : mapping or None
        From the provenance of results: ``reference``, ``as_fitted``, ``aligned`` and ``conditions``. None where sessions were
        not aligned.
    session : str
    others : str
        The other sessions in words, for the text.

    Returns
    -------
    {"name", "level", "text"}
        As of `nwb_sbtt.evaluate.checks.checks`.
    """
    if record is None:
        return _check(
            "warn",
            f"It is unknown whether the factors of this session and of {others} are comparable: a decoder fitted to "
            "the factors of one session may fail in another, even if the rates are right. Name the trial column with "
            "the conditions that the sessions share (--set sessions.condition=COLUMN, or nwb-sbtt align RUN_DIR "
            "--condition COLUMN).",
        )
    reference, as_fitted, aligned = record["reference"], record["as_fitted"], record["aligned"]
    if reference == session and aligned == 1:
        return _check("ok", f"The factors of this session are the reference of {others}.")
    basis = f"averages of {record['conditions']} conditions, in {reference!r} and here"
    if as_fitted is not None and as_fitted >= ALIKE:
        return _check(
            "ok", f"The factors are comparable with those of the reference: R² {as_fitted:.2f} between {basis}."
        )
    score = "" if as_fitted is None else f" (R² {as_fitted:.2f} between {basis})"
    text = f"The fitted factors are not comparable with those of the reference{score}"
    if aligned >= UNLIKE:
        return _check(
            "warn",
            f"{text}. Across sessions, decode `aligned_factors`, not `factors`. Aligned factors have R² {aligned:.2f} "
            "in conditions that the alignment was not fitted to.",
        )
    return _check(
        "bad",
        f"{text}, not even after alignment: R² {aligned:.2f} in conditions that the alignment was not fitted to. Do "
        "not decode across these sessions. Check that conditions with the same name are the same in both, and use "
        "more trials of each condition.",
    )


def _check(level: str, text: str) -> dict[str, str]:
    return {"name": "factors across sessions", "level": level, "text": text}


class _Regression:
    """Principal component regression, for any number of components."""

    def __init__(self, own: Floats, other: Floats) -> None:
        x, y = own.reshape(-1, own.shape[2]), other.reshape(-1, other.shape[2])
        self.own_mean, self.other_mean = x.mean(0), y.mean(0)
        left, self.scale, self.components = np.linalg.svd(x - self.own_mean, full_matrices=False)
        self.projected = left.T @ (y - self.other_mean)

    def of(self, n: int) -> tuple[Floats, Floats]:
        """Weights (factor, reference factor) and offset (reference factor) with the first `n` components."""
        n = min(n, int((self.scale > 1e-9 * max(self.scale[0], 1e-300)).sum()))
        weights = self.components[:n].T @ (self.projected[:n] / self.scale[:n, None])
        return weights, self.other_mean - self.own_mean @ weights


def _few(names: tuple[str, ...]) -> str:
    listed = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return listed or "no conditions"
