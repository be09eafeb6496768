"""The small versions of the benchmarks of accuracy: they run, and more training comes closer to the truth."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def rows_of(tmp_path, script, *words):
    files = ["--json", tmp_path / "table.json"]
    subprocess.run([sys.executable, BENCHMARKS / script, *words, *files], check=True, capture_output=True)
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["machine"]["processor"]
    return content["rows"]


def test_time_to_quality_rises_with_time(tmp_path):
    brief, longer = rows_of(tmp_path, "time_to_quality.py", "--small", "--figure", tmp_path / "time.png")
    assert (brief["epochs"], longer["epochs"]) == (1, 4)
    assert longer["R2"] > brief["R2"] + 0.1
    assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")


def test_accuracy_of_an_ensemble_and_its_intervals(tmp_path):
    (row,) = rows_of(tmp_path, "accuracy.py", "--small", "--members", "2", "--figure", tmp_path / "accuracy.png")
    assert row["R2"] > 0.1
    assert row["R2 of 2"] > row["R2"] - 0.02
    assert 0.2 < row["in 50%"] < row["in 80%"] < row["in 90%"] < row["in 95%"] <= 1
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_cosmoothing_of_real_segments_is_better_than_their_mean(tmp_path, realdata):
    file = realdata / "nlb" / "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
    (row,) = rows_of(tmp_path, "cosmoothing.py", file, "--small", "--set", "train.epochs=15")
    assert row["bits/spike"] > 0
