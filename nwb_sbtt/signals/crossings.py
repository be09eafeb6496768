"""Threshold crossings of a filtered signal, counted in bins, and the noise that sets the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads
from nwb_sbtt.signals.blocks import MARGINS_READ, Bins, Reduced, SampleBlock, channel_medians, observed_amounts
from nwb_sbtt.signals.filters import Filter, Floats

COMPARED_AT_ONCE = 1 << 18
"""Entries compared with a threshold at once, so that the result stays in the cache."""
DEAD_TIMES_BEFORE = 32
"""Dead times before its first bin in which a block looks for crossings, so that it counts those that the whole counts: what is
counted follows from the last crossing before which no other lies within a dead time."""
FEWEST_SHARING = 4
"""Fewest channels that must cross at the same time for that to be no chance."""
FEWEST_ARTEFACTS = 10
"""Fewest artefacts by which it is judged how long they last."""
EXCESS = 1.5
"""Multiple of its usual mean size above which a filtered signal holds something left of an artefact."""
ROUNDINGS = 4
"""Multiple of the rounding of the largest sample before the filter up to which what comes out of it is no noise."""
GAUSSIAN_MEDIAN = 0.6745
"""Median of |x| of a standard normal x."""


@dataclass(frozen=True)
class Crossings:
    """Number of threshold crossings in each bin.

    Parameters
    ----------
    band : Filter
        As `nwb_sbtt.signals.filters.band_filter` makes it.
    threshold : array (channel)
        In the recording's unit; a channel whose threshold is NaN is missing.
    dead_samples : int
        A crossing less than this many samples after a counted one of the same channel is not counted.
    slot_samples : int
        Crossings that lie within so many samples count as simultaneous.
    both_polarities : bool
        Whether crossings of the threshold of the other sign are counted too.
    support : float
        Smallest share of the filter's weight on observed samples.
    bytes_per_sample : int
        Memory that `reduce` needs for one sample of one channel.
    """

    band: Filter
    threshold: NDArray[np.float64]
    dead_samples: int
    slot_samples: int
    support: float
    both_polarities: bool = False
    bytes_per_sample: int = 9

    @property
    def margin(self) -> int:
        """Samples needed on either side of a bin."""
        return MARGINS_READ * self.band.margin + DEAD_TIMES_BEFORE * self.dead_samples + 1

    def reduce(self, block: SampleBlock, bins: Bins) -> Reduced:
        """Count crossings in bins.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side of the bins; is overwritten.
        bins : Bins

        Returns
        -------
        Reduced
            Counts, and how many filtered samples of each bin were observed.
        """
        stored = block.amounts(bins)
        block.fill(self.band)
        first = int(bins.starts.min()) - DEAD_TIMES_BEFORE * self.dead_samples - 1
        stop = max(int(bins.stops.max()), first + 1)
        filtered = self.band.stretch(block.values, first=block.first, start=first, stop=stop)
        observed = block.supported(self.band, np.arange(first, stop, dtype=float), self.support)
        threshold = np.where(np.isfinite(self.threshold), self.threshold, -np.inf).astype(filtered.dtype)
        rows, columns = find_crossings(
            filtered, threshold, dead_samples=self.dead_samples, both_polarities=self.both_polarities
        )
        if not observed.all():
            mask_columns = columns if observed.shape[1] > 1 else 0
            both_observed = observed[rows, mask_columns] & observed[rows - 1, mask_columns]
            rows, columns = rows[both_observed], columns[both_observed]
        n_channels = filtered.shape[1]
        starts, stops = bins.starts - first, bins.stops - first
        # Crossings rise in time, so each bin has a run of them; runs of bins that overlap share crossings. The runs are
        # laid end to end: `crossing` has the number of each crossing in each run, `entries` where it is counted.
        run_starts, run_stops = np.searchsorted(rows, starts), np.searchsorted(rows, stops)
        lengths = np.maximum(run_stops - run_starts, 0)
        crossing = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - run_starts, lengths)
        entries = np.repeat(np.arange(len(lengths)), lengths) * n_channels + columns[crossing]
        counts = np.bincount(entries, minlength=len(lengths) * n_channels).reshape(len(lengths), n_channels)
        weights = observed_amounts(observed, starts, stops) * np.isfinite(self.threshold)
        inside = (rows >= starts.min()) & (rows < stops.max())
        shared = shared_crossings(rows[inside], columns[inside], slot=self.slot_samples, n_channels=n_channels)
        return Reduced(counts.astype(np.float32), weights, stored, events=int(inside.sum()), shared=shared)


def find_crossings(
    samples: Floats, threshold: Floats, *, dead_samples: int, both_polarities: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find where the signal comes to lie beyond its channel's threshold.

    A crossing less than `dead_samples` after a counted one of the same channel is not counted. One that is not counted does not
    prolong the dead time, so a burst is counted as often as the dead time allows.

    Parameters
    ----------
    samples : array (time, channel)
    threshold : array (channel)
        Where negative, the signal crosses it downward; minus infinity is never crossed.
    dead_samples : int
    both_polarities : bool
        Whether the threshold of the other sign is crossed too.

    Returns
    -------
    times, channels : int array (crossing)
        First sample beyond the threshold, and channel, of each crossing; in the order of time.
    """
    downward = threshold < 0

    def onsets(part: range) -> NDArray[np.intp]:
        values = samples[part.start : part.stop + 1]
        if both_polarities:
            beyond = np.abs(values) >= np.abs(threshold)
        elif downward.all():
            beyond = values <= threshold
        elif not downward.any():
            beyond = values >= threshold
        else:
            beyond = np.where(downward, values <= threshold, values >= threshold)
        return np.asarray(np.flatnonzero(beyond[1:] > beyond[:-1]) + part.start * samples.shape[1])

    length = max(COMPARED_AT_ONCE // max(samples.shape[1], 1), 1)
    parts = [range(first, min(first + length, len(samples) - 1)) for first in range(0, len(samples) - 1, length)]
    onset = np.concatenate([np.empty(0, dtype=np.intp), *in_threads(onsets, parts)])
    rows, columns = np.divmod(onset, samples.shape[1])
    order = np.lexsort((rows, columns))
    # Channels one after the other on one axis of time, a dead time apart.
    times = columns[order] * (len(samples) + dead_samples) + rows[order]
    rows, columns = np.divmod(np.sort(onset[order[_counted(times, dead_samples)]]), samples.shape[1])
    return rows + 1, columns


def shared_crossings(rows: NDArray[np.intp], columns: NDArray[np.intp], *, slot: int, n_channels: int) -> int:
    """Count crossings that half of the channels, and several, have at the same time, as they do of what reaches all of them.

    Parameters
    ----------
    rows, columns : int array (crossing)
        Sample, rising, and channel.
    slot : int
        Samples that count as the same time.
    n_channels : int
    """
    slots = rows // max(slot, 1)
    entries = np.unique(slots * n_channels + columns)
    _, first, sizes = np.unique(entries // n_channels, return_index=True, return_counts=True)
    crowded = sizes >= max(FEWEST_SHARING, n_channels / 2)
    return int(np.isin(slots, entries[first[crowded]] // n_channels).sum())


def _counted(times: NDArray[np.intp], dead: int) -> NDArray[np.bool_]:
    """Which of some rising times are counted: the first, and each that is a dead time or more after the last counted one."""
    if dead <= 0:
        return np.ones(len(times), dtype=bool)
    counted = np.diff(times, prepend=-dead) >= dead
    # Those a dead time after any other begin a group; in each group the next one that is counted is looked for.
    begins = np.flatnonzero(counted)
    ends = np.append(begins[1:], len(times))
    latest = begins
    while len(latest):
        following = np.searchsorted(times, times[latest] + dead)
        goes_on = following < ends
        latest, ends = following[goes_on], ends[goes_on]
        counted[latest] = True
    return counted


def robust_noise(samples: Floats, observed: NDArray[np.bool_], *, largest: Floats) -> NDArray[np.float64]:
    """Estimate each channel's noise as the median of |x| / 0.6745 over its observed samples.

    Few large spikes change a median little (Quiroga, Nadasdy and Ben-Shaul 2004, Neural Computation 16:1661).

    Parameters
    ----------
    samples : array (time, channel)
    observed : bool array (time, channel) or (time, 1)
    largest : array (channel)
        Largest size of the samples before they were filtered.

    Returns
    -------
    array (channel)
        Standard deviation of the noise, in the unit of the samples; NaN where nothing was observed, 0 where there is no more
        than the rounding of what was filtered.
    """
    medians = channel_medians(np.abs(samples), observed)
    rounding = ROUNDINGS * np.finfo(samples.dtype).eps * largest
    return np.asarray(np.where(medians <= rounding, 0, medians)) / GAUSSIAN_MEDIAN


def residual_length(sizes: Floats, *, quiet: int) -> int:
    """Find how long, after artefacts, what is left of them exceeds the noise.

    The mean size of the filtered signal is taken over all artefacts, and compared with the last quarter of the time that is
    given. Where it has come down to that once, for `quiet` samples, the artefact is over: what follows may be a response.

    Parameters
    ----------
    sizes : array (artefact, time, channel)
        |x| of the filtered signal from the end of each artefact's blank; NaN where it is not observed.
    quiet : int
        Samples.

    Returns
    -------
    int
        Samples from the end of the blanks; the most of all channels.
    """
    n_times = sizes.shape[1]
    counts = np.isfinite(sizes).sum(axis=0)
    means = np.nansum(sizes, axis=0) / np.maximum(counts, 1)
    enough = counts >= FEWEST_ARTEFACTS
    exceeds = enough & (means > EXCESS * np.median(means[-max(n_times // 4, 1) :], axis=0))
    length = 0
    for channel in np.flatnonzero(exceeds.any(axis=0)):
        # The filter has enough observed samples only some time after a blank.
        first = int(np.argmax(enough[:, channel]))
        times = np.flatnonzero(exceeds[first:, channel])
        over = np.flatnonzero(np.diff(times, prepend=-1) > quiet)
        within = times[: over[0]] if len(over) else times
        # A few samples are noise.
        if len(within) > quiet // 2:
            length = max(length, first + int(within[-1]) + 1)
    return length
