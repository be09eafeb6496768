from pathlib import Path

import pytest

from tests.support.processes import rows_of

pytest.importorskip("oasis")


@pytest.mark.slow
def test_events_of_simulated_cells_are_their_spikes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "recorded_events.py", "--small", "--decay", "0.4")
    assert len(rows) == 4
    for row in rows:
        assert row["r"] > 0.8 and row["same decay"] > 0.9 and 0.2 < row["decay"] < 0.8
