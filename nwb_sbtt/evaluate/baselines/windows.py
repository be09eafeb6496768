"""Long trials cut into overlapping windows that are solved together, and merged again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW = 128
"""Longest window [bins]; the smoothers' cost grows with it. Neighbouring windows share at least half."""


def to_windows(array: Floats) -> Floats:
    """Cut trials into windows: (trial, time, …) becomes (trial · window, window length, …).

    Parameters
    ----------
    array : array (trial, time, …)

    Returns
    -------
    array (trial · window, window length, …)
        Windows of a trial follow each other; the last may overlap the one before.
    """
    length = min(array.shape[1], WINDOW)
    parts = np.stack([array[:, first : first + length] for first in _first_bins(array.shape[1])], axis=1)
    return parts.reshape(-1, *parts.shape[2:])


def merge_windows(parts: Floats, shape: tuple[int, int], *, lag: int | None = None) -> Floats:
    """Merge windows into trials; where windows overlap, each has most weight where most of what may be seen lies in it.

    Without a lag that is in its middle; with a short one, towards its end.

    Parameters
    ----------
    parts : array (trial · window, window length, channel)
    shape : (int, int)
        Numbers of trials and of bins.
    lag : int, optional
        Bins after each one that may be seen; default: all.

    Returns
    -------
    array (trial, time, channel)
    """
    n_trials, n_bins = shape
    length = parts.shape[1]
    ahead = length if lag is None else min(lag + 1, length)
    ramp = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1) * (length / ahead))[:, None]
    parts = parts.reshape(n_trials, -1, length, parts.shape[2])
    merged, weight = np.zeros((n_trials, n_bins, parts.shape[3])), np.zeros((n_bins, 1))
    for i, first in enumerate(_first_bins(n_bins)):
        merged[:, first : first + length] += parts[:, i] * ramp
        weight[first : first + length] += ramp
    return merged / weight


def _first_bins(n_bins: int) -> NDArray[np.intp]:
    """First bins of windows that cover a trial."""
    if n_bins <= WINDOW:
        return np.zeros(1, dtype=np.intp)
    count = int(np.ceil((n_bins - WINDOW) / (WINDOW // 2))) + 1
    return np.linspace(0, n_bins - WINDOW, count).astype(np.intp)
