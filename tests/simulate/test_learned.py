"""Trials of a learned system are a recording: what is read from the file is what was simulated."""

import shutil

import numpy as np
import pytest
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.config import DynamicsConfig, ReadConfig, Trials
from nwb_sbtt.errors import ConfigError, DataError, FileError, MismatchError
from nwb_sbtt.fitting.runfolder import FORECAST, read_json, write_json
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import INPUTS, read_truth
from nwb_sbtt.simulate.learned import _with_true_inputs, write_learned
from nwb_sbtt.train.trackers import Silent
from tests.support.commands import call, recording
from tests.support.fits import settings

SYSTEM = DynamicsConfig(dimensions=2, width=8, window=10, steps=4, courses=50)
READ = ReadConfig(series=("units",), cut=Trials(event="start_time", start=0, stop=1))


def fit(data, folder, system=SYSTEM):
    return sb.fit(data, settings(dynamics=system), run_dir=folder, tracker=Silent())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fit to 24 trials of 6 units, of which two are observed in each bin."""
    folder = tmp_path_factory.mktemp("learned")
    read = READ.model_copy(update={"bandwidth": sb.config.BandwidthConfig(k=2)})
    fit(read_nwb(recording(folder / "lorenz.nwb"), read), folder / "run")
    return folder / "run"


@pytest.mark.parametrize("full", [False, True])
def test_what_is_read_is_what_was_simulated(run, full, tmp_path, monkeypatch, capsys):
    out, words = tmp_path / "out.nwb", ["--trials", 30, "--seed", 3, *(["--full"] if full else [])]
    assert call(monkeypatch, "simulate-fit", run, "--out", out, *words) == 0
    assert capsys.readouterr().out.strip().endswith("out.nwb")
    expected = sb.load(run).simulate(trials=30, seed=3, masked=not full)
    found = read_truth(out, read_nwb(out, READ))
    assert bool(found["observed"].all()) == full
    for name in ("values", "observed"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    for name in ("true_rates", "true_latents"):
        np.testing.assert_allclose(found[name].values, expected[name].values, rtol=1e-6)
    assert found["channel_id"].values.tolist() == expected["channel_id"].values.tolist()
    assert found.attrs["session_id"] == expected.attrs["session_id"]


def test_known_inputs_are_in_the_file_if_none_is_missing(run, tmp_path):
    source = run.parent / "lorenz.nwb"
    inputs = np.random.default_rng(0).normal(size=(24, 50, 1)).astype(np.float32)
    truth = read_truth(source, read_nwb(source, READ)).assign(true_inputs=(("trial", "time", "true_input"), inputs))
    path = sb.simulate.write_simulation(tmp_path / "with.nwb", truth)
    read = READ.model_copy(update={"inputs": (f"processing/ground_truth/{INPUTS}",)})
    fit(read_nwb(path, read), tmp_path / "run")
    out = write_learned(tmp_path / "out.nwb", tmp_path / "run")
    found = read_truth(out, read_nwb(out, read))
    np.testing.assert_allclose(found["inputs"].values, inputs, rtol=1e-5)
    with pytest.raises(DataError, match="some known inputs of the recording are missing"):
        _with_true_inputs(found.assign(inputs_observed=found["inputs_observed"] & False))


def test_a_recording_that_was_moved_is_named(run, tmp_path):
    moved = tmp_path / "moved.nwb"
    moved.write_bytes((run.parent / "lorenz.nwb").read_bytes())
    one = write_learned(tmp_path / "one.nwb", run, trials=3, file=moved)
    other = write_learned(tmp_path / "other.nwb", run, trials=3)
    xr.testing.assert_equal(read_nwb(one, READ), read_nwb(other, READ))
    with pytest.raises(MismatchError, match=r"one.nwb' is not the file that the model was fitted to"):
        write_learned(tmp_path / "out.nwb", run, file=one)
    with pytest.raises(FileError, match=r"no longer at '.*nowhere.nwb'; pass their new path with --file"):
        write_learned(tmp_path / "out.nwb", run, file=tmp_path / "nowhere.nwb")


def test_a_system_that_foretells_nothing_is_warned_of(run, tmp_path, monkeypatch, capsys):
    poor = tmp_path / "run"
    shutil.copytree(run, poor)
    write_json(poor / FORECAST, {**read_json(poor / FORECAST), "errors": {"lorenz": 4.8}})
    assert call(monkeypatch, "simulate-fit", poor, "--out", tmp_path / "out.nwb", "--trials", 3) == 0
    warning, wrote = capsys.readouterr().out.strip().splitlines()
    assert warning.startswith(
        "warn: forecasts of validation trials by the learned system miss by 4.8 times the variance"
    )
    assert wrote.startswith("wrote ")


def test_what_cannot_be_a_recording_of_spikes_is_refused_in_a_sentence(run, tmp_path):
    source = run.parent / "lorenz.nwb"
    fit(read_nwb(source, READ), tmp_path / "plain", None)
    with pytest.raises(ConfigError, match="no system that could be run forward"):
        write_learned(tmp_path / "out.nwb", tmp_path / "plain")
    signals = np.random.default_rng(0).normal(size=(12, 10, 3))
    fit(sb.from_numpy(signals, bin_width=0.1, kind="series"), tmp_path / "signals")
    with pytest.raises(DataError, match="this fit is one of signals; get its trials as a Dataset in Python"):
        write_learned(tmp_path / "out.nwb", tmp_path / "signals")
    assert not (tmp_path / "out.nwb").exists()
