"""Sampled voltages as contiguous pieces on the session clock, read block by block with what of them was observed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.intervals import Intervals
from nwb_sbtt.data.threads import in_threads, split_range
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.clock import GAP, SampleClock
from nwb_sbtt.io.read.masks import StoredMask, control_allows
from nwb_sbtt.io.read.runs import Runs, SpacedSlabs
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.signals.blocks import Bins, SampleBlock, channel_medians
from nwb_sbtt.signals.flat import SHORTEST_LIMIT, FlatRule, may_be_flat, measure, shortest_flicker
from nwb_sbtt.signals.notch import Notch
from nwb_sbtt.signals.reference import FEWEST, Montage

LONGEST_LOSS = 1.0
"""Seconds; samples lost in a longer gap are not counted: the recording goes on in another piece."""
EVEN_STEP, MOSTLY = 0.1, 0.9
"""Share of a sampling period by which steps may differ from it, in so large a share of them, for lost samples to be counted."""
BETWEEN, FEW_PERIODS = 0.3, 4
"""Share of a sampling period by which a gap may differ from a whole number of them, unless it is longer than a few."""
MOST_KNOTS = 2**20
"""Up to this many timestamps are kept; of longer recordings every n-th, with the samples between evenly spaced."""
MOST_SHORT, SHORTEST = 100, 16
"""Number of pieces from which on they must have at least so many samples on average."""
TIMES_AT_ONCE = 2**20
"""Timestamps read at once."""
LEVEL_SAMPLES = 64
"""Samples at the start of a recording among which the first observed one of each channel is looked for."""
EDGE_DECIMALS = 4
"""A sample within this fraction (decimals) of a sampling period of a bin's edge lies on it."""
ENTRIES_AT_ONCE = 1 << 17
"""Entries converted at once, so that they are still in the cache when the level is subtracted."""
N_PARTS = 20
PART_SECONDS = 0.25
"""Parts, spread over a recording, by which all of it is judged, and how long each is."""
FEWEST_IN_PART = 256
"""Least samples of a part by which runs of identical samples are judged."""
USUAL_CONTEXT = 64
"""Samples on either side of a part by which runs of identical samples are told from those of noise, unless steps are coarse."""
KEPT = 0.25
"""Share of the memory limit that parts may take which are needed more than once, before all of a recording is read."""


@dataclass(frozen=True)
class Piece:
    """A part of a recording without a gap.

    Parameters
    ----------
    first, stop : int
        Samples `first` to `stop` − 1.
    knots : array (knot)
        Samples whose times are known, rising; the samples between two of them are evenly spaced.
    times : array (knot)
        Seconds on the session clock.
    rate : float
        Samples per second, beyond the last knot.
    """

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
        """Convert times to positions, evenly spaced beyond the ends of the piece.

        Parameters
        ----------
        times : array
            Seconds on the session clock.

        Returns
        -------
        array
            In samples of the recording, with fractions.
        """
        before = self.knots[0] + (times - self.times[0]) * self.rate
        after = self.knots[-1] + (times - self.times[-1]) * self.rate
        inside = np.interp(times, self.times, self.knots)
        return np.asarray(np.where(times < self.times[0], before, np.where(times > self.times[-1], after, inside)))

    def sample_times(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the times of samples `first` to `stop` − 1, in seconds on the session clock.

        Parameters
        ----------
        first, stop : int
            First sample, and the one after the last.

        Returns
        -------
        array (sample)
            Seconds.
        """
        samples = np.arange(first, stop, dtype=np.float64)
        beyond = np.maximum(samples - self.knots[-1], 0) / self.rate
        return np.asarray(np.interp(samples, self.knots, self.times) + beyond)

    def edges(self, times: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the first sample at or after each time (seconds on the session clock), limited to the piece.

        Parameters
        ----------
        times : array (time)
            Seconds on the session clock.

        Returns
        -------
        int array (time)
            Numbers of samples.
        """
        edges = np.ceil(np.round(self.positions(times), EDGE_DECIMALS))
        return np.clip(edges, self.first, self.stop).astype(np.intp)

    def bins(self, starts: NDArray[np.float64], width: float) -> Bins:
        """Convert bins to samples of the recording.

        Parameters
        ----------
        starts : array (bin)
            Seconds on the session clock.
        width : float
            Seconds.
        """
        centres = self.positions(starts + width / 2)
        return Bins(np.round(centres, EDGE_DECIMALS), self.edges(starts), self.edges(starts + width))


def find_pieces(clock: SampleClock, name: str) -> tuple[tuple[Piece, ...], Runs | None]:
    """Split a series at the long gaps of its timestamps; a series with a rate is one piece.

    Samples that are lost in a short gap are counted as missing ones of their piece, as if they were stored as NaN. Timestamps
    are read in parts, so that their number is not limited by memory. Samples without a valid time belong to no piece.

    Parameters
    ----------
    clock : SampleClock
    name : str
        Of the series, for errors.

    Returns
    -------
    pieces : tuple of Piece
    runs : Runs, or None
        Where stored samples lie in the pieces; None where samples of these are the rows of the stored array.

    Raises
    ------
    DataError
        If the sampling period is not known, or the pieces are too short and too many to be filtered.
    """
    if clock.period is None:
        raise DataError(
            f"a series of {clock.n_samples} samples without a rate has no sampling period, so it cannot be filtered; "
            "store its rate"
        )
    if clock.timestamps is None:
        return (Piece(0, clock.n_samples, np.zeros(1), np.array([clock.starting_time]), clock.rate),), None
    firsts, lasts, knots, times = _scan(clock, clock.period)
    lost = _lost_samples(firsts, lasts, knots, times, period=clock.period)
    n_pieces = 1 + int((lost < 0).sum())
    if n_pieces > MOST_SHORT and n_pieces * SHORTEST > clock.n_samples:
        rounded = "" if clock.rounded_to is None else f"; they are rounded to {clock.rounded_to}"
        raise DataError(
            f"the timestamps of {name!r} split its {clock.n_samples} samples into {n_pieces} parts without a gap, "
            f"which are too short to be filtered: steps differ from the sampling period of {clock.period:.3g} s by "
            f"more than half of it{rounded}; expected evenly spaced samples with few gaps: store timestamps in double "
            "precision (float64), or a rate and a starting time, with lost samples as NaN"
        )
    runs = None
    if (lost >= 0).any():
        lengths = lasts + 1 - firsts
        starts = np.cumsum(np.concatenate([[0], lengths[:-1] + np.maximum(lost, 0)]))
        runs = Runs(starts, firsts, lengths)
        moved = (starts - firsts)[np.searchsorted(firsts, knots, side="right") - 1]
        knots, lasts, firsts = knots + moved, starts + lengths - 1, starts
    begins = np.concatenate([[True], lost < 0])
    ends = np.concatenate([lost < 0, [True]])
    pieces = []
    for first, last in zip(firsts[begins], lasts[ends], strict=True):
        low, high = np.searchsorted(knots, [first, last + 1])
        pieces.append(
            Piece(int(first), int(last) + 1, knots[low:high].astype(float), times[low:high], 1 / clock.period)
        )
    return tuple(pieces), runs


def _lost_samples(
    firsts: NDArray[np.intp],
    lasts: NDArray[np.intp],
    knots: NDArray[np.intp],
    times: NDArray[np.float64],
    *,
    period: float,
) -> NDArray[np.intp]:
    """Number of samples (gap) that were lost in each gap between runs; −1 where it is too long, or cannot be told.

    Of a clock whose steps are not even, as those of events, no number can be told.
    """
    steps = np.diff(times) / (np.diff(knots) * period)
    inside = ~np.isin(knots[1:], firsts)
    if not inside.any() or (np.abs(steps[inside] - 1) <= EVEN_STEP).mean() < MOSTLY:
        return np.full(len(firsts) - 1, -1)
    gaps = times[np.searchsorted(knots, firsts[1:])] - times[np.searchsorted(knots, lasts[:-1])]
    periods = gaps / period
    whole = (np.abs(periods - np.round(periods)) <= BETWEEN) | (periods >= FEW_PERIODS)
    known = (gaps > 0) & (gaps <= LONGEST_LOSS) & whole
    return np.where(known, np.round(periods) - 1, -1).astype(np.intp)


@dataclass(frozen=True)
class Recording:
    """A stored array of voltages (time, channel), and what tells which samples were observed.

    Parameters
    ----------
    series : pynwb.ecephys.ElectricalSeries
    config : ReadConfig
    slabs : Slabs or SpacedSlabs
        The stored array.
    pieces : tuple of Piece
    channel_rows : int array (channel)
        Row of each channel in the table of electrodes.
    ids : array (channel)
        Of the table of electrodes.
    volts : array (channel)
        Volts per stored unit.
    dtype : dtype
        Of the arithmetic.
    invalid : array (interval, 2)
        Invalid times, in seconds on the session clock.
    masks : tuple of StoredMask
        Of the same table.
    observed_intervals : tuple of arrays (interval, 2), optional
        When each channel was sampled, in seconds on the session clock; None: always.
    montage : Montage, optional
        What voltages are measured against; None: they are as stored. Where there is one, the arrays above are of the columns
        that it needs, and blocks hold its outputs.
    notch : Notch, optional
        Takes line noise out of blocks.
    runs : Runs, optional
        Where stored samples lie among the samples of the pieces; None: these are the rows of the stored array.
    """

    series: Any
    config: ReadConfig
    slabs: Slabs | SpacedSlabs
    pieces: tuple[Piece, ...]
    channel_rows: NDArray[np.intp]
    ids: NDArray[np.generic]
    volts: NDArray[np.float64]
    dtype: np.dtype[Any]
    invalid: Intervals
    masks: tuple[StoredMask, ...] = ()
    observed_intervals: tuple[Intervals, ...] | None = None
    montage: Montage | None = None
    notch: Notch | None = None
    runs: Runs | None = None

    def only(self, keep: NDArray[np.bool_]) -> Recording:
        """Return the same recording with some of its channels, and what these are measured against."""
        montage = self.montage
        if montage is not None:
            partners = montage.partners[keep] if len(montage.partners) else montage.partners
            montage = replace(montage, outputs=montage.outputs[keep], partners=partners)
            keep = montage.needed
            montage = montage.of(montage.outputs, partners, keep)
        return self._of_columns(keep, montage)

    def without(self, bad: NDArray[np.bool_]) -> Recording:
        """Return the same recording without some of its columns, of which nothing is measured against any.

        Parameters
        ----------
        bad : bool array (column)
        """
        montage = self.montage
        if montage is not None:
            good = ~self.of_outputs(bad)
            partners = montage.partners[good] if len(montage.partners) else montage.partners
            montage = montage.of(montage.outputs[good], partners, ~bad)
        return self._of_columns(~bad, montage)

    def of_outputs(self, columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which channels (channel) are made of some of the columns, themselves or the other of their pair.

        Parameters
        ----------
        columns : bool array (column)
        """
        if self.montage is None:
            return columns
        of_channels = columns[self.montage.outputs]
        return of_channels | columns[self.montage.partners] if len(self.montage.partners) else of_channels

    def _of_columns(self, keep: NDArray[np.bool_], montage: Montage | None) -> Recording:
        selected = replace(
            self,
            slabs=self.slabs.only(np.flatnonzero(keep)),
            channel_rows=self.channel_rows[keep],
            ids=self.ids[keep],
            volts=self.volts[keep],
            observed_intervals=None
            if self.observed_intervals is None
            else tuple(self.observed_intervals[channel] for channel in np.flatnonzero(keep)),
            montage=montage,
        )
        # Channels are measured each by itself, so what is known of them stays known.
        selected._flat_rules.extend(rule.of(keep) for rule in self._flat_rules)
        return selected

    @property
    def bytes_per_sample(self) -> int:
        """Memory that a block takes for one sample of one channel."""
        finding_gaps = (
            self.slabs.dtype.kind == "f"
            or self.config.missing_value is not None
            or bool(self.masks)
            or self.observed_intervals is not None
        )
        finding_flat = 3 if self.config.electrical.mask_flat else 0
        referencing = 0 if self.montage is None else 2 * self.dtype.itemsize + 3
        own = 3 * self.slabs.dtype.itemsize + self.dtype.itemsize
        return own + (10 if finding_gaps else 0) + finding_flat + referencing

    @property
    def margin(self) -> int:
        """Samples that are read on either side of a block, for what is done before any filter."""
        return (0 if self.montage is None else self.montage.margin) + (0 if self.notch is None else self.notch.margin)

    def parts(self, length: int) -> Iterator[tuple[Piece, int, int]]:
        """Spread parts evenly over the recording.

        Parameters
        ----------
        length : int
            Samples in a part; fewer where a piece is shorter.

        Yields
        ------
        piece, first, stop
            Samples `first` to `stop` − 1 of the piece.
        """
        lengths = np.array([piece.stop - piece.first for piece in self.pieces])
        ends = np.cumsum(lengths)
        for share in (np.arange(N_PARTS) + 0.5) / N_PARTS:
            # The middle of the part, counted over all pieces, and then in the samples of its piece.
            middle = int(share * ends[-1])
            i = int(np.searchsorted(ends, middle, side="right"))
            piece = self.pieces[i]
            middle += piece.first - int(ends[i] - lengths[i])
            first = int(np.clip(middle - length // 2, piece.first, max(piece.stop - length, piece.first)))
            yield piece, first, min(first + length, piece.stop)

    def keep_parts(self, margin: int) -> None:
        """Keep the parts by which all of the recording is judged in memory, where there is enough, until `forget_parts`.

        Parameters
        ----------
        margin : int
            Samples that are needed on either side of them.
        """
        around = self.margin + margin + USUAL_CONTEXT
        length = max(int(PART_SECONDS * self.pieces[0].rate), 1)
        ranges = [(first - around, stop + around) for _, first, stop in self.parts(length)]
        self.slabs.keep(ranges, limit=KEPT * self.config.memory_limit)

    def forget_parts(self) -> None:
        """Free the memory of `keep_parts`."""
        self.slabs.keep((), limit=0)

    @cached_property
    def level(self) -> NDArray[Any]:
        """First observed value (channel) of the recording, in stored units; 0 where it comes late.

        It is subtracted from all samples, so that a constant offset costs no digits of the arithmetic.
        """
        piece = self.pieces[0]
        first, stop = piece.first, min(piece.first + LEVEL_SAMPLES, piece.stop)
        flat = self._flat(piece, first, stop)
        stored = self.slabs.read(first, stop)
        values = stored.astype(self.dtype)
        observed = np.repeat(self._observed_samples(piece, first, stop)[:, None], values.shape[1], axis=1)
        missing = self._missing_entries(piece, values, stored, first)
        for entries in (missing, flat):
            if entries is not None:
                observed &= ~entries
        levels = values[observed.argmax(axis=0), np.arange(values.shape[1])]
        return np.where(observed.any(axis=0), levels, 0).astype(self.dtype)

    @cached_property
    def _usual(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """What parts of the recording show: medians (column) above `level`, in stored units, 0 where nothing was observed;
        and how many electrodes (group) are observed together, where any reference can be taken.
        """
        groups = np.zeros(self.slabs.n_columns, dtype=np.intp) if self.montage is None else self.montage.groups
        members = (groups[:, None] == np.unique(groups)).astype(np.float32)
        medians, together, moments = [], np.zeros(members.shape[1]), np.zeros(members.shape[1])
        for piece, first, stop in self.parts(max(int(PART_SECONDS * self.pieces[0].rate), 1)):
            block = self.stored(piece, first, stop)
            observed = block.observed_entries()
            medians.append(channel_medians(block.values, observed))
            if observed is None:
                counts = np.repeat(members.sum(axis=0)[None], stop - first, axis=0)
            else:
                counts = observed.astype(np.float32) @ members
            # Each observed entry counts, not each moment: it is entries that a reference is taken off.
            together += np.where(counts >= FEWEST, counts**2, 0).sum(axis=0)
            moments += np.where(counts >= FEWEST, counts, 0).sum(axis=0)
        of_parts = np.array(medians)
        known = np.flatnonzero(np.isfinite(of_parts).any(axis=0))
        usual = np.zeros(of_parts.shape[1], dtype=self.dtype)
        usual[known] = np.nanmedian(of_parts[:, known], axis=0)
        return usual, together / np.maximum(moments, 1)

    @property
    def electrodes_in_references(self) -> NDArray[np.float64]:
        """Mean number (group) of electrodes that a common reference is taken over; 0 where there never is one."""
        return self._usual[1]

    def block(self, piece: Piece, first: int, stop: int) -> SampleBlock:
        """Read samples `first` to `stop` − 1, less the recording's `level` and what they are measured against.

        The next block reuses the memory of this one.

        Parameters
        ----------
        piece : Piece
        first, stop : int
            They may lie beyond the piece, where nothing was observed.
        """
        level = None if self.montage is None else self._usual[0]
        block = self.stored(piece, first - self.margin, stop + self.margin)
        if self.montage is not None and level is not None:
            block = self.montage.apply(block, level)
        return block if self.notch is None else self.notch.apply(block)

    def stored(self, piece: Piece, first: int, stop: int) -> SampleBlock:
        """Read samples `first` to `stop` − 1, less the recording's `level`.

        The next block reuses the memory of this one.

        Parameters
        ----------
        piece : Piece
        first, stop : int
            They may lie beyond the piece, where nothing was observed.
        """
        low, high = max(first, piece.first), min(stop, piece.stop)
        in_piece = slice(low - first, max(high, low) - first)
        values = self._memory(stop - first)
        level, flat = self.level, self._flat(piece, low, max(high, low))
        stored = self.slabs.read(low, max(high, low))
        _subtract_level(stored, level, values[in_piece])
        observed = np.zeros(stop - first, dtype=bool)
        observed[in_piece] = self._observed_samples(piece, low, high)
        missing = self._missing_entries(piece, values[in_piece], stored, low)
        if flat is not None:
            missing = flat if missing is None else missing | flat
        if missing is None:
            gap_channels = np.empty(0, dtype=np.intp)
            gap_observed = np.empty((len(observed), 0), dtype=bool)
        else:
            values[in_piece][missing] = 0
            gap_channels = np.flatnonzero(missing.any(axis=0))
            gap_observed = np.zeros((len(observed), len(gap_channels)), dtype=bool)
            gap_observed[in_piece] = ~missing[:, gap_channels]
            gap_observed &= observed[:, None]
        flat_of_gaps = np.zeros((0 if flat is None else len(observed), len(gap_channels)), dtype=bool)
        if flat is not None:
            flat_of_gaps[in_piece] = flat[:, gap_channels]
        if not observed.all():
            values[~observed] = 0
        return SampleBlock(values, first, observed, gap_channels, gap_observed, flat_of_gaps)

    def _flat(self, piece: Piece, low: int, high: int) -> NDArray[np.bool_] | None:
        """Stored samples (time, channel) that were not measured, of samples `low` to `high` − 1; None where there are none.

        What is around them is read too, so that the length of a run does not depend on where a block begins; but not around the
        parts by which a recording is judged, which are shorter than stretches of two values have to be.
        """
        if not self.config.electrical.mask_flat:
            return None
        flat_rule = self._flat_rules[0] if self._flat_rules else None
        if flat_rule is None:
            context = SHORTEST_LIMIT if self.slabs.in_parts else max(SHORTEST_LIMIT, shortest_flicker(piece.rate))
            nearby = self.slabs.read(max(low - context, piece.first), min(high + context, piece.stop))
            if not may_be_flat(nearby, rate=piece.rate):
                return None
            length = max(int(PART_SECONDS * piece.rate), FEWEST_IN_PART)
            stored_parts = ((part, begin, self.slabs.read(begin, end)) for part, begin, end in self.parts(length))
            parts = ((stored, self._missing(part, begin, stored)) for part, begin, stored in stored_parts)
            flat_rule = measure(parts, rate=piece.rate)
            self._flat_rules.append(flat_rule)
        context = flat_rule.context if self.slabs.in_parts else max(flat_rule.context, flat_rule.wide_context)
        first, stop = max(low - context, piece.first), min(high + context, piece.stop)
        stored = self.slabs.read(first, stop)
        if not flat_rule.may_flicker(stored).any():
            begin, end = max(low - flat_rule.context, first), min(high + flat_rule.context, stop)
            first, stored = begin, stored[begin - first : end - first]
            if not flat_rule.may_be_in(stored):
                return None
        flat = flat_rule.find(stored, self._missing(piece, first, stored))[low - first : high - first]
        return flat if flat.any() else None

    def _missing(self, piece: Piece, first: int, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Missing entries (time, channel) of stored samples, of which `first` is the first, whatever the reason."""
        observed = self._observed_samples(piece, first, first + len(stored))
        missing = np.repeat(~observed[:, None], stored.shape[1], axis=1)
        entries = self._missing_entries(piece, stored, stored, first)
        return missing if entries is None else missing | entries

    @cached_property
    def _flat_rules(self) -> list[FlatRule]:
        """The rule for flat samples, once it was needed."""
        return []

    @property
    def two_valued(self) -> NDArray[np.bool_]:
        """Channels (channel) that are known to have no more than two values throughout."""
        two_valued = self._flat_rules[0].two_valued if self._flat_rules else np.zeros(self.slabs.n_columns, dtype=bool)
        return two_valued if self.montage is None else two_valued[self.montage.outputs]

    @cached_property
    def _space(self) -> list[NDArray[Any]]:
        """Memory of the last block: fresh pages for every block would cost as much time as the filters do."""
        return []

    def _memory(self, n_rows: int) -> NDArray[Any]:
        if not self._space or len(self._space[0]) < n_rows:
            # The old memory goes before the new comes.
            self._space.clear()
            self._space.append(np.empty((n_rows, self.slabs.n_columns), dtype=self.dtype))
        return self._space[0][:n_rows]

    def _observed_samples(self, piece: Piece, low: int, high: int) -> NDArray[np.bool_]:
        """Which samples were stored, and `control` and the invalid times leave observed in all channels."""
        if self.runs is None:
            observed = control_allows(self.series, self.config, first=low, stop=max(high, low))
        else:
            rows, observed = self.runs.stored(low, high)
            if len(rows):
                allowed = control_allows(self.series, self.config, first=int(rows[0]), stop=int(rows[-1]) + 1)
                observed[observed] = allowed[rows - rows[0]]
        invalid = piece.edges(self.invalid.ravel()).reshape(-1, 2)
        for start, stop in invalid[(invalid[:, 1] > low) & (invalid[:, 0] < high)]:
            observed[max(start - low, 0) : max(stop - low, 0)] = False
        return observed

    def _unsampled(self, piece: Piece, first: int, stop: int) -> NDArray[np.bool_]:
        """Entries (time, channel) outside the intervals in which each channel was sampled."""
        unsampled = np.zeros((stop - first, self.slabs.n_columns), dtype=bool)
        if stop <= first or self.observed_intervals is None:
            return unsampled
        # Channels that were sampled together share an array.
        columns: dict[int, NDArray[np.bool_]] = {}
        for channel, intervals in enumerate(self.observed_intervals):
            if id(intervals) not in columns:
                columns[id(intervals)] = ~_sampled(piece, intervals, first, stop)
            unsampled[:, channel] = columns[id(intervals)]
        return unsampled

    def _missing_entries(
        self, piece: Piece, values: NDArray[Any], stored: NDArray[Any], first: int
    ) -> NDArray[np.bool_] | None:
        """Entries (time, channel) that are not finite, the missing value, or masked; None where there are none."""
        missing = None
        if stored.dtype.kind == "f" and not np.isfinite(values.sum(dtype=np.float64)):
            missing = ~np.isfinite(values)
        if self.config.missing_value is not None:
            stands_for_missing = stored == self.config.missing_value
            missing = stands_for_missing if missing is None else missing | stands_for_missing
        for mask in self.masks:
            hidden = mask.hidden(piece.sample_times(first, first + len(stored)), self.channel_rows)
            missing = hidden if missing is None else missing | hidden
        if self.observed_intervals is not None:
            unsampled = self._unsampled(piece, first, first + len(stored))
            missing = unsampled if missing is None else missing | unsampled
        return missing if missing is not None and missing.any() else None


def _sampled(piece: Piece, intervals: Intervals, first: int, stop: int) -> NDArray[np.bool_]:
    """Which of some samples lie in intervals."""
    start, end = piece.sample_times(first, first + 1)[0], piece.sample_times(stop - 1, stop)[0]
    low, high = np.searchsorted(intervals[:, 1], start), np.searchsorted(intervals[:, 0], end, side="right")
    edges = np.clip(piece.edges(intervals[low : max(high, low)]), first, stop) - first
    changes = np.zeros(stop - first + 1, dtype=np.intp)
    np.add.at(changes, edges[:, 0], 1)
    np.subtract.at(changes, edges[:, 1], 1)
    return np.asarray(np.cumsum(changes)[:-1] > 0)


def _scan(
    clock: SampleClock, period: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """First and last sample of every piece, and the samples whose times are kept, with these."""
    every = max(1, clock.n_samples // MOST_KNOTS)
    firsts, lasts, knots, knot_times = [], [], [], []
    previous = np.nan
    for start in range(0, clock.n_samples, TIMES_AT_ONCE):
        times = clock.times(start, min(start + TIMES_AT_ONCE, clock.n_samples))
        steps = np.diff(times, prepend=previous)
        follows = (steps > 0) & (steps <= GAP * period)
        timed = np.isfinite(times)
        begins = timed & ~follows
        if np.isfinite(previous) and not follows[0]:
            lasts.append(np.array([start - 1]))
        firsts.append(start + np.flatnonzero(begins))
        ends = np.flatnonzero(timed[:-1] & ~follows[1:])
        lasts.append(start + ends)
        is_knot = timed & ((start + np.arange(len(times))) % every == 0)
        is_knot[begins] = True
        is_knot[ends] = True
        is_knot[-1] = timed[-1]
        knots.append(start + np.flatnonzero(is_knot))
        knot_times.append(times[is_knot])
        previous = times[-1]
    if np.isfinite(previous):
        lasts.append(np.array([clock.n_samples - 1]))
    return np.concatenate(firsts), np.concatenate(lasts), np.concatenate(knots), np.concatenate(knot_times)


def _subtract_level(stored: NDArray[Any], level: NDArray[Any], into: NDArray[Any]) -> None:
    """Stored numbers (time, channel) less the level of each channel, in the type of the result.

    One subtraction across types would go through a buffer of numpy's, which takes four times as long.
    """
    step = max(ENTRIES_AT_ONCE // max(stored.shape[1], 1), 1)

    def subtract(rows: range) -> None:
        for first in range(rows.start, rows.stop, step):
            part = slice(first, min(first + step, rows.stop))
            np.copyto(into[part], stored[part], casting="unsafe")
            into[part] -= level

    in_threads(subtract, split_range(0, len(stored), size=step))
