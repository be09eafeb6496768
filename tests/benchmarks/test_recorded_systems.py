"""Whether a learned system ever hurts, by a small run."""

import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_hidden_entries_are_scored_with_and_without_a_system(tmp_path):
    (row,) = rows_of(tmp_path, "recorded_systems.py", "--small", drawn=False)
    assert row["share"] + row["share, Markov"] > 0
    assert row["with system"] != row["model"]
    assert row["none"] == ""
