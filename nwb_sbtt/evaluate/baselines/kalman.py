"""Kalman smoothing of many trials at once, in information form, where the observed channels differ from bin to bin.

The state z of d dimensions moves by z(t+1) = A z(t) + w, w ~ N(0, Q), from z(0) ~ N(m, P). The likelihood of a bin's
observations, as a function of z, is exp(h'z − z'Wz / 2): for Gaussian emissions y = c'z + noise of variance r, W and h are the
sums over observed channels of c c' / r and c y / r. A missing observation is a term that is not in the sum, and no matrix has
the size of the channels.

The joint posterior of a trial's states is Gaussian with a block-tridiagonal precision: diagonal blocks
W(t) + Q⁻¹ + A'Q⁻¹A (with P⁻¹ for Q⁻¹ in the first bin, without A'Q⁻¹A in the last), off-diagonal blocks −Q⁻¹A. Block-Gaussian
elimination forwards and substitution backwards give means, covariances and lag-one covariances: the Rauch-Tung-Striebel
smoother. The M-step is that of Shumway and Stoffer (1982, J. Time Series Analysis 3:253-264).

With a lag of L bins, what is wanted is the posterior of z(t) given the bins up to t + L. The filter goes through the bins in
turn, and may expand a likelihood that is not Gaussian where it stands. Given the bins up to t, z(t) is a linear function of
z(t+1) and noise; L such functions in a row lead from the filter's posterior of z(t+L) back to z(t).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

JITTER = 1e-5
"""Added to the diagonal of estimated covariances of the state's noise, so that they can be inverted."""


@dataclass(frozen=True)
class Dynamics:
    """A linear dynamical system of d dimensions.

    Parameters
    ----------
    transition : array (d, d)
        A, per bin.
    noise_covariance : array (d, d)
        Q.
    initial_mean : array (d)
        m.
    initial_covariance : array (d, d)
        P.
    """

    transition: Floats
    noise_covariance: Floats
    initial_mean: Floats
    initial_covariance: Floats


class Posterior(Protocol):
    """Gaussian posterior of the states, given any of the bins of their trial."""

    @property
    def mean(self) -> Floats:
        """Mean of the states (trial, time, d)."""

    @property
    def covariance(self) -> Floats:
        """Covariance of the states (trial, time, d, d)."""


@dataclass(frozen=True)
class States:
    """Posterior of the states given some bins of their trial, or their prior.

    Parameters
    ----------
    mean : array (trial, time, d)
    covariance : array (trial, time, d, d)
    """

    mean: Floats
    covariance: Floats


@dataclass(frozen=True)
class SmoothedPosterior:
    """Posterior of the states given all bins of their trial.

    Parameters
    ----------
    mean : array (trial, time, d)
    covariance : array (trial, time, d, d)
    lagged_covariance : array (trial, time − 1, d, d)
        Covariance of z(t) with z(t+1).
    """

    mean: Floats
    covariance: Floats
    lagged_covariance: Floats


def smooth(dynamics: Dynamics, precision: Floats, information: Floats) -> SmoothedPosterior:
    """Infer the states of each trial from all of its bins.

    Parameters
    ----------
    dynamics : Dynamics
    precision : array (trial, time, d, d)
        W of each bin, symmetric; 0 where nothing is observed.
    information : array (trial, time, d)
        h of each bin.

    Returns
    -------
    SmoothedPosterior
    """
    inverse, initial_inverse = np.linalg.inv(dynamics.noise_covariance), np.linalg.inv(dynamics.initial_covariance)
    coupling = dynamics.transition.T @ inverse
    # With time first, the arrays of one bin are contiguous, which halves the time that this takes.
    blocks, rights = (np.ascontiguousarray(array.swapaxes(0, 1)) for array in (precision, information))
    n_bins, _, d = rights.shape
    blocks[0] += initial_inverse
    rights[0] += initial_inverse @ dynamics.initial_mean
    blocks[1:] += inverse
    blocks[:-1] += coupling @ dynamics.transition
    covariance, gain, mean = np.empty_like(blocks), np.empty_like(blocks), np.empty_like(rights)
    for t in range(n_bins):
        if t:
            # coupling' G is symmetric, hence equal to G' coupling, which is one product for all trials.
            blocks[t] -= (gain[t - 1].swapaxes(1, 2).reshape(-1, d) @ coupling).reshape(-1, d, d)
            rights[t] += mean[t - 1] @ coupling
        covariance[t] = np.linalg.inv(blocks[t])
        gain[t] = (covariance[t].reshape(-1, d) @ coupling).reshape(-1, d, d)
        mean[t] = _product(covariance[t], rights[t])
    lagged = np.empty_like(blocks[1:])
    for t in range(n_bins - 2, -1, -1):
        mean[t] += _product(gain[t], mean[t + 1])
        lagged[t] = gain[t] @ covariance[t + 1]
        covariance[t] += lagged[t] @ gain[t].swapaxes(1, 2)
    return SmoothedPosterior(*(np.ascontiguousarray(array.swapaxes(0, 1)) for array in (mean, covariance, lagged)))


def smooth_to_lag(
    dynamics: Dynamics, shape: tuple[int, int], update: Callable[[int, States], States], *, lag: int
) -> States:
    """Infer the states of each bin from the bins up to a lag after it: a filter if that is 0, a fixed-lag smoother otherwise.

    Parameters
    ----------
    dynamics : Dynamics
    shape : (int, int)
        Numbers of trials and of bins.
    update : callable (bin, prior) -> posterior
        Posterior of the states in a bin, given them before anything of that bin is seen; both of shape (trial, 1, …).
    lag : int
        Bins.

    Returns
    -------
    States
    """
    n_trials, n_bins = shape
    d, transition = len(dynamics.initial_mean), dynamics.transition
    mean, covariance = np.empty((n_bins, n_trials, d)), np.empty((n_bins, n_trials, d, d))
    # z(t) = slope z(t+1) + intercept + noise, given the bins up to t; the last bin's is the identity.
    slope = np.tile(np.eye(d), (n_bins, n_trials, 1, 1))
    intercept, noise = np.zeros(mean.shape), np.zeros(covariance.shape)
    prior_mean = np.tile(dynamics.initial_mean, (n_trials, 1))
    prior_covariance = np.tile(dynamics.initial_covariance, (n_trials, 1, 1))
    for t in range(n_bins):
        states = update(t, States(prior_mean[:, None], prior_covariance[:, None]))
        mean[t], covariance[t] = states.mean[:, 0], states.covariance[:, 0]
        if t == n_bins - 1:
            break
        pushed = transition @ covariance[t]
        prior_mean = mean[t] @ transition.T
        prior_covariance = pushed @ transition.T + dynamics.noise_covariance
        if lag:
            slope[t] = np.linalg.solve(prior_covariance, pushed).swapaxes(1, 2)
            intercept[t] = mean[t] - _product(slope[t], prior_mean)
            noise[t] = covariance[t] - slope[t] @ pushed
    left, step = min(lag, n_bins - 1), 1
    while left:
        later = np.minimum(np.arange(n_bins) + step, n_bins - 1)
        if left & step:
            mean = _product(slope, mean[later]) + intercept
            covariance = slope @ covariance[later] @ slope.swapaxes(2, 3) + noise
            left -= step
        if left:
            intercept = _product(slope, intercept[later]) + intercept
            noise = slope @ noise[later] @ slope.swapaxes(2, 3) + noise
            slope = slope @ slope[later]
        step *= 2
    return States(*(np.ascontiguousarray(array.swapaxes(0, 1)) for array in (mean, covariance)))


def m_step(posterior: SmoothedPosterior) -> Dynamics:
    """Compute the dynamics that maximise the expected log-likelihood of the states (Shumway and Stoffer 1982).

    Parameters
    ----------
    posterior : SmoothedPosterior
        Of two bins or more.

    Returns
    -------
    Dynamics
    """
    mean, covariance = posterior.mean, posterior.covariance
    n_trials, n_bins, d = mean.shape
    jitter = JITTER * np.eye(d)
    second_moment = covariance.sum(0) + np.einsum("nti,ntj->tij", mean, mean)
    before, after = second_moment[:-1].sum(0), second_moment[1:].sum(0)
    cross = posterior.lagged_covariance.sum((0, 1)).T + np.einsum("nti,ntj->ij", mean[:, 1:], mean[:, :-1])
    transition = np.linalg.solve(before + jitter, cross.T).T
    noise = (after - transition @ cross.T - cross @ transition.T + transition @ before @ transition.T) / (
        n_trials * (n_bins - 1)
    )
    initial_mean = mean[:, 0].mean(0)
    deviation = mean[:, 0] - initial_mean
    initial_covariance = (covariance[:, 0].sum(0) + deviation.T @ deviation) / n_trials
    return Dynamics(transition, _symmetric(noise) + jitter, initial_mean, _symmetric(initial_covariance) + jitter)


def _product(matrices: Floats, vectors: Floats) -> Floats:
    product: Floats = (matrices @ vectors[..., None])[..., 0]
    return product


def _symmetric(matrix: Floats) -> Floats:
    symmetric: Floats = (matrix + matrix.T) / 2
    return symmetric
