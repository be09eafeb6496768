"""Simulated fluorescence: the statistics of the published sets, and what the parts have to do with each other."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.calcium import LADDER, VALPACA, calcium, subframe
from nwb_sbtt.simulate.tasks import Task


@pytest.fixture(scope="module")
def ladder():
    return calcium()


def test_the_ladder_set_has_the_statistics_of_the_published_one(ladder):
    """Published: mean rate 1.44 Hz, greatest 41, .143 spikes a bin; a perfect model explains .934 of the fluorescence."""
    assert dict(ladder.sizes) == {"trial": 1300, "time": 100, "channel": 30, "latent": 3}
    assert (ladder["split"].values == "train").sum() == 1040
    several = [calcium(seed=seed) for seed in range(1, 4)] + [ladder]
    rates = [ds["true_rates"].values for ds in several]
    assert np.mean([each.mean() for each in rates]) == pytest.approx(1.44, rel=0.05)
    assert np.mean([each.max() for each in rates]) == pytest.approx(41, rel=0.3)
    assert np.mean([ds["true_spikes"].values.mean() for ds in several]) == pytest.approx(0.143, rel=0.05)
    explained = [1 - 0.04 / ds["values"].values.var() for ds in several]
    assert np.mean(explained) == pytest.approx(0.934, abs=0.008)


def test_both_splits_keep_a_fifth_for_validation(ladder):
    by_condition = calcium(split_by="condition")
    assert np.array_equal(by_condition["values"].values, ladder["values"].values)
    for ds, shared in ((ladder, 65), (by_condition, 0)):
        valid = ds["split"].values == "valid"
        assert valid.sum() == 260
        both = set(ds["condition"].values[valid]) & set(ds["condition"].values[~valid])
        assert len(both) == shared
    counts = np.bincount(ladder["condition"].values[ladder["split"].values == "valid"])
    assert (counts == 4).all()


def test_fluorescence_is_calcium_that_decays_and_noise(ladder):
    spikes, level = ladder["true_spikes"].values, ladder["true_calcium"].values
    np.testing.assert_allclose(level, lfilter([1], [1, -0.75], spikes, axis=1), rtol=1e-5, atol=1e-5)
    noise = ladder["values"].values - level
    assert noise.std() == pytest.approx(0.2, rel=0.01)
    assert abs(np.corrcoef(noise.reshape(-1), level.reshape(-1))[0, 1]) < 0.01
    rates = ladder["true_rates"].values * 0.1
    assert abs((spikes - rates).sum()) < 4 * np.sqrt(spikes.sum())


def test_rates_are_the_exponential_of_a_read_out_of_latents(ladder):
    latents = ladder["true_latents"].values.reshape(-1, 3)
    log = np.log(ladder["true_rates"].values.reshape(-1, 30))
    weights, *_ = np.linalg.lstsq(latents, log, rcond=None)
    assert np.abs(latents @ weights - log).max() < 1e-3
    assert (np.abs(weights) >= 0.999).all() and (np.abs(weights) <= 2.001).all()
    assert {-1, 1} == set(np.sign(weights).reshape(-1))
    assert np.abs(latents).max() == pytest.approx(1) and np.abs(latents.mean(0)).max() < 0.01


@pytest.mark.parametrize(("noise", "hill"), [(0.2, False), (0.5, False), (0.5, True)])
def test_the_later_set_decays_by_the_exact_share_and_may_saturate(noise, hill):
    ds = calcium(conditions=10, trials_per_condition=4, imaging=replace(VALPACA, noise_sd=noise, hill=hill))
    level = ds["true_calcium"].values
    kept = np.exp(-1 / 30 / 0.3)
    np.testing.assert_allclose(level, lfilter([1], [1, -kept], ds["true_spikes"].values, axis=1), rtol=1e-4, atol=1e-4)
    light = level**2 / (1 + 0.01 * level**2) if hill else level
    assert (ds["values"].values - light).std() == pytest.approx(noise, rel=0.02)


@pytest.mark.parametrize("frequency", [3.0, 7.0, 15.0])
def test_subframe_latents_turn_as_often_as_asked(frequency):
    ds = calcium(n_channels=4, conditions=32, trials_per_condition=2, imaging=subframe(frequency=frequency))
    z = ds["true_latents"].values[:, :, 2]
    power = (np.abs(np.fft.rfft(z - z.mean(1, keepdims=True), 4096, axis=1)) ** 2).mean(0)
    assert np.fft.rfftfreq(4096, 0.01)[power.argmax()] == pytest.approx(frequency, rel=0.1)


def test_in_the_subframe_set_each_cell_is_sampled_every_third_bin_in_turn():
    ds = calcium(n_channels=7, conditions=4, trials_per_condition=3, imaging=subframe())
    observed = ds["observed"].values
    for channel in range(7):
        bins = np.flatnonzero(observed[0, :, channel])
        assert (bins % 3 == channel % 3).all() and len(bins) == 30
        assert ds["sampling_offset"].values[channel] == pytest.approx(0.01 * (channel % 3))
    assert (ds["values"].values[~observed] == 0).all()


def test_with_a_lead_calcium_runs_on_from_trial_to_trial():
    ds = calcium(n_channels=3, conditions=4, trials_per_condition=3, imaging=subframe())
    assert np.allclose(np.diff(ds["trial_start"].values), 0.9)
    np.testing.assert_allclose(ds["go_time"].values - ds["trial_start"].values, 0.3)
    spikes, level = (ds[name].values.reshape(-1, 3) for name in ("true_spikes", "true_calcium"))
    np.testing.assert_allclose(level, lfilter([1], [1, -np.exp(-0.01 / 0.4)], spikes, axis=0), rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_data_and_another_one_others():
    one, other = (calcium(conditions=3, trials_per_condition=5, seed=seed) for seed in (1, 2))
    assert check_dataset(one).equals(calcium(conditions=3, trials_per_condition=5, seed=1))
    assert not one["values"].equals(other["values"])


def test_named_tasks_are_what_the_functions_simulate():
    sizes = {"n_channels": 5, "conditions": 3, "trials_per_condition": 5}
    assert Task("calcium", **sizes).simulate().equals(calcium(**sizes, imaging=LADDER))
    fast = Task("calcium-subframe", **sizes, speed=2.0, split_by="condition").simulate()
    assert fast.equals(calcium(**sizes, imaging=subframe(frequency=14.0), split_by="condition"))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(DataError, match="frequency is 0"):
        subframe(frequency=0)
    with pytest.raises(DataError, match="noise_sd is -1"):
        replace(LADDER, noise_sd=-1.0)
    with pytest.raises(DataError, match="lead_bins is 100; expected fewer"):
        replace(LADDER, lead_bins=100)
    with pytest.raises(DataError, match=r"diverge with integration steps of 0\.03"):
        Task("calcium", 5, 3, 5, speed=2.0).simulate()
