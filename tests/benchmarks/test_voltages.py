"""The small version of the benchmark of voltages."""

import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_missing_samples_dead_stretches_and_artefacts_are_read_as_they_are(tmp_path):
    rows = {row["figure"]: row["seed 31"] for row in rows_of(tmp_path, "voltages.py", "--small", drawn=False)}
    for how in ("random", "every fourth"):
        assert rows[f"{how}: share observed"] == 1 and rows[f"{how}: correlation"] > 0.9
    for fault in ("dead", "railed"):
        assert rows[f"{fault}: share of bins observed"] == 0
        assert 0.7 < rows[f"{fault}: crossings elsewhere, of those of the whole"] < 1.4
    assert all(0.93 < rows[f"crossings a spike, decay {decay} ms"] < 1.07 for decay in (0, 1, 2))
