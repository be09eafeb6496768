import numpy as np
import pytest

from nwb_sbtt.evaluate.calibration import (
    COUNT_RATIO,
    LEVELS,
    LOW_POWER,
    LOW_RATE,
    MAX_VARIANCE,
    PART_OF_HIDDEN,
    RATE_POWER,
    SIGNAL_RATIO,
    Changes,
    CountCalibration,
    Hidden,
    calibrate_counts,
    calibrate_signals,
    variance_of_log,
)

TURNS = 5
SHOWN = 1 - PART_OF_HIDDEN / TURNS
"""What is left of a variance at hidden entries once these are shown."""


def hidden(values, expected, variance, jackknife=0.0):
    """All entries, each hidden once."""
    turn = np.random.default_rng(9).integers(0, TURNS, values.shape)
    shares = np.broadcast_to(jackknife, values.shape[2]).astype(float)
    return Hidden(
        values.astype(np.float32), expected, np.broadcast_to(variance, values.shape), turn, expected, 1 / TURNS, shares
    )


def expected_of(seed, shape=(20, 100, 10)):
    """What was expected of counts."""
    return np.exp(np.random.default_rng(seed).normal(0.5, 0.7, shape))


def pattern_of(expected):
    """Relative variances of rates of channels that are alike, but for their scale, from the definition."""
    ratio = expected / expected.mean((0, 1))
    return ratio**-RATE_POWER + (LOW_RATE / ratio) ** LOW_POWER


def counts_of(seed, relative_variance, shape=(20, 100, 10)):
    """Counts whose rates have gamma distributions around what was expected, and what was expected."""
    rng, expected = np.random.default_rng([seed, 1]), expected_of(seed, shape)
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
@pytest.mark.parametrize("given", [0.0, 0.02, 2.0])
def test_the_variance_of_rates_is_found_from_counts_whatever_the_model_says(variance, given):
    counts, expected = counts_of(0, variance * pattern_of(expected_of(0)))
    calibration = calibrate_counts(hidden(counts, expected, given))
    found = calibration.relative_variance(expected, np.full(expected.shape, given)) / SHOWN
    np.testing.assert_allclose(found / pattern_of(expected), variance, rtol=0.15)


def test_poisson_counts_leave_next_to_nothing_unexplained():
    counts, expected = counts_of(2, 0.0)
    assert calibrate_counts(hidden(counts, expected, 0.0)).scale < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_few_counts_do_not_make_rates_certain_or_unknown_by_chance(seed):
    """Neither the 150 spikes of a quiet unit nor few trials tell a relative variance of 0.1; the jackknife does."""
    rng = np.random.default_rng(seed)
    expected = np.full((5, 50, 2), 0.3)
    counts = rng.poisson(expected * rng.gamma(10, 0.1, expected.shape))
    unaided = calibrate_counts(hidden(counts, expected, 0.0)).scale
    aided = calibrate_counts(hidden(counts, expected, 0.0, 0.1 / COUNT_RATIO)).scale
    assert 0.05 < aided < 0.2
    assert abs(np.log(aided / 0.1)) < abs(np.log(unaided / 0.1))


def test_where_counts_are_many_the_jackknife_hardly_matters():
    shape = (40, 200, 10)
    counts, expected = counts_of(0, 0.2 * pattern_of(expected_of(0, shape)), shape)
    scales = [calibrate_counts(hidden(counts, expected, 0.0, j)).scale for j in (0.0, 0.002, 2.0)]
    np.testing.assert_allclose(scales, scales[0], rtol=0.05)


def test_channels_differ_as_their_jackknife_variances_do():
    counts, expected = counts_of(3, 0.2)
    calibration = calibrate_counts(hidden(counts, expected, 0.0, np.arange(1.0, 11.0)))
    high = np.full((1, 1, 10), 1e3) * np.array(calibration.mean)
    found = calibration.relative_variance(high, np.zeros((1, 1, 10))).ravel()
    np.testing.assert_allclose(found / found[0], np.arange(1.0, 11.0), rtol=1e-3)


def test_low_rates_are_less_certain_and_follow_the_model_in_part():
    calibration = CountCalibration(0.1, (1.0,), (0.3,), (2.0,))
    expected = np.array([2.0 * LOW_RATE, 2.0, 1e-12, 2e6]).reshape(1, 4, 1)
    low, mean, none, high = calibration.relative_variance(expected, np.full((1, 4, 1), 0.3)).ravel()
    assert none == MAX_VARIANCE
    assert high < 0.01 < mean < low
    assert mean == pytest.approx(0.1, rel=0.1)
    assert calibration.relative_variance(expected, np.full((1, 4, 1), 3.0)).ravel()[1] > 0.2


@pytest.mark.parametrize("counts", [True, False])
def test_the_jackknife_is_that_of_estimates_whatever_their_offset(counts):
    rng = np.random.default_rng(11)
    changes, turns = Changes(1 / TURNS), 1000 + np.arange(1.0, 4.0) * rng.normal(size=(TURNS, 20, 50, 3))
    if counts:
        turns = np.exp(turns - 1000)
    bins = np.arange(20)[:, None] < np.full(50, 15)
    for turn in turns:
        changes.add(turn, counts=counts)
    compared = np.log(turns) if counts else turns
    weight = np.minimum(turns[0], turns[0].mean((0, 1))) if counts else np.ones(turns[0].shape)
    expected = [np.average((TURNS - 1) * compared.var(0)[:15, :, c], weights=weight[:15, :, c]) for c in range(3)]
    np.testing.assert_allclose(changes.variance(bins), expected, rtol=1e-6)


def test_what_is_never_hidden_in_part_has_no_jackknife():
    changes = Changes(0.5)
    changes.add(np.ones((2, 3, 4)), counts=True)
    assert not changes.variance(np.zeros((2, 3), bool)).any()


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


@pytest.mark.parametrize("shape", [(30, 80, 1), (30, 80, 2), (1, 70, 12)])
def test_errors_that_cannot_be_told_from_noise_are_as_large_as_the_jackknife_says(shape):
    values, expected, _ = signals_of(6, error_sd=0.1, noise_sd=1.0, shape=shape)
    jackknife = np.linspace(0.001, 0.003, shape[2])
    calibration = calibrate_signals(hidden(values, expected, 0.04, jackknife))
    assert not calibration.told_apart
    found = calibration.variance(np.full(shape, 0.04))
    np.testing.assert_allclose(found / np.broadcast_to(SIGNAL_RATIO * jackknife, shape), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.mean(calibration.noise_sd), 1.0, rtol=0.2)


@pytest.mark.parametrize("parameters", [{"shared": False}, {"jackknife": 0.0}])
def test_means_that_channels_do_not_share_or_that_nothing_is_known_of_keep_the_models_sd(parameters):
    shape = (30, 80, 2)
    values, expected, _ = signals_of(6, error_sd=0.1, noise_sd=1.0, shape=shape)
    shared = parameters.pop("shared", True)
    calibration = calibrate_signals(hidden(values, expected, 0.04, **{"jackknife": 0.01, **parameters}), shared=shared)
    assert calibration.errors is None and not calibration.told_apart
    np.testing.assert_allclose(calibration.variance(np.full(shape, 0.04)), 0.04)


@pytest.mark.parametrize("error_sd", [0.1, 0.4])
def test_residuals_and_jackknife_agree_on_errors_by_their_precision(error_sd):
    values, expected, errors = signals_of(3, error_sd=error_sd, noise_sd=1.0)
    of_channels = (errors**2).mean((0, 1))
    found = [
        np.array(calibrate_signals(hidden(values, expected, 0.0, factor * of_channels / SIGNAL_RATIO)).errors)
        for factor in (1 / 3, 1.0, 3.0)
    ]
    np.testing.assert_allclose(found[1], SHOWN * of_channels, rtol=0.15)
    # Where the jackknife is wrong, hidden entries correct it in part.
    ratios = [each.mean() / found[1].mean() for each in found]
    assert 1.2 / 3 < ratios[0] < 1 / 1.2 and 1.2 < ratios[2] < 3 / 1.2


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
