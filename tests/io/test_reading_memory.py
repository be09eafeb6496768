"""A recording larger than the memory allowed is read within it."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "reading_memory.py"


def test_a_recording_four_times_the_limit_is_read_within_it(tmp_path):
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--small", "--json", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert [row["use"] for row in found["rows"]] == ["lfp", "power", "spikes"]
    assert found["recording"] >= 4 * 0.99 * found["limit"]
    assert len(done.stdout.splitlines()) == 5
