"""Files read where they lie: the same bytes and the same answers, with few requests."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries

from nwb_sbtt import inspect, read_nwb, write_nwb
from nwb_sbtt.errors import ArchiveError, ConfigError, FileError
from nwb_sbtt.io.dandi import locations, stream, transfer
from nwb_sbtt.io.dandi.stream import RangeFile
from nwb_sbtt.io.dandi.transfer import find_remote_file
from tests.support.commands import call
from tests.support.dandi import PATH, VERSION
from tests.support.latents import latents_of
from tests.support.nwbfiles import add_units, new_file, write

ADDRESS = f"DANDI:000140/{PATH}"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Twenty megabytes, of which the units are a few kilobytes, written last."""
    nwbfile = new_file()
    noise = np.random.default_rng(0).integers(-999, 999, (100_000, 100), dtype=np.int16)
    nwbfile.add_acquisition(TimeSeries(name="raw", data=noise, unit="volts", rate=1000.0))
    add_units(nwbfile, [np.sort(np.random.default_rng(i).uniform(0, 10, 50)) for i in range(3)])
    return write(nwbfile, tmp_path_factory.mktemp("large") / "large.nwb")


@pytest.fixture
def served(archive, large):
    archive.add("000140", PATH, large.read_bytes())
    archive.publish("000140", VERSION)
    return archive


def test_a_range_file_reads_as_the_file_does(served, large):
    rng = np.random.default_rng(0)
    content = large.read_bytes()
    file = RangeFile(find_remote_file(ADDRESS))
    for _ in range(200):
        start = int(rng.integers(0, len(content) + 10))
        n = int(rng.choice([1, 100, stream.BLOCK_BYTES, 3 * stream.BLOCK_BYTES]))
        file.seek(start)
        assert file.read(n) == content[start : start + n]
    assert file.seek(-5, 2) == len(content) - 5
    assert file.read() == content[-5:]
    assert file.seek(2, 0) == 2 and file.seek(3, 1) == 5


def test_blocks_are_kept_up_to_a_number_and_reading_on_reads_ahead(served, monkeypatch):
    monkeypatch.setattr(stream, "MAX_BLOCKS", 8)
    file = RangeFile(find_remote_file(ADDRESS))
    size = file.remote.asset.size
    for start in range(0, size, 10_000):
        file.seek(start)
        file.read(10_000)
    assert served.count("storage GET") < size / stream.BLOCK_BYTES / 6
    assert len(file._blocks) <= 8 + stream.MAX_AHEAD
    assert served.sent() == size


def test_a_file_is_listed_with_a_handful_of_requests_as_if_it_were_here(served, large, monkeypatch, capsys):
    assert replace(inspect(ADDRESS), name="") == replace(inspect(large), name="")
    assert served.count("storage GET") <= 5
    assert served.sent() < 0.3 * large.stat().st_size
    assert call(monkeypatch, "inspect", ADDRESS) == 0
    assert capsys.readouterr().out.startswith(f"DANDI:000140/{VERSION}/{PATH}: series that can be fitted")


def test_little_of_a_large_file_is_streamed_and_named_by_the_archives_digest(served, large, monkeypatch):
    monkeypatch.setattr(locations, "MIN_STREAMED_SIZE", 1_000_000)
    streamed, here = read_nwb(ADDRESS, series="units"), read_nwb(large, series="units")
    np.testing.assert_array_equal(streamed["values"], here["values"])
    assert served.sent() < 0.4 * large.stat().st_size
    there, local = json.loads(streamed.attrs["source"]), json.loads(here.attrs["source"])
    assert there["path"] == f"DANDI:000140/{VERSION}/{PATH}"
    assert (there["sha256"], there["object_id"], there["dandiset"]) == (local["sha256"], local["object_id"], "000140")
    assert any("without a check of their digest" in note for note in json.loads(streamed.attrs["notes"]))


def test_much_of_a_file_is_fetched_checked_and_kept(served, large, tmp_path):
    ds = read_nwb(ADDRESS, series="acquisition/raw", bin_width=0.1)
    source = json.loads(ds.attrs["source"])
    assert source["path"].startswith(str(tmp_path / "cache"))
    assert source["version"] == VERSION
    served.requests.clear()
    read_nwb(ADDRESS, series="units")
    assert served.count("storage") == 0


def test_a_fresh_draft_without_a_sha256_is_fetched(served, large, monkeypatch):
    monkeypatch.setattr(locations, "MIN_STREAMED_SIZE", 1_000_000)
    served.digests_sha256 = False
    served.blobs.clear()
    served.add("000200", PATH, large.read_bytes())
    ds = read_nwb(f"DANDI:000200/draft/{PATH}", series="units")
    assert "cache" in json.loads(ds.attrs["source"])["path"]


def test_results_of_streamed_data_are_written_beside_a_source_that_is_then_fetched(served, large, tmp_path):
    latents = latents_of(large, [("units", "units", [0, 1])])
    source = json.loads(latents.attrs["source"])
    source |= {"path": f"DANDI:000140/{VERSION}/{PATH}", "version": VERSION, "asset_path": PATH, "archive": served.url}
    write_nwb(latents.assign_attrs(source=json.dumps(source)), tmp_path / "latents.nwb")
    with h5py.File(tmp_path / "latents.nwb") as file:
        assert len(file["units/id"]) == 3


def test_a_link_that_expires_while_a_file_is_open_is_renewed(served, large):
    content = large.read_bytes()
    file = RangeFile(find_remote_file(ADDRESS))
    file.read(10)
    served.expire_links()
    file.seek(10_000_000)
    assert file.read(10) == content[10_000_000:10_000_010]


def test_what_goes_wrong_on_the_way_is_lived_through(served, large):
    served.cut(0.3)
    served.fail(500, times=5, on="storage GET")
    served.fail(429, on="storage GET", retry_after=1)
    assert replace(inspect(ADDRESS), name="") == replace(inspect(large), name="")


@pytest.mark.parametrize("after", [0, 2, 4, 8])
def test_bytes_that_do_not_come_are_the_error_and_not_what_they_led_to(served, after, monkeypatch):
    monkeypatch.setattr(stream, "FIRST_AHEAD", 1)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1 << 12)
    served.fail(500, times=1000, on="storage GET")
    served.faults[-1].skip = after
    with pytest.raises(ArchiveError, match=f"500 .*{transfer.ATTEMPTS} times in a row"):
        inspect(ADDRESS)


def test_a_file_of_an_archive_that_is_no_nwb_file_is_one_line(archive):
    archive.add("000140", PATH, b"no HDF5 at all")
    archive.publish("000140", VERSION)
    with pytest.raises(FileError, match=f"cannot read 'DANDI:000140/{VERSION}/{PATH}'"):
        inspect(ADDRESS)


def test_an_address_of_several_files_names_them(served):
    served.add("000300", "a.nwb", b"a")
    served.add("000300", "b.nwb", b"b")
    with pytest.raises(ConfigError, match=r"names 2 files; choose one of them: 'DANDI:000300/draft/a.nwb', "):
        read_nwb("DANDI:000300/draft")
