"""A low-rank Wiener filter: the best linear estimate of all channels from all that was seen around each moment.

Channels are taken to share a few components with a stationary course each (see `components`); the estimate is the posterior
mean of these given what was seen: masks and partial bins enter as precisions. Nothing is iterated.
"""

from __future__ import annotations

import numpy as np

from nwb_sbtt.evaluate.baselines import FLOOR, Evidence, Floats, Prediction, floored, mean_rate, tuning
from nwb_sbtt.evaluate.components import MOST, Components, components
from nwb_sbtt.evaluate.windows import blended, windows

RANKS = (1, 2, 3, 4, 6, 8, MOST)
FLOORS = (FLOOR, 0.05, 0.1, 0.2, 0.4)
"""Smallest expected counts to choose from, as a share of the channel's mean; a linear estimate can be negative."""
AT_ONCE = 64
"""Windows solved together."""


def low_rank_wiener(evidence: Evidence) -> Prediction:
    """Estimate every entry linearly from all shown entries near it.

    Rank and, for counts, the smallest expected count are those that best predict hidden entries of the training trials.
    """
    task = tuning(evidence)
    best, rank, floor = np.inf, 0, FLOOR
    tuned = components(task.evidence)
    for each in [0, *(r for r in RANKS if r <= len(tuned.strength))]:
        linear = _estimate(task.evidence, tuned, each)
        for least in FLOORS if evidence.counts else FLOORS[:1]:
            score = task.score(floored(task.evidence, linear, least))
            if score < best:
                best, rank, floor = score, each, least
    expected = floored(evidence, _estimate(evidence, components(evidence), rank), floor)
    return Prediction(expected, f"rank {rank} (chosen)" + f", never below {floor:g} of the mean" * evidence.counts)


def _estimate(evidence: Evidence, learned: Components, rank: int) -> Floats:
    rank = min(rank, len(learned.strength))
    if rank == 0:
        return mean_rate(evidence).expected
    readable = np.where(evidence.readable, evidence.weights, 0)
    seen = np.where(evidence.readable, (evidence.sums - learned.mean * readable) / learned.scale, 0)
    loadings = learned.loadings[:, :rank]
    basis = _joined(learned.bases[:rank])
    squares = (loadings[:, :, None] * loadings[:, None, :]).reshape(len(loadings), -1)
    seen, weight = windows(seen), windows(readable)
    n_windows, n_bins, _ = seen.shape
    course = np.empty((n_windows, n_bins, rank))
    for first in range(0, n_windows, AT_ONCE):
        part = slice(first, first + AT_ONCE)
        precision = (weight[part] @ squares).reshape(-1, n_bins, rank, rank)
        reach = (precision @ basis).reshape(len(precision), n_bins * rank, -1)
        system = basis.reshape(n_bins * rank, -1).T @ reach
        system += np.eye(basis.shape[2])
        right = (seen[part] @ loadings).reshape(len(precision), -1) @ basis.reshape(n_bins * rank, -1)
        weights = np.linalg.solve(system, right[..., None])[..., 0]
        course[part] = (weights @ basis.reshape(n_bins * rank, -1).T).reshape(-1, n_bins, rank)
    whole = blended(course, evidence.values.shape[:2])
    return np.asarray(learned.mean + learned.scale * (whole @ loadings.T))


def _joined(bases: list[Floats]) -> Floats:
    """One basis (time, component, weight) for all components, each with weights of its own."""
    n_bins, sizes = len(bases[0]), [basis.shape[1] for basis in bases]
    joined = np.zeros((n_bins, len(bases), sum(sizes)))
    first = 0
    for component, basis in enumerate(bases):
        joined[:, component, first : first + sizes[component]] = basis
        first += sizes[component]
    return joined
