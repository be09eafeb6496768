from dataclasses import replace

import pytest
import yaml

from nwb_sbtt.config import FitConfig, SearchConfig, TrainConfig
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.searching.progress import LiveTable, PlainLines, _table
from nwb_sbtt.searching.record import Origin, Record, Step, TrialRow, resumed
from nwb_sbtt.searching.space import make_space

FIT = FitConfig(train=TrainConfig(epochs=8))
NEW = Record(SearchConfig(trials=3), FIT, make_space([], FIT, strategy="optuna"), {"monday": "abc"})
ROWS = (
    TrialRow(0, {"model.factors": 10}, None, "finished", "done", (Step(4, 0.5, 1.0), Step(8, 0.4, 2.0))),
    TrialRow(1, {"model.factors": 20}, 7, "stopped", "fell behind", (Step(4, 0.3, 3.0),), (Origin(2, 0),)),
    TrialRow(2, {"model.factors": 40}, 8, "failed", "loss is nan"),
)


@pytest.fixture
def record():
    record = NEW
    for row in ROWS:
        record = record.with_row(row)
    return record


def test_a_record_is_read_back(record, tmp_path):
    record.save(tmp_path)
    assert resumed(NEW, tmp_path).rows == record.rows
    assert resumed(NEW, tmp_path / "other") == NEW


def test_trials_that_were_trained_to_their_end_come_first(record):
    assert [row.number for row in record.ranked] == [0, 1]
    assert record.ranked[0].score == 0.4


def test_what_may_change_and_what_may_not(record, tmp_path):
    record.save(tmp_path)
    more = replace(NEW, search=SearchConfig(trials=9, ensemble=3, cpus_per_trial=2, address="auto"))
    assert len(resumed(more, tmp_path).rows) == 3
    for changed, message in [
        (replace(NEW, search=SearchConfig(trials=3, strategy="random")), "strategy is random instead of optuna"),
        (replace(NEW, fit=FitConfig(train=TrainConfig(epochs=9))), "fit.train.epochs is 9 instead of 8"),
        (replace(NEW, data={"monday": "xyz"}), "data.monday is xyz instead of abc"),
    ]:
        with pytest.raises(TrainingError, match=message):
            resumed(changed, tmp_path)
    population = replace(NEW, search=SearchConfig(trials=3, strategy="pbt"))
    population.save(tmp_path)
    with pytest.raises(TrainingError, match="has 3 members, but"):
        resumed(replace(population, search=SearchConfig(trials=4, strategy="pbt")), tmp_path)


@pytest.mark.parametrize("change", [{"trials": [{"trial": 0}]}, {"trials": 3}, {"fit": {"train": 3}}])
def test_a_damaged_record_is_an_error(record, tmp_path, change):
    record.save(tmp_path)
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(FileError, match="is damaged"):
        resumed(NEW, tmp_path)
    path.write_text(yaml.safe_dump({"format": 99}))
    with pytest.raises(TrainingError, match="has format 99, but this version reads format 1"):
        resumed(NEW, tmp_path)


def test_lines_tell_of_trials_that_end_and_now_and_then_of_a_piece(record, capsys):
    lines = PlainLines(every_seconds=1000)
    running = TrialRow(1, state="running", steps=(Step(4, 0.3, 3.0),))
    for row in (running, running, *ROWS):
        lines.show(record, row, 65.0)
    lines.stop()
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 4
    assert shown[0] == "trial 1 of 3  epoch 4/8  score 0.3000  best 0.4000 (trial 0)  65 s left"
    assert shown[-1] == "trial 2 of 3  epoch 0/8  no score  best 0.4000 (trial 0)  failed: loss is nan  65 s left"


def test_the_table_has_one_row_a_trial(record, capsys):
    table = _table(record, 65.0)
    assert table.row_count == 3
    assert table.title == "3 of 3 trials · best 0.4000 (trial 0) · 65 s left"
    live = LiveTable()
    live.show(record, None, None)
    live.stop()
    assert "failed" in capsys.readouterr().err
