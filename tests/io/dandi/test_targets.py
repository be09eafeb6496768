import pytest

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.dandi import download, targets
from nwb_sbtt.io.dandi.targets import check_compatible, target_path
from tests.support.commands import tree

UNSAFE = [
    "../outside.nwb",
    "sub-1/../../outside.nwb",
    "/etc/outside.nwb",
    "sub-1//x.nwb",
    "sub-1/./x.nwb",
    "sub-1/..",
    "",
    "sub-1/a\\..\\..\\x.nwb",
    "sub-1/x\0.nwb",
    "sub-1/x\n.nwb",
    "sub-1/" + "ä" * 120 + ".nwb",
]


@pytest.mark.parametrize("path", UNSAFE)
def test_a_path_that_is_no_file_below_the_folder_is_refused_and_nothing_is_written(archive, tmp_path, path):
    archive.add("000140", path, b"x")
    archive.publish("000140", "0.1.0")
    folder = tmp_path / "to" / "here"
    with pytest.raises(FileError, match="cannot be a file on this disk"):
        download("000140", folder)
    assert archive.count("storage") == 0
    assert tree(tmp_path) == []


def test_a_link_that_leads_out_of_the_folder_is_refused(archive, tmp_path):
    archive.add("000140", "sub-1/x.nwb", b"x")
    archive.publish("000140", "0.1.0")
    outside, folder = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    (folder / "000140").mkdir(parents=True)
    (folder / "000140" / "sub-1").symlink_to(outside)
    with pytest.raises(FileError, match="a symbolic link"):
        download("000140", folder)
    assert tree(outside) == []


def test_a_link_under_the_very_name_is_replaced_and_what_it_points_at_is_left_alone(archive, tmp_path):
    archive.add("000140", "sub-1/x.nwb", b"new")
    archive.publish("000140", "0.1.0")
    (tmp_path / "secret").write_bytes(b"old")
    place = tmp_path / "000140" / "sub-1"
    place.mkdir(parents=True)
    (place / "x.nwb").symlink_to(tmp_path / "secret")
    download("000140", tmp_path, existing="overwrite")
    assert (tmp_path / "secret").read_bytes() == b"old"
    assert (place / "x.nwb").read_bytes() == b"new"
    assert not (place / "x.nwb").is_symlink()


def test_ordinary_paths_lie_below_the_folder(tmp_path):
    for path in ("x.nwb", "sub-1/x.nwb", "sub-ü/a b+c_desc-x.nwb", "sub-1/..x.nwb"):
        assert target_path(tmp_path, path) == tmp_path / path


def test_paths_that_cannot_be_there_together_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="both a file and the folder of 'a/b'"):
        check_compatible(["a", "a/b"], tmp_path)
    check_compatible(["sub-A/x", "sub-a/x"], tmp_path)
    monkeypatch.setattr(targets, "_ignores_case", lambda folder: True)
    with pytest.raises(FileError, match="have the same name on this"):
        check_compatible(["sub-A/x", "sub-a/x"], tmp_path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "x.nwb").mkdir()
    with pytest.raises(FileError, match="is a folder"):
        target_path(tmp_path, "x.nwb")
