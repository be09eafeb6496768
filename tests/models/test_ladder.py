"""From fluorescence to spikes, rates and latents."""

from dataclasses import replace

import numpy as np
import pynwb
import pytest
import torch
from pynwb import NWBHDF5IO

import nwb_sbtt as sb
from nwb_sbtt import masks
from nwb_sbtt.calcium import search as kinetics
from nwb_sbtt.calcium.samples import Kinetics
from nwb_sbtt.calcium.spiking import infer_spikes
from nwb_sbtt.config import FitConfig, GaussianConfig, LadderConfig, override
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError
from nwb_sbtt.models.ladder import Ladder
from nwb_sbtt.nn.channels import blank_statistics
from nwb_sbtt.simulate.calcium import LADDER, VALPACA, calcium
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import Stopping
from tests.support.latents import write_exactly

SMALL = {"read_in": 8, "width": 8, "layers": 2, "groups": 4, "max_lag": 16, "factors": 4}


@pytest.fixture(scope="module")
def data():
    imaging = replace(LADDER, n_bins=60)
    return calcium(n_channels=5, conditions=4, trials_per_condition=5, seed=3, imaging=imaging)


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    config = override(
        FitConfig(model=LadderConfig(**SMALL, decay_time=0.3476)), ["train.epochs=30", "train.learning_rate=0.01"]
    )
    return sb.fit(data, config, run_dir=tmp_path_factory.mktemp("ladder") / "run", tracker=Silent())


def measure(batch, *, bin_width, config=None):
    config, likelihood = config or LadderConfig(), GaussianConfig()
    return Ladder.measure(batch, config=config, likelihood=likelihood, bin_width=bin_width, channel_values={})


def pearson_r2(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1] ** 2


@pytest.mark.slow
def test_size_decay_and_noise_of_spikes_are_found_in_any_unit(data):
    batch = to_batch(data)
    of = measure(replace(batch, values=50 + 4 * batch.values), bin_width=0.1).kinetics
    np.testing.assert_allclose(of.amplitude, 4.0, rtol=0.1)
    np.testing.assert_allclose(of.noise_sd, 0.8, rtol=0.15)
    np.testing.assert_allclose(of.decay_per_bin, 0.75, atol=0.03)
    np.testing.assert_allclose(of.baseline, 50.0, atol=0.8)


@pytest.mark.slow
def test_kinetics_that_took_rates_for_spikes_are_mended_when_rates_are_known(monkeypatch):
    imaging = replace(VALPACA, n_bins=60)
    simulated = calcium(n_channels=3, conditions=16, trials_per_condition=4, seed=1, imaging=imaging)
    batch = to_batch(simulated)
    right = Kinetics(
        *torch.tensor([np.exp(-1 / 9), 1.0, 0.0, 0.5, 0.0, 0.1])[:, None].float().expand(-1, 3),
        rise_time=torch.zeros(3),
    )
    wrong = replace(
        right, amplitude=2 * right.amplitude, baseline=right.baseline - 0.5, decay_per_bin=right.decay_per_bin**0.6
    )
    rate = torch.from_numpy(simulated["true_rates"].values).float() * simulated.attrs["bin_width"]
    of = replace(blank_statistics(3), mean=rate.mean((0, 1)) / 2, kinetics=wrong)
    ladder = Ladder(LadderConfig(**SMALL, dropout=0.0), {"session": of}, "gaussian")
    before = ladder.likelihood.biases["session"].clone()
    monkeypatch.setattr(Ladder, "rates", lambda self, inference, batch: rate[batch.trials] / 2)
    ladder.set_statistics("session", ladder.refit(batch, bin_width=imaging.bin_width))
    found = ladder.kinetics("session")
    np.testing.assert_allclose(found.amplitude, 1.0, atol=0.2)
    np.testing.assert_allclose(-imaging.bin_width / found.decay_per_bin.log(), 0.3, atol=0.06)
    np.testing.assert_allclose(found.baseline, 0.0, atol=0.25)
    np.testing.assert_allclose((ladder.likelihood.biases["session"] - before).exp().detach(), 2.0, rtol=0.3)


def test_true_rates_fit_better_than_half_of_them_across_gaps_of_many_spikes(monkeypatch):
    imaging = replace(VALPACA, n_bins=60, noise_sd=0.2, base_rate=30.0)
    simulated = calcium(n_channels=3, conditions=8, trials_per_condition=2, seed=1, imaging=imaging)
    rate = torch.from_numpy(simulated["true_rates"].values).float() * simulated.attrs["bin_width"]
    known = torch.tensor([np.exp(-1 / 9), 1.0, 0.0, 0.2, 0.0, 0.1])[:, None].float().expand(-1, 3)
    of = Kinetics(*known, rise_time=torch.zeros(3))
    ladder = Ladder(LadderConfig(**SMALL), {"session": replace(blank_statistics(3), kinetics=of)}, "gaussian")
    whole = to_batch(simulated)
    hidden = masks.sample_validation(whole, 0.3, torch.Generator().manual_seed(0), mask_length=30)
    batch = masks.score_only(masks.hide(whole, hidden), hidden)
    found = {}
    for factor in (0.5, 1.0, 2.0):
        monkeypatch.setattr(Ladder, "rates", lambda self, inference, batch, factor=factor: factor * rate)
        found[factor] = float(ladder.held_out_nll(ladder(batch), batch))
    assert found[1.0] < min(found[0.5], found[2.0])


@pytest.mark.slow
def test_spikes_behind_a_slow_rise_are_neither_many_nor_late_if_the_indicator_is_named(monkeypatch):
    for name, less in {"GAINS": kinetics.GAINS[::6], "ROUNDS": 2, "DONORS": (0.5,)}.items():
        monkeypatch.setattr(kinetics, name, less)
    rng, fine = np.random.default_rng(0), 20
    drive = np.repeat(rng.gamma(0.5, 2.0, 30), 25 * fine) / (25 * fine)
    fired = rng.poisson(drive, size=(2, len(drive)))
    since = np.arange(6 * 25 * fine) / (25 * fine)
    course = np.exp(-since / 1.47) - np.exp(-since / 0.082)
    light = np.stack([np.convolve(each, course)[: len(drive)].reshape(-1, fine).mean(1) for each in fired], -1)
    spikes = fired.reshape(2, -1, fine).sum(2).T
    box = (0.3 * light + rng.normal(0, 0.03, light.shape)).reshape(10, 75, 2)
    batch = to_batch(make_dataset(box, np.ones(box.shape, bool), bin_width=0.04, kind="rois"))
    correlations, excess = [], []
    for rise in (None, 0.0):
        of = measure(batch, bin_width=0.04, config=LadderConfig(indicator="GCaMP6s", rise_time=rise))
        found = infer_spikes(batch.values, batch.observed, of.mean, of.kinetics).mean.reshape(-1, 2).numpy()
        correlations.append(np.mean([np.corrcoef(found[:, i], spikes[:, i])[0, 1] for i in range(2)]))
        excess.append(np.abs(np.log(found.sum(0) / spikes.sum(0))).max())
    assert correlations[0] > 0.4 and correlations[0] > correlations[1] + 0.15
    assert excess[0] < np.log(2) < excess[1]


@pytest.mark.slow
def test_a_ladder_that_was_interrupted_between_revisions_ends_in_the_same_numbers(data, tmp_path, monkeypatch):
    for name, less in {"GAINS": kinetics.GAINS[::8], "GAIN_MULTIPLES": (1.0,), "ROUNDS": 1, "REFIT_ROUNDS": 1}.items():
        monkeypatch.setattr(kinetics, name, less)
    few = data.isel(time=slice(30), channel=slice(3))
    settings = ["train.epochs=4", "train.checkpoint_every=1", "masks.mask_length=5"]
    config = override(FitConfig(model=LadderConfig(**SMALL, decay_time=0.3476)), settings)
    whole = sb.fit(few, config, run_dir=tmp_path / "whole", tracker=Silent())
    with pytest.raises(KeyboardInterrupt):
        sb.fit(few, config, run_dir=tmp_path / "cut", tracker=Stopping(2))
    resumed = sb.fit(few, config, run_dir=tmp_path / "cut", tracker=Silent())
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


@pytest.mark.slow
def test_spikes_calcium_and_rates_come_out_of_fluorescence(data, fitted):
    latents = fitted.infer(data)
    assert pearson_r2(latents["events"].values, data["true_spikes"].values) > 0.9
    assert pearson_r2(latents["mean"].values, data["true_calcium"].values) > 0.97
    flat = np.broadcast_to(latents["rates"].values.mean((0, 1)), latents["rates"].shape)
    rates, true = latents["rates"].values, data["true_rates"].values
    assert ((rates - true) ** 2).mean() < 0.9 * ((flat - true) ** 2).mean()
    assert {"events_sd", "mean_sd", "rates_sd"} <= set(latents)
    assert np.allclose(latents["decay"], 0.3476) and np.allclose(latents["gain"], 1, rtol=0.2)
    assert np.allclose(latents["noise"], 0.2, rtol=0.2) and np.allclose(latents["baseline"], 0, atol=0.3)


@pytest.mark.slow
def test_hidden_fluorescence_is_never_read(data, fitted):
    batch = to_batch(data, "session")
    hidden = masks.hide(batch, torch.rand(batch.values.shape, generator=torch.Generator().manual_seed(0)) < 0.3)
    junk = replace(hidden, values=torch.where(hidden.shown, hidden.values, 1e3 * torch.ones(())))
    with torch.no_grad():
        one, other = fitted.model(hidden), fitted.model(junk)
        assert torch.equal(one.factors, other.factors)
        estimates = [fitted.model.estimates(one, each) for each in (hidden, junk)]
    assert all(torch.equal(estimates[0][name], estimates[1][name]) for name in estimates[0])


@pytest.mark.slow
def test_a_loaded_ladder_is_the_one_that_was_fitted(data, fitted):
    again = sb.load(fitted.run_dir)
    np.testing.assert_array_equal(again.infer(data)["events"].values, fitted.infer(data)["events"].values)


@pytest.mark.slow
def test_counts_are_scored_in_the_bins_that_lead_to_a_scored_sample(data, fitted):
    batch = to_batch(data, "session").select(torch.arange(2))
    every_third = torch.arange(60)[:, None] % 3 == 2
    observed = batch.observed & every_third
    batch = replace(batch, observed=observed, shown=observed, scored=observed)
    batch = masks.coordinated_dropout(batch, 0.5, torch.Generator().manual_seed(0), mask_length=15)
    with torch.no_grad():
        target = fitted.model.target(fitted.model(batch), batch)
    # Until the first sample nothing tells spikes from calcium that was there before.
    for marks in (target.observed, target.scored, target.shown):
        assert not marks[:, :3].any()
    assert target.observed[:, 3:].all()
    of_frames = [each.unflatten(1, (20, 3)) for each in (target.scored, batch.scored, target.shown, batch.shown)]
    assert (of_frames[0][:, 1:] == of_frames[1].any(2, keepdim=True)[:, 1:]).all()
    both = of_frames[3].any(2)[:, 1:] & of_frames[3].any(2)[:, :-1]
    assert (of_frames[2][:, 1:] == both[:, :, None]).all()


def test_a_ladder_takes_nothing_but_fluorescence(data, tmp_path):
    with pytest.raises(DataError, match="the model ladder needs"):
        sb.fit(sb.simulate.lorenz(conditions=2), FitConfig(model=LadderConfig()), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_a_ladder_found_is_written_with_the_kinetics_of_each_roi(data, fitted, tmp_path):
    latents = fitted.infer(data.assign_attrs(session_start_time="2026-01-05T09:00:00+00:00"))
    out = write_exactly(latents, tmp_path / "out.nwb")
    assert not pynwb.validate(path=str(out))
    with NWBHDF5IO(out, "r") as io:
        module = io.read().processing["ophys"]
        assert {"sbtt_mean", "sbtt_events", "sbtt_rates", "sbtt_factors"} <= set(module.data_interfaces)
        for name in ("decay", "rise", "gain", "baseline", "noise"):
            np.testing.assert_array_equal(module["sbtt_channels"][name].data[:], latents[name].values)
    np.testing.assert_array_equal(sb.read_result(out)["events"].values, latents["events"].values)
