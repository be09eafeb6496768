"""Errors that channels share, told from each channel's own noise by products of residuals of different channels.

A residual at a hidden entry is the model's error plus the noise of the measurement. Noise is each channel's own, while the
model's errors are those of a few factors, and many channels have them at once. So the product of two channels' residuals
in one bin has the covariance of their errors for its mean, whatever the noise of either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

SHARE_OF_VARIANCE, MOST_FACTORS = 0.999, 12
"""Factors explain this share of the variance of what is expected; there are no more than `MOST_FACTORS`."""
CHANNELS_PER_FACTOR = 3
"""Channels that each factor needs, lest its variance pass for noise."""
GROUPS = 10
"""Groups of trials; the standard error is that of leaving out each in turn."""


@dataclass(frozen=True)
class SharedVariance:
    """Variance of the errors that a channel shares with others.

    Parameters
    ----------
    by_channel : float array (channel)
        0 where it cannot be told from noise.
    relative_error : float
        Standard error of its mean over channels, as a share of that; infinite where nothing is known.
    """

    by_channel: Float[ndarray, "channel"]
    relative_error: float


def loadings(expected: Float[ndarray, "trial time channel"]) -> Float[ndarray, "channel factor"]:
    """Compute orthonormal loadings of the factors that explain most of the variance of expected values.

    Parameters
    ----------
    expected : float array (trial, time, channel)
        Estimates, of all entries.

    Returns
    -------
    float array (channel, factor)
        Without a factor where there are too few channels.
    """
    flat = expected.reshape(-1, expected.shape[-1]).astype(float)
    variance, directions = np.linalg.eigh(np.cov(flat.T, bias=True).reshape(flat.shape[1], flat.shape[1]))
    share = np.cumsum(variance[::-1]) / max(variance.sum(), np.finfo(float).tiny)
    most = min(MOST_FACTORS, flat.shape[1] // CHANNELS_PER_FACTOR)
    return np.ascontiguousarray(directions[:, ::-1][:, : min(int((share < SHARE_OF_VARIANCE).sum()) + 1, most)])


class SharedErrors:
    """Sums over hidden entries from which the covariance of the factors' errors follows.

    Least squares over all pairs of different channels c, d in a bin: ``r_c r_d = L_c' Q L_d`` for residuals r, in units in
    which their sds are alike, and loadings L; Q is the covariance.

    Parameters
    ----------
    loadings : float array (channel, factor)
    """

    def __init__(self, loadings: Float[ndarray, "channel factor"]) -> None:
        self._loadings = loadings
        n_channels, n_factors = loadings.shape
        self._squares = np.einsum("ci,cj->cij", loadings, loadings).reshape(n_channels, -1)
        self._normal = np.zeros((GROUPS, n_factors**2, n_factors**2))
        self._products = np.zeros((GROUPS, n_factors**2))

    def add(
        self,
        residual: Float[ndarray, "trial time channel"],
        hidden: Bool[ndarray, "trial time channel"],
    ) -> None:
        """Add entries that were hidden together.

        Parameters
        ----------
        residual : float array (trial, time, channel)
            Values minus what was expected of them.
        hidden : bool array (trial, time, channel)
        """
        n_channels = residual.shape[2]
        n = self._loadings.shape[1]
        for group in range(GROUPS):
            w = hidden[group::GROUPS].reshape(-1, n_channels).astype(float)
            x = residual[group::GROUPS].reshape(-1, n_channels) * w
            sums, totals = x @ self._loadings, w @ self._squares
            self._products[group] += (sums.T @ sums).ravel() - (x**2).sum(0) @ self._squares
            # Indexed as Q is, first those of one channel: Σ L_ci L_ck · Σ L_dj L_dl.
            both = (totals.T @ totals).reshape(n, n, n, n).transpose(0, 2, 1, 3).reshape(n * n, n * n)
            self._normal[group] += both - self._squares.T @ (w.sum(0)[:, None] * self._squares)

    def variance(self) -> SharedVariance:
        """Estimate the variance of the shared errors of each channel."""
        nothing = SharedVariance(np.zeros(len(self._loadings)), np.inf)
        if self._loadings.shape[1] == 0 or not self._normal.any():
            return nothing
        by_channel = self._solve(self._normal.sum(0), self._products.sum(0))
        if not (mean := float(by_channel.mean())) > 0:
            return nothing
        left = [
            self._solve(np.delete(self._normal, i, 0).sum(0), np.delete(self._products, i, 0).sum(0)).mean()
            for i in range(GROUPS)
        ]
        return SharedVariance(by_channel, float(np.sqrt((GROUPS - 1) * np.var(left)) / mean))

    def _solve(self, normal: Float[ndarray, "_ _"], products: Float[ndarray, "_"]) -> Float[ndarray, "channel"]:
        n = self._loadings.shape[1]
        covariance = np.linalg.lstsq(normal, products, rcond=1e-8)[0].reshape(n, n)
        variance, directions = np.linalg.eigh((covariance + covariance.T) / 2)
        scaled = self._loadings @ directions
        return np.asarray((scaled**2) @ np.maximum(variance, 0))
