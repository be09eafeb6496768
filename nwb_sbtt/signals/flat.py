"""Samples that were stored but not measured: runs of identical ones, and those at the limits of the converter.

A dead electrode stores a constant, a lost packet zeros, and a saturated amplifier the largest number there is. In each of these
the same number follows itself for longer than noise ever does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads

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
    """

    run: NDArray[np.intp]
    zero_run: NDArray[np.intp]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    two_valued: NDArray[np.bool_]

    @property
    def context(self) -> int:
        """Samples on either side by which the length of a run is known."""
        return int(self.run.max(initial=1))

    def may_be_in(self, stored: NDArray[Any]) -> bool:
        """Tell whether any sample of a stretch could be flat, in less time than it takes to find it.

        Parameters
        ----------
        stored : array (time, channel)
            As stored.
        """
        return bool(self.two_valued.any()) or at_limits(stored) is not None or bool(self._candidates(stored).any())

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
        return flat


def may_be_flat(stored: NDArray[Any]) -> bool:
    """Tell whether any rule could find a flat sample; where not, no rule is needed.

    Parameters
    ----------
    stored : array (time, channel)
    """
    return at_limits(stored) is not None or bool(_any_run(stored, SHORTEST_LIMIT).any())


def measure(parts: Sequence[tuple[NDArray[Any], NDArray[np.bool_]]], *, rate: float) -> FlatRule:
    """Measure how often neighbours are equal by chance, and where the values of each channel end.

    Parameters
    ----------
    parts : sequence of pairs of arrays (time, channel)
        Samples as stored, from all over a recording, and which of them are missing.
    rate : float
        Sampling rate in Hz.
    """
    shortest = max(SHORTEST, int(np.ceil(SHORTEST_SECONDS * rate)))
    n_channels = parts[0][0].shape[1]
    measured = [(part, ~missing) for part, missing in parts]
    low = np.min([_smallest(part, valid) for part, valid in measured], axis=0)
    high = np.max([_largest(part, valid) for part, valid in measured], axis=0)
    equal, usual = np.zeros(n_channels), np.ones(n_channels)
    run_lengths = in_threads(lambda part: _run_lengths(*part), parts)
    for channel in range(n_channels):
        lengths = np.concatenate([of_part[channel] for of_part in run_lengths])
        if lengths.sum() >= FEWEST_SAMPLES:
            usual[channel] = np.quantile(lengths, USUAL)
            usual_lengths = lengths[lengths <= max(usual[channel], 1)]
            equal[channel] = 1 - len(usual_lengths) / usual_lengths.sum()
    with np.errstate(divide="ignore"):
        by_chance = np.where(equal > 0, np.log(CHANCE) / np.log(np.clip(equal, 1e-300, 1 - 1e-9)), 0)
    by_chance = np.ceil(by_chance) + 1
    long = np.clip(np.maximum(QUIETER * by_chance, LONGER_THAN_USUAL * (usual - 1)), 0, LONGEST)
    two_valued = np.sum([valid.sum(axis=0) for _, valid in measured], axis=0) >= FEWEST_SAMPLES
    inner_low, inner_high = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
    for part, valid in measured:
        inside = valid & (part != low) & (part != high)
        two_valued &= ~inside.any(axis=0)
        inner_low = np.minimum(inner_low, _smallest(part, inside))
        inner_high = np.maximum(inner_high, _largest(part, inside))
    n_low, n_high, n_inner_low, n_inner_high = (
        np.sum([(valid & (part == value)).sum(axis=0) for part, valid in measured], axis=0)
        for value in (low, high, inner_low, inner_high)
    )
    return FlatRule(
        run=np.maximum(long, shortest).astype(np.intp),
        zero_run=np.maximum(np.where(equal < SELDOM, by_chance, long), SHORTEST_ZEROS).astype(np.intp),
        low=np.where(n_low >= np.maximum(FEWEST_CLIPPED, PILED_UP * n_inner_low), low, np.nan),
        high=np.where(n_high >= np.maximum(FEWEST_CLIPPED, PILED_UP * n_inner_high), high, np.nan),
        two_valued=two_valued,
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


def _run_lengths(samples: NDArray[Any], missing: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Lengths of the runs of each channel of a part (time, channel); none where all of it is one run, which tells nothing."""
    # Samples of a channel side by side are compared ten times as fast; all channels lie end to end, each begins a run.
    by_channel = np.ascontiguousarray(samples.T)
    begins = np.ones(by_channel.shape, dtype=bool)
    np.not_equal(by_channel[:, 1:], by_channel[:, :-1], out=begins[:, 1:])
    if missing.any():
        begins[:, 1:] |= (missing[1:] | missing[:-1]).T
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=begins.size)
    if missing.any():
        there = ~missing.T.ravel()[starts]
        starts, lengths = starts[there], lengths[there]
    of_channels = np.split(lengths, np.searchsorted(starts, len(samples) * np.arange(1, samples.shape[1])))
    return [of_channel if len(of_channel) > 1 else of_channel[:0] for of_channel in of_channels]


def _smallest(part: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Smallest valid value (channel) of a part; infinity where there is none."""
    return np.asarray(part.min(axis=0) if valid.all() else np.where(valid, part, np.inf).min(axis=0))


def _largest(part: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Largest valid value (channel) of a part; minus infinity where there is none."""
    return np.asarray(part.max(axis=0) if valid.all() else np.where(valid, part, -np.inf).max(axis=0))


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
    if stored.max() < high and (limits.min == 0 or stored.min() > low):
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
