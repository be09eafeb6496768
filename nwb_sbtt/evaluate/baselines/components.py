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
from nwb_sbtt.evaluate.baselines.windows import to_windows

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
    train = data.select_trials(np.flatnonzero(data.train))
    mean = data.channel_mean
    scale = np.sqrt(mean) if data.is_counts else _channel_sd(train, mean)
    values, weight = _standardised(train, mean, scale)
    covariance = _covariance(values, weight)
    if not data.is_counts:
        # The noise is what a signal does not share with its neighbours, in time or among channels.
        noise_share = np.clip(1 - np.diag(covariance), MIN_NOISE_SHARE, 1)
        scale = scale * np.sqrt(noise_share)
        values, weight = _standardised(train, mean, scale)
        covariance = _covariance(values, weight)
    strength, vectors = np.linalg.eigh(covariance)
    order = np.argsort(strength)[::-1][:MAX_COMPONENTS]
    order = order[strength[order] > max(MIN_STRENGTH * strength[order[0]], 1e-9)]
    loadings = vectors[:, order]
    return Components(mean, scale, loadings, strength[order], _temporal_bases(values, weight, loadings))


def _channel_sd(data: MaskedData, mean: Floats) -> Floats:
    """Standard deviation of each channel; 1 where it does not vary."""
    squares = np.where(data.shown, (data.values - mean) ** 2, 0).sum((0, 1))
    variance = squares / np.maximum(data.weights.sum((0, 1)), 1)
    return np.where(variance > 1e-12 * mean**2, np.sqrt(variance), 1.0)


def _standardised(data: MaskedData, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Windows of weighted deviations in units of the noise, and their weights."""
    weight = data.weights
    values = np.where(data.shown, (data.values - mean * weight) / scale, 0)
    return to_windows(values), to_windows(weight)


def _covariance(values: Floats, weight: Floats) -> Floats:
    """Covariance of channels (channel, channel) over pairs of different entries that are close in time."""
    n_channels = values.shape[2]
    flat, nearby = values.reshape(-1, n_channels), kernel_sum(values, KERNEL_WIDTH).reshape(-1, n_channels)
    pairs = weight.reshape(-1, n_channels).T @ kernel_sum(weight, KERNEL_WIDTH).reshape(-1, n_channels)
    products = flat.T @ nearby
    diagonal = np.arange(n_channels)
    products[diagonal, diagonal] -= (flat**2).sum(0)
    pairs[diagonal, diagonal] -= (weight**2).sum((0, 1))
    # A pair hardly ever shown together counts as uncorrelated.
    covariance = products / np.maximum(pairs, 1)
    return np.asarray((covariance + covariance.T) / 2)


def _temporal_bases(values: Floats, weight: Floats, loadings: Floats) -> list[Floats]:
    """Square root (time, basis) of each component's autocovariance."""
    n_bins = values.shape[1]
    lag = np.abs(np.arange(n_bins)[:, None] - np.arange(n_bins))
    bases = []
    for loading in loadings.T:
        projection, power = values @ loading, weight @ loading**2
        products = projection.T @ projection - np.diag((values**2 @ loading**2).sum(0))
        pairs = power.T @ power - np.diag((weight**2 @ loading**4).sum(0))
        sum_at_lag = np.bincount(lag.ravel(), products.ravel(), minlength=n_bins)
        pairs_at_lag = np.bincount(lag.ravel(), pairs.ravel(), minlength=n_bins)
        autocovariance = np.where(pairs_at_lag > 1e-9, sum_at_lag / np.maximum(pairs_at_lag, 1e-9), 0)
        bases.append(_square_root(autocovariance[lag]))
    return bases


def _square_root(covariance: Floats) -> Floats:
    """Columns whose products give the positive part of a covariance, but for its weakest directions."""
    variance, directions = np.linalg.eigh(covariance)
    variance, directions = np.maximum(variance[::-1], 0), directions[:, ::-1]
    n_kept = int(np.searchsorted(np.cumsum(variance), EXPLAINED_SHARE * variance.sum())) + 1
    return np.asarray(directions[:, :n_kept] * np.sqrt(variance[:n_kept]))
