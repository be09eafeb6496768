"""Behaviour decoded from latents: what is decoded from what, which trials are scored, and what is refused."""

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nwb_sbtt as sb
from nwb_sbtt.errors import DataError, MismatchError, SelectionError
from nwb_sbtt.evaluate.decoding import summary_of
from nwb_sbtt.evaluate.regression import Moments, folds_of_trials, ridge, shares_moments
from nwb_sbtt.plot.behaviour import decoding

N_TRIALS, N_BINS, WIDTH = 20, 30, 0.02


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def smooth(rng, shape):
    walk = np.cumsum(rng.normal(size=shape), axis=1)
    return (walk - walk.mean((0, 1))) / walk.std((0, 1))


def latents_of(factors, **coords):
    n_trials, n_bins, _ = factors.shape
    starts = {"trial_start": ("trial", 1.0 * np.arange(n_trials)), "trial_id": ("trial", np.arange(n_trials))}
    return xr.Dataset(
        {"factors": (("trial", "time", "factor"), factors.astype(np.float32))},
        coords={"time": (np.arange(n_bins) + 0.5) * WIDTH, **starts, **coords},
        attrs={"bin_width": WIDTH, "kind": "units", "unit": "counts"},
    )


def hand_of(values, **attrs):
    return xr.DataArray(values, dims=("trial", "time", "column"), name="hand", attrs={"units": "cm", **attrs})


@pytest.fixture
def factors(rng):
    return smooth(rng, (N_TRIALS, N_BINS, 3))


@pytest.fixture
def weights(rng):
    return rng.normal(size=(3, 2))


def test_ridge_from_sums_equals_that_of_scikit_learn(rng):
    x, y = rng.normal(size=(200, 4)) * [1, 10, 0.1, 1] + [100, 0, 0, 3], rng.normal(size=(200, 2)) + 5
    y[:, 0] += x[:, 0]
    x[:, 3] = 3.0  # never varies
    centre = np.concatenate([x[:5].mean(0), y[:5].mean(0)])
    halves = [Moments.of(x[part], y[part], centre) for part in (slice(120), slice(120, None))]
    for penalty, fit in zip((1e-6, 0.1, 10.0), ridge(halves[0] + halves[1], (1e-6, 0.1, 10.0)), strict=True):
        slow = make_pipeline(StandardScaler(), Ridge(alpha=200 * penalty)).fit(x, y)
        predicted = fit.uncentred(centre)(x)
        np.testing.assert_allclose(predicted, slow.predict(x), rtol=1e-8)
        errors = (halves[0] + halves[1]).squared_error(fit)
        np.testing.assert_allclose(errors, ((predicted - y) ** 2).sum(0), rtol=1e-6)


def test_behaviour_that_is_linear_in_the_factors_is_decoded_and_noise_is_not(factors, weights, rng):
    values = np.concatenate([factors @ weights, rng.normal(size=(N_TRIALS, N_BINS, 1))], axis=2)
    found = sb.decode(latents_of(factors), hand_of(values))
    assert found["decoded"].dims == ("predictor", "trial", "time", "column")
    assert found["column"].values.tolist() == ["hand 0", "hand 1", "hand 2"]
    np.testing.assert_allclose(found["r2"].values[0, :2], 1, atol=1e-4)
    assert found["r2"].values[0, 2] < 0.05
    measured, decoded = values.reshape(-1, 3), found["decoded"].values[0].reshape(-1, 3)
    total = ((measured - measured.mean(0)) ** 2).sum()
    assert found["r2_weighted"].values[0] == pytest.approx(1 - ((measured - decoded) ** 2).sum() / total, rel=1e-9)
    assert found.attrs["unit"] == "cm" and found.attrs["scored_on"] == "all trials"


def test_a_trial_is_decoded_from_others_alone(factors, weights):
    """Whatever the behaviour of a trial is, what is decoded of it does not change."""
    latents, values = latents_of(factors), factors @ weights + 0.1
    changed = values.copy()
    changed[7] = 1e3 * np.arange(N_BINS)[:, None]
    first, second = (sb.decode(latents, hand_of(each))["decoded"].values[0] for each in (values, changed))
    np.testing.assert_allclose(first[7], second[7], rtol=1e-9, atol=1e-9)
    assert not np.allclose(first, second)


def test_noise_that_is_smooth_within_trials_is_not_decoded(rng):
    """Bins of one trial on both sides would explain the trial's own level by any level of the factors."""
    factors, level = rng.normal(size=(2, 12, 1, 8)) + 0.01 * rng.normal(size=(2, 12, N_BINS, 8))
    assert sb.decode(latents_of(factors), hand_of(level[..., :2]))["r2_weighted"].values[0] < 0.2


def test_scores_are_those_of_trials_that_the_fit_was_not_trained_on(factors, weights):
    split = np.where(np.arange(N_TRIALS) % 4 == 0, "valid", "train")
    values = factors @ weights
    values[split == "train"] += np.random.default_rng(1).normal(size=(15, N_BINS, 2))
    latents = latents_of(factors, split=("trial", split))
    found = sb.decode(latents, hand_of(values))
    np.testing.assert_array_equal(found["scored"].values, split == "valid")
    assert (
        found["r2_weighted"].values[0] > 0.95 and found.attrs["scored_on"] == "trials that the fit was not trained on"
    )
    assert np.isfinite(found["decoded"].values).all(), "all trials are decoded"
    assert sb.decode(latents.drop_vars("split"), hand_of(values))["r2_weighted"].values[0] < 0.9
    values[split == "valid"] = np.nan
    with pytest.raises(DataError, match=r"hand was measured in no trial that the fit was not trained on \(15 training"):
        sb.decode(latents, hand_of(values))


def test_behaviour_later_than_the_latents_has_a_positive_lag(factors, weights):
    later = np.full((N_TRIALS, N_BINS, 2), np.nan)
    later[:, 5:] = (factors @ weights)[:, :-5]
    latents = latents_of(factors)
    by_lag = {lag: sb.decode(latents, hand_of(later), lag=lag)["r2_weighted"].values[0] for lag in (-0.1, 0.0, 0.1)}
    assert by_lag[0.1] > 0.999 > by_lag[0.0] > by_lag[-0.1]
    read_later = hand_of(np.concatenate([later[:, 5:], later[:, :5]], axis=1), lag=0.1)
    found = sb.decode(latents, read_later)
    assert found["r2_weighted"].values[0] > 0.999 and found.attrs["lag"] == pytest.approx(0.1)
    with pytest.raises(DataError, match=r"lag is 1 s, but a trial has 0\.6 s"):
        sb.decode(latents, hand_of(later), lag=1.0)
    with pytest.raises(DataError, match="lag is 'soon'"):
        sb.decode(latents, hand_of(later), lag="soon")


def test_gaps_are_neither_used_nor_filled(factors, weights):
    values = factors @ weights
    gaps = values.copy()
    gaps[3:6] = np.nan
    gaps[:, 10:14, 1] = np.nan
    found = sb.decode(latents_of(factors), hand_of(gaps))
    assert np.isnan(found["measured"].values[:, 10:14]).all() and not found["scored"].values[3:6].any()
    np.testing.assert_allclose(found["decoded"].values[0, 3:6], values[3:6], atol=0.01)


def test_smoothed_counts_are_decoded_beside_the_latents_and_see_no_later_bin_than_the_model(rng):
    factors = smooth(rng, (40, N_BINS, 2))
    rates = np.exp(factors @ rng.normal(size=(2, 12)) * 0.5 + 1)
    data = sb.from_numpy(rng.poisson(rates), bin_width=WIDTH, observed=rng.random(rates.shape) < 0.7)
    latents = latents_of(factors).assign_coords(channel_id=data["channel_id"])
    hand = hand_of(factors @ rng.normal(size=(2, 2)))
    latents = latents.drop_vars(["trial_start", "trial_id"])
    found = sb.decode(latents, hand, data=data)
    assert found["predictor"].values.tolist() == ["factors", "smoothed counts"]
    assert found["r2_weighted"].values[0] > found["r2_weighted"].values[1] > 0.5
    # Bins of one trial, changed: with a lag of 0 nothing before is decoded differently.
    other = data.assign(values=data["values"].copy(deep=True))
    other["values"].values[3, 20:] += 5 * data["observed"].values[3, 20:]
    causal = latents.assign_attrs(model='{"config": {"model": {"lag": 0}}}')
    same = [sb.decode(causal, hand, data=each)["decoded"].values[1, 3] for each in (data, other)]
    whole = [sb.decode(latents, hand, data=each)["decoded"].values[1, 3] for each in (data, other)]
    assert found["decoded"].shape[1] == 40
    np.testing.assert_allclose(same[0][:20], same[1][:20], atol=0.05)
    assert np.abs(whole[0][19] - whole[1][19]).max() > np.abs(same[0][19] - same[1][19]).max()


def test_columns_of_trials_are_decoded_as_numbers_or_as_classes(factors):
    level = factors[:, :6].mean((1, 2))
    side = np.where(np.arange(N_TRIALS) % 2, "left", "right")
    moved = factors + 3 * (side == "left")[:, None, None]
    latents = latents_of(moved, side=("trial", side), level=("trial", level))
    found = sb.decode(latents, "side")
    assert found["measured"].dims == ("trial", "column") and found["accuracy"].values[0] == 1
    assert float(found["chance"]) == 0.5 and found["decoded"].values[0, :, 0].tolist() == side.tolist()
    numbers = sb.decode(latents_of(factors, level=("trial", level)), "level")
    assert numbers["r2"].values[0, 0] > 0.9 and "weights" not in numbers
    codes = xr.DataArray(np.arange(N_TRIALS) % 2, dims="trial", name="code")
    assert "accuracy" in sb.decode(latents, codes) and "r2" in sb.decode(latents, codes, classes=False)
    for each in (found, numbers):
        assert decoding(each).figure
    assert summary_of(found)["chance"] == 0.5


def test_a_class_of_few_trials_is_left_out_and_said(factors):
    side = np.where(np.arange(N_TRIALS) % 2, "left", "right").astype("<U9")
    side[4] = "up"
    found = sb.decode(latents_of(factors, side=("trial", side)), "side")
    assert not found["scored"].values[4] and "'up' are left out" in found.attrs["decoding_notes"]
    side[:] = "left"
    side[4:6] = "right"
    with pytest.raises(DataError, match="side has 1 class with at least 3 trials"):
        sb.decode(latents_of(factors, side=("trial", side)), "side")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda values: values * np.nan, DataError, "hand was measured in 0 of 600 bins"),
        (lambda values: np.zeros_like(values), DataError, "hand is constant where it was measured"),
        (lambda values: values[:, :-1], MismatchError, "must have the same trials and bins"),
        (
            lambda values: np.where(np.arange(N_TRIALS)[:, None, None] < 2, values, np.nan),
            DataError,
            "measured in 2 trials",
        ),
    ],
)
def test_behaviour_that_cannot_be_decoded_is_refused_in_a_line(factors, weights, change, error, message):
    with pytest.raises(error, match=message) as refused:
        sb.decode(latents_of(factors), hand_of(change(factors @ weights)))
    assert "\n" not in str(refused.value)


def test_wrong_arguments_are_refused_in_a_line(factors, weights):
    latents, hand = latents_of(factors), hand_of(factors @ weights)
    for call, error, message in [
        (lambda: sb.decode(latents.isel(trial=[0]), hand[:1]), DataError, "measured in 1 trial; expected at least 3"),
        (lambda: sb.decode(latents, "hand"), SelectionError, "no trial column 'hand'; they have trial_id, trial_start"),
        (lambda: sb.decode(latents, hand, of="rates"), DataError, "no 'rates'; they have"),
        (lambda: sb.decode(latents, hand.values), DataError, "got a ndarray as behaviour"),
        (lambda: sb.decode(latents, hand.transpose("time", "trial", "column")), DataError, "behaviour has dims"),
        (lambda: sb.decode(latents, hand, classes=True), DataError, "behaviour in bins is decoded as numbers"),
        (lambda: sb.decode(latents, "trial_id", lag=0.1), DataError, "no lag in bins"),
        (lambda: sb.evaluate.apply_decoder(latents, latents), DataError, "no decoder of bins"),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_the_decoder_of_all_trials_decodes_other_latents(factors, weights, rng):
    latents = latents_of(factors)
    found = sb.decode(latents, hand_of(factors @ weights), lag=0.0)
    others = smooth(rng, (4, N_BINS, 3))
    decoded = sb.evaluate.apply_decoder(found, latents_of(others))
    np.testing.assert_allclose(decoded.values, others @ weights, atol=0.01)
    with pytest.raises(DataError, match="the decoder is of 3 factors, but there are 2"):
        sb.evaluate.apply_decoder(found, latents_of(others[..., :2]))


def test_trials_that_overlap_in_time_are_cut_into_blocks_and_their_borders_left_out():
    starts = 0.5 * np.arange(20)[::-1]
    fold, n_folds = folds_of_trials(np.full(20, ""), starts, 0.6)
    assert n_folds == 5 and (np.diff(fold[np.argsort(starts)]) >= 0).all()
    shares = shares_moments(starts, 0.6, fold)
    np.testing.assert_array_equal(np.flatnonzero(shares[::-1]), [3, 4, 7, 8, 11, 12, 15, 16])
    apart, _ = folds_of_trials(np.array(["a", "b"] * 10), starts, 0.5)
    assert not shares_moments(starts, 0.5, apart).any()
    assert all(np.bincount(apart[row::2], minlength=5).tolist() == [2] * 5 for row in (0, 1)), "each label in each fold"
