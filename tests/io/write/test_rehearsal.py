"""What stands in the way of a result is known before the fit, and what cannot be carried of a recording is named."""

import json
import shutil
import warnings

import h5py
import numpy as np
import pynwb
import pytest
from pynwb import NWBHDF5IO
from pynwb.ecephys import ElectricalSeries

from nwb_sbtt.config import Chop, ReadConfig, Window
from nwb_sbtt.errors import DataError, FileError, MismatchError, SelectionError
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.standin import stand_in
from nwb_sbtt.io.write.writer import rehearse, write_nwb
from tests.support import nwbfiles
from tests.support.latents import digest

READ = ReadConfig(series=("units",), cut=Window(start=0.0, stop=10.0))


def _recording(folder, *, zarr=False):
    """Six units, each on one of four electrodes, as many tools write them."""
    random = np.random.default_rng(0)
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwbfile, 4, columns={"depth": [1.0, 2.0, 3.0, 4.0]})
    nwbfile.add_unit_column("quality", "how good a unit is")
    for row in range(6):
        spikes = np.sort(random.uniform(0, 10, 50))
        nwbfile.add_unit(spike_times=spikes, electrodes=[row % 4], obs_intervals=[[0.0, 10.0]], quality=float(row))
    return nwbfiles.write(nwbfile, folder / ("recording.nwb.zarr" if zarr else "recording.nwb"), zarr=zarr)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return _recording(tmp_path_factory.mktemp("recording"))


def _written(path, target, **arguments):
    """Results of no meaning in a file, and what the writer and the file say that they are without."""
    ds = read_nwb(path, READ)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        write_nwb(stand_in(ds), target, source=path, **arguments)
    read, kept = json.loads(ds.attrs["notes"]), json.loads(read_result(target).attrs["notes"])
    assert kept[: len(read)] == read
    notes = kept[len(read) :]
    assert set(notes) <= {str(each.message) for each in said}
    return notes


@pytest.mark.slow
@pytest.mark.parametrize("append", [False, True])
def test_a_rehearsal_leaves_nothing_and_finds_nothing_to_say_of_a_good_file(recording, tmp_path, append):
    source = shutil.copyfile(recording, tmp_path / "recording.nwb")
    before = digest(source)
    assert rehearse(read_nwb(source, READ), tmp_path / "out.nwb", source=source, append=append) == []
    assert rehearse(read_nwb(source, READ), source, source=source, append=True) == []
    assert [path.name for path in tmp_path.iterdir()] == ["recording.nwb"]
    assert digest(source) == before
    assert _written(source, tmp_path / "out.nwb", append=append) == []
    with h5py.File(tmp_path / "out.nwb") as file, h5py.File(source) as old:
        for name in ("spike_times", "spike_times_index", "electrodes", "obs_intervals", "quality"):
            np.testing.assert_array_equal(file[f"units/{name}"][:], old[f"units/{name}"][:])


def _without_index(file):
    del file["units/electrodes_index"]


def _ids_instead_of_rows(file):
    file["units/electrodes"][...] = 100 + np.arange(6)


def _last_row_by_minus_one(file):
    file["units/electrodes"][2] = -1


def _broken_rows(file):
    attributes = dict(file["units/electrodes"].attrs)
    del file["units/electrodes"]
    file["units"].create_dataset("electrodes", data=np.full(6, 0.7)).attrs.update(attributes)


def _short_index(file):
    file["units/electrodes_index"][-1] = 5


def _falling_index(file):
    file["units/electrodes_index"][1] = 5


def _no_groups(file):
    file["general/extracellular_ephys/electrodes/group"][...] = h5py.Reference()


def _groups_of_no_name(file):
    _no_groups(file)
    file["general/extracellular_ephys/electrodes/group_name"][...] = "nobody"


def _narrow_spikes(file):
    attributes, spikes = dict(file["units/spike_times"].attrs), file["units/spike_times"][:]
    del file["units/spike_times"]
    stored = file["units"].create_dataset("spike_times", data=spikes.astype("f4"))
    stored.attrs.update(attributes)
    file["units/spike_times_index"].attrs["target"] = stored.ref


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("damage", "left_out"),
    [
        (_without_index, None),
        (_narrow_spikes, None),
        (_no_groups, None),
        (
            _ids_instead_of_rows,
            "column 'electrodes' of 'units': 'electrodes' of 'units', row 0: 100; 'electrodes' has 4",
        ),
        (_last_row_by_minus_one, "column 'electrodes' of 'units': 'electrodes' of 'units', row 2: -1;"),
        (_broken_rows, "column 'electrodes' of 'units': 'electrodes' of 'units', row 0: 0.7; expected a whole"),
        (_short_index, "column 'electrodes' of 'units': column 'electrodes_index' of 'units', row 5: 5;"),
        (_falling_index, "column 'electrodes' of 'units': column 'electrodes_index' of 'units', row 2: 3;"),
        (_groups_of_no_name, "column 'electrodes' of 'units': the table 'electrodes' has no 'group'"),
    ],
)
def test_a_result_is_lost_to_no_optional_column_and_says_what_it_is_without(recording, tmp_path, damage, left_out):
    source = shutil.copyfile(recording, tmp_path / "recording.nwb")
    with h5py.File(source, "a") as file:
        damage(file)
    notes = _written(source, tmp_path / "out.nwb")
    assert rehearse(read_nwb(source, READ), tmp_path / "again.nwb", source=source) == notes
    if left_out is not None:
        assert any(left_out in note for note in notes), notes
    with NWBHDF5IO(tmp_path / "out.nwb", "r") as io:
        units = io.read().units
        assert units.id[:].tolist() == list(range(6))
        assert len(units["spike_times"].target.data) == 300
        if left_out is None:
            assert notes == []
            assert [rows.index.tolist() for rows in units["electrodes"][:]] == [[100 + row % 4] for row in range(6)]
            assert {group.name for group in units["electrodes"].target.table["group"].data[:]} == {"shank"}


@pytest.mark.filterwarnings("ignore")
def test_references_that_no_reader_may_unpickle_are_found_by_their_names(tmp_path):
    pytest.importorskip("hdmf_zarr")
    source = _recording(tmp_path, zarr=True)
    assert _written(source, tmp_path / "out.nwb") == []
    with NWBHDF5IO(tmp_path / "out.nwb", "r") as io:
        assert {group.name for group in io.read().electrodes["group"].data[:]} == {"shank"}


def test_labels_that_no_table_holds_are_refused_before_anything_is_written(recording, tmp_path):
    ds = read_nwb(recording, READ)
    ds = ds.assign_coords(when=("channel", np.zeros(6, dtype="M8[s]")))
    with pytest.raises(DataError, match="'when' holds datetime64"):
        rehearse(ds, tmp_path / "out.nwb", source=recording)


@pytest.mark.slow
def test_names_that_are_taken_are_refused_before_the_fit(recording, tmp_path):
    source = shutil.copyfile(recording, tmp_path / "recording.nwb")
    write_nwb(stand_in(read_nwb(source, READ)), source, append=True)
    with pytest.raises(FileError, match="already holds 'sbtt_channels'"):
        rehearse(read_nwb(source, READ), source, source=source, append=True)
    assert rehearse(read_nwb(source, READ), source, source=source, append=True, name="other") == []


@pytest.mark.parametrize("cut", [Chop(length=0.5, overlap=0.1), Window(start=1.0, stop=9.0)])
def test_a_stand_in_is_small_and_has_all_labels(recording, cut):
    ds = read_nwb(recording, ReadConfig(series=("units",), cut=cut))
    small = stand_in(ds)
    assert small.sizes["trial"] <= 2
    assert small.sizes["time"] <= max(16, 25)
    assert set(ds.coords) == set(small.coords)
    assert {key: small.attrs[key] for key in ds.attrs} == ds.attrs


def _strip_ids(path):
    with h5py.File(path, "a") as file:
        del file.attrs["object_id"]
        file.visititems(lambda _, item: item.attrs.pop("object_id", None) and None)
    return path


@pytest.mark.slow
def test_a_file_without_object_ids_is_known_by_its_digest_and_no_id_is_made_up(recording, tmp_path):
    source = _strip_ids(shutil.copyfile(recording, tmp_path / "recording.nwb"))
    ds = read_nwb(source, READ)
    assert "object_id" not in json.loads(ds.attrs["source"])
    for append in (False, True):
        out = tmp_path / f"{append}.nwb"
        write_nwb(stand_in(ds), out, source=source, append=append)
        with NWBHDF5IO(out, "r") as io:
            sources = io.read().processing["ecephys"]["sbtt_model"].sources.to_dataframe()
        assert {"nwb_object_id", "series_object_id"}.isdisjoint(sources.columns)
        assert sources["sha256"].tolist() == [digest(source)]
    with h5py.File(source, "a") as file:
        file["units/quality"][0] = 7.0
    with pytest.raises(MismatchError, match=r"with the SHA-256 \w{64}, but 'recording.nwb' has \w{64}"):
        write_nwb(stand_in(ds), tmp_path / "out.nwb", source=source)


def test_results_of_a_run_that_recorded_a_made_up_id_are_still_written(recording, tmp_path):
    source = _strip_ids(shutil.copyfile(recording, tmp_path / "recording.nwb"))
    latents = stand_in(read_nwb(source, READ))
    recorded = {**json.loads(latents.attrs["source"]), "object_id": "made-up"}
    write_nwb(latents.assign_attrs(source=json.dumps(recorded)), tmp_path / "out.nwb")
    with NWBHDF5IO(tmp_path / "out.nwb", "r") as io:
        sources = io.read().processing["ecephys"]["sbtt_model"].sources.to_dataframe()
    assert "nwb_object_id" not in sources.columns


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    """A file of units that links to a series in another one, in which alone the electrodes are."""
    folder = tmp_path_factory.mktemp("linked")
    raw = nwbfiles.new_file(identifier="raw")
    nwbfiles.add_electrodes(raw, 4)
    noise = np.random.default_rng(0).standard_normal((4000, 3))
    region = raw.create_electrode_table_region([3, 0, 2], "electrodes")
    raw.add_acquisition(ElectricalSeries(name="raw", data=noise, electrodes=region, rate=1000.0))
    nwbfiles.write(raw, folder / "raw.nwb")
    main = nwbfiles.new_file(identifier="main")
    nwbfiles.add_units(main, [[0.1, 0.2]])
    nwbfiles.write(main, folder / "main.nwb")
    with h5py.File(folder / "main.nwb", "a") as file:
        file["acquisition/raw"] = h5py.ExternalLink("raw.nwb", "/acquisition/raw")
    return folder


LINKED = ReadConfig(series=("acquisition/raw",), bin_width=0.01, cut=Chop(length=0.5))


def test_a_series_in_a_linked_file_has_results_with_its_table_and_the_provenance_of_both(linked, tmp_path):
    ds = read_nwb(linked / "main.nwb", LINKED)
    assert rehearse(ds, tmp_path / "out.nwb", source=linked / "main.nwb") == []
    write_nwb(stand_in(ds), tmp_path / "out.nwb")
    assert pynwb.validate(path=tmp_path / "out.nwb") == []
    with NWBHDF5IO(tmp_path / "out.nwb", "r") as io:
        nwbfile = io.read()
        module = nwbfile.processing["ecephys"]
        assert module["sbtt_mean"].channels.table is nwbfile.electrodes
        assert module["sbtt_mean"].channels.data[:].tolist() == [3, 0, 2]
        assert nwbfile.electrodes.id[:].tolist() == [100, 101, 102, 103]
        sources = module["sbtt_model"].sources.to_dataframe()
    assert sources["file_name"].tolist() == ["main.nwb", "raw.nwb", "raw.nwb"]
    assert sources["nwb_identifier"].tolist() == ["main", "raw", "raw"]
    paths = ["acquisition/raw", "acquisition/raw", "general/extracellular_ephys/electrodes"]
    assert sources["series"].tolist() == paths
    assert sources["sha256"].tolist() == [digest(linked / name) for name in ("main.nwb", "raw.nwb", "raw.nwb")]
    source = json.loads(read_result(tmp_path / "out.nwb").attrs["source"])
    assert "path" not in source["linked"][0]
    assert str(linked) not in json.dumps(source)


def test_a_linked_file_that_was_replaced_is_not_the_source(linked, tmp_path):
    folder = shutil.copytree(linked, tmp_path / "linked")
    latents = stand_in(read_nwb(folder / "main.nwb", LINKED))
    with h5py.File(folder / "raw.nwb", "a") as file:
        file.attrs["object_id"] = "another"
    with pytest.raises(
        MismatchError, match=r"from another file: 'raw.nwb' with object id .*, but 'raw.nwb' has another"
    ):
        write_nwb(latents, tmp_path / "out.nwb")


def test_a_copy_with_links_stays_beside_the_recording(linked, tmp_path):
    folder = shutil.copytree(linked, tmp_path / "linked")
    ds = read_nwb(folder / "main.nwb", LINKED)
    with pytest.raises(FileError, match="a copy in another folder would not find"):
        rehearse(ds, tmp_path / "out.nwb", source=folder / "main.nwb", append=True)


def test_series_of_two_files_whose_tables_have_one_path_are_not_joined(linked, tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwbfile, 2)
    nwbfiles.add_electrical(nwbfile, np.zeros((4000, 2)), name="own", rate=1000.0)
    shutil.copyfile(linked / "raw.nwb", tmp_path / "raw.nwb")
    path = nwbfiles.write(nwbfile, tmp_path / "main.nwb")
    with h5py.File(path, "a") as file:
        file["acquisition/raw"] = h5py.ExternalLink("raw.nwb", "/acquisition/raw")
    with pytest.raises(
        SelectionError, match=r"belong to two different tables 'electrodes', one in 'main.nwb' and one in"
    ):
        read_nwb(path, LINKED.model_copy(update={"series": ("acquisition/*",)}))


def test_tables_of_files_elsewhere_on_the_disk_are_not_copied(linked, tmp_path):
    folder = shutil.copytree(linked, tmp_path / "recordings")
    (tmp_path / "private").mkdir()
    shutil.move(folder / "raw.nwb", tmp_path / "private")
    with h5py.File(folder / "main.nwb", "a") as file:
        del file["acquisition/raw"]
        file["acquisition/raw"] = h5py.ExternalLink(str(tmp_path / "private" / "raw.nwb"), "/acquisition/raw")
    ds = read_nwb(folder / "main.nwb", LINKED)
    (note,) = rehearse(ds, tmp_path / "out.nwb", source=folder / "main.nwb")
    assert "'electrodes' of the recording: it is in 'raw.nwb', which is not in the folder of the recording" in note
    with pytest.warns(UserWarning, match="is not in the folder of the recording"):
        write_nwb(stand_in(ds), tmp_path / "out.nwb")
    with NWBHDF5IO(tmp_path / "out.nwb", "r") as io:
        nwbfile = io.read()
        assert nwbfile.electrodes is None
        assert nwbfile.processing["ecephys"]["sbtt_channels"]["channel_id"][:].tolist() == [103, 100, 102]
