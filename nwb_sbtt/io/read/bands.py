"""Which frequencies of a voltage are read, in words."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.signals.filters import choose_band, transitions
from nwb_sbtt.signals.lfp import independent_values
from nwb_sbtt.signals.notch import harmonics_in

FEATURES = {"lfp": "voltages", "power": "log power", "spikes": "threshold crossings"}
MOST_LINES = 4
"""Most harmonics that a note lists."""
SPIKES_RATE = 10_000.0
"""Hz from which on a recording is one of spikes too."""


def passed(config: ElectricalConfig, *, rate: float, bin_width: float) -> tuple[float, float]:
    """Compute beyond which frequencies nothing passes.

    Parameters
    ----------
    config : ElectricalConfig
    rate : float
        Sampling rate in Hz.
    bin_width : float
        Seconds.

    Returns
    -------
    low, high : float
        Hz.
    """
    low, high = band = choose_band(config, rate=rate, bin_width=bin_width)
    if config.feature == "lfp":
        rate = min(rate, 1 / bin_width)
        if config.band is None:
            return 0.0, rate - high
    lower, upper = transitions(band, rate=rate)
    if config.feature == "power":
        lower = upper = min(lower, upper)
    return low - lower / 2, high + upper / 2


def note_on_band(config: ElectricalConfig, path: str, *, rate: float, bin_width: float, name: str = "") -> str:
    """Say what is computed from which frequencies.

    Parameters
    ----------
    config : ElectricalConfig
    path : str
        Of the series.
    rate : float
        Sampling rate in Hz.
    bin_width : float
        Seconds.
    name : str
        Of the band, where several are read.
    """
    low, high = band = choose_band(config, rate=rate, bin_width=bin_width)
    lowest, highest = passed(config, rate=rate, bin_width=bin_width)
    lines = "" if config.notch is None else _note_on_notch(config.notch, (lowest, highest))
    if config.feature == "lfp" and config.band is None:
        return (
            f"{path!r}: voltages up to {high:g} Hz, less a Gaussian mean that halves the power at {low:g} Hz; "
            f"read.electrical.band takes a band with edges{lines}"
        )
    few = ""
    if config.feature == "power":
        n = independent_values(band, rate=rate, bin_width=bin_width)
        few = (
            f"; a bin is worth {n:.2g} independent values of noise, whose mean log lies {np.log(n) - digamma(n):.2g} below the "
            "log of their mean (not corrected)"
        )
    named = f"{name} " if name else ""
    return (
        f"{path!r}: {FEATURES[config.feature]} in the band {named}of {low:g} to {high:g} Hz (half of the amplitude there, none "
        f"below {lowest:.5g} and above {highest:.5g} Hz){few}{lines}"
    )


def doubts_on_feature(config: ElectricalConfig, path: str, *, rate: float) -> list[str]:
    """Question a feature that the sampling rate makes unlikely to be meant.

    Parameters
    ----------
    config : ElectricalConfig
    path : str
        Of the series.
    rate : float
        Sampling rate in Hz.
    """
    if config.feature == "lfp" and config.band is None and rate >= SPIKES_RATE:
        return [
            f"{path!r} is sampled at {rate:g} Hz, as spikes are, and read as slow field potentials; were threshold crossings "
            "meant (--set read.electrical.feature=spikes)?"
        ]
    if config.feature == "spikes" and rate < SPIKES_RATE / 2:
        return [
            f"{path!r} is sampled at {rate:g} Hz, too slowly for spikes; were field potentials meant (--set "
            "read.electrical.feature=lfp)?"
        ]
    return []


def _note_on_notch(line: float, band: tuple[float, float]) -> str:
    harmonics = [f"{each:g}" for each in harmonics_in(line, band)]
    if not harmonics:
        return f"; no line of {line:g} Hz lies in it"
    listed = ", ".join(harmonics[:MOST_LINES]) + (f", … {harmonics[-1]}" if len(harmonics) > MOST_LINES else "")
    return f"; lines at {listed} Hz are taken out, within 1 Hz of each"
