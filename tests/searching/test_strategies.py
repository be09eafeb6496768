"""Ray's scheduler with what earlier processes did; Ray is imported and not started."""

from types import SimpleNamespace

import pytest

from nwb_sbtt.config import FitConfig, SearchConfig, TrainConfig
from nwb_sbtt.searching.record import Record, Step, TrialRow
from nwb_sbtt.searching.space import make_space

pytestmark = pytest.mark.slow
FIT = FitConfig(train=TrainConfig(epochs=9))


def scheduler(*rows):
    from nwb_sbtt.searching.strategies import MODE, SCORE, scheduler_of

    search = SearchConfig(trials=9, pieces=9, grace=0.12, reduction=3)
    made = scheduler_of(
        Record(search, FIT, make_space([], FIT, strategy="optuna"), {}, {row.number: row for row in rows})
    )
    assert made.set_search_properties(SCORE, MODE)
    return made


def decision(made, number, epoch, score):
    trial = SimpleNamespace(trial_id=f"new-{number}", config={"trial": {"number": number}})
    if epoch == 1:
        made.on_trial_add(None, trial)
    return made.on_trial_result(None, trial, {"epoch": epoch, "score": score})


EARLIER = [
    TrialRow(n, {}, n, "stopped", "fell behind", (Step(1, 0.1 * n, 1.0), Step(2, 0.1 * n, 2.0))) for n in range(4)
]


def test_new_trials_are_compared_with_those_of_an_earlier_process():
    assert decision(scheduler(), 7, 1, 0.9) == "CONTINUE"
    assert decision(scheduler(*EARLIER), 7, 1, 0.9) == "STOP"
    assert decision(scheduler(*EARLIER), 7, 1, 0.01) == "CONTINUE"


def test_a_trial_that_goes_on_is_not_compared_again_where_it_was():
    running = TrialRow(5, {}, 5, "running", "", (Step(1, 0.01, 1.0), Step(2, 0.01, 2.0)))
    made = scheduler(*EARLIER, running)
    trial = SimpleNamespace(trial_id="again", config={"trial": {"number": 5}})
    made.on_trial_add(None, trial)
    # Its first comparison is the one after three epochs, where it is the first; at one epoch it would be the worst.
    assert made.on_trial_result(None, trial, {"epoch": 2, "score": 0.9}) == "CONTINUE"
    assert made.on_trial_result(None, trial, {"epoch": 3, "score": 0.9}) == "CONTINUE"
