"""What the system refuses is one line, and nothing is left behind."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import SMALL, call, recording, tree


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("source") / "a.nwb")


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    def refuse(*words):
        before = tree(tmp_path)
        assert call(monkeypatch, *words) == 2
        printed = capsys.readouterr().err
        assert [line.startswith("error: ") for line in printed.splitlines()] == [True], printed
        assert tree(tmp_path) == before
        return printed

    return refuse


def _circle(path):
    path.symlink_to(path)
    return path


def _pipe(path):
    os.mkfifo(path)
    return path


def _long(path):
    return path.with_name("a" * 300 + path.suffix)


@pytest.mark.parametrize(
    ("make", "message"),
    [(_circle, "form a loop"), (_pipe, "is a pipe"), (_long, "longer than the system allows")],
)
def test_odd_inputs_are_refused_before_they_are_opened(refused, source, tmp_path, make, message):
    path = make(tmp_path / "odd.nwb")
    assert message in refused("inspect", path)
    assert message in refused("fit", path, "--run-dir", tmp_path / "run", *SMALL)
    assert message in refused("fit", source, "--run-dir", tmp_path / "run", "--config", path)


@pytest.mark.parametrize("name", ["config.yaml", "signature.json"])
def test_a_pipe_in_a_run_folder_is_refused(refused, source, tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "run" / "best.safetensors").write_text("")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    assert "is a pipe" in refused("infer", tmp_path / "run", source, "--out", tmp_path / "out.nwb")


def _nearly_too_long(path):
    return path.with_name("b" * 230 + path.suffix)


@pytest.mark.parametrize(
    ("make", "message"),
    [(_circle, "form a loop"), (_long, "longer than the system"), (_nearly_too_long, "too long, by")],
)
def test_odd_targets_are_refused_before_the_fit(refused, source, tmp_path, make, message):
    words = ("fit", source, "--run-dir", tmp_path / "run", *SMALL)
    assert message in refused(*words, "--out", make(tmp_path / "out.nwb"))


@pytest.mark.parametrize(("make", "message"), [(_circle, "run"), (_long, "longer than the system"), (_pipe, "run")])
def test_odd_run_folders_are_refused(refused, source, tmp_path, make, message):
    run = make(tmp_path / "run")
    assert message in refused("fit", source, "--run-dir", run, *SMALL)
    assert message in refused("infer", run, source, "--out", tmp_path / "out.nwb")


def test_a_file_system_that_takes_nothing_is_named(refused, monkeypatch, source, tmp_path):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "Read-only file system" in refused("fit", source, "--run-dir", tmp_path / "run", *SMALL)


def test_offsets_that_are_no_array_are_refused(refused, source, tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    for path in (tmp_path / "two.npz", tmp_path / "cut.npy", _pipe(tmp_path / "pipe.npy")):
        words = ("fit", source, "--run-dir", tmp_path / "run", *SMALL, "--offsets", path)
        assert "offsets" in refused(*words) or "pipe" in refused(*words)
