"""Whether fits learn a system by themselves, and what they say if not."""

import json
import re

import numpy as np
import pytest
import torch

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig, ConvConfig, DynamicsConfig, FitConfig, override
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.fitting.forward import has_learned, why_without
from nwb_sbtt.train.trackers import Silent
from tests.fitting.test_forward import CONV, SYSTEM, WIDTH, config, rotation


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Let short trainings count."""
    monkeypatch.setattr("nwb_sbtt.fitting.learnable.LEAST_STEPS", 4)


@pytest.fixture(scope="module")
def data():
    return rotation()[0]


def fitted_by(ds, folder, *, epochs=2, **changes):
    settings = config(epochs, system="auto").model_copy(update=changes)
    return sb.fit(ds, settings, run_dir=folder / "run", tracker=Silent())


@pytest.mark.slow
def test_a_system_is_learned_by_default_and_resumes_as_such(data, tmp_path):
    assert FitConfig().dynamics == "auto"
    fitted = fitted_by(data, tmp_path)
    learned = DynamicsConfig(dimensions=4, steps=round(1.2 * 2 * 3))
    assert has_learned(fitted)
    assert fitted.config.system == learned
    assert re.search(r"learned system +4 dimensions", str(fitted))
    assert sb.load(fitted.run_dir).config.system == learned
    again = fitted_by(data, tmp_path)
    assert again.checkpoint_sha256 == fitted.checkpoint_sha256


def test_it_has_no_more_dimensions_than_there_are_channels(tmp_path):
    fitted = fitted_by(rotation(channels=3)[0], tmp_path)
    assert fitted.config.system.dimensions == 3


def test_it_has_more_dimensions_with_known_inputs(tmp_path):
    ds = rotation(channels=16, inputs=True)[0]
    fitted = fitted_by(ds, tmp_path, model=ConvConfig(**{**CONV, "factors": 14}))
    assert fitted.config.system.dimensions == 12
    system = SYSTEM.model_copy(update={"dimensions": None})
    assert sb.fit(ds, config(1, system=system), run_dir=tmp_path / "four").config.system.dimensions == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {**CONV, "name": "conv", "lag": 2}}, "the model has a lag"),
        ({"model": {**CONV, "name": "conv", "factors": 1}}, "1 channel or factor; 2 at least"),
        ({"likelihood": "zig"}, "with the likelihood 'zig'"),
        ({"train": {"epochs": 1, "batch_size": 24}}, "the model trains for 3 steps; 4 at least"),
        ({"dynamics": None}, "none was to be learned"),
    ],
)
def test_a_fit_without_a_system_says_why(data, changes, words, tmp_path):
    settings = {**config(2, system="auto").model_dump(), **changes}
    fitted = sb.fit(data, settings, run_dir=tmp_path / "run", tracker=Silent())
    assert not has_learned(fitted)
    assert words in why_without(fitted)
    assert re.search("learned system +none: ", str(fitted))
    assert words in why_without(sb.load(fitted.run_dir))


def test_short_trials_and_long_recordings_go_without(tmp_path, monkeypatch):
    short = fitted_by(rotation(bins=7)[0], tmp_path / "short")
    assert "have 7 bins; 8 at least" in why_without(short)
    monkeypatch.setattr("nwb_sbtt.fitting.learnable.MOST_BINS", 3599)
    long = fitted_by(rotation()[0], tmp_path / "long")
    assert "has 3600 bins" in why_without(long)
    monkeypatch.setattr("nwb_sbtt.fitting.learnable.MOST_BINS", 3600)
    monkeypatch.setattr("nwb_sbtt.fitting.learnable.MOST_DRIVEN", 3599)
    driven = fitted_by(rotation(inputs=True)[0], tmp_path / "driven")
    assert "with known inputs, inference by a system takes long" in why_without(driven)


def test_a_system_that_grows_without_bounds_costs_no_fit(data, tmp_path, monkeypatch):
    def far(dynamics, states, batch, entries):
        return torch.full((len(batch.values), states.shape[1]), torch.nan)

    monkeypatch.setattr("nwb_sbtt.train.dynamics.log_likelihoods", far)
    fitted = fitted_by(data, tmp_path)
    assert "it grew without bounds" in why_without(fitted)
    loaded = sb.load(fitted.run_dir)
    assert "it grew without bounds" in why_without(loaded)
    assert np.isfinite(loaded.infer(data)["rates"].values).all()
    assert json.loads((fitted.run_dir / "log.jsonl").read_text().splitlines()[-1])["epoch"] == 2


def test_settings_of_a_system_take_the_place_of_the_default():
    assert override(FitConfig(), ["dynamics.dimensions=3"]).system == DynamicsConfig(dimensions=3)
    assert override(FitConfig(), ["dynamics=null"]).dynamics is None


def test_constant_signals_learn_by_default(tmp_path):
    ds = sb.from_numpy(np.full((90, 20, 4), 3.0), bin_width=WIDTH, kind="series")
    fitted = fitted_by(ds, tmp_path)
    assert np.isfinite(fitted.infer(ds)["mean"].values).all()


def test_constant_signals_that_are_sampled_regularly_go_without(tmp_path):
    full = sb.from_numpy(np.full((90, 40, 25), 3.0), bin_width=WIDTH, kind="series")
    ds = sb.data.limit_bandwidth(full, BandwidthConfig(k=2, scheme="round_robin"))
    fitted = fitted_by(ds, tmp_path)
    assert "no channel varies" in why_without(fitted)
    assert np.isfinite(fitted.infer(ds)["mean"].values).all()


def test_a_system_that_is_asked_for_needs_a_bin_to_go_on_to(tmp_path):
    with pytest.raises(ConfigError, match="have 1 bin, so there is none to go on to"):
        sb.fit(rotation(bins=1)[0], config(2), run_dir=tmp_path / "run", tracker=Silent())
    assert "have 1 bin" in why_without(fitted_by(rotation(bins=1)[0], tmp_path / "default"))
