from pathlib import Path

import pytest

from tests.support.processes import rows_of

pytest.importorskip("oasis")


@pytest.mark.slow
def test_frames_that_are_missing_cost_little_correlation(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "deconvolution.py", "--small", "--table", "gaps")
    assert [row["missing"] for row in rows] == ["3 every 2 s", "10 % at random"]
    assert all(row["r"] > row["r whole"] - 0.03 for row in rows)


@pytest.mark.slow
def test_decay_and_noise_are_near_the_truth(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "deconvolution.py", "--small", "--table", "kinetics")
    assert [row["rate"] for row in rows] == [15, 30, 60]
    assert all(row["lowest"] > 0.7 and row["highest"] < 1.45 and row["r"] > row["r known"] - 0.03 for row in rows)
    assert all(row["noise low"] > 0.85 and row["noise high"] < 1.2 for row in rows)
