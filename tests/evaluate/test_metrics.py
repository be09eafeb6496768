import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import poisson
from sklearn.metrics import r2_score

from nwb_sbtt.errors import DataError
from nwb_sbtt.evaluate import metrics
from nwb_sbtt.evaluate.metrics import (
    bits_per_spike,
    bits_per_spike_by_channel,
    explained_variance,
    explained_variance_by_channel,
    pearson_r2,
    poisson_nll,
    pooled_explained_variance,
    r2,
)


@pytest.fixture
def case() -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(0)
    mean = rng.gamma(2, 0.3, (6, 20, 5))
    exposure = rng.uniform(0.1, 1, mean.shape)
    return {"mean": mean, "k": rng.poisson(mean), "where": rng.random(mean.shape) < 0.6, "exposure": exposure}


def test_the_likelihood_equals_that_of_scipy(case: dict[str, NDArray[np.generic]]) -> None:
    mean, k, where, exposure = case.values()
    assert poisson_nll(mean, k, where) == pytest.approx(-poisson.logpmf(k, mean)[where].sum())
    assert poisson_nll(mean, k, where, exposure=exposure) == pytest.approx(
        -poisson.logpmf(k, mean * exposure)[where].sum()
    )


def test_bits_per_spike_equal_a_slow_obvious_version(case: dict[str, NDArray[np.generic]]) -> None:
    mean, k, where, exposure = case.values()
    gain, spikes = 0.0, 0
    by_channel = []
    for c in range(5):
        at = where[:, :, c]
        seen, expected, share = k[:, :, c][at], mean[:, :, c][at], exposure[:, :, c][at]
        null = seen.sum() / share.sum() * share
        own = poisson.logpmf(seen, expected * share).sum() - poisson.logpmf(seen, null).sum()
        by_channel.append(own / np.log(2) / seen.sum())
        gain, spikes = gain + own / np.log(2), spikes + seen.sum()
    assert bits_per_spike(mean, k, where, exposure=exposure) == pytest.approx(gain / spikes)
    found, defined = bits_per_spike_by_channel(mean, k, where, exposure=exposure)
    assert found == pytest.approx(by_channel) and defined.all()


def test_the_mean_of_the_scored_entries_is_worth_nothing(case: dict[str, NDArray[np.generic]]) -> None:
    k, where = case["k"], case["where"]
    mean = (k * where).sum((0, 1)) / where.sum((0, 1))
    assert bits_per_spike(np.broadcast_to(mean, k.shape), k, where) == pytest.approx(0, abs=1e-12)


def test_the_truth_is_the_best_estimate_on_average() -> None:
    rng = np.random.default_rng(1)
    mean = rng.gamma(2, 0.3, (50, 40, 3))
    k, all_entries = rng.poisson(mean), np.ones(mean.shape, bool)
    best = bits_per_spike(mean, k, all_entries)
    assert best > 0
    for worse in (mean * 1.3, mean / 1.3, mean**1.5):
        assert bits_per_spike(worse, k, all_entries) < best


def test_what_is_not_marked_does_not_matter_and_arguments_stay_as_they_are(
    case: dict[str, NDArray[np.generic]],
) -> None:
    mean, k, where, exposure = case.values()
    junk_mean, junk_k = np.where(where, mean, np.nan), np.where(where, k, -7.0)
    before = junk_mean.copy(), junk_k.copy(), where.copy(), exposure.copy()
    for metric in (poisson_nll, bits_per_spike):
        assert metric(junk_mean, junk_k, where, exposure=exposure) == metric(mean, k, where, exposure=exposure)
    assert explained_variance(junk_mean, junk_k, where) == explained_variance(mean, k, where)
    for old, new in zip(before, (junk_mean, junk_k, where, exposure), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_rate_of_zero_costs_as_in_the_benchmark() -> None:
    assert poisson_nll([[0.0]], [[1]], [[True]]) == pytest.approx(-np.log(1e-9), rel=1e-6)


def test_silent_channels_are_left_undefined_without_nan() -> None:
    k = np.array([[1, 0], [2, 0]])
    bits, defined = bits_per_spike_by_channel(np.ones((2, 2)), k, np.ones((2, 2), bool))
    assert defined.tolist() == [True, False]
    assert np.isfinite(bits).all()


def test_explained_variance_equals_that_of_sklearn(case: dict[str, NDArray[np.generic]]) -> None:
    mean, k, where, _ = case.values()
    expected = [r2_score(k[:, :, c][where[:, :, c]], mean[:, :, c][where[:, :, c]]) for c in range(5)]
    found, defined = explained_variance_by_channel(mean, k, where)
    assert found == pytest.approx(expected) and defined.all()
    assert explained_variance(mean, k, where) == pytest.approx(np.mean(expected))
    assert r2(k, mean) == pytest.approx(r2_score(k.reshape(-1, 5), mean.reshape(-1, 5)))


def test_pooled_explained_variance_weighs_channels_by_their_own_spread(case: dict[str, NDArray[np.generic]]) -> None:
    mean, k, where, _ = case.values()
    sd = np.linspace(0.5, 2, 5)
    pooled = pooled_explained_variance(mean, k, where, sd=sd)
    scaled = np.array([1.0, 1e3, 1e-6, 10.0, 1.0])
    assert pooled_explained_variance(mean * scaled, k * scaled, where, sd=sd * scaled) == pytest.approx(pooled)
    errors = [((k - mean)[:, :, c][where[:, :, c]] ** 2).sum() / sd[c] ** 2 for c in range(5)]
    totals = [where[:, :, c].sum() * np.var(k[:, :, c][where[:, :, c]]) / sd[c] ** 2 for c in range(5)]
    assert pooled == pytest.approx(1 - sum(errors) / sum(totals))
    rare = where & (np.arange(5) != 2)
    rare[0, :2, 2] = True
    flat = k.astype(float)
    flat[0, :2, 2] = [1.0, 1.0 + 1e-3]
    assert pooled_explained_variance(mean, flat, rare, sd=sd) > -5
    assert explained_variance(mean, flat, rare) < -1e3
    with pytest.raises(DataError, match="no channel varies"):
        pooled_explained_variance(mean, k, where, sd=np.zeros(5))


def test_a_channel_that_does_not_vary_is_left_out() -> None:
    truth = np.column_stack([np.arange(10.0), np.full(10, 0.1)])
    assert r2(truth, truth + np.array([1, 5])) == pytest.approx(1 - 10 / np.var(np.arange(10)) / 10)
    with pytest.raises(DataError, match="no channel varies"):
        r2(truth[:, 1:], truth[:, 1:])


def test_pearson_is_blind_to_offset_and_scale(case: dict[str, NDArray[np.generic]]) -> None:
    mean, k = case["mean"], case["k"]
    expected = np.corrcoef(mean.ravel(), k.ravel())[0, 1] ** 2
    assert pearson_r2(k, mean) == pytest.approx(expected)
    assert pearson_r2(k, 3 - 2 * mean) == pytest.approx(expected)
    assert pearson_r2(k, np.ones(k.shape)) == 0


def test_errors_say_what_is_wrong() -> None:
    one = np.ones((2, 2))
    yes = one > 0
    with pytest.raises(DataError, match=r"\(2, 1\).*same shape"):
        poisson_nll(one[:, :1], one, yes)
    with pytest.raises(DataError, match="as scored; mark at least one"):
        poisson_nll(one, one, ~yes)
    with pytest.raises(DataError, match="estimate are not finite"):
        poisson_nll(one * np.nan, one, yes)
    with pytest.raises(DataError, match="counts are negative"):
        poisson_nll(one, -one, yes)
    with pytest.raises(DataError, match="no spike"):
        bits_per_spike(one, one * 0, yes)
    with pytest.raises(DataError, match="do not vary"):
        pearson_r2(one, one)


@pytest.mark.parametrize("exposed", [True, False])
def test_scores_take_little_memory_and_are_those_of_all_channels_at_once(exposed, monkeypatch):
    random = np.random.default_rng(0)
    counts = random.poisson(0.3, (200, 50, 40)).astype(np.float32)
    rates = random.uniform(0.2, 0.4, counts.shape).astype(np.float32)
    where = random.random(counts.shape) < 0.5
    exposure = random.uniform(0.2, 1, counts.shape).astype(np.float32) if exposed else None

    def scores():
        by_channel, _ = bits_per_spike_by_channel(rates, counts, where, exposure=exposure)
        explained = pooled_explained_variance(rates, counts, where, sd=np.ones(40))
        return [
            bits_per_spike(rates, counts, where, exposure=exposure),
            explained,
            pearson_r2(counts, rates),
            *by_channel,
        ]

    together = scores()
    monkeypatch.setattr(metrics, "ENTRIES_AT_ONCE", counts.size // 20)
    tracemalloc.start()
    apart = scores()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(apart, together, rtol=1e-9)
    assert peak < 20 * counts.size
