"""Local field potentials: the band-limited signal at each bin's centre, and the power of a band in each bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nwb_sbtt.signals.blocks import MARGINS_READ, Bins, SampleBlock, interval_sums, observed_amounts
from nwb_sbtt.signals.filters import Filter, Floats, GaussianKernel, LowPass

HALF_POWER = 0.2494
"""Standard deviation in seconds, times the frequency, of the Gaussian mean whose removal halves the power there.

A Gaussian mean of sd σ passes the share exp(-2 π² σ² f²) of an oscillation of frequency f. Half of the power remains after
its removal where that share is 1 - 1/√2, so that σ f = √(-ln(1 - 1/√2) / 2) / π.
"""
SUMS_PER_SD = 16
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


def slow_sum_length(low: float, *, rate: float) -> int:
    """Return how many samples are summed up at a time for the slow part: 1/16 of its Gaussian's sd, one at least.

    Parameters
    ----------
    low : float
        Lower edge of the band in Hz.
    rate : float
        Sampling rate in Hz.
    """
    return max(1, int(HALF_POWER * rate / low / SUMS_PER_SD))


def slow_filter(low: float, *, rate: float, dtype: DTypeLike) -> Filter:
    """Make Gaussian weights over sums of `slow_sum_length` samples; taking off the mean under them is a high pass.

    Parameters
    ----------
    low : float
        Lower edge of the band in Hz, where the power is halved.
    rate : float
        Sampling rate in Hz.
    dtype : dtype
        Of the arithmetic.
    """
    return Filter(GaussianKernel(HALF_POWER * rate / low / slow_sum_length(low, rate=rate)), dtype=dtype)


@dataclass(frozen=True)
class Decimated:
    """The band-limited signal at each bin's centre, less its slow part.

    Parameters
    ----------
    smooth : Filter
        As `decimating_filter` makes it.
    slow : Filter
        As `slow_filter` makes it.
    slow_length : int
        Samples summed up at a time for the slow part, see `slow_sum_length`.
    support : float
        Smallest share of the weight of `smooth` on observed samples.
    bytes_per_sample : int
        Memory that `reduce` needs for one sample of one channel.
    """

    smooth: Filter
    slow: Filter
    slow_length: int
    support: float
    bytes_per_sample: int = 2

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return max(MARGINS_READ * self.smooth.margin, (self.slow.margin + 2) * self.slow_length)

    def reduce(self, block: SampleBlock, bins: Bins) -> tuple[Floats, NDArray[np.intp]]:
        """Compute the signal at the bins' centres.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; is overwritten.
        bins : Bins

        Returns
        -------
        values : array (bin, channel)
            In the recording's unit.
        weights : int array (bin, channel) or (bin, 1)
            1 where a bin is observed.
        """
        slow = self._slow(block, bins.centres)
        block.fill()
        values = self.smooth.apply(block.values, first=block.first, positions=bins.centres) - slow
        return values, block.supported(self.smooth, bins.centres, self.support).astype(np.intp)

    def _slow(self, block: SampleBlock, centres: NDArray[np.float64]) -> Floats:
        """Mean of the observed samples around each centre, weighted by a Gaussian; 0 where there are none.

        Sums begin at multiples of their length in the recording, so that they do not depend on where a block begins.
        """
        length = self.slow_length
        first = -(-block.first // length)
        start = first * length - block.first
        n_sums = (len(block.observed) - start) // length
        inside = slice(start, start + n_sums * length)
        sums = block.values[inside].reshape(n_sums, length, -1).sum(axis=1)
        counts = block.observed[inside].reshape(n_sums, length, 1).sum(axis=1)
        positions = (centres - (length - 1) / 2) / length
        total = self.slow.apply(sums, first=first, positions=positions)
        amount = self.slow.apply(counts.astype(sums.dtype), first=first, positions=positions)
        if len(block.gap_channels):
            # The lack is exactly 0 away from a gap, so that a gap changes no bit there.
            lack = counts - block.gap_observed[inside].reshape(n_sums, length, -1).sum(axis=1)
            amount = np.repeat(amount, total.shape[1], axis=1)
            amount[:, block.gap_channels] -= self.slow.apply(lack.astype(sums.dtype), first=first, positions=positions)
        return np.asarray(np.divide(total, amount, out=np.zeros_like(total), where=amount > SMALLEST_AMOUNT))


@dataclass(frozen=True)
class BandPower:
    """Sum of the squared band signal, taken every `step` samples, over each bin.

    Parameters
    ----------
    band : Filter
        As `nwb_sbtt.signals.filters.band_filter` makes it.
    step : int
        Samples; squares are taken at multiples of it in the recording.
    support : float
        Smallest share of the filter's weight on observed samples.
    """

    band: Filter
    step: int
    support: float

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return MARGINS_READ * self.band.margin

    @property
    def bytes_per_sample(self) -> int:
        """Memory that `reduce` needs for one sample of one channel."""
        return 2 + 16 // self.step

    def reduce(self, block: SampleBlock, bins: Bins) -> tuple[Floats, NDArray[np.intp]]:
        """Add up squares in bins.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; is overwritten.
        bins : Bins

        Returns
        -------
        values : array (bin, channel)
            Sums of squares, in the recording's unit squared.
        weights : int array (bin, channel) or (bin, 1)
            Number of squares in each sum.
        """
        block.fill()
        ticks = np.arange(-(-int(bins.starts.min()) // self.step), -(-int(bins.stops.max()) // self.step)) * self.step
        squares = self.band.apply(block.values, first=block.first, positions=ticks.astype(float)) ** 2
        observed = block.supported(self.band, ticks.astype(float), self.support)
        if not observed.all():
            squares *= observed
        starts, stops = np.searchsorted(ticks, bins.starts), np.searchsorted(ticks, bins.stops)
        return interval_sums(squares, starts, stops), observed_amounts(observed, starts, stops)
