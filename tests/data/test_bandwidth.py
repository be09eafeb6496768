"""Bandwidth limits: k of N per bin, drawn among what was observed, the same whatever is read beside it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.config import BandwidthConfig, build
from nwb_sbtt.data.bandwidth import limit_bandwidth, was_chosen
from nwb_sbtt.errors import ConfigError, DataError
from tests.support.limited import SCHEMES, dataset


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES[:3]),
    k=st.integers(1, 11),
    seed=st.integers(0, 5),
    missing=st.sampled_from([0, 0.3, 0.9]),
)
def test_exactly_k_of_the_observed_channels_remain_in_every_bin(scheme, k, seed, missing):
    ds = dataset(seed=seed + 10, missing=missing)
    limited = limit_bandwidth(ds, BandwidthConfig(scheme=scheme, k=k, seed=seed))
    before, after = ds["observed"].values, limited["observed"].values
    assert not (after & ~before).any()
    assert np.array_equal(after.sum(-1), np.minimum(before.sum(-1), k))


@settings(max_examples=40, deadline=None)
@given(scheme=st.sampled_from(SCHEMES), k=st.integers(1, 11), missing=st.sampled_from([0, 0.4]))
def test_values_inside_are_unchanged_and_zero_outside(scheme, k, missing):
    ds = dataset(missing=missing)
    limited = limit_bandwidth(ds, BandwidthConfig(scheme=scheme, k=k))
    mask = limited["observed"].values
    assert np.array_equal(limited["values"].values[mask], ds["values"].values[mask])
    assert (limited["values"].values[~mask] == 0).all()
    assert json.loads(limited.attrs["bandwidth"])["scheme"] == scheme and "bandwidth" not in ds.attrs


@settings(max_examples=60, deadline=None)
@given(k=st.integers(1, 11), n_bins=st.integers(2, 70), n_channels=st.integers(12, 40), seed=st.integers(0, 3))
def test_all_schemes_take_equally_many_samples_of_every_trial(k, n_bins, n_channels, seed):
    ds = dataset(n_bins=n_bins, n_channels=n_channels)
    for scheme in SCHEMES:
        mask = limit_bandwidth(ds, BandwidthConfig(scheme=scheme, k=k, seed=seed))["observed"].values
        assert (mask.sum((1, 2)) == k * n_bins).all()


def test_scans_are_whole_but_for_one_in_a_trial():
    ds = dataset(n_trials=30, n_bins=50, n_channels=29, trial_start=np.cumsum(np.full(30, 0.737)))
    per_bin = limit_bandwidth(ds, BandwidthConfig(scheme="decimate", k=10))["observed"].values.sum(-1)
    assert ((per_bin == 0) | (per_bin == 29)).sum(1).min() >= 49
    assert set((per_bin == 29).sum(1).tolist()) == {17}
    # Scans lie anywhere in the trials: over thirty of them no bin is left out.
    assert (per_bin > 0).any(0).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_trial_keeps_its_mask_in_any_subset_of_the_trials(scheme):
    ds = dataset(missing=0.2)
    config = BandwidthConfig(scheme=scheme, k=5, seed=3)
    whole = limit_bandwidth(ds, config)["observed"].values
    some = limit_bandwidth(ds.isel(trial=[2, 0]), config)["observed"].values
    assert np.array_equal(some, whole[[2, 0]])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_overlap_of_two_chops_has_the_same_mask_in_both(scheme):
    ds = dataset(n_trials=2, trial_start=np.array([3.0, 3.4])).assign_attrs(cut='{"by": "chop"}')
    mask = limit_bandwidth(ds, BandwidthConfig(scheme=scheme, k=5))["observed"].values
    assert np.array_equal(mask[0, 40:], mask[1, :20])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_some_trials_can_be_left_as_they_are(scheme):
    ds = dataset(n_trials=6, missing=0.2)
    limited = np.array([True, False, True, True, False, True])
    config = BandwidthConfig(scheme=scheme, k=3)
    both = limit_bandwidth(ds, config, trials=limited)
    everywhere = limit_bandwidth(ds, config)
    for name in ("values", "observed"):
        assert np.array_equal(both[name].values[~limited], ds[name].values[~limited])
        assert np.array_equal(both[name].values[limited], everywhere[name].values[limited])
    record = json.loads(both.attrs["bandwidth"])
    assert record["limited_trials"] == 4 and record["channels_per_bin"] <= 3.2


def test_a_share_of_the_training_trials_can_be_left_in_full():
    split = np.repeat(["train", "valid"], [400, 100])
    ds = dataset(n_trials=500, n_bins=10).assign_coords(split=("trial", split))
    config = BandwidthConfig(k=2, full_fraction=0.25)
    full = limit_bandwidth(ds, config)["observed"].values.all((1, 2))
    assert 0.18 < full[:400].mean() < 0.32 and not full[400:].any()
    some = np.array([7, 450, 3, 99])
    again = limit_bandwidth(ds.isel(trial=some), config)["observed"].values.all((1, 2))
    assert np.array_equal(again, full[some])


def test_what_cannot_be_left_in_full_is_refused():
    ds = dataset()
    with pytest.raises(DataError, match="one bool for each of 4 trials"):
        limit_bandwidth(ds, BandwidthConfig(k=3), trials=[0, 1])
    with pytest.raises(
        DataError,
        match="all 4 trials are marked as fully sampled, so the limit would have no effect; mark fewer trials",
    ):
        limit_bandwidth(ds, BandwidthConfig(k=3), trials=np.zeros(4, bool))
    with pytest.raises(DataError, match="share samples"):
        limit_bandwidth(ds.assign_attrs(cut='{"by": "chop"}'), BandwidthConfig(k=3, full_fraction=0.5))


def test_a_scheme_has_one_name():
    with pytest.raises(ConfigError, match=r"expected speckled \| round_robin \| fixed \| decimate"):
        build(BandwidthConfig, {"scheme": "random", "k": 3})


def test_trials_without_a_start_still_get_masks_of_their_own():
    mask = limit_bandwidth(dataset(trial_start=np.zeros(4)), BandwidthConfig(k=5))["observed"].values
    assert not np.array_equal(mask[0], mask[1])


def test_the_seed_alone_decides_a_random_mask():
    ds = dataset()
    masks = [limit_bandwidth(ds, BandwidthConfig(k=5, seed=seed))["observed"].values for seed in (1, 1, 2)]
    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[2])


def test_a_random_mask_favours_no_channel_and_no_pair():
    mask = limit_bandwidth(dataset(n_trials=20, n_bins=500), BandwidthConfig(k=3))["observed"].values.reshape(-1, 12)
    # 10000 bins: the share of a channel has a standard deviation of 0.0043, that of a pair of 0.0021.
    assert np.abs(mask.mean(0) - 3 / 12).max() < 0.02
    pairs = (mask.T.astype(float) @ mask) / len(mask)
    assert np.abs(pairs[~np.eye(12, dtype=bool)] - 3 * 2 / (12 * 11)).max() < 0.011
    lagged = (mask[1:] & mask[:-1]).mean(0)
    assert np.abs(lagged - (3 / 12) ** 2).max() < 0.013


def test_round_robin_visits_every_channel_equally_often():
    mask = limit_bandwidth(dataset(n_bins=120), BandwidthConfig(scheme="round_robin", k=5))["observed"].values
    assert len(set(mask.sum((0, 1)).tolist())) == 1
    assert np.flatnonzero(mask[0, 1]).tolist() == sorted((np.flatnonzero(mask[0, 0]) + 5) % 12)


def test_fixed_keeps_the_same_channels_and_decimate_all_of_them():
    ds = dataset(n_bins=120)
    fixed = limit_bandwidth(ds, BandwidthConfig(scheme="fixed", k=3))["observed"].values
    assert (fixed == fixed[0, 0]).all() and fixed[0, 0].sum() == 3
    decimated = limit_bandwidth(ds, BandwidthConfig(scheme="decimate", k=3))["observed"].values
    assert set(decimated.sum(-1).ravel().tolist()) == {0, 12}
    assert set(np.diff(np.flatnonzero(decimated[0].any(-1))).tolist()) == {4}


def test_a_limit_that_leaves_nothing_out_or_comes_twice_is_refused():
    ds = dataset()
    with pytest.raises(DataError, match="only 12 channels"):
        limit_bandwidth(ds, BandwidthConfig(k=12))
    with pytest.raises(DataError, match="already have a bandwidth limit"):
        limit_bandwidth(limit_bandwidth(ds, BandwidthConfig(k=5)), BandwidthConfig(k=3))


def test_data_tell_whether_their_channels_were_chosen_by_earlier_values():
    ds = dataset()
    assert not was_chosen(ds) and not was_chosen(limit_bandwidth(ds, BandwidthConfig(k=3)))
    assert was_chosen(ds.assign_attrs(bandwidth='{"scheme": "scheduled"}'))


@pytest.mark.parametrize("record", ["scheduled", {"scheme": "scheduled"}, '{"scheme": "schedule"}', "[1]", "{}", 3])
def test_a_record_of_sampling_that_cannot_be_read_is_refused_not_passed_over(record):
    with pytest.raises(
        DataError, match=r"expected a JSON text with the scheme of sampling, such as '{\"scheme\": \"sche"
    ):
        was_chosen(dataset().assign_attrs(bandwidth=record))
