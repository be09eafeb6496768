"""Calibration of the posterior sd on values that were hidden from the model, the only place where it is decided.

Each observed entry is hidden once and predicted. What its error exceeds the noise by is the error of the estimate: of counts
the noise is Poisson noise; of signals it is what no other channel has a part in (`nwb_sbtt.evaluate.shared`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

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
LOW_RATE = 0.16
"""Rate, as a share of the channel's mean, at which the relative variance has doubled. Of lower rates counts tell so little that
neither a fit nor its calibration sees errors of them. Measured on the simulated Lorenz task: alike at 29, 10, 5 and 2 observed
of 29 channels and at three times the rates (`benchmarks/intervals.py`)."""
FROM_MODEL = 0.2
"""Share of the relative variance that follows the variance which the model predicts; the rest is the same everywhere."""
MOST_FROM_MODEL = 0.85
"""Largest such share of a signal's variance, which is measured; noise that grows with the signal is taken for it in part."""
PART_OF_HIDDEN = 1 / 3
"""Share by which the variance falls, of the share of entries that are hidden at a time, once these are shown too."""
MOST_UNCERTAIN = 0.5
"""Relative standard error of the shared variance above which errors of a mean are not told from noise."""
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
    """

    values: Float[ndarray, "trial time channel"]
    expected: Float[ndarray, "trial time channel"]
    variance: Float[ndarray, "trial time channel"]
    turn: Int[ndarray, "trial time channel"]
    anywhere: Float[ndarray, "trial time channel"]
    share: float


@dataclass(frozen=True)
class CountCalibration:
    """Calibrated variance of rates, relative to their squares.

    For a rate λ, the mean rate λ̄ of its channel and a predicted variance V of its logarithm it is
    ``scale · (1 + (l λ̄ / λ)²) · (1 − w + w V / V̄)``, with ``l = LOW_RATE`` and ``w = FROM_MODEL``.

    Parameters
    ----------
    scale : float
        Relative variance of high rates.
    mean_variance : float
        V̄, the mean of the variances that the model predicts; 0 where it predicts none.
    mean : tuple of float
        Expected count of each channel in a bin, on average.
    kind : "counts"
        Tells the kinds apart in a file.
    """

    scale: NotNegativeNumber
    mean_variance: NotNegativeNumber
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
        pattern = _pattern(expected, np.array(self.mean), log_variance, self.mean_variance)
        return np.minimum(self.scale * pattern, MAX_VARIANCE)

    def summary(self) -> dict[str, Any]:
        """Return what holds for all channels, JSON-safe."""
        return {"kind": self.kind, "scale": self.scale, "mean_variance": self.mean_variance}


@dataclass(frozen=True)
class SignalCalibration:
    """Calibrated variance of a signal's mean, and the noise around it.

    For a predicted variance V it is ``e (1 − w + w V / V̄)``, with the channel's variances e and V̄, and w the same for all.
    Where errors could not be told from noise it is V itself.

    Parameters
    ----------
    errors : tuple of float, optional
        e, variance of each channel's mean, in the data's unit squared; None where it could not be told from noise.
    predicted : tuple of float
        V̄, mean of the variances that the model predicts for each channel.
    from_model : float
        w, the share that follows the model's variance.
    noise_sd : tuple of float or None
        Of each channel, in the data's unit; None where too little of it was hidden to tell.
    quantiles : tuple of float
        Of absolute residuals at hidden entries, in units of the sd of mean and noise together, at `LEVELS`.
    kind : "signals"
        Tells the kinds apart in a file.
    """

    errors: tuple[NotNegativeNumber, ...] | None
    predicted: tuple[NotNegativeNumber, ...]
    from_model: NotNegativeNumber
    noise_sd: tuple[NotNegativeNumber | None, ...]
    quantiles: tuple[NotNegativeNumber, ...]
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
        return _variance_of_mean(self.errors, np.array(self.predicted), self.from_model, variance)

    def summary(self) -> dict[str, Any]:
        """Return what holds for all channels, JSON-safe."""
        return {
            "kind": self.kind,
            "from_model": self.from_model,
            "told_apart": self.errors is not None,
            "quantiles": self.quantiles,
        }


Calibration = CountCalibration | SignalCalibration


def calibrate_counts(hidden: Hidden) -> CountCalibration | None:
    """Estimate the variance of rates from hidden counts.

    Counts of expected value m whose rates have the relative variance r around it are more variable than Poisson counts, of
    variance m + r m². They are modelled as negative binomial with these moments, and the scale of r maximises the likelihood.

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
    log_variance = hidden.variance[where].astype(float)
    mean_variance = float(log_variance.mean())
    n = where.sum((0, 1))
    of_channel = np.where(n > 0, np.where(where, hidden.expected, 0.0).sum((0, 1)) / np.maximum(n, 1), mean.mean())
    pattern = _pattern(mean, of_channel[np.nonzero(where)[2]], log_variance, mean_variance)

    def negative_log_likelihood(log_scale: float) -> float:
        size = 1 / np.clip(np.exp(log_scale) * pattern, MIN_VARIANCE, MAX_VARIANCE)
        terms = (
            gammaln(counts + size)
            - gammaln(size)
            - size * np.log1p(mean / size)
            + counts * np.log(mean / (size + mean))
        )
        return -float(terms.sum())

    bounds = (np.log(MIN_VARIANCE), np.log(MAX_VARIANCE))
    found = minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 0.01})
    return CountCalibration(
        float(np.exp(found.x)) * (1 - PART_OF_HIDDEN * hidden.share), mean_variance, tuple(of_channel.tolist())
    )


def calibrate_signals(hidden: Hidden, *, shared: bool = True) -> SignalCalibration | None:
    """Estimate the variance of means, and the noise, from hidden values.

    Errors of the mean are those that channels share; what a channel has alone is noise, smooth in time or not. How far they
    follow the model's variance is the slope of squared residuals on it, within channels.

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
    errors = _shared_variance(residual, hidden, total=total, measured=measured) if shared else None
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
    together = np.sqrt(_variance_of_mean(errors, predicted, from_model, variance) + noise**2)
    ratios = (np.abs(residual) / np.where(together > 0, together, 1.0))[(hidden.turn >= 0) & measured]
    quantiles = np.quantile(ratios, LEVELS) if ratios.size else norm.ppf(0.5 + np.array(LEVELS) / 2)
    return SignalCalibration(
        errors=None if errors is None else tuple(((1 - PART_OF_HIDDEN * hidden.share) * errors).tolist()),
        predicted=tuple(predicted.tolist()),
        from_model=from_model,
        noise_sd=tuple(sd if np.isfinite(sd) else None for sd in noise.tolist()),
        quantiles=tuple(quantiles.tolist()),
    )


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


def _pattern(
    expected: ndarray, of_channel: ndarray, log_variance: ndarray, mean_variance: float
) -> Float[ndarray, "*entry"]:
    """Relative variances of rates, but for their scale; `of_channel` is the expected count of each entry's channel."""
    low = 1 + (LOW_RATE * of_channel / np.maximum(expected, LEAST_COUNT)) ** 2
    if not mean_variance:
        return np.asarray(low + np.zeros(np.shape(log_variance)))
    return np.asarray(low * (1 - FROM_MODEL + FROM_MODEL * log_variance / mean_variance))


def _shared_variance(
    residual: Float[ndarray, "trial time channel"],
    hidden: Hidden,
    *,
    total: Float[ndarray, "channel"],
    measured: Bool[ndarray, "channel"],
) -> Float[ndarray, "channel"] | None:
    """Variance of the errors that each channel shares, in the data's unit squared; None where it is not known."""
    unit = np.where(measured, np.sqrt(total), 1.0)
    factors = loadings(np.where(measured, hidden.anywhere / unit, 0.0))
    sums = SharedErrors(factors)
    for turn in range(int(hidden.turn.max()) + 1):
        sums.add(residual / unit, (hidden.turn == turn) & measured)
    variance = sums.variance()
    if variance.relative_error > MOST_UNCERTAIN:
        return None
    return np.asarray(variance.by_channel * unit**2)


def _variance_of_mean(
    errors: ndarray | tuple[float, ...] | None,
    predicted: Float[ndarray, "channel"],
    from_model: float,
    variance: Float[ndarray, "trial time channel"],
) -> Float[ndarray, "trial time channel"]:
    if errors is None:
        return variance
    relative = np.where(predicted > 0, variance / np.where(predicted > 0, predicted, 1.0), 1.0)
    return np.asarray(np.array(errors) * (1 - from_model + from_model * relative))
