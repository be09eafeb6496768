"""Trials of a learned system are a recording: what is read from the file is what was simulated."""

import shutil

import numpy as np
import pytest
import xarray as xr
from pynwb import NWBHDF5IO

import nwb_sbtt as sb
from nwb_sbtt.config import Chop, DynamicsConfig, ReadConfig, Trials
from nwb_sbtt.data.schema import DIMS
from nwb_sbtt.errors import ConfigError, DataError, FileError, MismatchError
from nwb_sbtt.fitting.recorded import read_again
from nwb_sbtt.fitting.runfolder import FORECAST, read_json, write_json
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import INPUTS, read_truth
from nwb_sbtt.io.write.simulation import write_simulation
from nwb_sbtt.simulate.learned import (
    _around_events,
    _check_cut,
    _check_is_one_table,
    _check_observed,
    _with_true_inputs,
    write_learned,
)
from nwb_sbtt.train.trackers import Silent
from tests.support import nwbfiles
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


def assert_same_trials(found, expected):
    for name in ("values", "observed", "channel_id"):
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)
    for name in ("true_rates", "true_latents"):
        np.testing.assert_allclose(found[name].values, expected[name].values, rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(found["time"].values, expected["time"].values, atol=1e-12)


@pytest.mark.parametrize(("full", "by"), [(False, "system"), (True, "system"), (False, "markov")])
def test_what_is_read_is_what_was_simulated(run, full, by, tmp_path, monkeypatch, capsys):
    out, words = tmp_path / "out.nwb", ["--trials", 30, "--seed", 3, "--by", by, *(["--full"] if full else [])]
    assert call(monkeypatch, "simulate-fit", run, "--out", out, *words) == 0
    assert capsys.readouterr().out.strip().endswith("out.nwb")
    expected = sb.load(run).simulate(trials=30, seed=3, masked=not full, by=by)
    found = read_truth(out, read_nwb(out, READ))
    assert bool(found["observed"].all()) == full
    assert_same_trials(found, expected)
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
    with pytest.raises(
        DataError, match=r"signals of kind 'series'; .* in Python: sb.load\(run_dir\).simulate\(like=data\)"
    ):
        write_learned(tmp_path / "out.nwb", tmp_path / "signals")
    assert not (tmp_path / "out.nwb").exists()


def test_a_fit_to_an_array_is_simulated_in_python(run, tmp_path):
    ds = read_nwb(run.parent / "lorenz.nwb", READ)
    fit(sb.from_numpy(ds["values"].values, bin_width=0.02, kind="units"), tmp_path / "run")
    with pytest.raises(FileError, match=r"did not come from a file.*: sb.load\(run_dir\).simulate\(like=data\)"):
        write_learned(tmp_path / "out.nwb", tmp_path / "run")


def test_counts_that_are_not_of_units_are_refused_before_the_recording_is_read(run, tmp_path):
    counts = read_nwb(run.parent / "lorenz.nwb", READ)["values"].values.reshape(-1, 6)
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, counts, name="counts", unit="counts", rate=50.0)
    source = nwbfiles.write(nwbfile, tmp_path / "counts.nwb")
    cut = Chop(length=1, overlap=0)
    fit(read_nwb(source, series="acquisition/counts", bin_width=0.02, trials=cut), tmp_path / "run")
    source.unlink()
    with pytest.raises(DataError, match=r"one of counts of kind 'series'; .*: sb.load\(run_dir\).simulate\(\)"):
        write_learned(tmp_path / "out.nwb", tmp_path / "run")


def test_units_that_one_table_does_not_tell_apart_are_refused(run):
    ds = read_nwb(run.parent / "lorenz.nwb", READ)
    _check_is_one_table(ds)
    with pytest.raises(DataError, match=r"the ids \[0\] of the fitted units repeat.*simulate\(\)"):
        _check_is_one_table(ds.assign_coords(channel_id=("channel", [0, 0, 1, 2, 3, 4])))
    with pytest.raises(DataError, match=r"the fitted units are of \['processing/a/units'\]"):
        _check_is_one_table(ds.assign_coords(table=("channel", ["processing/a/units"] * 6)))


def test_no_recording_of_the_fit_is_replaced(run, tmp_path, monkeypatch, capsys):
    source = run.parent / "lorenz.nwb"
    before, link, moved = source.read_bytes(), tmp_path / "link.nwb", tmp_path / "moved.nwb"
    link.symlink_to(source)
    moved.write_bytes(before)
    monkeypatch.chdir(source.parent)
    for target, words in ((source, []), (link, []), ("lorenz.nwb", []), (moved, ["--file", moved])):
        for more in ([], ["--overwrite"]):
            assert call(monkeypatch, "simulate-fit", run, "--out", target, *words, *more) == 2
            assert "is the recording itself; pass another path" in capsys.readouterr().err
    assert source.read_bytes() == moved.read_bytes() == before and link.is_symlink()


def test_no_recording_of_another_session_is_replaced(run, tmp_path):
    sources = [recording(tmp_path / f"{name}.nwb", seed=seed) for seed, name in enumerate("ab")]
    fit({source.stem: read_nwb(source, READ) for source in sources}, tmp_path / "run")
    with pytest.raises(FileError, match=r"b\.nwb' is the recording itself"):
        write_learned(sources[1], tmp_path / "run", session="a", overwrite=True)


def test_a_seed_that_is_too_large_is_named(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.nwb"
    assert call(monkeypatch, "simulate-fit", run, "--out", out, "--seed", "99999999999999999999") == 2
    assert "seed is 99999999999999999999; expected a whole number from 0 to 2**63 − 1" in capsys.readouterr().err


def test_units_that_are_never_observed_are_named_with_what_to_try(run):
    ds = read_nwb(run.parent / "lorenz.nwb", READ)
    observed, unit = ds["observed"].values.copy(), int(ds["channel_id"][2])
    observed[:5, :, 2] = False
    late = ds.assign(observed=(DIMS, observed))
    _check_observed(late, late)
    with pytest.raises(DataError, match=rf"channels \[{unit}\] .* 2 trials .*--trials\), up to 24, or every .*--full"):
        _check_observed(late.isel(trial=[0, 1]), late)
    never = late.isel(trial=[0, 1, 2])
    with pytest.raises(DataError, match=rf"\[{unit}\] are not observed in any trial of the recording; .*--full"):
        _check_observed(never, never)


@pytest.mark.parametrize(
    "cut",
    [
        Trials(event="start_time", start=-0.1, stop=0.5),
        Trials(event="start_time", start=0.2, stop=0.8),
        Trials(event="start_time", start=-0.8, stop=-0.2),
        Trials(event="stop_time", start=-0.5, stop=0.1),
        Trials(event="stop_time", start=0.1, stop=0.7),
        Trials(event="go_cue", start=-0.2, stop=0.4),
        Trials(event="go_cue", start=0.3, stop=0.9),
        Trials(event="go_cue", start=0.1, stop=0.7, relative=True),
        Trials(event="go_cue", start=-0.3, stop=0.3, relative=True, table="epochs"),
        Trials(event="timestamp", start=-0.3, stop=0.3, table="/intervals/licks"),
    ],
)
def test_the_cut_of_the_recording_finds_the_simulated_bins(cut, run, tmp_path):
    ds = sb.load(run).simulate(trials=9).isel(time=slice(0, 30))
    expected = ds.assign_coords(time=cut.start + 0.02 * (np.arange(30) + 0.5))
    laid, table = _around_events(expected, cut)
    out = write_simulation(tmp_path / "out.nwb", laid, table=table)
    found = read_truth(out, read_nwb(out, bin_width=0.02, trials=cut))
    assert_same_trials(found, expected)
    np.testing.assert_allclose(found["trial_start"], laid["trial_start"], atol=1e-9)
    starts, stops = (table.columns[name][1] for name in ("start_time", "stop_time"))
    assert (
        (stops > starts).all() and (starts[1:] >= stops[:-1] + 0.599).all() and min(*starts, *laid["trial_start"]) >= 0
    )
    # Beyond a trial there is nothing of its neighbours.
    wide = cut.model_copy(update={"start": cut.start - 0.3, "stop": cut.stop + 0.2})
    beyond = read_nwb(out, bin_width=0.02, trials=wide)["observed"].values
    assert not beyond[:, :15].any() and not beyond[:, -10:].any()


def test_a_file_is_read_as_the_recording_of_the_fit(run, tmp_path, monkeypatch):
    source, out = run.parent / "lorenz.nwb", tmp_path / "out.nwb"
    read = READ.model_copy(update={"cut": Trials(event="go_time", start=-0.2, stop=0.4)})
    fit(read_nwb(source, read), tmp_path / "run")
    assert call(monkeypatch, "simulate-fit", tmp_path / "run", "--out", out, "--by", "markov", "--full") == 0
    fitted = sb.load(tmp_path / "run")
    found = read_truth(out, read_again(fitted, out, None))
    assert_same_trials(found, fitted.simulate(by="markov", masked=False))
    assert bool(found["observed"].all())
    fitted.infer(found, same_channels=True)


def test_a_table_that_the_file_cannot_have_is_named():
    _check_cut(Trials(event="go", start=0, stop=1, table="/intervals/epochs"))
    for cut in (
        Trials(event="timestamp", start=0, stop=1, table="events/licks"),
        Trials(event="events/licks", start=0, stop=1),
    ):
        with pytest.raises(DataError, match=r"cut around '.*' of '.*', .*simulate\(\)"):
            _check_cut(cut)


def test_the_trials_of_a_chopped_recording_follow_without_pauses(run, tmp_path):
    read = READ.model_copy(update={"cut": Chop(length=1, overlap=0, start=0.5, stop=20.5)})
    fit(read_nwb(run.parent / "lorenz.nwb", read), tmp_path / "run")
    out = write_learned(tmp_path / "out.nwb", tmp_path / "run", masked=False)
    assert_same_trials(read_truth(out, read_nwb(out, READ)), sb.load(tmp_path / "run").simulate(masked=False))
    with NWBHDF5IO(out, "r") as io:
        assert io.read().trials.description == "Simulated trials."
