"""Filters that are evaluated where a value is wanted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.signals.blocks import interval_sums
from nwb_sbtt.signals.filters import BandPass, Filter, Gaussian, LowPass
from nwb_sbtt.signals.voltages import band_of, crossings, decimating_filter, hold, robust_noise

LOW = LowPass(cut=0.05, width=0.02)
BAND = BandPass(LowPass(0.02, 0.01), LowPass(0.1, 0.03))


@pytest.mark.parametrize("kernel", [LOW, BAND, Gaussian(6.0)])
@pytest.mark.parametrize("step", [1, 3, 12.5, 40])
def test_a_filter_equals_the_weighted_sum_at_every_position(kernel, step):
    samples = np.random.default_rng(0).normal(size=(900, 3))
    weights = Filter(kernel, dtype=np.float64)
    positions = np.arange(weights.margin + 100, 1000 - weights.margin, step)
    found = weights.apply(samples, first=100, positions=positions)
    lags = positions[:, None] - np.arange(100, 1000)
    np.testing.assert_allclose(found, kernel.weights(lags) @ samples, atol=3e-2 if step == 12.5 else 1e-12)


def test_a_filter_of_pieces_equals_the_filter_of_the_whole():
    samples = np.random.default_rng(1).normal(size=(2000, 4)).astype(np.float32)
    weights = Filter(BAND)
    positions = np.arange(200, 1800, dtype=float)
    whole = weights.apply(samples, first=0, positions=positions)
    pieces = [
        weights.apply(samples[part[0] - 150 : part[-1] + 150], first=part[0] - 150, positions=part.astype(float))
        for part in np.array_split(np.arange(200, 1800), 7)
    ]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2e-6)


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


def test_a_constant_passes_a_low_pass_unchanged_and_a_band_pass_not_at_all():
    positions = np.arange(300, 600, 0.37)
    ones = np.full((900, 1), 1000.0)
    np.testing.assert_allclose(Filter(LOW, dtype=float).apply(ones, first=0, positions=positions), 1000, rtol=1e-12)
    np.testing.assert_allclose(Filter(BAND, dtype=float).apply(ones, first=0, positions=positions), 0, atol=1e-9)


def test_support_is_the_share_of_the_weight_on_observed_samples():
    weights = Filter(BAND)
    observed = np.ones((900, 1), dtype=np.float32)
    observed[450:500] = 0
    support = weights.support(observed, first=0, positions=np.arange(300.0, 700.0))[:, 0]
    assert np.allclose(support[: 150 - weights.margin], 1) and np.allclose(support[200 + weights.margin :], 1)
    assert support[175] < 0.5 and (support <= 1 + 1e-6).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.booleans())
def test_holding_takes_the_nearest_observed_value(flags, whole):
    observed = np.array(flags)
    samples = np.random.default_rng(0).normal(size=(len(observed), 2))
    held = np.where(observed[:, None], samples, 1e9)
    hold(held, observed if whole else np.stack([observed, observed], axis=1))
    there = np.flatnonzero(observed)
    for place in range(len(observed)):
        if len(there) == 0:
            assert (held[place] == 0).all()
        else:
            nearest = there[np.argmin(np.abs(there - place))]
            assert np.array_equal(held[place], samples[nearest])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3), st.integers(0, 6))
def test_crossings_equal_going_through_the_samples_one_by_one(seed, dead):
    samples = np.random.default_rng(seed).normal(size=(200, 3))
    threshold = np.array([-0.5, 0.7, -np.inf])
    rows, columns = crossings(samples, threshold, dead=dead)
    expected = []
    for channel in range(2):
        sign = np.sign(threshold[channel])
        previous = -1000
        for row in range(1, 200):
            beyond = sign * samples[row - 1 : row + 1, channel] >= abs(threshold[channel])
            if beyond[1] and not beyond[0]:
                if row - previous >= dead:
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
    np.testing.assert_allclose(robust_noise(samples, observed), [1, 5, np.nan], rtol=0.02)
    np.testing.assert_allclose(robust_noise(samples, np.ones((40000, 1), dtype=bool)), [1, 5, 2], rtol=0.04)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12))
def test_interval_sums_equal_summing_each_interval(pairs):
    values = np.random.default_rng(0).normal(size=(20, 2))
    starts, stops = (np.array(each) for each in zip(*pairs, strict=True))
    expected = np.array([values[start:stop].sum(axis=0) for start, stop in pairs])
    np.testing.assert_allclose(interval_sums(values, starts, stops), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("use", "band", "rate", "highest"),
    [("spikes", None, 1250.0, "562.5"), ("power", (70.0, 150.0), 250.0, "112.5"), ("lfp", (1.0, 30.0), 1000.0, "22.5")],
)
def test_a_rate_too_low_for_the_band_is_an_error_naming_the_highest_possible(use, band, rate, highest):
    with pytest.raises(DataError, match=f"at most {highest} Hz"):
        band_of(ElectricalConfig(feature=use, band=band), rate=rate, bin_width=0.02)


def test_band_edges_must_rise_and_long_bins_leave_no_default_band():
    with pytest.raises(ConfigError, match="lower edge"):
        band_of(ElectricalConfig(band=(30.0, 3.0)), rate=1000, bin_width=0.01)
    with pytest.raises(DataError, match="shorter bins"):
        band_of(ElectricalConfig(), rate=1000, bin_width=0.5)


def test_default_bands_stay_below_what_the_rate_carries():
    assert band_of(ElectricalConfig(), rate=1000, bin_width=0.02) == (1.0, 20.0)
    assert band_of(ElectricalConfig(feature="power"), rate=300, bin_width=0.02) == (70.0, 135.0)
    assert band_of(ElectricalConfig(feature="spikes"), rate=30000, bin_width=0.02) == (300.0, 3000.0)
