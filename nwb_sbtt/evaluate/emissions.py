"""How channels read a state: counts with a log-linear rate, or samples with Gaussian noise; learned from what was seen.

A readout turns what it sees into the precision and information that `kalman.smooth` takes, and learns its loadings from the
courses that come out: the two halves of EM. Entries that were not seen have weight 0 in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.evaluate.kalman import Course

Floats = NDArray[np.float64]

STRENGTH = 1.0
"""Precision of the prior of every loading about 0; keeps channels that were hardly ever seen near their mean."""
LARGEST_STEP = 1.0
"""Most that a log-linear channel's loadings and offset move in one step."""
RANGE = 10.0
"""A logarithm of a rate stays within this of its offset, so that nothing overflows."""
SMALLEST_NOISE = 1e-3
"""Least noise variance of a sample, in units of what the channel does not share with others."""


@dataclass(frozen=True)
class Seen:
    """Values and weights (window, time, channel): counts and shares of bins, or samples and 0 or 1; both 0 if not seen."""

    values: Floats
    weights: Floats


class Readout(Protocol):
    """What `statespace` asks of a readout."""

    @property
    def loadings(self) -> Floats:
        """What each channel reads (channel, d)."""

    def information(self, seen: Seen, course: Course) -> tuple[Floats, Floats]:
        """Precision (window, time, d, d) and information (window, time, d) that the bins give about their states."""

    def learned(self, seen: Seen, course: Course) -> Readout:
        """The readout after a step of learning."""

    def expected(self, course: Course) -> Floats:
        """Expected value of each entry in a whole bin (window, time, channel)."""


@dataclass(frozen=True)
class PoissonReadout:
    """Counts of rate exp(c·z + b).

    A Gaussian posterior is fitted by Newton steps on the variational bound, in which the expected rate is
    exp(c·m + b + c'Vc/2): each step is a Kalman smoother on pseudo-observations.

    Parameters
    ----------
    loadings : array (channel, d)
    offset : array (channel)
    prior : (spikes, bins)
        What each channel is taken to have been seen to do beforehand, at the mean; keeps a silent channel's offset finite.
    """

    loadings: Floats
    offset: Floats
    prior: tuple[float, float]

    def information(self, seen: Seen, course: Course) -> tuple[Floats, Floats]:
        """See `Readout`."""
        expected = seen.weights * self.expected(course)
        precision = (expected @ _squares(self.loadings)).reshape(course.covariance.shape)
        pull = (precision @ course.mean[..., None])[..., 0]
        return precision, pull + (seen.values - expected) @ self.loadings

    def learned(self, seen: Seen, course: Course) -> PoissonReadout:
        """See `Readout`; one Newton step of all channels."""
        d = self.loadings.shape[1]
        spikes, bins = self.prior
        design, covariance = _design(course), course.covariance.reshape(-1, d * d)
        expected = (seen.weights * self.expected(course)).reshape(len(design), -1)
        spread = (expected.T @ covariance).reshape(-1, d, d)
        slope = (seen.values.reshape(expected.shape) - expected).T @ design
        slope[:, :d] -= (spread @ self.loadings[..., None])[..., 0] + STRENGTH * self.loadings
        base = bins * np.exp(self.offset)
        slope[:, d] += spikes - base
        curvature = (expected.T @ _squares(design)).reshape(-1, d + 1, d + 1)
        curvature[:, :d, :d] += spread + STRENGTH * np.eye(d)
        curvature[:, d, d] += base
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        step *= np.minimum(1, LARGEST_STEP / np.maximum(np.abs(step).max(1), 1e-12))[:, None]
        return replace(self, loadings=self.loadings + step[:, :d], offset=self.offset + step[:, d])

    def expected(self, course: Course) -> Floats:
        """See `Readout`."""
        log = course.mean @ self.loadings.T + _spread(course, self.loadings) / 2
        rates: Floats = np.exp(np.clip(log, -RANGE, RANGE) + self.offset)
        return rates


@dataclass(frozen=True)
class GaussianReadout:
    """Samples of mean c·z + b, with noise of a variance of its own for every channel."""

    loadings: Floats
    offset: Floats
    noise: Floats

    def information(self, seen: Seen, course: Course) -> tuple[Floats, Floats]:
        """See `Readout`; exact, and the same whatever the course."""
        precision = (seen.weights / self.noise @ _squares(self.loadings)).reshape(course.covariance.shape)
        return precision, (seen.values - seen.weights * self.offset) / self.noise @ self.loadings

    def learned(self, seen: Seen, course: Course) -> GaussianReadout:
        """See `Readout`; regression of each channel on the states, then what is left over."""
        d = self.loadings.shape[1]
        design, covariance = _design(course), course.covariance.reshape(-1, d * d)
        values, weights = (array.reshape(len(design), -1) for array in (seen.values, seen.weights))
        power = (weights.T @ _squares(design)).reshape(-1, d + 1, d + 1)
        power[:, :d, :d] += (weights.T @ covariance).reshape(-1, d, d)
        cross = values.T @ design
        # A channel that was never seen has an offset of 0.
        prior = np.diag([*[STRENGTH] * d, 1e-6]) * self.noise[:, None, None]
        found = np.asarray(np.linalg.solve(power + prior, cross[..., None])[..., 0], dtype=np.float64)
        left = (values**2).sum(0) - 2 * (found * cross).sum(1) + ((power @ found[..., None])[..., 0] * found).sum(1)
        noise = (left + self.noise) / (weights.sum(0) + 1)
        return GaussianReadout(found[:, :d], found[:, d], np.maximum(noise, SMALLEST_NOISE))

    def expected(self, course: Course) -> Floats:
        """See `Readout`."""
        found: Floats = course.mean @ self.loadings.T + self.offset
        return found


def _squares(rows: Floats) -> Floats:
    """Outer product of each row with itself, as a row."""
    return (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)


def _design(course: Course) -> Floats:
    """Mean states and a one (bin, d + 1)."""
    flat = course.mean.reshape(-1, course.mean.shape[2])
    return np.column_stack([flat, np.ones(len(flat))])


def _spread(course: Course, loadings: Floats) -> Floats:
    """Variance c'Vc (window, time, channel)."""
    flat = course.covariance.reshape(*course.mean.shape[:2], -1)
    found: Floats = flat @ _squares(loadings).T
    return found
