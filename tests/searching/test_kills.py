"""Searches whose driver or workers are killed or asked to end, at any time: the same command goes on to the same numbers."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from nwb_sbtt.config import FitConfig
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.report.search import NAMES
from nwb_sbtt.searching.record import RECORD
from nwb_sbtt.searching.search import PAGE
from nwb_sbtt.train.trackers import Silent
from tests.support.commands import SMALL, recording
from tests.test_pipeline import READ

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1500)]  # on a busy machine Ray starts slowly
EPOCHS, PIECES = 160, 4
WORDS = [
    *SMALL,
    *(
        "--set",
        f"train.epochs={EPOCHS}",
        "--set",
        f"train.patience={EPOCHS}",
        "--set",
        f"search.pieces={PIECES}",
        "--n-trials",
        "2",
        "--at-once",
        "2",
    ),
    *("--strategy", "random", "--space", "train.learning_rate=log(1e-3, 1e-2)"),
]


@contextmanager
def searching(folder, *words):
    """A search in a process of its own."""
    call = [Path(sys.executable).with_name("nwb-sbtt"), "search", folder / "a.nwb", *words, "--run-dir", folder / "run"]
    driver = subprocess.Popen(list(map(str, call)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()


def rows_in(folder):
    """Rows of the record; none before it is written."""
    path = folder / "run" / RECORD
    return yaml.safe_load(path.read_text())["trials"] if path.exists() else []


def epochs_in(folder):
    return [row.get("epoch", 0) for row in rows_in(folder)]


def wait(driver, until):
    """Wait until something holds, and fail if the search ends before."""
    deadline = time.monotonic() + 400
    while not until():
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_steps(folder):
    """No epoch was trained twice, as far as it was saved."""
    for row in rows_in(folder):
        epochs = [step[0] for step in row["steps"]]
        assert epochs == sorted(set(epochs)), row


def test_whatever_is_killed_or_asked_to_end_the_same_command_goes_on(tmp_path, script):
    processes = script("processes")
    recording(tmp_path / "a.nwb")
    with searching(tmp_path, *WORDS) as driver:
        wait(driver, lambda: min(epochs_in(tmp_path), default=0) >= EPOCHS / PIECES)
        workers = [each.pid for each in processes.descendants(driver.pid) if each.name.startswith(processes.TRIAL)]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait(driver, lambda: min(epochs_in(tmp_path)) >= 2 * EPOCHS / PIECES)
        time.sleep(1)
        driver.send_signal(signal.SIGUSR1)
        said = driver.stdout.read()
        assert driver.wait() == 75, said
    assert "stopped by SIGUSR1 after saving the state" in said
    check_steps(tmp_path)
    rows = rows_in(tmp_path)
    assert {row["state"] for row in rows} <= {"running", "finished"} and len(rows) == 2
    assert any(row["epoch"] % (EPOCHS / PIECES) for row in rows), "saved in the middle of a piece"
    for row in rows:
        assert load(tmp_path / "run" / row["folder"]).members[0].progress.epoch == row["epoch"]
    assert "Scores over time" in (tmp_path / "run" / PAGE).read_text()
    more = (*WORDS, "--n-trials", "3")
    for how, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -9)):
        before = sum(epochs_in(tmp_path))
        with searching(tmp_path, *more) as driver:
            wait(driver, lambda before=before: sum(epochs_in(tmp_path)) > before)
            driver.send_signal(how)
            said = driver.stdout.read()
            assert driver.wait() == code, said
        check_steps(tmp_path)
        assert len(load(tmp_path / "run" / rows[0]["folder"]).members[0].history) >= rows[0]["epoch"]
    with searching(tmp_path, *more) as driver:
        said = driver.stdout.read()
        assert driver.wait() == 0, said
    check_steps(tmp_path)
    ended = rows_in(tmp_path)
    assert [(row["state"], row["epoch"]) for row in ended] == [("finished", EPOCHS)] * 3
    assert NAMES["best"] in said
    # Trial 0 is a fit like any other.
    config = FitConfig.model_validate(yaml.safe_load((tmp_path / "run" / RECORD).read_text())["fit"])
    whole = fit(read_nwb(tmp_path / "a.nwb", READ), config, run_dir=tmp_path / "whole", tracker=Silent())
    assert whole.checkpoint_sha256 == load(tmp_path / "run" / "trials" / "0000").checkpoint_sha256
