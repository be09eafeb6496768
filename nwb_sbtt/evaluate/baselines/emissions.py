"""Emissions of a state-space model: counts with log-linear Poisson rates, or samples with Gaussian noise.

Emissions turn observations into the precision and information that `kalman.smooth` takes (E-step), and estimate their
loadings from the posterior of the states (M-step). Missing entries have weight 0 in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.evaluate.baselines.kalman import Posterior

Floats = NDArray[np.float64]

PRIOR_PRECISION = 1.0
"""Precision of the Gaussian prior of every loading about 0; keeps channels with few observations near their mean."""
MAX_STEP = 1.0
"""Largest change of a Poisson channel's loadings and offset in one M-step."""
MAX_LOG_RATIO = 10.0
"""Largest difference of a log rate from its offset, so that nothing overflows."""
MIN_NOISE = 1e-3
"""Smallest noise variance of a sample, in units of the channel's variance that is not shared with others."""


@dataclass(frozen=True)
class Observations:
    """Observed values and their weights, both 0 where missing.

    Parameters
    ----------
    values : array (window, time, channel)
        Counts, or samples times their weight.
    weights : array (window, time, channel)
        Share of the bin observed for counts; 0 or 1 for samples.
    """

    values: Floats
    weights: Floats


class Emissions(Protocol):
    """What a state-space model needs from its emissions."""

    @property
    def loadings(self) -> Floats:
        """Weights of the state in each channel (channel, d)."""

    def natural_parameters(self, observations: Observations, posterior: Posterior) -> tuple[Floats, Floats]:
        """Compute precision (window, time, d, d) and information (window, time, d) of each bin's (pseudo-)observations.

        Parameters
        ----------
        observations : Observations
        posterior : Posterior
            Where the likelihood is expanded, if it is not Gaussian.
        """

    def m_step(self, observations: Observations, posterior: Posterior) -> Emissions:
        """Estimate the parameters from observations and smoothed posterior.

        Parameters
        ----------
        observations : Observations
            Counts or samples of all windows, and the share of each bin observed.
        posterior : Posterior
            Mean and covariance of the states of each bin.

        Returns
        -------
        Emissions
            With the new parameters.
        """

    def expected(self, posterior: Posterior) -> Floats:
        """Compute the expected value of each entry in a whole bin (window, time, channel).

        Parameters
        ----------
        posterior : Posterior
            Mean and covariance of the states of each bin.

        Returns
        -------
        array (window, time, channel)
            Counts in a whole bin, or samples in the data's unit.
        """


@dataclass(frozen=True)
class PoissonEmissions:
    """Counts with rate exp(c'z + b).

    With a Gaussian posterior of mean m and covariance V the expected rate is λ = exp(c'm + b + c'Vc / 2). The variational
    bound Σ y (c'm + b) − λ − KL is maximised by Newton steps: each is a Kalman smoother on pseudo-observations with
    precision W = Σ λ c c' and information W m + Σ (y − λ) c.

    Parameters
    ----------
    loadings : array (channel, d)
        c; log rate per unit of the state.
    offset : array (channel)
        b; log count per bin.
    prior : (spikes, bins)
        Spikes and bins added to each channel at its offset; keeps the offset of a silent channel finite.
    """

    loadings: Floats
    offset: Floats
    prior: tuple[float, float]

    def natural_parameters(self, observations: Observations, posterior: Posterior) -> tuple[Floats, Floats]:
        """Compute those of the next Newton step; see `Emissions`."""
        expected = observations.weights * self.expected(posterior)
        precision = (expected @ _outer_products(self.loadings)).reshape(posterior.covariance.shape)
        at_mean = (precision @ posterior.mean[..., None])[..., 0]
        return precision, at_mean + (observations.values - expected) @ self.loadings

    def m_step(self, observations: Observations, posterior: Posterior) -> PoissonEmissions:
        """Take one Newton step of all channels on the variational bound; see `Emissions`."""
        d = self.loadings.shape[1]
        spikes, bins = self.prior
        design, covariance = _design(posterior), posterior.covariance.reshape(-1, d * d)
        expected = (observations.weights * self.expected(posterior)).reshape(len(design), -1)
        uncertainty = (expected.T @ covariance).reshape(-1, d, d)
        gradient = (observations.values.reshape(expected.shape) - expected).T @ design
        gradient[:, :d] -= (uncertainty @ self.loadings[..., None])[..., 0] + PRIOR_PRECISION * self.loadings
        prior_count = bins * np.exp(self.offset)
        gradient[:, d] += spikes - prior_count
        curvature = (expected.T @ _outer_products(design)).reshape(-1, d + 1, d + 1)
        curvature[:, :d, :d] += uncertainty + PRIOR_PRECISION * np.eye(d)
        curvature[:, d, d] += prior_count
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        step *= np.minimum(1, MAX_STEP / np.maximum(np.abs(step).max(1), 1e-12))[:, None]
        return replace(self, loadings=self.loadings + step[:, :d], offset=self.offset + step[:, d])

    def expected(self, posterior: Posterior) -> Floats:
        """Compute expected counts in whole bins; see `Emissions`."""
        log_ratio = posterior.mean @ self.loadings.T + _predictor_variance(posterior, self.loadings) / 2
        counts: Floats = np.exp(np.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO) + self.offset)
        return counts


@dataclass(frozen=True)
class GaussianEmissions:
    """Samples of mean c'z + b and of a noise variance for each channel.

    Parameters
    ----------
    loadings : array (channel, d)
        c.
    offset : array (channel)
        b.
    noise_variance : array (channel)
    """

    loadings: Floats
    offset: Floats
    noise_variance: Floats

    def natural_parameters(self, observations: Observations, posterior: Posterior) -> tuple[Floats, Floats]:
        """Compute those of the observations, exactly; they do not depend on the posterior. See `Emissions`."""
        weights = observations.weights
        precision = (weights / self.noise_variance @ _outer_products(self.loadings)).reshape(posterior.covariance.shape)
        return precision, (observations.values - weights * self.offset) / self.noise_variance @ self.loadings

    def m_step(self, observations: Observations, posterior: Posterior) -> GaussianEmissions:
        """Regress each channel on the states; the residuals give the noise. See `Emissions`."""
        d = self.loadings.shape[1]
        design, covariance = _design(posterior), posterior.covariance.reshape(-1, d * d)
        values, weights = (array.reshape(len(design), -1) for array in (observations.values, observations.weights))
        moment = (weights.T @ _outer_products(design)).reshape(-1, d + 1, d + 1)
        moment[:, :d, :d] += (weights.T @ covariance).reshape(-1, d, d)
        cross = values.T @ design
        # The prior of the offset gives a channel without observations an offset of 0.
        prior = np.diag([*[PRIOR_PRECISION] * d, 1e-6]) * self.noise_variance[:, None, None]
        weight = np.asarray(np.linalg.solve(moment + prior, cross[..., None])[..., 0], dtype=np.float64)
        squares = (
            (values**2).sum(0) - 2 * (weight * cross).sum(1) + ((moment @ weight[..., None])[..., 0] * weight).sum(1)
        )
        noise = (squares + self.noise_variance) / (weights.sum(0) + 1)
        return GaussianEmissions(weight[:, :d], weight[:, d], np.maximum(noise, MIN_NOISE))

    def expected(self, posterior: Posterior) -> Floats:
        """Compute expected samples; see `Emissions`."""
        samples: Floats = posterior.mean @ self.loadings.T + self.offset
        return samples


def _outer_products(rows: Floats) -> Floats:
    """Outer product of each row with itself, as a row."""
    return (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)


def _design(posterior: Posterior) -> Floats:
    """Mean states and a one (bin, d + 1)."""
    flat = posterior.mean.reshape(-1, posterior.mean.shape[2])
    return np.column_stack([flat, np.ones(len(flat))])


def _predictor_variance(posterior: Posterior, loadings: Floats) -> Floats:
    """Variance c'Vc of each channel's linear predictor (window, time, channel)."""
    flat = posterior.covariance.reshape(*posterior.mean.shape[:2], -1)
    variance: Floats = flat @ _outer_products(loadings).T
    return variance
