"""What simple methods make of masked data: the level a model has to beat.

Each baseline sees the shown entries alone. Settings (kernel width, rank, …) are those that best predict entries hidden
from the method in the training trials.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from nwb_sbtt.errors import DataError

SHORT = 500
"""Bins of a trial up to which a kernel is a matrix; one product is ten times faster than convolutions there."""
HIDDEN = 0.2
"""Share of the shown entries that is hidden to choose settings."""
TUNING_ENTRIES = 500_000
"""Training trials are taken for tuning up to this many entries."""
LONG = 512
"""Bins of a trial above which parts of it are taken, where not everything is."""
WIDTHS = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Standard deviations of the smoothing kernel, in bins."""
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""How many expected spikes, or samples, the mean counts as."""
FLOOR = 0.02
"""Smallest expected count, as a share of the channel's mean."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """What a baseline may look at.

    Parameters
    ----------
    values : array (trial, time, channel)
        Counts or samples; whatever lies outside `shown` is never looked at.
    shown : bool array (trial, time, channel)
    train : bool array (trial)
        Trials that settings and structure are learned from; the others only lend their shown entries to their own
        estimates, and to the channels' means.
    counts : bool
        Whether values are counts, and estimates therefore must be positive.
    exposure : array (trial, time, channel), optional
        Share of each bin observed.
    held_in : bool array (channel), optional
        Channels that estimates may be made from; the others are learned about in the training trials alone.
    """

    values: NDArray[np.floating]
    shown: Mask
    train: Mask
    counts: bool
    exposure: NDArray[np.floating] | None = None
    held_in: Mask | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.shown.shape != self.values.shape or self.train.shape != self.values.shape[:1]:
            raise DataError(
                f"values {self.values.shape}, shown {self.shown.shape} and train {self.train.shape} do not fit together; "
                "expected (trial, time, channel) twice, and (trial)"
            )
        if not self.shown[self.train].any():
            raise DataError("no entry of the training trials is shown: a baseline has nothing to learn from")

    @cached_property
    def sums(self) -> Floats:
        """Values, 0 where not shown."""
        return np.where(self.shown, self.values, 0).astype(np.float64)

    @cached_property
    def weights(self) -> Floats:
        """Share of each bin observed, 0 where not shown; for samples 0 or 1."""
        shown = self.shown.astype(np.float64)
        return shown if self.exposure is None or not self.counts else np.where(self.shown, self.exposure, 0.0)

    @cached_property
    def readable(self) -> Mask:
        """Shown entries that estimates may be made from."""
        return self.shown if self.held_in is None else self.shown & self.held_in

    @cached_property
    def mean(self) -> Floats:
        """Expected value of each channel in a whole bin, over all shown entries; positive for counts.

        A channel that was never shown is given the mean of the others.
        """
        total, weight = self.sums.sum((0, 1)), self.weights.sum((0, 1))
        if not self.counts:
            seen = weight > 0
            return np.asarray(np.where(seen, total / np.maximum(weight, 1), (total[seen] / weight[seen]).mean()))
        # Half a spike at the mean of all channels, so that a silent channel does not rule a spike out.
        return np.asarray((total + 0.5) / (weight + 0.5 / self.overall))

    @cached_property
    def overall(self) -> float:
        """Mean count of all channels in a whole bin, taken as half a spike in all where there is none."""
        return float(max(self.sums.sum(), 0.5) / self.weights.sum())

    def trials(self, rows: NDArray[np.intp]) -> Evidence:
        """Take some trials."""
        return replace(
            self,
            values=self.values[rows],
            shown=self.shown[rows],
            train=self.train[rows],
            exposure=None if self.exposure is None else self.exposure[rows],
        )

    def learnable(self, most: int) -> Evidence:
        """Some training trials, drawn always alike, of about that many entries in all; pieces of trials where these are long.

        Where nothing is left out they come in their order and whole.
        """
        n_bins = self.values.shape[1]
        n_pieces = -(-n_bins // LONG)
        length = n_bins // n_pieces

        def cut(array: NDArray[Any]) -> NDArray[Any]:
            trials = array[self.train]
            return trials[:, : n_pieces * length].reshape(-1, length, trials.shape[2]) if n_pieces > 1 else trials

        shown = cut(self.shown)
        rows = np.flatnonzero(shown.any((1, 2)))
        count = max(1, most // (length * shown.shape[2]))
        if count < len(rows):
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:count])
        return replace(
            self,
            values=cut(self.values)[rows],
            shown=shown[rows],
            train=np.ones(len(rows), dtype=bool),
            exposure=None if self.exposure is None else cut(self.exposure)[rows],
        )


@dataclass(frozen=True)
class Prediction:
    """What a baseline expects in whole bins (trial, time, channel), and in a phrase how it was set."""

    expected: Floats
    how: str


def mean_rate(evidence: Evidence) -> Prediction:
    """Expect each channel's mean in every bin."""
    return Prediction(
        np.broadcast_to(evidence.mean, evidence.values.shape).copy(), "each channel's mean over all that was shown"
    )


def masked_smoothing(evidence: Evidence) -> Prediction:
    """Smooth each channel with a Gaussian over the entries that were shown.

    The estimate is the kernel-weighted sum of what was seen over the kernel-weighted time it was seen for, drawn towards
    the channel's mean as if that had been seen too; where nothing is near, it is the mean. One width and one strength of
    the mean are chosen for all channels.
    """
    task = tuning(evidence)
    best, width, strength = np.inf, WIDTHS[0], STRENGTHS[0]
    for each in usable_widths(evidence.values.shape[1]):
        near = _near(task.evidence, each)
        for prior in STRENGTHS:
            score = task.score(_towards_mean(task.evidence, near, prior))
            if score < best:
                best, width, strength = score, each, prior
    unit = "spikes" if evidence.counts else "samples"
    return Prediction(
        _towards_mean(evidence, _near(evidence, width), strength),
        f"Gaussian of {width:g} bins' standard deviation, the mean counting as {strength:g} {unit} (chosen)",
    )


def floored(evidence: Evidence, estimate: Floats, least: float = FLOOR) -> Floats:
    """Keep expected counts above a share of their channel's mean; samples stay as they are."""
    return np.maximum(estimate, least * evidence.mean) if evidence.counts else estimate


def usable_widths(n_bins: int) -> Iterable[float]:
    """Widths that make sense for trials of that length."""
    return [width for width in WIDTHS if width <= max(n_bins / 4, WIDTHS[0])]


def kernel_sum(array: Floats, width: float) -> Floats:
    """Sum over time with Gaussian weights, 1 at distance 0 and 0 beyond four widths and beyond the trial."""
    n_bins = array.shape[1]
    reach = min(int(np.ceil(4 * width)), n_bins)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    if n_bins <= SHORT:
        band = sum(np.eye(n_bins, k=lag) * weight for lag, weight in zip(range(-reach, reach + 1), kernel, strict=True))
        weighted: Floats = band @ array
        return weighted
    summed: Floats = oaconvolve(array, kernel[None, :, None], mode="full", axes=1)
    return summed[:, reach : reach + n_bins]


@dataclass(frozen=True)
class Tuning:
    """Training trials with a part of their entries hidden, and the score of an estimate on these."""

    evidence: Evidence
    target: Evidence
    hidden: Mask

    def score(self, estimate: Floats) -> float:
        """Poisson NLL, or squared error in units of the channel's variance, per hidden entry; lower is better."""
        values, weights = self.target.sums[self.hidden], self.target.weights[self.hidden]
        fit = estimate[self.hidden]
        if self.target.counts:
            fit = fit * weights
            return float((fit - values * np.log(fit)).mean())
        mean = self.target.mean
        squares = np.where(self.target.shown, (self.target.sums - mean) ** 2, 0).sum((0, 1))
        variance = squares / np.maximum(self.target.weights.sum((0, 1)), 1)
        scale = np.broadcast_to(np.where(variance > 0, variance, 1), estimate.shape)[self.hidden]
        return float(((values - fit) ** 2 / scale).mean())


def tuning(evidence: Evidence, most: int = TUNING_ENTRIES) -> Tuning:
    """Hide a part of the shown entries of about `most` entries of the training trials; the draw is always the same."""
    generator = np.random.default_rng(0)
    target = evidence.learnable(most)
    # Where a single entry is shown it stays, so that there is something to learn from.
    hidden = target.readable & (generator.random(target.shown.shape) < HIDDEN)
    if not hidden.any() or (hidden == target.shown).all():
        return Tuning(target, target, target.shown)
    return Tuning(replace(target, shown=target.shown & ~hidden), target, hidden)


def _near(evidence: Evidence, width: float) -> tuple[Floats, Floats]:
    """What was seen around each entry, and for how many bins."""
    seen = np.where(evidence.readable, evidence.sums, 0)
    if not evidence.counts:
        seen = np.where(evidence.readable, seen - evidence.mean, 0)
    return kernel_sum(seen, width), np.maximum(kernel_sum(np.where(evidence.readable, evidence.weights, 0), width), 0)


def _towards_mean(evidence: Evidence, near: tuple[Floats, Floats], strength: float) -> Floats:
    total, weight = near
    if not evidence.counts:
        return evidence.mean + total / (weight + strength)
    estimate = (total + strength) / (weight + strength / evidence.mean)
    return floored(evidence, estimate)
