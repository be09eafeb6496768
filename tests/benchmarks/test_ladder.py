"""The small version of the ladder's benchmark."""

from tests.benchmarks.scripts import rows_of


def test_spikes_are_found_by_a_ladder_that_is_told_nothing(tmp_path):
    (row,) = rows_of(tmp_path, "ladder.py", "--small")
    assert row["model"] == "ladder"
    assert row["spikes, r²"] > 0.9 and row["fluorescence, r²"] > 0.9
