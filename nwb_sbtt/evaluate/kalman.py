"""Kalman smoothing of many trials at once, in information form, where what was seen differs from bin to bin.

A state z of few dimensions moves by z(t+1) = A z(t) + w, w ~ N(0, Q), from z(0) ~ N(m, P). Whatever a bin's observations say
of the state is summed up by a precision W and a vector h (for Gaussian observations sums over the observed channels of
c c' / r and c y / r), so a missing observation is a term that is not there, and no matrix ever has the size of the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

JITTER = 1e-5
"""Least variance of a state's noise; keeps its inverse finite."""


@dataclass(frozen=True)
class Dynamics:
    """How a state of `d` dimensions starts and moves: A and Q (d, d), m (d), P (d, d)."""

    transition: Floats
    noise: Floats
    start: Floats
    start_noise: Floats


@dataclass(frozen=True)
class Course:
    """What is known of the states: mean (trial, time, d), covariance (trial, time, d, d), and lagged (trial, time − 1, d, d).

    ``lagged[:, t]`` is the covariance of z(t) with z(t+1).
    """

    mean: Floats
    covariance: Floats
    lagged: Floats


def smooth(dynamics: Dynamics, precision: Floats, information: Floats) -> Course:
    """States of each trial given all of its bins.

    The joint precision of a trial's states is block-tridiagonal; one sweep forwards eliminates, one backwards substitutes.

    Parameters
    ----------
    precision : array (trial, time, d, d)
        W of each bin, symmetric; 0 where nothing was seen.
    information : array (trial, time, d)
        h of each bin.
    """
    inverse, start_inverse = np.linalg.inv(dynamics.noise), np.linalg.inv(dynamics.start_noise)
    ahead = dynamics.transition.T @ inverse
    # With time first, what belongs to a bin lies together in memory, which halves the time that this takes.
    blocks, rights = (np.ascontiguousarray(array.swapaxes(0, 1)) for array in (precision, information))
    n_bins, _, d = rights.shape
    blocks[0] += start_inverse
    rights[0] += start_inverse @ dynamics.start
    blocks[1:] += inverse
    blocks[:-1] += ahead @ dynamics.transition
    covariance, gain, mean = np.empty_like(blocks), np.empty_like(blocks), np.empty_like(rights)
    for t in range(n_bins):
        if t:
            # ahead' G is symmetric, hence also G' ahead, which is one product for all trials.
            blocks[t] -= (gain[t - 1].swapaxes(1, 2).reshape(-1, d) @ ahead).reshape(-1, d, d)
            rights[t] += mean[t - 1] @ ahead
        covariance[t] = np.linalg.inv(blocks[t])
        gain[t] = (covariance[t].reshape(-1, d) @ ahead).reshape(-1, d, d)
        mean[t] = _product(covariance[t], rights[t])
    lagged = np.empty_like(blocks[1:])
    for t in range(n_bins - 2, -1, -1):
        mean[t] += _product(gain[t], mean[t + 1])
        lagged[t] = gain[t] @ covariance[t + 1]
        covariance[t] += lagged[t] @ gain[t].swapaxes(1, 2)
    return Course(*(np.ascontiguousarray(array.swapaxes(0, 1)) for array in (mean, covariance, lagged)))


def learned_dynamics(course: Course) -> Dynamics:
    """The dynamics under which these courses are most likely (the M-step of EM); needs two bins or more."""
    mean, covariance = course.mean, course.covariance
    n_trials, n_bins, d = mean.shape
    least = JITTER * np.eye(d)
    power = covariance.sum(0) + np.einsum("nti,ntj->tij", mean, mean)
    before, after = power[:-1].sum(0), power[1:].sum(0)
    cross = course.lagged.sum((0, 1)).T + np.einsum("nti,ntj->ij", mean[:, 1:], mean[:, :-1])
    transition = np.linalg.solve(before + least, cross.T).T
    noise = (after - transition @ cross.T - cross @ transition.T + transition @ before @ transition.T) / (
        n_trials * (n_bins - 1)
    )
    start = mean[:, 0].mean(0)
    deviation = mean[:, 0] - start
    start_noise = (covariance[:, 0].sum(0) + deviation.T @ deviation) / n_trials
    return Dynamics(transition, _symmetric(noise) + least, start, _symmetric(start_noise) + least)


def _product(matrices: Floats, vectors: Floats) -> Floats:
    found: Floats = (matrices @ vectors[..., None])[..., 0]
    return found


def _symmetric(matrix: Floats) -> Floats:
    found: Floats = (matrix + matrix.T) / 2
    return found
