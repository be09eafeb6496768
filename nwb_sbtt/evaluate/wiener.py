"""A low-rank Wiener filter: the best linear estimate of all channels from all that was seen around each moment.

Channels are taken to share a few components, x = μ + σ·(V z) + noise, where each component z has a stationary course.
V comes from the covariance of different channels, or of the same channel at different moments, summed over neighbouring
bins and pairs that were seen together, so the noise of single entries drops out. The autocovariance of each component is
measured the same way, and the estimate is the posterior mean of z given what was seen: masks and partial bins enter
as precisions. Nothing is iterated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.evaluate.baselines import FLOOR, Evidence, Floats, kernel_sum, mean_rate, tuning

RANKS = (1, 2, 3, 4, 6, 8, 12)
FLOORS = (FLOOR, 0.05, 0.1, 0.2, 0.4)
"""Smallest expected counts to choose from, as a share of the channel's mean; a linear estimate can be negative."""
NEIGHBOURHOOD = 1.5
"""Standard deviation, in bins, of the kernel over which covariances are summed."""
WINDOW = 128
"""Longest stretch, in bins, that is solved at once; longer trials are cut into halfway overlapping windows."""
SHARE = 0.99
"""Share of a component's variance that its temporal basis keeps."""
SMALLEST_NOISE = 0.05
"""Least share of a signal's variance that is taken for noise."""
SMALLEST_COMPONENT = 0.02
"""Components weaker than this share of the strongest are left out."""
AT_ONCE = 64
"""Windows solved together."""


def low_rank_wiener(evidence: Evidence) -> Floats:
    """Estimate every entry linearly from all shown entries near it.

    Rank and, for counts, the smallest expected count are those that best predict hidden entries of the training trials.

    Returns
    -------
    array (trial, time, channel)
        Expected value in a whole bin.
    """
    task = tuning(evidence)
    best, rank, floor = np.inf, 0, FLOOR
    tuned = _components(task.evidence)
    for each in [0, *(r for r in RANKS if r <= len(tuned.strength))]:
        linear = _estimate(task.evidence, tuned, each)
        for least in FLOORS if evidence.counts else FLOORS[:1]:
            score = task.score(_floored(task.evidence, linear, least))
            if score < best:
                best, rank, floor = score, each, least
    return _floored(evidence, _estimate(evidence, _components(evidence), rank), floor)


@dataclass(frozen=True)
class _Components:
    """What was learned in the training trials: loadings (channel, component), and each component's temporal basis."""

    mean: Floats
    scale: Floats
    loadings: Floats
    strength: Floats
    bases: list[Floats]


def _components(evidence: Evidence) -> _Components:
    train = evidence.trials(np.flatnonzero(evidence.train))
    mean = evidence.mean
    scale = np.sqrt(mean) if evidence.counts else _spread(train, mean)
    seen, weight = _standardised(train, mean, scale)
    covariance = _covariance(seen, weight)
    if not evidence.counts:
        # The noise is what a signal does not share with its neighbours, in time or among channels.
        noise = np.clip(1 - np.diag(covariance), SMALLEST_NOISE, 1)
        scale = scale * np.sqrt(noise)
        seen, weight = _standardised(train, mean, scale)
        covariance = _covariance(seen, weight)
    strength, vectors = np.linalg.eigh(covariance)
    order = np.argsort(strength)[::-1][: max(RANKS)]
    order = order[strength[order] > max(SMALLEST_COMPONENT * strength[order[0]], 1e-9)]
    loadings = vectors[:, order]
    return _Components(mean, scale, loadings, strength[order], _bases(seen, weight, loadings))


def _spread(evidence: Evidence, mean: Floats) -> Floats:
    """Standard deviation of each channel; 1 where it does not vary."""
    squares = np.where(evidence.shown, (evidence.sums - mean) ** 2, 0).sum((0, 1))
    variance = squares / np.maximum(evidence.weights.sum((0, 1)), 1)
    return np.where(variance > 1e-12 * mean**2, np.sqrt(variance), 1.0)


def _standardised(evidence: Evidence, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Windows of weighted deviations in units of the noise, and their weights."""
    weight = evidence.weights
    seen = np.where(evidence.shown, (evidence.sums - mean * weight) / scale, 0)
    return _windows(seen), _windows(weight)


def _covariance(seen: Floats, weight: Floats) -> Floats:
    """Covariance of channels (channel, channel) over pairs of different entries that are close in time."""
    n_channels = seen.shape[2]
    flat, near = seen.reshape(-1, n_channels), kernel_sum(seen, NEIGHBOURHOOD).reshape(-1, n_channels)
    pairs = weight.reshape(-1, n_channels).T @ kernel_sum(weight, NEIGHBOURHOOD).reshape(-1, n_channels)
    products = flat.T @ near
    own = np.arange(n_channels)
    products[own, own] -= (flat**2).sum(0)
    pairs[own, own] -= (weight**2).sum((0, 1))
    # A pair that was hardly ever seen together says little; it counts as uncorrelated.
    covariance = products / np.maximum(pairs, 1)
    return np.asarray((covariance + covariance.T) / 2)


def _bases(seen: Floats, weight: Floats, loadings: Floats) -> list[Floats]:
    """Square root (time, basis) of each component's autocovariance."""
    n_bins = seen.shape[1]
    lag = np.abs(np.arange(n_bins)[:, None] - np.arange(n_bins))
    bases = []
    for loading in loadings.T:
        score, power = seen @ loading, weight @ loading**2
        products = score.T @ score - np.diag((seen**2 @ loading**2).sum(0))
        pairs = power.T @ power - np.diag((weight**2 @ loading**4).sum(0))
        total = np.bincount(lag.ravel(), products.ravel(), minlength=n_bins)
        seen_together = np.bincount(lag.ravel(), pairs.ravel(), minlength=n_bins)
        course = np.where(seen_together > 1e-9, total / np.maximum(seen_together, 1e-9), 0)
        bases.append(_root(course[lag]))
    return bases


def _root(covariance: Floats) -> Floats:
    """Columns whose products give the positive part of a covariance, but for its weakest directions."""
    variance, directions = np.linalg.eigh(covariance)
    variance, directions = np.maximum(variance[::-1], 0), directions[:, ::-1]
    enough = int(np.searchsorted(np.cumsum(variance), SHARE * variance.sum())) + 1
    return np.asarray(directions[:, :enough] * np.sqrt(variance[:enough]))


def _estimate(evidence: Evidence, learned: _Components, rank: int) -> Floats:
    rank = min(rank, len(learned.strength))
    if rank == 0:
        return mean_rate(evidence)
    readable = np.where(evidence.readable, evidence.weights, 0)
    seen = np.where(evidence.readable, (evidence.sums - learned.mean * readable) / learned.scale, 0)
    loadings = learned.loadings[:, :rank]
    basis = _joined(learned.bases[:rank])
    squares = (loadings[:, :, None] * loadings[:, None, :]).reshape(len(loadings), -1)
    seen, weight = _windows(seen), _windows(readable)
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
    whole = _blended(course, evidence.values.shape[:2])
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


def _floored(evidence: Evidence, linear: Floats, least: float) -> Floats:
    return np.maximum(linear, least * evidence.mean) if evidence.counts else linear


def _places(n_bins: int) -> NDArray[np.intp]:
    """First bins of windows that cover a trial, each sharing at least half with the next."""
    if n_bins <= WINDOW:
        return np.zeros(1, dtype=np.intp)
    count = int(np.ceil((n_bins - WINDOW) / (WINDOW // 2))) + 1
    return np.linspace(0, n_bins - WINDOW, count).astype(np.intp)


def _windows(array: Floats) -> Floats:
    """(trial, time, …) cut into (trial · window, window length, …)."""
    length = min(array.shape[1], WINDOW)
    parts = np.stack([array[:, first : first + length] for first in _places(array.shape[1])], axis=1)
    return parts.reshape(-1, *parts.shape[2:])


def _blended(parts: Floats, shape: tuple[int, ...]) -> Floats:
    """Put windows back together, each counting most in its middle."""
    n_trials, n_bins = shape
    length = parts.shape[1]
    ramp = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(float)[:, None]
    parts = parts.reshape(n_trials, -1, length, parts.shape[2])
    whole, weight = np.zeros((n_trials, n_bins, parts.shape[3])), np.zeros((n_bins, 1))
    for i, first in enumerate(_places(n_bins)):
        whole[:, first : first + length] += parts[:, i] * ramp
        weight[first : first + length] += ramp
    return whole / weight
