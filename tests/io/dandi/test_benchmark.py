"""A set of the Neural Latents Benchmark, fetched by its name."""

import json

import pytest

from nwb_sbtt.nlb.definitions import DEFINITIONS
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set
from tests.support.commands import call, tree

NAME = "area2_bump"
NUMBER, VERSION = DEFINITIONS[NAME].dandiset.split("/")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    drawn = simulate_set(SetSettings(NAME, train=6, val=4, test=3, units=4))
    return write_set(drawn, tmp_path_factory.mktemp("set"))


@pytest.fixture
def published(archive, files):
    """The version that the definition names; a later draft holds something else."""
    for file in files:
        archive.add(NUMBER, f"sub-Han/{file.name}", file.read_bytes())
    archive.publish(NUMBER, VERSION)
    archive.add(NUMBER, "sub-Han/sub-Han_ses-later_desc-train_ecephys.nwb", b"a draft")
    return archive


def test_the_files_that_a_phase_needs_are_fetched_once_and_prepared(published, files, tmp_path, monkeypatch, capsys):
    words = ("nlb", "prepare", NAME, "--bin-width", "0.02", "--folder", tmp_path / "nlb", "--json")
    assert call(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out)["inputs"]["train_spikes_heldin"] == [6, 30, 3]
    assert [name for name in tree(tmp_path / "nlb") if name.endswith(".nwb")] == [f"{NUMBER}/sub-Han/{files[0].name}"]
    assert call(monkeypatch, *words, "--phase", "test") == 0
    output = json.loads(capsys.readouterr().out)
    assert output["inputs"]["eval_spikes_heldin"] == [3, 30, 3]
    assert output["inputs"]["train_spikes_heldout"] == [10, 30, 1]
    fetched = [name for name in tree(tmp_path / "nlb") if name.endswith(".nwb")]
    assert fetched == sorted(f"{NUMBER}/sub-Han/{file.name}" for file in files)
    assert published.sent() == sum(file.stat().st_size for file in files)


def test_without_an_archive_the_error_says_how_to_go_on(monkeypatch, tmp_path, capsys, waits):
    words = ("nlb", "prepare", NAME, "--folder", tmp_path)
    assert call(monkeypatch, *words) == 2
    output = capsys.readouterr().err
    assert f"cannot download {NAME} (DANDI:{NUMBER}/{VERSION})" in output
    assert f"nwb-sbtt nlb prepare {NAME} FILE…" in output
    earlier = tmp_path / NUMBER / "sub-Han" / "sub-Han_desc-train_behavior+ecephys.nwb"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"fetched before")
    assert call(monkeypatch, *words) == 2
    assert f"nwb-sbtt nlb prepare {NAME} {earlier}" in capsys.readouterr().err
