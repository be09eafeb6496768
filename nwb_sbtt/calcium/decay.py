"""Decay time and noise of one ROI: the decay with which the fewest events explain its fluorescence, given its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from nwb_sbtt.calcium.indicators import Indicator
from nwb_sbtt.calcium.nonnegative import Response, Solution, solve

Floats = NDArray[np.float64]

SHORTEST = 0.7
"""Least decay that is tried, in frames: a shorter one leaves nothing to the next frame."""
SPAN = 2.5
"""Decays are searched within so many sds of the indicator's prior."""
COARSE, FINEST = 9, 0.04
"""Decays that are tried first, and the last step of their logarithm."""
CONCISENESS, FRAMES = (1.0, 1.25), (6.0, 12.0)
"""Penalty of events while decays are compared, in sds of what noise alone makes of one, where so many frames fall into the
indicator's decay; between these it rises evenly. Where few do, a larger one makes decays too long, where many do, a smaller
one too short (`benchmarks/deconvolution.py`)."""
LEAST_LOG_SD = 0.1
"""Least sd of the logarithm of a decay, however much data: no indicator decays by a single exponential."""
NOISE_QUANTILES = (0.05, 0.35)
"""Quantiles of the innovations between which noise is measured: below the median no events contribute."""
LEAST_NOISE = 0.01
"""Least noise in units of the sd of the trace: no detector is better, and denoised traces are not exact."""
SEARCHED, PIECES = 8_000, 8
"""Decays are compared on about so many samples, in so many pieces evenly spread over the recording."""
APART = 1_000_000
"""Frames between two pieces, and between trials: none of the calcium is left."""


@dataclass(frozen=True)
class DecayFit:
    """What the fluorescence of one ROI says.

    Parameters
    ----------
    decay : float
        Time constant [s].
    decay_log_sd : float
        Sd of the decay's logarithm; 0 where the decay was given.
    noise_sd : float
        Sd of the white noise, in the unit of the trace.
    """

    decay: float
    decay_log_sd: float
    noise_sd: float


def fit_decay(
    trace: Floats, elapsed: Floats, *, rate: float, indicator: Indicator, decay: float | None, resolution: float = 0.0
) -> DecayFit:
    """Fit the decay of one ROI, with the indicator as prior, and measure the noise.

    A decay that is too short needs further events for the tail of each; with one that is too long light cannot fall as it
    does. So of all decays that one is taken with which half the squared residuals, in variances of the noise, and the penalised
    sum of events are least. Bursts make no difference, as they do in an autocovariance: they are so many events.

    The logarithms of this decay and of the indicator's are averaged by their precisions. The sd of the first follows from the
    curvature of that sum.

    The noise is measured in the innovations ``x(t + n) − exp(−n / decay) x(t)``: events are positive, so their lower half is
    that of the noise. It depends little on the decay.

    Parameters
    ----------
    trace : array (sample)
        Fluorescence above the baseline, but for a constant.
    elapsed : array (sample)
        Frames since the sample before, 1 where none is missing; that of the first plays no part.
    rate : float
        Frames per second.
    indicator : Indicator
        Prior of the decay. Its rise is left out: events then spread over a few frames, which changes no decay.
    decay : float or None
        Decay time [s], where it is known and not to be fitted.
    resolution : float
        Step in which values were stored, see `resolution_of`.

    Returns
    -------
    DecayFit

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> events, trace = rng.poisson(0.05, 6000), np.zeros(6000)
    >>> for t in range(1, 6000):
    ...     trace[t] = np.exp(-1 / 15) * trace[t - 1] + events[t]
    >>> trace += rng.normal(0, 0.2, 6000)
    >>> fit = fit_decay(trace, np.ones(6000), rate=30.0, indicator=Indicator("any", 0.7, 0.0, 1.0), decay=None)
    >>> abs(fit.decay - 0.5) < 0.1, round(fit.noise_sd, 1)
    (True, 0.2)
    """
    prior = (decay or indicator.decay) * rate
    noise = noise_sd(trace, elapsed, decay=prior, resolution=resolution)
    if decay is not None or noise == 0:
        return DecayFit(prior / rate, 0.0 if decay else indicator.log_sd, noise)
    chosen, frames = evenly_spread(elapsed)
    comparison = _Comparison(trace[chosen], frames, noise, float(np.interp(prior, FRAMES, CONCISENESS)))
    reach = SPAN * indicator.log_sd
    logs = np.linspace(np.log(max(SHORTEST, prior * np.exp(-reach))), np.log(prior) + reach, COARSE)
    costs = [comparison.cost(log) for log in logs[::-1]][::-1]
    best, step = float(logs[int(np.argmin(costs))]), float(logs[1] - logs[0])
    comparison.noise = noise_sd(trace, elapsed, decay=float(np.exp(best)), resolution=resolution)
    while step > FINEST:
        step /= 2
        three = [comparison.cost(best + move) for move in (-step, 0.0, step)]
        best += step * (int(np.argmin(three)) - 1)
    three = [comparison.cost(best + move) for move in (-step, 0.0, step)]
    curvature = max((three[0] + three[2] - 2 * three[1]) / step**2, 0.0)
    data, known = 1 / max(1 / curvature, LEAST_LOG_SD**2) if curvature > 0 else 0.0, indicator.log_sd**-2
    log_decay = (data * best + known * np.log(prior)) / (data + known)
    return DecayFit(float(np.exp(log_decay)) / rate, (data + known) ** -0.5, comparison.noise)


def noise_sd(trace: Floats, elapsed: Floats, *, decay: float, resolution: float = 0.0) -> float:
    """Measure the sd of white noise beneath calcium, rounding included.

    Of coarsely rounded values many innovations are equal, and their quantiles may be, too. So the values are spread evenly
    over the step that they stand for, and the variance of this is subtracted.

    Parameters
    ----------
    trace : array (sample)
    elapsed : array (sample)
        Frames since the sample before.
    decay : float
        Of calcium, in frames; half or twice the true one will do.
    resolution : float
        Step in which values were stored, see `resolution_of`.

    Returns
    -------
    float
        0 for fewer than three samples, or where the trace is constant; else not less than rounding makes, or `LEAST_NOISE`
        of the trace's sd.
    """
    if len(trace) < 3 or trace.min() == trace.max():
        return 0.0
    rounding = resolution / np.sqrt(12)
    least = max(float(rounding), LEAST_NOISE * float(trace.std()))
    usual = np.floor(np.median(elapsed[1:]))
    later = np.flatnonzero(elapsed[1:] == usual) + 1
    left = np.exp(-usual / decay)
    innovations = trace[later] - left * trace[later - 1]
    # Where fluorescence was clipped at 0 many are 0.
    changed = innovations != 0
    within = resolution * np.random.default_rng(0).uniform(-0.5, 0.5, len(trace))
    innovations += within[later] - left * within[later - 1]
    low, high = np.quantile(innovations[changed], NOISE_QUANTILES) if changed.any() else (0.0, 0.0)
    measured = (high - low) / np.subtract(*norm.ppf(NOISE_QUANTILES[::-1])) / np.sqrt(1 + left**2)
    return max(float(np.sqrt(max(measured**2 - rounding**2, 0.0))), least)


def resolution_of(values: Floats) -> float:
    """Find the step in which values were stored: 1 for integers, next to nothing where they hardly ever repeat.

    Parameters
    ----------
    values : array (sample)

    Returns
    -------
    float
        Median difference between a value and the next larger one that is met; 0 for a constant.
    """
    steps = np.diff(np.unique(values))
    return float(np.median(steps)) if len(steps) else 0.0


@dataclass
class _Comparison:
    """Costs of decays; each starts from events and offset of the one before."""

    trace: Floats
    elapsed: Floats
    noise: float
    conciseness: float
    offset: float = np.nan
    start: Solution | None = None

    def cost(self, log_decay: float) -> float:
        """Half the squared residuals and the penalised events, in variances of the noise."""
        shape = Response.of_times(float(np.exp(log_decay)), 0.0)
        penalty = self.conciseness * self.noise * shape.norm
        if np.isnan(self.offset):
            self.offset = above_noise(self.trace, self.noise)
        self.start = solve(self.trace - self.offset, self.elapsed, shape, penalty=penalty, start=self.start)
        residual = self.trace - self.offset - self.start.light
        shift = residual.mean()
        self.offset += shift
        return float((0.5 * ((residual - shift) ** 2).sum() + penalty * self.start.penalised) / self.noise**2)


def above_noise(trace: Floats, noise: float) -> float:
    """First guess of the fluorescence without calcium: as high above a low quantile as noise is.

    Parameters
    ----------
    trace : array (sample)
    noise : float
        Sd.
    """
    low = NOISE_QUANTILES[0]
    return float(np.quantile(trace, low) - norm.ppf(low) * noise)


def evenly_spread(elapsed: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Choose some samples of a recording, in pieces evenly spread over it; all of a short one.

    Parameters
    ----------
    elapsed : array (sample)

    Returns
    -------
    chosen : int array (chosen sample)
    elapsed : array (chosen sample)
        Frames since the sample before, as if nothing were left of the calcium from one piece to the next.
    """
    if len(elapsed) <= SEARCHED:
        return np.arange(len(elapsed)), elapsed
    length = SEARCHED // PIECES
    firsts = np.linspace(0, len(elapsed) - length, PIECES).round().astype(int)
    chosen = (firsts[:, None] + np.arange(length)).ravel()
    frames = elapsed[chosen]
    frames[::length] = APART
    return chosen, frames


def response(decay: float, rise: float, *, n: int) -> Floats:
    """Response to an event of size 1: what it adds to its own and each following sample.

    Parameters
    ----------
    decay, rise : float
        Time constants in samples; a rise of 0 means none.
    n : int
        Samples.

    Returns
    -------
    array (sample)
        ``dⁿ`` or, with a rise, ``(d^(n+1) − r^(n+1)) / (d − r)``: that of the filter ``1 / ((1 − d z)(1 − r z))``.
    """
    return Response.of_times(decay, rise).after(np.arange(n, dtype=float))
