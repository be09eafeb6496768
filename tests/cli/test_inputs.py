"""Known inputs on the command line: fitted, inferred, written and replayed."""

import json

import pytest
from pynwb import NWBHDF5IO, TimeSeries

import nwb_sbtt as sb
from nwb_sbtt.simulate.tasks import Task, write_task
from tests.support.commands import TRIALS, call, recording

SMALL = [
    *TRIALS,
    *("--lag", 1, "--input", "processing/behavior/speed", "--input", "trials:start_time"),
    *("--set", "model.width=8", "--set", "model.groups=4", "--set", "model.layers=2", "--set", "model.read_in=4"),
    *("--set", "model.factors=3", "--set", "train.epochs=2"),
]


@pytest.fixture
def path(tmp_path):
    file = recording(tmp_path / "driven.nwb")
    with NWBHDF5IO(file, "a") as io:
        nwbfile = io.read()
        module = nwbfile.create_processing_module("behavior", "behaviour")
        module.add(TimeSeries(name="speed", data=[float(i % 7) for i in range(4000)], unit="m/s", rate=100.0))
        io.write(nwbfile)
    return file


@pytest.mark.slow
def test_inputs_are_fitted_written_inferred_and_replayed(path, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    assert call(monkeypatch, "fit", path, "--run-dir", run, "--out", tmp_path / "out.nwb", *SMALL) == 0
    assert "known input 'speed': 'processing/behavior/speed', in m/s" in "".join(capsys.readouterr())
    latents = sb.read_result(tmp_path / "out.nwb")
    assert json.loads(latents.attrs["model"])["known_inputs"] == ["speed", "trials:start_time"]
    assert call(monkeypatch, "infer", run, path, "--out", tmp_path / "again.nwb") == 0
    capsys.readouterr()
    assert call(monkeypatch, "replay", run, path, "--out", tmp_path / "replayed.nwb", "--json") == 0
    assert json.loads(capsys.readouterr().out)["largest_difference"] < 1e-4


def test_an_input_that_is_not_there_is_one_line(path, tmp_path, monkeypatch, capsys):
    words = ["--input", "processing/behavior/sped", "--run-dir", tmp_path / "run", "--out", tmp_path / "out.nwb"]
    assert call(monkeypatch, "fit", path, *TRIALS, *words) == 2
    said = capsys.readouterr().err
    assert "did you mean 'processing/behavior/speed'" in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_of_several_files_the_one_without_the_input_is_named(path, tmp_path, monkeypatch, capsys):
    other = recording(tmp_path / "other.nwb", seed=1)
    words = ["--input", "processing/behavior/speed", "--run-dir", tmp_path / "run", "--out", tmp_path / "out"]
    assert call(monkeypatch, "fit", path, other, *TRIALS, *words) == 2
    said = capsys.readouterr().err
    assert "other.nwb': no series or table matches the input 'processing/behavior/speed'" in said


def test_a_simulated_recording_with_true_inputs_is_fitted_with_known_ones(tmp_path, monkeypatch):
    file = write_task(tmp_path / "kicked.nwb", Task("perturbation", n_channels=6, conditions=2, seed=0))
    words = [*TRIALS, "--input", "trials:kick_time", *SMALL[SMALL.index("--set") :]]
    run = tmp_path / "run"
    assert call(monkeypatch, "fit", file, "--run-dir", run, *words) == 0
    assert sb.load(run).signature.sessions["kicked"].inputs == ("trials:kick_time",)
    assert (run / "report.html").exists()
