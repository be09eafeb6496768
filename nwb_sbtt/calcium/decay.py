"""Decay time and noise of one ROI, from the autocovariance and the spectrum of its fluorescence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from nwb_sbtt.calcium.indicators import Indicator

Floats = NDArray[np.float64]
Runs = list[tuple[int, int]]
"""First and last sample, the last one excluded, of each run of evenly spaced samples."""

DECAYS = np.geomspace(0.02, 6.0, 115)
"""Decay times that are tried [s], five per cent apart."""
BLOCKS = 8
"""Parts of the recording that are left out in turn for the jackknife sd of the decay."""
LEAST_LOG_SD = 0.15
"""Least sd of the logarithm of a decay, however much data: no indicator decays by a single exponential."""
BAND = 0.25
"""Lowest frequency of the noise band, in units of the sampling rate."""
LEAST_NOISE = 0.05
"""Least share of the power in the noise band that is noise."""
SEGMENT = 256
"""Samples of a segment of the spectrum; fewer in shorter runs."""


@dataclass(frozen=True)
class DecayFit:
    """What autocovariance and spectrum of one ROI's trace say.

    Parameters
    ----------
    decay, rise : float
        Time constants [s].
    decay_log_sd : float
        Sd of the decay's logarithm; 0 where the decay was given.
    noise_sd : float
        Sd of the white noise, in the unit of the trace.
    """

    decay: float
    rise: float
    decay_log_sd: float
    noise_sd: float


def fit_decay(trace: Floats, runs: Runs, *, rate: float, indicator: Indicator, decay: float | None) -> DecayFit:
    """Fit the decay of one ROI to its autocovariance, with the indicator as prior, and measure the noise.

    Independent events make calcium whose autocovariance is proportional to that of the indicator's response. White noise adds
    to lag 0 alone, which is left out. Of all decays tried, the one with the least squared error over the other lags is taken.

    The logarithms of this decay and of the indicator's are averaged by their precisions. The sd of the first is the jackknife
    sd over eighths of the recording.

    The noise is the mean power at high frequencies, less the power of calcium with this decay and the fitted variance of
    events: ``variance · |1 / ((1 − d z)(1 − r z))|²`` with ``z = exp(−2πi f)`` and d, r the shares left after a sample.

    Parameters
    ----------
    trace : array (sample)
        Fluorescence above the baseline.
    runs : list of (first, stop)
        Runs of evenly spaced samples; no product is taken across two of them.
    rate : float
        Sampling rate [Hz].
    indicator : Indicator
        Prior of the decay; its rise is taken as it is, or as none where it is shorter than a fifth of a sample.
    decay : float or None
        Decay time [s], where it is known and not to be fitted.

    Returns
    -------
    DecayFit

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> events, trace = rng.poisson(0.05, 6000), np.zeros(6000)
    >>> for t in range(1, 6000):
    ...     trace[t] = np.exp(-1 / 15) * trace[t - 1] + events[t]
    >>> fit = fit_decay(trace, [(0, 6000)], rate=30.0, indicator=Indicator("any", 0.7, 0.0, 1.0), decay=None)
    >>> round(fit.decay, 1)
    0.5
    """
    rise = indicator.rise if indicator.rise * rate > 0.2 else 0.0
    sizes = [stop - first for first, stop in runs]
    n_lags = int(np.clip(round(indicator.decay * rate), 4, max(4, max(sizes) // 3)))
    centred = trace - trace.mean()
    sums, counts = _products(centred, runs, n_lags)
    candidates = DECAYS[1.5 * rise < DECAYS] if decay is None else np.array([decay])
    shapes = np.stack([_autocovariance(candidate, rise, rate=rate, n_lags=n_lags) for candidate in candidates])

    def fitted(parts: NDArray[np.bool_]) -> tuple[float, float]:
        covariance = sums[parts].sum(0) / np.maximum(counts[parts].sum(0), 1)
        size = np.clip(shapes[:, 1:] @ covariance[1:] / (shapes[:, 1:] ** 2).sum(1), 0, None)
        error = ((covariance[1:] - size[:, None] * shapes[:, 1:]) ** 2).sum(1)
        best = int(np.argmin(error))
        return float(np.log(candidates[best])), float(size[best])

    log_decay, power = fitted(np.ones(len(sums), dtype=bool))
    log_sd = 0.0
    if decay is None:
        without = np.array([fitted(np.arange(len(sums)) != i)[0] for i in range(len(sums))])
        jackknife_sd = float(np.sqrt((len(sums) - 1) / len(sums) * ((without - without.mean()) ** 2).sum()))
        data, prior = max(jackknife_sd, LEAST_LOG_SD) ** -2 if power > 0 else 0.0, indicator.log_sd**-2
        log_decay = (data * log_decay + prior * np.log(indicator.decay)) / (data + prior)
        log_sd = (data + prior) ** -0.5
        nearest = int(np.argmin(np.abs(np.log(candidates) - log_decay)))
        covariance = sums.sum(0) / np.maximum(counts.sum(0), 1)
        power = max(0.0, float(shapes[nearest, 1:] @ covariance[1:] / (shapes[nearest, 1:] ** 2).sum()))
    decay_time = float(np.exp(log_decay))
    noise_sd = _noise_sd(centred, runs, power=power, decay=decay_time * rate, rise=rise * rate)
    return DecayFit(decay_time, rise, log_sd, noise_sd)


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
    d = np.exp(-1 / decay)
    if rise == 0:
        return np.asarray(d ** np.arange(n))
    r = np.exp(-1 / rise)
    powers = np.arange(1, n + 1)
    return np.asarray((d**powers - r**powers) / (d - r))


def _autocovariance(decay: float, rise: float, *, rate: float, n_lags: int) -> Floats:
    """Of events of unit variance, at lags from 0."""
    values = response(decay * rate, rise * rate, n=n_lags + 1 + int(8 * decay * rate) + 8)
    return np.array([values[: len(values) - lag] @ values[lag:] for lag in range(n_lags + 1)])


def _products(trace: Floats, runs: Runs, n_lags: int) -> tuple[Floats, Floats]:
    """Sums of products at each lag, and how many there are, in each of some parts of about the same length."""
    total = sum(stop - first for first, stop in runs)
    size = max(total // BLOCKS, 2 * n_lags)
    parts: list[list[tuple[int, int]]] = [[]]
    filled = 0
    for first, stop in runs:
        for start in range(first, stop, size):
            end = min(start + size, stop)
            parts[-1].append((start, end))
            filled += end - start
            if filled >= size:
                parts, filled = [*parts, []], 0
    filled_parts = [part for part in parts if part]
    sums, counts = np.zeros((len(filled_parts), n_lags + 1)), np.zeros((len(filled_parts), n_lags + 1))
    for i, part in enumerate(filled_parts):
        for start, end in part:
            piece = trace[start:end]
            for lag in range(min(n_lags + 1, len(piece))):
                sums[i, lag] += piece[: len(piece) - lag] @ piece[lag:]
                counts[i, lag] += len(piece) - lag
    return sums, counts


def _noise_sd(trace: Floats, runs: Runs, *, power: float, decay: float, rise: float) -> float:
    """Sd of white noise; time constants in samples."""
    total = weight = 0.0
    for first, stop in runs:
        size = min(SEGMENT, stop - first)
        if size < 8:
            continue
        frequency, spectrum = welch(trace[first:stop], nperseg=size)
        band = (frequency >= BAND) & (frequency < 0.5)
        explained = power * np.abs(_transfer(frequency[band], decay, rise)) ** 2
        noise = max((spectrum[band] / 2 - explained).mean(), LEAST_NOISE * (spectrum[band] / 2).mean())
        total, weight = total + noise * (stop - first), weight + stop - first
    return float(np.sqrt(total / weight)) if weight else 0.0


def _transfer(frequency: Floats, decay: float, rise: float) -> NDArray[np.complex128]:
    """Transfer function of the response at frequencies in units of the sampling rate."""
    turn = np.exp(-2j * np.pi * frequency)
    gain = 1 / (1 - np.exp(-1 / decay) * turn)
    return np.asarray(gain if rise == 0 else gain / (1 - np.exp(-1 / rise) * turn))
