"""A run folder keeps what it says: whatever `load` reads is what was written, and one process writes at a time."""

import json
import os
import shutil
import socket

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nwb_sbtt.errors import FileError, SbttError, TrainingError
from nwb_sbtt.evaluate.calibration import CountCalibration
from nwb_sbtt.fitting.calibrations import write_calibrations
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.runfolder import CALIBRATION, CONFIG, ENVIRONMENT, LOCK, hold_run_folder, write_json
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.train import checkpoint
from nwb_sbtt.train.checkpoint import BEST, LAST, LOG, Progress
from nwb_sbtt.train.trackers import Silent
from tests.support.commands import tree
from tests.support.fits import Stopping, population, settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fit(population(), settings(), run_dir=tmp_path_factory.mktemp("finished") / "run", tracker=Silent())


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run folder."""
    return shutil.copytree(finished.run_dir, tmp_path / "run")


def _flip(path, place):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [BEST, CALIBRATION, CONFIG, SIGNATURE, ENVIRONMENT, LOG])
def test_a_changed_byte_is_never_taken_for_what_was_written(finished, run, name):
    """Either an error in words, or, where nothing that counts was changed, the same model."""
    size, refused = (run / name).stat().st_size, 0
    for place in np.random.default_rng(0).integers(0, size, 24):
        shutil.copy(finished.run_dir / name, run / name)
        _flip(run / name, int(place))
        try:
            loaded = load(run)
            record = loaded.record()
        except SbttError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        weights = finished.model.state_dict()
        assert all((weights[key] == value).all() for key, value in loaded.model.state_dict().items())
        assert loaded.calibrations == finished.calibrations
        seconds = {"device", "threads"}
        same = [
            {key: value for key, value in each["config"].items() if key not in seconds}
            for each in (record, finished.record())
        ]
        assert same[0] == same[1]
    assert refused > 12


def test_weights_that_were_exchanged_are_refused(run):
    """A file of weights that is whole, and of the right shapes."""
    with safe_open(run / BEST, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(run / BEST)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, run / BEST, metadata=header)
    with pytest.raises(FileError, match=r"best.safetensors' is damaged: the digest of its tensors"):
        load(run)


def test_files_of_two_fits_are_not_taken_for_one(finished, run, tmp_path):
    other = fit(population(), settings(seed=1), run_dir=tmp_path / "other", tracker=Silent())
    shutil.copy(other.run_dir / CALIBRATION, run / CALIBRATION)
    with pytest.raises(FileError, match="was computed from different weights"):
        load(run)
    shutil.copy(finished.run_dir / CALIBRATION, run / CALIBRATION)
    shutil.copy(other.run_dir / CONFIG, run / CONFIG)
    with pytest.raises(FileError, match=r"config.yaml' of the run folder was changed after the fit began"):
        load(run)


def test_settings_of_the_machine_may_be_changed_by_hand(finished, run):
    content = yaml.safe_load((run / CONFIG).read_text())
    (run / CONFIG).write_text("# on my laptop\n" + yaml.safe_dump({**content, "threads": 2, "device": "cpu"}))
    loaded = load(run)
    assert (loaded.config.threads, loaded.config.device) == (2, "cpu")
    (run / CONFIG).write_text(yaml.safe_dump({**content, "posterior_samples": 5}))
    with pytest.raises(FileError, match="was changed after the fit began"):
        load(run)


@pytest.mark.parametrize("content", [{"mean": (-1.0,)}, {"scale": "big"}, {"scale": float("inf")}])
def test_a_calibration_is_checked_as_it_is_when_it_is_made(finished, run, content):
    values = {"scale": 1.0, "jackknife": (1.0,), "predicted": (0.0,), "mean": (1.0,), **content}
    if values["scale"] == float("inf"):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_calibrations({"a": CountCalibration(**values)}, run, checkpoint=finished.checkpoint_sha256)
        return
    write_calibrations({"a": CountCalibration(**values)}, run, checkpoint=finished.checkpoint_sha256)
    with pytest.raises(FileError, match=r"calibration.json' of the run folder is damaged: Input should be"):
        load(run)


@pytest.mark.parametrize(
    "content", [{"scale": 1.0, "floor": 0.0}, {"sessions": {"a": {"kind": "counts", "scale": 1.0, "mean": [1.0]}}}]
)
def test_a_calibration_of_an_earlier_version_says_how_to_calibrate_anew(finished, run, content):
    write_json(run / CALIBRATION, {**content, "checkpoint_sha256": finished.checkpoint_sha256})
    with pytest.raises(FileError, match="earlier version; remove this file and run the same fit again"):
        load(run)


def test_the_digest_of_weights_is_that_of_tensors_alone(finished, tmp_path):
    tensors = finished.model.state_dict()
    digests = []
    for i, progress in enumerate([Progress(1, seconds=1.0), Progress(2, seconds=2.0, finished="yes")]):
        checkpoint.save(tmp_path / f"{i}", tensors, progress)
        digests.append(checkpoint.read_digest(tmp_path / f"{i}"))
    assert (tmp_path / "0").read_bytes() != (tmp_path / "1").read_bytes()
    assert digests[0] == digests[1] == finished.checkpoint_sha256
    name = next(name for name, tensor in tensors.items() if tensor.dim() > 1)
    others = [
        {**tensors, name: tensors[name] + 1e-6},
        {**tensors, name: tensors[name].T},
        {**tensors, name: tensors[name].double()},
        {("renamed" if key == name else key): value for key, value in tensors.items()},
    ]
    assert len({checkpoint.digest(other) for other in [tensors, *others]}) == 5


def test_a_fit_that_was_stopped_and_one_that_was_not_have_one_digest(finished, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(population(), settings(), run_dir=tmp_path / "run", tracker=Stopping(1))
    assert not (tmp_path / "run" / LOCK).exists()
    resumed = fit(population(), settings(), run_dir=tmp_path / "run", tracker=Silent())
    assert resumed.checkpoint_sha256 == finished.checkpoint_sha256


def test_a_damaged_state_is_no_failure_of_the_fit(run):
    """A failed fit may be replaced by one of other settings; one with a damaged file may be restored from a copy."""
    _flip(run / LAST, -10)
    with pytest.raises(FileError, match=r"last.safetensors' is damaged"):
        fit(population(), settings(), run_dir=run, tracker=Silent())
    before = tree(run)
    with pytest.raises(TrainingError, match="has a fit of different data or"):
        fit(population(), settings(seed=4), run_dir=run, tracker=Silent())
    assert tree(run) == before


def test_who_comes_second_gets_one_error_and_changes_nothing(finished, run):
    stolen = {"host": socket.gethostname(), "pid": os.getpid()}
    before = {name: (run / name).read_bytes() for name in tree(run)}
    descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT)
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, json.dumps({**stolen, "started": ""}).encode())
    try:
        with pytest.raises(FileError, match=rf"the run folder .* is in use by process {os.getpid()} on .*this machine"):
            fit(population(), settings(), run_dir=run, tracker=Silent())
        assert {name: (run / name).read_bytes() for name in tree(run) if name != LOCK} == before
    finally:
        os.close(descriptor)
    assert fit(population(), settings(), run_dir=run, tracker=Silent()).checkpoint_sha256 == finished.checkpoint_sha256
    assert tree(run) == sorted(before)


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(run):
    host, alive, dead = socket.gethostname(), os.getppid(), 2**22 + 1
    goes = [
        f".{LAST}.partial-{host}-{dead}-00000000",
        f".{BEST}.partial-another-{alive}-00000000",  # Only the holder of the lock writes it, and that is this process.
        f".metrics.json.partial-{host}-{dead}-00000000",
    ]
    stays = [
        f".metrics.json.partial-{host}-{alive}-00000000",
        f".metrics.json.partial-another-{alive}-00000000",
        ".notes.swp",
    ]
    for name in [*goes, *stays]:
        (run / name).write_text("half")
    before = set(tree(run))
    fit(population(), settings(), run_dir=run, tracker=Silent())
    assert set(tree(run)) == before - set(goes)


def test_a_folder_of_other_files_is_not_locked_nor_written(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(TrainingError, match="exists and is not a run folder"), hold_run_folder(tmp_path):
        raise AssertionError
    assert tree(tmp_path) == ["thesis.tex"]
    with pytest.raises(ValueError, match="mine"), hold_run_folder(tmp_path / "new"):
        raise ValueError("mine")
    assert tree(tmp_path) == ["thesis.tex"]


class _Removing(Silent):
    """Removes something in the first epoch, and counts the epochs."""

    def __init__(self, remove, *paths):
        self.remove, self.paths, self.epochs = remove, paths, 0

    def epoch(self, record):
        self.epochs += 1
        if self.epochs == 1:
            self.remove(*self.paths)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("name", ["", SIGNATURE, CONFIG])
def test_a_run_folder_that_was_removed_ends_training_and_not_what_comes_after_it(tmp_path, name, seeds):
    path = tmp_path / "run" / name
    tracker = _Removing(shutil.rmtree if not name else os.unlink, path)
    train = settings().train.model_copy(update={"epochs": 9, "checkpoint_every": 5})
    with pytest.raises(FileError, match="was removed while the fit was"):
        fit(population(), settings(train=train, seeds=seeds), run_dir=tmp_path / "run", tracker=tracker)
    assert tracker.epochs == 1
    assert name or not path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_run_folder_that_became_read_only_ends_training(tmp_path):
    tracker = _Removing(os.chmod, tmp_path / "run", 0o500)
    with pytest.raises(FileError, match="became read-only"):
        fit(population(), settings(), run_dir=tmp_path / "run", tracker=tracker)
    (tmp_path / "run").chmod(0o700)
