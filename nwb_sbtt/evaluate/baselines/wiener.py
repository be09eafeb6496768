"""A low-rank Wiener filter: the best linear prediction of every entry from all shown entries around it.

Channels share a few components, each a stationary Gaussian process (see `components`). The prediction is the posterior mean of
these given the shown entries, the Wiener filter (Wiener 1949) for data with gaps: masks and partly observed bins enter as
precisions. With z = B a, a ~ N(0, I) and noise of variance 1 / weight, a has the posterior precision I + B' W B and the
information B' V' y, where W holds the sums over channels of weight · v v'. Nothing is iterated.
"""

from __future__ import annotations

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
    """Predict every entry linearly from all shown entries near it.

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
    return Prediction(prediction, f"rank {rank} (chosen){limit}", label="low-rank Wiener filter")


def posterior_mean(data: MaskedData, components: Components, rank: int) -> Floats:
    """Compute the posterior mean of every entry given the shown ones, from the strongest components.

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
        precision = (weight[part] @ squares).reshape(-1, n_bins, rank, rank)
        weighted_basis = (precision @ basis).reshape(len(precision), n_bins * rank, -1)
        system = basis.reshape(n_bins * rank, -1).T @ weighted_basis
        system += np.eye(basis.shape[2])
        information = (values[part] @ loadings).reshape(len(precision), -1) @ basis.reshape(n_bins * rank, -1)
        coefficients = np.linalg.solve(system, information[..., None])[..., 0]
        mean[part] = (coefficients @ basis.reshape(n_bins * rank, -1).T).reshape(-1, n_bins, rank)
    merged = merge_windows(mean, data.shape[:2])
    return np.asarray(components.mean + components.scale * (merged @ loadings.T))


def _joint_basis(bases: list[Floats]) -> Floats:
    """One basis (time, component, coefficient) for all components, block-diagonal: each has its own coefficients."""
    n_bins, sizes = len(bases[0]), [basis.shape[1] for basis in bases]
    joint = np.zeros((n_bins, len(bases), sum(sizes)))
    first = 0
    for component, basis in enumerate(bases):
        joint[:, component, first : first + sizes[component]] = basis
        first += sizes[component]
    return joint
