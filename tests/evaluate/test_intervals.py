import json

import numpy as np
import pytest
import xarray as xr
from scipy.stats import gamma, norm

from nwb_sbtt.data.schema import DIMS
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.evaluate.calibration import LEVELS
from nwb_sbtt.evaluate.intervals import TAILS, interval, predictive_coverage

WIDTH = 0.02
SHAPE = (1, 30_000, 2)


def latents_of(name, mean, sd, **coords):
    data = {name: (DIMS, np.broadcast_to(mean, SHAPE)), f"{name}_sd": (DIMS, np.broadcast_to(sd, SHAPE))}
    return xr.Dataset(data, coords, {"bin_width": WIDTH})


def share_inside(values, bounds):
    return float(((values >= bounds[0].values) & (values <= bounds[1].values)).mean())


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_of_rates_hold_what_they_say_of_errors_with_heavy_tails(level):
    rng = np.random.default_rng(3)
    mean, variance = rng.uniform(1, 40, SHAPE), np.exp(rng.uniform(-4, 0.5, SHAPE))
    degrees, scale = TAILS["rates"]
    z = np.clip(scale * rng.standard_t(degrees, SHAPE), -8, 8)
    rates = mean * variance * gamma.ppf(norm.cdf(z), 1 / variance)
    latents = latents_of("rates", mean, mean * np.sqrt(variance))
    assert abs(share_inside(rates, interval(latents, level)) - level) < 0.01


def test_the_interval_of_a_rate_without_doubt_is_that_rate():
    lower, upper = interval(latents_of("rates", 7.0, 0.0))
    assert float(lower.min()) == float(upper.max()) == 7.0
    assert (interval(latents_of("rates", 0.0, 0.0))[1] == 0).all()


@pytest.mark.parametrize("variance", [0.0, 0.3])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_predictive_intervals_of_counts_are_those_of_a_negative_binomial(variance, level):
    rng = np.random.default_rng(4)
    rates = 600 * (rng.gamma(1 / 0.3, 0.3, SHAPE) if variance else np.ones(SHAPE))
    counts = rng.poisson(rates * WIDTH)
    lower, upper = interval(latents_of("rates", 600.0, 600 * np.sqrt(variance)), level, of="data")
    # Counts are whole numbers: not less than the level, and not much more.
    assert level - 0.01 < share_inside(counts, (lower, upper)) < level + 0.1
    held = predictive_coverage(
        counts.ravel(), np.full(counts.size, 12.0), np.full(counts.size, variance), (level,), quantiles=None
    )
    assert abs(held.mean() - level) < 0.01


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_of_a_signals_mean_have_tails_a_little_heavier_than_a_normals(level):
    degrees, scale = TAILS["mean"]
    errors = scale * np.random.default_rng(5).standard_t(degrees, SHAPE)
    bounds = interval(latents_of("mean", 5.0, 2.0), level)
    assert abs(share_inside(5 + 2 * errors, bounds) - level) < 0.01
    assert abs(share_inside(5 + 2 * np.random.default_rng(6).normal(size=SHAPE), bounds) - level) < 0.03


def test_predictive_intervals_of_signals_are_wider_by_the_noise_of_each_channel():
    latents = latents_of("mean", 5.0, 3.0, noise_sd=("channel", [0.0, 4.0]))
    upper = interval(latents, 0.95, of="data")[1].values
    np.testing.assert_allclose(upper[..., 0] - 5, 3 * 1.959964, rtol=1e-6)
    np.testing.assert_allclose(upper[..., 1] - 5, 5 * 1.959964, rtol=1e-6)
    measured = latents.assign_attrs(calibration=json.dumps({"quantiles": np.linspace(1, 2, len(LEVELS)).tolist()}))
    for level, expected in ((LEVELS[0], 1.0), (LEVELS[-1], 2.0)):
        np.testing.assert_allclose(interval(measured, level, of="data")[1].values[..., 1] - 5, 5 * expected)


def test_a_predictive_interval_of_events_does_not_go_below_zero():
    latents = latents_of("mean", 0.1, 0.1, noise_sd=("channel", [1.0, 1.0]))
    assert float(interval(latents, of="data")[0].min()) < 0
    assert float(interval(latents.assign_attrs(signal="events"), of="data")[0].min()) == 0


def test_an_interval_needs_a_posterior_sd_a_probability_and_for_data_the_noise():
    rates = latents_of("rates", 1.0, 1.0)
    with pytest.raises(DataError, match="rates_sd"):
        interval(rates.drop_vars("rates_sd"))
    with pytest.raises(ConfigError, match=r"0\.95"):
        interval(rates, 95)
    with pytest.raises(ConfigError, match="expected 'mean', or 'data' for a predictive interval"):
        interval(rates, of="rates")
    with pytest.raises(DataError, match="no noise_sd"):
        interval(latents_of("mean", 1.0, 1.0), of="data")
