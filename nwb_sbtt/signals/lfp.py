"""Local field potentials: the band-limited signal at each bin's centre, and the power of a band in each bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nwb_sbtt.signals.blocks import MARGINS_READ, Bins, Reduced, SampleBlock, interval_sums, observed_amounts
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

    Where samples are missing all the time no filter has enough of them. Each bin of such a channel is the mean of its own
    observed samples, less the slow part: what oscillates at f passes with the gain of that mean, sin(π f w) / (π f w) for bins
    of width w that are whole.

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
    scattered : bool array (channel), optional
        Channels whose samples are missing all the time.
    bytes_per_sample : int
        Memory that `reduce` needs for one sample of one channel.
    """

    smooth: Filter
    slow: Filter
    slow_length: int
    support: float
    scattered: NDArray[np.bool_] | None = None
    bytes_per_sample: int = 2

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return max(MARGINS_READ * self.smooth.margin, (self.slow.margin + 2) * self.slow_length)

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
        slow = self._slow(block, bins.centres)
        scattered = np.flatnonzero(False if self.scattered is None else self.scattered)
        own = _means(block.values[:, scattered], bins, first=block.first, amounts=stored, channels=scattered)
        block.fill(self.smooth)
        values = self.smooth.apply(block.values, first=block.first, positions=bins.centres) - slow
        observed = self.observed(block, bins, stored)
        if len(scattered):
            values[:, scattered] = own - slow[:, scattered]
            observed = np.repeat(observed, values.shape[1], axis=1) if observed.shape[1] == 1 else observed
            observed[:, scattered] = stored[:, scattered if stored.shape[1] > 1 else [0]] > 0
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
        return block.supported(self.smooth, bins.centres, self.support) & (
            (stored > 0) | (bins.starts >= bins.stops)[:, None]
        )

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

    def reduce(self, block: SampleBlock, bins: Bins) -> Reduced:
        """Add up squares in bins.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; is overwritten.
        bins : Bins

        Returns
        -------
        Reduced
            Sums of squares, in the recording's unit squared, and how many squares are in each.
        """
        stored = block.amounts(bins)
        block.fill(self.band)
        ticks = np.arange(-(-int(bins.starts.min()) // self.step), -(-int(bins.stops.max()) // self.step)) * self.step
        squares = self.band.apply(block.values, first=block.first, positions=ticks.astype(float)) ** 2
        observed = block.supported(self.band, ticks.astype(float), self.support)
        if not observed.all():
            squares *= observed
        starts, stops = np.searchsorted(ticks, bins.starts), np.searchsorted(ticks, bins.stops)
        return Reduced(interval_sums(squares, starts, stops), observed_amounts(observed, starts, stops), stored)


def _means(values: Floats, bins: Bins, *, first: int, amounts: NDArray[np.intp], channels: NDArray[np.intp]) -> Floats:
    """Mean of the observed samples (bin, channel) of each bin; `values` are 0 where a sample is missing."""
    if not len(channels):
        return values[:0]
    sums = interval_sums(values, bins.starts - first, bins.stops - first)
    return np.asarray(sums / np.maximum(amounts if amounts.shape[1] == 1 else amounts[:, channels], 1))
