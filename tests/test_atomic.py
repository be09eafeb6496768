"""A file written atomically is the old one or the new one, whatever happens."""

import os
import socket
import subprocess
import sys

import pytest

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.errors import FileError


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    names = {
        "dead": f".r.nwb.partial-{host}-{dead.pid}-00000000.nwb",
        "alive": f".r.nwb.partial-{host}-{os.getppid()}-00000000.nwb",
        "elsewhere": f".r.nwb.partial-another-host-{dead.pid}-00000000.nwb",
        "other target": f".q.nwb.partial-{host}-{dead.pid}-00000000.nwb",
    }
    for name in names.values():
        (tmp_path / name).write_text("half")
    with atomic_write(tmp_path / "r.nwb", suffix=".nwb") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "r.nwb").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"r.nwb", *names.values()} - {names["dead"]}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("wrong")])
def test_whatever_goes_wrong_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "r.nwb"
    target.write_text("before")
    with (
        pytest.raises(FileError if isinstance(error, OSError) else type(error)) as raised,
        atomic_write(target, suffix=".nwb") as temporary,
    ):
        temporary.write_text("half")
        raise error
    if isinstance(error, OSError):
        assert str(raised.value).endswith("No space left on device; nothing was left behind")
    assert target.read_text() == "before"
    target.chmod(0o640)
    with atomic_write(target, suffix=".nwb") as temporary:
        temporary.write_text("after")
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("after", 0o640)
    assert [path.name for path in tmp_path.iterdir()] == ["r.nwb"]


def test_a_folder_is_replaced_by_a_folder(tmp_path):
    target = tmp_path / "r.zarr"
    for text in ("first", "second"):
        with atomic_write(target, suffix=".zarr") as temporary:
            temporary.mkdir()
            (temporary / "part").write_text(text)
    assert (target / "part").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]
