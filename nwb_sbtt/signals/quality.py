"""Electrodes that are dead, noisy or on their own, and line noise, judged by parts of a recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.signals.filters import Floats

FEWEST_ELECTRODES = 4
"""Of a group, by which one of them can be judged."""
FLATTER = 10
"""A dead electrode varies by less than this part of what is usual in its group."""
NOISIER, DEVIATIONS = 2.0, 5.0
"""A noisy electrode's fast part is so many times as large as usual, and lies so many median absolute deviations above."""
ON_ITS_OWN = 0.5
"""By how much the highest correlation of an electrode with any other of its group lies below what is usual there."""
CORRELATED = 2000
"""Samples of a part from which correlations are computed, at most."""
GAUSSIAN_MAD = 0.6745
LINES = (50.0, 60.0)
"""Hz; mains."""
PEAK = 4.0
"""A line stands so many times above the frequencies around it."""
NEAR_HZ, AROUND_HZ = 5.0, 15.0
"""The line itself, and the frequencies around it that it is compared with: up to so far from it; more in short parts."""
LOBE = 2.5
"""Half of what a line is spread over, in cycles per part."""

Part = tuple[Floats, NDArray[np.bool_] | None]
"""Values (time, channel), 0 where missing, and which were observed; None for all."""


def bad_electrodes(parts: Sequence[Part], groups: NDArray[np.intp]) -> dict[str, NDArray[np.bool_]]:
    """Find electrodes that are dead, noisy or uncorrelated with the others of their group.

    Of each part the spread of an electrode, and that of its second differences (the fastest of what is sampled), are taken, and
    of these the medians over parts; correlations between electrodes are averaged over parts, as those of slow noise are high
    in any one of them. The three rules are those that are in general use (SpikeInterface's `detect_bad_channels`; International
    Brain Laboratory 2022, spike sorting white paper); the thresholds are this package's own.

    Parameters
    ----------
    parts : sequence of Part
        In the same unit for all channels.
    groups : int array (channel)
        Electrodes of different groups are not compared.

    Returns
    -------
    dict of str to bool array (channel)
        "dead", "noisy" and "uncorrelated", each electrode under one of them at most.
    """
    n_channels = len(groups)
    spread, fast = (np.full((len(parts), n_channels), np.nan) for _ in range(2))
    together, n_together = np.zeros((n_channels, n_channels)), np.zeros((n_channels, n_channels))
    for i, (values, observed) in enumerate(parts):
        if len(values) < 3:
            continue
        if observed is None:
            enough, samples = np.ones(n_channels, dtype=bool), values
        else:
            enough = observed.mean(axis=0) >= 0.5
            samples = np.where(enough, np.where(observed, values, np.nan), 0)
        deviations = samples - np.nanmedian(samples, axis=0)
        steps = np.diff(samples, n=2, axis=0)
        known = enough & np.isfinite(steps).any(axis=0)
        spread[i, enough] = np.nanmedian(np.abs(deviations[:, enough]), axis=0)
        fast[i, known] = np.nanmedian(np.abs(steps[:, known]), axis=0)
        both = np.ix_(known, known)
        together[both] += _correlations(deviations[:, known])
        n_together[both] += 1
    dead, noisy, alone = (np.zeros(n_channels, dtype=bool) for _ in range(3))
    spread, fast = _medians(spread), _medians(fast)
    together = np.abs(together / np.maximum(n_together, 1))
    np.fill_diagonal(together, 0)
    for group in np.unique(groups):
        channels = np.flatnonzero((groups == group) & np.isfinite(spread))
        if len(channels) < FEWEST_ELECTRODES:
            continue
        dead[channels] = spread[channels] * FLATTER < np.median(spread[channels])
        usual = np.nanmedian(fast[channels])
        limit = usual + DEVIATIONS * np.nanmedian(np.abs(fast[channels] - usual)) / GAUSSIAN_MAD
        noisy[channels] = fast[channels] > max(limit, NOISIER * usual)
        alike = together[np.ix_(channels, channels)].max(axis=1)
        alone[channels] = alike < np.median(alike) - ON_ITS_OWN
    return {"dead": dead, "noisy": noisy & ~dead, "uncorrelated": alone & ~dead & ~noisy}


def line_noise(
    parts: Sequence[Part], *, rate: float, band: tuple[float, float]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Measure how much of the variance in a band is line noise.

    Parameters
    ----------
    parts : sequence of Part
        Of equal length.
    rate : float
        Sampling rate in Hz.
    band : (float, float)
        Edges in Hz.

    Returns
    -------
    line : float
        Hz; 50 or 60.
    shares : array (channel)
        Share of the variance in the band that is at the line or one of its harmonics.
    harmonics : array (harmonic)
        Hz; those that stand out of the frequencies around them in any channel.
    """
    n_channels = parts[0][0].shape[1] if parts else 0
    longest = max((len(values) for values, _ in parts), default=0)
    spectrum, count = np.zeros((longest // 2 + 1, n_channels)), 0
    for values, observed in parts:
        if len(values) < longest or (observed is not None and not observed.all(axis=0).any()):
            continue
        whole = np.ones(n_channels, dtype=bool) if observed is None else observed.all(axis=0)
        centred = (values - values.mean(axis=0)) * np.hanning(longest)[:, None]
        spectrum[:, whole] += np.abs(np.fft.rfft(centred[:, whole], axis=0)) ** 2
        count += 1
    best = LINES[0], np.zeros(n_channels), np.empty(0)
    if not count:
        return best
    frequencies = np.fft.rfftfreq(longest, 1 / rate)
    nearest = max(NEAR_HZ, LOBE * rate / longest)
    inside = (frequencies >= band[0]) & (frequencies <= band[1])
    total = np.maximum(spectrum[inside].sum(axis=0), 1e-300)
    for line in LINES:
        excess, found = np.zeros(n_channels), []
        for harmonic in np.arange(line, band[1] + 1, line):
            distance = np.abs(frequencies - harmonic)
            near = inside & (distance <= nearest)
            around = (distance > nearest) & (distance <= nearest + AROUND_HZ)
            if harmonic < band[0] or not near.any() or not around.any():
                continue
            floor = np.median(spectrum[around], axis=0)
            stands_out = spectrum[near].max(axis=0) > PEAK * np.maximum(floor, spectrum[around].max(axis=0) / 2)
            excess += np.where(stands_out, (spectrum[near] - floor).sum(axis=0), 0)
            if stands_out.any():
                found.append(float(harmonic))
        shares = excess / total
        if shares.sum() > best[1].sum():
            best = line, shares, np.array(found)
    return best


def _medians(of_parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median (channel) over the parts in which something is known; NaN where nothing is."""
    known = np.isfinite(of_parts).any(axis=0)
    medians = np.full(of_parts.shape[1], np.nan)
    medians[known] = np.nanmedian(of_parts[:, known], axis=0)
    return medians


def _correlations(deviations: Floats) -> NDArray[np.float64]:
    """Correlations (channel, channel); 0 of one that does not vary."""
    every = max(len(deviations) // CORRELATED, 1)
    filled = np.nan_to_num(deviations[::every].astype(np.float64))
    centred = filled - filled.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    centred = np.divide(centred, size, out=np.zeros_like(centred), where=size > 0)
    return np.asarray(centred.T @ centred)
