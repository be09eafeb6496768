"""Sampled voltages as contiguous pieces on the session clock, read block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.threads import in_threads, split_range
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.clock import GAP, SampleClock
from nwb_sbtt.io.read.masks import StoredMask, control_allows
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.signals.blocks import Bins, Block

KNOTS = 2**20
"""Up to this many timestamps are kept; of longer recordings every so-many-th, with the samples between evenly spaced."""
TIMES_AT_ONCE = 2**20
LEVEL_SAMPLES = 64
EDGE_DECIMALS = 4
"""A sample within this fraction (decimals) of a sampling period of a bin's edge lies on it."""


CONVERTED = 1 << 17
"""Entries converted at once, so that they are still in the cache when the level is taken off."""


@dataclass(frozen=True)
class Piece:
    """Samples `first` to `stop` without a gap, and the times of some of them."""

    first: int
    stop: int
    knots: NDArray[np.float64]
    times: NDArray[np.float64]
    rate: float

    @property
    def span(self) -> tuple[float, float]:
        """Time of the first sample, and the end of the last sample's period, in seconds."""
        last = self.times[-1] + (self.stop - 1 - self.knots[-1]) / self.rate
        return float(self.times[0]), float(last + 1 / self.rate)

    def positions(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position in samples of moments in seconds; evenly spaced beyond the ends."""
        before = self.knots[0] + (times - self.times[0]) * self.rate
        after = self.knots[-1] + (times - self.times[-1]) * self.rate
        inside = np.interp(times, self.times, self.knots)
        return np.asarray(np.where(times < self.times[0], before, np.where(times > self.times[-1], after, inside)))

    def moments(self, first: int, stop: int) -> NDArray[np.float64]:
        """Times of samples `first` to `stop` in seconds."""
        places = np.arange(first, stop, dtype=np.float64)
        beyond = np.maximum(places - self.knots[-1], 0) / self.rate
        return np.asarray(np.interp(places, self.knots, self.times) + beyond)

    def edges(self, times: NDArray[np.float64]) -> NDArray[np.intp]:
        """First sample at or after each moment, kept inside the piece."""
        edges = np.ceil(np.round(self.positions(times), EDGE_DECIMALS))
        return np.clip(edges, self.first, self.stop).astype(np.intp)

    def bins(self, starts: NDArray[np.float64], width: float) -> Bins:
        """Bins that begin at `starts` (seconds), in samples."""
        centres = self.positions(starts + width / 2)
        return Bins(np.round(centres, EDGE_DECIMALS), self.edges(starts), self.edges(starts + width))


def find_pieces(clock: SampleClock) -> tuple[Piece, ...]:
    """Split a series at the gaps of its timestamps; a series with a rate is one piece.

    Timestamps are read in parts, so that their number is not limited by memory. Samples without a valid time belong to no
    piece.

    Raises
    ------
    DataError
        If the sampling period is not known.
    """
    if clock.period is None:
        raise DataError(f"a series of {clock.n_samples} samples without a rate has no sampling period to filter by")
    rate = 1 / clock.period
    if clock.timestamps is None:
        return (Piece(0, clock.n_samples, np.zeros(1), np.array([clock.starting_time]), clock.rate),)
    firsts, lasts, knots, times = _scan(clock, clock.period)
    pieces = []
    for first, last in zip(firsts, lasts, strict=True):
        low, high = np.searchsorted(knots, [first, last + 1])
        pieces.append(Piece(int(first), int(last) + 1, knots[low:high].astype(float), times[low:high], rate))
    return tuple(pieces)


def _scan(
    clock: SampleClock, period: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """First and last sample of every piece, and the samples whose times are kept, with these."""
    every = max(1, clock.n_samples // KNOTS)
    firsts, lasts, knots, times = [], [], [], []
    previous = np.nan
    for start in range(0, clock.n_samples, TIMES_AT_ONCE):
        part = clock.times(start, min(start + TIMES_AT_ONCE, clock.n_samples))
        steps = np.diff(part, prepend=previous)
        joined = (steps > 0) & (steps <= GAP * period)
        known = np.isfinite(part)
        begins = known & ~joined
        if np.isfinite(previous) and not joined[0]:
            lasts.append(np.array([start - 1]))
        firsts.append(start + np.flatnonzero(begins))
        ends = np.flatnonzero(known[:-1] & ~joined[1:])
        lasts.append(start + ends)
        kept = known & ((start + np.arange(len(part))) % every == 0)
        kept[begins] = True
        kept[ends] = True
        kept[-1] = known[-1]
        knots.append(start + np.flatnonzero(kept))
        times.append(part[kept])
        previous = part[-1]
    if np.isfinite(previous):
        lasts.append(np.array([clock.n_samples - 1]))
    return np.concatenate(firsts), np.concatenate(lasts), np.concatenate(knots), np.concatenate(times)


@dataclass(frozen=True)
class Recording:
    """A stored array of voltages (time, channel) with everything that says which samples were observed.

    `channel_rows` are the channels' rows in their table; `dtype` is that of the arithmetic; `invalid` holds intervals
    (k, 2) in seconds; `masks` are stored masks of the same table.
    """

    series: Any
    config: ReadConfig
    slabs: Slabs
    pieces: tuple[Piece, ...]
    channel_rows: NDArray[np.intp]
    dtype: np.dtype[Any]
    invalid: NDArray[np.float64]
    masks: tuple[StoredMask, ...] = ()

    def only(self, keep: NDArray[np.bool_]) -> Recording:
        """The same recording with some of its channels."""
        return replace(
            self,
            slabs=Slabs(self.series.data, columns=np.flatnonzero(keep)),
            channel_rows=self.channel_rows[keep],
        )

    @cached_property
    def level(self) -> NDArray[Any]:
        """First observed value of each channel, 0 where it comes late; taken off everywhere, so that offsets cost no digits."""
        piece = self.pieces[0]
        low, high = piece.first, min(piece.first + LEVEL_SAMPLES, piece.stop)
        stored = self.slabs.read(low, high)
        values = stored.astype(self.dtype)
        missing = self._missing(piece, values, stored, low)
        seen = np.repeat(self._rows(piece, low, high)[:, None], values.shape[1], axis=1)
        if missing is not None:
            seen &= ~missing
        return np.where(seen.any(axis=0), values[seen.argmax(axis=0), np.arange(values.shape[1])], 0).astype(self.dtype)

    @cached_property
    def _space(self) -> list[NDArray[Any]]:
        """Memory of the last block: fresh pages for every block cost as much time as the filters do."""
        return []

    def _room(self, n_rows: int) -> NDArray[Any]:
        if not self._space or len(self._space[0]) < n_rows:
            self._space.clear()
            self._space.append(np.empty((n_rows, self.slabs.n_columns), dtype=self.dtype))
        return self._space[0][:n_rows]

    def block(self, piece: Piece, first: int, stop: int) -> Block:
        """Samples `first` to `stop`, which may reach beyond the piece, less the recording's `level`.

        The next block takes the memory of this one.
        """
        low, high = max(first, piece.first), min(stop, piece.stop)
        inside = slice(low - first, max(high, low) - first)
        values = self._room(stop - first)
        stored = self.slabs.read(low, max(high, low))
        _convert(stored, self.level, values[inside])
        rows = np.zeros(stop - first, dtype=bool)
        rows[inside] = self._rows(piece, low, high)
        missing = self._missing(piece, values[inside], stored, low)
        if missing is None:
            holed, holes = np.empty(0, dtype=np.intp), np.empty((len(rows), 0), dtype=bool)
        else:
            values[inside][missing] = 0
            holed = np.flatnonzero(missing.any(axis=0))
            holes = np.zeros((len(rows), len(holed)), dtype=bool)
            holes[inside] = ~missing[:, holed]
            holes &= rows[:, None]
        if not rows.all():
            values[~rows] = 0
        return Block(values, first, rows, holed, holes)

    def _rows(self, piece: Piece, low: int, high: int) -> NDArray[np.bool_]:
        rows = control_allows(self.series, self.config, first=low, stop=max(high, low))
        invalid = piece.edges(self.invalid.ravel()).reshape(-1, 2)
        for start, stop in invalid[(invalid[:, 1] > low) & (invalid[:, 0] < high)]:
            rows[max(start - low, 0) : max(stop - low, 0)] = False
        return rows

    def _missing(self, piece: Piece, values: NDArray[Any], stored: NDArray[Any], low: int) -> NDArray[np.bool_] | None:
        """Samples missing one by one, (time, channel); None where there are none."""
        missing = None
        if stored.dtype.kind == "f" and not np.isfinite(values.sum(dtype=np.float64)):
            missing = ~np.isfinite(values)
        if self.config.sentinel is not None:
            sentinels = stored == self.config.sentinel
            missing = sentinels if missing is None else missing | sentinels
        for mask in self.masks:
            hidden = mask.hidden(piece.moments(low, low + len(stored)), self.channel_rows)
            missing = hidden if missing is None else missing | hidden
        return missing if missing is not None and missing.any() else None


def _convert(stored: NDArray[Any], level: NDArray[Any], into: NDArray[Any]) -> None:
    """Stored numbers (time, channel) less the level of each channel, in the type of the result.

    One subtraction across types goes through a buffer of numpy's, which takes four times as long.
    """
    step = max(CONVERTED // max(stored.shape[1], 1), 1)

    def convert(rows: range) -> None:
        for first in range(rows.start, rows.stop, step):
            part = slice(first, min(first + step, rows.stop))
            np.copyto(into[part], stored[part], casting="unsafe")
            into[part] -= level

    in_threads(convert, split_range(0, len(stored), size=step))
