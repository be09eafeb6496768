"""The small version of the benchmark of learned systems."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


def test_a_learned_system_is_scored_and_drawn(tmp_path):
    (row,) = rows_of(tmp_path, "dynamics.py", "--small")
    assert row["best epoch"].endswith("of 4 + 2")
    assert all(row[name] < 1 for name in ("R2 before", "R2 after", "forecast 25", "persistence 25", "linear 25"))
    assert 0 <= row["in 90% 1"] <= 1 and row["CPU-s after"] > 0
