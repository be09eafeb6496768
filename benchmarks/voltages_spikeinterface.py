"""What spikeinterface makes of the simulated voltages of `voltages.py`, where it is installed: filters, references, peaks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 4.5
"""In robust sds of the noise, downward."""
ELECTRODE_MICROMETRES = 20.0
MICROVOLTS = 1e6


def available() -> bool:
    """Whether spikeinterface can be imported."""
    return find_spec("spikeinterface") is not None


def banded(volts: NDArray[Any], rate: float, band: tuple[float, float]) -> NDArray[Any]:
    """Voltages (time, channel) in a band, by its default Butterworth filter, forward and backward."""
    from spikeinterface.preprocessing import bandpass_filter

    filtered = bandpass_filter(_recording(volts, rate), *band, ignore_low_freq_error=True)
    return np.asarray(filtered.get_traces()) / MICROVOLTS


def crossings(
    volts: NDArray[Any], rate: float, *, reference: bool = False, blanks: NDArray[np.float64] | None = None
) -> int:
    """Peaks of 300 to 3000 Hz, channel by channel, beyond the threshold and 1 ms apart.

    Parameters
    ----------
    volts : array (time, channel)
    rate : float
        Hz.
    reference : bool
        Whether the common median is taken off.
    blanks : array (blank, 2), optional
        Seconds that are silenced first.
    """
    from spikeinterface.core import get_noise_levels
    from spikeinterface.preprocessing import bandpass_filter, common_reference, silence_periods
    from spikeinterface.sortingcomponents.peak_detection import detect_peaks

    recording = _recording(volts, rate)
    if blanks is not None:
        recording = silence_periods(recording, list_periods=[np.rint(blanks * rate).astype(int).tolist()], mode="zeros")
    recording = common_reference(recording) if reference else recording
    recording = bandpass_filter(recording, 300.0, 3000.0)
    noise = get_noise_levels(recording, return_in_uV=False)
    settings = {"peak_sign": "neg", "detect_threshold": THRESHOLD, "exclude_sweep_ms": 1.0, "noise_levels": noise}
    return len(detect_peaks(recording, method="by_channel", method_kwargs=settings))


def common_left(volts: NDArray[Any], rate: float, delay: NDArray[np.float64] | None) -> float:
    """Share of the power of 300 to 3000 Hz that a common average leaves, after the converter's delays where they are given."""
    from spikeinterface.preprocessing import bandpass_filter, common_reference, phase_shift

    recording = _recording(volts, rate)
    if delay is not None:
        recording = phase_shift(recording, inter_sample_shift=delay)
    alone, left = (
        np.asarray(bandpass_filter(each, 300.0, 3000.0).get_traces())
        for each in (recording, common_reference(recording, operator="average"))
    )
    # As far from the ends as filters reach.
    inside = slice(round(0.1 * rate), -round(0.1 * rate))
    return float(np.mean((left[inside] ** 2).mean(axis=0) / (alone[inside] ** 2).mean(axis=0)))


def bad_electrodes(volts: NDArray[Any], rate: float) -> NDArray[np.bool_]:
    """Electrodes (channel) that it calls bad, by coherence and power spectrum."""
    from spikeinterface.preprocessing import detect_bad_channels

    recording = _recording(volts, rate)
    _, labels = detect_bad_channels(recording, method="coherence+psd", seed=0)
    return np.asarray([label != "good" for label in labels], dtype=bool)


def _recording(volts: NDArray[Any], rate: float) -> Any:
    """Voltages (time, channel) as a recording in µV, electrodes in a row."""
    from spikeinterface.core import NumpyRecording, set_global_job_kwargs

    set_global_job_kwargs(progress_bar=False)
    n_channels = volts.shape[1]
    recording = NumpyRecording([(volts * MICROVOLTS).astype(np.float32)], sampling_frequency=rate)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    places = np.stack([np.zeros(n_channels), ELECTRODE_MICROMETRES * np.arange(n_channels)], axis=1)
    recording.set_dummy_probe_from_locations(places)
    return recording
