"""The small version of the benchmark of what a learned system is."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


def test_a_learned_system_is_measured_beside_the_truth(tmp_path):
    row, truth = rows_of(tmp_path, "learned_system.py", "--small")
    assert row["observed of 29"] == 10 and row["states"] < 1 and row["points"] >= 0
    assert truth["exponent"] == pytest.approx(2.264) and truth["left: Hz"] == pytest.approx(4.056, abs=1e-3)
    assert truth["origin: rate"] == pytest.approx(29.57, abs=0.01) and truth["right: rate"] == truth["left: rate"]
