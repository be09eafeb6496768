"""Models of fluorescence whose moments follow from rates, from a file to a file."""

import json
from dataclasses import replace

import numpy as np
import pynwb
import pytest
import torch
from pynwb import NWBHDF5IO

import nwb_sbtt as sb
from nwb_sbtt import pipeline
from nwb_sbtt.calcium import search as kinetics
from nwb_sbtt.calcium.samples import Kinetics
from nwb_sbtt.calcium.search import Measured
from nwb_sbtt.config import Chop, ConvConfig, FitConfig, LadderConfig, LFADSConfig, ReadConfig, build, override
from nwb_sbtt.data import tensors
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.preparation import mask_length_of
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.models import make_model
from nwb_sbtt.nn.channels import channel_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS, moments
from nwb_sbtt.nn.likelihoods.moments import Moments
from nwb_sbtt.simulate.calcium import LADDER, calcium
from nwb_sbtt.train.trackers import Silent
from tests.support.fluorescence import dff as relative
from tests.support.fluorescence import light, write

SMALL = {
    **dict.fromkeys(("read_in", "encoder", "initial_condition", "generator"), 8),
    **{"inputs": 0, "factors": 3, "smoothing": (2.0,)},
}

SMALL_CONV = {"read_in": 8, "width": 8, "layers": 2, "groups": 4, "max_lag": 8, "factors": 3}
CONV = ConvConfig(read_in=8, width=8, layers=2, groups=4, max_lag=16, factors=4)
LFADS = LFADSConfig(read_in=8, encoder=16, initial_condition=8, generator=16, controller=8, factors=3)


@pytest.fixture(scope="module")
def data():
    return calcium(n_channels=10, conditions=2, trials_per_condition=30, seed=3, imaging=replace(LADDER, n_bins=40))


def config(likelihood, *settings):
    return override(FitConfig(model=LFADSConfig(**SMALL), likelihood=likelihood, posterior_samples=4), list(settings))


@pytest.fixture
def measured(monkeypatch):
    """Kinetics as they are, which takes no time to find."""

    def of_truth(batch, *, bin_width, indicator, decay):
        n_channels = batch.shape[2]
        values = {
            "decay_per_bin": 0.75,
            "amplitude": 1.0,
            "baseline": 0.0,
            "noise_sd": 0.2,
            "initial": 0.0,
            "initial_sd": 0.1,
            "rise_time": 0.0,
        }
        found = Kinetics(**{name: torch.full((n_channels,), value) for name, value in values.items()})
        return Measured(found, torch.zeros(1, 1, n_channels), torch.zeros(n_channels))

    monkeypatch.setattr(moments, "measure_kinetics", of_truth)
    monkeypatch.setattr(Moments, "refit", lambda self, factors, batch, *, bin_width: None)


@pytest.fixture
def brief_search(monkeypatch):
    """A search of kinetics that takes a second and finds less."""
    less = {
        "GAINS": kinetics.GAINS[::5],
        "GAIN_MULTIPLES": (1.0,),
        "NOISES": (1.0,),
        "BASELINES": kinetics.BASELINES[:2],
    }
    for name, value in {**less, "ROUNDS": 1, "DONORS": (), "REFIT_ROUNDS": 1}.items():
        monkeypatch.setattr(kinetics, name, value)


@pytest.mark.parametrize(("likelihood", "model"), [("gaussian_moments", CONV), ("edgeworth", LFADS)])
@pytest.mark.slow
def test_rates_and_fluorescence_come_out_of_fluorescence(data, likelihood, model, measured, tmp_path):
    settings = override(FitConfig(model=model, likelihood=likelihood), ["train.epochs=20", "train.learning_rate=0.02"])
    fitted = sb.fit(data, settings, run_dir=tmp_path / "run", tracker=Silent())
    latents = fitted.infer(data)
    true, rates = data["true_rates"].values, latents["rates"].values
    assert ((rates - true) ** 2).mean() < 0.7 * ((true.mean((0, 1)) - true) ** 2).mean()
    assert np.corrcoef(latents["mean"].values.ravel(), data["true_calcium"].values.ravel())[0, 1] > 0.6
    assert {"rates_sd", "mean_sd", "factors"} <= set(latents)
    assert "events" not in latents
    np.testing.assert_allclose(latents["decay"], -0.1 / np.log(0.75), rtol=1e-5)
    again = sb.load(fitted.run_dir).infer(data)
    np.testing.assert_array_equal(again["rates"].values, latents["rates"].values)
    np.testing.assert_array_equal(again["decay"].values, latents["decay"].values)


@pytest.mark.parametrize(
    ("model", "likelihood"), [(LadderConfig(**SMALL_CONV), "auto"), (ConvConfig(**SMALL_CONV), "edgeworth")]
)
def test_fluorescence_of_which_little_is_observed_is_fitted_in_the_sparse_form(
    data, brief_search, monkeypatch, tmp_path, model, likelihood
):
    """Blocks of a second are hidden of a list of entries, and what is inferred is what the dense form gives."""
    few = data.isel(channel=slice(2), trial=slice(0, None, 6), time=slice(30))
    observed = np.random.default_rng(0).random(few["values"].shape) < 0.6
    few = few.assign(observed=(few["values"].dims, observed), values=few["values"] * observed)
    monkeypatch.setattr(tensors, "SPARSE_FROM", -100)
    assert to_batch(few).entries is not None
    settings = override(FitConfig(model=model, likelihood=likelihood), ["train.epochs=1"])
    fitted = sb.fit(few, settings, run_dir=tmp_path / "run", tracker=Silent())
    sparse = fitted.infer(few)
    assert np.isfinite(fitted.evaluate(few)["scores"]["model"])
    monkeypatch.setattr(tensors, "SPARSE_SHARE", 0.0)
    dense = fitted.infer(few)
    for name in ("mean", "rates", "factors"):
        np.testing.assert_allclose(sparse[name].values, dense[name].values, rtol=2e-3, atol=1e-4)


def test_an_indicator_or_a_decay_time_can_be_given(data, monkeypatch):
    asked = []

    def measure(batch, *, bin_width, indicator, decay):
        asked.append((indicator.name, indicator.rise, decay))
        raise DataError("enough")

    monkeypatch.setattr(moments, "measure_kinetics", measure)
    for likelihood in (
        {"name": "edgeworth", "indicator": "GCaMP6f"},
        {"name": "gaussian_moments", "decay_time": 0.3},
        {"name": "edgeworth"},
    ):
        settings = build(FitConfig, {"likelihood": likelihood}).likelihood
        with pytest.raises(DataError, match="enough"):
            LIKELIHOODS[settings.name].measure(to_batch(data), bin_width=0.1, channel_values={}, config=settings)
    assert asked == [("GCaMP6f", 0.0, None), (asked[2][0], 0.0, 0.3), (asked[2][0], 0.0, None)]
    assert asked[2][0] != "GCaMP6f"


def test_an_ensemble_averages_rates_fluorescence_and_kinetics(data, measured, tmp_path):
    few = data.isel(channel=slice(4), trial=slice(0, None, 3))
    settings = config("gaussian_moments", "seeds=2", "train.epochs=1")
    fitted = sb.fit(few, settings, run_dir=tmp_path / "run", tracker=Silent())
    fitted.members[1].model.likelihood.measured["session"].amplitude.mul_(3)
    members = [replace(fitted, members=(member,), run_dir=member.run_dir).infer(few) for member in fitted.members]
    latents = fitted.infer(few)
    rates, mean = (np.stack([each[name].values for each in members]) for name in ("rates", "mean"))
    np.testing.assert_allclose(latents["rates"].values, np.exp(np.log(rates).mean(0)), rtol=1e-5)
    np.testing.assert_allclose(latents["mean"].values, mean.mean(0), rtol=1e-4, atol=1e-5)
    assert (latents["rates_sd"].values > 0.7 * latents["rates"].values * np.log(rates).std(0)).all()
    np.testing.assert_allclose(latents["gain"].values, 2.0, rtol=1e-5)
    rules = json.loads(latents.attrs["model"])["ensemble"]["estimates"]
    assert {name: rule.split()[0] for name, rule in rules.items()} == {
        **{"kinetics": "mean", "mean": "mean", "rates": "geometric"}
    }


def test_kinetics_are_measured_again_with_the_rates_of_the_model(monkeypatch):
    few = calcium(n_channels=2, conditions=8, trials_per_condition=3, seed=1, imaging=replace(LADDER, n_bins=40))
    batch = to_batch(few)
    values = {
        "decay_per_bin": 0.75,
        "amplitude": 2.0,
        "baseline": -0.3,
        "noise_sd": 0.3,
        "initial": 0.0,
        "initial_sd": 0.1,
        "rise_time": 0.0,
    }
    wrong = Kinetics(**{name: torch.full((2,), each) for name, each in values.items()})
    of = replace(channel_statistics(batch), kinetics=wrong)
    model = make_model(CONV.model_copy(update={"dropout": 0.0}), {"session": of}, "edgeworth")
    true = torch.from_numpy(few["true_rates"].values).float() * LADDER.bin_width
    monkeypatch.setattr(Moments, "rates", lambda self, factors, session: true)
    model.set_statistics("session", model.refit(batch, bin_width=LADDER.bin_width))
    found = model.kinetics("session")
    np.testing.assert_allclose(found.amplitude, 1.0, atol=0.15)
    np.testing.assert_allclose(found.noise_sd, 0.2, atol=0.05)
    np.testing.assert_allclose(found.baseline, 0.0, atol=0.15)
    assert model.likelihood.biases["session"].isfinite().all()


def test_a_second_of_a_channel_is_hidden_together(data):
    assert mask_length_of(data, config("edgeworth")) == round(1 / data.attrs["bin_width"])
    assert mask_length_of(data, config("edgeworth", "masks.mask_length=3")) == 3


@pytest.mark.parametrize("likelihood", ["gaussian_moments", "edgeworth"])
def test_moments_of_counts_or_of_events_are_refused(data, likelihood, tmp_path):
    for given, what in ((sb.simulate.lorenz(conditions=2), "counts"), (data.assign_attrs(signal="events"), "events")):
        with pytest.raises(DataError, match=f"needs fluorescence, but these data are {what}"):
            sb.fit(given, config(likelihood), run_dir=tmp_path / "run")
    with pytest.raises(DataError, match="the model ladder needs"):
        sb.fit(data, FitConfig(model=LadderConfig(), likelihood=likelihood), run_dir=tmp_path / "run")


def test_a_fit_starts_from_another_one_with_its_kinetics(data, measured, tmp_path):
    first = sb.fit(data, config("edgeworth", "train.epochs=1"), run_dir=tmp_path / "first", tracker=Silent())
    settings = config("edgeworth", "train.epochs=1", f"init.run_dir={tmp_path / 'first'}", "init.channels=same")
    second = sb.fit(data, settings, run_dir=tmp_path / "second", tracker=Silent())
    assert (first.model.kinetics("session").amplitude == second.model.kinetics("session").amplitude).all()


@pytest.mark.slow
def test_rates_found_in_a_file_of_fluorescence_are_written_beside_it(brief_search, tmp_path):
    recorded = write(tmp_path / "dff.nwb", relative(light()[0]))
    said, output = [], pipeline.Output(tmp_path / "out.nwb")
    settings, read = config("edgeworth", "train.epochs=2"), ReadConfig(cut=Chop(length=5.0))
    pipeline.fit_files([recorded], read, settings, run_dir=tmp_path / "run", output=output, log=said.append)
    assert any("contains dF/F" in line and "read unchanged" in line for line in said)
    assert not pynwb.validate(path=str(output.path))
    found = read_result(output.path)
    with NWBHDF5IO(output.path, "r") as io:
        module = io.read().processing["ophys"]
        assert {"sbtt_mean", "sbtt_rates", "sbtt_factors"} <= set(module.data_interfaces)
        assert module["sbtt_rates"].unit == "Hz" and "sbtt_events" not in module.data_interfaces
        np.testing.assert_array_equal(module["sbtt_channels"]["gain"].data[:], found["gain"].values)
    assert (found["rates"].values > 0).all() and np.isfinite(found["mean"].values).all()
