from pathlib import Path

import numpy as np
import pytest
from scipy.special import gammaln
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from nwb_sbtt.errors import DataError
from nwb_sbtt.nlb.metrics import bits_per_spike, psth_r2, speed_correlation, velocity_r2


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def _slow_bits(rates, spikes):
    """Straight from the definition, entry by entry."""
    null = {unit: np.nanmean(spikes[..., unit]) or 1e-9 for unit in range(spikes.shape[-1])}
    gain, total = 0.0, 0.0
    for place, k in np.ndenumerate(spikes):
        if np.isnan(k):
            continue
        r, m = rates[place] or 1e-9, null[place[-1]]
        gain += (m - k * np.log(m) + gammaln(k + 1)) - (r - k * np.log(r) + gammaln(k + 1))
        total += k
    return gain / total / np.log(2)


@pytest.mark.parametrize("lowest", [0.0, 1e-13])
def test_bits_per_spike_equal_the_definition_entry_by_entry(generator, lowest):
    rates = generator.gamma(1, 0.3, (4, 10, 5))
    spikes = generator.poisson(rates).astype(float)
    spikes[generator.random(spikes.shape) < 0.2] = np.nan
    spikes[..., 3] = np.where(np.isnan(spikes[..., 3]), np.nan, 0)
    rates[generator.random(rates.shape) < 0.2] = lowest
    before = rates.copy(), spikes.copy()
    assert bits_per_spike(rates, spikes) == pytest.approx(_slow_bits(rates, spikes), rel=1e-9)
    np.testing.assert_array_equal(rates, before[0])
    np.testing.assert_array_equal(spikes, before[1])


def test_rates_where_nothing_is_scored_do_not_matter(generator):
    rates = generator.gamma(1, 0.3, (4, 10, 5))
    spikes = generator.poisson(rates).astype(float)
    spikes[:, :4] = np.nan
    junk = rates.copy()
    junk[:, :4] = np.nan
    assert bits_per_spike(junk, spikes) == bits_per_spike(rates, spikes)


def test_without_a_spike_there_is_no_score(generator):
    with pytest.raises(DataError, match="no spike"):
        bits_per_spike(np.ones((2, 3, 1)), np.zeros((2, 3, 1)))


def test_a_velocity_that_is_linear_in_the_rates_is_decoded_and_noise_is_not(generator):
    rates = generator.gamma(2, 0.2, (2, 20, 15, 8))
    weights = generator.normal(size=(8, 2))
    noise = generator.normal(size=(20, 15, 2))
    assert velocity_r2(rates[0], rates[0] @ weights, rates[1], rates[1] @ weights) > 0.999
    assert velocity_r2(rates[0], rates[0] @ weights, rates[1], noise) < 0.1


def test_bins_without_a_velocity_are_left_out(generator):
    rates = generator.gamma(2, 0.2, (2, 20, 15, 8))
    velocity = rates @ generator.normal(size=(8, 2)) + generator.normal(size=(2, 20, 15, 2))
    holed = velocity.copy()
    holed[:, :, ::3] = np.nan
    keep = np.arange(15) % 3 != 0
    short = velocity_r2(rates[0][:, keep], velocity[0][:, keep], rates[1][:, keep], velocity[1][:, keep])
    assert velocity_r2(rates[0], holed[0], rates[1], holed[1]) == short


def test_groups_have_decoders_of_their_own(generator):
    rates = generator.gamma(2, 0.2, (2, 20, 15, 8))
    sign = np.where(np.arange(20) % 2, 1, -1)[:, None, None]
    velocity = sign * (rates @ generator.normal(size=(8, 2)))
    groups = np.stack([sign[:, 0, 0] == 1, sign[:, 0, 0] == -1], axis=1)
    apart = velocity_r2(rates[0], velocity[0], rates[1], velocity[1], train_groups=groups, eval_groups=groups)
    assert apart > 0.99 > 0.5 > velocity_r2(rates[0], velocity[0], rates[1], velocity[1])


def test_the_decoder_is_ridge_regression_on_single_bins(generator):
    rates = generator.gamma(2, 0.2, (2, 20, 15, 8))
    velocity = rates @ generator.normal(size=(8, 2)) * 5 + generator.normal(size=(2, 20, 15, 2)) * 0.01
    model = Ridge(1e-4).fit(rates[0].reshape(-1, 8), velocity[0].reshape(-1, 2))
    expected = r2_score(velocity[1].reshape(-1, 2), model.predict(rates[1].reshape(-1, 8)))
    assert velocity_r2(rates[0], velocity[0], rates[1], velocity[1]) == pytest.approx(expected, rel=1e-6)


def test_rates_that_are_the_psths_score_one_and_jitter_is_undone(generator):
    psth = generator.gamma(2, 0.2, (3, 30, 4))
    psth[:, :6] = np.nan
    condition = np.arange(12) % 3
    jitter = generator.integers(0, 6, 12)
    rates = np.stack(
        [np.roll(np.nan_to_num(psth[c], nan=7.0), -shift, axis=0) for c, shift in zip(condition, jitter, strict=True)]
    )
    condition_trials = [np.flatnonzero(condition == c) for c in range(3)]
    assert psth_r2(psth, rates, condition_trials, jitter=jitter) == pytest.approx(1)
    assert psth_r2(psth, rates, condition_trials) < 0.5


def test_conditions_without_an_evaluated_trial_do_not_count(generator):
    psth, rates = generator.gamma(2, 0.2, (3, 30, 4)), generator.gamma(2, 0.2, (4, 30, 4))
    rows = [np.array([0, 1]), np.array([2, 3])]
    whole = psth_r2(psth, rates, [*rows, np.array([], int)])
    assert whole == psth_r2(psth[:2], rates, rows)


def test_speed_that_falls_with_the_interval_correlates_negatively_within_each_group(generator):
    interval = generator.uniform(500, 1000, 40)
    group = np.arange(40) % 4
    course = np.cumsum(np.ones((40, 30)) * (1000 / interval + 5 * group)[:, None], axis=1)
    behavior = np.column_stack([group % 2, group // 2, np.zeros(40), np.full(40, 700.0), interval])
    behavior[:3] = np.nan
    scored = np.arange(30) >= generator.integers(0, 20, 40)[:, None]
    correlation = speed_correlation(course[..., None].repeat(3, 2), behavior, scored)
    assert -1 <= correlation < -0.97


def test_a_group_of_one_trial_has_no_correlation():
    behavior = np.array([[0, 0, 0, 700, 690.0], [1, 0, 0, 700, 710.0]])
    with pytest.raises(DataError, match="two"):
        speed_correlation(np.ones((2, 5, 3)), behavior, np.ones((2, 5), bool))


def test_every_metric_equals_that_of_nlb_tools(monkeypatch):
    pytest.importorskip("nlb_tools.evaluation", reason="nlb_tools is not installed; it is no dependency")

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import nlb_parity

    rows = [row for kind in nlb_parity.KINDS for row in nlb_parity.compare(kind, 1, n_trials=24)]
    assert rows
    assert max(float(row["difference"]) for row in rows) < 1e-6
    assert all(row["inputs kept"] for row in rows)
