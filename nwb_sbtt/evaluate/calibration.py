"""Calibration of the posterior sd of rates on hidden counts, and calibrated intervals.

Each observed entry is hidden once and predicted; if errors are larger than the sd implies, the sd is enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy import ndarray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import norm, t

from nwb_sbtt.errors import ConfigError, DataError

MIN_SPIKES = 100
"""With fewer spikes at the hidden entries the sd stays as the model gives it."""
MIN_VARIANCE, MAX_VARIANCE = 1e-6, 4.0
"""Bounds of the variance of a log rate."""
NEGLIGIBLE = 1e-4
DEGREES_OF_FREEDOM, T_SCALE = 3.0, 0.8
"""Errors of log rates, in units of their sd, are distributed like `T_SCALE` times Student's t: most are smaller than a normal's
and some much larger, since the sd itself is an estimate. Measured on the simulated Lorenz task at 29, 5 and 2 observed of 29
channels (`benchmarks/accuracy.py`)."""


@dataclass(frozen=True)
class Calibration:
    """Calibrated variance of a log rate: ``scale · V + floor`` for the model's variance V.

    Parameters
    ----------
    scale : float
        1 or more: the sd is never reduced.
    floor : float
    """

    scale: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def variance(self, log_variance: Float[ndarray, "*entry"]) -> Float[ndarray, "*entry"]:
        """Calibrate variances of log rates; the result is between 0 and 4.

        Parameters
        ----------
        log_variance : array (…)
            Variance of the natural logarithm of rates, as the model gives it.

        Returns
        -------
        array (…)
        """
        return np.clip(self.scale * log_variance + self.floor, 0, MAX_VARIANCE)


UNCALIBRATED = Calibration()


def calibrate(
    counts: Float[ndarray, "entry"], expected: Float[ndarray, "entry"], log_variance: Float[ndarray, "entry"]
) -> Calibration:
    """Estimate from hidden counts how much the posterior sd must be enlarged.

    If the log rate is normal with variance V around its estimate, counts are more variable than Poisson counts: of mean m and
    variance m + m² (exp V − 1). They are modelled as negative binomial with these moments, and the scale (1 or more) and floor
    of V maximise the likelihood. The sd is never reduced: counts are weak evidence on low rates, where errors of the
    logarithm are largest.

    Parameters
    ----------
    counts : float array (entry)
        At entries that were hidden from the model.
    expected : float array (entry)
        Expected counts, given the exposure of each entry.
    log_variance : float array (entry)
        Posterior variance of the log rate; 0 where the model has none.

    Returns
    -------
    Calibration
        `UNCALIBRATED` with fewer than 100 spikes.
    """
    if counts.sum() < MIN_SPIKES:
        return UNCALIBRATED
    mean = np.maximum(expected.astype(float), 1e-9)
    uncalibrated = log_variance.astype(float)

    def negative_log_likelihood(logs: Float[ndarray, "2"]) -> float:
        variance = np.clip((1 + np.exp(logs[0])) * uncalibrated + np.exp(logs[1]), MIN_VARIANCE, MAX_VARIANCE)
        size = 1 / np.expm1(variance)
        terms = (
            gammaln(counts + size)
            - gammaln(size)
            - size * np.log1p(mean / size)
            + counts * np.log(mean / (size + mean))
        )
        return -float(terms.sum())

    start = np.log([0.5, 0.02])
    result = minimize(
        negative_log_likelihood, start, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 0.01, "maxiter": 200}
    )
    extra_scale, floor = (float(value) if value > NEGLIGIBLE else 0.0 for value in np.exp(result.x))
    return Calibration(1 + extra_scale if uncalibrated.any() else 1.0, floor)


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
    ratio = np.divide(sd, rates, out=np.zeros(np.shape(rates)), where=np.asarray(rates) > 0)
    variance: Float[ndarray, "*entry"] = np.log1p(ratio**2)
    return variance


def interval(latents: xr.Dataset, level: float = 0.95) -> tuple[xr.DataArray, xr.DataArray]:
    """Compute calibrated intervals of inferred rates, or of means of signals.

    Signals are taken as normal with mean ``mean`` and sd ``mean_sd``. For rates the interval is computed on a log scale: the
    sd of the logarithm is that of a lognormal rate with mean ``rates`` and sd ``rates_sd``, its errors have the heavier tails
    of Student's t with 3 degrees of freedom.

    Parameters
    ----------
    latents : Dataset
        From `infer` or `read_result`, with ``rates_sd`` or ``mean_sd``.
    level : float
        Probability, between 0 and 1.

    Returns
    -------
    lower, upper : DataArray (trial, time, channel)
        [Hz], or the unit of the signal.

    Raises
    ------
    DataError
        If the latents carry no posterior sd.
    ConfigError
        If the level is not between 0 and 1.

    Examples
    --------
    >>> lower, upper = interval(fitted.infer(ds), level=0.9)  # doctest: +SKIP
    """
    if not 0 < level < 1:
        raise ConfigError(f"the level of an interval is a probability between 0 and 1, for example 0.95; got {level}")
    name = "rates" if "rates" in latents else "mean"
    if f"{name}_sd" not in latents:
        raise DataError(f"the latents have no {name}_sd, so no interval: the model that inferred them has no posterior")
    mean, sd = latents[name], latents[f"{name}_sd"]
    if name == "mean":
        z = float(norm.ppf(0.5 + level / 2))
        return mean - z * sd, mean + z * sd
    z = T_SCALE * float(t.ppf(0.5 + level / 2, DEGREES_OF_FREEDOM))
    variance = xr.zeros_like(mean, dtype=float) + variance_of_log(mean.values.astype(float), sd.values.astype(float))
    median = mean * np.exp(-variance / 2)
    return median * np.exp(-z * np.sqrt(variance)), median * np.exp(z * np.sqrt(variance))
