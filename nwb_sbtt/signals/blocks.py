"""Stretches of a recording, and how each use of it turns them into one value a bin.

Unobserved samples never reach a filter. They take the value of the nearest observed sample of their channel, and a
filtered value counts as observed only where at least a given share (0.9 by default) of the filter's absolute weight lies
on observed samples. The end of a contiguous piece is treated in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.signals.filters import Filter
from nwb_sbtt.signals.voltages import crossings, hold

ROUNDING = 1e-5
REACH = 3
"""Margins of a filter that are read on either side: a held value may come from beyond the samples it is weighted with."""
SMALLEST_AMOUNT = 1e-3
"""Samples, weighted, below which there is nothing to take a mean of; the weight of one sample at the rim is 3e-4."""
HELD_AT_ONCE = 250_000
"""Entries for which `hold` computes places at once."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Block:
    """Samples of one contiguous piece and what of them was observed.

    Parameters
    ----------
    values : array (time, channel)
        Finite, 0 where nothing was observed; `fill` then holds the nearest observed value there.
    first : int
        Position of the first sample in the recording; may lie before the piece.
    rows : bool array (time)
        False where no channel was observed: outside the piece, in invalid times.
    holed : int array (k)
        Channels with further unobserved samples.
    holes : bool array (time, k)
        What is observed of these, `rows` included.
    """

    values: Floats
    first: int
    rows: NDArray[np.bool_]
    holed: NDArray[np.intp]
    holes: NDArray[np.bool_]

    def fill(self) -> None:
        """Hold the nearest observed value over every unobserved sample, in place."""
        if not self.rows.all():
            hold(self.values, self.rows)
        width = max(1, HELD_AT_ONCE // max(len(self.rows), 1))
        for start in range(0, len(self.holed), width):
            columns = self.holed[start : start + width]
            part = self.values[:, columns]
            hold(part, self.holes[:, start : start + width])
            self.values[:, columns] = part

    def supported(self, weights: Filter, positions: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
        """Where enough of the filter lies on observed samples: (position, channel), or (position, 1) for all channels."""
        if self.rows.all():
            ok = np.ones((len(positions), 1), dtype=bool)
        else:
            rows = self.rows[:, None].astype(np.float32)
            ok = weights.support(rows, first=self.first, positions=positions) >= share - ROUNDING
        if len(self.holed):
            ok = np.repeat(ok, self.values.shape[1], axis=1)
            holes = self.holes.astype(np.float32)
            ok[:, self.holed] = weights.support(holes, first=self.first, positions=positions) >= share - ROUNDING
        return ok


@dataclass(frozen=True)
class Bins:
    """Bins in the recording's samples: the position of each centre, and the first sample inside and the first after."""

    centres: NDArray[np.float64]
    lows: NDArray[np.intp]
    highs: NDArray[np.intp]

    def part(self, start: int, stop: int) -> Bins:
        """Bins `start` to `stop`."""
        return Bins(self.centres[start:stop], self.lows[start:stop], self.highs[start:stop])


class Reduction(Protocol):
    """One use of a recording.

    `margin` is the number of samples needed on either side of a bin; `bytes_per_sample` what `reduce` holds for one.
    `reduce` gives a value for each bin (bin, channel) and the number of observed filtered samples behind it, (bin,
    channel) or (bin, 1).
    """

    @property
    def margin(self) -> int: ...  # noqa: D102
    @property
    def bytes_per_sample(self) -> int: ...  # noqa: D102

    def reduce(self, block: Block, bins: Bins) -> tuple[Floats, NDArray[np.intp]]:
        """Values and weights of the bins; may overwrite the block."""
        ...


@dataclass(frozen=True)
class Decimated:
    """The band-limited signal at each bin's centre, less its slow part."""

    smooth: Filter
    slow: Filter
    slow_length: int
    support: float
    bytes_per_sample: int = 2

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return max(REACH * self.smooth.margin, (self.slow.margin + 2) * self.slow_length)

    def reduce(self, block: Block, bins: Bins) -> tuple[Floats, NDArray[np.intp]]:
        """Values in the recording's unit; weight 1 where observed."""
        slow = self._slow(block, bins.centres)
        block.fill()
        values = self.smooth.apply(block.values, first=block.first, positions=bins.centres) - slow
        return values, block.supported(self.smooth, bins.centres, self.support).astype(np.intp)

    def _slow(self, block: Block, centres: NDArray[np.float64]) -> Floats:
        """Mean of the observed samples around each centre, weighted by a Gaussian; 0 where there are none.

        The samples are added up in blocks that begin at multiples of their length, whatever is read.
        """
        length = self.slow_length
        first = -(-block.first // length)
        start = first * length - block.first
        n_blocks = (len(block.rows) - start) // length
        inside = slice(start, start + n_blocks * length)
        sums = block.values[inside].reshape(n_blocks, length, -1).sum(axis=1)
        counts = block.rows[inside].reshape(n_blocks, length, 1).sum(axis=1)
        positions = (centres - (length - 1) / 2) / length
        total = self.slow.apply(sums, first=first, positions=positions)
        amount = self.slow.apply(counts.astype(sums.dtype), first=first, positions=positions)
        if len(block.holed):
            # The lack is exactly 0 away from a hole, so that a hole changes no bit there.
            lack = counts - block.holes[inside].reshape(n_blocks, length, -1).sum(axis=1)
            amount = np.repeat(amount, total.shape[1], axis=1)
            amount[:, block.holed] -= self.slow.apply(lack.astype(sums.dtype), first=first, positions=positions)
        return np.asarray(np.divide(total, amount, out=np.zeros_like(total), where=amount > SMALLEST_AMOUNT))


@dataclass(frozen=True)
class BandPower:
    """Sum of the squared band signal, taken every `step` samples, over each bin."""

    band: Filter
    step: int
    support: float

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return REACH * self.band.margin

    @property
    def bytes_per_sample(self) -> int:
        """Bytes that `reduce` holds for one sample."""
        return 2 + 16 // self.step

    def reduce(self, block: Block, bins: Bins) -> tuple[Floats, NDArray[np.intp]]:
        """Sums of squares, and how many squares went into each."""
        block.fill()
        lattice = np.arange(-(-int(bins.lows.min()) // self.step), -(-int(bins.highs.max()) // self.step)) * self.step
        squares = self.band.apply(block.values, first=block.first, positions=lattice.astype(float)) ** 2
        ok = block.supported(self.band, lattice.astype(float), self.support)
        if not ok.all():
            squares *= ok
        starts, stops = np.searchsorted(lattice, bins.lows), np.searchsorted(lattice, bins.highs)
        return interval_sums(squares, starts, stops), _amounts(ok, starts, stops)


@dataclass(frozen=True)
class Crossings:
    """Number of threshold crossings in each bin; a channel whose threshold is NaN is unobserved."""

    band: Filter
    threshold: NDArray[np.float64]
    dead: int
    support: float
    bytes_per_sample: int = 9

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return REACH * self.band.margin + self.dead + 1

    def reduce(self, block: Block, bins: Bins) -> tuple[Floats, NDArray[np.intp]]:
        """Counts, and how many samples were watched in each bin."""
        block.fill()
        first = int(bins.lows.min()) - self.dead - 1
        positions = np.arange(first, max(int(bins.highs.max()), first + 1))
        filtered = self.band.apply(block.values, first=block.first, positions=positions.astype(float))
        ok = block.supported(self.band, positions.astype(float), self.support)
        threshold = np.where(np.isfinite(self.threshold), self.threshold, -np.inf).astype(filtered.dtype)
        rows, columns = crossings(filtered, threshold, dead=self.dead)
        if not ok.all():
            at = columns if ok.shape[1] > 1 else 0
            watched = ok[rows, at] & ok[rows - 1, at]
            rows, columns = rows[watched], columns[watched]
        n_channels = filtered.shape[1]
        lows, highs = bins.lows - first, bins.highs - first
        starts, stops = np.searchsorted(rows, lows), np.searchsorted(rows, highs)
        sizes = np.maximum(stops - starts, 0)
        event = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes - starts, sizes)
        places = np.repeat(np.arange(len(sizes)), sizes) * n_channels + columns[event]
        counts = np.bincount(places, minlength=len(sizes) * n_channels).reshape(len(sizes), n_channels)
        return counts.astype(np.float32), _amounts(ok, lows, highs) * np.isfinite(self.threshold)


def interval_sums(values: NDArray[Any], starts: NDArray[np.intp], stops: NDArray[np.intp]) -> NDArray[Any]:
    """Sum of ``values[start:stop]`` for each pair; intervals may overlap or be empty."""
    if len(values) == 0:
        return np.zeros((len(starts), values.shape[1]), dtype=values.dtype)
    pairs = np.stack([np.minimum(starts, len(values) - 1), np.minimum(stops, len(values) - 1)], axis=1).ravel()
    sums = np.add.reduceat(values, pairs, axis=0)[::2]
    # The last row is left out by an interval that ends with the array, and one row is taken by an empty interval.
    sums = np.where((pairs[::2] < pairs[1::2])[:, None], sums, 0)
    return np.asarray(np.where(((stops == len(values)) & (starts < stops))[:, None], sums + values[-1], sums))


def _amounts(ok: NDArray[np.bool_], starts: NDArray[np.intp], stops: NDArray[np.intp]) -> NDArray[np.intp]:
    if ok.all():
        return np.asarray(np.maximum(stops - starts, 0)[:, None])
    return interval_sums(ok.astype(np.intp), starts, stops)
