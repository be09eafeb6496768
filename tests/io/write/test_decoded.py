"""Decoded behaviour in result files: core types, at the times of the behaviour, and never in the recording."""

import json

import numpy as np
import pynwb
import pytest
import xarray as xr
from pynwb import NWBHDF5IO
from pynwb.behavior import SpatialSeries

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.errors import DataError, FileError, MismatchError
from nwb_sbtt.evaluate.decoding import decode
from nwb_sbtt.io.read.behaviour import attach_behaviour
from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.results import read_result
from tests.support import nwbfiles
from tests.support.latents import digest, latents_of, make_latents, write_exactly

UNITS = [("units", "units", [2, 0, 1])]
STARTS = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.1, 6, 0.3)] * 3, ids=[11, 12, 7])
    module = nwbfile.create_processing_module(name="behavior", description="recorded")
    place = np.cumsum(np.random.default_rng(0).normal(size=(600, 2)), axis=0)
    module.add(
        SpatialSeries(name="place", data=place, rate=100.0, starting_time=0.0, unit="m", reference_frame="corner")
    )
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("recording") / "recording.nwb")


@pytest.fixture(scope="module")
def latents(recording):
    return latents_of(recording, UNITS, starts=STARTS)


def decoded_of(latents, name="place", **attrs):
    shape = (*latents["factors"].shape[:2], 2)
    values = np.random.default_rng(1).normal(size=shape)
    return decode(latents, xr.DataArray(values, dims=("trial", "time", "column"), name=name, attrs=attrs))


def behaviour_in(path):
    with NWBHDF5IO(path, "r") as io:
        module = io.read().processing["behavior"]
        return {
            name: (
                each.neurodata_type,
                each.data[:],
                each.unit,
                each.description,
                getattr(each, "reference_frame", None),
            )
            for name, each in module.data_interfaces.items()
        }


def test_a_position_stays_a_position_in_the_derived_file_and_the_results_are_read_as_before(
    recording, latents, tmp_path
):
    decoded = decoded_of(latents, units="m", reference_frame="corner")
    before = digest(recording)
    path = write_exactly(latents, tmp_path / "r.nwb", decoded=decoded)
    assert digest(recording) == before and not pynwb.validate(path=str(path))
    ((name, (kind, data, unit, text, frame)),) = behaviour_in(path).items()
    assert (name, kind, unit, frame) == ("sbtt_decoded_place", "SpatialSeries", "m", "corner")
    np.testing.assert_allclose(data.reshape(6, 40, 2), decoded["decoded"].values[0], rtol=1e-5)
    assert "Each trial was decoded by a regression on other trials; NaN where nothing was decoded" in text
    written = write_exactly(latents, tmp_path / "without.nwb")
    assert read_result(path).identical(read_result(written))


def test_in_a_copy_it_lies_beside_recorded_behaviour_and_is_not_taken_for_it(recording, latents, tmp_path):
    path = write_exactly(latents, tmp_path / "a.nwb", append=True, decoded=decoded_of(latents))
    assert set(behaviour_in(path)) == {"place", "sbtt_decoded_place"}
    roles = {each.path.rpartition("/")[2]: each.role for each in inspect(path).series if "behavior" in each.path}
    assert roles == {"place": "recording", "sbtt_decoded_place": "result"}
    ds = read_nwb(path, series="units", bin_width=0.1)
    found = attach_behaviour(path, ds, ReadConfig(series=("units",), bin_width=0.1))
    assert "place" in found and "sbtt_decoded_place" not in found
    again = latents.assign_attrs(source=json.dumps({**json.loads(latents.attrs["source"]), "path": str(path)}))
    with pytest.raises(FileError, match="already holds"):
        write_exactly(again, tmp_path / "b.nwb", source=path, append=True, decoded=decoded_of(latents))


def test_chops_are_merged_and_trials_that_overlap_are_in_series_of_their_own(recording, tmp_path):
    chops = latents_of(recording, UNITS, starts=0.6 * np.arange(9))
    chopped = chops.assign_attrs(cut=json.dumps({"by": "chop", "length": 0.8, "overlap": 0.2}))
    path = write_exactly(chopped, tmp_path / "chops.nwb", decoded=decoded_of(chopped))
    ((name, (_, data, *_)),) = behaviour_in(path).items()
    assert name == "sbtt_decoded_place" and data.shape == (8 * 30 + 40, 2)
    with pytest.raises(DataError, match="too few to divide the session into 3 parts that share no bin"):
        decoded_of(chops.isel(trial=slice(6)))
    path = write_exactly(chops, tmp_path / "trials.nwb", decoded=decoded_of(chops))
    assert {name: each[1].shape for name, each in behaviour_in(path).items()} == {
        "sbtt_decoded_place": (200, 2),
        "sbtt_decoded_place_overlap2": (160, 2),
    }


def test_what_is_no_decoded_behaviour_of_these_latents_is_refused(recording, latents, tmp_path):
    decoded = decoded_of(latents)
    for wrong, error, message in [
        (latents, DataError, "expected the result of sb.decode"),
        ([decoded, decoded], DataError, "'place' was decoded 2 times"),
        (decoded.isel(trial=slice(3)), MismatchError, "decoded behaviour and latents must have the same trials"),
        ("place", DataError, "got the path 'p'"),
    ]:
        with pytest.raises(error, match=message):
            write_exactly(latents, tmp_path / "r.nwb", decoded=wrong)
    with pytest.raises(FileError, match="into which decoded behaviour is never written"):
        write_exactly(latents, recording, append=True, decoded=decoded)


def test_results_of_no_file_can_have_it_too(tmp_path):
    latents = make_latents(starts=STARTS)
    path = write_exactly(latents, tmp_path / "r.nwb", decoded=decoded_of(latents, units="cm"))
    assert behaviour_in(path)["sbtt_decoded_place"][0] == "TimeSeries"
