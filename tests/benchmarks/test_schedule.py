"""The small version of the benchmark of channels chosen bin by bin."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


def test_chosen_channels_are_compared_with_drawn_ones_at_an_equal_budget(tmp_path):
    rows = rows_of(tmp_path, "schedule.py", "--small", "--example", tmp_path / "example.png")
    both = [("scheduled", 2, 29), ("speckled", 2, 29), ("scheduled", 4, 59), ("speckled", 4, 59)]
    assert [(row["scheme"], row["sampled"], row["of"]) for row in rows] == both
    assert all(-1 < row["R2"] < 1 for row in rows)
    for chosen, drawn in (rows[:2], rows[2:]):
        assert chosen["counts per sample"] > drawn["counts per sample"], "little is told by channels that are silent"
        assert 0 < chosen["fewest samples"] < drawn["fewest samples"]
    assert (tmp_path / "example_lorenz-0_2.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "example_maze-0_4.png").read_bytes().startswith(b"\x89PNG")
