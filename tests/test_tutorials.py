import re
from pathlib import Path

import pytest

from nwb_sbtt.fitting.fitted import load
from nwb_sbtt.io.benchmark.tensorfile import read_tensors
from nwb_sbtt.io.write.results import read_result
from tests.support.dandi.archive import Archive
from tests.support.processes import Ended, script

TUTORIALS = Path(__file__).parents[1] / "tutorials"
NLB = "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
UPLOADED = "sub-Jenkins/sub-Jenkins_ses-small_desc-sbtt_ecephys.nwb"


def run(page: str, folder: Path, *, small: dict[str, str], **environment: str) -> Ended:
    """Run a tutorial to its end in the folder, with its own settings made small."""
    settings = {f"NWB_SBTT_TUTORIAL_{name}": value for name, value in {"DIR": str(folder), **small}.items()}
    ended = script(TUTORIALS / page, cwd=folder, environment={**settings, **environment})
    assert ended.code == 0, ended.err
    return ended


@pytest.mark.slow
def test_the_first_tutorial_runs_from_a_recording_to_a_result_and_a_report(tmp_path):
    ended = run("01_first_fit.py", tmp_path, small={"EPOCHS": "2", "CONDITIONS": "6"})
    assert "training ended: all 2 epochs done" in ended.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents.nwb", "lorenz.nwb", "report.html", "run"]
    result = read_result(tmp_path / "latents.nwb")
    assert (result["rates"] > 0).all()
    assert result.sizes["channel"] == 29
    assert load(tmp_path / "run").finished == "all 2 epochs done; best at epoch 2"
    assert (tmp_path / "report.html").read_text().count("<img") > 4


@pytest.mark.slow
def test_the_tutorial_on_dandi_goes_all_the_way_round_and_leaves_no_key_anywhere(realdata, tmp_path):
    with Archive() as archive:
        archive.add("000140", f"sub-Jenkins/{NLB}", (realdata / "nlb" / NLB).read_bytes())
        archive.publish("000140", "0.220113.0408")
        archive.create("000999", embargoed=True)
        of_the_archive = {
            **{"DANDI_INSTANCE": archive.url, f"{archive.name}_API_KEY": archive.token, "DANDI_NO_ET": "1"},
            **{"NWB_SBTT_CACHE_DIR": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"},
        }
        small = {"EPOCHS": "1", "BIN_WIDTH": "0.05", "DANDISET": "000999"}
        ended = run("02_dandi.py", tmp_path, small=small, **of_the_archive)
        (stored,) = archive.dandisets["000999"].versions["draft"].assets.values()
    assert "training ended: all 1 epochs done" in ended.out
    assert f"derived from DANDI:000140/0.220113.0408, sub-Jenkins/{NLB}" in ended.out
    assert "to do: set subject.age" in ended.out
    assert "the same bytes: True" in ended.out
    assert stored.path == UPLOADED
    assert stored.blob.content == (tmp_path / "latents.nwb").read_bytes()
    assert archive.token not in ended.out + ended.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert [path for path in written if archive.token.encode() in path.read_bytes()] == []
    assert any(archive.token in str(each.headers) for each in archive.requests)


@pytest.mark.slow
def test_the_tutorial_on_latents_runs_from_files_to_a_scored_submission(tmp_path):
    ended = run("03_neural_latents.py", tmp_path, small={"EPOCHS": "1", "SEEDS": "1"})
    assert "mc_maze_scaling_20_split  [100] co-bps" in ended.out
    assert "note: the benchmark scores mc_maze_large_20" in ended.out
    assert list(read_tensors(tmp_path / "submission.h5")) == ["mc_maze_small_20"]


@pytest.mark.slow
def test_the_tutorial_on_two_photon_imaging_runs_from_frames_to_latents_between_them(tmp_path):
    ended = run("04_two_photon.py", tmp_path, small={"CELLS": "9", "CONDITIONS": "4", "EPOCHS": "1"})
    assert "holds dF/F (its name says 'dff'); events inferred by deconvolution" in ended.out
    assert "own moments: 33% observed; samples in the first bins [3, 3, 3, 3, 3, 3]" in ended.out
    assert "frame's moment: 33% observed; samples in the first bins [9, 0, 0, 9, 0, 0]" in ended.out
    assert float(re.findall(r"R² of X: (\S+)", ended.out)[0]) > 0.5
    result = read_result(tmp_path / "latents.nwb")
    assert {"mean", "events", "denoised", "factors"} <= set(result.data_vars)
    assert result.attrs["signal"] == "events" and result.sizes["channel"] == 9
    for picture in ("trial.png", "space.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_every_tutorial_has_text_between_its_cells():
    found = sorted(TUTORIALS.glob("*.py"))
    assert found
    for path in found:
        cells = path.read_text().split("\n# %%")
        assert cells[0].startswith("# %% [markdown]\n# # "), path.name
        assert sum(cell.startswith(" [markdown]") for cell in cells) >= len(cells) / 3, path.name
