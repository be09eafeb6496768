"""Each way in which a file can be wrong has its own line; reading never changes a file; digests are those of the bytes now."""

import builtins
import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.read import files
from nwb_sbtt.io.read.files import file_sha256, forget_digests, open_nwb, sha256
from tests.support import nwbfiles

CONTENT = b"spikes" * 1000


@pytest.fixture
def small(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [0.3]])
    return nwbfiles.write(nwbfile, tmp_path / "small.nwb")


def refusal(path):
    with pytest.raises(FileError) as caught, open_nwb(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_opens_and_closes_and_stays_as_it_was(small):
    before = (sha256(small), small.stat().st_mtime_ns)
    with open_nwb(str(small)) as nwbfile:
        times = nwbfile.units.spike_times.data
        assert times[:].tolist() == [0.1, 0.2, 0.3]
    assert not times.id.valid
    assert (sha256(small), small.stat().st_mtime_ns) == before


def test_a_missing_file_is_named(tmp_path):
    assert "there is no file" in refusal(tmp_path / "no.nwb")


def test_a_text_and_an_empty_file_are_not_hdf5(tmp_path):
    (tmp_path / "text.nwb").write_text("spikes\n")
    (tmp_path / "empty.nwb").touch()
    assert "is not an HDF5 file" in refusal(tmp_path / "text.nwb")
    assert "it is empty" in refusal(tmp_path / "empty.nwb")


def test_hdf5_without_an_nwb_version_is_not_nwb(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    assert "is not an NWB file" in refusal(tmp_path / "other.h5")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.999])
def test_a_truncated_file_is_called_damaged(small, share):
    content = small.read_bytes()
    small.write_bytes(content[: int(len(content) * share)])
    assert "damaged, incomplete" in refusal(small)


def test_nwb_1_is_refused_by_its_version(tmp_path):
    with h5py.File(tmp_path / "old.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.6"
    assert "NWB version NWB-1.0.6; expected 2.0 or later" in refusal(tmp_path / "old.nwb")


@pytest.mark.parametrize(
    ("version", "is_read"), [("10.0.1", True), ("2.11.0", True), ("0.8", False), ("NWB-1.0.6", False)]
)
def test_versions_are_compared_as_numbers(small, version, is_read):
    with h5py.File(small, "a") as file:
        file.attrs["nwb_version"] = version
    if is_read:
        with open_nwb(small) as nwbfile:
            assert len(nwbfile.units) == 2
    else:
        assert f"NWB version {version}; expected 2.0 or later" in refusal(small)


def test_a_version_that_is_no_number_is_refused(small):
    with h5py.File(small, "a") as file:
        file.attrs["nwb_version"] = "latest"
    assert "states the NWB version 'latest'; expected numbers" in refusal(small)


def test_a_file_that_breaks_the_schema_says_so(small):
    with h5py.File(small, "a") as file:
        del file["session_start_time"]
    assert "does not follow the NWB schema" in refusal(small)


def test_the_part_that_breaks_the_schema_is_named(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.arange(4.0), rate=1.0)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        del file["acquisition/series/starting_time"]
    assert "Could not construct TimeSeries object" in refusal(path)


@pytest.mark.parametrize("removed", [False, True])
def test_a_reference_that_leads_nowhere_is_named(removed, tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwbfile, 2)
    nwbfiles.add_electrical(nwbfile, np.zeros((4, 2)), rate=1.0)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        region = file["acquisition/ElectricalSeries/electrodes"]
        if removed:
            del file["general/extracellular_ephys/electrodes"]
        else:
            region.attrs["table"] = h5py.Reference()
    assert (
        "attribute 'table' of 'acquisition/ElectricalSeries/electrodes' refers to an object that is not in the file"
        in refusal(path)
    )


def test_a_folder_that_is_no_zarr_store_is_refused(tmp_path):
    assert "not a Zarr store" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_refused(small):
    small.chmod(0)
    assert "no permission" in refusal(small)


def test_a_refusal_of_the_system_is_passed_on(small, monkeypatch):
    def refuse(self, *_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "no permission" in refusal(small)


def test_a_zarr_store_without_its_reader_names_the_extra_to_install(tmp_path, monkeypatch):
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    real = builtins.__import__

    def without_zarr(name, *args, **kwargs):
        if name.startswith("hdmf_zarr"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_zarr)
    assert 'pip install "nwb_sbtt[zarr]"' in refusal(tmp_path)


def test_a_damaged_piece_of_data_is_reported_when_it_is_read(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.random.default_rng(0).normal(size=(4000, 4)), rate=10.0)
    path = nwbfiles.write(nwbfile, tmp_path / "damaged.nwb")
    with h5py.File(path, "a") as file:
        data = file["acquisition/series/data"][:]
        attributes = dict(file["acquisition/series/data"].attrs)
        del file["acquisition/series/data"]
        stored = file["acquisition/series"].create_dataset("data", data=data, chunks=(1000, 4), compression="gzip")
        stored.attrs.update(attributes)
        address = stored.id.get_chunk_info(2).byte_offset
    with path.open("r+b") as file:
        file.seek(address)
        file.write(b"\xff" * 200)
    with pytest.raises(FileError, match="damaged"), open_nwb(path) as nwbfile:
        nwbfile.acquisition["series"].data[:]


def test_the_checksum_is_that_of_the_bytes_and_of_a_folder_that_of_its_files(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    folder = tmp_path / "store"
    (folder / "x").mkdir(parents=True)
    (folder / "x" / "0").write_bytes(b"abc")
    first = sha256(folder)
    (folder / "x" / "0").rename(folder / "x" / "1")
    assert sha256(folder) != first
    with pytest.raises(FileError):
        sha256(tmp_path / "missing")


def test_known_namespaces_in_a_file_are_no_reason_to_warn(small):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with open_nwb(small):
            pass


@pytest.mark.slow
def test_our_types_are_read_where_the_extension_cannot_be_imported(tmp_path):
    from ndx_sbtt import LatentFactorSeries

    for zarr in (False, True):
        nwbfile = nwbfiles.new_file()
        nwbfiles.add_units(nwbfile, [[0.1, 0.2]])
        nwbfile.create_processing_module(name="results", description="generated").add(
            LatentFactorSeries(name="z", data=np.zeros((5, 2), dtype="f4"), unit="a.u.", rate=10.0, kind="factors")
        )
        path = nwbfiles.write(nwbfile, tmp_path / f"results{zarr}.nwb", zarr=zarr)
        program = (
            "import sys; sys.modules['ndx_sbtt'] = None\n"
            "from nwb_sbtt import inspect\n"
            f"print([(c.path, c.type, c.default) for c in inspect({str(path)!r})])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        expected = [("processing/results/z", "LatentFactorSeries", False), ("units", "Units", True)]
        assert done.stdout.strip() == str(expected)


def test_a_series_in_a_module_is_a_time_series(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.arange(4.0), rate=1.0, module="behavior")
    with open_nwb(nwbfiles.write(nwbfile, tmp_path / "x.nwb.zarr", zarr=True)) as read:
        assert isinstance(read.processing["behavior"]["series"], TimeSeries)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file whose digest is worth remembering, changed long enough ago."""
    forget_digests()
    monkeypatch.setattr(files, "SMALLEST_REMEMBERED", 100)
    monkeypatch.setattr(files, "SETTLED", -1.0)
    path = tmp_path / "file.nwb"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def digests_computed(monkeypatch):
    """How often a digest was taken."""
    calls = []

    def digest(file, name):
        calls.append(name)
        return whole(file, name)

    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", digest)
    return calls


def sha256_of_bytes(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_digest_is_taken_once(file, digests_computed):
    assert [file_sha256(file) for _ in range(3)] == [sha256_of_bytes(file)] * 3
    assert len(digests_computed) == 1


def test_a_change_that_hides_behind_size_and_time_is_found(file):
    before, first = file.stat(), file_sha256(file)
    with file.open("r+b") as opened:
        opened.write(b"S")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # until the clock of a coarse system ticks
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file_sha256(file) == sha256_of_bytes(file) != first


def test_another_file_put_in_the_place_is_found(file, tmp_path):
    first = file_sha256(file)
    other = tmp_path / "other"
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert file_sha256(file) == sha256_of_bytes(file) != first


def test_a_file_that_changed_just_now_is_not_remembered(file, digests_computed, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", 60.0)
    assert [file_sha256(file) for _ in range(2)] == [sha256_of_bytes(file)] * 2
    assert len(digests_computed) == 2


def test_a_file_that_changes_meanwhile_is_not_remembered(file, monkeypatch):
    whole = hashlib.file_digest

    def digest(opened, name):
        result = whole(opened, name)
        file.write_bytes(CONTENT + b"more")
        return result

    monkeypatch.setattr(hashlib, "file_digest", digest)
    file_sha256(file)
    monkeypatch.setattr(hashlib, "file_digest", whole)
    assert file_sha256(file) == sha256_of_bytes(file)


def test_those_of_small_files_are_taken_each_time(file, digests_computed, monkeypatch):
    monkeypatch.setattr(files, "SMALLEST_REMEMBERED", len(CONTENT) + 1)
    assert [file_sha256(file) for _ in range(2)] == [sha256_of_bytes(file)] * 2
    assert len(digests_computed) == 2


def test_a_file_that_is_gone_has_no_digest(file):
    file_sha256(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        file_sha256(file)
