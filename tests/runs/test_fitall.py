"""Many fits: in which order, and what becomes of them; the last tests do it on Ray, which is started once."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pandas as pd
import pytest

import nwb_sbtt as sb
from nwb_sbtt import stopping
from nwb_sbtt.io.dandi.address import Address
from nwb_sbtt.runs import fitall, view
from nwb_sbtt.runs.fitall import Spread, fit_places, summary_of
from nwb_sbtt.runs.single import Outcome, Plan
from nwb_sbtt.runs.sources import Recording
from nwb_sbtt.runs.view import View
from nwb_sbtt.searching.tasks import Ended, Message
from tests.support.commands import SMALL, recording
from tests.test_pipeline import READ, settings


class Here:
    """Takes the place of Ray's tasks: the oldest is done in this process when one is waited for."""

    def __init__(self, stop_after=None):
        self.waiting, self.done, self.told, self.most = [], [], [], 0
        self.stop_after, self.cancelled, self.is_over = stop_after, False, False

    def __len__(self):
        return len(self.waiting)

    def submit(self, name, function, *arguments, light=False):
        self.waiting.append((name, function, arguments, light))
        self.most = max(self.most, len(self.waiting))

    def wait(self, seconds):
        if not self.waiting:
            return []
        if self.stop_after == len(self.done):
            stopping.request()
        name, function, arguments, light = self.waiting.pop(0)
        self.done.append((name, function.__name__, light))

        def tell(kind, content):
            self.told.append(Message(name, kind, content))
            return self.is_over

        try:
            return [Ended(name, function(tell, *arguments))]
        except RuntimeError as error:
            return [Ended(name, error=f"RuntimeError: {error}")]

    def messages(self):
        told, self.told = self.told, []
        return told

    def stop(self):
        self.is_over = True

    def cancel(self):
        self.cancelled = True
        self.waiting = []


def work(tell, job, plan):
    """What a fit would do, by the name of its recording."""
    tell("text", "reading it")
    if "bug" in job.name:
        raise RuntimeError("a mistake")
    state = "failed" if "broken" in job.name else "fitted"
    return Outcome(job.name, state, f"{len(job.sources)} recordings")


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """Run the driver over sources, with two places and tasks that are done here."""
    monkeypatch.setattr(fitall, "n_at_once", lambda resources: 2)
    monkeypatch.setattr(fitall, "fit_job", work)
    said = []

    def run(sources, *, spread=None, stop_after=None):
        tasks = Here(stop_after)
        driver = fitall._Driver(
            Plan(tmp_path, READ, settings()), spread or Spread(), tasks, View(said.append, live=False)
        )
        try:
            driver.run(sources)
        finally:
            stopping.withdraw()
        return driver, tasks, said

    return run


def local(*names):
    return [Recording(name, Path(f"/data/{name}.nwb")) for name in names]


def test_every_recording_is_fitted_and_what_fails_holds_up_nothing(drive):
    driver, tasks, said = drive(local("a", "broken", "bug", "b", "c"))
    assert {outcome.name: outcome.state for outcome in driver.outcomes} == {
        "a": "fitted",
        "broken": "failed",
        "bug": "failed",
        "b": "fitted",
        "c": "fitted",
    }
    assert driver.outcomes[2].cause == "RuntimeError: a mistake"
    assert tasks.most == 3, "one more than there is room for"
    assert "a: reading it" in said and "[2/5] broken: failed: 1 recordings" in said


def test_recordings_of_an_archive_are_fetched_before_their_turn_but_not_all_at_once(drive, monkeypatch):
    monkeypatch.setattr(fitall, "fetch_source", fetched := lambda tell, job, plan: None)
    fetched.__name__ = "fetch"
    names = ["a", "b", "c", "d", "e"]
    driver, tasks, _ = drive([Recording(name, Address(None, "000140", "draft", f"{name}.nwb")) for name in names])
    assert [outcome.name for outcome in driver.outcomes] == names
    order = [(name, what, light) for name, what, light in tasks.done]
    assert order[:3] == [("a", "fetch", True), ("b", "fetch", True), ("a", "work", False)]
    assert order.index(("c", "fetch", True)) < order.index(("b", "work", False))


def test_what_is_done_in_an_archive_is_not_fitted(drive, monkeypatch):
    done = lambda tell, job, plan: Outcome(job.name, "done before")  # noqa: E731
    monkeypatch.setattr(fitall, "fetch_source", done)
    driver, tasks, _ = drive([Recording("a", Address(None, "000140", "draft", "a.nwb"))])
    assert driver.outcomes == [Outcome("a", "done before")] and len(tasks.done) == 1


def test_recordings_are_grouped_by_a_value_and_those_without_it_fail(drive, monkeypatch):
    def value(tell, job, plan, by):
        assert by == "subject"
        return Outcome(job.name, "failed", "the file has no subject") if job.name == "c" else f"mouse {job.name[0]}"

    monkeypatch.setattr(fitall, "read_group", value)
    driver, _, said = drive(local("a1", "b1", "c", "a2"), spread=Spread(joint="subject"))
    assert driver.outcomes == [
        Outcome("c", "failed", "the file has no subject"),
        Outcome("mouse_a", "fitted", "2 recordings"),
        Outcome("mouse_b", "fitted", "1 recordings"),
    ]
    assert said[-1].startswith("[3/3] mouse_b")


def test_a_request_ends_the_call_and_lets_no_other_fit_begin(drive):
    driver, tasks, _ = drive(local("a", "b", "c", "d", "e"), stop_after=1)
    assert driver.is_interrupted and tasks.is_over and tasks.cancelled
    assert {outcome.name for outcome in driver.outcomes} <= {"a", "b", "c", "d"} and len(tasks.done) < 5


def test_each_recording_knows_the_names_of_the_others(drive):
    sources = [*local("x/a", "b"), Recording("y/a", Path("/other/a.nwb"))]
    driver, tasks, _ = drive(sources)
    assert len(tasks.done) == 3
    assert [job.others for job in driver._jobs.values()] == [("b.nwb", "a.nwb"), ("a.nwb", "a.nwb"), ("a.nwb", "b.nwb")]


def test_the_table_names_failures_that_left_no_run_folder(tmp_path):
    table = summary_of(Plan(tmp_path, READ, settings()), [Outcome("sub/a", "failed", "it is broken")])
    assert [(row.run, row.state, row.cause) for row in table.rows] == [("sub/a", "failed", "it is broken")]


def test_lines_tell_what_is_done_and_how_long_the_rest_takes(monkeypatch):
    said, now = [], [100.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    shown = View(said.append, live=False)
    shown.start(4)
    shown._last = now[0]
    shown.began("a", at_once=2)
    shown.told("a", "text", "a.nwb: 24 trials\n  a note")
    shown.told("a", "epoch", (3, 10, 0.5))
    shown.told("a", "text", "training ended")
    shown.ended(Outcome("a", "fitted", "0.5 bits per spike", 120.0))
    shown.began("b", at_once=2)
    shown.told("b", "epoch", (5, 10, 0.25))
    now[0] += 31
    shown.tick()
    assert said == [
        "a: a.nwb: 24 trials\na: a note",
        "[1/4] a: fitted in 2 min: 0.5 bits per spike",
        "1 of 4 done (1 fitted); about 3 min left; now b (epoch 5 of 10, validation loss 0.2500)",
    ]


def test_a_terminal_gets_a_table_and_a_line_for_each_that_has_ended(capsys):
    said = []
    shown = View(said.append, live=True)
    shown.start(1)
    shown.told("a\x1b[31m", "epoch", (1, 10, 0.5))
    drawn = shown._table()
    shown.tick()
    shown.ended(Outcome("a\x1b[31m", "failed", "no [bold]reason"))
    shown.stop()
    assert said == [] and drawn.renderables
    printed = capsys.readouterr().err
    assert "[1/1] a\\x1b[31m: failed: no [bold]reason" in printed


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two recordings of the same name in two folders, one that is broken, and room for results."""
    folder = tmp_path_factory.mktemp("archive")
    for i in (1, 2):
        (folder / f"sub-{i}").mkdir()
        recording(folder / f"sub-{i}" / "a.nwb", seed=i)
    (folder / "broken.nwb").write_bytes((folder / "sub-1" / "a.nwb").read_bytes()[:20_000])
    return folder


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_call_that_was_killed_goes_on_where_it_was(recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    words = [*SMALL, "--set", "train.epochs=300", "--jobs", "2", "--out", out]
    script = Path(sys.executable).with_name("nwb-sbtt")
    call = [str(word) for word in (script, "fit-all", recordings, *words)]
    killed = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=out)
    try:
        deadline = time.monotonic() + 400
        while len(list(out.glob("runs/*/*/last.safetensors"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        killed.kill()
        killed.wait()
    states = sb.compare([out])
    assert states["state"].tolist() == ["unfinished", "unfinished"]
    before = states["epochs"].tolist()
    time.sleep(2)  # the workers end a moment after the process that they work for
    again = subprocess.run(call, capture_output=True, text=True, cwd=out, check=False, timeout=400)
    assert again.returncode == 3, again.stdout + again.stderr
    assert "failed: broken: cannot read" in again.stdout
    table = pd.read_csv(out / "summary.csv")
    assert table["run"].tolist() == ["broken", "sub-1/a", "sub-2/a"]
    assert table["state"].tolist() == ["failed", "finished", "finished"]
    epochs = [int(n) for n in table["epochs"][1:]]
    assert min(before) >= 1 and all(after > n for after, n in zip(epochs, before, strict=True))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nwb")) == [
        "results/sub-1/a_latents.nwb",
        "results/sub-2/a_latents.nwb",
    ]
    assert sorted(path.name for path in out.iterdir()) == ["results", "runs", "summary.csv", "summary.html"]
    seconds = [json.loads(line)["seconds"] for line in (out / "runs/sub-1/a/log.jsonl").read_text().splitlines()]
    assert len(seconds) == epochs[0] and seconds == sorted(seconds)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_fits_on_ray_are_grouped_skipped_and_compared(recordings, tmp_path):
    from nwb_sbtt.searching.cluster import connected

    said = []
    plan = Plan(tmp_path / "fits", READ, settings())
    shutil.copytree(recordings, tmp_path / "archive")
    with connected(cpus=2):
        fits = fit_places(
            [tmp_path / "archive"],
            plan,
            Spread(joint="session_id"),
            log=said.append,
            view=View(said.append, live=False),
        )
        states = {outcome.name: outcome.state for outcome in fits.outcomes}
        assert states.pop("broken") == "failed" and set(states.values()) == {"fitted"}
        shutil.copytree(plan.out / "results", tmp_path / "archive" / "earlier")
        again = fit_places(
            [tmp_path / "archive"],
            plan,
            Spread(joint="session_id"),
            log=said.append,
            view=View(said.append, live=False),
        )
    left_out = [outcome for outcome in again.outcomes if outcome.state == "left out"]
    assert len(left_out) == 2 and "contains results" in left_out[0].cause
    assert [row.state for row in again.table.rows if row.run != "broken"] == ["finished", "finished"]
    assert any("2 fits at once" in text for text in said)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_files_of_a_dandiset_are_fetched_once_and_fitted_together_by_subject(tmp_path):
    pytest.importorskip("dandi")
    from tests.support.dandi.archive import Archive

    with Archive() as archive:
        for subject, session in (("A", 1), ("A", 2), ("B", 1)):
            path = recording(tmp_path / f"sub-{subject}_ses-{session}.nwb", seed=10 * session + (subject == "B"))
            with h5py.File(path, "r+") as file:
                del file["general/subject/subject_id"]
                file["general/subject/subject_id"] = subject
            archive.add("000140", f"sub-{subject}/{path.name}", path.read_bytes())
            path.unlink()
        archive.add("000140", "sub-B/notes.txt", b"notes")
        settings = {
            "DANDI_INSTANCE": archive.url,
            "DANDI_NO_ET": "1",
            "DANDI_CACHE": "ignore",
            "NWB_SBTT_CACHE_DIR": str(tmp_path / "cache"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }
        script = Path(sys.executable).with_name("nwb-sbtt")
        call = [script, "fit-all", "DANDI:000140/draft", *SMALL, "--joint", "subject", "--jobs", "2", "--out", "fits"]
        said = []
        for _ in range(2):
            done = subprocess.run(
                list(map(str, call)),
                env={**os.environ, **settings},
                **{"capture_output": True, "text": True, "cwd": tmp_path, "check": False, "timeout": 500},
            )
            assert done.returncode == 0, done.stdout + done.stderr
            said.append(done.stdout)
            if len(said) == 1:
                fetched = archive.sent()
    assert archive.sent() == fetched > 0
    out = tmp_path / "fits"
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nwb"))
    assert written == [f"results/{name}_latents.nwb" for name in ("A/sub-A_ses-1", "A/sub-A_ses-2", "B/sub-B_ses-1")]
    table = pd.read_csv(out / "summary.csv")
    assert table["run"].tolist() == ["A", "A", "B"] and set(table["state"]) == {"finished"}
    assert "A: fitted" in said[0] and "B: fitted" in said[0]
