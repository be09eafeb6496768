import os
import subprocess
import sys
from pathlib import Path

from nwb_sbtt.fitted import load
from nwb_sbtt.io.results import read_result

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def test_the_first_tutorial_runs_from_a_recording_to_a_result_and_a_report(tmp_path):
    small = {"DIR": str(tmp_path), "EPOCHS": "2", "CONDITIONS": "6"}
    environment = {**os.environ, **{f"NWB_SBTT_TUTORIAL_{name}": value for name, value in small.items()}}
    command = [sys.executable, TUTORIALS / "01_first_fit.py"]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=200, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "training ended: all 2 epochs done" in ended.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents.nwb", "lorenz.nwb", "report.html", "run"]
    result = read_result(tmp_path / "latents.nwb")
    assert (result["rates"] > 0).all()
    assert result.sizes["channel"] == 29
    assert load(tmp_path / "run").finished == "all 2 epochs done; best at epoch 2"
    assert (tmp_path / "report.html").read_text().count("<img") > 4


def test_every_tutorial_has_text_between_its_cells():
    found = sorted(TUTORIALS.glob("*.py"))
    assert found
    for path in found:
        cells = path.read_text().split("\n# %%")
        assert cells[0].startswith("# %% [markdown]\n# # "), path.name
        assert sum(cell.startswith(" [markdown]") for cell in cells) >= len(cells) / 3, path.name
