import numpy as np
import pytest
import xarray as xr

from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.evaluate.calibration import (
    DEGREES_OF_FREEDOM,
    T_SCALE,
    UNCALIBRATED,
    Calibration,
    calibrate,
    interval,
    variance_of_log,
)


def lognormal_counts(seed, variance, n=60_000):
    """Counts whose log-rates lie around what was expected with a variance, and what was expected."""
    generator = np.random.default_rng(seed)
    expected = np.exp(generator.normal(0, 0.7, n))
    rates = expected * np.exp(generator.normal(0, np.sqrt(variance)) - variance / 2)
    return generator.poisson(rates).astype(float), expected, rates


def test_a_constant_spread_is_found_from_counts_alone():
    counts, expected, _ = lognormal_counts(0, np.full(60_000, 0.2))
    calibration = calibrate(counts, expected, np.zeros(60_000))
    assert calibration.scale == 1.0
    assert 0.17 < calibration.floor < 0.23


def test_spreads_that_a_model_gives_too_small_are_scaled():
    uncalibrated = np.random.default_rng(1).uniform(0.02, 0.2, 60_000)
    counts, expected, _ = lognormal_counts(1, 3 * uncalibrated)
    calibration = calibrate(counts, expected, uncalibrated)
    np.testing.assert_allclose(calibration.variance(uncalibrated).mean(), 3 * uncalibrated.mean(), rtol=0.15)


def test_spreads_that_a_model_gives_too_large_are_left_alone():
    uncalibrated = np.random.default_rng(5).uniform(0.1, 0.4, 60_000)
    counts, expected, _ = lognormal_counts(5, uncalibrated / 3)
    assert calibrate(counts, expected, uncalibrated) == UNCALIBRATED


def test_poisson_counts_leave_nothing_unexplained():
    counts, expected, _ = lognormal_counts(2, np.zeros(60_000))
    assert calibrate(counts, expected, np.zeros(60_000)).floor < 0.01


def test_too_few_spikes_change_nothing():
    assert calibrate(np.ones(99), np.ones(99), np.full(99, 0.1)) == UNCALIBRATED
    np.testing.assert_array_equal(UNCALIBRATED.variance(np.array([0.0, 0.3])), [0.0, 0.3])


def lognormal_latents(rates, variance):
    shape = (1, len(rates), 1)
    sd = rates * np.sqrt(np.expm1(variance))
    return xr.Dataset(
        {name: (("trial", "time", "channel"), x.reshape(shape)) for name, x in (("rates", rates), ("rates_sd", sd))}
    )


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_hold_what_they_claim_of_errors_with_heavy_tails(level):
    generator = np.random.default_rng(3)
    median, variance = generator.uniform(1, 40, 60_000), generator.uniform(0.02, 0.3, 60_000)
    rates = median * np.exp(T_SCALE * np.sqrt(variance) * generator.standard_t(DEGREES_OF_FREEDOM, 60_000))
    lower, upper = interval(lognormal_latents(median * np.exp(variance / 2), variance), level)
    inside = (rates >= lower.values.ravel()) & (rates <= upper.values.ravel())
    assert abs(inside.mean() - level) < 0.01


def test_intervals_of_a_calibrated_spread_are_near_a_lognormals():
    counts, expected, rates = lognormal_counts(3, np.full(60_000, 0.3))
    variance = calibrate(counts, expected, np.zeros(60_000)).variance(np.zeros(60_000))
    for level in (0.5, 0.9, 0.95):
        lower, upper = interval(lognormal_latents(expected, variance), level)
        inside = (rates >= lower.values.ravel()) & (rates <= upper.values.ravel())
        assert abs(inside.mean() - level) < 0.07


def test_the_interval_of_a_signal_is_that_of_a_normal():
    ones = xr.DataArray(np.ones((2, 3, 1)), dims=("trial", "time", "channel"))
    lower, upper = interval(xr.Dataset({"mean": 5 * ones, "mean_sd": 2 * ones}), 0.95)
    np.testing.assert_allclose(upper - 5, 2 * 1.959964, rtol=1e-6)
    np.testing.assert_allclose(5 - lower, 2 * 1.959964, rtol=1e-6)


def test_log_variance_is_that_of_the_lognormal_with_these_moments():
    draws = np.exp(np.random.default_rng(4).normal(1.0, 0.4, 400_000))
    np.testing.assert_allclose(variance_of_log(draws.mean(), draws.std()), 0.16, rtol=0.02)
    assert variance_of_log(np.zeros(2), np.ones(2)).tolist() == [0, 0]


def test_an_interval_needs_a_spread_and_a_probability():
    rates = xr.Dataset({"rates": xr.DataArray(np.ones((1, 1, 1)), dims=("trial", "time", "channel"))})
    with pytest.raises(DataError, match="rates_sd"):
        interval(rates)
    with pytest.raises(ConfigError, match=r"0\.95"):
        interval(rates, 95)


def test_calibration_never_gives_a_negative_variance():
    assert (Calibration(0.5, 0.0).variance(np.array([0.0, 100.0])) >= 0).all()
