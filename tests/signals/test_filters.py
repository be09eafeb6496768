"""Filters that are evaluated where a value is wanted, and the bands that a sampling rate carries."""

import numpy as np
import pytest

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.signals.filters import BandPass, Filter, GaussianKernel, LowPass, choose_band

LOW = LowPass(cut=0.05, width=0.02)
BAND = BandPass(LowPass(0.02, 0.01), LowPass(0.1, 0.03))


@pytest.mark.parametrize("kernel", [LOW, BAND, GaussianKernel(6.0)])
@pytest.mark.parametrize("step", [1, 3, 12.5, 40])
def test_a_filter_equals_the_weighted_sum_at_every_position(kernel, step):
    samples = np.random.default_rng(0).normal(size=(900, 3))
    weights = Filter(kernel, dtype=np.float64)
    positions = np.arange(weights.margin + 100, 1000 - weights.margin, step)
    filtered = weights.apply(samples, first=100, positions=positions)
    lags = positions[:, None] - np.arange(100, 1000)
    np.testing.assert_allclose(filtered, kernel.weights(lags) @ samples, atol=3e-2 if step == 12.5 else 1e-12)


def test_a_filter_shorter_than_a_sample_takes_the_nearest_ones():
    samples = np.arange(40.0)[:, None]
    weights = Filter(LowPass(0.4, 40.0), dtype=np.float64)
    with np.errstate(all="raise"):
        filtered = weights.apply(samples, first=0, positions=np.array([10.0, 20.25, 30.5]))
    np.testing.assert_allclose(filtered[:, 0], [10, 20, 30.5])


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


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize("length", [1, 70, 1000])
def test_every_sample_of_a_stretch_is_what_it_is_alone(dtype, tolerance, length, monkeypatch):
    monkeypatch.setattr("nwb_sbtt.signals.filters.COLUMNS_AT_ONCE", 2)
    weights = Filter(BAND, dtype=dtype)
    samples = np.random.default_rng(5).normal(size=(length + 2 * weights.margin, 3)).astype(dtype)
    start = 50 + weights.margin
    filtered = weights.stretch(samples, first=50, start=start, stop=start + length)
    assert filtered.dtype == dtype
    positions = np.arange(start, start + length, dtype=float)
    np.testing.assert_allclose(filtered, weights.apply(samples, first=50, positions=positions), atol=tolerance)


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


@pytest.mark.parametrize(
    ("use", "band", "rate", "highest"),
    [("spikes", None, 1250.0, "562.5"), ("power", (70.0, 150.0), 250.0, "112.5"), ("lfp", (1.0, 30.0), 1000.0, "22.5")],
)
def test_a_rate_too_low_for_the_band_is_an_error_naming_the_highest_possible(use, band, rate, highest):
    with pytest.raises(DataError, match=f"at most {highest} Hz"):
        choose_band(ElectricalConfig(feature=use, band=band), rate=rate, bin_width=0.02)


def test_band_edges_must_rise_and_long_bins_leave_no_default_band():
    with pytest.raises(ConfigError, match="lower edge"):
        choose_band(ElectricalConfig(band=(30.0, 3.0)), rate=1000, bin_width=0.01)
    with pytest.raises(DataError, match="shorter bins"):
        choose_band(ElectricalConfig(), rate=1000, bin_width=0.5)


def test_default_bands_stay_below_what_the_rate_carries():
    assert choose_band(ElectricalConfig(), rate=1000, bin_width=0.02) == (1.0, 20.0)
    assert choose_band(ElectricalConfig(feature="power"), rate=300, bin_width=0.02) == (70.0, 135.0)
    assert choose_band(ElectricalConfig(feature="spikes"), rate=30000, bin_width=0.02) == (300.0, 3000.0)
