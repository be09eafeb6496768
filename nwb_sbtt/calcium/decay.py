"""Decay time and noise of one ROI, from the autocovariance and the spectrum of its fluorescence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from nwb_sbtt.calcium.indicators import Indicator

Floats = NDArray[np.float64]
Runs = list[tuple[int, int]]
"""First and last sample, the last one excluded, of each stretch of evenly spaced samples."""

DECAYS = np.geomspace(0.02, 6.0, 115)
"""Seconds; decay times that are tried, five per cent apart."""
BLOCKS = 8
"""Parts that are left out in turn to say how sure the decay is."""
LEAST_LOG_SD = 0.15
"""Sd of the logarithm of a decay that no amount of data goes below: indicators do not decay by a single exponential."""
BAND = 0.25
"""Frequencies from here on, in units of the sampling rate, are taken for noise where calcium does not explain them."""
LEAST_NOISE = 0.05
"""Least share of the power in that band that is noise."""
SEGMENT = 256
"""Samples of a segment of the spectrum; less in shorter runs."""


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
    """Fit the decay of one ROI to its autocovariance, pull it towards what is known of the indicator, and find the noise.

    Events that do not depend on each other make calcium whose autocovariance is that of the indicator's response; noise adds
    to lag 0 alone, which is left out. How much the decay varies as eighths of the recording are left out says how much the
    data count beside the prior. The noise is the power at high frequencies that calcium of this decay does not explain.

    Parameters
    ----------
    trace : array (sample)
        Above the baseline.
    runs : list of (first, stop)
        Stretches of evenly spaced samples; no product is taken across two of them.
    rate : float
        Samples per second.
    indicator : Indicator
    decay : float or None
        Seconds, where it is known and not to be fitted.
    """
    rise = indicator.rise if indicator.rise * rate > 0.2 else 0.0
    sizes = [stop - first for first, stop in runs]
    n_lags = int(np.clip(round(indicator.decay * rate), 4, max(4, max(sizes) // 3)))
    centred = trace - trace.mean()
    sums, counts = _products(centred, runs, n_lags)
    candidates = DECAYS[1.5 * rise < DECAYS] if decay is None else np.array([decay])
    shapes = np.stack([_autocovariance(each, rise, rate=rate, n_lags=n_lags) for each in candidates])

    def fitted(kept: NDArray[np.bool_]) -> tuple[float, float]:
        covariance = sums[kept].sum(0) / np.maximum(counts[kept].sum(0), 1)
        size = np.clip(shapes[:, 1:] @ covariance[1:] / (shapes[:, 1:] ** 2).sum(1), 0, None)
        misfit = ((covariance[1:] - size[:, None] * shapes[:, 1:]) ** 2).sum(1)
        best = int(np.argmin(misfit))
        return float(np.log(candidates[best])), float(size[best])

    every = np.ones(len(sums), dtype=bool)
    log_decay, power = fitted(every)
    log_sd = 0.0
    if decay is None:
        without = np.array([fitted(np.arange(len(sums)) != i)[0] for i in range(len(sums))])
        spread = float(np.sqrt((len(sums) - 1) / len(sums) * ((without - without.mean()) ** 2).sum()))
        own, prior = max(spread, LEAST_LOG_SD) ** -2 if power > 0 else 0.0, indicator.log_sd**-2
        log_decay = (own * log_decay + prior * np.log(indicator.decay)) / (own + prior)
        log_sd = (own + prior) ** -0.5
        nearest = int(np.argmin(np.abs(np.log(candidates) - log_decay)))
        covariance = sums.sum(0) / np.maximum(counts.sum(0), 1)
        power = max(0.0, float(shapes[nearest, 1:] @ covariance[1:] / (shapes[nearest, 1:] ** 2).sum()))
    found = float(np.exp(log_decay))
    return DecayFit(found, rise, log_sd, _noise(centred, runs, power=power, decay=found * rate, rise=rise * rate))


def response(decay: float, rise: float, *, n: int) -> Floats:
    """What an event of size 1 adds to each following sample; time constants in samples, no rise where it is 0."""
    d = np.exp(-1 / decay)
    if rise == 0:
        return np.asarray(d ** np.arange(n))
    r = np.exp(-1 / rise)
    powers = np.arange(1, n + 1)
    return np.asarray((d**powers - r**powers) / (d - r))


def _autocovariance(decay: float, rise: float, *, rate: float, n_lags: int) -> Floats:
    """Of events of unit variance, at lags from 0."""
    course = response(decay * rate, rise * rate, n=n_lags + 1 + int(8 * decay * rate) + 8)
    return np.array([course[: len(course) - lag] @ course[lag:] for lag in range(n_lags + 1)])


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
    kept = [part for part in parts if part]
    sums, counts = np.zeros((len(kept), n_lags + 1)), np.zeros((len(kept), n_lags + 1))
    for i, part in enumerate(kept):
        for start, end in part:
            piece = trace[start:end]
            for lag in range(min(n_lags + 1, len(piece))):
                sums[i, lag] += piece[: len(piece) - lag] @ piece[lag:]
                counts[i, lag] += len(piece) - lag
    return sums, counts


def _noise(trace: Floats, runs: Runs, *, power: float, decay: float, rise: float) -> float:
    """Sd of white noise; time constants in samples."""
    total = weight = 0.0
    for first, stop in runs:
        size = min(SEGMENT, stop - first)
        if size < 8:
            continue
        frequency, spectrum = welch(trace[first:stop], nperseg=size)
        band = (frequency >= BAND) & (frequency < 0.5)
        explained = power * np.abs(_transfer(frequency[band], decay, rise)) ** 2
        found = max((spectrum[band] / 2 - explained).mean(), LEAST_NOISE * (spectrum[band] / 2).mean())
        total, weight = total + found * (stop - first), weight + stop - first
    return float(np.sqrt(total / weight)) if weight else 0.0


def _transfer(frequency: Floats, decay: float, rise: float) -> NDArray[np.complex128]:
    turn = np.exp(-2j * np.pi * frequency)
    gain = 1 / (1 - np.exp(-1 / decay) * turn)
    return np.asarray(gain if rise == 0 else gain / (1 - np.exp(-1 / rise) * turn))
