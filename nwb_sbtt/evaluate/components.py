"""What channels share: a few components, each with a stationary course, measured by moments of masked data.

x = μ + σ·(V z) + noise. V comes from the covariance of different channels, or of the same channel at different moments, summed
over neighbouring bins and pairs that were seen together, so the noise of single entries drops out. The autocovariance of
each component z is measured the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_sbtt.evaluate.baselines import Evidence, Floats, kernel_sum
from nwb_sbtt.evaluate.windows import windows

MOST = 12
"""Components kept at most."""
NEIGHBOURHOOD = 1.5
"""Standard deviation, in bins, of the kernel over which covariances are summed."""
SHARE = 0.99
"""Share of a component's variance that its temporal basis keeps."""
SMALLEST_NOISE = 0.05
"""Least share of a signal's variance that is taken for noise."""
SMALLEST_COMPONENT = 0.02
"""Components weaker than this share of the strongest are left out."""


@dataclass(frozen=True)
class Components:
    """What was learned in the training trials: loadings (channel, component), and each component's temporal basis."""

    mean: Floats
    scale: Floats
    loadings: Floats
    strength: Floats
    bases: list[Floats]


def components(evidence: Evidence) -> Components:
    """Measure the components in the training trials, the strongest first."""
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
    order = np.argsort(strength)[::-1][:MOST]
    order = order[strength[order] > max(SMALLEST_COMPONENT * strength[order[0]], 1e-9)]
    loadings = vectors[:, order]
    return Components(mean, scale, loadings, strength[order], _bases(seen, weight, loadings))


def _spread(evidence: Evidence, mean: Floats) -> Floats:
    """Standard deviation of each channel; 1 where it does not vary."""
    squares = np.where(evidence.shown, (evidence.sums - mean) ** 2, 0).sum((0, 1))
    variance = squares / np.maximum(evidence.weights.sum((0, 1)), 1)
    return np.where(variance > 1e-12 * mean**2, np.sqrt(variance), 1.0)


def _standardised(evidence: Evidence, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Windows of weighted deviations in units of the noise, and their weights."""
    weight = evidence.weights
    seen = np.where(evidence.shown, (evidence.sums - mean * weight) / scale, 0)
    return windows(seen), windows(weight)


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
