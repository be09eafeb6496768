"""An array that HDF5 cannot decompress is named with its filter and what to install; all else of its file is read."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO

from nwb_sbtt import inspect, read_nwb
from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.io.read.filters import missing_filter, missing_filter_of_file
from tests.support import nwbfiles

BLOSC, LZO = 32001, 305
"""A filter of hdf5plugin, and one that is registered but in no package."""


@pytest.fixture
def two_series(tmp_path):
    nwbfile = nwbfiles.new_file()
    for name in ("plain", "packed"):
        nwbfiles.add_series(nwbfile, np.arange(40.0).reshape(10, 4), rate=10.0, name=name)
    path = nwbfiles.write(nwbfile, tmp_path / "two.nwb")
    nwbfiles.compress(path, "acquisition/packed/data", filter_number=LZO)
    return path


def test_an_array_behind_a_filter_that_is_missing_is_named_and_the_others_are_read(two_series):
    plain, packed = (
        {series.path: series for series in inspect(two_series)}[f"acquisition/{name}"] for name in ("plain", "packed")
    )
    assert plain.observed == 1.0
    assert "'acquisition/packed/data': it is compressed with the HDF5 filter" in packed.notes[0]
    assert "(number 305), which is not installed" in packed.notes[0]
    assert read_nwb(two_series, series="acquisition/plain", bin_width=0.1)["observed"].values.all()
    with pytest.raises(DataError, match=r"cannot read 'acquisition/packed/data': .* \(number 305\)"):
        read_nwb(two_series, series="acquisition/packed", bin_width=0.1)


def test_a_filter_of_hdf5plugin_comes_with_its_name_and_package(two_series, monkeypatch):
    nwbfiles.compress(two_series, "acquisition/plain/data", filter_number=BLOSC)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number != BLOSC)
    with h5py.File(two_series, "r") as file:
        reason = missing_filter(file["acquisition/plain/data"])
    assert reason == (
        "it is compressed with the HDF5 filter Blosc (number 32001), which is not installed: pip install hdf5plugin"
    )
    assert missing_filter_of_file(two_series) == f"of 'acquisition/plain/data', {reason}"


def test_a_column_behind_a_filter_that_is_missing_is_no_damage(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [0.3]])
    path = nwbfiles.write(nwbfile, tmp_path / "units.nwb")
    nwbfiles.compress(path, "units/spike_times_index", filter_number=LZO)
    with pytest.raises(FileError, match=r"of 'units/spike_times_index', it is compressed .*which is not installed"):
        read_nwb(path)


def test_files_that_need_no_plugin_miss_none(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [0.3]])
    assert missing_filter_of_file(nwbfiles.write(nwbfile, tmp_path / "units.nwb")) is None
    assert missing_filter_of_file(tmp_path / "none.nwb") is None
    assert missing_filter(np.zeros(3)) is None


@pytest.mark.slow
def test_hdf5plugin_is_used_where_it_is_installed(tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    nwbfile = nwbfiles.new_file()
    data = np.random.default_rng(0).normal(size=(100, 4)).astype("f4")
    nwbfiles.add_series(
        nwbfile, H5DataIO(data, chunks=(50, 4), allow_plugin_filters=True, **hdf5plugin.Blosc()), rate=10.0
    )
    path = nwbfiles.write(nwbfile, tmp_path / "blosc.nwb")
    program = (
        "import sys; from nwb_sbtt import Window, read_nwb\n"
        "print(read_nwb(sys.argv[1], series='*', bin_width=0.1, trials=Window(start=0, stop=10))['values'].values.sum())"
    )
    # The plug-in is registered in this process already; another one finds it by itself.
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(float(data.sum()), rel=1e-5)


def test_a_codec_of_a_zarr_store_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("hdmf_zarr")
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 5, 0.1)])
    store = nwbfiles.write(nwbfile, tmp_path / "x.nwb.zarr", zarr=True)
    read_nwb(store)
    for path in (store / "units/spike_times/.zarray", store / ".zmetadata"):
        if path.exists():
            content = json.loads(path.read_text())
            array = content if path.name == ".zarray" else content["metadata"]["units/spike_times/.zarray"]
            array["compressor"] = {"id": "nosuch"}
            path.write_text(json.dumps(content))
    with pytest.raises(FileError, match=r"'units/spike_times' is compressed with the codec 'nosuch', .*numcodecs"):
        read_nwb(store)
