"""Shared components of the channels, each a stationary process, measured from moments of masked data.

x = μ + σ·(V z) + noise. V holds the leading eigenvectors of the channels' covariance, which is summed over pairs of *different*
entries close in time: other channels, or the same channel in other bins. So the noise of single entries drops out. The
autocovariance of each component z is estimated in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_sbtt.evaluate.baselines.protocol import Floats, MaskedData
from nwb_sbtt.evaluate.baselines.smoothing import kernel_sum
from nwb_sbtt.evaluate.baselines.windows import WINDOW, to_windows

MAX_COMPONENTS = 12
KERNEL_WIDTH = 1.5
"""Standard deviation of the kernel over which covariances are summed [bins]."""
EXPLAINED_SHARE = 0.99
"""Share of a component's variance that its temporal basis keeps."""
MIN_NOISE_SHARE = 0.05
"""Smallest noise variance of a signal, as a share of its variance."""
MIN_STRENGTH = 0.02
"""Components below this share of the strongest are left out."""


@dataclass(frozen=True)
class Components:
    """Components measured in the training trials, the strongest first.

    Parameters
    ----------
    mean : array (channel)
        μ, in counts per bin or the data's unit.
    scale : array (channel)
        σ: sd of an entry's noise, in the same unit.
    loadings : array (channel, component)
        V, orthonormal.
    strength : array (component)
        Eigenvalues: variance of a component, in units of the noise variance.
    bases : list of array (time, basis)
        Square root B of each component's autocovariance within a window: B B' is the autocovariance.
    """

    mean: Floats
    scale: Floats
    loadings: Floats
    strength: Floats
    bases: list[Floats]


def measure_components(data: MaskedData) -> Components:
    """Measure the shared components in the training trials.

    Parameters
    ----------
    data : MaskedData

    Returns
    -------
    Components
        At most 12; none where channels share nothing.
    """
    mean = data.channel_mean
    scale = np.sqrt(mean) if data.is_counts else _channel_sd(data, mean)
    covariance = _covariance(data, mean, scale)
    if not data.is_counts:
        # The noise is what a signal does not share with its neighbours, in time or among channels.
        noise_share = np.clip(1 - np.diag(covariance), MIN_NOISE_SHARE, 1)
        scale = scale * np.sqrt(noise_share)
        covariance = _covariance(data, mean, scale)
    strength, vectors = np.linalg.eigh(covariance)
    order = np.argsort(strength)[::-1][:MAX_COMPONENTS]
    order = order[strength[order] > max(MIN_STRENGTH * strength[order[0]], 1e-9)]
    loadings = vectors[:, order]
    return Components(mean, scale, loadings, strength[order], _temporal_bases(data, mean, scale, loadings))


def _channel_sd(data: MaskedData, mean: Floats) -> Floats:
    """Standard deviation of each channel in the training trials; 1 where it does not vary."""
    squares, weight = np.zeros((2, len(mean)))
    for _, part in data.parts(data.train):
        squares += np.where(part.shown, (part.values - mean) ** 2, 0).sum((0, 1))
        weight += part.weights.sum((0, 1))
    variance = squares / np.maximum(weight, 1)
    return np.where(variance > 1e-12 * mean**2, np.sqrt(variance), 1.0)


def _standardised(data: MaskedData, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Windows of weighted deviations in units of the noise, and their weights."""
    weight = data.weights
    values = np.where(data.shown, (data.values - mean * weight) / scale, 0)
    return to_windows(values), to_windows(weight)


def _covariance(data: MaskedData, mean: Floats, scale: Floats) -> Floats:
    """Covariance of channels (channel, channel) over pairs of different entries of training trials that are close in time."""
    n_channels = len(mean)
    products, pairs = np.zeros((2, n_channels, n_channels))
    diagonal = np.arange(n_channels)
    for _, part in data.parts(data.train):
        values, weight = _standardised(part, mean, scale)
        flat, nearby = values.reshape(-1, n_channels), kernel_sum(values, KERNEL_WIDTH).reshape(-1, n_channels)
        pairs += weight.reshape(-1, n_channels).T @ kernel_sum(weight, KERNEL_WIDTH).reshape(-1, n_channels)
        products += flat.T @ nearby
        products[diagonal, diagonal] -= (flat**2).sum(0)
        pairs[diagonal, diagonal] -= (weight**2).sum((0, 1))
    # A pair hardly ever shown together counts as uncorrelated.
    covariance = products / np.maximum(pairs, 1)
    return np.asarray((covariance + covariance.T) / 2)


def _temporal_bases(data: MaskedData, mean: Floats, scale: Floats, loadings: Floats) -> list[Floats]:
    """Square root (time, basis) of each component's autocovariance."""
    n_bins = min(data.shape[1], WINDOW)
    lag = np.abs(np.arange(n_bins)[:, None] - np.arange(n_bins))
    products, pairs = np.zeros((2, loadings.shape[1], n_bins, n_bins))
    for _, part in data.parts(data.train):
        values, weight = _standardised(part, mean, scale)
        for i, loading in enumerate(loadings.T):
            projection, power = values @ loading, weight @ loading**2
            products[i] += projection.T @ projection - np.diag((values**2 @ loading**2).sum(0))
            pairs[i] += power.T @ power - np.diag((weight**2 @ loading**4).sum(0))
    bases = []
    for i in range(loadings.shape[1]):
        sum_at_lag = np.bincount(lag.ravel(), products[i].ravel(), minlength=n_bins)
        pairs_at_lag = np.bincount(lag.ravel(), pairs[i].ravel(), minlength=n_bins)
        autocovariance = np.where(pairs_at_lag > 1e-9, sum_at_lag / np.maximum(pairs_at_lag, 1e-9), 0)
        bases.append(_square_root(autocovariance[lag]))
    return bases


def _square_root(covariance: Floats) -> Floats:
    """Columns whose products give the positive part of a covariance, but for its weakest directions."""
    variance, directions = np.linalg.eigh(covariance)
    variance, directions = np.maximum(variance[::-1], 0), directions[:, ::-1]
    n_kept = int(np.searchsorted(np.cumsum(variance), EXPLAINED_SHARE * variance.sum())) + 1
    return np.asarray(directions[:, :n_kept] * np.sqrt(variance[:n_kept]))
