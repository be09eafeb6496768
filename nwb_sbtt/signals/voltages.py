"""Parts of turning a sampled voltage into values per bin: bands, holes, the slow part, crossings, noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.data.threads import in_threads
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.signals.filters import BandPass, Filter, Gaussian, LowPass

HIGHEST = 0.45
"""Highest edge of a band as a share of the sampling rate, and of the bin rate for a decimated signal."""
DEFAULT_BANDS = {"power": (70.0, 150.0), "spikes": (300.0, 3000.0)}
HALF_POWER = 0.2494
"""Standard deviation in seconds, times the frequency, of the Gaussian mean whose removal halves the power there."""
BLOCKS_PER_SD = 16
COMPARED = 1 << 18
"""Entries compared with a threshold at once, so that what comes of it stays in the cache."""

Floats = NDArray[np.floating[Any]]


def band_of(config: ElectricalConfig, *, rate: float, bin_width: float) -> tuple[float, float]:
    """Edges in Hz of the band that is asked for, or of the default one.

    Raises
    ------
    DataError
        If the sampling rate, or for a decimated signal the bin rate, cannot carry the band; names the highest that it can.
    ConfigError
        If the edges are not in rising order.
    """
    highest = HIGHEST * (min(rate, 1 / bin_width) if config.feature == "lfp" else rate)
    if config.band is not None:
        low, high = config.band
        if low >= high:
            raise ConfigError(f"electrical.band is {config.band} Hz; the lower edge must come first")
        wanted, possible = high, high <= highest * (1 + 1e-9)
    elif config.feature == "lfp":
        low, high = 1.0, min(0.4 / bin_width, HIGHEST * rate)
        wanted, possible = high, low < high
    else:
        low, wanted = DEFAULT_BANDS[config.feature]
        high = min(wanted, highest)
        possible = high >= max(wanted / 2, 1.5 * low)
    if not possible:
        carrier = f"samples at {rate:g} Hz"
        if config.feature == "lfp" and 1 / bin_width < rate:
            carrier = f"bins of {bin_width:g} s"
        raise DataError(
            f"electrical.feature={config.feature!r} needs a band of {low:g} to {max(wanted, low):g} Hz, but {carrier} carry "
            f"at most {highest:g} Hz; set electrical.band to edges below that"
            + (", or take shorter bins" if config.feature == "lfp" else ", or feature='lfp'")
        )
    return low, high


def decimating_filter(high: float, *, rate: float, bin_width: float, dtype: Any) -> Filter:
    """Low pass for a signal taken once per bin: passes up to `high` Hz, and what folds back lands above `high`."""
    width = min(max(1 / bin_width - 2 * high, 0.05 / bin_width), 0.5 * high)
    return Filter(LowPass(cut=(high + width / 2) / rate, width=width / rate), dtype=dtype)


def band_filter(band: tuple[float, float], *, rate: float, steepness: float, dtype: Any) -> Filter:
    """Band pass whose lower edge is `steepness` of its frequency wide, the upper a quarter."""
    low, high = band[0] / rate, band[1] / rate
    upper = min(0.25 * high, 2 * (0.5 - high))
    return Filter(BandPass(LowPass(low, steepness * low), LowPass(high, upper)), dtype=dtype)


def block_length(low: float, *, rate: float) -> int:
    """Samples per block of the slow part: a sixteenth of its Gaussian's standard deviation, one at least."""
    return max(1, int(HALF_POWER * rate / low / BLOCKS_PER_SD))


def slow_filter(low: float, *, rate: float, dtype: Any) -> Filter:
    """Gaussian weights over blocks of `block_length` samples; subtracting the mean under them is a high pass at `low` Hz."""
    return Filter(Gaussian(HALF_POWER * rate / low / block_length(low, rate=rate)), dtype=dtype)


def hold(samples: Floats, observed: NDArray[np.bool_]) -> None:
    """Give every unobserved sample, in place, the value of the nearest observed one of its channel; 0 where there is none.

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
    known = (source >= 0) & (source < n_times)
    samples[rows, columns] = np.where(known, samples[np.where(known, source, 0), columns], 0)


def crossings(samples: Floats, threshold: Floats, *, dead: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Samples and channels at which the signal comes to lie beyond its channel's threshold, in the order of time.

    A crossing within `dead` samples after another of the same channel is not counted; the rule looks back no further,
    so a part of a recording gives what the whole gives.

    Parameters
    ----------
    samples : array (time, channel)
    threshold : array (channel)
        Where negative, the signal crosses it downward; minus infinity is never crossed.
    dead : int
        Samples.
    """
    downward = threshold < 0

    def onsets(part: range) -> NDArray[np.intp]:
        some = samples[part.start : part.stop + 1]
        if downward.all():
            beyond = some <= threshold
        elif not downward.any():
            beyond = some >= threshold
        else:
            beyond = np.where(downward, some <= threshold, some >= threshold)
        return np.asarray(np.flatnonzero(beyond[1:] > beyond[:-1]) + part.start * samples.shape[1])

    length = max(COMPARED // max(samples.shape[1], 1), 1)
    parts = [range(first, min(first + length, len(samples) - 1)) for first in range(0, len(samples) - 1, length)]
    onset = np.concatenate([np.empty(0, dtype=np.intp), *in_threads(onsets, parts)])
    rows, columns = np.divmod(onset, samples.shape[1])
    order = np.lexsort((rows, columns))
    apart = np.ones(len(order), dtype=bool)
    same = np.diff(columns[order]) == 0
    apart[1:] = ~same | (np.diff(rows[order]) >= dead)
    kept = np.sort(onset[order[apart]])
    rows, columns = np.divmod(kept, samples.shape[1])
    return rows + 1, columns


def robust_noise(samples: Floats, observed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of |x| / 0.6745 of each channel over its observed samples (Quiroga et al. 2004); NaN without any.

    Parameters
    ----------
    samples : array (time, channel)
    observed : bool array (time, channel) or (time, 1)
    """
    size = np.abs(samples)
    if observed.all():
        return np.asarray(np.median(np.ascontiguousarray(size.T), axis=1), dtype=np.float64) / 0.6745
    where = np.broadcast_to(observed, size.shape)
    noise = [np.median(column[seen]) if seen.any() else np.nan for column, seen in zip(size.T, where.T, strict=True)]
    return np.asarray(noise, dtype=np.float64) / 0.6745
