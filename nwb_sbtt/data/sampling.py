"""How far apart in time channels are sampled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

LONG_LAG = 8
"""Bins between successive samples of a channel from which on a network says little of what lies between them."""
SHORT_LAG_SHARE = 0.2
"""Share of lags that may be shorter all the same; with random sampling as many are below a third of the median."""
MAX_ENTRIES = 10**7
"""Entries on which lags are measured, or those of one trial."""


@dataclass(frozen=True)
class Lags:
    """Bins between successive samples of a channel.

    Parameters
    ----------
    short : int
        So many, or fewer, are a fifth of the lags.
    median : float
    """

    short: int
    median: float

    @property
    def are_long(self) -> bool:
        """Whether short lags are missing, as in regular sampling."""
        return self.short >= max(LONG_LAG, self.median / 2)


def sampling_lags(observed: Bool[ndarray, "trial time channel"]) -> Lags | None:
    """Measure the lags between successive samples of a channel.

    Parameters
    ----------
    observed : bool array (trial, time, channel)

    Returns
    -------
    Lags or None
        None where none is sampled twice in a trial, or all in every bin.
    """
    if observed.all():
        return None
    observed = observed[:: 1 + observed.size // MAX_ENTRIES]
    trial, channel, time = np.nonzero(observed.transpose(0, 2, 1))
    lags = np.diff(time)[(np.diff(trial) == 0) & (np.diff(channel) == 0)]
    if not len(lags):
        return None
    return Lags(int(np.quantile(lags, SHORT_LAG_SHARE)), float(np.median(lags)))
