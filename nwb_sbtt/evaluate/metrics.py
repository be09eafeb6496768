"""How well expected values fit observed ones, on scored entries alone.

All arrays end in a channel axis; ``where`` marks the scored entries, and values outside it have no influence. No function
changes its arguments. Bits per spike are defined as in the Neural Latents Benchmark (Pei, Ye et al. 2021, arXiv:2109.04463).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from nwb_sbtt.data.memory import ENTRIES_AT_ONCE
from nwb_sbtt.errors import DataError

SMALLEST_COUNT = 1e-9
"""Smaller expected counts are raised to this, as in the Neural Latents Benchmark."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def poisson_nll(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, *, exposure: ArrayLike | None = None
) -> float:
    """Compute the negative log-likelihood of Poisson counts [nats], with its logΓ term, summed over the scored entries.

    Parameters
    ----------
    expected : array (…, channel)
        Expected count of a whole bin.
    counts : array (…, channel)
        Spikes per bin.
    where : bool array (…, channel)
        Scored entries.
    exposure : array (…, channel), optional
        Share of each bin observed; None means 1 everywhere.

    Returns
    -------
    float

    Raises
    ------
    DataError
        If shapes differ, nothing is scored, or scored values are negative or not finite.
    """
    blocks = _counts(expected, counts, where, exposure)
    return float(sum(_nll(block.fit, block.data, block.scored).sum() for block in blocks))


def bits_per_spike(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, *, exposure: ArrayLike | None = None
) -> float:
    """Compute the log-likelihood gain over each channel's mean rate, in bits per spike.

    (NLL of the null model − NLL) / (log 2 · spikes). The null model is each channel's mean over the scored entries themselves,
    per unit of exposure (Pei, Ye et al. 2021).

    Parameters
    ----------
    expected : array (…, channel)
        Expected count of a whole bin.
    counts, where, exposure
        As for `poisson_nll`.

    Returns
    -------
    float
        0 for the null model.

    Raises
    ------
    DataError
        As `poisson_nll`, and if there is no spike among the scored entries.

    Examples
    --------
    >>> counts = np.array([[0.0], [2.0]])
    >>> bits_per_spike(counts.mean(0, keepdims=True).repeat(2, 0), counts, counts >= 0)
    0.0
    """
    gain, spikes = _gain(expected, counts, where, exposure)
    if spikes.sum() == 0:
        raise DataError(
            "the scored entries have no spike, so bits per spike are not defined; score more trials or bins"
        )
    return float(gain.sum() / spikes.sum())


def bits_per_spike_by_channel(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, *, exposure: ArrayLike | None = None
) -> tuple[Floats, Mask]:
    """Compute bits per spike of each channel.

    Parameters
    ----------
    expected, counts, where, exposure
        As for `bits_per_spike`.

    Returns
    -------
    scores : array (channel)
        0 where not defined.
    defined : bool array (channel)
        Channels with a spike among the scored entries.

    Raises
    ------
    DataError
        As `poisson_nll`.
    """
    gain, spikes = _gain(expected, counts, where, exposure)
    return gain / np.maximum(spikes, 1), spikes > 0


def explained_variance(estimate: ArrayLike, values: ArrayLike, where: ArrayLike) -> float:
    """Compute 1 − SSE/SST on the scored entries of each channel, averaged over channels.

    SST is about each channel's mean over the scored entries. Channels whose scored values do not vary are left out.

    Parameters
    ----------
    estimate, values : array (…, channel)
    where : bool array (…, channel)
        Scored entries.

    Returns
    -------
    float

    Raises
    ------
    DataError
        If shapes differ, nothing is scored, scored values are not finite, or no channel varies.
    """
    score, defined = explained_variance_by_channel(estimate, values, where)
    if not defined.any():
        raise DataError(
            "no channel varies over the scored entries, so explained variance is not defined; score more trials or bins"
        )
    return float(score[defined].mean())


def pooled_explained_variance(estimate: ArrayLike, values: ArrayLike, where: ArrayLike, *, sd: ArrayLike) -> float:
    """Compute 1 − SSE/SST of all scored entries together, each in units of its channel's sd.

    Unlike `explained_variance`, a mean over channels, it is robust where a channel has few scored entries whose values happen
    to be close. SST is about each channel's mean over its scored entries.

    Parameters
    ----------
    estimate, values : array (…, channel)
    where : bool array (…, channel)
        Scored entries.
    sd : array (channel)
        Of all observed values of a channel; channels with 0 are left out.

    Returns
    -------
    float

    Raises
    ------
    DataError
        As `explained_variance`.
    """
    units = np.asarray(sd, dtype=np.float64)
    total = error = 0.0
    for block in _validated(estimate, values, where):
        scale = units[block.channels]
        scored, scale = block.scored & (scale > 0), np.where(scale > 0, scale, 1)
        mean = np.where(scored, block.data, 0).sum(0) / np.maximum(scored.sum(0), 1)
        total += (np.where(scored, block.data - mean, 0) ** 2 / scale**2).sum()
        error += (np.where(scored, block.data - block.fit, 0) ** 2 / scale**2).sum()
    if not total:
        raise DataError(
            "no channel varies over the scored entries, so explained variance is not defined; score more trials or bins"
        )
    return float(1 - error / total)


def explained_variance_by_channel(estimate: ArrayLike, values: ArrayLike, where: ArrayLike) -> tuple[Floats, Mask]:
    """Compute the explained variance of each channel.

    Parameters
    ----------
    estimate, values, where
        As for `explained_variance`.

    Returns
    -------
    scores : array (channel)
        0 where not defined.
    defined : bool array (channel)
        Channels whose scored values vary.

    Raises
    ------
    DataError
        If shapes differ, nothing is scored, or scored values are not finite.
    """
    parts = []
    for block in _validated(estimate, values, where):
        truth, scored = block.data, block.scored
        mean = truth.sum(0) / np.maximum(scored.sum(0), 1)
        total = np.where(scored, (truth - mean) ** 2, 0).sum(0)
        error = np.where(scored, (truth - block.fit) ** 2, 0).sum(0)
        # A constant channel's mean may be off by rounding, which leaves a total that is not quite 0.
        defined = total > 1e-12 * (truth**2).sum(0)
        parts.append((np.where(defined, 1 - error / np.where(defined, total, 1), 0.0), defined))
    scores, are_defined = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(are_defined)


def r2(truth: ArrayLike, estimate: ArrayLike) -> float:
    """Compute the coefficient of determination, 1 − SSE/SST over all trials and bins, averaged over channels.

    Parameters
    ----------
    truth, estimate : array (…, channel)

    Returns
    -------
    float

    Raises
    ------
    DataError
        As `explained_variance`.
    """
    return explained_variance(estimate, truth, np.ones(np.shape(truth), bool))


def pearson_r2(truth: ArrayLike, estimate: ArrayLike) -> float:
    """Compute the squared Pearson correlation over all entries, which ignores offset and scale.

    Parameters
    ----------
    truth, estimate : array (…, channel)

    Returns
    -------
    float
        0 where the estimate does not vary.

    Raises
    ------
    DataError
        If shapes differ, values are not finite, or the truth does not vary.
    """
    n, mean_fit, mean_true = 0, 0.0, 0.0
    for block in (blocks := list(_validated(estimate, truth, np.ones(np.shape(truth), bool)))):
        n, mean_fit, mean_true = n + block.data.size, mean_fit + block.fit.sum(), mean_true + block.data.sum()
    squares = power = shared = 0.0
    for block in blocks:
        fit, true = block.fit - mean_fit / n, block.data - mean_true / n
        squares, power, shared = squares + (true**2).sum(), power + (fit**2).sum(), shared + (fit * true).sum()
    if not squares:
        raise DataError(
            "the true values do not vary, so the correlation with them is not defined; score more trials or bins"
        )
    return float(shared**2 / (power * squares)) if power else 0.0


@dataclass(frozen=True)
class _Block:
    """Estimate, data and mask of some channels (entry, channel) in double precision, 0 where not scored; and their exposure."""

    channels: slice
    fit: Floats
    data: Floats
    scored: Mask
    exposure: Floats | None = None


def _gain(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, exposure: ArrayLike | None
) -> tuple[Floats, Floats]:
    """Bits gained over the null model, and spikes, of each channel."""
    gains, numbers = [], []
    for block in _counts(expected, counts, where, exposure):
        share = block.scored.astype(np.float64) if block.exposure is None else block.exposure
        spikes = block.data.sum(0)
        null = (spikes / np.maximum(share.sum(0), 1e-12)) * share
        gain = _nll(null, block.data, block.scored).sum(0) - _nll(block.fit, block.data, block.scored).sum(0)
        gains.append(gain / np.log(2))
        numbers.append(spikes)
    return np.concatenate(gains), np.concatenate(numbers)


def _nll(mean: Floats, counts: Floats, scored: Mask) -> Floats:
    mean = np.maximum(np.where(scored, mean, 1), SMALLEST_COUNT)
    nats: Floats = np.where(scored, mean - counts * np.log(mean) + gammaln(counts + 1), 0)
    return nats


def _counts(expected: ArrayLike, counts: ArrayLike, where: ArrayLike, exposure: ArrayLike | None) -> Iterator[_Block]:
    """Blocks of counts with the expected counts in the share of the bin that was observed."""
    if exposure is not None and np.shape(exposure) != np.shape(counts):
        raise DataError(f"exposure {np.shape(exposure)} and counts {np.shape(counts)} must have the same shape")
    shares = None if exposure is None else _by_channel(np.asarray(exposure))
    for block in _validated(expected, counts, where):
        if shares is not None:
            share = np.where(block.scored, shares[:, block.channels].astype(np.float64), 0)
            block = replace(block, fit=block.fit * share, exposure=share)
        for name, array in (("expected counts", block.fit), ("counts", block.data)):
            if (n_negative := int((array < 0).sum())) > 0:
                raise DataError(
                    f"{n_negative} of {int(block.scored.sum())} scored {name} are negative; expected zero or more"
                )
        yield block


def _validated(estimate: ArrayLike, values: ArrayLike, where: ArrayLike) -> Iterator[_Block]:
    """Some channels at a time, so that arrays in double precision stay small."""
    fit, data, scored = np.asarray(estimate), np.asarray(values), np.asarray(where, dtype=bool)
    if not fit.shape == data.shape == scored.shape or data.ndim == 0:
        raise DataError(
            f"estimate {fit.shape}, data {data.shape} and mask {scored.shape} must have the same shape (…, channel)"
        )
    if not scored.any():
        raise DataError("no entry is marked as scored; mark at least one")
    fit, data, scored = _by_channel(fit), _by_channel(data), _by_channel(scored)
    step = max(1, ENTRIES_AT_ONCE // len(data))
    for first in range(0, data.shape[1], step):
        channels = slice(first, first + step)
        where_scored = scored[:, channels]
        parts = []
        for name, array in (("estimate", fit), ("data", data)):
            part = np.where(where_scored, array[:, channels].astype(np.float64), 0)
            if (n_bad := part.size - int(np.isfinite(part).sum())) > 0:
                raise DataError(f"{n_bad} of {int(where_scored.sum())} scored entries of the {name} are not finite")
            parts.append(part)
        yield _Block(channels, parts[0], parts[1], where_scored)


def _by_channel(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, array.shape[-1])
