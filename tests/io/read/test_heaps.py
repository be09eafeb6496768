"""Zeros over the texts of an HDF5 file, which HDF5 would read for ever, are noticed before it is opened."""

import h5py
import pytest

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.benchmark.tensorfile import read_about
from nwb_sbtt.io.read import heaps
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.heaps import check_heaps


@pytest.fixture
def file(tmp_path):
    """A file with a text attribute, and where the collection of texts and its second object begin."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as stored:
        stored.attrs["nwb_version"] = "2.9.0"
        stored.attrs["nwb_sbtt"] = "{}"
    collection = path.read_bytes().index(b"GCOL")
    return path, collection, path.read_bytes().index(b"{}", collection) - 16


def _zero(path, start, stop):
    content = bytearray(path.read_bytes())
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)


def test_a_whole_file_is_left_alone(file):
    check_heaps(file[0])
    assert read_about(file[0]) == {}


def test_zeros_over_an_object_are_refused_wherever_a_file_is_opened(file):
    path, _, second = file
    _zero(path, second, second + 24)
    for read in (check_heaps, read_about, lambda path: open_nwb(path).__enter__()):
        with pytest.raises(FileError, match="its texts are overwritten with zeros"):
            read(path)


def test_a_collection_that_nothing_refers_to_does_no_harm(file):
    """Such as one that was freed, and partly used again."""
    path, collection, second = file
    content = path.read_bytes().replace(collection.to_bytes(8, "little"), b"\xff" * 8)
    path.write_bytes(content)
    _zero(path, second, second + 24)
    check_heaps(path)


def test_the_middle_of_a_large_file_is_not_searched(file, monkeypatch):
    path, collection, second = file
    _zero(path, second, second + 24)
    monkeypatch.setattr(heaps, "SEARCHED", collection)
    path.write_bytes(path.read_bytes() + bytes(2 * collection))
    check_heaps(path)


def test_an_empty_file_has_no_texts(tmp_path):
    (tmp_path / "a.h5").touch()
    check_heaps(tmp_path / "a.h5")
