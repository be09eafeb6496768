"""A write that is killed, or runs out of space, leaves what was there, and nothing half done under its name."""

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nwb_sbtt.atomic import reserve_space
from nwb_sbtt.errors import FileError
from nwb_sbtt.io.write import packing, writer
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.writer import write_nwb
from tests.support import nwbfiles
from tests.support.latents import assert_same, digest, latents_of, write_exactly
from tests.support.processes import fill_the_disk, run

UNITS = [("units", "units", [2, 0, 1])]


def _recording(folder):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [0.3], [0.4, 5.0]], ids=[11, 12, 7])
    nwbfiles.add_series(nwbfile, np.random.default_rng(0).standard_normal((200_000, 4)), rate=1000.0)
    return nwbfiles.write(nwbfile, folder / "recording.nwb")


def _write(words):
    """Write results of some size; an alarm ends the process, as a kill would, so many seconds after it starts writing."""
    source, target, mode, after = words
    starts = [i * 100.0 for i in range(20)]
    latents = latents_of(Path(source), UNITS, starts=starts, n_bins=4000)
    signal.setitimer(signal.ITIMER_REAL, float(after))
    write_nwb(latents, target, append=mode == "append")


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.05, 0.3, 0.6])
def test_a_killed_write_leaves_no_file_of_that_name(tmp_path, after):
    source, target = _recording(tmp_path), tmp_path / "r.nwb"
    before = digest(source)
    assert run(_write, source, target, "derive", after).code in (0, -signal.SIGALRM)
    assert digest(source) == before
    if target.exists():
        assert read_result(target).sizes["trial"] == 20
    latents = latents_of(source, UNITS)
    assert_same(latents, read_result(write_exactly(latents, target, overwrite=True)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.nwb", "recording.nwb"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.1, 0.4, 0.8])
def test_a_killed_append_to_the_recording_leaves_the_recording(tmp_path, after):
    source = _recording(tmp_path)
    before = digest(source)
    assert run(_write, source, source, "append", after).code in (0, -signal.SIGALRM)
    if digest(source) != before:
        assert read_result(source).sizes["trial"] == 20
    write_nwb(latents_of(source, UNITS), source, append=True, name="again")
    assert [path.name for path in tmp_path.iterdir()] == ["recording.nwb"]


@pytest.mark.parametrize("mode", ["derive", "append"])
@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, mode):
    source, target = _recording(tmp_path), tmp_path / "r.nwb"
    limit = 400_000 if mode == "derive" else source.stat().st_size + 200_000

    ended = run(_write, source, target, mode, 0, before=partial(fill_the_disk, limit))
    assert ended.code == 1
    assert ended.err.strip().splitlines()[-1].startswith("nwb_sbtt.errors.FileError: cannot write")
    assert "File too large" in ended.err.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["recording.nwb"]


@pytest.mark.parametrize("append", [False, True])
def test_the_space_that_is_looked_for_is_enough_and_is_given_back(tmp_path, append, monkeypatch):
    reserved = []
    for module in (packing, writer):
        monkeypatch.setattr(
            module,
            "reserve_space",
            lambda path, n_bytes: reserved.append((path, n_bytes)) or reserve_space(path, n_bytes),
        )
    source = _recording(tmp_path)
    latents = latents_of(source, UNITS, starts=np.arange(30) * 10.0, n_bins=900)
    path = write_exactly(latents, tmp_path / "r.nwb", append=append)
    added = path.stat().st_size - (source.stat().st_size if append else 0)
    assert 0.5 * latents.nbytes < added < reserved[0][1] - 2**20
    assert reserved[0][1] < 2 * latents.nbytes + 2**23


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    source = _recording(tmp_path)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(FileError, match="Permission denied"):
        write_nwb(latents_of(source, UNITS), locked / "r.nwb")
