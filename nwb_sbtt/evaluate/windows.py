"""Long trials cut into overlapping windows that are worked on together, and put back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW = 128
"""Longest stretch, in bins, that is solved at once; longer trials are cut into halfway overlapping windows."""


def windows(array: Floats) -> Floats:
    """(trial, time, …) cut into (trial · window, window length, …)."""
    length = min(array.shape[1], WINDOW)
    parts = np.stack([array[:, first : first + length] for first in _places(array.shape[1])], axis=1)
    return parts.reshape(-1, *parts.shape[2:])


def blended(parts: Floats, shape: tuple[int, ...]) -> Floats:
    """Put windows back together as (trial, time, …), each counting most in its middle."""
    n_trials, n_bins = shape
    length = parts.shape[1]
    ramp = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(float)[:, None]
    parts = parts.reshape(n_trials, -1, length, parts.shape[2])
    whole, weight = np.zeros((n_trials, n_bins, parts.shape[3])), np.zeros((n_bins, 1))
    for i, first in enumerate(_places(n_bins)):
        whole[:, first : first + length] += parts[:, i] * ramp
        weight[first : first + length] += ramp
    return whole / weight


def _places(n_bins: int) -> NDArray[np.intp]:
    """First bins of windows that cover a trial, each sharing at least half with the next."""
    if n_bins <= WINDOW:
        return np.zeros(1, dtype=np.intp)
    count = int(np.ceil((n_bins - WINDOW) / (WINDOW // 2))) + 1
    return np.linspace(0, n_bins - WINDOW, count).astype(np.intp)
