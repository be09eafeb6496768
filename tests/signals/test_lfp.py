"""The local field potential taken once per bin."""

import numpy as np
import pytest

from nwb_sbtt.signals.lfp import PASSED_AT_EDGE, decimating_filter, effective_lower_edge


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2, 0.4])
def test_a_decimated_signal_keeps_its_band_and_does_not_alias(share):
    rate, width = 1000.0, 0.02
    high = share / width
    weights = decimating_filter(high, rate=rate, bin_width=width, dtype=np.float64)
    times = np.arange(20000)[:, None] / rate
    positions = np.arange(weights.margin, 20000 - weights.margin, width * rate)
    kept = np.array([0.3, 0.7, 0.99]) * high
    gone = np.array([1 / width - 0.99 * high, 1 / width, 1.5 / width, 7.3 / width])
    gain = np.sqrt(2) * weights.apply(np.cos(2 * np.pi * times * kept), first=0, positions=positions).std(axis=0)
    alias = weights.apply(np.cos(2 * np.pi * times * gone + 0.3), first=0, positions=positions)
    assert np.abs(gain - 1).max() < 0.02
    assert np.abs(alias).max() < 10 ** (-45 / 20)


def test_the_lower_edge_of_samples_in_stretches_is_that_of_the_mean_taken_off():
    width, low = 0.01, 1.0
    seen = np.zeros((1, 300, 3), dtype=bool)
    seen[0, 120:140, 0] = True
    seen[0, :, 1] = np.arange(300) % 3 == 0
    edges = effective_lower_edge(seen, low, bin_width=width)
    # Of a stretch that stands alone all is taken off that the mean over it passes: sin(π f T) / (π f T) for an oscillation.
    frequencies = np.linspace(0.5, 4.5, 2000)
    stretch = frequencies[np.sinc(frequencies * 0.2) ** 2 < PASSED_AT_EDGE][0]
    assert abs(np.log(edges[0] / stretch)) < np.log(1.3)
    assert edges[1:].tolist() == [low, low]
