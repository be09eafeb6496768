import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.errors import DataError
from nwb_sbtt.evaluate.baselines import MaskedData, Prediction, protocol, smoothing
from nwb_sbtt.evaluate.baselines.components import measure_components
from nwb_sbtt.evaluate.baselines.smoothing import kernel_sum, masked_smoothing, mean_rate
from nwb_sbtt.evaluate.baselines.statespace import factor_analysis, linear_dynamics
from nwb_sbtt.evaluate.baselines.tuning import tuning_task
from nwb_sbtt.evaluate.baselines.wiener import low_rank_wiener, posterior_mean
from nwb_sbtt.evaluate.baselines.windows import merge_windows, to_windows
from nwb_sbtt.evaluate.metrics import bits_per_spike, explained_variance
from nwb_sbtt.simulate.lorenz import lorenz

Baseline = Callable[[MaskedData], Prediction]
BASELINE_FUNCTIONS = [mean_rate, masked_smoothing, low_rank_wiener, factor_analysis, linear_dynamics]
ALL = pytest.mark.parametrize("baseline", BASELINE_FUNCTIONS)
KINDS = pytest.mark.parametrize("counts", [True, False])


def make_data(
    shape: tuple[int, int, int] = (12, 30, 6), *, counts: bool = True, observed: float = 0.5, seed: int = 0
) -> MaskedData:
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, (shape[0], 1, 1))
    rates = 0.6 * np.exp(np.sin(np.arange(shape[1])[None, :, None] / 4 + phase) * rng.normal(size=shape[2]))
    values = rng.poisson(rates) if counts else rates + rng.normal(size=shape) * 0.3
    shown = rng.random(shape) < observed
    return MaskedData(values.astype(float), shown, np.arange(shape[0]) < max(1, shape[0] - 4), counts)


@ALL
@KINDS
def test_what_is_not_shown_changes_nothing(baseline: Baseline, counts: bool) -> None:
    clean = make_data(counts=counts)
    exposure = np.random.default_rng(1).uniform(0.2, 1, clean.values.shape)
    junk = np.where(clean.shown, clean.values, 1e30), np.where(clean.shown, exposure, np.nan)
    first = baseline(MaskedData(clean.values, clean.shown, clean.train, counts, exposure=exposure)).expected
    second = baseline(MaskedData(junk[0], clean.shown, clean.train, counts, exposure=junk[1])).expected
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all() and (not counts or (first > 0).all())


@ALL
def test_nothing_is_changed_in_place(baseline: Baseline) -> None:
    data = make_data()
    values, shown = data.values.copy(), data.shown.copy()
    baseline(data)
    np.testing.assert_array_equal(data.values, values)
    np.testing.assert_array_equal(data.shown, shown)


@ALL
@KINDS
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 2), (1, 300, 1), (1, 300, 3), (4, 5, 40)])
def test_every_shape_gives_finite_estimates(baseline: Baseline, counts: bool, shape: tuple[int, int, int]) -> None:
    data = make_data(shape, counts=counts, observed=1.0)
    estimate = baseline(data).expected
    assert estimate.shape == shape and np.isfinite(estimate).all()


@ALL
@KINDS
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_data_are_estimated_as_constant(baseline: Baseline, counts: bool, value: float) -> None:
    shown = np.random.default_rng(0).random((6, 40, 3)) < 0.7
    estimate = baseline(MaskedData(np.full(shown.shape, value), shown, np.arange(6) < 4, counts)).expected
    assert estimate == pytest.approx(value, abs=0.1)


@ALL
def test_a_channel_that_was_never_shown_gets_the_mean_of_the_others(baseline: Baseline) -> None:
    data = make_data()
    shown = data.shown.copy()
    shown[:, :, 2] = False
    estimate = baseline(MaskedData(data.values, shown, data.train, True)).expected
    others = data.values[shown].mean()
    assert estimate[:, :, 2] == pytest.approx(np.full(estimate.shape[:2], others))


@given(
    seed=st.integers(0, 1000),
    width=st.floats(0.5, 12),
    n_bins=st.integers(1, 60),
    lag=st.one_of(st.none(), st.integers(0, 60)),
)
@settings(max_examples=30, deadline=None)
def test_the_kernel_sum_equals_a_slow_one(seed: int, width: float, n_bins: int, lag: int | None) -> None:
    array = np.random.default_rng(seed).normal(size=(2, n_bins, 3))
    ahead = np.arange(n_bins) - np.arange(n_bins)[:, None]
    within = (np.abs(ahead) <= np.ceil(4 * width)) & (ahead <= (n_bins if lag is None else lag))
    kernel = np.where(within, np.exp(-0.5 * (ahead / width) ** 2), 0)
    slow = np.einsum("ts,nsc->ntc", kernel, array)
    for matrix_bins in (smoothing.MATRIX_BINS, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(smoothing, "MATRIX_BINS", matrix_bins)
            np.testing.assert_allclose(kernel_sum(array, width, lag=lag), slow, atol=1e-10)


def test_smoothing_far_from_anything_seen_is_the_mean() -> None:
    data = make_data((8, 200, 2), observed=1.0)
    shown = data.shown.copy()
    shown[-1, 1:] = False
    hidden = MaskedData(data.values, shown, data.train, True)
    assert masked_smoothing(hidden).expected[-1, -1] == pytest.approx(hidden.channel_mean)


@pytest.mark.parametrize("lag", [None, 0, 3, 50])
def test_the_filter_equals_the_conditional_mean_of_a_gaussian(lag: int | None) -> None:
    data = make_data((10, 20, 5), observed=0.6)
    exposure = np.random.default_rng(3).uniform(0.3, 1, data.values.shape)
    data = MaskedData(data.values, data.shown, data.train, True, exposure=exposure, lag=lag)
    components = measure_components(data)
    rank = 2
    fast = posterior_mean(data, components, rank)
    covariance = sum(
        np.kron(
            components.bases[k] @ components.bases[k].T, np.outer(components.loadings[:, k], components.loadings[:, k])
        )
        for k in range(rank)
    )
    bins = np.arange(20)
    for trial, t in itertools.product(range(10), [19] if lag is None else range(20)):
        seen = (data.shown[trial] & (bins <= t + (lag or 0))[:, None]).ravel()
        rate = np.where(data.shown[trial], data.values[trial], 0) / exposure[trial]
        deviation = ((rate - components.mean) / components.scale).ravel()[seen]
        noise = np.diag(1 / exposure[trial].ravel()[seen])
        slow = covariance[:, seen] @ np.linalg.solve(covariance[np.ix_(seen, seen)] + noise, deviation)
        expected = components.mean + components.scale * slow.reshape(20, 5)
        where = bins if lag is None else [t]
        np.testing.assert_allclose(fast[trial, where], expected[where], rtol=1e-8)


@KINDS
@pytest.mark.slow
def test_each_baseline_is_better_than_the_one_before(counts: bool) -> None:
    ds = lorenz(conditions=10, trials_per_condition=12, n_channels=20)
    truth = ds["true_rates"].values * 0.02
    rng = np.random.default_rng(0)
    values = ds["values"].values if counts else np.log(truth) + rng.normal(size=truth.shape)
    valid = (ds["split"].values == "valid")[:, None, None]
    observed = rng.random(values.shape) < 0.4
    hidden = observed & valid & (rng.random(values.shape) < 0.2)
    data = MaskedData(values, observed & ~hidden, ~valid[:, 0, 0], counts)
    estimates = [
        baseline(data).expected for baseline in (mean_rate, masked_smoothing, low_rank_wiener, linear_dynamics)
    ]
    estimates.append(truth if counts else np.log(truth))
    score = bits_per_spike if counts else explained_variance
    scores = [score(estimate, values, hidden) for estimate in estimates]
    assert scores == sorted(scores) and len(set(scores)) == 5
    assert scores[2] > 0.4 * scores[4] and scores[3] > 0.6 * scores[4]


@pytest.mark.slow
def test_settings_are_chosen_on_as_many_bins_together_as_are_hidden_in_what_is_scored() -> None:
    rng = np.random.default_rng(7)
    data = MaskedData(rng.normal(size=(20, 60, 4)), rng.random((20, 60, 4)) < 0.9, np.ones(20, bool), is_counts=False)
    for length in (1, 12):
        task = tuning_task(replace(data, mask_length=length))
        hidden = task.target.shown & ~task.data.shown
        assert (hidden == task.hidden).all() and 0.1 < hidden.sum() / data.shown.sum() < 0.3
        # An observed entry next to a hidden one is hidden too, but at the ends of a block.
        pairs = data.shown[:, 1:] & data.shown[:, :-1]
        both = hidden[:, 1:] & hidden[:, :-1] & pairs
        assert (both.sum() / (hidden[:, 1:] & pairs).sum() > 0.8) == (length > 1)


@pytest.mark.slow
def test_held_out_channels_are_estimated_from_the_others() -> None:
    ds = lorenz(conditions=10, trials_per_condition=12, n_channels=20)
    held_in = np.arange(20) >= 5
    valid = ds["split"].values == "valid"
    held_out = np.zeros(ds["values"].shape, bool)
    held_out[valid] = ~held_in
    data = MaskedData(ds["values"].values, ~held_out, ~valid, True, held_in=held_in)
    counts = ds["values"].values
    assert bits_per_spike(low_rank_wiener(data).expected, counts, held_out) > 0.2
    assert bits_per_spike(linear_dynamics(data).expected, counts, held_out) > 0.3
    assert abs(bits_per_spike(masked_smoothing(data).expected, counts, held_out)) < 0.05


def test_partial_exposure_is_made_up_for() -> None:
    rng = np.random.default_rng(0)
    exposure = rng.uniform(0.1, 1, (30, 40, 4))
    exposure[:, :, 0] = 0.2
    data = MaskedData(
        rng.poisson(2 * exposure).astype(float), exposure > 0, np.arange(30) < 20, True, exposure=exposure
    )
    for baseline in BASELINE_FUNCTIONS:
        assert baseline(data).expected.mean((0, 1)) == pytest.approx(2, abs=0.25)


def test_a_gaussian_estimate_moves_with_the_unit_of_the_data() -> None:
    data = make_data(counts=False)
    moved = MaskedData(1e-5 * data.values + 3e-4, data.shown, data.train, False)
    for baseline in BASELINE_FUNCTIONS:
        np.testing.assert_allclose(baseline(moved).expected, 1e-5 * baseline(data).expected + 3e-4, rtol=1e-6)


@given(n_bins=st.integers(1, 500), n_trials=st.integers(1, 3), lag=st.one_of(st.none(), st.integers(0, 200)))
@settings(deadline=None)
def test_windows_of_long_trials_cover_them_and_blend_back(n_bins: int, n_trials: int, lag: int | None) -> None:
    array = np.random.default_rng(n_bins).normal(size=(n_trials, n_bins, 2))
    parts = to_windows(array)
    assert parts.shape[1] == min(n_bins, 128)
    np.testing.assert_allclose(merge_windows(parts, array.shape[:2], lag=lag), array, rtol=1e-12)


def test_where_windows_overlap_the_one_counts_most_that_holds_most_of_what_may_be_seen() -> None:
    which = np.repeat([0.0, 1.0, 2.0], 128).reshape(3, 128, 1)  # windows of 256 bins, from bins 0, 64 and 128
    of_later = {lag: merge_windows(which, (1, 256), lag=lag)[0, 64:128, 0] for lag in (None, 0, 3, 127)}
    np.testing.assert_array_equal(of_later[None], of_later[127])
    assert (of_later[0] < 0.5).all() and (of_later[3][:-2] < 0.5).all() and of_later[3][-1] > 0.5
    assert (of_later[None][:31] < 0.5).all() and (of_later[None][33:] > 0.5).all()


def test_wrong_shapes_and_empty_training_are_refused() -> None:
    data = make_data()
    with pytest.raises(DataError, match="do not match; expected values and shown"):
        MaskedData(data.values, data.shown[:, :3], data.train, True)
    with pytest.raises(
        DataError, match="shown, so baselines cannot be fitted; show some entries of the training trials"
    ):
        MaskedData(data.values, data.shown & False, data.train, True)
    with pytest.raises(DataError, match="lag is -1 bins; expected 0 or more"):
        replace(data, lag=-1)


@ALL
@KINDS
def test_trials_that_are_computed_a_few_at_a_time_change_no_number(
    baseline: Baseline, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data((9, 140, 4), counts=counts)
    exposure = np.random.default_rng(1).uniform(0.2, 1, data.shape)

    def expected() -> np.ndarray:
        return baseline(MaskedData(data.values, data.shown, data.train, counts, exposure=exposure)).expected

    together = expected()
    monkeypatch.setattr(protocol, "ENTRIES_AT_ONCE", 2 * 140 * 4)
    # Newton's method on counts ends where no trial of a part changes much.
    stops_early = counts and baseline in (factor_analysis, linear_dynamics)
    np.testing.assert_allclose(expected(), together, rtol=0.05 if stops_early else 1e-6, atol=1e-9)


def test_single_precision_is_kept_and_enough() -> None:
    data = make_data()
    single = MaskedData(data.values.astype(np.float32), data.shown, data.train, True)
    estimate = low_rank_wiener(single).expected
    assert single.values.dtype == estimate.dtype == np.float32
    np.testing.assert_allclose(estimate, low_rank_wiener(data).expected, rtol=1e-6)
