"""Ridge regression from sums over trials, and the folds that trials are divided into.

A fit needs the sums of products of its samples alone, and these add up over folds: nested cross-validation of any number of
penalties takes one pass over the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

PENALTIES = tuple(10.0 ** np.arange(-6, 2))
"""To choose from, per sample and for predictors with unit variance."""
N_FOLDS = 5
"""Folds that trials are divided into, at most."""
LEAST_SD = 1e-10
"""A predictor that varies less is left out."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A linear map of predictors with an offset.

    Parameters
    ----------
    weights : array (feature, column)
    intercept : array (column)
    """

    weights: Floats
    intercept: Floats

    def __call__(self, predictors: NDArray[np.floating]) -> Floats:
        """Predict.

        Parameters
        ----------
        predictors : array (…, feature)

        Returns
        -------
        array (…, column)
        """
        return np.asarray(predictors @ self.weights + self.intercept, dtype=float)

    def uncentred(self, centre: Floats) -> Linear:
        """Return the same map of predictors and targets from which nothing was subtracted.

        Parameters
        ----------
        centre : array (feature + column)
            That was subtracted.
        """
        d = len(self.weights)
        return Linear(self.weights, self.intercept + centre[d:] - centre[:d] @ self.weights)


@dataclass(frozen=True)
class Moments:
    """Sums over samples of predictors and targets, which are what a regression needs.

    Parameters
    ----------
    n : int
        Samples.
    sums : array (feature + column)
    products : array (feature + column, feature + column)
    n_features : int
    """

    n: int
    sums: Floats
    products: Floats
    n_features: int

    @classmethod
    def of(cls, predictors: NDArray[np.floating], targets: Floats, centre: Floats) -> Moments:
        """Sum over samples.

        Parameters
        ----------
        predictors : array (sample, feature)
        targets : array (sample, column)
        centre : array (feature + column)
            Subtracted from all, so that large means cost no digits; the same for moments that are added.
        """
        joint = np.concatenate([predictors, targets], axis=1).astype(float) - centre
        return cls(len(joint), joint.sum(0), joint.T @ joint, predictors.shape[1])

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.sums + other.sums, self.products + other.products, self.n_features)

    def target_variance(self) -> Floats:
        """Return the variance of each target."""
        own = slice(self.n_features, None)
        variance = np.diag(self.products)[own] / self.n - (self.sums[own] / self.n) ** 2
        return np.asarray(np.maximum(variance, 0.0))

    def squared_error(self, fit: Linear) -> Floats:
        """Sum the squared errors of a fit over these samples.

        Parameters
        ----------
        fit : Linear
            Of the same centre.

        Returns
        -------
        array (column)
        """
        d = self.n_features
        w, b = fit.weights, fit.intercept
        squares = np.diag(self.products)[d:] - 2 * (w * self.products[:d, d:]).sum(0)
        squares = squares + (w * (self.products[:d, :d] @ w)).sum(0)
        return np.asarray(squares - 2 * b * (self.sums[d:] - self.sums[:d] @ w) + self.n * b**2)


def ridge(moments: Moments, penalties: Sequence[float]) -> list[Linear]:
    """Fit one ridge regression for each penalty; predictors count in units of their sd.

    Parameters
    ----------
    moments : Moments
    penalties : sequence of float
        Of the squared weights, per sample.

    Returns
    -------
    list of Linear
        Of the centre of the moments.
    """
    d = moments.n_features
    mean = moments.sums / moments.n
    covariance = moments.products / moments.n - np.outer(mean, mean)
    sd = np.sqrt(np.maximum(np.diag(covariance)[:d], 0))
    scale = np.divide(1.0, sd, out=np.zeros(d), where=sd > LEAST_SD)
    values, vectors = np.linalg.eigh(covariance[:d, :d] * np.outer(scale, scale))
    shared = vectors.T @ (covariance[:d, d:] * scale[:, None])
    fits = []
    for penalty in penalties:
        weights = scale[:, None] * (vectors @ (shared / (np.maximum(values, 0) + penalty)[:, None]))
        fits.append(Linear(weights, mean[d:] - mean[:d] @ weights))
    return fits


def choose(candidates: Sequence[Sequence[Moments]], folds: Sequence[int]) -> tuple[int, float]:
    """Choose among sets of predictors and penalties by cross-validation over folds.

    Parameters
    ----------
    candidates : sequence of sequence of Moments
        For each set of predictors the moments of every fold.
    folds : sequence of int
        That take part: each is predicted from the others.

    Returns
    -------
    candidate : int
    penalty : float
        Those with the least squared error, each column in units of its variance.
    """
    losses = np.zeros((len(candidates), len(PENALTIES)))
    for i, moments in enumerate(candidates):
        variance = reduce(add, [moments[fold] for fold in folds]).target_variance()
        for fold in folds:
            fits = ridge(reduce(add, [moments[other] for other in folds if other != fold]), PENALTIES)
            for j, fit in enumerate(fits):
                error = moments[fold].squared_error(fit)
                losses[i, j] += np.divide(error, variance, out=np.zeros_like(error), where=variance > 0).sum()
    best = np.unravel_index(losses.argmin(), losses.shape)
    return int(best[0]), PENALTIES[int(best[1])]


def folds_of_trials(labels: NDArray[Any], starts: Floats | None, length: float) -> tuple[NDArray[np.intp], int]:
    """Divide trials into folds, each with its share of every label; trials that overlap in time into blocks.

    Parameters
    ----------
    labels : array (trial)
        What each fold should have its share of.
    starts : array (trial), optional
        Seconds on the session clock.
    length : float
        Of a trial [s].

    Returns
    -------
    fold : int array (trial)
    n_folds : int
    """
    n = len(labels)
    n_folds = min(N_FOLDS, n)
    fold = np.empty(n, dtype=np.intp)
    if starts is not None and overlap_in_time(starts, length):
        # So long that a trial in the middle of each overlaps with none of another.
        reach = int(np.ceil(length * (1 - 1e-6) / np.median(np.diff(np.sort(starts))))) - 1
        n_folds = max(1, min(N_FOLDS, n // (2 * max(reach, 1) + 1)))
        for i, rows in enumerate(np.array_split(np.argsort(starts, kind="stable"), n_folds)):
            fold[rows] = i
        return fold, n_folds
    shuffled = np.random.default_rng(0).permutation(n)
    fold[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(n) % n_folds
    return fold, n_folds


def overlap_in_time(starts: Floats, length: float) -> bool:
    """Tell whether any trials share a moment.

    Parameters
    ----------
    starts : array (trial)
        Seconds on the session clock.
    length : float
        Of a trial [s].

    Returns
    -------
    bool
    """
    steps = np.diff(np.sort(starts))
    return bool(len(steps) and steps.min() < length * (1 - 1e-6))


def shares_moments(starts: Floats, length: float, fold: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the trials that share a moment with a trial of another fold; no regression is fitted to these.

    Parameters
    ----------
    starts : array (trial)
        Seconds on the session clock.
    length : float
        Of a trial [s].
    fold : int array (trial)

    Returns
    -------
    bool array (trial)
    """
    order = np.argsort(starts, kind="stable")
    sorted_starts, shares = starts[order], np.zeros(len(starts), dtype=bool)
    last = np.searchsorted(sorted_starts, sorted_starts + length * (1 - 1e-6), side="left")
    for i, stop in enumerate(last):
        for j in range(i + 1, stop):
            if fold[order[i]] != fold[order[j]]:
                shares[[order[i], order[j]]] = True
    return shares
