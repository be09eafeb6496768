"""One process has a lock at a time, it is known who, and its death ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from nwb_sbtt import locking
from nwb_sbtt.errors import FileError
from nwb_sbtt.locking import Holder, hold

WHAT = "the run folder 'x'"
HOLDING = """
import sys, time
from pathlib import Path
from nwb_sbtt.locking import hold
with hold(Path(sys.argv[1]), what="it"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(locking, "BEAT", 0.05)
    monkeypatch.setattr(locking, "PATIENCE", 0.2)


@pytest.fixture(params=["the system's lock", "no lock but the file"])
def path(request, monkeypatch, tmp_path):
    """A lock on a disk that has the system's lock, and on one that has none."""
    if request.param != "the system's lock":
        monkeypatch.setattr(locking, "_flock", lambda descriptor: None)
    return tmp_path / "lock"


@pytest.fixture
def other(path):
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_comes_second_is_told_who_holds_it(path, other):
    with (
        pytest.raises(FileError, match=rf"^{WHAT} is in use by process {other.pid} on .* \(this machine\); wait until"),
        hold(path, what=WHAT),
    ):
        raise AssertionError
    assert json.loads(path.read_text())["pid"] == other.pid


def test_death_ends_it(path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    with hold(path, what=WHAT):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_the_same_thread_may_take_it_again_and_another_may_not(path):
    refused = []

    def take():
        try:
            with hold(path, what=WHAT):
                pass
        except FileError as error:
            refused.append(str(error))

    with hold(path, what=WHAT):
        with hold(path, what=WHAT):
            pass
        assert path.exists()
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in refused[0]
    take()
    assert len(refused) == 1


def test_an_error_in_the_block_ends_it_and_is_the_error(path):
    with pytest.raises(ValueError, match="mine"), hold(path, what=WHAT):
        path.parent.joinpath("lock").unlink()
        raise ValueError("mine")
    with hold(path, what=WHAT):
        pass


def _left_by(path, holder):
    path.write_text(json.dumps({"host": holder.host, "pid": holder.pid, "started": holder.started}))


def test_a_number_that_another_process_was_given_is_not_its_holder(path):
    _left_by(path, Holder(socket.gethostname(), os.getppid(), "another boot 1"))
    with hold(path, what=WHAT):
        pass


@pytest.mark.parametrize("alive", [True, False])
def test_a_holder_on_another_machine_is_alive_as_long_as_it_touches_the_file(path, alive):
    _left_by(path, Holder("another", 1))
    done = threading.Event()

    def touch():
        while alive and not done.wait(0.02):
            os.utime(path)

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        if alive:
            with pytest.raises(FileError, match="in use by process 1 on another; wait"), hold(path, what=WHAT):
                raise AssertionError
        else:
            with hold(path, what=WHAT):
                pass
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b'{"host": "x"}', b"null"])
def test_what_is_no_record_of_a_holder_locks_nobody_out(path, content):
    path.write_bytes(content)
    with hold(path, what=WHAT):
        pass


def test_a_folder_that_cannot_be_written_is_named(path):
    message = r"cannot write .*gone/lock', the lock of the run folder 'x': No such file"
    with pytest.raises(FileError, match=message), hold(path.parent / "gone" / "lock", what=WHAT):
        raise AssertionError
