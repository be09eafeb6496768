import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from nwb_sbtt import pipeline
from nwb_sbtt.cli import main as cli
from nwb_sbtt.io.read import candidates
from nwb_sbtt.train import checkpoint
from tests.support import nwbfiles
from tests.support.commands import SMALL, TRIALS, call, recording, tree
from tests.support.processes import fill_the_disk, process
from tests.support.shortcuts import with_whole_baselines

SCRIPT = Path(sys.executable).with_name("nwb-sbtt")
SIGNALS = [*SMALL[4:], "--series", "acquisition/*"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("recording") / "lorenz.nwb")


@pytest.fixture(scope="module")
def fitted(source, tmp_path_factory):
    """A run folder, the result that was written with it, and what the installed program said meanwhile."""
    folder = tmp_path_factory.mktemp("fitted")
    words = ["fit", source, *SMALL, "--run-dir", folder / "run", "--out", folder / "out.nwb"]
    ended = subprocess.run([SCRIPT, *map(str, words)], check=True, capture_output=True, text=True)
    (folder / "said.txt").write_text(ended.stderr)
    return folder


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Run a command that must be refused: one message, exit code 2, nothing new; gives the message."""

    def refuse(*words):
        before = tree(tmp_path)
        assert call(monkeypatch, *words) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert len(captured.err.splitlines()) == 1, captured.err
        assert "Traceback" not in captured.err + captured.out
        assert tree(tmp_path) == before
        return captured.err

    return refuse


# Files


def _not_hdf5(path, source):
    path.write_bytes(b"these are not the bytes of an HDF5 file" * 100)


def _truncated(path, source):
    whole = source.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _nwb_1(path, source):
    with h5py.File(path, "w") as file:
        file["nwb_version"] = "NWB-1.0.6"


def _hdf5(path, source):
    with h5py.File(path, "w") as file:
        file["data"] = [1, 2, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, source: None, "there is no file"),
        (_not_hdf5, "is not an HDF5 file"),
        (lambda path, source: path.touch(), "(it is empty)"),
        (_truncated, "damaged, incomplete or still being written"),
        (_nwb_1, "has NWB version NWB-1.0.6; expected 2.0 or later"),
        (_hdf5, "is not an NWB file"),
        (lambda path, source: path.mkdir(), "is a folder, but not a Zarr store"),
    ],
)
@pytest.mark.parametrize("verb", ["inspect", "fit", "infer"])
def test_a_file_that_is_no_recording_is_refused(refused, source, fitted, tmp_path, make, message, verb):
    path = tmp_path / "bad.nwb"
    make(path, source)
    words = {
        "inspect": ["inspect", path],
        "fit": ["fit", path, *SMALL, "--run-dir", tmp_path / "run", "--out", tmp_path / "out.nwb"],
        "infer": ["infer", fitted / "run", path, "--out", tmp_path / "out.nwb"],
    }[verb]
    assert message in refused(*words)


def test_a_file_without_a_usable_series_is_refused(refused, tmp_path):
    nwb = nwbfiles.new_file()
    nwbfiles.add_trials(nwb, [0.0], [1.0])
    path = nwbfiles.write(nwb, tmp_path / "empty.nwb")
    message = refused("fit", path, "--run-dir", tmp_path / "run")
    assert "no usable Units, ElectricalSeries, RoiResponseSeries or MicroscopyResponseSeries" in message


def test_of_several_series_one_must_be_chosen(refused, tmp_path):
    nwb = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwb, 2)
    for name in ("probe1", "probe2"):
        nwbfiles.add_electrical(nwb, np.zeros((50, 2)), name=name, rate=100.0)
    path = nwbfiles.write(nwb, tmp_path / "two.nwb")
    message = refused("fit", path, "--run-dir", tmp_path / "run")
    assert "--series acquisition/probe1" in message
    assert "--series acquisition/probe2" in message


def test_data_that_are_all_masked_are_refused(refused, tmp_path):
    nwb = nwbfiles.new_file()
    nwbfiles.add_units(nwb, [np.arange(0.05, 10, 0.1)], obs_intervals=[[[0.0, 10.0]]])
    nwbfiles.add_invalid_times(nwb, [[0.0, 20.0]])
    path = nwbfiles.write(nwb, tmp_path / "masked.nwb")
    assert "nothing is observed" in refused("fit", path, "--run-dir", tmp_path / "run")


def test_negative_counts_are_refused(monkeypatch, capsys, tmp_path):
    nwb = nwbfiles.new_file()
    nwbfiles.add_series(nwb, np.random.default_rng(0).standard_normal((400, 3)), rate=100.0)
    path = nwbfiles.write(nwb, tmp_path / "signed.nwb")
    before = tree(tmp_path)
    code = call(monkeypatch, "fit", path, *SIGNALS, "--likelihood", "poisson", "--run-dir", tmp_path / "run")
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ")
    assert "values are negative, which counts cannot be" in error
    assert tree(tmp_path) == before


def test_too_few_trials_are_refused(refused, source, tmp_path):
    words = ["fit", source, *SMALL[4:], "--series", "units", "--window", "0.5:0.7", "--run-dir", tmp_path / "run"]
    assert "trial" in refused(*words)


# Settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--series", "unit"], "did you mean 'units'?"),
        (["--series", "nothing/*"], "no series matches 'nothing/*'; the file has"),
        (["--trials", "go_tim:0:1"], "has no column 'go_tim'"),
        (["--trials", "go_tim:0:1"], "did you mean 'go_time'?"),
        (["--trials", "split:0:1"], "expected times in seconds"),
        (["--trials", "start_time:0:1", "--trials-table", "epochz"], "no table of intervals 'epochz'; it has"),
        (["--trials", "start_time:0"], "expected EVENT:START:STOP"),
        (["--trials", "start_time:a:1"], "'read.cut.start' is 'a'; expected number (s)"),
        (["--trials", "start_time:1:0"], "stop (0.0) must be later than start (1.0)"),
        (["--trials", "start_time:0:inf"], "finite"),
        (["--trials-table", "trials"], "--trials-table needs --trials"),
        (["--window", "0"], "expected START:STOP"),
        (["--window", "nan:1"], "finite"),
        (["--window", "2:1"], "must be later"),
        (
            ["--trials", "start_time:0:1", "--window", "0:1"],
            "--trials cannot be combined with --window or --chop; use one of them",
        ),
        (
            ["--trials", "start_time:0:1", "--chop", "1"],
            "--trials cannot be combined with --window or --chop; use one of them",
        ),
        (["--append"], "name the file with --out"),
        (["--set", "electrical.feature=spikes"], "write read.electrical.feature=spikes"),
        (["--window", "1000:1001"], "none of the 6 windows is inside the"),
        (["--chop", "0.013"], "whole number"),
        (["--window", "0:1e11"], "of memory, but this machine has"),
        (["--chop", "x"], "'read.cut.length' is 'x'; expected number > 0 (s), or null"),
        (["--chop", ":"], "'read.cut.length' is ''"),
        (["--chop", "1:2"], "overlap (2.0) must be shorter than length (1.0)"),
        (["--chop", "1e300"], "longer than the session"),
        (["--bin-width", "nan"], "'read.bin_width' is nan; expected a finite number"),
        (["--bin-width", "inf"], "'read.bin_width' is inf; expected a finite number"),
        (["--bin-width", "-1"], "expected number > 0 (s), or null"),
        (["--bin-width", "0"], "expected number > 0 (s), or null"),
        (["--bin-width", "1e-12"], "of memory, but this machine has"),
        (["--bin-width", "wide"], "Invalid value for '--bin-width'"),
        (["--model", "rnn"], "there is no model 'rnn'; available: conv, lfads, ladder, sae"),
        (
            ["--likelihood", "cauchy"],
            "there is no likelihood 'cauchy'; available: poisson, zig, gaussian, gamma, gaussian_moments, edgeworth",
        ),
        (["--seed", "-1"], "expected integer ≥ 0"),
        (["--seed", "x"], "Invalid value for '--seed'"),
        (["--seeds", "0"], "'seeds' is 0"),
        (["--init", "missing"], "'missing' has no fit to start from; expected the run folder of a finished fit"),
        (
            ["--set", "init.freeze=none"],
            "init.freeze is only for a fit that starts from a finished fit",
        ),
        (["--config", "missing.yaml"], "cannot read the settings file 'missing.yaml'"),
        (["--offsets", "missing.npy"], "cannot read the sampling offsets 'missing.npy'"),
        (["--set", "train.epochs"], "should read name=value"),
        (["--set", "train.epoch=3"], "unknown setting 'train.epoch'; did you mean 'train.epochs'?"),
        (["--set", "train=3"], "'train' is 3; expected settings by name"),
        (
            ["--model", "conv", "--set", "model.name=lfads"],
            "--model is 'conv', but --set model.name is 'lfads'; use only one of them",
        ),
        (["--seed", "1", "--set", "seed=2"], "--seed is 1, but --set seed is 2"),
        (
            ["--bin-width", "0.1", "--set", "read.bin_width=0.2"],
            "--bin-width is 0.1, but --set read.bin_width is 0.2",
        ),
        (
            ["--trials", "go:0:1", "--set", "read.cut.event=stop"],
            "--trials, --window or --chop is 'go', but --set read.cut.event is 'stop'",
        ),
        (["--set", "train.epochs=many"], "'train.epochs' is 'many'; expected integer ≥ 1, or null"),
        (["--set", "read.rois.cell=all"], "unknown setting 'read.rois.cell'; did you mean 'read.rois.cells'?"),
        (["--set", "read.bin_width=wide"], "setting 'read.bin_width' is 'wide'"),
        (["--set", "read=3"], "'read=3' is a group of settings; write read.NAME=VALUE"),
        (["--set", "read.rois=3"], "setting 'read.rois' is 3"),
        (["--set", "read.obs_intervals=["], "not a value that YAML can read"),
        (["--set", "read.where={quality: [good]}"], "no column 'quality'"),
        (["--bin-widht", "0.1"], "No such option"),
        (["--out", "out.txt"], "end the name in '.nwb'"),
        (["--out", "out.nwb", "--name", "a/b"], "results cannot be named 'a/b'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(refused, monkeypatch, source, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("fit", source, "--series", "units", "--run-dir", tmp_path / "run", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument"),
        (["recording.nwb"], "Missing option '--run-dir'"),
    ],
)
def test_a_word_that_is_missing_is_named_with_where_to_look(refused, words, message):
    error = refused("fit", *words)
    assert message in error
    assert "see `nwb-sbtt fit --help`" in error


def test_an_unknown_verb_is_refused_with_the_nearest(refused):
    assert "Did you mean 'inspect'?" in refused("inspekt", "a.nwb")
    assert "No such command 'prepare'. Did you mean 'nlb prepare'?" in refused("prepare", "mc_maze")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n", "\xff"])
def test_a_settings_file_that_is_none_is_refused(refused, source, tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_bytes(text.encode("latin-1"))
    assert "settings.yaml" in refused("fit", source, *SMALL, "--config", path, "--run-dir", tmp_path / "run")


# Outputs and run folders


def test_an_output_that_exists_is_refused_before_any_work(refused, monkeypatch, source, tmp_path):
    (tmp_path / "out.nwb").write_text("mine")
    monkeypatch.setattr(pipeline, "read_nwb", None)
    message = refused("fit", source, *SMALL, "--run-dir", tmp_path / "run", "--out", tmp_path / "out.nwb")
    assert "pass --overwrite to replace it" in message
    assert (tmp_path / "out.nwb").read_text() == "mine"


def test_an_output_that_exists_is_replaced_when_asked_to(monkeypatch, source, fitted, tmp_path):
    (tmp_path / "out.nwb").write_text("mine")
    assert call(monkeypatch, "infer", fitted / "run", source, "--out", tmp_path / "out.nwb", "--overwrite") == 0
    with h5py.File(tmp_path / "out.nwb") as file:
        assert "processing/ecephys/sbtt_rates" in file
    assert tree(tmp_path) == ["out.nwb"]


def test_the_folder_of_a_result_is_created(monkeypatch, source, fitted, tmp_path):
    out, log = tmp_path / "new" / "folder" / "out.nwb", tmp_path / "logs" / "all.txt"
    assert call(monkeypatch, "infer", fitted / "run", source, "--out", out, "--log", log) == 0
    assert call(monkeypatch, "compare", fitted / "run", "--csv", tmp_path / "tables" / "all.csv") == 0
    words = ["--channels", "3", "--conditions", "2", "--trials-per-condition", "2"]
    assert call(monkeypatch, "simulate", "lorenz", "--out", tmp_path / "simulated" / "a.nwb", *words) == 0
    files = ["logs/all.txt", "new/folder/out.nwb", "simulated/a.nwb", "tables/all.csv"]
    assert [name for name in tree(tmp_path) if (tmp_path / name).is_file()] == files


def test_the_recording_is_never_the_output(refused, source, tmp_path):
    before = source.read_bytes()
    words = ["fit", source, *SMALL, "--run-dir", tmp_path / "run", "--out", source, "--overwrite"]
    assert "is the recording itself" in refused(*words)
    assert source.read_bytes() == before


def test_a_run_folder_of_other_settings_is_refused(monkeypatch, capsys, source, fitted):
    before = {path: path.read_bytes() for path in (fitted / "run").iterdir()}
    assert call(monkeypatch, "fit", source, *SMALL, "--seed", "1", "--run-dir", fitted / "run") == 2
    assert "has a fit of different data or settings: seed is 1 instead of 0" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (fitted / "run").iterdir()} == before


def test_a_folder_of_other_things_is_no_run_folder(monkeypatch, capsys, source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert call(monkeypatch, "fit", source, *SMALL, "--run-dir", tmp_path) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert tree(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("verb", [["evaluate"], ["report"], ["infer", "a.nwb", "--out", "b.nwb"]])
def test_a_folder_without_a_fit_is_refused(refused, tmp_path, verb):
    assert "has no fitted" in refused(verb[0], tmp_path, *verb[1:])


@pytest.mark.slow
def test_a_fit_starts_from_another_with_its_model_and_is_not_silent_about_channels(
    refused, monkeypatch, capsys, source, tmp_path
):
    first = tmp_path / "first" / "run"
    assert call(monkeypatch, "fit", source, *SMALL, "--run-dir", first) == 0
    capsys.readouterr()
    other = recording(tmp_path / "other.nwb", seed=1)
    few = [*TRIALS, "--set", "train.epochs=1", "--set", "posterior_samples=2"]
    words = ["fit", other, *few, "--init", first, "--run-dir", tmp_path / "run"]
    assert "if they are the same channels" in refused(*words)
    assert "model.encoder is 64 instead of 4" in refused(*words, "--model", "lfads")
    assert call(monkeypatch, *words, "--set", "init.channels=new", "--seeds", "2", "--json") == 0
    captured = capsys.readouterr()
    assert "starts from 'run', frozen: dynamics; other: new channels" in captured.err
    assert json.loads(captured.out)["other"]["scores"]
    assert sorted(path.name for path in (tmp_path / "run").glob("member-*")) == ["member-0", "member-1"]
    again = ["fit", other, "--config", tmp_path / "run" / "config.yaml", "--run-dir", tmp_path / "run", "--json"]
    assert call(monkeypatch, *again) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(captured.out)


def test_infer_takes_another_cut(refused, monkeypatch, source, fitted, tmp_path):
    words = ["infer", fitted / "run", source, "--out", tmp_path / "out.nwb"]
    assert "--trials cannot be combined with --window or --chop; use one of them" in refused(
        *words, "--trials", "go_time:0:1", "--chop", "1"
    )
    assert "has no column 'go_tim'" in refused(*words, "--trials", "go_tim:0:1")
    assert call(monkeypatch, *words, "--window", "2:6", "--chop", "0.5:0.1") == 0
    with h5py.File(tmp_path / "out.nwb") as file:
        assert len(file["processing/ecephys/sbtt_rates/data"]) == 200


@pytest.mark.parametrize("command", [["fit", "--run-dir"], ["fit-all", "--out"]])
def test_a_second_setting_after_one_set_is_told_from_a_file(refused, source, tmp_path, command):
    message = refused(*command, tmp_path / "new", source, "--set", "train.epochs=3", "train.batch_size=8")
    assert "'train.batch_size=8' is a setting, not a file" in message
    assert not (tmp_path / "new").exists()


def test_words_that_fit_no_session_or_file_of_the_run_are_refused(refused, source, fitted, tmp_path):
    run = fitted / "run"
    assert "there is no file" in refused("evaluate", run, "--file", tmp_path / "gone.nwb")
    assert "1 sessions" in refused("report", run, "--file", source, "--file", source)
    message = refused("infer", run, source, "--session", "monday", "--out", tmp_path / "out.nwb")
    assert "was not fitted to session 'monday', but to 'lorenz'" in message


def test_a_run_folder_that_was_damaged_is_refused(refused, fitted, tmp_path):
    for path in (fitted / "run").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "signature.json").write_text('{"format": 1, "sess')
    assert "is damaged" in refused("evaluate", tmp_path)
    (tmp_path / "signature.json").unlink()
    assert "cannot read" in refused("evaluate", tmp_path)


def test_a_model_of_other_channels_is_refused(monkeypatch, capsys, fitted, tmp_path):
    nwb = nwbfiles.new_file()
    nwbfiles.add_units(nwb, [np.arange(0.05, 10, 0.1 + 0.01 * i) for i in range(7)])
    nwbfiles.add_trials(nwb, np.arange(0.0, 8.0), np.arange(1.0, 9.0))
    path = nwbfiles.write(nwb, tmp_path / "other.nwb")
    assert call(monkeypatch, "infer", fitted / "run", path, "--out", tmp_path / "out.nwb") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the data have 7 channels, but the model was fitted to 6")
    assert "missing in the data: units:10, " in error
    assert "not in the model: units:0, " in error
    assert tree(tmp_path) == ["other.nwb"]


def full_from_the_start():
    fill_the_disk(100)


def full_at_a_training_state():
    write = checkpoint.save

    def save(path, tensors, progress):
        fill_the_disk(2000)
        write(path, tensors, progress)

    checkpoint.save = save


def full_at_the_result():
    write = pipeline.write_nwb

    def save(*args, **options):
        fill_the_disk(50_000)
        return write(*args, **options)

    pipeline.write_nwb = save


@pytest.mark.parametrize(
    ("before", "advice"),
    [
        (full_from_the_start, ""),
        (full_at_a_training_state, "training ends after epoch 1. Free disk space"),
        (full_at_the_result, ""),
    ],
)
@pytest.mark.slow
def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(monkeypatch, source, tmp_path, before, advice):
    run, out = tmp_path / "run", tmp_path / "out.nwb"
    words = ["fit", source, *SMALL, "--run-dir", run, "--out", out]
    ended = process(*words, before=before)
    assert ended.code == 2, ended
    last = ended.err.splitlines()[-1]
    assert last.startswith("error: cannot write ")
    assert "File too large" in last and advice in last
    assert ended.err.count("error: ") == 1
    assert not [name for name in tree(tmp_path) if Path(name).name.startswith(".")]
    assert not out.exists()
    assert call(monkeypatch, *words) == 0
    assert out.exists()


# What is printed


def test_inspect_prints_json_alone(monkeypatch, capsys, source):
    assert call(monkeypatch, "inspect", source, "--json") == 0
    captured = capsys.readouterr()
    listed = json.loads(captured.out)
    assert captured.err == ""
    assert [each["path"] for each in listed["series"] if each["default"]] == ["units"]
    assert [each["path"] for each in listed["tables"]] == ["intervals/trials"]
    assert call(monkeypatch, "inspect", source) == 0
    text = capsys.readouterr().out
    assert all(each["path"] in text for each in [*listed["series"], *listed["tables"]])


def test_a_fit_that_ended_prints_its_metrics_again_as_json_alone(monkeypatch, capsys, source, fitted):
    with with_whole_baselines():
        assert call(monkeypatch, "fit", source, *SMALL, "--run-dir", fitted / "run", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((fitted / "run" / "metrics.json").read_text())
    assert "6 units" in captured.err


def test_fit_and_evaluate_print_the_same_metrics_as_json_alone(monkeypatch, capsys, source, tmp_path):
    assert call(monkeypatch, "fit", source, *SMALL, "--run-dir", tmp_path / "run", "--json") == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert call(monkeypatch, "evaluate", tmp_path / "run", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == metrics
    assert captured.err == ""


def test_a_fit_tells_on_standard_error_of_its_progress_alone(monkeypatch, capfd, source, fitted):
    said = (fitted / "said.txt").read_text()
    assert all(line.startswith("epoch ") for line in said.splitlines()), said
    for words in (["inspect", source], ["evaluate", fitted / "run"], ["report", fitted / "run"]):
        assert call(monkeypatch, *words) == 0
        assert capfd.readouterr().err == ""


def test_simulate_writes_what_can_be_inspected(monkeypatch, capsys, tmp_path):
    words = ["--channels", "6", "--conditions", "2", "--trials-per-condition", "4", "--observed-per-bin", "2"]
    out = tmp_path / "lorenz.nwb"
    assert call(monkeypatch, "simulate", "lorenz", "--out", out, *words) == 0
    assert call(monkeypatch, "inspect", out) == 0
    assert "units" in capsys.readouterr().out
    assert call(monkeypatch, "simulate", "lorenz", "--out", out, *words) == 2
    assert call(monkeypatch, "simulate", "rössler", "--out", tmp_path / "other.nwb") == 2
    assert tree(tmp_path) == ["lorenz.nwb"]


def test_an_interrupt_is_a_line_and_exit_code_130(monkeypatch, capsys):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(candidates, "inspect", interrupted)
    assert call(monkeypatch, "inspect", "a.nwb") == 130
    error = capsys.readouterr().err
    assert error.startswith("interrupted; ") and len(error.splitlines()) == 1


def test_a_machine_without_enough_memory_is_an_error_of_one_line(refused, monkeypatch):
    monkeypatch.setattr(candidates, "inspect", lambda path: np.empty(2**62, np.uint8))
    assert "not enough memory" in refused("inspect", "a.nwb")


# Start-up


def test_the_version_is_printed(monkeypatch, capsys):
    from nwb_sbtt import __version__

    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"nwb-sbtt {__version__}\n"


def test_no_word_at_all_prints_the_help(monkeypatch, capsys):
    assert call(monkeypatch) == 0
    text = capsys.readouterr().out
    assert all(
        (command.name or command.callback.__name__.replace("_", "-")) in text for command in cli.app.registered_commands
    )


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"]])
def test_help_loads_little_and_so_answers_at_once(words):
    """What it takes to answer is what it loads, whatever the machine."""
    code = (
        f"import sys; sys.argv = ['nwb-sbtt', *{words}]; from nwb_sbtt.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = done.stderr.split()
    others = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    pydantic = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
    typer = {"annotated_doc", "click", "markdown_it", "mdurl", "pygments", "rich", "shellingham", "typer"}
    start = {"_distutils_hack", "sitecustomize", "usercustomize"}
    assert "Usage" in done.stdout and "nwb_sbtt" in others
    assert {name for name in others if not name.startswith(("__", "_sysconfigdata"))} <= {
        "nwb_sbtt",
        *pydantic,
        *typer,
        *start,
    }
    assert len(loaded) < 350


def test_starting_the_command_line_loads_nothing_heavy():
    heavy = ["torch", "pynwb", "h5py", "hdmf", "matplotlib", "xarray", "sklearn", "scipy", "numpy"]
    code = f"import sys, nwb_sbtt.cli.main; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"[]\n"


def test_a_look_at_a_file_does_not_wait_for_what_only_fits_need(source):
    code = (
        "import sys; from nwb_sbtt.cli.main import main; sys.argv = ['nwb-sbtt', 'inspect', sys.argv[1]]\n"
        "try: main()\n"
        "finally: print([name for name in ('torch', 'sklearn', 'xarray') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n" and "units" in done.stdout


def test_a_demo_whose_folder_cannot_be_made_is_one_line(refused, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot make the folder" in refused("demo", tmp_path / "file" / "demo")
