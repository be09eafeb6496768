"""The small version of the benchmark of channels chosen bin by bin."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


def test_chosen_channels_are_compared_with_drawn_ones_at_an_equal_budget(tmp_path):
    rows = rows_of(tmp_path, "schedule.py", "--small", "--example", tmp_path / "example.png")
    assert [(row["scheme"], row["sampled of 29"]) for row in rows] == [("scheduled", 2), ("speckled", 2)]
    chosen, drawn = rows
    assert all(-1 < row["R2"] < 1 for row in rows)
    assert chosen["counts per sample"] > drawn["counts per sample"], "little is told by channels that are silent"
    assert 0 < chosen["fewest samples"] < drawn["fewest samples"]
    assert (tmp_path / "example_2.png").read_bytes().startswith(b"\x89PNG")
