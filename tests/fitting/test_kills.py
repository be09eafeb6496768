"""A fit that is killed and started again ends in the same numbers, and leaves nothing behind."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import xarray as xr
from safetensors.numpy import load_file

from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.train import loop
from nwb_sbtt.train.checkpoint import LAST
from tests.support.commands import SMALL, recording, tree
from tests.support.processes import process

WORDS = [*SMALL, "--set", "train.epochs=4"]
KEPT = [
    *("best.safetensors", "calibration.json", "config.yaml", "environment.json", "last.safetensors", "log.jsonl"),
    *("metrics.json", "report.html", "signature.json"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("recording") / "lorenz.nwb")


def fit(source, folder, *words, before=None):
    words = ["fit", source, *WORDS, *words, "--run-dir", folder / "run", "--out", folder / "out.nwb"]
    return process(*words, before=before)


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert fit(source, folder).code == 0
    return folder


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_rename(name, *, time):
    """Kill the process when for the `time`-th time a file is about to be renamed to `name`: all of it is written by then."""
    rename, seen = Path.replace, []

    def replace(path, target):
        seen.append(Path(target).name)
        if seen.count(name) == time:
            kill()
        return rename(path, target)

    Path.replace = replace


def in_an_epoch():
    """In the third epoch, after its first step."""
    step = loop._Run.step

    def killing(self, batch, generator, number, *, total_steps):
        terms = step(self, batch, generator, number, total_steps=total_steps)
        if self.progress.epoch == 2:
            kill()
        return terms

    loop._Run.step = killing


def while_a_state_is_written():
    kill_at_rename("last.safetensors", time=2)


def half_way_through_a_state():
    """With half of the bytes on disk."""
    from nwb_sbtt.train import checkpoint

    serialise, seen = checkpoint.serialise, []

    class Half(bytes):
        pass

    def killing(tensors, metadata):
        whole = serialise(tensors, metadata=metadata)
        seen.append(whole)
        return Half(whole) if len(seen) == 4 else whole

    opened = Path.open

    def opening(path, mode="r", *args, **options):
        file = opened(path, mode, *args, **options)
        if "safetensors" in path.name and mode == "wb":
            write = file.write
            return _Writer(file, lambda data: _half(file, data) if isinstance(data, Half) else write(data))
        return file

    checkpoint.serialise, Path.open = killing, opening


class _Writer:
    """A file of which `write` is another."""

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


def _half(file, data):
    file.write(data[: len(data) // 2])
    file.flush()
    kill()


def between_settings_and_signature():
    kill_at_rename("signature.json", time=1)


def while_the_result_is_written():
    kill_at_rename("out.nwb", time=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "there"),
    [
        (between_settings_and_signature, {"config.yaml"}),
        (in_an_epoch, {"last.safetensors"}),
        (while_a_state_is_written, {"last.safetensors"}),
        (half_way_through_a_state, {"last.safetensors"}),
        (while_the_result_is_written, {"metrics.json", "report.html"}),
    ],
)
def test_a_killed_fit_goes_on_to_the_same_numbers(source, undisturbed, tmp_path, before, there):
    assert fit(source, tmp_path, before=before).code == -signal.SIGKILL
    assert there <= set(tree(tmp_path / "run"))
    assert "out.nwb" not in tree(tmp_path)
    ended = fit(source, tmp_path)
    assert ended.code == 0, ended.err
    assert tree(tmp_path) == ["out.nwb", "run", *(f"run/{name}" for name in KEPT)]
    for name in ("best.safetensors", "last.safetensors"):
        one, other = (load_file(folder / "run" / name) for folder in (undisturbed, tmp_path))
        assert one.keys() == other.keys()
        assert all((one[key] == other[key]).all() for key in one), name
    one, other = (read_result(folder / "out.nwb") for folder in (undisturbed, tmp_path))
    xr.testing.assert_equal(one, other)


def written(path):
    """What tells one writing of a file from another; not the whole of ``stat``, which holds when it was last read."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def between_the_members():
    kill_at_rename("signature.json", time=3)


@pytest.mark.slow
def test_a_killed_ensemble_goes_on_to_the_same_numbers(source, undisturbed, tmp_path):
    """Killed when the second member's folder is made: the first, which is the single fit, is not trained again."""
    few = ["--seeds", "2"]
    assert fit(source, tmp_path, *few, before=between_the_members).code == -signal.SIGKILL
    assert "member-1" in tree(tmp_path / "run")
    assert "member-1/signature.json" not in tree(tmp_path / "run")
    first = written(tmp_path / "run" / "member-0" / LAST)
    assert fit(source, tmp_path, *few).code == 0
    assert written(tmp_path / "run" / "member-0" / LAST) == first
    kept = [name for name in KEPT if name not in ("calibration.json", "metrics.json", "report.html")]
    assert tree(tmp_path / "run" / "member-1") == kept
    one, other = (load_file(run / LAST) for run in (undisturbed / "run", tmp_path / "run" / "member-0"))
    assert all((one[key] == other[key]).all() for key in one)


@pytest.mark.slow
def test_a_kill_leaves_the_result_that_was_there(source, undisturbed, tmp_path):
    shutil.copytree(undisturbed / "run", tmp_path / "run")
    (tmp_path / "out.nwb").write_text("the result of another day")
    words = ["infer", tmp_path / "run", source, "--out", tmp_path / "out.nwb", "--overwrite"]
    assert process(*words, before=while_the_result_is_written).code == -signal.SIGKILL
    assert (tmp_path / "out.nwb").read_text() == "the result of another day"
    assert process(*words).code == 0
    assert [name for name in tree(tmp_path) if not name.startswith("run")] == ["out.nwb"]
    xr.testing.assert_equal(read_result(tmp_path / "out.nwb"), read_result(undisturbed / "out.nwb"))
