"""The small versions of the benchmarks of searches: they run, and the budget and what is killed are accounted for."""

import pytest

from tests.support import processes
from tests.support.processes import rows_of

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Ray starts slowly on a busy machine."""
    monkeypatch.setattr(processes, "SECONDS", 850)


def test_searches_and_the_defaults_are_scored_on_trials_kept_aside(tmp_path):
    words = ("search_budget.py", "--small", "--jobs", "2", "--runs", tmp_path / "runs")
    rows = rows_of(tmp_path, *words, drawn=False, subject="searching/")
    assert [row["arm"] for row in rows] == ["defaults, the first 5", "defaults", "optuna"]
    assert all(row["fits"] >= 5 and row["CPU-seconds"] > 0 for row in rows)
    again = rows_of(tmp_path, *words, drawn=False, subject="searching/")
    for row, same in zip(rows, again, strict=True):
        assert same["R2 of 5 averaged"] == row["R2 of 5 averaged"]
        assert same["CPU-seconds"] == pytest.approx(row["CPU-seconds"])


def test_a_population_survives_the_loss_of_a_node_and_of_its_driver(tmp_path):
    words = ("search_cluster.py", "--small", "--parts", "kills", "--runs", tmp_path / "runs")
    (row,) = rows_of(tmp_path, *words, drawn=False, subject="searching/")
    assert row["exit code"] == 0 and row["members"] == 4
    assert 0 < row["epochs when the node was lost"] < row["when the driver was"] < row["in the end"] == row["of"]
    assert row["trained twice, once saved"] == 0 and row["weights taken over"] > 0


def test_best_and_average_of_a_search_are_scored_by_held_out_units(tmp_path):
    rows = rows_of(tmp_path, "search_heldout.py", "maze", "--small", "--jobs", "1", drawn=False, subject="searching/")
    assert [row["rates"] for row in rows] == ["best of 2", "5 averaged"]
    assert all(0 < row["of oracle"] < 1 for row in rows)
    assert rows[0]["co-bps"] != rows[1]["co-bps"]
