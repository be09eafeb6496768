"""Calibration of the posterior sd on values that were hidden from the model, the only place where it is decided.

Each observed entry is hidden once and predicted. What its error exceeds the noise by is the error of the estimate: of counts
the noise is Poisson noise; of signals it is what no other channel has a part in (`nwb_sbtt.evaluate.shared`).

How much the estimates change when another part of the data is hidden is their delete-a-group jackknife variance (Efron and
Tibshirani 1993, An Introduction to the Bootstrap, chapter 11). It is known without noise, but does not hold what the model
misses whichever part is hidden. So it tells how errors differ between channels, and about how large they are where hidden
entries tell little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import gammaln
from scipy.stats import norm

from nwb_sbtt.evaluate.shared import SharedErrors, loadings

MIN_SPIKES = 100
"""With fewer spikes at the hidden entries the sd of rates stays as the model gives it."""
MIN_ENTRIES = 200
"""With fewer hidden entries the sd of a signal's mean stays as the model gives it, and no noise is measured."""
LEAST_COUNT = 1e-9
"""Least expected count that is told from 0."""
MIN_VARIANCE, MAX_VARIANCE = 1e-6, 20.0
"""Bounds of the variance of a rate, relative to its square."""
LOW_RATE, LOW_POWER = 0.15, 1.6
"""Rate, as a share of the channel's mean, at which errors of the model itself are as large as those of the estimate at the mean
rate, and the power with which they grow below. Of low rates counts tell so little that neither a fit nor its calibration sees
errors of them. This and the other constants of the pattern were derived on simulated data of other seeds than those whose
coverage is reported, but for the last step of `TAILS` and of `SIGNAL_RATIO` (`benchmarks/README.md`)."""
RATE_POWER = 0.4
"""Power with which the relative variance of an estimate falls with the rate: high rates come with more spikes."""
FROM_MODEL = 0.2
"""Share of the relative variance that follows the variance which the model predicts; the rest is the same in all bins."""
COUNT_RATIO, SIGNAL_RATIO = 2.8, 5.4
"""Variance of an estimate around the truth, relative to its jackknife variance; the rest is what the model does not resolve."""
COUNT_RATIO_ERROR, SIGNAL_RATIO_ERROR = 0.4, 0.25
"""Standard errors of the logarithms of these ratios, from task to task."""
SHARED_ERROR = 0.2
"""Standard error of the logarithm of the shared variance, however many entries are hidden: noise that is smooth in time reaches
the estimates of other channels from samples beside the hidden ones, which lowers products of residuals."""
MOST_FROM_MODEL = 0.85
"""Largest such share of a signal's variance, which is measured; noise that grows with the signal is taken for it in part."""
PART_OF_HIDDEN = 1 / 3
"""Share by which the variance falls, of the share of entries that are hidden at a time, once these are shown too."""
MOST_UNCERTAIN = 0.5
"""Relative standard error of the shared variance above which errors of a mean are not told from noise by it."""
LARGEST_SHARE = 0.9
"""Largest share of a channel's squared residuals that is taken for errors of the mean."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""At which quantiles of the residuals of a signal are measured."""

NotNegativeNumber = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Hidden:
    """Entries that were hidden in turn, each once, and what was expected of them.

    Parameters
    ----------
    values : float array (trial, time, channel)
    expected : float array (trial, time, channel)
        Of counts for the exposure of each entry.
    variance : float array (trial, time, channel)
        Posterior variance: of a count's logarithm, of a signal's mean; 0 where the model has none.
    turn : int array (trial, time, channel)
        Number of the turn in which each entry was hidden; negative for entries that never were.
    anywhere : float array (trial, time, channel)
        Expected values of all entries, in one of the turns.
    share : float
        Of the entries that are hidden at a time.
    jackknife : float array (channel)
        Variance of the estimates by the jackknife over turns: of a count's logarithm, of a signal's mean; 0 where estimates do
        not depend on what is hidden.
    """

    values: Float[ndarray, "trial time channel"]
    expected: Float[ndarray, "trial time channel"]
    variance: Float[ndarray, "trial time channel"]
    turn: Int[ndarray, "trial time channel"]
    anywhere: Float[ndarray, "trial time channel"]
    share: float
    jackknife: Float[ndarray, "channel"]


@dataclass(frozen=True)
class CountCalibration:
    """Calibrated variance of rates, relative to their squares.

    For a rate λ, the mean rate λ̄ of its channel, the channel's jackknife variance J relative to the mean over channels, and a
    predicted variance V of the logarithm it is ``scale · (J (λ̄ / λ)^p (1 − w + w V / V̄) + (l λ̄ / λ)^q)``, with
    ``p = RATE_POWER``, ``w = FROM_MODEL``, ``l = LOW_RATE`` and ``q = LOW_POWER``.

    Parameters
    ----------
    scale : float
        Relative variance, on average over channels, at a channel's mean rate.
    jackknife : tuple of float
        J of each channel.
    predicted : tuple of float
        V̄, mean of the variances that the model predicts for each channel; 0 where it predicts none.
    mean : tuple of float
        Expected count of each channel in a bin, on average.
    kind : "counts"
        Tells the kinds apart in a file.
    """

    scale: NotNegativeNumber
    jackknife: tuple[NotNegativeNumber, ...]
    predicted: tuple[NotNegativeNumber, ...]
    mean: tuple[NotNegativeNumber, ...]
    kind: Literal["counts"] = "counts"

    def relative_variance(
        self, expected: Float[ndarray, "trial time channel"], log_variance: Float[ndarray, "trial time channel"]
    ) -> Float[ndarray, "trial time channel"]:
        """Compute the calibrated variance of rates, relative to their squares.

        Parameters
        ----------
        expected : float array (trial, time, channel)
            Counts per whole bin.
        log_variance : float array (trial, time, channel)
            Variance of the natural logarithm of rates, as the model gives it.

        Returns
        -------
        float array (trial, time, channel)
            At most 20.
        """
        mean, constant, slope = self.of_channels
        pattern: Float[ndarray, "trial time channel"] = count_pattern(expected / mean, log_variance, constant, slope)
        return (self.scale * pattern).clip(max=MAX_VARIANCE)

    @cached_property
    def of_channels(self) -> tuple[Float[ndarray, "channel"], ...]:
        """λ̄, and constant and slope of `count_pattern`, as arrays, once: a stream calibrates one bin at a time."""
        jackknife = np.array(self.jackknife)
        constant, slope = _by_predicted(np.array(self.predicted), FROM_MODEL)
        return np.maximum(self.mean, LEAST_COUNT), jackknife * constant, jackknife * slope

    def summary(self) -> dict[str, Any]:
        """Return what holds for all channels, JSON-safe."""
        return {"kind": self.kind, "scale": self.scale}


@dataclass(frozen=True)
class SignalCalibration:
    """Calibrated variance of a signal's mean, and the noise around it.

    For a predicted variance V it is ``e (1 − w + w V / V̄)``, with the channel's variances e and V̄, and w the same for all.
    Where a mean is not what channels share, or its estimates never change, it is V itself.

    Parameters
    ----------
    errors : tuple of float, optional
        e, variance of each channel's mean, in the data's unit squared; None where the sd stays as the model gives it.
    predicted : tuple of float
        V̄, mean of the variances that the model predicts for each channel.
    from_model : float
        w, the share that follows the model's variance.
    noise_sd : tuple of float or None
        Of each channel, in the data's unit; None where too little of it was hidden to tell.
    quantiles : tuple of float
        Of absolute residuals at hidden entries, in units of the sd of mean and noise together, at `LEVELS`.
    told_apart : bool
        Whether errors that channels share were told from noise; if not, their size follows from the jackknife alone.
    kind : "signals"
        Tells the kinds apart in a file.
    """

    errors: tuple[NotNegativeNumber, ...] | None
    predicted: tuple[NotNegativeNumber, ...]
    from_model: NotNegativeNumber
    noise_sd: tuple[NotNegativeNumber | None, ...]
    quantiles: tuple[NotNegativeNumber, ...]
    told_apart: bool
    kind: Literal["signals"] = "signals"

    def variance(self, variance: Float[ndarray, "trial time channel"]) -> Float[ndarray, "trial time channel"]:
        """Calibrate the variance of means.

        Parameters
        ----------
        variance : float array (trial, time, channel)
            As the model gives it, in the data's unit squared.

        Returns
        -------
        float array (trial, time, channel)
        """
        constant, slope = self.of_channels
        return np.asarray(constant + slope * variance)

    @cached_property
    def of_channels(self) -> tuple[Float[ndarray, "channel"], ...]:
        """Constant and slope of the calibrated variance by the model's, as arrays, once."""
        return _of_mean(
            None if self.errors is None else np.array(self.errors), np.array(self.predicted), self.from_model
        )

    def summary(self) -> dict[str, Any]:
        """Return what holds for all channels, JSON-safe."""
        return {
            "kind": self.kind,
            "from_model": self.from_model,
            "told_apart": self.told_apart,
            "quantiles": self.quantiles,
        }


Calibration = CountCalibration | SignalCalibration


def calibrate_counts(hidden: Hidden) -> CountCalibration | None:
    """Estimate the variance of rates from hidden counts.

    Counts of expected value m whose rates have the relative variance r around it are more variable than Poisson counts, of
    variance m + r m². They are modelled as negative binomial with these moments, and the scale of r maximises the likelihood
    times the lognormal density of the scale that follows from the jackknife. So few counts do not make it 0 or large by chance.

    Parameters
    ----------
    hidden : Hidden

    Returns
    -------
    CountCalibration or None
        None with fewer than 100 spikes.
    """
    where = hidden.turn >= 0
    counts, mean = hidden.values[where].astype(float), np.maximum(hidden.expected[where].astype(float), LEAST_COUNT)
    if counts.sum() < MIN_SPIKES:
        return None
    n = np.maximum(where.sum((0, 1)), 1)
    of_channel = np.where(where, hidden.expected, 0.0).sum((0, 1)) / n
    of_channel = np.where(where.any((0, 1)), of_channel, mean.mean())
    predicted = np.where(where, hidden.variance, 0.0).sum((0, 1)) / n
    typical = float(hidden.jackknife.mean())
    jackknife = hidden.jackknife / typical if typical else np.ones(len(n))
    channel = np.nonzero(where)[2]
    constant, slope = (jackknife * part for part in _by_predicted(predicted, FROM_MODEL))
    pattern = count_pattern(
        mean / np.maximum(of_channel[channel], LEAST_COUNT), hidden.variance[where], constant[channel], slope[channel]
    )
    shown = 1 - PART_OF_HIDDEN * hidden.share

    def negative_log_likelihood(log_scale: float) -> float:
        size = 1 / np.clip(np.exp(log_scale) * pattern, MIN_VARIANCE, MAX_VARIANCE)
        terms = (
            gammaln(counts + size)
            - gammaln(size)
            - size * np.log1p(mean / size)
            + counts * np.log(mean / (size + mean))
        )
        prior = (log_scale - np.log(COUNT_RATIO * typical / shown)) / COUNT_RATIO_ERROR if typical else 0.0
        return 0.5 * prior**2 - float(terms.sum())

    bounds = (np.log(MIN_VARIANCE), np.log(MAX_VARIANCE))
    found = minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 0.01})
    return CountCalibration(
        scale=float(np.exp(found.x)) * shown,
        jackknife=tuple(jackknife.tolist()),
        predicted=tuple(predicted.tolist()),
        mean=tuple(of_channel.tolist()),
    )


def calibrate_signals(hidden: Hidden, *, shared: bool = True) -> SignalCalibration | None:
    """Estimate the variance of means, and the noise, from hidden values.

    Errors of the mean are those that channels share; what a channel has alone is noise, smooth in time or not. Their size is
    estimated from products of residuals, and from the jackknife where there are few; how they differ between channels from the
    jackknife. How far they follow the model's variance is the slope of squared residuals on it, within channels.

    Parameters
    ----------
    hidden : Hidden
    shared : bool
        Whether means are of what channels share. If not, the sd of the mean stays as the model gives it.

    Returns
    -------
    SignalCalibration or None
        None with fewer than 200 hidden entries.
    """
    where = hidden.turn >= 0
    n = where.sum((0, 1))
    if n.sum() < MIN_ENTRIES:
        return None
    residual = np.where(where, hidden.values - hidden.expected, 0.0).astype(float)
    variance = np.where(where, hidden.variance, 0.0).astype(float)
    total, predicted = ((x.sum((0, 1)) / np.maximum(n, 1)) for x in (residual**2, variance))
    measured = (n > 1) & (total > 0)
    errors, told = _errors_of_mean(residual, hidden, total=total, measured=measured) if shared else (None, False)
    from_model = 0.0
    if errors is not None:
        errors = np.where(measured, np.minimum(errors, LARGEST_SHARE * total), 0.0)
        where = where & measured & (predicted > 0)
        unit = np.where(total > 0, total, 1.0)
        x = np.where(where, errors / unit * (variance / np.where(predicted > 0, predicted, 1.0) - 1), 0.0)
        slope = (x * (residual**2 / unit - 1)).sum() / max((x**2).sum(), np.finfo(float).tiny)
        from_model = float(np.clip(slope, 0, MOST_FROM_MODEL))
    of_mean = np.minimum(predicted if errors is None else errors, LARGEST_SHARE * total)
    noise = np.where(measured, np.sqrt(np.maximum(total - of_mean, 0)), np.nan)
    constant, slope = _of_mean(errors, predicted, from_model)
    together = np.sqrt(constant + slope * variance + noise**2)
    ratios = (np.abs(residual) / np.where(together > 0, together, 1.0))[(hidden.turn >= 0) & measured]
    quantiles = np.quantile(ratios, LEVELS) if ratios.size else norm.ppf(0.5 + np.array(LEVELS) / 2)
    return SignalCalibration(
        errors=None if errors is None else tuple(((1 - PART_OF_HIDDEN * hidden.share) * errors).tolist()),
        predicted=tuple(predicted.tolist()),
        from_model=from_model,
        noise_sd=tuple(sd if np.isfinite(sd) else None for sd in noise.tolist()),
        quantiles=tuple(quantiles.tolist()),
        told_apart=told,
    )


class Changes:
    """Sums over turns from which the jackknife variance of the estimates follows.

    Parameters
    ----------
    share : float
        Of the entries that are hidden at a time.
    """

    def __init__(self, share: float) -> None:
        self._share, self._n = share, 0

    def add(self, expected: Float[ndarray, "trial time channel"], *, counts: bool) -> None:
        """Add the estimates of a turn.

        Parameters
        ----------
        expected : float array (trial, time, channel)
            Of all entries, counts per whole bin or means.
        counts : bool
            Whether their logarithms are compared, each entry weighted by its rate, at most the mean of its channel.
        """
        estimate = np.log(np.maximum(expected, LEAST_COUNT)) if counts else expected
        if self._n == 0:
            # Differences from the first turn keep their digits, whatever the offset of a signal.
            self._first = estimate
            self._sum, self._squares = np.zeros((2, *estimate.shape))
            self._weight = np.minimum(expected, expected.mean((0, 1))) if counts else np.ones(expected.shape)
        self._n += 1
        difference = estimate - self._first
        self._sum += difference
        self._squares += difference**2

    def variance(self, bins: Bool[ndarray, "trial time"]) -> Float[ndarray, "channel"]:
        """Compute the jackknife variance of each channel.

        Parameters
        ----------
        bins : bool array (trial, time)
            Those that it is averaged over.

        Returns
        -------
        float array (channel)
            Zeros where nothing, or everything, was hidden at a time.
        """
        weight = np.where(bins[:, :, None], self._weight, 0.0)
        between = np.maximum(self._squares / self._n - (self._sum / self._n) ** 2, 0)
        total = np.maximum(weight.sum((0, 1)), np.finfo(float).tiny)
        return np.asarray((1 / self._share - 1) * (weight * between).sum((0, 1)) / total)


def variance_of_log(rates: Float[ndarray, "*entry"], sd: Float[ndarray, "*entry"]) -> Float[ndarray, "*entry"]:
    """Compute the variance of the logarithm of a lognormal rate: log(1 + (sd / mean)²).

    Parameters
    ----------
    rates, sd : array
        Mean and sd of the rate, in one unit.

    Returns
    -------
    array
        0 where the rate is 0.
    """
    variance: Float[ndarray, "*entry"] = np.log1p(squared_ratio(rates, sd))
    return variance


def squared_ratio(rates: Float[ndarray, "*entry"], sd: Float[ndarray, "*entry"]) -> Float[ndarray, "*entry"]:
    """Compute the square of sd / mean of rates.

    Parameters
    ----------
    rates, sd : array
        Mean and sd of the rate, in one unit.

    Returns
    -------
    array
        0 where the rate is 0.
    """
    ratio = np.divide(sd, rates, out=np.zeros(np.shape(rates)), where=np.asarray(rates) > 0)
    return np.asarray(ratio**2)


A = TypeVar("A", bound=Any)


def count_pattern(ratio: A, log_variance: A, constant: A, slope: A) -> A:
    """Compute relative variances of rates, but for their scale: ``r^−p (c + s V) + (l / r)^q``, see `CountCalibration`.

    Parameters
    ----------
    ratio : array or tensor (…, channel)
        r, the rate relative to the mean of its channel.
    log_variance : array or tensor (…, channel)
        V, as the model predicts it.
    constant, slope : array or tensor (channel)
        c and s.

    Returns
    -------
    array or tensor (…, channel)
    """
    ratio = ratio.clip(min=LEAST_COUNT)
    pattern: A = ratio**-RATE_POWER * (constant + slope * log_variance) + (LOW_RATE / ratio) ** LOW_POWER
    return pattern


def _by_predicted(
    predicted: Float[ndarray, "channel"], share: float
) -> tuple[Float[ndarray, "channel"], Float[ndarray, "channel"]]:
    """Constant and slope of ``1 − w + w V / V̄`` by V; 1 and 0 where nothing is predicted."""
    predicts = predicted > 0
    return np.where(predicts, 1 - share, 1.0), np.where(predicts, share / np.where(predicts, predicted, 1.0), 0.0)


def _errors_of_mean(
    residual: Float[ndarray, "trial time channel"],
    hidden: Hidden,
    *,
    total: Float[ndarray, "channel"],
    measured: Bool[ndarray, "channel"],
) -> tuple[Float[ndarray, "channel"] | None, bool]:
    """Variance of each channel's mean at hidden entries, in the data's unit squared, and whether it was told from noise.

    Channels differ as their jackknife variances do. How large errors are follows from those that channels share and from the
    jackknife, weighted by the precision of their logarithms. None where neither says anything.
    """
    unit = np.where(measured, np.sqrt(total), 1.0)
    factors = loadings(np.where(measured, hidden.anywhere / unit, 0.0))
    sums = SharedErrors(factors)
    for turn in range(int(hidden.turn.max()) + 1):
        sums.add(residual / unit, (hidden.turn == turn) & measured)
    shared = sums.variance()
    told = shared.relative_error <= MOST_UNCERTAIN
    jackknife = np.where(measured, hidden.jackknife / unit**2, 0.0)
    if not jackknife.any():
        return (shared.by_channel * unit**2 if told else None), told
    log_size = np.log(SIGNAL_RATIO * jackknife[measured].mean() / (1 - PART_OF_HIDDEN * hidden.share))
    if told:
        weights = np.array([np.hypot(shared.relative_error, SHARED_ERROR), SIGNAL_RATIO_ERROR]) ** -2.0
        log_size = np.average([np.log(shared.by_channel[measured].mean()), log_size], weights=weights)
    return np.exp(log_size) * jackknife / jackknife[measured].mean() * unit**2, told


def _of_mean(
    errors: Float[ndarray, "channel"] | None, predicted: Float[ndarray, "channel"], from_model: float
) -> tuple[Float[ndarray, "channel"], Float[ndarray, "channel"]]:
    """Constant and slope of the variance of means by that of the model."""
    if errors is None:
        return np.zeros(len(predicted)), np.ones(len(predicted))
    constant, slope = _by_predicted(predicted, from_model)
    return errors * constant, errors * slope
