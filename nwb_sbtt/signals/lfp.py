"""Local field potentials: the band-limited signal at each bin's centre, and the power of a band in each bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import maximum_filter1d

from nwb_sbtt.signals.blocks import (
    MARGINS_READ,
    ROUNDING,
    Bins,
    Reduced,
    SampleBlock,
    interval_sums,
    observed_amounts,
)
from nwb_sbtt.signals.filters import Filter, Floats, GaussianKernel, LowPass, transitions

HALF_POWER = 0.2494
"""Standard deviation in seconds, times the frequency, of the Gaussian mean whose removal halves the power there.

A Gaussian mean of sd σ passes the share exp(-2 π² σ² f²) of an oscillation of frequency f. Half of the power remains after
its removal where that share is 1 - 1/√2, so that σ f = √(-ln(1 - 1/√2) / 2) / π.
"""
SUMS_PER_SD, SUMS_PER_CYCLE = 16, 64
"""Sums of samples in the sd of a Gaussian mean, and in a cycle of the lower edge of a band: what folds back is below 1 %."""
COVERED_SUMS = SUMS_PER_CYCLE // 8
"""Sums on either side of an observed one that it stands for: gaps of a quarter of a cycle matter little to a slow part."""
SHORT_GAP = 1 / 16
"""Of a cycle of the upper edge of a band: over a gap of that length a straight line is 2 % of the amplitude off at most."""
JUDGED_TRIALS, JUDGED_TIMES = 8, 320
"""Most trials, and moments of each, by which a lower edge is judged."""
HIGHEST_RAISED, N_RAISED = 64.0, 19
"""Highest multiple of a lower edge that is looked at, and number of frequencies up to there."""
PASSED_AT_EDGE = 1 - 0.5**0.5
"""Share of an oscillation that a mean passes if half of the power remains after it is taken off."""
SMALLEST_AMOUNT = 1e-3
"""Samples, weighted, below which there is no mean; the weight of one sample at the rim is 3e-4."""


def decimating_filter(high: float, *, rate: float, bin_width: float, dtype: DTypeLike) -> Filter:
    """Make a low pass for a signal taken once per bin: it passes up to `high`, and what folds back lands above `high`.

    Parameters
    ----------
    high : float
        Upper edge of the band in Hz.
    rate : float
        Sampling rate in Hz.
    bin_width : float
        Seconds.
    dtype : dtype
        Of the arithmetic.
    """
    width = min(max(1 / bin_width - 2 * high, 0.05 / bin_width), 0.5 * high)
    return Filter(LowPass(cut=(high + width / 2) / rate, width=width / rate), dtype=dtype)


def low_pass(band: tuple[float, float], *, rate: float, bin_width: float, dtype: DTypeLike) -> Filter:
    """Make the upper edge of a band that was asked for, for a signal taken once per bin: nothing folds back.

    Parameters
    ----------
    band : (float, float)
        Edges in Hz.
    rate : float
        Sampling rate in Hz.
    bin_width : float
        Seconds.
    dtype : dtype
        Of the arithmetic.
    """
    _, upper = transitions(band, rate=min(rate, 1 / bin_width))
    return Filter(LowPass(cut=band[1] / rate, width=upper / rate), dtype=dtype)


@dataclass(frozen=True)
class SlowPart:
    """What lies below a band: the samples weighted with a filter, over sums of some of them.

    Parameters
    ----------
    weights : Filter
        Over sums of samples.
    length : int
        Samples in a sum.
    sharp : bool
        Whether the weights have lobes, as those of a band that was asked for: they need samples over their whole length.
        A Gaussian mean is taken over those that there are.
    """

    weights: Filter
    length: int
    sharp: bool

    @property
    def margin(self) -> int:
        """Samples needed on either side of a position."""
        return (self.weights.margin + 2 + (COVERED_SUMS if self.sharp else 0)) * self.length

    def compute(
        self, block: SampleBlock, centres: NDArray[np.float64], support: float
    ) -> tuple[Floats, NDArray[np.bool_] | None]:
        """Compute the slow part at some positions, from the observed samples.

        Sums begin at multiples of their length in the recording, so that they do not depend on where a block begins.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the positions.
        centres : array (position)
            Rising, in samples of the recording.
        support : float
            Smallest share of a sharp filter's weight on sums near which something was observed.

        Returns
        -------
        slow : array (position, channel)
            0 where nothing was observed.
        supported : bool array (position, channel) or (position, 1), or None
            Where enough was; None if it does not matter.
        """
        length = self.length
        first = -(-block.first // length)
        start = first * length - block.first
        n_sums = (len(block.observed) - start) // length
        inside = slice(start, start + n_sums * length)
        sums = block.values[inside].reshape(n_sums, length, -1).sum(axis=1)
        counts = block.observed[inside].reshape(n_sums, length, 1).sum(axis=1)
        lack = counts - block.gap_observed[inside].reshape(n_sums, length, -1).sum(axis=1)
        positions = (centres - (length - 1) / 2) / length
        total = self.weights.apply(sums, first=first, positions=positions)
        amount = self.weights.apply(counts.astype(sums.dtype), first=first, positions=positions)
        if len(block.gap_channels):
            # The lack is exactly 0 away from a gap, so that a gap changes no bit there.
            amount = np.repeat(amount, total.shape[1], axis=1)
            amount[:, block.gap_channels] -= self.weights.apply(
                lack.astype(sums.dtype), first=first, positions=positions
            )
        slow = np.asarray(np.divide(total, amount, out=np.zeros_like(total), where=amount > SMALLEST_AMOUNT))
        if not self.sharp:
            return slow, None
        covered = self._covered(counts, first=first, positions=positions) >= support - ROUNDING
        if len(block.gap_channels):
            covered = np.repeat(covered, total.shape[1], axis=1)
            of_gaps = self._covered(counts - lack, first=first, positions=positions)
            covered[:, block.gap_channels] = of_gaps >= support - ROUNDING
        return slow, covered

    def _covered(self, counts: NDArray[Any], *, first: int, positions: NDArray[np.float64]) -> Floats:
        """Share of the weight (position, channel) that lies on sums near which something was observed."""
        near = maximum_filter1d((counts > 0).astype(np.float32), 2 * COVERED_SUMS + 1, axis=0, mode="constant")
        return self.weights.support(near, first=first, positions=positions)


def gaussian_slow_part(low: float, *, rate: float, dtype: DTypeLike) -> SlowPart:
    """Make a Gaussian mean; taking it off is a gentle high pass.

    Parameters
    ----------
    low : float
        Lower edge of the band in Hz, where the power is halved.
    rate : float
        Sampling rate in Hz.
    dtype : dtype
        Of the arithmetic.
    """
    sd = HALF_POWER * rate / low
    length = max(1, int(sd / SUMS_PER_SD))
    return SlowPart(Filter(GaussianKernel(sd / length), dtype=dtype), length, sharp=False)


def effective_lower_edge(observed: NDArray[np.bool_], low: float, *, bin_width: float) -> NDArray[np.float64]:
    """Compute which lower edge is left of one where samples are observed in stretches with gaps between them.

    A Gaussian mean over the observed samples around a bin is one over less time than it should be where most of these are the
    bin's own stretch, and taking it off takes off what is faster. An oscillation of frequency f passes the mean with the share
    Σ w cos(2 π f t) / Σ w, with the Gaussian's weights w of the observed samples at times t from the bin; the edge is the
    lowest frequency of which 1 - 1/√2 passes, as a mean over bins.

    Parameters
    ----------
    observed : bool array (trial, time, channel)
        Bins; of long ones and of many trials a part.
    low : float
        Lower edge in Hz, where the power is halved if everything is observed.
    bin_width : float
        Seconds.

    Returns
    -------
    array (channel)
        Hz; `low` where nothing is observed.
    """
    trials = np.linspace(0, len(observed) - 1, min(len(observed), JUDGED_TRIALS)).astype(int)
    together = max(1, int(HALF_POWER / low / bin_width / SUMS_PER_SD))
    n_times = min(observed.shape[1] // together, JUDGED_TIMES)
    if not n_times:
        return np.full(observed.shape[2], low)
    part = observed[trials, : n_times * together].reshape(len(trials), n_times, together, -1).mean(axis=2)
    lags = (np.arange(n_times)[:, None] - np.arange(n_times)) * together * bin_width
    weights = np.exp(-0.5 * (lags * low / HALF_POWER) ** 2)
    amounts, n_seen = np.maximum(weights @ part, 1e-12), np.maximum(part.sum(axis=(0, 1)), 1e-12)
    frequencies = low * np.geomspace(1, HIGHEST_RAISED, N_RAISED)
    reached, reached_whole = np.zeros(part.shape[2], dtype=np.intp), 0
    for i, frequency in enumerate(frequencies):
        wave = weights * np.cos(2 * np.pi * frequency * lags)
        passed = ((wave @ part) / amounts * part).sum(axis=(0, 1)) / n_seen
        reached[(reached == i) & (passed >= PASSED_AT_EDGE)] = i + 1
        # What lies outside of a trial is left out of both.
        if reached_whole == i and (wave.sum(axis=1) / weights.sum(axis=1)).mean() >= PASSED_AT_EDGE:
            reached_whole = i + 1
    steps = np.minimum(np.maximum(reached - reached_whole, 0), N_RAISED - 1)
    return np.asarray(frequencies[steps])


def sharp_slow_part(band: tuple[float, float], *, rate: float, dtype: DTypeLike) -> SlowPart:
    """Make the lower edge of a band that was asked for: a low pass, to be taken off.

    Parameters
    ----------
    band : (float, float)
        Edges in Hz.
    rate : float
        Sampling rate in Hz.
    dtype : dtype
        Of the arithmetic.
    """
    (low, _), (lower, _) = band, transitions(band, rate=rate)
    length = max(1, int(round(rate / low / SUMS_PER_CYCLE, 6)))
    kernel = LowPass(cut=low * length / rate, width=lower * length / rate)
    return SlowPart(Filter(kernel, dtype=dtype), length, sharp=True)


@dataclass(frozen=True)
class Decimated:
    """The band-limited signal at each bin's centre, less its slow part.

    Where samples are missing all the time no filter has enough of them. Each bin of such a channel is the mean of its own
    observed samples, less the slow part: what oscillates at f passes with the gain of that mean, sin(π f w) / (π f w) for bins
    of width w that are whole.

    Parameters
    ----------
    smooth : Filter
        As `decimating_filter` or `low_pass` makes it.
    slow : SlowPart
    support : float
        Smallest share of the weight of `smooth` on observed samples.
    scattered : bool array (channel), optional
        Channels whose samples are missing all the time.
    short_gap : int
        Most samples of a gap that counts as observed, as a straight line over it keeps to the band.
    bytes_per_sample : int
        Memory that `reduce` needs for one sample of one channel.
    """

    smooth: Filter
    slow: SlowPart
    support: float
    scattered: NDArray[np.bool_] | None = None
    short_gap: int = 0
    bytes_per_sample: int = 2

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return max(MARGINS_READ * self.smooth.margin, self.slow.margin)

    def reduce(self, block: SampleBlock, bins: Bins) -> Reduced:
        """Compute the signal at the bins' centres.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; is overwritten.
        bins : Bins

        Returns
        -------
        Reduced
            In the recording's unit; weights are 1 where a bin is observed.
        """
        stored = block.amounts(bins)
        slow, supported = self.slow.compute(block, bins.centres, self.support)
        scattered = np.flatnonzero(False if self.scattered is None else self.scattered)
        own = _means(block.values[:, scattered], bins, first=block.first, amounts=stored, channels=scattered)
        block.fill(self.smooth)
        values = self.smooth.apply(block.values, first=block.first, positions=bins.centres) - slow
        observed = self.observed(block, bins, stored)
        if len(scattered):
            values[:, scattered] = own - slow[:, scattered]
            observed = np.repeat(observed, values.shape[1], axis=1) if observed.shape[1] == 1 else observed
            observed[:, scattered] = stored[:, scattered if stored.shape[1] > 1 else [0]] > 0
        if supported is not None:
            observed = observed & supported
        return Reduced(values, observed.astype(np.intp), stored)

    def observed(self, block: SampleBlock, bins: Bins, stored: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell at which bins enough of the filter lies on observed samples, some of them inside the bin.

        Parameters
        ----------
        block : SampleBlock
        bins : Bins
        stored : int array (bin, channel) or (bin, 1)
            Observed samples inside each bin.

        Returns
        -------
        bool array (bin, channel), or (bin, 1) where it is the same for all channels
        """
        supported = block.supported(self.smooth, bins.centres, self.support, short_gap=self.short_gap)
        return supported & ((stored > 0) | (bins.starts >= bins.stops)[:, None])


@dataclass(frozen=True)
class BandPower:
    """Sum of the power of the band signal, half its squared envelope, taken every `step` samples, over each bin.

    A squared signal itself rises and falls twice a cycle; half of the squared envelope (the size of the analytic signal, Gabor
    1946) is what is left of it without that, so bins may be shorter than a cycle.

    Parameters
    ----------
    cosine, sine : Filter
        As `nwb_sbtt.signals.filters.analytic_filters` makes them.
    step : int
        Samples; the power is taken in the middle of each so many, counted from the start of the recording.
    support : float
        Smallest share of the filter's weight on observed samples.
    short_gap : int
        Most samples of a gap that counts as observed, as a straight line over it keeps to the band.
    """

    cosine: Filter
    sine: Filter
    step: int
    support: float
    short_gap: int = 0

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return MARGINS_READ * self.cosine.margin + self.step

    @property
    def bytes_per_sample(self) -> int:
        """Memory that `reduce` needs for one sample of one channel."""
        return 2 + 16 // self.step

    def reduce(self, block: SampleBlock, bins: Bins) -> Reduced:
        """Add up power in bins.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; is overwritten.
        bins : Bins

        Returns
        -------
        Reduced
            Sums of power, in the recording's unit squared, and how many values are in each.
        """
        stored = block.amounts(bins)
        block.fill(self.cosine)
        ticks = np.arange(-(-int(bins.starts.min()) // self.step), -(-int(bins.stops.max()) // self.step)) * self.step
        positions = ticks.astype(np.float64) + (self.step - 1) / 2
        power = self.cosine.apply(block.values, first=block.first, positions=positions) ** 2
        power += self.sine.apply(block.values, first=block.first, positions=positions) ** 2
        power *= np.float32(0.5)
        observed = block.supported(self.cosine, positions, self.support, short_gap=self.short_gap)
        if not observed.all():
            power *= observed
        starts, stops = np.searchsorted(ticks, bins.starts), np.searchsorted(ticks, bins.stops)
        return Reduced(interval_sums(power, starts, stops), observed_amounts(observed, starts, stops), stored)


def independent_values(band: tuple[float, float], *, rate: float, bin_width: float) -> float:
    """Compute how many independent values of the power of noise a bin's mean is worth: its squared mean over its variance.

    Parameters
    ----------
    band : (float, float)
        Edges in Hz.
    rate : float
        Sampling rate in Hz.
    bin_width : float
        Seconds.

    Returns
    -------
    float
        1 at least. The log of such a mean lies ψ(n) − ln(n) off the log of the expected power, −0.58 for n = 1.
    """
    low, high = band
    # The correlation of the power of noise in a band is the squared correlation of its envelope, that of the low pass.
    cut, width = (high - low) / 2 / rate, min(transitions(band, rate=rate)) / rate
    step = max(1, int(1 / (8 * (2 * cut + width))))
    kernel = LowPass(cut * step, width * step)
    half = int(kernel.half_length) + 1
    weights = kernel.weights(np.arange(-half, half + 1.0)[None])[0]
    correlation = np.convolve(weights, weights)
    squared = (correlation / correlation.max()) ** 2
    length = bin_width * rate / step
    lags = np.abs(np.arange(len(squared)) - len(squared) // 2)
    variance = float((squared * np.clip(1 - lags / length, 0, None)).sum() / length)
    return 1 / min(variance, 1.0) if length > 1 else 1.0


def _means(values: Floats, bins: Bins, *, first: int, amounts: NDArray[np.intp], channels: NDArray[np.intp]) -> Floats:
    """Mean of the observed samples (bin, channel) of each bin; `values` are 0 where a sample is missing."""
    if not len(channels):
        return values[:0]
    sums = interval_sums(values, bins.starts - first, bins.stops - first)
    return np.asarray(sums / np.maximum(amounts if amounts.shape[1] == 1 else amounts[:, channels], 1))
