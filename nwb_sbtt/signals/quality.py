"""Electrodes that are dead, noisy or on their own, and line noise, judged by parts of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from nwb_sbtt.data.threads import in_threads
from nwb_sbtt.signals.blocks import channel_medians
from nwb_sbtt.signals.filters import COLUMNS_AT_ONCE, Floats

FEWEST_ELECTRODES = 4
"""Of a group, by which one of them can be judged."""
FLATTER = 10
"""A dead electrode varies by less than this part of what is usual in its group."""
NOISIER, DEVIATIONS = 2.0, 5.0
"""A noisy electrode's fast part is so many times as large as usual, and lies so many median absolute deviations above."""
ON_ITS_OWN = 0.5
"""By how much the highest correlation of an electrode with any other of its group lies below what is usual there."""
JUDGED = 2000
"""Samples of a part by which electrodes are judged, at most, evenly spread."""
GAUSSIAN_MAD = 0.6745
LINES = (50.0, 60.0)
"""Hz; mains."""
PEAK = 4.0
"""A line stands so many times above the frequencies around it."""
NEAR_HZ, AROUND_HZ = 5.0, 15.0
"""The line itself, and the frequencies around it that it is compared with: up to so far from it; more in short parts."""
LOBE = 2.5
"""Half of what a line is spread over, in cycles per part."""


@dataclass(frozen=True)
class Traits:
    """What a part shows of each electrode.

    Parameters
    ----------
    spread, fast : array (channel)
        Median size of the deviations from the median, and of the second differences, the fastest of what is sampled; NaN where
        too little was observed.
    together : array (channel, channel)
        Correlations; NaN where one of the two is not known.
    """

    spread: NDArray[np.float64]
    fast: NDArray[np.float64]
    together: NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """Power spectrum of a part.

    Parameters
    ----------
    power : array (frequency, channel)
        Up to the highest that matters; 0 for channels of which a sample is missing.
    n_samples : int
        Of the part.
    """

    power: Floats
    n_samples: int


def traits(values: Floats, observed: NDArray[np.bool_] | None) -> Traits:
    """Measure what a part shows of each electrode.

    Parameters
    ----------
    values : array (time, channel)
        In the same unit for all channels; 0 where missing.
    observed : bool array (time, channel) or None
        None for all.
    """
    n_times, n_channels = values.shape
    unknown = np.full(n_channels, np.nan)
    if n_times < 3:
        return Traits(unknown, unknown, np.full((n_channels, n_channels), np.nan))
    at = np.arange(0, n_times, max(n_times // JUDGED, 1))
    triples = at[at < n_times - 2]
    enough = np.ones(n_channels, dtype=bool) if observed is None else observed.mean(axis=0) >= 0.5
    there = None if observed is None else observed[at] & enough
    steps = values[triples] - 2 * values[triples + 1] + values[triples + 2]
    whole = None
    if observed is not None:
        whole = observed[triples] & observed[triples + 1] & observed[triples + 2] & enough
    samples = values[at]
    deviations = samples - channel_medians(samples, there)
    if there is not None:
        deviations = np.where(there, deviations, 0)
    fast = channel_medians(np.abs(steps), whole)
    together = _correlations(deviations)
    known = np.isfinite(fast)
    together[~known] = together[:, ~known] = np.nan
    return Traits(channel_medians(np.abs(deviations), there), fast, together)


def bad_electrodes(parts: Sequence[Traits], groups: NDArray[np.intp]) -> dict[str, NDArray[np.bool_]]:
    """Find electrodes that are dead, noisy or uncorrelated with the others of their group.

    Of spread and fast part of an electrode the medians over parts are taken; correlations between electrodes are averaged over
    parts, as those of slow noise are high in any one of them. The three rules are those that are in general use
    (SpikeInterface's `detect_bad_channels`; International Brain Laboratory 2022, spike sorting white paper); the thresholds are
    this package's own.

    Parameters
    ----------
    parts : sequence of Traits
    groups : int array (channel)
        Electrodes of different groups are not compared.

    Returns
    -------
    dict of str to bool array (channel)
        "dead", "noisy" and "uncorrelated", each electrode under one of them at most.
    """
    n_channels = len(groups)
    spread, fast = (
        _medians(np.array([part.spread for part in parts])),
        _medians(np.array([part.fast for part in parts])),
    )
    together, n_together = np.zeros((n_channels, n_channels)), np.zeros((n_channels, n_channels))
    for part in parts:
        together += np.nan_to_num(part.together)
        n_together += np.isfinite(part.together)
    together = np.abs(together / np.maximum(n_together, 1))
    np.fill_diagonal(together, 0)
    dead, noisy, alone = (np.zeros(n_channels, dtype=bool) for _ in range(3))
    for group in np.unique(groups):
        channels = np.flatnonzero((groups == group) & np.isfinite(spread))
        if len(channels) < FEWEST_ELECTRODES:
            continue
        dead[channels] = spread[channels] * FLATTER < np.median(spread[channels])
        if (known := channels[np.isfinite(fast[channels])]).size:
            usual = np.median(fast[known])
            limit = usual + DEVIATIONS * np.median(np.abs(fast[known] - usual)) / GAUSSIAN_MAD
            noisy[known] = fast[known] > max(limit, NOISIER * usual)
        alike = together[np.ix_(channels, channels)].max(axis=1)
        alone[channels] = alike < np.median(alike) - ON_ITS_OWN
    return {"dead": dead, "noisy": noisy & ~dead, "uncorrelated": alone & ~dead & ~noisy}


def spectrum(values: Floats, observed: NDArray[np.bool_] | None, *, rate: float, highest: float) -> Spectrum:
    """Compute the power spectrum of a part.

    Parameters
    ----------
    values : array (time, channel)
        0 where missing.
    observed : bool array (time, channel) or None
        None for all.
    rate : float
        Sampling rate in Hz.
    highest : float
        Upper edge in Hz of the band in which lines are looked for.
    """
    n_times, n_channels = values.shape
    n_frequencies = int((highest + 2 * AROUND_HZ) * n_times / rate) + ceil(2 * LOBE) + 1
    power = np.zeros((min(n_frequencies, n_times // 2 + 1), n_channels), dtype=values.dtype)
    window = np.hanning(n_times).astype(values.dtype)[:, None]

    def transform(columns: slice) -> None:
        part = values[:, columns]
        coefficients = rfft((part - part.mean(axis=0)) * window, axis=0, overwrite_x=True)[: len(power)]
        power[:, columns] = coefficients.real**2 + coefficients.imag**2

    if n_times:
        in_threads(transform, [slice(c, c + COLUMNS_AT_ONCE) for c in range(0, n_channels, COLUMNS_AT_ONCE)])
    if observed is not None:
        power[:, ~observed.all(axis=0)] = 0
    return Spectrum(power, n_times)


def line_noise(
    parts: Sequence[Spectrum], *, rate: float, band: tuple[float, float]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Measure how much of the variance in a band is line noise.

    Parameters
    ----------
    parts : sequence of Spectrum
        Those of fewer samples than others are left out.
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
    longest = max((part.n_samples for part in parts), default=0)
    whole = [part.power for part in parts if part.n_samples == longest]
    if not longest:
        return LINES[0], np.zeros(whole[0].shape[1] if whole else 0), np.empty(0)
    power: NDArray[np.float64] = np.asarray(np.sum(whole, axis=0, dtype=np.float64))
    frequencies = np.fft.rfftfreq(longest, 1 / rate)[: len(power)]
    nearest = max(NEAR_HZ, LOBE * rate / longest)
    inside = (frequencies >= band[0]) & (frequencies <= band[1])
    total = np.maximum(power[inside].sum(axis=0), 1e-300)
    best = LINES[0], np.zeros(power.shape[1]), np.empty(0)
    for line in LINES:
        excess, found = np.zeros(power.shape[1]), []
        for harmonic in np.arange(line, band[1] + 1, line):
            low, high = np.searchsorted(frequencies, [harmonic - nearest - AROUND_HZ, harmonic + nearest + AROUND_HZ])
            around_line = slice(int(low), int(high) + 1)
            distance = np.abs(frequencies[around_line] - harmonic)
            near = inside[around_line] & (distance <= nearest)
            around = (distance > nearest) & (distance <= nearest + AROUND_HZ)
            if harmonic < band[0] or not near.any() or not around.any():
                continue
            local = power[around_line]
            floor = np.median(local[around], axis=0)
            stands_out = local[near].max(axis=0) > PEAK * np.maximum(floor, local[around].max(axis=0) / 2)
            excess += np.where(stands_out, (local[near] - floor).sum(axis=0), 0)
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
    centred = deviations - deviations.mean(axis=0, dtype=np.float64)
    size = np.sqrt((centred**2).sum(axis=0))
    centred = np.divide(centred, size, out=np.zeros_like(centred), where=size > 0)
    return np.asarray(centred.T @ centred)
