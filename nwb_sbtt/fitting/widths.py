"""How wide the intervals of forecasts must be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import t

from nwb_sbtt.evaluate.intervals import TAILS

LEVEL = 0.9
"""Share of the errors that intervals of this level hold, where they are measured."""
FLOORS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Variances that are tried, as multiples of the mean variance of the courses."""
LEAST_SCALE, MOST_SCALE = 0.05, 1e6
"""Of the variance of forecasts."""
LEAST_MEAN = 1e-3
"""Share of a channel's mean forecast under which a forecast is not taken as its unit."""


@dataclass(frozen=True)
class Widths:
    """Variances of forecasts are ``scale · (v + floor · u²)``, where v is that of the courses.

    Courses that all go wrong together differ little, and courses of a trial of which little was observed differ by much. A
    scale alone would leave the first too narrow and make the second too wide.

    Parameters
    ----------
    scale : float
    floor : float
        In units of u: of counts the forecast itself, of signals the sd of the channel's forecasts.
    """

    scale: float = 1.0
    floor: float = 0.0

    def variance(
        self,
        mean: Float[ndarray, "trial time channel"],
        variance: Float[ndarray, "trial time channel"],
        *,
        counts: bool,
    ) -> Float[ndarray, "trial time channel"]:
        """Return the variances of forecasts.

        Parameters
        ----------
        mean, variance : float array (trial, time, channel)
            Over courses.
        counts : bool
            Whether they are of counts.

        Returns
        -------
        float array (trial, time, channel)
        """
        return np.asarray(self.scale * (variance + self.floor * _unit(mean, counts=counts) ** 2))


def measure_widths(
    error: Float[ndarray, "trial time channel"],
    mean: Float[ndarray, "trial time channel"],
    variance: Float[ndarray, "trial time channel"],
    *,
    counts: bool,
) -> Widths:
    """Measure widths on forecasts whose errors are known.

    The floor makes the errors most likely under normal distributions; the scale lets intervals of 90 % hold 90 % of them.

    Parameters
    ----------
    error : float array (trial, time, channel)
        Expected squared errors.
    mean, variance : float array (trial, time, channel)
        Of forecasts, over courses.
    counts : bool
        Whether they are of counts.

    Returns
    -------
    Widths
        The ones of no change where no forecast varies.
    """
    unit = np.broadcast_to(_unit(mean, counts=counts), mean.shape)
    used = (unit > 0) & (variance > 0)
    error, variance = (each[used] / unit[used] ** 2 for each in (error, variance))
    if not error.size or not error.any():
        return Widths()
    fits = []
    for floor in np.array(FLOORS) * variance.mean():
        ratio, spread = error / (variance + floor), np.log(variance + floor).mean()
        fits.append((float(spread + np.log(ratio.mean())), float(floor), ratio))
    _, floor, ratio = min(fits, key=lambda fit: fit[0])
    degrees, factor = TAILS["rates" if counts else "mean"]
    z = factor * float(t.ppf(0.5 + LEVEL / 2, degrees))
    return Widths(float(np.clip(np.quantile(ratio, LEVEL) / z**2, LEAST_SCALE, MOST_SCALE)), floor)


def errors_of_trials(
    course: Float[ndarray, "trial time channel"], true: Float[ndarray, "trial time channel"]
) -> Float[ndarray, "trial"]:
    """Compute the squared error of each trial, as a share of the mean variance over trials in a bin.

    Parameters
    ----------
    course, true : float array (trial, time, channel)
        Channels count in units of the sd of `true`.

    Returns
    -------
    float array (trial)
        The average of the trials in each bin has a mean of 1; NaN where nothing varies.
    """
    sd = true.std((0, 1))
    scale = np.where(sd > 0, sd, np.inf)
    error = (((course - true) / scale) ** 2).sum((1, 2))
    total = (((true - true.mean(0)) / scale) ** 2).sum() / len(true)
    return np.asarray(error / total) if total else np.full(len(true), np.nan)


def _unit(mean: Float[ndarray, "trial time channel"], *, counts: bool) -> Float[ndarray, "*size"]:
    return np.asarray(np.maximum(mean, LEAST_MEAN * mean.mean((0, 1))) if counts else mean.std((0, 1)))
