"""Which frequencies of a voltage are read, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.signals.filters import HIGHEST, LowPass, choose_band, transitions
from nwb_sbtt.signals.lfp import independent_values
from nwb_sbtt.signals.notch import SECONDS, harmonics_in

FEATURES = {"lfp": "voltages", "power": "log power", "spikes": "threshold crossings"}
MOST_LINES = 4
"""Most harmonics that a note lists."""
NOTCH_HZ, MOST_NOTCHED = 1 / SECONDS, 0.5
"""Half the width of a notch, and the largest share of a band that it may take out."""
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
            f"{path!r}: voltages low-pass filtered at {high:g} Hz, minus a Gaussian running mean (half of the power "
            f"remains at {low:g} Hz); set read.electrical.band for a sharper band{lines}"
        )
    few = ""
    if config.feature == "power":
        n = independent_values(band, rate=rate, bin_width=bin_width)
        few = (
            f"; for noise a bin has {n:.2g} independent values, so the mean of the log power is "
            f"{np.log(n) - digamma(n):.2g} below the log of the mean power (not corrected)"
        )
    named = f"{name} " if name else ""
    return (
        f"{path!r}: {FEATURES[config.feature]} in the band {named}of {low:g} to {high:g} Hz (half of the amplitude "
        f"remains at these edges, nothing below {lowest:.5g} or above {highest:.5g} Hz){few}{lines}"
    )


def check_bands(config: ElectricalConfig, path: str, *, rate: float, longest: float) -> None:
    """Check that a recording is long enough for the filters of the bands that are set.

    Parameters
    ----------
    config : ElectricalConfig
    path : str
        Of the series.
    rate : float
        Sampling rate in Hz.
    longest : float
        Seconds of the longest stretch without a gap.

    Raises
    ------
    DataError
        If a filter reaches further to either side than that.
    """
    for low, high in filter(None, [config.band, *(config.bands or {}).values()]):
        if high > HIGHEST * rate:
            continue  # No filter is made for it.
        reach = LowPass(0.0, min(transitions((low, high), rate=rate)) / rate).half_length / rate
        if reach > longest:
            raise DataError(
                f"a band of {low:g} to {high:g} Hz needs a filter that extends {reach:.3g} s to each side, but the "
                f"longest part of {path!r} without a gap is {longest:.3g} s; in read.electrical.band raise the lower "
                "edge, or use a wider band"
            )


def check_notch(line: float, harmonics: NDArray[np.float64], band: tuple[float, float]) -> None:
    """Check that a notch leaves most of a band.

    Parameters
    ----------
    line : float
        Hz.
    harmonics : array (harmonic)
        Those that are taken out, in Hz; rising.
    band : (float, float)
        Edges in Hz.

    Raises
    ------
    DataError
        If it takes out more than half of it.
    """
    low, high = band
    edges = np.clip([harmonics - NOTCH_HZ, harmonics + NOTCH_HZ], low, high)
    share = float((edges[1] - edges[0]).sum() / (high - low))
    if share > MOST_NOTCHED:
        raise DataError(
            f"read.electrical.notch={line:g} removes everything within {NOTCH_HZ:g} Hz of {harmonics[0]:g} Hz, which "
            f"is {share:.0%} of the band of {low:g} to {high:g} Hz; use a band without this frequency, or read "
            "without a notch filter"
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
            f"{path!r} is sampled at {rate:g} Hz, which is typical for spikes, but is read as slow field potentials; "
            "for threshold crossings use --set read.electrical.feature=spikes"
        ]
    if config.feature == "spikes" and rate < SPIKES_RATE / 2:
        return [
            f"{path!r} is sampled at {rate:g} Hz, too slowly for spikes; for field potentials use --set "
            "read.electrical.feature=lfp"
        ]
    return []


def _note_on_notch(line: float, band: tuple[float, float]) -> str:
    harmonics = [f"{each:g}" for each in harmonics_in(line, band)]
    if not harmonics:
        return f"; the band contains no line noise of {line:g} Hz"
    listed = ", ".join(harmonics[:MOST_LINES]) + (f", … {harmonics[-1]}" if len(harmonics) > MOST_LINES else "")
    return f"; line noise at {listed} Hz is removed (within {NOTCH_HZ:g} Hz of each)"
