import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("oasis")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "recorded_events.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_events_of_simulated_cells_are_their_spikes(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    done = run("--small", "--decay", "0.4", "--json", str(table))
    assert done.returncode == 0, done.stderr
    rows = json.loads(table.read_text())["rows"]
    assert len(rows) == 4
    for row in rows:
        assert row["r"] > 0.8 and row["same decay"] > 0.9 and 0.2 < row["decay"] < 0.8
    assert "median of r of 3" in done.stdout
