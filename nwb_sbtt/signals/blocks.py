"""Blocks of a recording, their missing samples, and the interface of a use of a recording that is computed block by block.

Missing samples never reach a filter. They take the value of the nearest observed sample of their channel, and a filtered
value counts as observed only where at least a given share (0.9 by default) of the filter's absolute weight lies on observed
samples. The end of a contiguous part of a recording is treated in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.signals.filters import Filter, Floats

ROUNDING = 1e-5
"""By how much a share of weights may fall below the one wanted through rounding."""
MARGINS_READ = 3
"""Margins of a filter that are read on either side: a held value may come from beyond the samples it is weighted with."""
HELD_AT_ONCE = 250_000
"""Entries for which `hold` looks for the nearest observed sample at once."""


@dataclass(frozen=True)
class SampleBlock:
    """Samples of one contiguous part of a recording, and which of them were observed.

    Parameters
    ----------
    values : array (time, channel)
        Finite, 0 where a sample is missing; after `fill` the nearest observed value there.
    first : int
        Position of the first sample in the recording; may lie before the part.
    observed : bool array (time)
        False where no channel was observed: outside the part, in invalid times.
    gap_channels : int array (k)
        Channels with further missing samples.
    gap_observed : bool array (time, k)
        Where these channels were observed; False wherever `observed` is.
    """

    values: Floats
    first: int
    observed: NDArray[np.bool_]
    gap_channels: NDArray[np.intp]
    gap_observed: NDArray[np.bool_]

    def fill(self) -> None:
        """Hold the nearest observed value over every missing sample, in place."""
        if not self.observed.all():
            hold(self.values, self.observed)
        width = max(1, HELD_AT_ONCE // max(len(self.observed), 1))
        for start in range(0, len(self.gap_channels), width):
            columns = self.gap_channels[start : start + width]
            samples = self.values[:, columns]
            hold(samples, self.gap_observed[:, start : start + width])
            self.values[:, columns] = samples

    def supported(self, weights: Filter, positions: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
        """Tell where enough of a filter lies on observed samples.

        Parameters
        ----------
        weights : Filter
        positions : array (position)
            Rising, in samples of the recording.
        share : float
            Smallest share of the absolute weight.

        Returns
        -------
        bool array (position, channel), or (position, 1) where it is the same for all channels
        """
        if self.observed.all():
            enough = np.ones((len(positions), 1), dtype=bool)
        else:
            observed = self.observed[:, None].astype(np.float32)
            enough = weights.support(observed, first=self.first, positions=positions) >= share - ROUNDING
        if len(self.gap_channels):
            enough = np.repeat(enough, self.values.shape[1], axis=1)
            observed = self.gap_observed.astype(np.float32)
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

    def reduce(self, block: SampleBlock, bins: Bins) -> tuple[Floats, NDArray[np.intp]]:
        """Reduce a block to bins.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; may be overwritten.
        bins : Bins

        Returns
        -------
        values : array (bin, channel)
        weights : int array (bin, channel) or (bin, 1)
            Number of observed filtered samples behind each value; 0 where the bin is missing.
        """
        ...


def hold(samples: Floats, observed: NDArray[np.bool_]) -> None:
    """Give every missing sample, in place, the value of the nearest observed one of its channel; 0 where there is none.

    Parameters
    ----------
    samples : array (time, channel)
    observed : bool array (time) for all channels, or (time, channel)
    """
    n_times = len(observed)
    if observed.ndim == 1:
        steps = np.diff(observed, prepend=True, append=True)
        for first, stop in np.flatnonzero(steps).reshape(-1, 2):
            before, after = samples[first - 1 : first], samples[stop : stop + 1]
            middle = (first + stop + 1) // 2 if len(before) and len(after) else stop if len(before) else first
            samples[first:middle] = before
            samples[middle:stop] = after if len(after) else 0
        return
    times = np.arange(n_times)[:, None]
    before = np.maximum.accumulate(np.where(observed, times, -n_times), axis=0)
    after = np.minimum.accumulate(np.where(observed, times, 2 * n_times)[::-1], axis=0)[::-1]
    nearest = np.where(times - before <= after - times, before, after)
    rows, columns = np.nonzero(~observed)
    source = nearest[rows, columns]
    exists = (source >= 0) & (source < n_times)
    samples[rows, columns] = np.where(exists, samples[np.where(exists, source, 0), columns], 0)


def interval_sums(values: NDArray[Any], starts: NDArray[np.intp], stops: NDArray[np.intp]) -> NDArray[Any]:
    """Sum ``values[start:stop]`` for each interval; intervals may overlap or be empty.

    Parameters
    ----------
    values : array (time, channel)
    starts, stops : int array (interval)
        Between 0 and the number of times.

    Returns
    -------
    array (interval, channel)
    """
    if len(values) == 0:
        return np.zeros((len(starts), values.shape[1]), dtype=values.dtype)
    pairs = np.stack([np.minimum(starts, len(values) - 1), np.minimum(stops, len(values) - 1)], axis=1).ravel()
    sums = np.add.reduceat(values, pairs, axis=0)[::2]
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
    return interval_sums(observed.astype(np.intp), starts, stops)
