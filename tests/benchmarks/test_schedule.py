"""The small version of the benchmark of channels chosen bin by bin."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


def test_chosen_channels_are_compared_with_drawn_ones_at_an_equal_budget(tmp_path):
    rows = rows_of(tmp_path, "schedule.py", "--small", "--example", tmp_path / "example.png")
    schemes = ["speckled", "scheduled", "refitted"]
    assert [(row["scheme"], row["of"]) for row in rows] == [(name, n) for n in (29, 59) for name in schemes]
    assert all(-1 < row["R2"] < 1 for row in rows)
    for drawn, chosen, again in (rows[:3], rows[3:]):
        assert chosen["sampled"] == drawn["sampled"] == round(2 * chosen["of"] / 29)
        assert chosen["counts per sample"] > drawn["counts per sample"], "little is told by channels that are silent"
        assert 0 < chosen["fewest samples"] < drawn["fewest samples"]
        assert -1 < chosen["R2, online"] < 1
        assert again["fewest samples"] == chosen["fewest samples"] and again["R2"] != chosen["R2"]
    assert (tmp_path / "example_lorenz-0_2_0.3.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "example_maze-0_4_0.3.png").read_bytes().startswith(b"\x89PNG")
