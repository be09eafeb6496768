"""Threshold crossings, and the noise that sets the threshold."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.signals.crossings import find_crossings, residual_length, robust_noise
from nwb_sbtt.signals.filters import band_filter


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3), st.integers(0, 6), st.booleans())
def test_crossings_equal_going_through_the_samples_one_by_one(seed, dead, both):
    samples = np.random.default_rng(seed).normal(size=(200, 3))
    threshold = np.array([-0.5, 0.7, -np.inf])
    rows, columns = find_crossings(samples, threshold, dead_samples=dead, both_polarities=both)
    expected = []
    for channel in range(2):
        sign = np.sign(threshold[channel])
        previous = -1000
        for row in range(1, 200):
            sizes = samples[row - 1 : row + 1, channel]
            beyond = (np.abs(sizes) if both else sign * sizes) >= abs(threshold[channel])
            # Only what is counted has a dead time.
            if beyond[1] and not beyond[0] and row - previous >= dead:
                expected.append((row, channel))
                previous = row
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == sorted(expected)
    assert (np.diff(rows) >= 0).all()


def test_robust_noise_is_the_standard_deviation_of_gaussian_noise_whatever_the_spikes():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(40000, 3)) * [1, 5, 2]
    samples[::100] -= 80
    observed = np.ones(samples.shape, dtype=bool)
    observed[::100] = False
    observed[:, 2] = False
    largest = np.abs(samples).max(axis=0)
    np.testing.assert_allclose(robust_noise(samples, observed, largest=largest), [1, 5, np.nan], rtol=0.02)
    everywhere = np.ones((40000, 1), dtype=bool)
    np.testing.assert_allclose(robust_noise(samples, everywhere, largest=largest), [1, 5, 2], rtol=0.04)


def test_what_rounding_leaves_of_a_stretch_without_noise_is_none():
    rng = np.random.default_rng(2)
    samples = np.zeros((4000, 3), dtype=np.float32)
    samples[:, 1:] = 1000.7
    samples[:400, 0] = 300 * rng.normal(size=400)
    samples[:, 2] += 0.3 * rng.normal(size=4000)
    band = band_filter((300.0, 3000.0), rate=20_000.0, dtype=np.float32)
    filtered = band.stretch(samples, first=0, start=band.margin, stop=4000 - band.margin)
    everywhere = np.ones((len(filtered), 1), dtype=bool)
    assert np.abs(filtered[1000:, 0]).max() > 0
    np.testing.assert_array_equal(robust_noise(filtered, everywhere, largest=samples.max(axis=0)) > 0, [0, 0, 1])


def test_the_length_of_a_residual_ends_where_the_noise_is_reached_though_a_response_follows():
    rng = np.random.default_rng(4)
    sizes = np.abs(rng.normal(size=(40, 1500, 2)))
    assert residual_length(sizes, quiet=30) == 0
    sizes[:, :200, 1] += 5
    sizes[:, 400:500] += 5
    sizes[:, :25] = np.nan
    assert residual_length(sizes, quiet=30) == 200
    assert residual_length(sizes[:5], quiet=30) == 0
