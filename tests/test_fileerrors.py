"""What a library raises for a file is an error of that file; what this program raises is its own mistake."""

import errno
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

import nwb_sbtt as sb
from nwb_sbtt.data.intervals import total_duration
from nwb_sbtt.errors import ConfigError, DataError, FileError
from nwb_sbtt.fileerrors import FileErrors, check_is_file, library_of, refusal, several
from tests.support.latents import make_latents


@pytest.fixture
def hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["numbers"] = np.arange(3)
        yield file


def _raised(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_innermost_library_is_found_below_python_and_numpy(hdf5):
    assert library_of(_raised(lambda: hdf5["nothing"])) == "h5py"
    assert library_of(_raised(lambda: np.asarray(hdf5["numbers"][[2, 1]]))) == "h5py"
    assert library_of(_raised(lambda: json.loads("{"))) == "json"
    assert library_of(_raised(lambda: json.loads("[" * 100_000))) == "json"
    assert library_of(_raised(lambda: yaml.safe_load("a: ["))) == "yaml"


def test_a_mistake_of_this_program_is_let_through():
    """Also where a library called back: the innermost frame of the two decides."""
    mistake = _raised(lambda: total_duration(None))
    assert library_of(mistake) is None
    with pytest.raises(type(mistake)), FileErrors("a.nwb"):
        raise mistake
    with pytest.raises(MemoryError), FileErrors("a.nwb"):
        raise MemoryError
    with pytest.raises(KeyboardInterrupt), FileErrors("a.nwb"):
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="kept"), FileErrors("a.nwb"):
        raise DataError("kept")


def test_the_error_names_the_file_the_reason_and_what_to_try(hdf5):
    with (
        pytest.raises(
            FileError, match=r"cannot read 'a.h5': it is damaged.*'nothing' doesn't exist.*; make it again$"
        ) as raised,
        FileErrors("a.h5", hint="make it again"),
    ):
        hdf5["nothing"]
    assert isinstance(raised.value.__cause__, KeyError)
    message = "cannot read the settings file 'c': it is damaged"
    with pytest.raises(ConfigError, match=message), FileErrors("c", what="the settings file", raising=ConfigError):
        b"\xff".decode()
    with pytest.raises(FileError, match="parts of it contain each other"), FileErrors("c"):
        json.loads("[" * 100_000)
    with pytest.raises(FileError, match="better known"), FileErrors("c", explain=lambda _: "better known"):
        json.loads("{")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.symlink_to(path), "symbolic links form a loop"),
        (os.mkfifo, "is a pipe, a socket or a device; expected a file"),
        (lambda path: path.mkdir(), "is a folder; expected a file"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(tmp_path, make, reason):
    make(path := tmp_path / "a.nwb")
    with pytest.raises(FileError, match=reason), FileErrors(path):
        check_is_file(path)


def test_an_array_that_declares_more_than_memory_holds_is_the_files(hdf5):
    huge = hdf5.create_dataset("huge", (10**13,), "f8", chunks=(1000,))
    with (
        pytest.raises(FileError, match="a part of it exceeds the memory of this machine"),
        FileErrors("a.h5"),
    ):
        huge[:]


def test_a_name_that_is_too_long_is_refused_in_words(tmp_path):
    path = tmp_path / ("a" * 300)
    with pytest.raises(FileError, match="longer than the system allows"), FileErrors(path):
        check_is_file(path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("no trial\nis left"), "no trial is left"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.nwb"), "'a.nwb': there is no such file"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("a library's own words"), "a library's own words"),
        (MemoryError("8 GB more."), "not enough memory: 8 GB more; read a shorter part, or use wider bins"),
    ],
)
def test_what_is_refused_is_said_in_one_line(error, said):
    assert refusal(error) == said


@pytest.mark.parametrize("given", [3, None, "", b"x", ["a"]])
def test_what_is_no_path_is_refused_in_words(given, tmp_path):
    latents = make_latents()
    for use in (
        sb.load,
        sb.read_nwb,
        sb.read_result,
        sb.inspect,
        lambda path: sb.to_mat(latents, path),
        lambda path: sb.write_nwb(latents, path),
        lambda path: sb.write_mask(path, [[1]], out="x.nwb"),
        lambda path: sb.write_mask(tmp_path / "a.nwb", [[1]], out=path),
        lambda path: sb.fit(sb.simulate.lorenz(), run_dir=path),
    ):
        with pytest.raises(FileError, match=r"is (3|None|''|a bytes|a list); expected text or a pathlib\.Path"):
            use(given)


def test_one_path_is_a_list_of_it():
    assert several("runs") == ["runs"] and several(Path("runs")) == [Path("runs")]
    assert several(("a", Path("b"))) == ["a", Path("b")]
    with pytest.raises(FileError, match="got no path"):
        several([])
    for wrong in (3, None, b"runs", ["a", 3]):
        with pytest.raises(FileError, match=r"the path is .*; expected text or a pathlib\.Path"):
            several(wrong)
