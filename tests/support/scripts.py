"""Benchmarks are run as a reader would run them, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *words):
    """Run a script to its end with one thread, whatever that may be."""
    command = [sys.executable, BENCHMARKS / script, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)


def rows_of(folder, script, *words, drawn=True):
    """Rows of a script's table, which names its machine, and has a picture where there is one to draw."""
    table, picture = folder / "table.json", folder / "picture.png"
    done = run(script, *words, "--json", table, *(["--figure", picture] if drawn else []))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(table.read_text())
    assert content["machine"]["processor"]
    assert picture.exists() == drawn and (not drawn or picture.read_bytes().startswith(b"\x89PNG"))
    return content["rows"]
