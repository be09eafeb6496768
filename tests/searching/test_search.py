"""Searches with Ray, which takes seconds to start: all tests of this file share one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from nwb_sbtt.config import FitConfig, SAEConfig, SearchConfig, TrainConfig
from nwb_sbtt.errors import ConfigError, TrainingError
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.runfolder import read_changes
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.searching.cluster import connected
from nwb_sbtt.searching.search import search
from tests.support.fits import MODEL, population

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]  # on a busy machine Ray starts slowly
FIT = FitConfig(
    model=SAEConfig(encoder=6, generator=6, factors=2), train=TrainConfig(epochs=6, batch_size=8), valid_fraction=0.2
)
SPACE = ("train.learning_rate=log(1e-3, 1e-1)", "model.factors=[1, 2, 3]")
RANDOM = SearchConfig(strategy="random", trials=4, pieces=3, space=SPACE, ensemble=2)


class Hidden:
    """Shows nothing, and counts what it is told."""

    def __init__(self):
        self.rows = []

    def show(self, record, changed, left):
        self.rows.append(changed)

    def stop(self):
        pass


def run(ds, config, run_dir, **options):
    return search(ds, config, run_dir=run_dir, log=lambda text: None, display=Hidden(), **{"fit": FIT, **options})


@pytest.fixture(scope="module", autouse=True)
def ray():
    with connected(cpus=2):
        yield


@pytest.fixture(scope="module")
def ds():
    return population()


@pytest.fixture(scope="module")
def random(ds, tmp_path_factory):
    return run(ds, RANDOM, tmp_path_factory.mktemp("searches") / "random")


def test_every_trial_is_a_run_folder_and_the_best_is_one_too(ds, random):
    folder = random.run_dir
    record = yaml.safe_load((folder / "search.yaml").read_text())
    assert [row["state"] for row in record["trials"]] == ["finished"] * 4
    for row in record["trials"]:
        fitted = load(folder / row["folder"])
        assert fitted.members[0].progress.best_score == row["score"]
        assert [step[0] for step in row["steps"]] == [2, 4, 6]
        assert fitted.config.train.learning_rate == pytest.approx(row["settings"]["train.learning_rate"])
        assert fitted.config.model.factors == row["settings"]["model.factors"]
    best = min(record["trials"], key=lambda row: row["score"])
    assert (folder / "best").resolve() == (folder / best["folder"]).resolve()
    assert json.loads((folder / "best" / "metrics.json").read_text())
    assert (folder / "best" / "report.html").exists()
    assert not list(folder.glob(".*"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "best",
        "ensemble",
        "search.html",
        "search.yaml",
        "trials",
    ]


def test_the_best_are_averaged_and_scored_on_trials_kept_aside(ds, random):
    assert len(random.ensemble.members) == 2
    latents = load(random.run_dir / "ensemble").infer(ds)
    assert np.isfinite(latents["rates"].values).all()
    (scores,) = random.record.result["sessions"].values()
    assert scores["test_trials"] == round(0.1 * ds.sizes["trial"])
    assert set(scores["scores"]) == {"best", "defaults", "ensemble"}
    assert {"mean_rate", "masked_smoothing"} <= set(scores["baselines"])
    page = (random.run_dir / "search.html").read_text()
    assert "test trials were not used in the search" in page
    assert 'href="trials/0000/report.html"' in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_states_may_take_another_way_home_of_which_nothing_is_left(ds, random, tmp_path):
    storage = tmp_path / "storage"
    config = RANDOM.model_copy(update={"trials": 2, "ensemble": 1, "storage": f"file://{storage}"})
    found = run(ds, config, tmp_path / "run")
    assert {n: row.score for n, row in found.record.rows.items()} == {
        n: row.score for n, row in random.record.rows.items() if n < 2
    }
    assert not list(storage.iterdir())
    assert all((found.run_dir / row.folder / SIGNATURE).exists() for row in found.record.rows.values())


def test_the_same_search_again_does_nothing_and_more_trials_go_on(ds, random):
    before = (random.run_dir / "trials" / "0001" / SIGNATURE).stat().st_mtime_ns
    again = run(ds, RANDOM, random.run_dir)
    assert again.record.as_dict()["trials"] == random.record.as_dict()["trials"]
    assert again.record.result == random.record.result
    more = run(ds, RANDOM.model_copy(update={"trials": 5, "ensemble": 1}), random.run_dir)
    assert len(more.record.rows) == 5
    assert (random.run_dir / "trials" / "0001" / SIGNATURE).stat().st_mtime_ns == before


def test_a_folder_holds_one_search(ds, random, tmp_path):
    with pytest.raises(TrainingError, match=r"has a search of different data or settings: pieces is 2 instead of 3"):
        run(ds, RANDOM.model_copy(update={"pieces": 2}), random.run_dir)
    with pytest.raises(TrainingError, match=r"of different data or settings: data\.session is"):
        run(population(seed=1), RANDOM, random.run_dir)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match="is not the folder of a search"):
        run(ds, RANDOM, tmp_path)
    with pytest.raises(ConfigError, match=r"a search is one model"):
        run(ds, RANDOM, tmp_path / "new", fit=FIT.model_copy(update={"seeds": 2}))
    assert not (tmp_path / "new").exists()


def test_optuna_stops_trials_that_fall_behind_and_a_broken_one_is_a_row(ds, tmp_path):
    space = ("train.learning_rate=[1e-2, 1e-6, 1e30]",)
    config = SearchConfig(strategy="optuna", trials=8, pieces=6, grace=0.2, reduction=2, space=space, at_once=1)
    found = run(ds, config, tmp_path / "run")
    states = {row.number: row.state for row in found.record.rows.values()}
    assert len(states) == 8
    failed = [row for row in found.record.rows.values() if row.state == "failed"]
    assert failed
    assert all("try a lower learning rate" in row.cause for row in failed)
    assert all(row.settings["train.learning_rate"] == 1e30 for row in failed)
    stopped = [row for row in found.record.rows.values() if row.state == "stopped"]
    assert stopped
    for row in stopped:
        fitted = load(tmp_path / "run" / row.folder)
        assert 0 < fitted.members[0].progress.epoch == row.epoch < 6


def test_a_population_takes_over_weights_and_settings_of_its_best(ds, tmp_path):
    fit = FIT.model_copy(update={"model": MODEL})
    space = ("train.learning_rate=log(1e-5, 1e-1)", "model.dropout=uniform(0, 0.5)")
    found = run(ds, SearchConfig(strategy="pbt", trials=4, pieces=3, space=space), tmp_path / "run", fit=fit)
    rows = found.record.rows.values()
    assert {row.state for row in rows} == {"finished"}
    assert {row.epoch for row in rows} == {6}
    took = [row for row in rows if row.origins]
    assert took
    for row in took:
        changes = read_changes(tmp_path / "run" / row.folder)
        assert changes[-1]["epoch"] == row.origins[-1].epoch  # before it are those of whom it took over
        assert load(tmp_path / "run" / row.folder).config.train.learning_rate == row.settings["train.learning_rate"]
        assert 1e-5 <= row.settings["train.learning_rate"] <= 1e-1
    assert "Lineage" in (tmp_path / "run" / "search.html").read_text()
    # Though there is room for two: all members end a generation before the next begins.
    ends = [[row.steps[generation].seconds for row in rows] for generation in range(3)]
    assert max(ends[0]) < min(ends[1]) and max(ends[1]) < min(ends[2])
    with pytest.raises(ConfigError, match="at_once cannot be used with a"):
        run(ds, SearchConfig(strategy="pbt", trials=4, at_once=1, space=space), tmp_path / "other", fit=fit)


def test_a_population_goes_on_without_members_that_break_down(ds, tmp_path):
    space = ("train.learning_rate=log(1e-3, 1e30)",)
    fit = FIT.model_copy(update={"model": MODEL})
    found = run(ds, SearchConfig(strategy="pbt", trials=4, pieces=3, space=space), tmp_path / "run", fit=fit)
    states = [found.record.rows[number].state for number in range(4)]
    assert states[0] == "finished" and "failed" in states
    assert all("learning rate" in row.cause for row in found.record.rows.values() if row.state == "failed")


SCRIPT = """
import sys
from tests.searching.test_search import RANDOM, FIT, population
from nwb_sbtt.config import build, FitConfig, SearchConfig
from nwb_sbtt.searching.search import search
search(population(), RANDOM.model_copy(update={"at_once": 1}), fit=FIT, run_dir=sys.argv[1])
"""


def test_a_search_that_was_killed_goes_on_to_the_same_numbers(ds, random, tmp_path):
    folder = tmp_path / "run"
    driver = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + 1000
        while time.monotonic() < deadline and driver.poll() is None:
            if (folder / "trials" / "0001" / SIGNATURE).exists():
                break
            time.sleep(0.05)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    rows = yaml.safe_load((folder / "search.yaml").read_text())["trials"]
    assert "running" in {row["state"] for row in rows}
    done = {row["trial"]: len(row["steps"]) for row in rows}
    display = Hidden()
    found = search(ds, RANDOM, fit=FIT, run_dir=folder, log=lambda text: None, display=display)
    assert {n: row.score for n, row in found.record.rows.items()} == {
        n: row.score for n, row in random.record.rows.items()
    }
    assert found.best.checkpoint_sha256 == random.best.checkpoint_sha256
    for row in found.record.rows.values():
        assert [step.epoch for step in row.steps] == [2, 4, 6]
    finished = [row["trial"] for row in rows if row["state"] == "finished"]
    assert not {row.number for row in display.rows} & set(finished)
    assert sum(done.values()) > len(finished) * 3 - 1
