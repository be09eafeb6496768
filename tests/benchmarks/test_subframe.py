"""The small version of the benchmark of sub-frame timing."""

import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_cells_with_their_own_moments_tell_more_than_with_that_of_their_frame(tmp_path):
    ours, smoothed, together = rows_of(tmp_path, "subframe.py", "--small")
    assert (ours["model"], smoothed["model"], together["model"]) == (
        "sub-frame",
        "smoothed events",
        "smoothed, no offsets",
    )
    assert ours["frequency"] == 15
    assert smoothed["Z"] > together["Z"] + 0.02
    assert ours["X"] > smoothed["X"] + 0.02 and ours["Y"] > smoothed["Y"] + 0.02
