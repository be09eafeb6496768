"""The damage suite: damaged files of every kind, none of which ends in anything but a result or one line; and its own parts."""

import json
import os
import sys

import numpy as np
import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="limits and waits for processes as Linux does")
WRONG = ("traceback", "over limits", "half written", "wrong output")


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path):
    *rows, together = rows_of(tmp_path, "damage.py", "--cases", 80)
    assert not any(row[outcome] for row in rows for outcome in WRONG)
    subjects = {"units", "imaging", "zarr", "result", "appended", "run folder", "ensemble", "latents benchmark"}
    assert subjects <= {row["file"] for row in rows}
    assert together["commands"] >= 80
    # Damage that nothing notices, or that always hits the same spot, would show nothing.
    assert min(together["read"], together["clean error"]) > 0.2 * together["commands"]


@pytest.fixture
def damage(script):
    return script("damage")


@pytest.fixture
def subject(script, tmp_path):
    """Make a subject of one file, on which one command is run."""

    def make(run, check=lambda printed, results: ""):
        subjects = script("damage_subjects")
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "a").write_text("as it was")
        commands = [subjects.Command("command", run, check)]
        return subjects.Subject("subject", tmp_path / "files", lambda files, random: "damage", lambda *_: commands)

    return make


def _fail(text):
    print(text, file=sys.stderr)
    return 2


def _leave(results):
    (results / "out.nwb").write_text("half")
    return _fail("error: stopped")


def _change(results):
    (results.parent / "files" / "a").write_text("other")


def _crash(results):
    raise KeyError("here")


def _take(results):
    return len(np.ones(1 << 29))


def _spin(results):
    while True:
        pass


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (lambda results: None, "read"),
        (lambda results: _fail("error: in one line"), "clean error"),
        (lambda results: _fail("error: in one line\nand another"), "traceback"),
        (lambda results: 1, "traceback"),
        (_crash, "traceback"),
        (_leave, "half written"),
        (_change, "half written"),
        (_take, "traceback"),
        (_spin, "over limits"),
    ],
)
@pytest.mark.slow
def test_an_outcome_is_called_by_its_name(damage, subject, monkeypatch, tmp_path, run, outcome):
    monkeypatch.setattr(damage, "SECONDS", 1)
    assert [result.outcome for result in damage.run_case([subject(run)], 0, 1, tmp_path)] == [outcome]


def test_output_that_is_wrong_is_told(damage, subject, tmp_path):
    printing = subject(lambda results: print("nan"), lambda printed, results: f"it is {printed.strip()}")
    (result,) = damage.run_case([printing], 0, 1, tmp_path)
    assert (result.outcome, result.told) == ("wrong output", "it is nan")


def test_a_case_follows_from_its_seed_and_number(script, tmp_path):
    mutations = script("mutations")
    told = []
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps({"a": 1, "b": [1, 2]}))
        told.append(mutations.mutate_json(tmp_path / name, np.random.default_rng([0, 7])))
    assert told[0] == told[1] and (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
