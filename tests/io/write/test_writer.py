"""The file that is written: what lies in it, where, at which times, and what it says of its making."""

import json

import h5py
import numpy as np
import pynwb
import pytest
from pynwb import NWBHDF5IO, TimeSeries

import nwb_sbtt
from nwb_sbtt.errors import ConfigError, DataError, FileError, MismatchError
from nwb_sbtt.io.write.results import read_result
from tests.support import nwbfiles
from tests.support.latents import MODEL, assert_same, digest, latents_of, make_latents, write_exactly

UNITS = [("units", "units", [2, 0, 1])]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    nwbfile = nwbfiles.new_file()
    nwbfile.lab = "a lab"
    nwbfile.experimenter = ["Curie, Marie"]
    nwbfile.keywords = ["reaching", "latents"]
    nwbfiles.add_units(
        nwbfile,
        [[0.1, 0.2], [0.3], [0.4, 5.0]],
        ids=[11, 12, 7],
        obs_intervals=[[(0, 9)], [(0, 4), (5, 9)], [(0, 9)]],
        columns={"heldout": [True, False, False], "region": ["M1", "PMd", "M1"]},
    )
    noise = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    nwbfiles.add_electrodes(nwbfile, 4)
    nwbfiles.add_electrical(nwbfile, noise, name="probe", rate=100.0)
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("recording") / "recording.nwb")


def test_the_recording_is_not_touched(recording, tmp_path):
    before, modified = digest(recording), recording.stat().st_mtime_ns
    write_exactly(latents_of(recording, UNITS), tmp_path / "r.nwb")
    write_exactly(latents_of(recording, UNITS), tmp_path / "a.nwb", append=True)
    assert (digest(recording), recording.stat().st_mtime_ns) == (before, modified)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nwb", "r.nwb"]


def test_every_segment_finds_its_samples_at_their_times_on_the_session_clock(recording, tmp_path):
    latents = latents_of(recording, UNITS, starts=[7.0, 0.5, 0.9, 3.0, 0.7])
    path = write_exactly(latents, tmp_path / "r.nwb")
    with NWBHDF5IO(path, "r") as io:
        module = io.read().processing["ecephys"]
        segments = module["sbtt_segments"]
        assert (np.diff(segments["start_time"].data[:]) >= 0).all()
        for row in range(5):
            trial = int(segments["order"][row])
            start = latents["trial_start"].values[trial]
            seen = {}
            for reference in segments["timeseries"][row]:
                variable = reference.timeseries.name.removeprefix("sbtt_").split("_overlap")[0]
                seen[variable] = reference.data
                np.testing.assert_allclose(reference.timestamps, start + (np.arange(40) + 0.5) * 0.02, atol=1e-9)
            assert set(seen) == {
                "rates",
                "factors",
                "inputs",
                "mask",
            }
            for variable in ("rates", "factors", "inputs"):
                np.testing.assert_array_equal(seen[variable], latents[variable].values[trial])
            np.testing.assert_array_equal(seen["mask"], latents["observed"].values[trial])
            assert segments["stop_time"][row] == pytest.approx(start + 0.8)
            assert segments["split"][row] == latents["split"].values[trial]


def test_timestamps_ascend_in_every_series_however_the_trials_overlap(recording, tmp_path):
    latents = latents_of(recording, UNITS, starts=[0.0, 0.1, 0.2, 5.0, 0.3])
    path = write_exactly(latents, tmp_path / "r.nwb")
    with NWBHDF5IO(path, "r") as io:
        series = [item for item in io.read().objects.values() if isinstance(item, TimeSeries)]
        assert {item.name for item in series} >= {"sbtt_rates", "sbtt_rates_overlap4", "sbtt_mask_overlap2"}
        for item in series:
            assert (np.diff(item.get_timestamps()) > 0).all()


def test_trials_side_by_side_are_one_series_with_a_rate(recording, tmp_path):
    path = write_exactly(latents_of(recording, UNITS, starts=[1.6, 0.0, 0.8]), tmp_path / "r.nwb")
    with NWBHDF5IO(path, "r") as io:
        rates = io.read().processing["ecephys"]["sbtt_rates"]
        assert (rates.starting_time, rates.rate, rates.timestamps) == (0.01, 50.0, None)


def test_the_small_file_carries_session_subject_and_units(recording, tmp_path):
    latents = latents_of(recording, UNITS)
    path = write_exactly(latents, tmp_path / "r.nwb")
    with NWBHDF5IO(recording, "r") as io, NWBHDF5IO(path, "r") as io_of_results:
        source, derived = io.read(), io_of_results.read()
        for field in ("session_id", "session_description", "session_start_time", "lab", "experimenter"):
            assert getattr(derived, field) == getattr(source, field)
        assert list(derived.keywords) == ["reaching", "latents"]
        assert derived.subject.fields == source.subject.fields
        assert derived.identifier != source.identifier
        assert derived.object_id != source.object_id
        assert derived.units.id[:].tolist() == [11, 12, 7]
        assert derived.units["region"].data[:].tolist() == ["M1", "PMd", "M1"]
        assert derived.units["heldout"].data[:].tolist() == [True, False, False]
        for row in range(3):
            np.testing.assert_array_equal(derived.units["spike_times"][row], source.units["spike_times"][row])
            np.testing.assert_array_equal(derived.units["obs_intervals"][row], source.units["obs_intervals"][row])
        assert not derived.acquisition
        rates = derived.processing["ecephys"]["sbtt_rates"]
        assert rates.unit == "Hz"
        assert rates.data.dtype == np.float32
        assert rates.channels.table is derived.units
        assert derived.units.id[:][rates.channels.data[:]].tolist() == latents["channel_id"].values.tolist()
        assert rates.data.compression == "gzip"


def test_the_model_and_its_sources_are_on_record(recording, tmp_path):
    path = write_exactly(latents_of(recording, UNITS), tmp_path / "r.nwb")
    with NWBHDF5IO(recording, "r") as io, NWBHDF5IO(path, "r") as io_of_results:
        source, derived = io.read(), io_of_results.read()
        model = derived.processing["ecephys"]["sbtt_model"]
        assert (model.model_type, model.software_name, model.random_seed, model.bin_width) == (
            "lfads",
            "nwb_sbtt",
            5,
            0.02,
        )
        assert (model.checkpoint_sha256, model.likelihood, model.run_name) == ("ab" * 32, "poisson", "run-1")
        assert json.loads(model.config) == MODEL["config"]
        assert model.training_metrics["train_loss"].data[:].tolist() == [1.5, 1.25]
        row = model.sources.to_dataframe().iloc[0].to_dict()
        assert row == {
            "file_name": "recording.nwb",
            "nwb_object_id": source.object_id,
            "nwb_identifier": "generated",
            "sha256": digest(recording),
            "series": "units",
            "series_object_id": source.units.object_id,
            "dandiset": "000140",
        }
        assert [list(program) for program in derived.was_generated_by[:]] == [
            ["nwb_sbtt", nwb_sbtt.__version__],
            ["torch", "2.13.0"],
        ]
        assert str(recording.parent) not in path.read_bytes().decode("latin-1")


def test_there_is_a_mask_only_where_something_is_missing(recording, tmp_path):
    path = write_exactly(latents_of(recording, UNITS, share=1.1), tmp_path / "r.nwb")
    with NWBHDF5IO(path, "r") as io:
        assert "sbtt_mask" not in io.read().processing["ecephys"].data_interfaces


def test_appended_results_stand_beside_everything_that_was_there(recording, tmp_path):
    parts = [("electrodes", "acquisition/probe", [3, 1])]
    path = write_exactly(latents_of(recording, parts, kind="electrodes"), tmp_path / "a.nwb", append=True)
    with NWBHDF5IO(recording, "r") as io, NWBHDF5IO(path, "r") as io_of_results:
        source, result = io.read(), io_of_results.read()
        assert set(source.objects) < set(result.objects)
        np.testing.assert_array_equal(source.acquisition["probe"].data[:], result.acquisition["probe"].data[:])
        assert result.processing["ecephys"]["sbtt_mask"].source_timeseries is result.acquisition["probe"]
        assert result.processing["ecephys"]["sbtt_mean"].unit == "volts"


def test_the_recording_itself_can_be_appended_to_when_asked_in_so_many_words(recording, tmp_path):
    copy = tmp_path / "own.nwb"
    copy.write_bytes(recording.read_bytes())
    latents = latents_of(copy, UNITS)
    before = digest(copy)
    with pytest.raises(FileError, match="the recording itself"):
        write_exactly(latents, copy, overwrite=True)
    assert digest(copy) == before
    assert write_exactly(latents, copy, append=True) == copy
    assert_same(latents, read_result(copy))
    with pytest.raises(FileError, match=r"already holds .*'sbtt_rates'.*name='sbtt2'"):
        write_exactly(latents, copy, append=True)


def test_a_recording_that_can_be_read_but_not_written_is_not_appended_to(recording, tmp_path):
    odd = tmp_path / "odd.nwb"
    odd.write_bytes(recording.read_bytes())
    with h5py.File(odd, "a") as file:
        file["general/was_generated_by"] = np.array([[file.ref, file.ref]], dtype=h5py.ref_dtype)
    with pytest.raises(FileError, match=r"cannot add to a copy of .odd.nwb'.*without append=True"):
        write_exactly(latents_of(odd, UNITS), tmp_path / "a.nwb", append=True)
    assert not (tmp_path / "a.nwb").exists()


def test_a_zarr_recording_gives_an_hdf5_result(tmp_path):
    pytest.importorskip("hdmf_zarr")
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1], [0.2], [0.3]], columns={"region": ["a", "b", "c"]})
    hdf5 = nwbfiles.write(nwbfile, tmp_path / "plain.nwb")
    latents = latents_of(hdf5, UNITS)
    from hdmf_zarr.nwb import NWBZarrIO

    zarr = tmp_path / "recording.nwb.zarr"
    with NWBHDF5IO(hdf5, "r") as io, NWBZarrIO(str(zarr), mode="w") as out:
        out.export(src_io=io, write_args={"link_data": False})
    path = write_exactly(latents, tmp_path / "r.nwb", source=zarr)
    assert_same(latents, read_result(path))
    assert pynwb.validate(path=path) == []
    with pytest.raises(FileError, match="only on HDF5 files"):
        write_exactly(latents, tmp_path / "a.nwb", source=zarr, append=True)


def test_results_can_be_a_zarr_folder(recording, tmp_path):
    pytest.importorskip("hdmf_zarr")
    latents = latents_of(recording, UNITS, starts=[3.0, 0.0, 0.2])
    path = write_exactly(latents, tmp_path / "r.nwb.zarr")
    assert_same(latents, read_result(path))
    with pytest.raises(FileError, match="exists"):
        write_exactly(latents, path)
    again = latents_of(recording, UNITS, starts=[3.0, 0.0, 0.2], seed=1)
    write_exactly(again, path, overwrite=True)
    assert_same(again, read_result(path))
    assert [path.name for path in tmp_path.iterdir()] == ["r.nwb.zarr"]


def test_the_file_of_the_attributes_is_taken_where_no_source_is_given(recording, tmp_path):
    latents = latents_of(recording, UNITS)
    copy = tmp_path / "moved.nwb"
    copy.write_bytes(recording.read_bytes())
    gone = latents.assign_attrs(
        source=json.dumps({**json.loads(latents.attrs["source"]), "path": str(tmp_path / "gone.nwb")})
    )
    with pytest.raises(FileError, match="it was moved, pass source=PATH"):
        write_exactly(gone, tmp_path / "r.nwb")
    assert_same(gone, read_result(write_exactly(gone, tmp_path / "r.nwb", source=copy)))


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        ({}, {"path": "there.nwb/r.nwb"}, FileError, "cannot make the folder .*there.nwb'"),
        ({}, {"path": "r.h5"}, FileError, "end the name in '.nwb'"),
        ({}, {"path": "there.nwb"}, FileError, r"overwrite=True \(--overwrite\) to replace it"),
        ({}, {"source": "nowhere.nwb"}, FileError, "nowhere.nwb' does not exist"),
        ({}, {"name": "a/b"}, ConfigError, "cannot be named"),
        ({"model": "{}"}, {}, DataError, "lacks model_type, software_name, software_version"),
        ({"model": None}, {}, DataError, r"attrs\['model'\] is missing"),
        (
            {"source": json.dumps({"object_id": "other", "name": "x.nwb"})},
            {},
            MismatchError,
            "from another file: 'x.nwb'",
        ),
        ({"bin_width": -1.0}, {}, DataError, "bin_width"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_no_file(recording, tmp_path, change, arguments, error, message):
    (tmp_path / "there.nwb").write_text("precious")
    latents = latents_of(recording, UNITS).assign_attrs({key: value for key, value in change.items() if value})
    for key in (key for key, value in change.items() if value is None):
        del latents.attrs[key]
    arguments = {"path": "r.nwb", "source": recording, **arguments}
    target = tmp_path / arguments.pop("path")
    with pytest.raises(error, match=message):
        write_exactly(latents, target, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["there.nwb"]
    assert (tmp_path / "there.nwb").read_text() == "precious"


def test_channels_that_are_not_where_they_were_are_refused(recording, tmp_path):
    latents = latents_of(recording, UNITS)
    wrong = latents.assign_coords(channel_id=("channel", [7, 11, 99]))
    with pytest.raises(MismatchError, match=r"1 of 3 channels .* id 99"):
        write_exactly(wrong, tmp_path / "r.nwb")
    with pytest.raises(MismatchError, match="1 of 3 channels"):
        write_exactly(latents.assign_coords(channel_row=("channel", [2, 0, 8])), tmp_path / "r.nwb")
    by_id = latents.drop_vars(["channel_row", "table", "series"])
    assert_same(by_id, read_result(write_exactly(by_id, tmp_path / "r.nwb")))
    assert [path.name for path in tmp_path.iterdir()] == ["r.nwb"]


def test_data_that_were_never_in_a_file_need_a_date(tmp_path):
    latents = make_latents(kind="series")
    path = write_exactly(latents, tmp_path / "r.nwb")
    assert pynwb.validate(path=path) == []
    del latents.attrs["session_start_time"]
    with pytest.raises(FileError, match="pass source=PATH, or"):
        write_exactly(latents, tmp_path / "other.nwb")
    with pytest.raises(FileError, match=r"append=True .--append. needs the recording"):
        write_exactly(latents, tmp_path / "other.nwb", append=True)
    assert [path.name for path in tmp_path.iterdir()] == ["r.nwb"]
