"""Simulated voltages with known truth, and what devices do to them: samples left out, stretches lost, spikes added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]


def field(
    seconds: float, *, rate: float, n_channels: int, seed: int, private: float = 0.3, memory: float = 0.0
) -> tuple[Floats, Floats]:
    """A local field potential of three oscillators, shared by all channels, in noise of their own.

    Parameters
    ----------
    seconds, rate : float
    n_channels : int
    seed : int
    private : float
        Sd of each channel's own noise; that of the shared signal is 1.
    memory : float
        Seconds in which the autocorrelation of that noise falls to 1/e; 0 for white noise.

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
    own = rng.normal(size=shared.shape)
    if memory:
        decay = np.exp(-1 / (memory * rate))
        own = lfilter([np.sqrt(1 - decay**2)], [1, -decay], own, axis=0)
    return shared + private * own, shared


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


def stimulated(
    seconds: float, *, rate: float, seed: int, tail: float = 0.0, blank: float = 0.004, n_channels: int = 2
) -> tuple[Floats, list[NDArray[np.intp]], Floats]:
    """Noise of 5 µV with spikes of 60 µV, and a stimulus artefact ten times a second.

    Parameters
    ----------
    seconds, rate : float
    seed : int
    tail : float
        Seconds in which the artefact, 5 mV at its onset, decays to 1/e; 0 for one that ends with the blank.
    blank : float
        Seconds from the onset of an artefact in which the recording is invalid.
    n_channels : int

    Returns
    -------
    volts : array (time, channel)
    spikes : list of int array
        Samples of each channel's spikes outside of blanks, at least 5 ms apart.
    blanks : array (blank, 2)
        Seconds.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    times = np.arange(n) / rate
    volts = 5e-6 * rng.normal(size=(n, n_channels)) + 2e-4 * np.sin(2 * np.pi * 3 * times)[:, None]
    onsets = np.arange(0.05, seconds - 0.05, 0.1)
    blanks = np.stack([onsets, onsets + blank], axis=1)
    since = (times - 0.05) % 0.1
    artefact = 5e-3 * (np.exp(-since / tail) if tail else (since < 0.9 * blank))
    volts += np.where((times >= 0.05) & (times < onsets[-1] + 0.1), artefact, 0.0)[:, None]
    spikes = []
    for channel in range(n_channels):
        samples = rng.choice(
            np.arange(round(0.1 * rate), n - round(0.1 * rate), round(0.005 * rate)), 300, replace=False
        )
        samples = np.sort(samples[((times[samples] - 0.05) % 0.1) > blank + 0.01])
        for lag, size in (
            (-3, -15),
            (-2, -30),
            (-1, -50),
            (0, -60),
            (1, -50),
            (2, -25),
            (3, 5),
            (4, 15),
            (5, 15),
            (6, 8),
        ):
            volts[samples + lag, channel] += size * 1e-6
        spikes.append(samples)
    return volts, spikes, blanks


def common_noise(
    seconds: float,
    *,
    rate: float,
    seed: int,
    n_channels: int,
    hum: float = 25e-6,
    bursts: int = 0,
) -> tuple[Floats, Floats, list[NDArray[np.intp]]]:
    """Noise of 5 µV with spikes of 60 µV, and the same with what all electrodes pick up.

    Parameters
    ----------
    seconds, rate : float
    seed : int
    n_channels : int
    hum : float
        Amplitude in volts of a line of 50 Hz and each of its odd harmonics below 1500 Hz.
    bursts : int
        Of 50 ms and 200 µV, such as chewing.

    Returns
    -------
    quiet, noisy : array (time, channel)
    spikes : list of int array
        Samples of each channel's spikes, at least 4 ms apart.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    quiet = 5e-6 * rng.normal(size=(n, n_channels))
    spikes = []
    for channel in range(n_channels):
        samples = np.sort(rng.choice(np.arange(100, n - 100, round(0.004 * rate)), round(10 * seconds), replace=False))
        for lag, size in ((-2, -20), (-1, -45), (0, -60), (1, -40), (2, -10), (3, 15), (4, 15), (5, 5)):
            quiet[samples + lag, channel] += size * 1e-6
        spikes.append(samples)
    times = np.arange(n) / rate
    lines = np.arange(1, 30, 2)
    common = hum * np.sin(2 * np.pi * 50 * times[:, None] * lines + rng.uniform(0, 2 * np.pi, len(lines))).sum(axis=1)
    for start in rng.choice(n - round(0.05 * rate), bursts, replace=False):
        common[start : start + round(0.05 * rate)] += 2e-4 * rng.normal(size=round(0.05 * rate))
    return quiet, quiet + common[:, None], spikes


def pink(n: int, n_channels: int, rng: np.random.Generator) -> Floats:
    """Noise (time, channel) of unit variance whose power falls with 1/f."""
    frequencies = np.maximum(np.fft.rfftfreq(n), 1 / n)[:, None]
    spectrum = rng.normal(size=(len(frequencies), n_channels)) + 1j * rng.normal(size=(len(frequencies), n_channels))
    noise = np.fft.irfft(spectrum / np.sqrt(frequencies), n, axis=0)
    return noise / noise.std(axis=0)


def modulated(seconds: float, *, rate: float, frequency: float, n_channels: int, seed: int) -> tuple[Floats, Floats]:
    """An oscillation whose amplitude changes, in pink noise.

    Parameters
    ----------
    seconds, rate : float
    frequency : float
        Of the oscillation [Hz].
    n_channels : int
    seed : int

    Returns
    -------
    voltage : array (time, channel)
    amplitude : array (time)
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    frequencies = np.fft.rfftfreq(n, 1 / rate)
    slow = (frequencies > 0) & (frequencies < 1.5)
    course = np.fft.irfft(np.where(slow, rng.normal(size=len(slow)) + 1j * rng.normal(size=len(slow)), 0), n)
    amplitude = np.abs(1 + 0.6 * course / course.std())
    phase = 2 * np.pi * frequency * np.arange(n) / rate + rng.normal(size=n).cumsum() * np.sqrt(2 / rate)
    return pink(n, n_channels, rng) + (1.5 * amplitude * np.sin(phase))[:, None], amplitude


def probe(seconds: float, *, rate: float, n_channels: int, seed: int) -> tuple[Floats, list[int]]:
    """A field that changes along a probe, in noise of each electrode's own; one is dead, one noisy, one on its own.

    Parameters
    ----------
    seconds, rate : float
    n_channels : int
        Eight at least.
    seed : int

    Returns
    -------
    voltage : array (time, channel)
    bad : list of int
        Dead, noisy, on its own.
    """
    rng = np.random.default_rng(seed)
    n, where = round(seconds * rate), np.linspace(0, 1, n_channels)
    deep, shallow = pink(n, 1, rng), pink(n, 1, rng)
    voltage = (1 - where) * deep + where * shallow + 0.1 * rng.normal(size=(n, n_channels))
    dead, noisy, alone = bad = [int(channel) for channel in rng.choice(n_channels, 3, replace=False)]
    voltage[:, dead] *= 0.02
    voltage[:, noisy] += rng.normal(size=n)
    voltage[:, alone] = pink(n, 1, rng)[:, 0] + 0.1 * rng.normal(size=n)
    return voltage, bad
