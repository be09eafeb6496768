"""Behaviour decoded by the command line: scores, picture, result file, and what is refused in a line."""

import json

import numpy as np
import pytest
from matplotlib.image import imread
from pynwb import NWBHDF5IO
from pynwb.validation import validate

import nwb_sbtt as sb
from nwb_sbtt.io.read.files import sha256
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set
from tests.support.commands import call, tree

HAND = "processing/behavior/hand_vel"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    simulated = simulate_set(SetSettings(train=24, val=6, test=4, units=10, seed=1))
    return write_set(simulated, tmp_path_factory.mktemp("reaches"))[0]


@pytest.fixture(scope="module")
def fitted(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted") / "run"
    cut = sb.Trials(event="move_onset_time", start=-0.25, stop=0.45)
    ds = sb.read_nwb(source, series="units", bin_width=0.02, trials=cut)
    sb.fit(ds, {"train.epochs": 3, "model.width": 16, "model.groups": 4}, run_dir=folder)
    return folder


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    def refuse(*words):
        before = tree(tmp_path)
        assert call(monkeypatch, "decode", *words) == 2
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert lines[-1].startswith("error: ") and "Traceback" not in captured.err + captured.out
        assert sum(line.startswith("error") for line in lines) == 1
        assert tree(tmp_path) == before
        return lines[-1]

    return refuse


@pytest.mark.slow
def test_decoded_behaviour_is_scored_drawn_and_written_beside_the_results(
    fitted, source, monkeypatch, capsys, tmp_path
):
    before = sha256(source)
    out, picture = tmp_path / "out.nwb", tmp_path / "hand.png"
    words = ["decode", fitted, source, "--behaviour", HAND, "--behaviour", "trial_type", "--lag", "0.1"]
    assert call(monkeypatch, *words, "--out", out, "--figure", picture) == 0
    said = capsys.readouterr().out
    assert "from factors" in said and "from smoothed counts" in said and "by chance" in said
    assert "scored on 6 trials (trials that the fit was not trained on)" in said
    assert sha256(source) == before and imread(picture).std() > 0.05
    assert not validate(path=str(out))
    latents = sb.read_result(out)
    with NWBHDF5IO(out, "r") as io:
        nwb = io.read()
        series, table = (nwb.processing["behavior"][f"sbtt_decoded_{name}"] for name in ("hand_vel", "trial_type"))
        assert series.neurodata_type == "TimeSeries" and series.unit == "mm/s"
        assert "hand_vel decoded from the factors, 0.1 s before, by ridge regression" in series.description
        assert series.data.shape == (30 * 35, 2) and np.isfinite(series.data[:]).all()
        starts = np.sort(latents["trial_start"].values)
        np.testing.assert_allclose(series.timestamps[:35], starts[0] + 0.1 + 0.02 * (np.arange(35) + 0.5), atol=1e-6)
        assert table.neurodata_type == "TimeIntervals" and len(table) == 30
        assert set(table["decoded"][:]) <= set(table["measured"][:])
        assert "accuracy" in table.description
    assert [each.role for each in sb.inspect(out).series if "decoded" in each.path] == ["result"]


def test_scores_are_printed_for_programs_and_are_those_of_python(fitted, source, monkeypatch, capsys):
    assert call(monkeypatch, "decode", fitted, source, "--behaviour", f"{HAND}:1", "--of", "rates", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["trials"] == 6 and list(found["scores"]["rates"]["columns"]) == ["hand_vel 1"]
    fit = sb.load(fitted)
    data = fit.data()
    latents = fit.infer(data)
    decoded = sb.decode(latents, sb.read_behaviour(source, f"{HAND}:1", latents), of="rates", data=data)
    assert found["scores"]["rates"]["r2"] == pytest.approx(float(decoded["r2_weighted"][0]))
    assert found["scores"]["smoothed counts"]["r2"] == pytest.approx(float(decoded["r2_weighted"][1]))


def test_other_trials_of_the_recording_are_scored_with_a_warning(fitted, source, monkeypatch, capsys):
    words = ["decode", fitted, source, "--behaviour", HAND, "--trials", "move_onset_time:-0.2:0.4"]
    assert call(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    assert "(all trials)" in said and "note: the recording is one of the fit's" in said


def test_what_cannot_be_decoded_is_refused_in_a_line(fitted, source, refused, tmp_path):
    asked = [fitted, source, "--behaviour"]
    assert "did you mean 'processing/behavior/hand_vel'" in refused(*asked, "processing/behavior/hand_pos")
    assert "has no column '4'; it has 2, counted from 0: 0, 1" in refused(*asked, f"{HAND}:4")
    assert "'speed'" in refused(*asked, "speed")
    assert "has no sample in the 30 trials at this lag" in refused(*asked, HAND, "--lag", "1000")
    assert "ends in .png" in refused(*asked, HAND, "--figure", tmp_path / "hand.gift")
    assert "does not exist" in refused(*asked, HAND, "--figure", tmp_path / "none" / "hand.png")
    assert "no 'mean'" in refused(*asked, HAND, "--of", "mean")
    assert "apply to a result file" in refused(*asked, HAND, "--overwrite")
    assert "is the recording itself" in refused(*asked, HAND, "--out", source, "--overwrite")


def test_a_fit_of_several_sessions_asks_for_one(fitted, source, refused, tmp_path_factory):
    ds = sb.load(fitted).data()[["values", "observed"]]
    folder = tmp_path_factory.mktemp("two") / "run"
    bare = ds.drop_attrs().assign_attrs({name: ds.attrs[name] for name in ("bin_width", "kind", "unit")})
    sb.fit(
        {"monday": bare, "tuesday": bare.isel(trial=slice(20))},
        {"train.epochs": 1, "model.width": 16, "model.groups": 4},
        run_dir=folder,
    )
    assert "sessions 'monday', 'tuesday'; name the session" in refused(folder, source, "--behaviour", HAND)


def test_behaviour_that_the_model_was_given_is_told(source, monkeypatch, capsys, tmp_path):
    cut = sb.Trials(event="move_onset_time", start=-0.25, stop=0.45)
    read = sb.ReadConfig(series=("units",), bin_width=0.02, cut=cut, inputs=(HAND,))
    sb.fit(
        sb.read_nwb(source, read), {"train.epochs": 1, "model.width": 16, "model.groups": 4}, run_dir=tmp_path / "run"
    )
    assert call(monkeypatch, "decode", tmp_path / "run", source, "--behaviour", f"{HAND}:0") == 0
    assert "is a known input of the model" in capsys.readouterr().out
