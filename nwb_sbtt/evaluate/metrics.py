"""How well expected values fit what was observed, taken over the marked entries alone.

All arrays end in a channel axis; ``where`` marks the entries that count, and nothing outside it is looked at. No function
changes its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from nwb_sbtt.errors import DataError

SMALLEST_COUNT = 1e-9
"""Expected counts below this count as this, as in the Neural Latents Benchmark."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def poisson_nll(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, *, exposure: ArrayLike | None = None
) -> float:
    """Negative log-likelihood of counts in nats, with its logΓ term, summed over the marked entries.

    Parameters
    ----------
    expected : array (…, channel)
        Counts expected in a whole bin.
    counts : array (…, channel)
    where : bool array (…, channel)
    exposure : array (…, channel), optional
        Share of each bin observed; None means 1 everywhere.

    Raises
    ------
    DataError
        If shapes differ, nothing is marked, or marked values are not finite or negative.
    """
    mean, k, marked = _counts(expected, counts, where, exposure)
    return float(_nll(mean, k, marked).sum())


def bits_per_spike(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, *, exposure: ArrayLike | None = None
) -> float:
    """Information gained over each channel's mean rate, in bits per spike, as the Neural Latents Benchmark defines it.

    The null model is each channel's mean over the very entries that are scored (per unit of exposure).

    Parameters
    ----------
    expected : array (…, channel)
        Counts expected in a whole bin.
    counts, where, exposure
        As for `poisson_nll`.

    Raises
    ------
    DataError
        As `poisson_nll`, and if no marked entry holds a spike.

    Examples
    --------
    >>> counts = np.array([[0.0], [2.0]])
    >>> bits_per_spike(counts.mean(0, keepdims=True).repeat(2, 0), counts, counts >= 0)
    0.0
    """
    gain, spikes = _gain(expected, counts, where, exposure)
    if spikes.sum() == 0:
        raise DataError("no spike among the scored entries: bits per spike are not defined; score more trials or bins")
    return float(gain.sum() / spikes.sum())


def bits_per_spike_by_channel(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, *, exposure: ArrayLike | None = None
) -> tuple[Floats, Mask]:
    """Bits per spike of each channel, and for which channels they are defined (those with a scored spike; 0 elsewhere)."""
    gain, spikes = _gain(expected, counts, where, exposure)
    return gain / np.maximum(spikes, 1), spikes > 0


def explained_variance(estimate: ArrayLike, values: ArrayLike, where: ArrayLike) -> float:
    """Mean over channels of 1 − SSE/SST on the marked entries; SST is about each channel's mean over these entries.

    Channels whose marked values do not vary are left out.

    Raises
    ------
    DataError
        If shapes differ, nothing is marked, marked values are not finite, or no channel varies.
    """
    score, defined = explained_variance_by_channel(estimate, values, where)
    if not defined.any():
        raise DataError("no channel varies over the scored entries: explained variance is not defined")
    return float(score[defined].mean())


def pooled_explained_variance(estimate: ArrayLike, values: ArrayLike, where: ArrayLike, *, sd: ArrayLike) -> float:
    """1 − SSE/SST of all marked entries together, each in units of its channel's sd.

    Unlike the mean over channels of `explained_variance` it stays meaningful where a channel has few marked entries, which
    may happen to lie close together. SST is about each channel's mean over its marked entries.

    Parameters
    ----------
    sd : array (channel)
        Over all that was observed; channels that do not vary (0) are left out.

    Raises
    ------
    DataError
        As `explained_variance`.
    """
    fit, truth, marked = _marked(estimate, values, where)
    units = np.asarray(sd, dtype=np.float64)
    marked = marked & (units > 0)
    units = np.where(units > 0, units, 1)
    mean = np.where(marked, truth, 0).sum(0) / np.maximum(marked.sum(0), 1)
    total = (np.where(marked, truth - mean, 0) ** 2 / units**2).sum()
    if not total:
        raise DataError("no channel varies over the scored entries: explained variance is not defined")
    return float(1 - (np.where(marked, truth - fit, 0) ** 2 / units**2).sum() / total)


def explained_variance_by_channel(estimate: ArrayLike, values: ArrayLike, where: ArrayLike) -> tuple[Floats, Mask]:
    """Explained variance of each channel, and for which channels it is defined (those that vary; 0 elsewhere)."""
    fit, truth, marked = _marked(estimate, values, where)
    n = marked.sum(0)
    mean = np.where(marked, truth, 0).sum(0) / np.maximum(n, 1)
    total = np.where(marked, (truth - mean) ** 2, 0).sum(0)
    error = np.where(marked, (truth - fit) ** 2, 0).sum(0)
    # A constant channel's mean may be off by rounding, which leaves a total that is not quite 0.
    size = np.where(marked, truth**2, 0).sum(0)
    defined = total > 1e-12 * size
    return np.where(defined, 1 - error / np.where(defined, total, 1), 0.0), defined


def r2(truth: ArrayLike, estimate: ArrayLike) -> float:
    """Coefficient of determination: 1 − SSE/SST of each channel over all trials and bins, averaged over channels.

    Parameters
    ----------
    truth, estimate : arrays (…, channel)

    Raises
    ------
    DataError
        As `explained_variance`.
    """
    return explained_variance(estimate, truth, np.ones(np.shape(truth), bool))


def pearson_r2(truth: ArrayLike, estimate: ArrayLike) -> float:
    """Squared Pearson correlation of the two arrays as flat lists: blind to offset and scale, never below `r2`'s idea.

    0 where the estimate does not vary.

    Raises
    ------
    DataError
        If shapes differ, values are not finite, or the truth does not vary.
    """
    fit, true, _ = _marked(estimate, truth, np.ones(np.shape(truth), bool))
    fit, true = fit - fit.mean(), true - true.mean()
    power = (fit**2).sum() * (true**2).sum()
    if not (true**2).sum():
        raise DataError("the truth does not vary: a correlation with it is not defined")
    return float((fit * true).sum() ** 2 / power) if power else 0.0


def _gain(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, exposure: ArrayLike | None
) -> tuple[Floats, Floats]:
    """Bits gained over the null model, and spikes, of each channel."""
    mean, k, marked = _counts(expected, counts, where, exposure)
    share = np.ones(k.shape) if exposure is None else np.asarray(exposure, dtype=np.float64).reshape(k.shape)
    spikes = np.where(marked, k, 0).sum(0)
    watched = np.where(marked, share, 0).sum(0)
    null = (spikes / np.maximum(watched, 1e-12)) * np.where(marked, share, 0)
    gain = _nll(null, k, marked).sum(0) - _nll(mean, k, marked).sum(0)
    return gain / np.log(2), spikes


def _nll(mean: Floats, counts: Floats, marked: Mask) -> Floats:
    mean = np.maximum(np.where(marked, mean, 1), SMALLEST_COUNT)
    counts = np.where(marked, counts, 0)
    nats: Floats = np.where(marked, mean - counts * np.log(mean) + gammaln(counts + 1), 0)
    return nats


def _counts(
    expected: ArrayLike, counts: ArrayLike, where: ArrayLike, exposure: ArrayLike | None
) -> tuple[Floats, Floats, Mask]:
    mean, k, marked = _marked(expected, counts, where)
    if exposure is not None:
        if np.shape(exposure) != np.shape(counts):
            raise DataError(f"exposure {np.shape(exposure)} and counts {np.shape(counts)} must have the same shape")
        mean = mean * np.asarray(exposure, dtype=np.float64).reshape(k.shape)
    for name, array in (("expected counts", mean), ("counts", k)):
        if (negative := int((array[marked] < 0).sum())) > 0:
            raise DataError(f"{negative} of {int(marked.sum())} scored {name} are negative; expected zero or more")
    return mean, k, marked


def _marked(estimate: ArrayLike, values: ArrayLike, where: ArrayLike) -> tuple[Floats, Floats, Mask]:
    """Both arrays and the mask as (entry, channel)."""
    fit, data = np.asarray(estimate, dtype=np.float64), np.asarray(values, dtype=np.float64)
    marked = np.asarray(where, dtype=bool)
    if not fit.shape == data.shape == marked.shape or data.ndim == 0:
        raise DataError(
            f"estimate {fit.shape}, data {data.shape} and mask {marked.shape} must have the same shape (…, channel)"
        )
    if not marked.any():
        raise DataError("no entry is marked: there is nothing to score")
    for name, array in (("estimate", fit), ("data", data)):
        if (bad := int((~np.isfinite(array[marked])).sum())) > 0:
            raise DataError(f"{bad} of {int(marked.sum())} scored entries of the {name} are not finite")
    return _entries(fit, marked), _entries(data, marked), _entries(marked, marked)


def _entries(array: NDArray[Any], marked: Mask) -> NDArray[Any]:
    return np.where(marked, array, 0).astype(array.dtype).reshape(-1, array.shape[-1])
