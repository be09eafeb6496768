"""The small version of the benchmark of learned systems."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


def test_a_learned_system_is_scored_and_drawn(tmp_path):
    (row,) = rows_of(tmp_path, "dynamics.py", "--small")
    assert 0 <= row["share"] <= 1 and row["CPU-s all"] > row["CPU-s model"] > 0
    names = (
        "R2 model",
        "R2 system",
        "R2 Markov",
        "R2 all",
        "forecast 25",
        "of system 25",
        "persistence 25",
        "linear 25",
    )
    assert all(row[name] < 1 for name in names) and 0 <= row["in 90% 1"] <= 1
