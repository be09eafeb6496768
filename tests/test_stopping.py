"""A fit that is asked to end saves its state first, and the same call goes on to the same numbers."""

import os
import signal
import threading

import numpy as np
import pytest

from nwb_sbtt import pipeline, stopping
from nwb_sbtt.cli import output
from nwb_sbtt.config import TrainConfig
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.runfolder import FAILED
from nwb_sbtt.runs.comparison import rows_of
from nwb_sbtt.train.trackers import Silent
from tests.support.commands import SMALL, call, recording
from tests.support.fits import population, settings


class Asking(Silent):
    """Sends SIGUSR1 to this process in its second epoch."""

    def epoch(self, record):
        if record.epoch == 2:
            os.kill(os.getpid(), signal.SIGUSR1)


def test_a_signal_ends_training_after_the_epoch_with_its_state_saved(tmp_path):
    config = settings(train=TrainConfig(epochs=4, batch_size=8, checkpoint_every=100))
    data = population()
    with stopping.by_signal(), pytest.raises(stopping.Stopped):
        fit(data, config, run_dir=tmp_path / "run", tracker=Asking())
    assert not stopping.is_requested() and not (tmp_path / "run" / FAILED).exists()
    assert rows_of(tmp_path / "run")[0].cause.startswith("saved after epoch 2")
    resumed = fit(data, config, run_dir=tmp_path / "run", tracker=Silent())
    whole = fit(data, config, run_dir=tmp_path / "whole", tracker=Silent())
    np.testing.assert_array_equal(resumed.infer(data)["rates"], whole.infer(data)["rates"])
    assert resumed.checkpoint_sha256 == whole.checkpoint_sha256


def test_a_request_in_the_last_epoch_changes_nothing(tmp_path):
    with stopping.by_signal():
        fitted = fit(population(), settings(), run_dir=tmp_path / "run", tracker=Asking())
    assert fitted.finished.startswith("all 2 epochs finished")


def test_the_command_line_says_so_with_an_exit_code_of_its_own(tmp_path, monkeypatch, capsys):
    recorded = recording(tmp_path / "lorenz.nwb")
    whole = pipeline.fit

    def asked(data, config, *, run_dir, tracker):
        stopping.request()
        return whole(data, config, run_dir=run_dir, tracker=Silent())

    monkeypatch.setattr(pipeline, "fit", asked)
    words = ["fit", recorded, *SMALL, "--run-dir", tmp_path / "run"]
    assert call(monkeypatch, *words) == output.STOPPED
    assert "stopped by SIGUSR1 after saving the state; the same command resumes it" in capsys.readouterr().err
    assert not stopping.is_requested()


def test_the_handler_of_before_comes_back_and_threads_get_none():
    before = signal.getsignal(signal.SIGUSR1)
    with stopping.by_signal():
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before
    seen = []

    def elsewhere():
        with stopping.by_signal():
            seen.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
