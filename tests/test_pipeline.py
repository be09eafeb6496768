import json
import re
import shutil
import warnings

import h5py
import numpy as np
import pytest
import xarray as xr

from nwb_sbtt import pipeline
from nwb_sbtt.config import Chop, FitConfig, InitConfig, MaskConfig, ReadConfig, TrainConfig, Trials
from nwb_sbtt.errors import ConfigError, FileError, MismatchError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.runfolder import read_json, write_json
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.precision import rounded, rounded_names
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.standin import stand_in
from nwb_sbtt.io.write.writer import write_nwb
from nwb_sbtt.recordings import load_offsets
from nwb_sbtt.report.listing import table_of_alignment
from nwb_sbtt.train.trackers import Silent
from tests.support import nwbfiles
from tests.support.commands import SETTINGS, recording
from tests.support.shortcuts import with_figures

MODEL = {name.removeprefix("model."): value for name, value in SETTINGS.items() if name.startswith("model.")}
READ = ReadConfig(series=("units",), cut=Trials(event="start_time", start=0, stop=1))


def settings(**changes):
    return FitConfig(
        **{"model": {"name": "lfads", **MODEL}, "train": TrainConfig(epochs=2), "posterior_samples": 2, **changes}
    )


FIGURES = ("Data", "Inferred rates", "Scores by channel", "Training")
"""Of what is read, inferred, scored and logged."""


def silent(text):
    pass


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with two recordings: lorenz.nwb, other.nwb."""
    folder = tmp_path_factory.mktemp("fit")
    recording(folder / "lorenz.nwb")
    recording(folder / "other.nwb", seed=1)
    return folder


@pytest.fixture(scope="module")
def run(recordings):
    """The folder of recordings with a fit of the first: run, out.nwb."""
    folder, said = recordings, []
    words = {"run_dir": folder / "run", "output": pipeline.Output(folder / "out.nwb"), "log": said.append}
    with with_figures(*FIGURES):
        metrics = pipeline.fit_files([folder / "lorenz.nwb"], READ, settings(), **words)
    (folder / "said.json").write_text(json.dumps([said, metrics]))
    return folder


def test_a_fit_leaves_metrics_report_and_result_and_says_so(run):
    said, metrics = json.loads((run / "said.json").read_text())
    assert json.loads((run / "run" / "metrics.json").read_text()) == metrics
    assert list(metrics) == ["lorenz"]
    page = (run / "run" / "report.html").read_text()
    assert page.count("<img") >= len(FIGURES)
    assert "learned system</th><td>none: " in page
    text = "\n".join(said)
    assert "lorenz.nwb: 24 trials × 50 bins of 0.02 s × 6 units, 100.0% of their bins observed" in text
    assert "training ended: all 2 epochs finished" in text
    assert re.search("learned system: none: the model trains for [0-9]+ steps; 400 at least are needed", text)
    assert f"wrote {run / 'out.nwb'}" in text
    assert metrics["lorenz"]["truth"]["rates_r2"].keys() == metrics["lorenz"]["scores"].keys()


def test_the_result_is_what_the_model_infers(run):
    from nwb_sbtt.fitting.loading import load

    ds = read_nwb(run / "lorenz.nwb", READ)
    inferred, result = load(run / "run").infer(ds), read_result(run / "out.nwb")
    expected = rounded(inferred, rounded_names(inferred))
    for name in expected.data_vars:
        np.testing.assert_array_equal(result[name].values, expected[name].values, err_msg=name)
    assert result["channel_id"].values.tolist() == ds["channel_id"].values.tolist()


def test_infer_on_the_same_file_gives_the_same_result(run, tmp_path):
    pipeline.infer_file(run / "run", run / "lorenz.nwb", output=pipeline.Output(tmp_path / "again.nwb"), log=silent)
    one, other = read_result(run / "out.nwb"), read_result(tmp_path / "again.nwb")
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)


@pytest.mark.slow
def test_evaluate_and_report_give_the_same_again(run):
    _, metrics = json.loads((run / "said.json").read_text())
    page = (run / "run" / "report.html").read_text()
    assert pipeline.evaluate_run(run / "run") == metrics
    with with_figures(*FIGURES):
        assert pipeline.report_run(run / "run") == [run / "run" / "report.html"]
    assert (run / "run" / "report.html").read_text() == page


def say_read_from(path, run_dir):
    """Let a run folder say that its data were read from another path."""
    signature = read_json(run_dir / SIGNATURE)
    signature["sessions"]["lorenz"]["source"]["path"] = str(path)
    write_json(run_dir / SIGNATURE, signature)


def test_a_recording_that_was_moved_is_named(run, tmp_path):
    _, metrics = json.loads((run / "said.json").read_text())
    shutil.copytree(run, tmp_path / "moved")
    run_dir = tmp_path / "moved" / "run"
    say_read_from(tmp_path / "gone.nwb", run_dir)
    with pytest.raises(FileError, match=r"pass their new path with --file"):
        pipeline.evaluate_run(run_dir)
    assert pipeline.evaluate_run(run_dir, files=[tmp_path / "moved" / "lorenz.nwb"]) == metrics
    for files in ([tmp_path / "moved" / "other.nwb"], [tmp_path / "moved" / "lorenz.nwb"] * 2):
        with pytest.raises(
            MismatchError, match=r"expected the file that session|2 files. Pass one file for each session"
        ):
            pipeline.report_run(run_dir, files=files)


def test_a_recording_that_has_changed_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    path = tmp_path / "copy" / "lorenz.nwb"
    say_read_from(path, tmp_path / "copy" / "run")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(MismatchError, match="is not the file that the model was fitted to"):
        pipeline.evaluate_run(tmp_path / "copy" / "run")


@pytest.mark.slow
def test_files_that_share_conditions_are_aligned_with_the_fit_or_after_it(recordings, tmp_path):
    paths = [recordings / "lorenz.nwb", recordings / "other.nwb"]
    words = {"run_dir": tmp_path / "run", "output": pipeline.Output(tmp_path / "results"), "log": silent}
    with with_figures("Factors across sessions"):
        metrics = pipeline.fit_files(paths, READ, settings(sessions={"condition": "condition"}), **words)
    names = {name: [check["name"] for check in each["checks"]] for name, each in metrics.items()}
    assert all(checks.count("factors across sessions") == 1 for checks in names.values())
    for name in metrics:
        page = (tmp_path / "run" / f"report_{name}.html").read_text()
        assert "Factors across sessions</h2>" in page
        assert f"{name} (this)" in page
    result = read_result(tmp_path / "results" / "other_latents.nwb")
    assert result["aligned_factors"].shape == result["factors"].shape
    record = json.loads(result.attrs["model"])
    assert list(record["sessions"]) == ["lorenz", "other"]
    assert all("sha256" in each["source"] for each in record["sessions"].values())
    assert record["alignment"]["reference"] == "lorenz"

    pipeline.fit_files(paths, READ, settings(), run_dir=tmp_path / "plain", log=silent)
    texts = json.loads((tmp_path / "plain" / "metrics.json").read_text())["other"]["checks"]
    assert any("It is unknown whether the factors of this session" in check["text"] for check in texts)
    found = pipeline.align_run(tmp_path / "plain", condition="condition")
    assert found["other"] == {**record["alignment"], "reference_run": "plain"}
    assert "lorenz of plain" in table_of_alignment(found)
    to_other = pipeline.align_run(tmp_path / "plain", condition="condition", to=tmp_path / "run")
    assert to_other["lorenz"]["reference_run"] == "run"
    assert to_other["lorenz"]["as_fitted"] == pytest.approx(1)


@pytest.mark.slow
def test_several_files_give_a_folder_of_results_named_so_that_all_differ(recordings, tmp_path):
    paths, out = [], tmp_path / "results"
    for mouse, source in (("mouse1", "lorenz.nwb"), ("mouse2", "other.nwb")):
        (tmp_path / mouse).mkdir()
        paths.append(shutil.copyfile(recordings / source, tmp_path / mouse / "day.nwb"))
    words = {"run_dir": tmp_path / "run", "output": pipeline.Output(out), "log": silent}
    metrics = pipeline.fit_files(paths, READ, settings(), **words)
    assert list(metrics) == ["mouse1_day", "mouse2_day"]
    assert sorted(path.name for path in out.iterdir()) == ["mouse1_day_latents.nwb", "mouse2_day_latents.nwb"]
    assert [path.name for path in (tmp_path / "mouse1").iterdir()] == ["day.nwb"]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.html")) == [
        f"report_{name}.html" for name in metrics
    ]
    for files in ([], paths, paths[::-1]):
        assert pipeline.evaluate_run(tmp_path / "run", files=files) == metrics
    again = pipeline.Output(tmp_path / "again.nwb")
    foreign = recording(tmp_path / "foreign.nwb", seed=9)
    with pytest.raises(MismatchError, match=r"'mouse1_day', 'mouse2_day'; name the session .*\(--session mouse1_day\)"):
        pipeline.infer_file(tmp_path / "run", foreign, output=again, log=silent)
    with pytest.raises(MismatchError, match="pass --same-channels"):
        pipeline.infer_file(tmp_path / "run", paths[1], output=again, session="mouse1_day", log=silent)
    pipeline.infer_file(tmp_path / "run", paths[1], output=again, log=silent)
    one, other = read_result(out / "mouse2_day_latents.nwb"), read_result(again.path)
    np.testing.assert_array_equal(one["rates"].values, other["rates"].values)
    kept, said = {path: path.stat().st_mtime_ns for path in out.iterdir()}, []
    assert pipeline.fit_files(paths, READ, settings(), **{**words, "log": said.append}) == metrics
    assert "nothing to do: this fit and its result exist" in said[-1]
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == kept
    _stop_between_results(paths, words, out)


def _stop_between_results(paths, words, out):
    """A fit killed after the first of two results goes on with the second when it is given again; other files are safe."""
    first, second = (out / f"{mouse}_day_latents.nwb" for mouse in ("mouse1", "mouse2"))
    kept, rates = first.stat().st_mtime_ns, read_result(second)["rates"].values
    second.unlink()
    pipeline.fit_files(paths, READ, settings(), **words)
    assert first.stat().st_mtime_ns == kept
    np.testing.assert_array_equal(read_result(second)["rates"].values, rates)
    second.unlink()
    for foreign in (b"the result of another day", (out.parent / "again.nwb").read_bytes()[:5000]):
        first.write_bytes(foreign)
        with pytest.raises(FileError, match="exists; choose another"):
            pipeline.fit_files(paths, READ, settings(), **words)
        assert first.read_bytes() == foreign


def test_another_part_of_a_file_is_inferred_in_pieces_like_those_of_the_fit(run, tmp_path):
    out = pipeline.Output(tmp_path / "part.nwb", overwrite=True)
    pipeline.infer_file(run / "run", run / "lorenz.nwb", output=out, cut=Chop(start=2.0, stop=6.0), log=silent)
    part = read_result(out.path)
    assert json.loads(part.attrs["cut"]) == {"by": "chop", "length": 1.0, "overlap": None, "start": 2.0, "stop": 6.0}
    assert part.sizes["trial"] * part.sizes["time"] == 200
    pipeline.infer_file(run / "run", run / "lorenz.nwb", output=out, cut=Trials(event="go_time", start=-0.2, stop=0.4))
    assert read_result(out.path).sizes["time"] == 30


@pytest.mark.slow
def test_an_ensemble_is_fitted_scored_reported_and_written(recordings, tmp_path):
    said, out = [], pipeline.Output(tmp_path / "out.nwb")
    words = {"run_dir": tmp_path / "run", "output": out, "log": said.append}
    metrics = pipeline.fit_files([recordings / "lorenz.nwb"], READ, settings(seeds=2), **words)
    ended = (
        r"training ended: member-0: all 2 epochs finished; best at epoch \d; "
        r"member-1: all 2 epochs finished; best at epoch \d"
    )
    assert any(re.fullmatch(ended, line) for line in said)
    assert pipeline.evaluate_run(tmp_path / "run") == metrics
    assert pipeline.report_run(tmp_path / "run") == [tmp_path / "run" / "report.html"]
    assert "lfads · lorenz · 2 models averaged" in (tmp_path / "run" / "report.html").read_text()
    pipeline.infer_file(
        tmp_path / "run", recordings / "lorenz.nwb", output=pipeline.Output(tmp_path / "again.nwb"), log=silent
    )
    one, other = read_result(out.path), read_result(tmp_path / "again.nwb")
    xr.testing.assert_equal(one, other)
    member = tmp_path / "run" / "member-1"
    assert pipeline.evaluate_run(member)["lorenz"]["scores"]["model"] != metrics["lorenz"]["scores"]["model"]


def test_a_fit_of_another_recording_starts_from_one_that_is_there(run, tmp_path):
    said = []
    config = settings(init=InitConfig(run_dir=run / "run", channels="new"))
    pipeline.fit_files([run / "other.nwb"], READ, config, run_dir=tmp_path / "run", log=said.append)
    assert "starts from 'run', frozen: dynamics; other: new channels" in said
    pipeline.evaluate_run(tmp_path / "run")


def test_several_files_need_a_folder_and_each_is_given_once(run, tmp_path):
    paths = [run / "lorenz.nwb", run / "other.nwb"]
    with pytest.raises(FileError, match="together, so --out must be a folder for the"):
        pipeline.fit_files(
            paths, READ, settings(), run_dir=tmp_path / "run", output=pipeline.Output(tmp_path / "one.nwb")
        )
    with pytest.raises(FileError, match="is given twice"):
        pipeline.fit_files([paths[0]] * 2, READ, settings(), run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_channels_that_were_held_out_stay_so_when_a_file_is_inferred(run, tmp_path):
    config = settings(masks=MaskConfig(held_out_channels=0.34))
    out, again = pipeline.Output(tmp_path / "out.nwb"), pipeline.Output(tmp_path / "again.nwb")
    pipeline.fit_files([run / "lorenz.nwb"], READ, config, run_dir=tmp_path / "run", output=out, log=silent)
    pipeline.infer_file(tmp_path / "run", run / "lorenz.nwb", output=again, log=silent)
    one, other = read_result(out.path), read_result(again.path)
    np.testing.assert_array_equal(one["rates"].values, other["rates"].values)
    assert one["held_out"].values.sum() == 2


@pytest.mark.slow
def test_sampling_offsets_stay_with_the_fit(tmp_path):
    """Whoever evaluates or infers later need not name them again, and gets the same data."""
    generator = np.random.default_rng(0)
    nwb = nwbfiles.new_file()
    nwbfiles.add_rois(nwb, generator.standard_normal((300, 3)), rate=10.0)
    path = nwbfiles.write(nwb, tmp_path / "rois.nwb")
    offsets = np.array([0.0, 0.03, 0.07])
    np.save(tmp_path / "offsets.npy", offsets)
    read = ReadConfig(bin_width=0.02)
    out, again = pipeline.Output(tmp_path / "out.nwb"), pipeline.Output(tmp_path / "again.nwb")
    metrics = pipeline.fit_files(
        [path],
        read,
        settings(likelihood="gaussian"),
        run_dir=tmp_path / "run",
        output=out,
        offsets=[str(tmp_path / "offsets.npy")],
        log=silent,
    )
    (tmp_path / "offsets.npy").unlink()
    assert pipeline.evaluate_run(tmp_path / "run") == metrics
    pipeline.infer_file(tmp_path / "run", path, output=again, log=silent)
    one, other = read_result(out.path), read_result(again.path)
    xr.testing.assert_equal(one["mean"], other["mean"])
    np.testing.assert_array_equal(one["observed"].values, other["observed"].values)
    np.testing.assert_array_equal(other["sampling_offset"].values, offsets)


def test_offsets_of_several_series_are_named_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", np.array([0.0, 0.01]))
    assert load_offsets([]) is None and load_offsets(["0.02"]) == 0.02
    np.testing.assert_array_equal(load_offsets(["one.npy"]), [0.0, 0.01])
    named = load_offsets(["*/plane0=one.npy", "processing/ophys/plane1=0.033"])
    assert list(named) == ["*/plane0", "processing/ophys/plane1"] and named["processing/ophys/plane1"] == 0.033
    for given, said in (
        (["one.npy", "0.1"], "twice without a series"),
        (["one.npy", "a=0.1"], "works with one series only; with"),
        (["a=0.1", "a=0.2"], "'a' twice"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_offsets(given)
    with pytest.raises(FileError, match=r"'no\.npy'"):
        load_offsets(["a=no.npy"])


def test_offsets_that_are_no_array_are_refused_unread(run, tmp_path):
    """An array of objects would be unpickled, which may run anything."""
    np.save(tmp_path / "offsets.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match=r"is not a \.npy file of numbers"):
        pipeline.fit_files(
            [run / "lorenz.nwb"], READ, settings(), run_dir=tmp_path / "run", offsets=[str(tmp_path / "offsets.npy")]
        )


def test_data_that_never_were_in_a_file_cannot_be_evaluated_from_one(run, tmp_path):
    ds = read_nwb(run / "lorenz.nwb", READ)
    for name in ("source", "read_config"):
        del ds.attrs[name]
    fit(ds, settings(), run_dir=tmp_path / "run", tracker=Silent())
    for verb in (pipeline.evaluate_run, pipeline.report_run):
        with pytest.raises(FileError, match="did not come from a file; evaluate it in Python"):
            verb(tmp_path / "run")
    with pytest.raises(MismatchError, match="did not come from a file"):
        pipeline.infer_file(tmp_path / "run", run / "lorenz.nwb", output=pipeline.Output(tmp_path / "out.nwb"))


def test_data_that_were_changed_after_reading_are_not_evaluated_as_they_were_read(run, tmp_path):
    ds = read_nwb(run / "lorenz.nwb", READ).isel(channel=slice(0, 4))
    fit(ds, settings(), run_dir=tmp_path / "run", tracker=Silent())
    with pytest.raises(MismatchError, match="to, which were changed after"):
        pipeline.evaluate_run(tmp_path / "run")


def test_what_stands_in_the_way_of_a_result_is_said_before_the_first_training_step(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "fit", lambda *_, **__: pytest.fail("training began"))
    source = shutil.copyfile(run / "lorenz.nwb", tmp_path / "lorenz.nwb")
    write_nwb(stand_in(read_nwb(source, READ)), source, append=True)
    output = pipeline.Output(tmp_path / "out.nwb", append=True)
    with pytest.raises(FileError, match="already holds 'sbtt_channels'"):
        pipeline.fit_files([source], READ, settings(), run_dir=tmp_path / "run", output=output, log=silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lorenz.nwb"]


@pytest.mark.slow
def test_a_column_that_cannot_be_carried_is_named_before_the_fit_in_the_report_and_in_the_result(tmp_path):
    nwb, random = nwbfiles.new_file(), np.random.default_rng(0)
    nwbfiles.add_electrodes(nwb, 2)
    for _ in range(3):
        nwb.add_unit(spike_times=np.sort(random.uniform(0, 20, 400)), electrodes=[0])
    source = nwbfiles.write(nwb, tmp_path / "recording.nwb")
    with h5py.File(source, "a") as file:
        file["units/electrodes"][...] = 100
    said = []
    words = {"run_dir": tmp_path / "run", "output": pipeline.Output(tmp_path / "out.nwb"), "log": said.append}
    read = ReadConfig(series=("units",), cut=Chop(length=1.0, overlap=0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.fit_files([source], read, settings(), **words)
        pipeline.infer_file(tmp_path / "run", source, output=pipeline.Output(tmp_path / "again.nwb"), log=said.append)
    note = "without the column 'electrodes' of 'units': 'electrodes' of 'units', row 0: 100; 'electrodes' has 2 rows"
    places = [i for i, line in enumerate(said) if note in line]
    assert len(places) == 2
    (end,) = (i for i, line in enumerate(said) if line.startswith("training ended: all 2 epochs finished"))
    assert places[0] < end
    assert note.replace("'", "&#x27;") in (tmp_path / "run" / "report.html").read_text()
    for name in ("out.nwb", "again.nwb"):
        assert sum(note in text for text in json.loads(read_result(tmp_path / name).attrs["notes"])) == 1
