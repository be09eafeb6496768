"""Samples that are neither calcium nor noise: flashes, blanked frames, and values that the detector clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.calcium.decay import Floats, noise_sd
from nwb_sbtt.calcium.indicators import Indicator

Bools = NDArray[np.bool_]

FASTEST = 2.0
"""Sds of the indicator's prior by which a decay may be shorter."""
IMPOSSIBLE, OF_SPREAD, SPREAD = 10.0, 0.5, (0.05, 0.95)
"""Sds of the noise, and share of the distance between two quantiles of the trace, by which light may fall faster than that."""
LEFT = 0.5
"""Share of what the fastest decay leaves that is left, however little noise there is: responses are no exponentials."""
LOW = 0.1
"""Quantile that stands for fluorescence without calcium."""
LONGEST = 15
"""Most samples of one artefact; what lasts longer is a change of the baseline."""
CEILING, CEILING_SHARE = 4, 3
"""Samples at the largest value, at least, and as a multiple of those at the next one, that mark a ceiling of the detector."""


def find_artefacts(
    values: Floats, elapsed: Floats, *, rate: float, indicator: Indicator, resolution: float = 0.0
) -> Bools:
    """Find samples beyond what noise and calcium allow.

    Light rises at once, but falls no faster than it decays. A faster fall, by ten sds of the noise and half the spread of
    the trace, and to less than half of what should be left, ends a flash or begins a blank: that sample of the two which is
    farther from the median of its neighbourhood, and the samples beside it that are more than half as far away on the same
    side. (By the noise alone traces without noise would lose each sample whose decay is not that of the model.)

    Parameters
    ----------
    values : array (sample)
    elapsed : array (sample)
        Frames since the sample before.
    rate : float
        Frames per second.
    indicator : Indicator
    resolution : float
        Step in which values were stored, see `nwb_sbtt.calcium.decay.resolution_of`.

    Returns
    -------
    bool array (sample)
    """
    found = np.zeros(len(values), dtype=bool)
    noise = noise_sd(values, elapsed, decay=indicator.decay * rate, resolution=resolution)
    low, high = np.quantile(values, SPREAD)
    least = max(IMPOSSIBLE * noise, OF_SPREAD * float(high - low))
    fastest = indicator.decay * np.exp(-FASTEST * indicator.log_sd) * rate
    light = values - np.quantile(values, LOW)
    left = np.maximum(light[:-1], 0) * np.exp(-elapsed[1:] / fastest)
    for last in np.flatnonzero((left - light[1:] > least) & (light[1:] < LEFT * left)) if noise > 0 else []:
        first, stop = max(last - LONGEST, 0), last + LONGEST + 2
        usual = np.median(values[first:stop][~found[first:stop]])
        if abs(values[last] - usual) >= abs(values[last + 1] - usual):
            block = (values[first : last + 1] - usual)[::-1]
            length = _run(block > block[0] / 2)
            found[last + 1 - length : last + 1] |= length <= LONGEST
        else:
            block = usual - values[last + 1 : stop]
            length = _run(block > block[0] / 2)
            found[last + 1 : last + 1 + length] |= length <= LONGEST
    return found


def find_clipped(values: Floats) -> Bools:
    """Find samples at the ceiling of the detector: of these it is known only that the light is at least so much.

    Parameters
    ----------
    values : array (sample)
        As stored, before anything is subtracted.

    Returns
    -------
    bool array (sample)
        Those at the largest value, where it is met more often than noise would meet it.
    """
    at_most = values == values.max()
    below = values[~at_most]
    often = max(CEILING, CEILING_SHARE * int((below == below.max()).sum())) if len(below) else len(values) + 1
    return np.asarray(at_most & (at_most.sum() >= often))


def _run(flags: Bools) -> int:
    """Number of flags that are set before the first that is not."""
    return len(flags) if flags.all() else int(np.argmin(flags))
