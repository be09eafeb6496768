"""Simulated voltages with known truth, and what devices do to them: samples left out, stretches lost, spikes added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def field(seconds: float, *, rate: float, n_channels: int, seed: int, private: float = 0.3) -> tuple[Floats, Floats]:
    """A local field potential of three oscillators, shared by all channels, in noise of their own.

    Parameters
    ----------
    seconds, rate : float
    n_channels : int
    seed : int
    private : float
        Sd of each channel's own noise; that of the shared signal is 1.

    Returns
    -------
    voltage, shared : array (time, channel)
    """
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    # The phase of each oscillator drifts, so that it has a band and not a line.
    drift = rng.normal(size=(len(times), 3)).cumsum(axis=0) * np.sqrt(2.0 / rate)
    oscillators = np.sin(2 * np.pi * np.array([6.0, 11.0, 23.0]) * times[:, None] + drift)
    shared = oscillators @ rng.normal(size=(3, n_channels))
    shared /= shared.std(axis=0)
    return shared + private * rng.normal(size=shared.shape), shared


def speckled(shape: tuple[int, int], *, how: str, seed: int) -> NDArray[np.bool_]:
    """Which samples (time, channel) a device stores: "every fourth" of each channel in turn, "random" 70 % of them, or
    "dwelling" on a fourth of the channels for 30 samples at a time.
    """
    rng = np.random.default_rng(seed)
    times, channels = np.arange(shape[0])[:, None], np.arange(shape[1])
    if how == "every fourth":
        return (times + channels) % 4 == 0
    if how == "dwelling":
        return (times // 30 + channels) % 4 == 0
    return rng.random(shape) < 0.7
