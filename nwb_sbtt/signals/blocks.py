"""Blocks of a recording, their missing samples, and the interface of a use of a recording that is computed block by block.

Missing samples never reach a filter. Short gaps are bridged by a straight line between the observed samples at their ends,
long ones (longer than the filter) and the ends of a contiguous part hold the nearest observed value; and a filtered value
counts as observed only where at least a given share (0.9 by default) of the filter's absolute weight lies on observed samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from nwb_sbtt.signals.filters import Filter, Floats

ROUNDING = 1e-5
"""By how much a share of weights may fall below the one wanted through rounding."""
MARGINS_READ = 3
"""Margins of a filter that are read on either side: a bridged value may come from beyond the samples it is weighted with."""
BRIDGED_AT_ONCE = 250_000
"""Entries for which `bridge` looks for the nearest observed samples at once."""
TURNED_AT_ONCE = 64
"""Rows that are turned into columns at once: more would not stay in the cache."""


@dataclass(frozen=True)
class SampleBlock:
    """Samples of one contiguous part of a recording, and which of them were observed.

    Parameters
    ----------
    values : array (time, channel)
        Finite, 0 where a sample is missing; after `fill` what bridges the gap there.
    first : int
        Position of the first sample in the recording; may lie before the part.
    observed : bool array (time)
        False where no channel was observed: outside the part, in invalid times.
    gap_channels : int array (k)
        Channels with further missing samples.
    gap_observed : bool array (time, k)
        Where these channels were observed; False wherever `observed` is.
    flat : bool array (time, k)
        Where these channels have stored samples that were not measured; of no rows where there are none.
    """

    values: Floats
    first: int
    observed: NDArray[np.bool_]
    gap_channels: NDArray[np.intp]
    gap_observed: NDArray[np.bool_]
    flat: NDArray[np.bool_]

    def flat_samples(self, first: int, stop: int) -> NDArray[np.intp]:
        """Count the samples (channel) that are flat among samples `first` to `stop` − 1 of the recording.

        Parameters
        ----------
        first, stop : int
            First sample, and the one after the last.
        """
        counts = np.zeros(self.values.shape[1], dtype=np.intp)
        if len(self.flat):
            counts[self.gap_channels] = self.flat[max(first - self.first, 0) : max(stop - self.first, 0)].sum(axis=0)
        return counts

    def part(self, start: int, stop: int) -> SampleBlock:
        """Return some of the samples; they share the memory of the block.

        Parameters
        ----------
        start, stop : int
            Rows of the block.
        """
        rows = slice(start, stop)
        return replace(
            self,
            values=self.values[rows],
            first=self.first + start,
            observed=self.observed[rows],
            gap_observed=self.gap_observed[rows],
            flat=self.flat[rows],
        )

    def observed_entries(self) -> NDArray[np.bool_] | None:
        """Tell which entries (time, channel) were observed; None where all were."""
        if self.observed.all() and not len(self.gap_channels):
            return None
        observed = np.repeat(self.observed[:, None], self.values.shape[1], axis=1)
        observed[:, self.gap_channels] = self.gap_observed
        return observed

    def of(self, values: Floats, observed: NDArray[np.bool_] | None, columns: NDArray[np.intp]) -> SampleBlock:
        """Return a block of some of the channels, with other values.

        Parameters
        ----------
        values : array (time, k)
            0 where a sample is missing.
        observed : bool array (time, k), or None
            None where all of them are observed.
        columns : int array (k)
            Channel of this block that each of them stands for.
        """
        gaps = (
            np.empty(0, dtype=np.intp) if observed is None else np.flatnonzero((~observed)[self.observed].any(axis=0))
        )
        flat = np.zeros((len(self.flat), values.shape[1]), dtype=bool)
        if len(self.flat):
            every = np.zeros((len(self.flat), self.values.shape[1]), dtype=bool)
            every[:, self.gap_channels] = self.flat
            flat = every[:, columns]
        gap_observed = np.empty((len(values), 0), dtype=bool) if observed is None else observed[:, gaps]
        return SampleBlock(values, self.first, self.observed, gaps, gap_observed, flat[:, gaps])

    def fill(self, weights: Filter) -> None:
        """Bridge every gap, in place.

        Parameters
        ----------
        weights : Filter
            That is applied next. The two ends of a gap of no more than two of its margins lie in every block in which the gap
            has any weight, so a longer one is not bridged: what is filtered does not depend on where a block begins.
        """
        longest = 2 * weights.margin
        if not self.observed.all():
            bridge(self.values, self.observed, longest=longest)
        width = max(1, BRIDGED_AT_ONCE // max(len(self.observed), 1))
        for start in range(0, len(self.gap_channels), width):
            columns = self.gap_channels[start : start + width]
            samples = self.values[:, columns]
            bridge(samples, self.gap_observed[:, start : start + width], longest=longest)
            self.values[:, columns] = samples

    def amounts(self, bins: Bins) -> NDArray[np.intp]:
        """Count the observed samples inside each bin.

        Parameters
        ----------
        bins : Bins

        Returns
        -------
        int array (bin, channel), or (bin, 1) where it is the same for all channels
        """
        starts, stops = bins.starts - self.first, bins.stops - self.first
        amounts = observed_amounts(self.observed[:, None], starts, stops)
        if len(self.gap_channels):
            amounts = np.repeat(amounts, self.values.shape[1], axis=1)
            amounts[:, self.gap_channels] = observed_amounts(self.gap_observed, starts, stops)
        return amounts

    def supported(
        self, weights: Filter, positions: NDArray[np.float64], share: float, *, short_gap: int = 0
    ) -> NDArray[np.bool_]:
        """Tell where enough of a filter lies on observed samples.

        Parameters
        ----------
        weights : Filter
        positions : array (position)
            Rising, in samples of the recording.
        share : float
            Smallest share of the absolute weight.
        short_gap : int
            Most samples of a gap that a straight line bridges well enough to count as observed.

        Returns
        -------
        bool array (position, channel), or (position, 1) where it is the same for all channels
        """
        if self.observed.all():
            enough = np.ones((len(positions), 1), dtype=bool)
        else:
            observed = _closed(self.observed[:, None], short_gap).astype(np.float32)
            enough = weights.support(observed, first=self.first, positions=positions) >= share - ROUNDING
        if len(self.gap_channels):
            enough = np.repeat(enough, self.values.shape[1], axis=1)
            observed = _closed(self.gap_observed, short_gap).astype(np.float32)
            support = weights.support(observed, first=self.first, positions=positions)
            enough[:, self.gap_channels] = support >= share - ROUNDING
        return enough


@dataclass(frozen=True)
class Bins:
    """Time bins in the recording's samples.

    Parameters
    ----------
    centres : array (bin)
        Position of each bin's centre, rising.
    starts, stops : int array (bin)
        First sample inside each bin, and the first after it.
    """

    centres: NDArray[np.float64]
    starts: NDArray[np.intp]
    stops: NDArray[np.intp]

    def part(self, start: int, stop: int) -> Bins:
        """Return some of the bins.

        Parameters
        ----------
        start, stop : int
            First bin, and the one after the last.
        """
        return Bins(self.centres[start:stop], self.starts[start:stop], self.stops[start:stop])


@dataclass(frozen=True)
class Reduced:
    """Samples of a block, reduced to bins.

    Parameters
    ----------
    values : array (bin, channel)
    weights : int array (bin, channel) or (bin, 1)
        Number of observed filtered samples behind each value; 0 where the bin is missing.
    stored : int array (bin, channel) or (bin, 1)
        Number of observed samples inside each bin, before any filter.
    events : int
        Number of threshold crossings, where these are counted.
    shared : int
        Number of those that half of the channels have at the same time.
    """

    values: Floats
    weights: NDArray[np.intp]
    stored: NDArray[np.intp]
    events: int = 0
    shared: int = 0


class Reduction(Protocol):
    """One use of a recording: what turns its samples into one value a bin.

    Attributes
    ----------
    margin : int
        Samples needed on either side of a bin.
    bytes_per_sample : int
        Memory that `reduce` needs for one sample of one channel.
    """

    @property
    def margin(self) -> int: ...  # noqa: D102
    @property
    def bytes_per_sample(self) -> int: ...  # noqa: D102

    def reduce(self, block: SampleBlock, bins: Bins) -> Reduced:
        """Reduce a block to bins.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; may be overwritten.
        bins : Bins
        """
        ...


def bridge(samples: Floats, observed: NDArray[np.bool_], *, longest: int) -> None:
    """Fill every gap, in place, by a straight line between the observed samples at its ends.

    A long gap, and one without an observed sample at one of its ends, holds the nearest observed sample; where a channel has
    none, 0.

    Parameters
    ----------
    samples : array (time, channel)
    observed : bool array (time) for all channels, or (time, channel)
    longest : int
        Most samples from one end of a gap to the other over which a line is drawn.
    """
    n_times = len(observed)
    if observed.ndim == 1:
        steps = np.diff(observed, prepend=True, append=True)
        for first, stop in np.flatnonzero(steps).reshape(-1, 2):
            before, after = samples[first - 1 : first], samples[stop : stop + 1]
            if len(before) and len(after) and stop - first < longest:
                share = (np.arange(1, stop - first + 1) / (stop - first + 1)).astype(samples.dtype)[:, None]
                samples[first:stop] = before + (after - before) * share
                continue
            middle = (first + stop + 1) // 2 if len(before) and len(after) else stop if len(before) else first
            samples[first:middle] = before
            samples[middle:stop] = after if len(after) else 0
        return
    times = np.arange(n_times)[:, None]
    before = np.maximum.accumulate(np.where(observed, times, -n_times), axis=0)
    after = np.minimum.accumulate(np.where(observed, times, 2 * n_times)[::-1], axis=0)[::-1]
    rows, columns = np.nonzero(~observed)
    left, right = before[rows, columns], after[rows, columns]
    has_left, has_right = left >= 0, right < n_times
    at_left = samples[np.where(has_left, left, 0), columns] * has_left
    at_right = samples[np.where(has_right, right, 0), columns] * has_right
    share = ((rows - left) / (right - left)).astype(samples.dtype)
    lined = has_left & has_right & (right - left <= longest)
    nearest = np.where(has_left & ((rows - left <= right - rows) | ~has_right), at_left, at_right)
    samples[rows, columns] = np.where(lined, at_left + (at_right - at_left) * share, nearest)


def interval_sums(
    values: NDArray[Any], starts: NDArray[np.intp], stops: NDArray[np.intp], *, dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Sum ``values[start:stop]`` for each interval; intervals may overlap or be empty.

    Parameters
    ----------
    values : array (time, channel)
    starts, stops : int array (interval)
        Between 0 and the number of times.
    dtype : dtype, optional
        Of the sums. Default: that of the values.

    Returns
    -------
    array (interval, channel)
    """
    dtype = values.dtype if dtype is None else dtype
    if len(values) == 0:
        return np.zeros((len(starts), values.shape[1]), dtype=dtype)
    pairs = np.stack([np.minimum(starts, len(values) - 1), np.minimum(stops, len(values) - 1)], axis=1).ravel()
    sums = np.add.reduceat(values, pairs, axis=0, dtype=dtype)[::2]
    # `reduceat` takes no index beyond the last row, so an interval that ends with the array lacks that row; and it gives
    # an empty interval the row at its start.
    sums = np.where((pairs[::2] < pairs[1::2])[:, None], sums, 0)
    return np.asarray(np.where(((stops == len(values)) & (starts < stops))[:, None], sums + values[-1], sums))


def observed_amounts(
    observed: NDArray[np.bool_], starts: NDArray[np.intp], stops: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Count the observed samples of each interval.

    Parameters
    ----------
    observed : bool array (time, channel) or (time, 1)
    starts, stops : int array (interval)
        Between 0 and the number of times.

    Returns
    -------
    int array (interval, channel), or (interval, 1) where it is the same for all channels
    """
    if observed.all():
        return np.asarray(np.maximum(stops - starts, 0)[:, None])
    return interval_sums(observed, starts, stops, dtype=np.intp)


def channel_medians(samples: Floats, observed: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Compute the median of each channel's observed samples.

    Parameters
    ----------
    samples : array (time, channel)
    observed : bool array (time, channel) or (time, 1), optional
        Default: all are.

    Returns
    -------
    array (channel)
        NaN where nothing was observed.
    """
    n_times, n_channels = samples.shape
    medians = np.full(n_channels, np.nan)
    if n_times == 0:
        return medians
    by_channel = np.empty((n_channels, n_times), dtype=samples.dtype)
    for first in range(0, n_times, TURNED_AT_ONCE):
        by_channel[:, first : first + TURNED_AT_ONCE] = samples[first : first + TURNED_AT_ONCE].T
    if observed is not None and not observed.all():
        for channel, there in enumerate(np.broadcast_to(observed, samples.shape).T):
            if there.any():
                medians[channel] = np.median(by_channel[channel, there])
        return medians
    # Looking for one place in the order is twice as fast as looking for two, as `numpy.median` does.
    middle = n_times // 2
    by_channel.partition(middle, axis=1)
    medians[:] = by_channel[:, middle]
    if n_times % 2 == 0:
        medians = (medians + by_channel[:, :middle].max(axis=1)) / 2
    return medians


def _closed(observed: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """Observed samples (time, channel), and those in gaps of no more than `longest` between observed ones."""
    if longest <= 0:
        return observed
    size = longest + 1
    padded = np.pad(observed.astype(np.uint8), ((size, size), (0, 0)))
    near = maximum_filter1d(padded, size, axis=0, mode="constant")
    return np.asarray(minimum_filter1d(near, size, axis=0, mode="constant", origin=-(1 - size % 2))[size:-size] > 0)
