import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("oasis")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "spike_inference.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_spikes_of_generated_cells_are_found_better_than_by_oasis_alone(tmp_path: Path) -> None:
    table, figure = tmp_path / "table.json", tmp_path / "figure.png"
    done = run("--small", "--seeds", "0", "1", "--json", str(table), "--figure", str(figure))
    assert done.returncode == 0, done.stderr
    rows = json.loads(table.read_text())["rows"]
    assert len(rows) == 2
    for row in rows:
        assert row["full rate"] > 0.85 and row["frames"] > row["oasis alone"]
        assert 0.4 < row["decay"] < 1.2
    assert "median of frames" in done.stdout and figure.read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_recordings_is_an_error_that_says_so(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path))
    assert done.returncode != 0 and "name the folder of the ground truth with --data" in done.stderr


@pytest.mark.realdata
def test_recorded_spikes_are_found_with_one_set_of_settings(realdata: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    done = run("--data", str(realdata / "spike_ground_truth"), "--json", str(table))
    assert done.returncode == 0, done.stderr
    rows = json.loads(table.read_text())["rows"]
    assert len(rows) == 10
    middle = {name: sorted(row[name] for row in rows)[5] for name in ("frames", "full rate")}
    assert middle["full rate"] > 0.75 and middle["frames"] > 0.6
    slow = [row["decay"] for row in rows if row["indicator"] == "GCaMP6s"]
    fast = [row["decay"] for row in rows if row["indicator"] == "jGCaMP8f"]
    assert min(slow) > max(fast)
