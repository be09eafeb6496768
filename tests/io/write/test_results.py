"""What is written is read back, whatever the channels are and however the trials lie."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO

from nwb_sbtt.data.chops import merge
from nwb_sbtt.errors import FileError, SelectionError
from nwb_sbtt.io.write.results import read_result
from tests.support import nwbfiles
from tests.support.latents import assert_same, latents_of, make_latents, write_exactly

UNITS = [("units", "units", [3, 0, 2])]
ELECTRODES = [("electrodes", "acquisition/probe", [1, 4, 2])]
SEGMENTATION = "processing/ophys/ImageSegmentation"
ROIS = [(f"{SEGMENTATION}/PlaneSegmentation", "processing/ophys/Fluorescence/RoiResponseSeries", [5, 1])]
TWO_PLANES = [
    (f"{SEGMENTATION}/upper", "processing/ophys/Fluorescence/up", [2, 0]),
    (f"{SEGMENTATION}/PlaneSegmentation", "processing/ophys/Fluorescence/RoiResponseSeries", [1]),
    (f"{SEGMENTATION}/upper", "processing/ophys/Fluorescence/up", [1]),
]
SERIES = [("acquisition/series", "acquisition/series", [0, 1])]
PARTS = {"units": UNITS, "electrodes": ELECTRODES, "rois": ROIS, "series": SERIES}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    nwbfile = nwbfiles.new_file()
    noise = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [0.3], [0.4, 5.0], [1.0]], ids=[11, 12, 7, 40])
    nwbfiles.add_electrodes(nwbfile, 6)
    nwbfiles.add_electrical(nwbfile, noise, name="probe", rate=100.0)
    nwbfiles.add_rois(nwbfile, noise, rate=10.0)
    nwbfiles.add_rois(nwbfile, noise[:, :3], name="up", plane="upper", rate=10.0)
    nwbfiles.add_series(nwbfile, noise[:, :2], rate=10.0)
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("recording") / "recording.nwb")


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("kind", list(PARTS))
def test_results_of_any_kind_come_back_as_they_were(recording, tmp_path, kind, append):
    latents = latents_of(recording, PARTS[kind], kind=kind)
    assert_same(latents, read_result(write_exactly(latents, tmp_path / "r.nwb", append=append)))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    starts=st.lists(st.integers(0, 40).map(lambda tenths: tenths / 10), min_size=1, max_size=6),
    n_bins=st.integers(1, 12),
    share=st.sampled_from([0.5, 1.1]),
)
@pytest.mark.slow
def test_trials_out_of_order_and_overlapping_come_back_as_they_were(recording, tmp_path, starts, n_bins, share):
    latents = latents_of(recording, UNITS, starts=starts, n_bins=n_bins, bin_width=0.1, share=share)
    assert_same(latents, read_result(write_exactly(latents, tmp_path / "r.nwb", overwrite=True)))


def test_channels_of_two_tables_come_back_in_their_order(recording, tmp_path):
    latents = latents_of(recording, TWO_PLANES, kind="rois")
    path = write_exactly(latents, tmp_path / "r.nwb")
    assert_same(latents, read_result(path))
    with NWBHDF5IO(path, "r") as io:
        module = io.read().processing["ophys"]
        assert module["sbtt_mean_upper"].channels.table.name == "upper"
        assert module["sbtt_mean_upper"].channels.data[:].tolist() == [2, 0, 1]
        assert module["sbtt_mean_PlaneSegmentation"].channels.data[:].tolist() == [1]


@pytest.mark.parametrize(
    "absent", [["rates_sd"], ["inputs", "inputs_sd"], ["factors", "factors_sd", "rates", "rates_sd"]]
)
def test_what_a_model_does_not_give_is_not_there_afterwards(recording, tmp_path, absent):
    latents = latents_of(recording, UNITS).drop_vars(absent)
    assert_same(latents, read_result(write_exactly(latents, tmp_path / "r.nwb")))


def test_pieces_of_a_session_come_back_merged(recording, tmp_path):
    chop = json.dumps({"by": "chop", "length": 0.8, "overlap": 0.2, "start": None, "stop": None})
    latents = latents_of(recording, UNITS, starts=[0.0, 0.6, 1.2]).assign_attrs(cut=chop)
    latents = latents.assign_coords(time=(np.arange(40) + 0.5) * 0.02).drop_vars(["trial_id", "split"])
    merged = merge(latents)
    assert merged.sizes["trial"] == 1
    path = write_exactly(latents, tmp_path / "r.nwb")
    assert_same(merged, read_result(path))
    with NWBHDF5IO(path, "r") as io:
        rates = io.read().processing["ecephys"]["sbtt_rates"]
        assert rates.timestamps is None
        assert (rates.starting_time, rates.rate) == (0.01, 50.0)


def test_where_no_piece_lies_there_is_no_estimate(recording, tmp_path):
    chop = json.dumps({"by": "chop", "length": 0.8, "overlap": 0.2, "start": None, "stop": None})
    latents = latents_of(recording, UNITS, starts=[0.0, 0.6, 3.0]).assign_attrs(cut=chop)
    latents = latents.assign_coords(time=(np.arange(40) + 0.5) * 0.02).drop_vars(["trial_id", "split"])
    merged = merge(latents)
    covered = np.flatnonzero(merged["covered"].values)
    path = write_exactly(latents, tmp_path / "r.nwb")
    assert_same(merged.isel(time=covered).drop_vars("covered"), read_result(path))
    with NWBHDF5IO(path, "r") as io:
        times = io.read().processing["ecephys"]["sbtt_rates"].timestamps[:]
    np.testing.assert_allclose(times, (covered + 0.5) * 0.02, atol=1e-12)
    assert not ((times > 1.4) & (times < 3.0)).any()


def test_any_column_of_trials_and_channels_comes_back_whatever_its_name(recording, tmp_path):
    latents = latents_of(recording, UNITS).assign_coords(
        start_time=("trial", [0.5, np.nan, 4.5]),
        order=("trial", [3, 1, 2]),
        name=("trial", ["left", "", "rechts ü"]),
        correct=("trial", [True, False, True]),
        held_out=("channel", [False, True, False]),
        sampling_offset=("channel", [0.0, 0.01, 0.02]),
        description=("channel", ["a", "b", "c"]),
        id=("channel", [9, 9, 9]),
        animal="S1",
        factor=[10, 20, 30],
    )
    read = read_result(write_exactly(latents, tmp_path / "r.nwb"))
    assert_same(latents, read)
    assert read["correct"].dtype == bool
    assert read["held_out"].dtype == bool


@pytest.mark.slow
def test_results_need_neither_the_extension_nor_this_package(recording, tmp_path):
    latents = latents_of(recording, UNITS, starts=[4.0, 0.0, 0.3])
    path = write_exactly(latents, tmp_path / "r.nwb")
    plain = """
import sys
sys.modules["ndx_sbtt"] = None
import pynwb
assert pynwb.validate(path=sys.argv[1]) == []
with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
    module = io.read().processing["ecephys"]
    rates = module["sbtt_rates"]
    assert isinstance(rates, pynwb.TimeSeries) and rates.unit == "Hz"
    assert rates.channels.table.id[:][rates.channels.data[:]].tolist() == [40, 11, 7]
    assert rates.posterior_sd.data.shape == rates.data.shape
    assert rates.model.model_type == "lfads"
    for item in module.data_interfaces.values():
        if isinstance(item, pynwb.TimeSeries):
            assert item.data[:].ndim == 2 and len(item.get_timestamps()) == len(item.data)
    n_series = sum(isinstance(item, pynwb.TimeSeries) for item in module.data_interfaces.values())
    print(len(module["sbtt_segments"].to_dataframe()), n_series)
assert "nwb_sbtt" not in sys.modules
"""
    assert _python(plain, path).split() == ["3", "14"]
    ours = """
import sys
sys.modules["ndx_sbtt"] = None
from nwb_sbtt.io.write.results import read_result
import numpy as np
np.save(sys.argv[1] + ".npy", read_result(sys.argv[1])["rates"].values)
"""
    _python(ours, path)
    np.testing.assert_array_equal(np.load(f"{path}.npy"), latents["rates"].values)


@pytest.mark.slow
def test_several_results_in_one_file_are_told_apart_by_name(recording, tmp_path):
    first = latents_of(recording, UNITS, seed=1)
    second = latents_of(recording, UNITS, seed=2)
    path = write_exactly(first, tmp_path / "r.nwb", append=True, name="first")
    write_exactly(second, path, source=path, append=True, name="first_more")
    assert_same(first, read_result(path, name="first"))
    assert_same(second, read_result(path, name="first_more"))
    with pytest.raises(SelectionError, match=r"\['first', 'first_more'\]"):
        read_result(path)
    with pytest.raises(SelectionError, match="no results named 'third'"):
        read_result(path, name="third")


def test_a_file_without_results_says_so(recording):
    with pytest.raises(SelectionError, match="has no results"):
        read_result(recording)


def test_results_with_a_part_taken_out_are_not_read_as_if_whole(recording, tmp_path):
    import h5py

    path = write_exactly(latents_of(recording, UNITS, starts=[0.0, 0.1]), tmp_path / "r.nwb")
    with h5py.File(path, "a") as file:
        del file["processing/ecephys/sbtt_rates_overlap2"]
    with pytest.raises(FileError, match="'sbtt_rates_overlap2' is missing"):
        read_result(path)


@pytest.fixture(scope="module")
def written(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "out.nwb"
    return write_exactly(latents_of(recording, UNITS, kind="units"), path, source=recording)


def _replaced(file, name, values):
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


MODULE = "processing/ecephys"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (f"{MODULE}/sbtt_segments/order", lambda stored: stored * 0, "is not a numbering from 0"),
        (f"{MODULE}/sbtt_rates/data", lambda stored: stored[:, :2], "2 columns, but there are 3 channels"),
        (f"{MODULE}/sbtt_rates/data", lambda stored: stored * np.nan, "has values that are not finite"),
        (f"{MODULE}/sbtt_rates/data", lambda stored: stored[:-1], "not .* segments of"),
        (f"{MODULE}/sbtt_model/bin_times", lambda stored: stored[::-1], "do not increase"),
    ],
)
def test_results_that_contradict_themselves_are_refused(written, tmp_path, name, change, message):
    path = tmp_path / "damaged.nwb"
    path.write_bytes(written.read_bytes())
    with h5py.File(path, "r+") as file:
        _replaced(file, name, change(file[name][()]))
    with pytest.raises(FileError, match=message):
        read_result(path)


@pytest.mark.parametrize("name", ["input_description", "bin_times"])
def test_results_without_what_is_optional_to_the_extension_are_one_clear_error(written, tmp_path, name):
    path = tmp_path / "lacking.nwb"
    path.write_bytes(written.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[f"{MODULE}/sbtt_model/{name}"]
    with pytest.raises(FileError, match=r"no 'input_description'.*read their series with pynwb|bin times are missing"):
        read_result(path)


def test_results_without_their_remarks_are_read(written, tmp_path):
    path = tmp_path / "lacking.nwb"
    path.write_bytes(written.read_bytes())
    with h5py.File(path, "r+") as file:
        for name in ("environment", "metrics", "details", "training_metrics", "sources"):
            del file[f"{MODULE}/sbtt_model/{name}"]
    model = json.loads(read_result(path).attrs["model"])
    assert model["model_type"] == "lfads" and "metrics" not in model


def test_results_of_data_that_were_never_in_a_file_come_back(tmp_path):
    latents = make_latents(kind="series")
    assert_same(latents, read_result(write_exactly(latents, tmp_path / "r.nwb")))


def _python(code: str, path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
