"""Samples that were stored but not measured: runs of identical ones, and those at the limits of the converter.

A dead electrode stores a constant, a lost packet zeros, and a saturated amplifier the largest number there is. In each of these
the same number follows itself for longer than noise ever does, or, where the last bit flickers, one of two numbers does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads, split_range

SHORTEST, SHORTEST_SECONDS = 10, 0.001
"""Least samples, and seconds, of a run of identical samples that can be told from a signal."""
SHORTEST_ZEROS = 5
SHORTEST_LIMIT = 3
"""Least samples of a run of zeros, and of one at the largest or smallest value that a channel reaches."""
CHANCE = 1e-9
"""A run is long if it would begin with this probability at a sample, given how often neighbours are equal by chance."""
USUAL, LONGER_THAN_USUAL = 0.99, 4
"""And it is so many times as long as all runs but a hundredth are: a smooth signal stays on one step for long."""
LONGEST = 8192
"""Most samples that a run must have: of coarser steps nothing can be told."""
FEWEST_SAMPLES = 100
"""Fewest samples by which a channel is judged."""
QUIETER, SELDOM = 3, 0.02
"""Where neighbours are equal by chance more often than that, a run must be so many times as long: a signal has quiet times."""
SHORTEST_FLICKER, FLICKER_LONGER = 1.0, 8
"""Least seconds of a stretch of no more than two values that can be told from a signal, unless that is more than `LONGEST`
samples, and how many times as long it must be as a run of one value."""
FLATTER, FEWEST_WITH_MORE = 10, 0.25
"""The two values of such a stretch lie so many times closer together than the ends of what the channel usually has, which is
judged by the parts with more than two values: by so large a share of all, at least. Where steps are so coarse that a signal has
but few of them, two values are no fault."""
LOOKED_AT = 16
"""Samples of a window by which it is told that it cannot have two values only."""
COMPARED_AT_ONCE = 1 << 18
"""Entries compared at once, so that what comes of them stays in the cache."""
FEWEST_CLIPPED, PILED_UP = 10, 5
"""A converter ends at the largest (or smallest) value of a channel if that has at least so many samples, and so many times
those of the value next to it."""


@dataclass(frozen=True)
class FlatRule:
    """From which length on a run of identical samples of each channel is flat; arrays (channel).

    Parameters
    ----------
    run, zero_run : int array
        Least samples of a run of any value, and of zeros.
    low, high : array
        Smallest and largest value of the converter as far as the samples show it; NaN where they do not.
    two_valued : bool array
        Channels that have no more than two values throughout, as a saturated one whose last bit flickers: all of it is flat.
    flicker : int array
        Least samples of a stretch of two values.
    spread : array
        Usual distance of the largest value of a part from its smallest; 0 where too few parts tell.
    """

    run: NDArray[np.intp]
    zero_run: NDArray[np.intp]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    two_valued: NDArray[np.bool_]
    flicker: NDArray[np.intp]
    spread: NDArray[np.float64]

    def of(self, channels: NDArray[np.bool_]) -> FlatRule:
        """Return the rule of some of the channels.

        Parameters
        ----------
        channels : bool array (channel)
            To keep.
        """
        return FlatRule(
            self.run[channels],
            self.zero_run[channels],
            self.low[channels],
            self.high[channels],
            self.two_valued[channels],
            self.flicker[channels],
            self.spread[channels],
        )

    @property
    def context(self) -> int:
        """Samples on either side by which the length of a run of one value is known."""
        return int(self.run.max(initial=1))

    @property
    def wide_context(self) -> int:
        """Samples on either side by which the length of a stretch of two values is known."""
        return int(np.where(self.spread > 0, self.flicker, 1).max(initial=1))

    def may_be_in(self, stored: NDArray[Any]) -> bool:
        """Tell whether any sample of a stretch could be flat in a run of one value, in less time than it takes to find it.

        Parameters
        ----------
        stored : array (time, channel)
            As stored.
        """
        return bool(self.two_valued.any()) or at_limits(stored) is not None or bool(self._candidates(stored).any())

    def may_flicker(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which channels (channel) may have as long a stretch of two values as the shortest that can be flat.

        Parameters
        ----------
        stored : array (time, channel)
            As stored.
        """
        return (self.spread > 0) & _any_two_valued(stored, int(self.flicker.min(initial=LONGEST)))

    def _candidates(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Channels (channel) with runs as long as the shortest that can be flat."""
        bounded = np.isfinite(self.low) | np.isfinite(self.high)
        candidates = _any_run(stored, SHORTEST_ZEROS)
        return candidates | (bounded & _any_run(stored, SHORTEST_LIMIT)) if bounded.any() else candidates

    def find(self, stored: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find flat samples.

        Parameters
        ----------
        stored : array (time, channel)
            As stored.
        missing : bool array (time, channel)
            Samples that are missing anyway: none of them is flat, and no run goes on beyond one.

        Returns
        -------
        bool array (time, channel)
        """
        limits = at_limits(stored)
        flat = np.zeros(stored.shape, dtype=bool) if limits is None else limits & ~missing
        flat[:, self.two_valued] = ~missing[:, self.two_valued]
        for channel in np.flatnonzero(self._candidates(stored)):
            starts, lengths, values = runs(stored[:, channel], missing[:, channel])
            is_flat = lengths >= self.run[channel]
            is_flat |= (values == 0) & (lengths >= self.zero_run[channel])
            is_flat |= ((values == self.low[channel]) | (values == self.high[channel])) & (lengths >= SHORTEST_LIMIT)
            for start, length in zip(starts[is_flat], lengths[is_flat], strict=True):
                flat[start : start + length, channel] = True
        for channel in np.flatnonzero(self.may_flicker(stored)):
            starts, lengths, steps = two_valued_stretches(stored[:, channel], missing[:, channel])
            is_flat = (lengths >= self.flicker[channel]) & (FLATTER * steps <= self.spread[channel])
            for start, length in zip(starts[is_flat], lengths[is_flat], strict=True):
                flat[start : start + length, channel] = True
        return flat


def may_be_flat(stored: NDArray[Any], *, rate: float) -> bool:
    """Tell whether any rule could find a flat sample; where not, no rule is needed.

    Parameters
    ----------
    stored : array (time, channel)
    rate : float
        Sampling rate in Hz.
    """
    return (
        at_limits(stored) is not None
        or bool(_any_run(stored, SHORTEST_LIMIT).any())
        or bool(_any_two_valued(stored, shortest_flicker(rate)).any())
    )


def shortest_flicker(rate: float) -> int:
    """Compute the least samples of a stretch of two values that can be flat.

    Parameters
    ----------
    rate : float
        Sampling rate in Hz.
    """
    return min(int(SHORTEST_FLICKER * rate), LONGEST)


def measure(parts: Iterable[tuple[NDArray[Any], NDArray[np.bool_]]], *, rate: float) -> FlatRule:
    """Measure how often neighbours are equal by chance, and where the values of each channel end.

    Parameters
    ----------
    parts : iterable of pairs of arrays (time, channel)
        Samples as stored, from all over a recording, and which of them are missing. Each is let go before the next is taken.
    rate : float
        Sampling rate in Hz.
    """
    found, lows, highs, all_runs = [], [], [], []
    for part, missing in parts:
        valid = np.where(missing, np.nan, part) if missing.any() else part
        lows.append(_end(valid, np.fmin))
        highs.append(_end(valid, np.fmax))
        all_runs.append(_runs(part, missing))
        found.append(len(missing) - missing.sum(axis=0))
    lowest, highest, n_valid = _joined(lows, np.fmin), _joined(highs, np.fmax), np.array(found)
    two_valued = n_valid.sum(axis=0) >= FEWEST_SAMPLES
    spreads = np.full((len(lows), len(two_valued)), np.nan)
    for n_of_part, low, high, spread in zip(n_valid, lows, highs, spreads, strict=True):
        no_more = (low.n + high.n * (low.value != high.value)) == n_of_part
        spread[~no_more] = (high.value - low.value)[~no_more]
        of_all = [(end.value == lowest.value) | (end.value == highest.value) for end in (low, high)]
        two_valued &= (no_more & of_all[0] & of_all[1]) | (n_of_part == 0)
    # What a channel of two values has next to one of its ends is the other end.
    n_next_low, n_next_high = (
        np.where(end.following == other.value, 0, end.n_following)
        for end, other in ((lowest, highest), (highest, lowest))
    )
    equal, usual = _by_chance(all_runs, n_channels=len(two_valued))
    with np.errstate(divide="ignore"):
        by_chance = np.where(equal > 0, np.log(CHANCE) / np.log(np.clip(equal, 1e-300, 1 - 1e-9)), 0)
    by_chance = np.ceil(by_chance) + 1
    long = np.clip(np.maximum(QUIETER * by_chance, LONGER_THAN_USUAL * (usual - 1)), 0, LONGEST)
    shortest = max(SHORTEST, int(np.ceil(SHORTEST_SECONDS * rate)))
    run = np.maximum(long, shortest).astype(np.intp)
    told = np.isfinite(spreads).mean(axis=0) >= FEWEST_WITH_MORE
    usual_spread = np.zeros(len(told))
    usual_spread[told] = np.nanmedian(spreads[:, told], axis=0)
    return FlatRule(
        run=run,
        zero_run=np.maximum(np.where(equal < SELDOM, by_chance, long), SHORTEST_ZEROS).astype(np.intp),
        low=np.where(lowest.n >= np.maximum(FEWEST_CLIPPED, PILED_UP * n_next_low), lowest.value, np.nan),
        high=np.where(highest.n >= np.maximum(FEWEST_CLIPPED, PILED_UP * n_next_high), highest.value, np.nan),
        two_valued=two_valued,
        flicker=np.clip(FLICKER_LONGER * run, shortest_flicker(rate), LONGEST),
        spread=usual_spread,
    )


def runs(samples: NDArray[Any], missing: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[Any]]:
    """Divide the samples of a channel that are not missing into runs of identical ones.

    Parameters
    ----------
    samples : array (time)
    missing : bool array (time)

    Returns
    -------
    starts, lengths : int array (run)
        First sample of each run, and how many it has.
    values : array (run)
    """
    changes = np.flatnonzero((samples[1:] != samples[:-1]) | missing[1:] | missing[:-1]) + 1
    starts = np.concatenate([np.zeros(min(len(samples), 1), dtype=np.intp), changes])
    lengths, there = np.diff(starts, append=len(samples)), ~missing[starts]
    return starts[there], lengths[there], samples[starts[there]]


def two_valued_stretches(
    samples: NDArray[Any], missing: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Find the longest stretches in which a channel has two values that follow each other at least twice.

    Parameters
    ----------
    samples : array (time)
    missing : bool array (time)
        No stretch goes on beyond one.

    Returns
    -------
    starts, lengths : int array (stretch)
        First sample of each stretch, and how many it has.
    steps : array (stretch)
        Distance of the two values.
    """
    starts, lengths, values = runs(samples, missing)
    stops = starts + lengths
    follows = starts[1:] == stops[:-1]
    back = (values[2:] == values[:-2]) & follows[1:] & follows[:-1]
    edges = np.flatnonzero(np.diff(back, prepend=False, append=False)).reshape(-1, 2)
    # Runs `first` to `last` take turns.
    first, last = edges[:, 0], edges[:, 1] + 1
    steps = np.abs(values[first + 1].astype(np.float64) - values[first].astype(np.float64))
    return starts[first], stops[last] - starts[first], steps


@dataclass(frozen=True)
class _End:
    """The smallest (or largest) value, the one next to it, and how many samples have them; arrays (channel), NaN for none."""

    value: NDArray[np.float64]
    n: NDArray[np.intp]
    following: NDArray[np.float64]
    n_following: NDArray[np.intp]


def _end(part: NDArray[Any], further: np.ufunc) -> _End:
    """Find one end of the values (time, channel) of a part; NaN where a sample is missing.

    Parameters
    ----------
    part : array (time, channel)
    further : numpy.fmin or numpy.fmax
    """
    value, other = further.reduce(part, axis=0), (np.fmax if further is np.fmin else np.fmin).reduce(part, axis=0)
    at_end = part == value
    following = further.reduce(np.where(at_end, other, part), axis=0)
    n_following = np.where(following == value, 0, _counts(part == following))
    return _End(
        value.astype(np.float64),
        _counts(at_end),
        np.where(n_following > 0, following, np.nan).astype(np.float64),
        n_following,
    )


def _joined(ends: Sequence[_End], further: np.ufunc) -> _End:
    """Find one end of the values of several parts, given those of each."""
    values = np.array([each for end in ends for each in (end.value, end.following)])
    counts = np.array([each for end in ends for each in (end.n, end.n_following)])
    value = further.reduce(values, axis=0)
    at_end = values == value
    following = further.reduce(np.where(at_end, np.nan, values), axis=0)
    return _End(
        value, np.where(at_end, counts, 0).sum(axis=0), following, np.where(values == following, counts, 0).sum(axis=0)
    )


def _counts(entries: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Count entries (time, channel) by channel; fast where there are few."""
    return np.bincount(np.flatnonzero(entries) % entries.shape[1], minlength=entries.shape[1])


@dataclass(frozen=True)
class _Runs:
    """Runs of identical samples of a part.

    Parameters
    ----------
    n_single : int array (channel)
        Runs of one sample.
    channels, lengths, counts : int array (length)
        How many runs each channel has of each length above one.
    """

    n_single: NDArray[np.intp]
    channels: NDArray[np.intp]
    lengths: NDArray[np.intp]
    counts: NDArray[np.intp]


def _runs(samples: NDArray[Any], missing: NDArray[np.bool_]) -> _Runs:
    """Count the runs of each channel of a part (time, channel); none where all of it is one run, which tells nothing."""
    n_times, n_channels = samples.shape
    equal = samples[1:] == samples[:-1]
    n_valid = np.full(n_channels, n_times)
    if missing.any():
        equal &= ~(missing[1:] | missing[:-1])
        n_valid -= missing.sum(axis=0)
    rows, channels = np.divmod(np.flatnonzero(equal), n_channels)
    # Channels one after the other; the last sample of a channel equals no next one, so no run goes on into another channel.
    places = np.sort(channels * n_times + rows)
    begins = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    channels, lengths = places[begins] // n_times, np.diff(begins, append=len(places)) + 1
    n_runs = n_valid - np.bincount(channels, lengths - 1, minlength=n_channels).astype(np.intp)
    several = n_runs > 1
    kept = several[channels]
    of_length, counts = np.unique(channels[kept] * (n_times + 1) + lengths[kept], return_counts=True)
    channels, lengths = np.divmod(of_length, n_times + 1)
    n_long = np.bincount(channels, counts, minlength=n_channels).astype(np.intp)
    return _Runs(np.where(several, n_runs - n_long, 0), channels, lengths, counts)


def _by_chance(parts: Sequence[_Runs], *, n_channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often the next sample is equal by chance, and what length all runs but a hundredth keep to; arrays (channel)."""
    equal, usual = np.zeros(n_channels), np.ones(n_channels)
    n_single = np.sum([part.n_single for part in parts], axis=0)
    channels, lengths, counts = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("channels", "lengths", "counts")
    )
    order = np.lexsort((lengths, channels))
    bounds = np.searchsorted(channels[order], np.arange(n_channels + 1))
    for channel in range(n_channels):
        those = order[bounds[channel] : bounds[channel + 1]]
        rising, n_runs = np.append(1, lengths[those]), np.append(n_single[channel], counts[those])
        if (rising * n_runs).sum() < FEWEST_SAMPLES:
            continue
        usual[channel] = _quantile(rising, np.cumsum(n_runs), USUAL)
        within = rising <= max(usual[channel], 1)
        equal[channel] = 1 - n_runs[within].sum() / (rising * n_runs)[within].sum()
    return equal, usual


def _quantile(rising: NDArray[np.intp], up_to: NDArray[np.intp], share: float) -> float:
    """Quantile of values of which `up_to` counts those that are no larger; between two by a straight line."""
    place = share * (up_to[-1] - 1)
    low, high = rising[np.searchsorted(up_to, [int(place), int(np.ceil(place))], side="right")]
    return float(low + (high - low) * (place - int(place)))


def at_limits(stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Find samples at the limits of the stored type of integer, or one step inside of them.

    Parameters
    ----------
    stored : array (time, channel)

    Returns
    -------
    bool array (time, channel) or None
        None where there are none, and for other types.
    """
    if stored.dtype.kind not in "iu" or stored.size == 0:
        return None
    limits = np.iinfo(stored.dtype)
    low, high = limits.min + 1, limits.max - 1
    # Of unsigned integers the smallest is 0, which a signal that was never offset may have.
    parts = [stored[rows.start : rows.stop] for rows in split_range(0, len(stored))]
    largest, smallest = (max(in_threads(np.max, parts)), min(in_threads(np.min, parts)))
    if largest < high and (limits.min == 0 or smallest > low):
        return None
    return np.asarray((stored >= high) | ((stored <= low) & (limits.min < 0)))


def _any_run(stored: NDArray[Any], length: int) -> NDArray[np.bool_]:
    """Channels (channel) with so many identical samples in a row."""

    def any_in(rows: range) -> NDArray[np.bool_]:
        part = stored[rows.start : rows.stop + length - 1]
        equal = part[1:] == part[:-1]
        reached = 1
        while reached < length - 1 and len(equal):
            step = min(reached, length - 1 - reached)
            equal = equal[:-step] & equal[step:]
            reached += step
        return np.asarray(equal.any(axis=0))

    step = max(COMPARED_AT_ONCE // max(stored.shape[1], 1), 1)
    parts = [range(first, min(first + step, len(stored))) for first in range(0, len(stored), step)]
    return np.asarray(np.any([np.zeros(stored.shape[1], dtype=bool), *in_threads(any_in, parts)], axis=0))


def _any_two_valued(stored: NDArray[Any], length: int) -> NDArray[np.bool_]:
    """Channels (channel) that may have so many samples in a row of no more than two values, judged by few of them."""
    # Wherever a stretch begins, it holds one of the windows that are half as long.
    half = max(length // 2, 1)
    n_windows = len(stored) // half
    windows = stored[: n_windows * half].reshape(n_windows, half, stored.shape[1])[:, :: max(half // LOOKED_AT, 1)]
    ends = windows.min(axis=1, keepdims=True), windows.max(axis=1, keepdims=True)
    return np.asarray(((windows == ends[0]) | (windows == ends[1])).all(axis=1).any(axis=0))
