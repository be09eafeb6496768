"""A low-rank Wiener filter: the best linear prediction of every entry from all shown entries around it.

Channels share a few components, each a stationary Gaussian process (see `components`). The prediction is the posterior mean of
these given the shown entries, the Wiener filter (Wiener 1949) for data with gaps: masks and partly observed bins enter as
precisions. With z = B a, a ~ N(0, I) and noise of variance 1 / weight, a has the posterior precision I + B' W B and the
information B' V' y, where W holds the sums over channels of weight · v v'. Nothing is iterated.

With a lag the prediction of a bin is that posterior mean given the bins up to the lag alone: bins are added one after the
other, and each prediction is taken when the last of its own has been.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from nwb_sbtt.evaluate.baselines.components import MAX_COMPONENTS, Components, measure_components
from nwb_sbtt.evaluate.baselines.protocol import Floats, MaskedData, Prediction
from nwb_sbtt.evaluate.baselines.smoothing import mean_rate
from nwb_sbtt.evaluate.baselines.tuning import FLOOR, apply_floor, tuning_task
from nwb_sbtt.evaluate.baselines.windows import merge_windows, to_windows

RANKS = (1, 2, 3, 4, 6, 8, MAX_COMPONENTS)
FLOORS = (FLOOR, 0.05, 0.1, 0.2, 0.4)
"""Smallest expected counts to choose from, as a share of the channel's mean; a linear prediction can be negative."""
VALUES_AT_ONCE, WINDOWS_AT_ONCE = 4_000_000, 64
"""Numbers of the weighted bases of the windows that are solved together, and these windows, at most."""


def low_rank_wiener(data: MaskedData) -> Prediction:
    """Predict every entry linearly from all shown entries near it, with a lag from those up to there.

    The rank and, for counts, the smallest expected count are those that best predict hidden entries of the training trials.

    Parameters
    ----------
    data : MaskedData

    Returns
    -------
    Prediction
    """
    task = tuning_task(data)
    best, rank, floor = np.inf, 0, FLOOR
    components = measure_components(task.data)
    for candidate in [0, *(r for r in RANKS if r <= len(components.strength))]:
        expected = posterior_mean(task.data, components, candidate)
        for share in FLOORS if data.is_counts else FLOORS[:1]:
            loss = task.loss(apply_floor(task.data, expected, share))
            if loss < best:
                best, rank, floor = loss, candidate, share
    components = measure_components(data)
    prediction = data.predictions(lambda part: apply_floor(part, posterior_mean(part, components, rank), floor))
    limit = f", at least {floor:g} of the mean" * data.is_counts
    return Prediction(prediction, f"rank {rank} (chosen){limit}", label="low-rank Wiener filter", lag=data.lag)


def posterior_mean(data: MaskedData, components: Components, rank: int) -> Floats:
    """Compute the posterior mean of every entry given the shown ones up to the lag, from the strongest components.

    Parameters
    ----------
    data : MaskedData
    components : Components
    rank : int
        Number of components; 0 gives each channel's mean.

    Returns
    -------
    array (trial, time, channel)
        In counts per bin or the data's unit; can be negative for counts.
    """
    rank = min(rank, len(components.strength))
    if rank == 0:
        return np.asarray(mean_rate(data).expected)
    weight = np.where(data.predictors, data.weights, 0)
    values = np.where(data.predictors, (data.values - components.mean * weight) / components.scale, 0)
    loadings = components.loadings[:, :rank]
    basis = _joint_basis(components.bases[:rank])
    squares = (loadings[:, :, None] * loadings[:, None, :]).reshape(len(loadings), -1)
    values, weight = to_windows(values), to_windows(weight)
    n_windows, n_bins, _ = values.shape
    mean = np.empty((n_windows, n_bins, rank))
    at_once = min(WINDOWS_AT_ONCE, max(1, VALUES_AT_ONCE // basis.size))
    for first in range(0, n_windows, at_once):
        part = slice(first, first + at_once)
        precision, information = (weight[part] @ squares).reshape(-1, n_bins, rank, rank), values[part] @ loadings
        solve = _solve if data.lag is None else partial(_solve_in_turn, lag=data.lag)
        mean[part] = solve(basis, precision, information)
    merged = merge_windows(mean, data.shape[:2], lag=data.lag)
    return np.asarray(components.mean + components.scale * (merged @ loadings.T))


def _solve(basis: Floats, precision: Floats, information: Floats) -> Floats:
    """Mean of the components (window, time, component) given all bins of each window."""
    n_bins, rank, size = basis.shape
    flat = basis.reshape(n_bins * rank, size)
    weighted_basis = (precision @ basis).reshape(len(precision), n_bins * rank, size)
    system = flat.T @ weighted_basis
    system += np.eye(size)
    projection = information.reshape(len(precision), -1) @ flat
    coefficients = np.linalg.solve(system, projection[..., None])[..., 0]
    return np.asarray((coefficients @ flat.T).reshape(-1, n_bins, rank))


def _solve_in_turn(basis: Floats, precision: Floats, information: Floats, *, lag: int) -> Floats:
    """Mean of the components (window, time, component) given the bins of each window up to the lag."""
    n_bins, rank, size = basis.shape
    lag = min(lag, n_bins - 1)
    mean = np.empty_like(information)
    coefficients, covariance = np.zeros((len(mean), size)), np.tile(np.eye(size), (len(mean), 1, 1))
    for t in range(n_bins):
        spread = covariance @ basis[t].T
        system = np.eye(rank) + precision[:, t] @ (basis[t] @ spread)
        surprise = information[:, t] - (precision[:, t] @ (coefficients @ basis[t].T)[..., None])[..., 0]
        terms = np.linalg.solve(system, np.concatenate([precision[:, t], surprise[..., None]], axis=2))
        coefficients += (spread @ terms[..., rank:])[..., 0]
        covariance -= spread @ terms[..., :rank] @ spread.swapaxes(1, 2)
        if t >= lag:
            mean[:, t - lag] = coefficients @ basis[t - lag].T
    rest = basis[n_bins - lag :]
    mean[:, n_bins - lag :] = (coefficients @ rest.reshape(-1, size).T).reshape(len(mean), lag, rank)
    return mean


def _joint_basis(bases: list[Floats]) -> Floats:
    """One basis (time, component, coefficient) for all components, block-diagonal: each has its own coefficients."""
    n_bins, sizes = len(bases[0]), [basis.shape[1] for basis in bases]
    joint = np.zeros((n_bins, len(bases), sum(sizes)))
    first = 0
    for component, basis in enumerate(bases):
        joint[:, component, first : first + sizes[component]] = basis
        first += sizes[component]
    return joint
