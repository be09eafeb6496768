import os
import subprocess
import sys
from pathlib import Path

from nwb_sbtt.io.tensorfile import read_tensors

TUTORIAL = Path(__file__).parents[2] / "tutorials" / "03_neural_latents.py"


def test_the_tutorial_runs_from_files_to_a_scored_submission(tmp_path):
    small = {"DIR": str(tmp_path), "EPOCHS": "1", "SEEDS": "1"}
    environment = {**os.environ, **{f"NWB_SBTT_TUTORIAL_{name}": value for name, value in small.items()}}
    ended = subprocess.run(
        [sys.executable, TUTORIAL],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "mc_maze_scaling_20_split  [100] co-bps" in ended.stdout
    assert "note: the benchmark scores mc_maze_large_20" in ended.stdout
    assert list(read_tensors(tmp_path / "submission.h5")) == ["mc_maze_small_20"]
