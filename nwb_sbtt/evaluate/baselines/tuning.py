"""How baselines choose their settings: on entries hidden from them in the training trials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nwb_sbtt.evaluate.baselines.protocol import Floats, Mask, MaskedData

HIDDEN_SHARE = 0.2
"""Share of the shown entries that is hidden to choose settings."""
TUNING_ENTRIES = 500_000
"""Entries of training trials on which settings are chosen, at most."""
FLOOR = 0.02
"""Smallest expected count, as a share of the channel's mean."""


@dataclass(frozen=True)
class TuningTask:
    """Training trials in which a part of the shown entries is hidden, and the loss of a prediction of these.

    Parameters
    ----------
    data : MaskedData
        What a baseline gets.
    target : MaskedData
        The same trials with the hidden entries.
    hidden : bool array (trial, time, channel)
    """

    data: MaskedData
    target: MaskedData
    hidden: Mask

    def loss(self, expected: Floats) -> float:
        """Mean loss over hidden entries: Poisson NLL of counts without its constant, squared error / variance of samples.

        Parameters
        ----------
        expected : array (trial, time, channel)
            Expected values in whole bins.
        """
        values, weights = self.target.values[self.hidden], self.target.weights[self.hidden]
        fit = expected[self.hidden]
        if self.target.is_counts:
            fit = fit * weights
            return float((fit - values * np.log(fit)).mean())
        mean = self.target.channel_mean
        squares = np.where(self.target.shown, (self.target.values - mean) ** 2, 0).sum((0, 1))
        variance = squares / np.maximum(self.target.weights.sum((0, 1)), 1)
        scale = np.broadcast_to(np.where(variance > 0, variance, 1), expected.shape)[self.hidden]
        return float(((values - fit) ** 2 / scale).mean())


def tuning_task(data: MaskedData, max_entries: int = TUNING_ENTRIES) -> TuningTask:
    """Hide a fifth of the shown entries of a sample of the training trials, as many bins together as in what is scored.

    The draw is always the same.

    Parameters
    ----------
    data : MaskedData
    max_entries : int
        Size of the sample, about.
    """
    generator = np.random.default_rng(0)
    target = data.training_sample(max_entries)
    hidden = target.predictors & (_uniform(target.shown.shape, generator, target.mask_length) < HIDDEN_SHARE)
    # Where a single entry is shown it stays, so that there is something to learn from.
    if not hidden.any() or (hidden == target.shown).all():
        return TuningTask(target, target, target.shown)
    return TuningTask(replace(target, shown=target.shown & ~hidden), target, hidden)


def apply_floor(data: MaskedData, expected: Floats, share: float = FLOOR) -> Floats:
    """Raise expected counts to a share of their channel's mean, at least; samples stay as they are.

    Parameters
    ----------
    data : MaskedData
    expected : array (trial, time, channel)
        Expected counts in a whole bin, or samples.
    share : float
        Of the channel's mean.

    Returns
    -------
    array (trial, time, channel)
    """
    return np.maximum(expected, share * data.channel_mean) if data.is_counts else expected


def _uniform(shape: tuple[int, int, int], generator: np.random.Generator, mask_length: int) -> Floats:
    """One draw for each entry, or for each block of `mask_length` bins of a channel; blocks have a random offset."""
    if mask_length == 1:
        return generator.random(shape)
    n_trials, n_bins, n_channels = shape
    drawn = generator.random((n_trials, (n_bins - 1) // mask_length + 2, n_channels))
    offset = generator.integers(mask_length, size=(n_trials, 1, n_channels))
    return np.take_along_axis(drawn, (np.arange(n_bins)[:, None] + offset) // mask_length, axis=1)
