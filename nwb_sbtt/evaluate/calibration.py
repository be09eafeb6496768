"""Posterior spreads of rates that hold what they claim, measured on hidden counts; and intervals made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import norm, t

from nwb_sbtt.errors import ConfigError, DataError

FEWEST_SPIKES = 100
"""With fewer spikes at the hidden entries nothing is said of the spread beyond what the model says itself."""
LEAST, MOST = 1e-6, 4.0
"""Bounds of the variance of a log-rate."""
NEGLIGIBLE = 1e-4
TAILS, CORE = 3.0, 0.8
"""Errors of log-rates, in units of the spread, are distributed like a t of so many degrees of freedom, times `CORE`: most are
smaller than a normal's and some much larger, since the spread itself is an estimate. Found on the simulated Lorenz task at 29,
5 and 2 observed of 29 (`benchmarks/accuracy.py`)."""


@dataclass(frozen=True)
class Calibration:
    """What the variance `V` of a log-rate becomes: ``scale · V + floor``."""

    scale: float = 1.0
    floor: float = 0.0

    def variance(self, log_variance: Float[ndarray, "*entry"]) -> Float[ndarray, "*entry"]:
        """Calibrated variance of log-rates."""
        return np.clip(self.scale * log_variance + self.floor, 0, MOST)


NEUTRAL = Calibration()


def calibrate(
    counts: Float[ndarray, "entry"], expected: Float[ndarray, "entry"], log_variance: Float[ndarray, "entry"]
) -> Calibration:
    """Find by how much hidden counts ask for a wider spread than the model gives.

    A count whose log-rate is normal around what was expected is more variable than a Poisson count. It is taken as
    negative binomial of the same mean m and variance ``m + m² (exp V − 1)``, and scale (1 or more) and floor of the log-rate's
    variance V are those of greatest likelihood. The spread is never narrowed: counts say little of low rates, where errors
    of the logarithm are largest.

    Parameters
    ----------
    counts : float array (entry)
        At entries that the model did not see.
    expected : float array (entry)
        Expected counts, for the exposure of each entry.
    log_variance : float array (entry)
        Variance of the log-rate as the model gives it; 0 where it gives none.

    Returns
    -------
    Calibration
        The neutral one where there are fewer than 100 spikes.
    """
    if counts.sum() < FEWEST_SPIKES:
        return NEUTRAL
    mean = np.maximum(expected.astype(float), 1e-9)
    given = log_variance.astype(float)

    def misfit(logs: Float[ndarray, "2"]) -> float:
        total = np.clip((1 + np.exp(logs[0])) * given + np.exp(logs[1]), LEAST, MOST)
        size = 1 / np.expm1(total)
        terms = (
            gammaln(counts + size)
            - gammaln(size)
            - size * np.log1p(mean / size)
            + counts * np.log(mean / (size + mean))
        )
        return -float(terms.sum())

    start = np.log([0.5, 0.02])
    found = minimize(misfit, start, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 0.01, "maxiter": 200})
    more, floor = (float(value) if value > NEGLIGIBLE else 0.0 for value in np.exp(found.x))
    return Calibration(1 + more if given.any() else 1.0, floor)


def log_variance(rates: Float[ndarray, "*entry"], sd: Float[ndarray, "*entry"]) -> Float[ndarray, "*entry"]:
    """Variance of the logarithm of a lognormal rate of this mean and sd."""
    ratio = np.divide(sd, rates, out=np.zeros(np.shape(rates)), where=np.asarray(rates) > 0)
    variance: Float[ndarray, "*entry"] = np.log1p(ratio**2)
    return variance


def interval(latents: xr.Dataset, level: float = 0.95) -> tuple[xr.DataArray, xr.DataArray]:
    """Bounds between which the inferred rates, or means of signals, lie with a given probability.

    Signals are normal with mean ``mean`` and sd ``mean_sd``. Of rates the logarithm is taken: its spread is that of a lognormal
    rate with mean ``rates`` and sd ``rates_sd``, its errors have the heavier tails of Student's t with 3 degrees of freedom.

    Parameters
    ----------
    latents : Dataset
        As `infer` and `read_result` give it, with ``rates_sd`` or ``mean_sd``.
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
        raise ConfigError(f"an interval's level is a probability between 0 and 1, for example 0.95; {level} came")
    name = "rates" if "rates" in latents else "mean"
    if f"{name}_sd" not in latents:
        raise DataError(
            f"the latents hold no {name}_sd to make an interval of: the model that inferred them has no posterior"
        )
    middle, sd = latents[name], latents[f"{name}_sd"]
    if name == "mean":
        z = float(norm.ppf(0.5 + level / 2))
        return middle - z * sd, middle + z * sd
    z = CORE * float(t.ppf(0.5 + level / 2, TAILS))
    variance = xr.zeros_like(middle, dtype=float) + log_variance(middle.values.astype(float), sd.values.astype(float))
    median = middle * np.exp(-variance / 2)
    return median * np.exp(-z * np.sqrt(variance)), median * np.exp(z * np.sqrt(variance))
