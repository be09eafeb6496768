"""What a person sees while a model is trained and a system is learned from it."""

import pytest

from nwb_sbtt.train.trackers import Bar, EpochRecord, Lines, Notebook
from tests.support.notebooks import notebook

RECORD = EpochRecord(4, 0.5, 0.1, 0.25, 3, 1e-3, 1.0, 12.0)


def told(tracker, *steps):
    """Tell of four epochs of six, then of steps of a system."""
    tracker.start(6, 0)
    tracker.epoch(RECORD)
    for step in steps:
        tracker.learning(step, 20)
    tracker.stop()


def test_lines_tell_of_steps_as_of_epochs(capsys):
    told(Lines(every_seconds=0.0, label="a: "), 7, 20)
    assert capsys.readouterr().err.splitlines() == [
        "a: epoch 4/6  train 0.5000  valid 0.2500  best at 3  12 s",
        "a: learning a system: step 7/20",
        "a: learning a system: step 20/20",
    ]
    told(Lines(every_seconds=1000.0), 1, 7, 20)
    assert [line for line in capsys.readouterr().err.splitlines() if "step" in line] == [
        "learning a system: step 20/20"
    ]


@pytest.mark.parametrize(("step", "shown"), [(7, True), (20, False)])
def test_a_bar_of_its_own_is_there_until_the_last_step(capsys, step, shown):
    told(Bar("a: "), step)
    lines = capsys.readouterr().err.splitlines()
    assert "a: epoch 4/6" in lines[0] and "train 0.5000  valid 0.2500  best at 3" in lines[0]
    assert any(f"a: learning a system: step {step}/20" in line for line in lines) == shown


def test_the_bar_of_a_notebook_shows_steps(monkeypatch):
    shown = notebook(monkeypatch)
    told(Notebook(), 20)
    assert "learning a system: step 20/20" in shown[-1][1]
