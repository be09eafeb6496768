"""Trials without Ray around them: what goes out of one, and comes into another."""

import math

import pytest

from nwb_sbtt.config import InitConfig, TrainConfig
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.runfolder import read_changes
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import population, settings

pytestmark = pytest.mark.slow
FIT = settings(train=TrainConfig(epochs=4, batch_size=8))


def begun(folder, name, number=0, point=None, *, ds=None, config=FIT, latest=False, states=None, over=lambda: False):
    from nwb_sbtt.searching.trial import FitTrial, Task

    class Alone(FitTrial):
        logdir = str(folder / name)
        trial_id = name

        def _is_over(self):
            return over()

    trial = Alone.__new__(Alone)
    given = {"trial": {"number": number, "seed": number or None, "point": point or {"train.learning_rate": 0.01}}}
    (folder / name).mkdir(exist_ok=True)
    data = {"session": population() if ds is None else ds}
    trial.setup(given, data=data, task=Task(config, 2, latest), states=states or {}, board=None)
    return trial


def test_a_trial_goes_on_in_another_process_to_the_same_numbers(tmp_path):
    from nwb_sbtt.searching.trial import bring_home, read_files

    first = begun(tmp_path, "first", 3)
    assert first.step()["epoch"] == 2
    first.save_checkpoint(str(tmp_path / "saved"))
    bring_home(tmp_path / "saved", tmp_path / "home")
    last = first.step()
    assert last["done"] and last["finished"] and last["epoch"] == 4
    second = begun(tmp_path, "second", 3, states={3: read_files(tmp_path / "home")})
    again = second.step()
    assert (again["began"], again["score"]) == (2, last["score"])
    assert not (tmp_path / "home" / "saver.json").exists()
    assert load(tmp_path / "home").unfinished
    second.save_checkpoint(str(tmp_path / "saved2"))
    bring_home(tmp_path / "saved2", tmp_path / "home")
    assert load(tmp_path / "home").config.train.seed == 3
    assert (tmp_path / "home" / "calibration.json").exists()


def test_a_trial_that_is_asked_to_end_saves_its_state_in_the_middle_of_a_piece(tmp_path, monkeypatch):
    from nwb_sbtt.searching import trial as module

    monkeypatch.setattr(module, "EVERY", 0)
    answers = [False, True, True, *[False] * 9]
    trial = begun(tmp_path, "trial", 1, over=lambda: answers.pop(0))
    stopped = trial.step()
    assert (stopped["epoch"], stopped["finished"], stopped["idle"]) == (1, "", False)
    assert trial.step() == {"epoch": 1, "score": math.inf, "idle": True, "done": False}
    assert (trial.step()["epoch"], trial.step()["epoch"]) == (2, 4)
    undisturbed = begun(tmp_path, "undisturbed", 1)
    assert [undisturbed.step()["epoch"] for _ in range(2)] == [2, 4]
    assert load(trial._folder).checkpoint_sha256 == load(undisturbed._folder).checkpoint_sha256


def test_a_member_takes_over_weights_and_changes_its_settings(tmp_path):
    donor = begun(tmp_path, "donor", 1, latest=True)
    donor.step()
    (tmp_path / "saved").mkdir()
    donor.save_checkpoint(str(tmp_path / "saved"))
    other = begun(tmp_path, "other", 2, {"train.learning_rate": 0.02}, latest=True)
    other.step()
    # As Ray does: the donor's configuration with a change, then its state.
    other.reset_config({"trial": {"number": 1, "seed": 1, "point": {"train.learning_rate": 0.013}}})
    other.load_checkpoint(str(tmp_path / "saved"))
    result = other.step()
    assert (result["origin"], result["began"], result["epoch"]) == ("donor", 2, 4)
    (change,) = read_changes(other._folder)
    assert change["note"] == "weights of another trial"
    assert change["settings"] == ["train.learning_rate is 0.013 instead of 0.01"]
    assert other.step()["origin"] == ""


def test_a_process_that_ends_late_removes_nothing_of_the_one_that_goes_on_with_its_trial(tmp_path):
    late = begun(tmp_path, "trial", 1)
    late.step()
    other = begun(tmp_path, "trial", 1)
    other.step()
    late.cleanup()
    assert other.step()["finished"]
    other.cleanup()
    assert not list((tmp_path / "trial").iterdir())


def test_trials_may_start_from_a_finished_fit(tmp_path):
    ds = population()
    initial = fit(ds, FIT, run_dir=tmp_path / "initial", tracker=Silent())
    config = FIT.model_copy(update={"init": InitConfig(run_dir=initial.run_dir, channels="same")})
    trial = begun(tmp_path, "trial", 1, ds=ds, config=config)
    assert trial.step()["failed"] == ""
    assert trial.step()["finished"]
    assert read_changes(trial._folder) == []


def test_a_trial_that_breaks_down_says_why(tmp_path):
    trial = begun(tmp_path, "broken", 1, {"train.learning_rate": 1e30})
    result = trial.step()
    assert result["done"] and result["score"] == math.inf
    assert "try a lower learning rate" in result["failed"]
