import numpy as np
import pytest

from nwb_sbtt.evaluate.calibration import (
    LEVELS,
    LOW_RATE,
    MAX_VARIANCE,
    PART_OF_HIDDEN,
    CountCalibration,
    Hidden,
    calibrate_counts,
    calibrate_signals,
    variance_of_log,
)

TURNS = 5
SHOWN = 1 - PART_OF_HIDDEN / TURNS
"""What is left of a variance at hidden entries once these are shown."""


def hidden(values, expected, variance):
    """All entries, each hidden once."""
    turn = np.random.default_rng(9).integers(0, TURNS, values.shape)
    return Hidden(
        values.astype(np.float32), expected, np.broadcast_to(variance, values.shape), turn, expected, 1 / TURNS
    )


def counts_of(seed, relative_variance, shape=(20, 100, 10)):
    """Counts whose rates have gamma distributions around what was expected, and what was expected."""
    rng = np.random.default_rng(seed)
    expected = np.exp(rng.normal(0.5, 0.7, shape))
    variance = np.broadcast_to(relative_variance, shape)
    rates = np.where(variance > 0, rng.gamma(1 / np.maximum(variance, 1e-9)) * variance, 1.0) * expected
    return rng.poisson(rates), expected


def signals_of(seed, *, error_sd, noise_sd, shape=(30, 80, 12)):
    """Signals of two factors, estimates whose errors are shared, and errors of these."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(2, shape[2]))
    mean = rng.normal(size=(*shape[:2], 2)) @ loadings
    errors = np.broadcast_to(error_sd, (*shape[:2], 1)) * (rng.normal(size=(*shape[:2], 2)) @ loadings)
    return mean + noise_sd * rng.normal(size=shape), mean - errors, errors


@pytest.mark.parametrize("variance", [0.05, 0.3])
def test_the_variance_of_rates_is_found_from_counts_alone(variance):
    counts, expected = counts_of(0, variance)
    calibration = calibrate_counts(hidden(counts, expected, 0.0))
    assert calibration.mean_variance == 0
    found = calibration.relative_variance(expected, np.zeros(expected.shape)) / SHOWN
    high = expected > expected.mean((0, 1))
    np.testing.assert_allclose(found[high].mean(), variance, rtol=0.15)


def test_variances_that_a_model_gives_too_small_or_too_large_are_corrected():
    counts, expected = counts_of(1, 0.2)
    for given in (0.02, 2.0):
        calibration = calibrate_counts(hidden(counts, expected, given))
        found = calibration.relative_variance(expected, np.full(expected.shape, given)) / SHOWN
        np.testing.assert_allclose(found[expected > 2].mean(), 0.2, rtol=0.15)


def test_poisson_counts_leave_next_to_nothing_unexplained():
    counts, expected = counts_of(2, 0.0)
    assert calibrate_counts(hidden(counts, expected, 0.0)).scale < 0.01


def test_low_rates_are_less_certain_and_follow_the_model_in_part():
    calibration = CountCalibration(0.1, 0.3, (2.0,))
    expected = np.array([2.0 * LOW_RATE, 1e-12, 2e6]).reshape(1, 3, 1)
    low, none, high = calibration.relative_variance(expected, np.full((1, 3, 1), 0.3)).ravel()
    assert (low, none) == (pytest.approx(0.2), MAX_VARIANCE)
    assert high == pytest.approx(0.1)
    assert calibration.relative_variance(expected, np.full((1, 3, 1), 3.0)).ravel()[2] > 0.2


def test_too_few_spikes_or_entries_are_no_calibration():
    assert calibrate_counts(hidden(np.ones((1, 99, 1)), np.ones((1, 99, 1)), 0.1)) is None
    assert calibrate_signals(hidden(np.ones((1, 199, 1)), np.ones((1, 199, 1)), 0.1)) is None


@pytest.mark.parametrize("error_sd", [0.1, 0.4])
def test_errors_of_a_signals_mean_are_told_from_noise_by_what_channels_share(error_sd):
    values, expected, errors = signals_of(3, error_sd=error_sd, noise_sd=1.0)
    calibration = calibrate_signals(hidden(values, expected, 1e-6))
    found = calibration.variance(np.full(values.shape, 1e-6))
    np.testing.assert_allclose(found.mean(), SHOWN * (errors**2).mean(), rtol=0.2)
    np.testing.assert_allclose(calibration.noise_sd, 1.0, rtol=0.1)


def test_errors_follow_the_models_variance_as_far_as_residuals_do():
    scale = np.random.default_rng(4).uniform(0.2, 2, (30, 80, 1))
    values, expected, _ = signals_of(5, error_sd=scale, noise_sd=0.3)
    told = calibrate_signals(hidden(values, expected, 0.01 * scale**2))
    assert told.from_model > 0.7
    misled = calibrate_signals(hidden(values, expected, 0.01 * scale[::-1] ** 2))
    assert misled.from_model < 0.1


@pytest.mark.parametrize("shape", [(30, 80, 2), (1, 70, 12)])
def test_errors_that_cannot_be_told_from_noise_stay_the_models(shape):
    values, expected, _ = signals_of(6, error_sd=0.1, noise_sd=1.0, shape=shape)
    calibration = calibrate_signals(hidden(values, expected, 0.04), shared=len(values) == 30)
    assert calibration.errors is None
    np.testing.assert_allclose(calibration.variance(np.full(shape, 0.04)), 0.04)
    np.testing.assert_allclose(np.mean(calibration.noise_sd), 1.0, rtol=0.2)


def test_quantiles_are_those_of_residuals_whatever_their_distribution():
    values, expected, _ = signals_of(7, error_sd=0.1, noise_sd=0.0)
    noise = np.random.default_rng(8).standard_t(3, values.shape)
    calibration = calibrate_signals(hidden(values + noise, expected, 0.0))
    sd = np.sqrt(calibration.variance(np.zeros(values.shape)) / SHOWN + np.array(calibration.noise_sd) ** 2)
    for level, quantile in zip(LEVELS, calibration.quantiles, strict=True):
        inside = np.abs(values + noise - expected) <= quantile * sd
        assert abs(inside.mean() - level) < 0.005


def test_a_channel_that_was_never_hidden_has_no_noise():
    values, expected, _ = signals_of(10, error_sd=0.1, noise_sd=1.0)
    entries = hidden(values, expected, 0.0)
    entries.turn[:, :, 3] = -1
    calibration = calibrate_signals(entries)
    assert calibration.noise_sd[3] is None and calibration.errors[3] == 0
    assert sum(sd is None for sd in calibration.noise_sd) == 1


def test_log_variance_is_that_of_the_lognormal_with_these_moments():
    draws = np.exp(np.random.default_rng(4).normal(1.0, 0.4, 400_000))
    np.testing.assert_allclose(variance_of_log(draws.mean(), draws.std()), 0.16, rtol=0.02)
    assert variance_of_log(np.zeros(2), np.ones(2)).tolist() == [0, 0]
