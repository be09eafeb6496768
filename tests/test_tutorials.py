"""Notebooks in `tutorials/` are the guides of the documentation, which runs all of them but the one that needs an archive."""

import json
from pathlib import Path

import pytest

from tests.support.dandi.archive import Archive
from tests.support.processes import Ended, script

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))
NLB = "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
UPLOADED = "sub-Jenkins/sub-Jenkins_ses-small_desc-sbtt_ecephys.nwb"


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def run(name: str, folder: Path, **environment: str) -> Ended:
    """Run the code of a tutorial in the folder, with its small settings."""
    (path,) = (each for each in TUTORIALS if each.stem == name)
    code = [cell["metadata"].get("small", cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]
    page = folder / "page.py"
    page.write_text("\n".join("".join(lines) for lines in code))
    ended = script(page, cwd=folder, environment=environment)
    assert ended.code == 0, ended.err
    return ended


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
        ended = run("06_dandi", tmp_path, **of_the_archive)
        (stored,) = archive.dandisets["000999"].versions["draft"].assets.values()
    assert "training ended: all 1 epochs finished" in ended.out
    assert f"derived from DANDI:000140/0.220113.0408, sub-Jenkins/{NLB}" in ended.out
    assert "to do: set subject.age" in ended.out
    assert "the same bytes: True" in ended.out
    assert stored.path == UPLOADED
    assert stored.blob.content == (tmp_path / "dandi" / "latents.nwb").read_bytes()
    assert archive.token not in ended.out + ended.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert [path for path in written if archive.token.encode() in path.read_bytes()] == []
    assert any(archive.token in str(each.headers) for each in archive.requests)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_every_tutorial_explains_its_cells_and_is_kept_without_outputs(path):
    kinds = [cell["cell_type"] for cell in cells(path)]
    assert kinds.count("markdown") >= len(kinds) / 3
    assert "".join(cells(path)[0]["source"]).startswith("# ")
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "small" in code[0]["metadata"]
