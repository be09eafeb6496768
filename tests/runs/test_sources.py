"""Recordings that are fitted one by one, and what they are called."""

from pathlib import Path

import pytest

from nwb_sbtt.errors import ConfigError, FileError, SelectionError
from nwb_sbtt.io.dandi.address import Address
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.metadata import metadata_value
from nwb_sbtt.runs import sources
from nwb_sbtt.runs.sources import find_sources, grouped, safe_name
from tests.support import nwbfiles


@pytest.fixture
def folder(tmp_path):
    """Files in folders, a Zarr store, hidden ones, and the folder of results."""
    for name in (
        "b.nwb",
        "sub-1/a.nwb",
        "sub-2/a.nwb",
        "sub-2/.a.nwb.partial",
        "notes.txt",
        ".old/a.nwb",
        "fits/results/a.nwb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub-1" / "z.nwb.zarr").mkdir()
    (tmp_path / "sub-1" / "z.nwb.zarr" / "inner.nwb").write_bytes(b"")
    return tmp_path


def names(found):
    return [source.name for source in found]


def test_a_folder_gives_its_files_by_their_paths_without_results_and_hidden_ones(folder):
    found = find_sources([folder], but=folder / "fits")
    assert names(found) == ["b", "sub-1/a", "sub-1/z", "sub-2/a"]
    assert [source.file_name for source in found] == ["b.nwb", "a.nwb", "z.nwb.zarr", "a.nwb"]
    assert found[1].place == folder / "sub-1" / "a.nwb" and found[1].fetch() == found[1].place


def test_a_pattern_matches_paths_in_the_folder(folder):
    assert names(find_sources([folder], glob="sub-*a.nwb")) == ["sub-1/a", "sub-2/a"]
    with pytest.raises(SelectionError, match=r"no file that matches 'x\*'; it has 5 NWB files"):
        find_sources([folder], glob="x*")
    with pytest.raises(ConfigError, match="applies only to folders and dandisets"):
        find_sources([folder / "b.nwb"], glob="*")


def test_files_keep_the_paths_that_were_given(folder, monkeypatch):
    monkeypatch.chdir(folder / "sub-1")
    assert names(find_sources(["a.nwb", "../sub-2/a.nwb", "./../b.nwb"])) == ["a", "sub-2/a", "b"]
    assert names(find_sources([folder / "b.nwb"])) == [str(folder / "b").lstrip("/")]


def test_a_recording_that_is_named_twice_is_fitted_once(folder):
    (folder / "c.nwb").symlink_to(folder / "b.nwb")
    assert names(find_sources([folder, folder / "b.nwb"], but=folder / "fits")) == [
        "b",
        "sub-1/a",
        "sub-1/z",
        "sub-2/a",
    ]


def test_two_recordings_of_one_name_are_refused(folder):
    with pytest.raises(FileError, match=r"would both be named 'a'; pass a folder that contains"):
        find_sources([folder / "sub-1", folder / "sub-2"])
    (folder / "b").mkdir()
    (folder / "b" / "c.nwb").write_bytes(b"")
    with pytest.raises(FileError, match=r"'b' and 'b/c' cannot both be run folders"):
        find_sources([folder])


def test_what_is_not_there_or_holds_no_recording_is_refused(folder):
    with pytest.raises(FileError, match="there is no file"):
        find_sources([folder / "gone.nwb"])
    (folder / "empty").mkdir()
    with pytest.raises(SelectionError, match=r"has no file that ends in \.nwb"):
        find_sources([folder / "empty"])


def test_a_dandiset_gives_its_recordings_with_their_digests(monkeypatch):
    listed = [
        sources_asset(path, sha256=digest) for path, digest in (("sub-A/a.nwb", "0" * 64), ("sub-A/film.mp4", None))
    ]
    monkeypatch.setattr(sources, "find_assets", lambda address: Listed(address, listed))
    (found,) = find_sources(["DANDI:000140/0.1.2"], glob="*.nwb")
    assert (found.name, found.file_name, found.sha256) == ("000140/sub-A/a", "a.nwb", "0" * 64)
    assert found.place == Address("http://archive/api", "000140", "0.1.2", "sub-A/a.nwb")
    monkeypatch.setattr(sources, "find_assets", lambda address: Listed(address, listed[1:]))
    with pytest.raises(SelectionError, match="no NWB file among its 1 matching files"):
        find_sources(["DANDI:000140"])


def sources_asset(path, *, sha256):
    from nwb_sbtt.io.dandi.assets import Asset

    return Asset("http://archive/api", "000140", "0.1.2", "id", path, 1, sha256=sha256)


class Listed:
    def __init__(self, address, assets):
        self.assets = assets


def test_recordings_are_grouped_by_a_value_that_can_be_a_folder():
    one, two, three = (sources.Recording(name, Path(f"{name}.nwb")) for name in "abc")
    assert grouped([(one, "x/1"), (two, "y"), (three, "x/1")]) == {"x_1": [one, three], "y": [two]}
    with pytest.raises(FileError, match=r"the groups 'x/1' and 'x:1' would both be named 'x_1'"):
        grouped([(one, "x/1"), (two, "x:1")])
    assert safe_name("..") == "_" and safe_name("a b") == "a_b"


def test_a_value_of_the_metadata_is_read_by_its_name(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfile.lab, nwbfile.keywords = "the lab", ["a", "b"]
    nwbfiles.add_units(nwbfile, [[0.1, 0.2]])
    with open_nwb(nwbfiles.write(nwbfile, tmp_path / "file.nwb")) as stored:
        assert metadata_value(stored, "lab") == "the lab"
        assert metadata_value(stored, "keywords") == "a, b"
        assert metadata_value(stored, "subject") == "S1"
        assert metadata_value(stored, "subject.species") == "Mus musculus"
        with pytest.raises(SelectionError, match=r"no subject.strain; it has subject.age"):
            metadata_value(stored, "subject.strain")
        with pytest.raises(SelectionError, match=r"the file has no institution; it has .*lab"):
            metadata_value(stored, "institution")
        with pytest.raises(SelectionError, match=r"expected subject, subject\.FIELD or FIELD"):
            metadata_value(stored, "trials.condition")
