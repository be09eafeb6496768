"""What `inspect` says about each series is what is in the file."""

import json
from uuid import uuid4

import h5py
import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import DynamicTable, DynamicTableRegion
from ndx_sbtt import ObservationMaskSeries
from pynwb.ecephys import SpikeEventSeries
from pynwb.misc import DecompositionSeries

from nwb_sbtt import Window, inspect, read_nwb
from nwb_sbtt.errors import DataError, FileError, SelectionError
from nwb_sbtt.io.read import description, units
from nwb_sbtt.io.read.listing import listing_of_contents
from tests.support import nwbfiles
from tests.support.notebooks import notebook


def only(nwbfile, tmp_path, name="x.nwb"):
    (described,) = inspect(nwbfiles.write(nwbfile, tmp_path / name))
    return described


def test_units_show_their_intervals(tmp_path):
    nwbfile = nwbfiles.new_file()
    both = [[0.0, 4.0], [5.0, 10.0]]
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [9.0]], obs_intervals=[both, both[:1]])
    described = only(nwbfile, tmp_path)
    assert (described.path, described.type, described.kind, described.shape) == ("units", "Units", "units", (2, 3))
    assert (described.start, described.stop, described.duration) == (0.0, 10.0, 10.0)
    assert described.observed == pytest.approx((0.9 + 0.4) / 2)
    assert described.gaps == 1
    assert described.longest_gap == pytest.approx(1.0)
    assert described.rate is None
    assert described.default


def test_units_without_intervals_say_so(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[2.0, 12.0]])
    nwbfiles.add_invalid_times(nwbfile, [[4.0, 5.0]])
    described = only(nwbfile, tmp_path)
    assert described.observed == pytest.approx(0.9, abs=1e-6)
    assert "no obs_intervals" in described.notes[0]


def test_a_series_shows_gaps_missing_samples_and_rate(tmp_path):
    times = np.arange(100) * 0.1
    times[50:] += 10.0
    data = np.ones((100, 4))
    data[:10, 0] = np.nan
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, data, timestamps=times, unit="m")
    described = only(nwbfile, tmp_path)
    assert described.rate == pytest.approx(10.0)
    assert not described.regular
    assert described.gaps == 1
    assert described.longest_gap == pytest.approx(10.1)
    assert described.duration == pytest.approx(20.0)
    assert described.observed == pytest.approx(0.5 * 0.975)
    assert not described.estimated
    assert (described.channels, described.unit, described.default) == (4, "m", False)


def test_what_is_described_can_be_written_as_json(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1, 0.2]], obs_intervals=[[[0.0, 4.0]]])
    values = json.loads(json.dumps(only(nwbfile, tmp_path).as_dict()))
    assert values["shape"] == [1, 2]
    assert values["duration"] == 4.0


def test_a_series_without_usable_times_is_listed_with_the_reason(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwbfile, 2)
    nwbfiles.add_electrical(nwbfile, np.zeros((3, 2)), timestamps=[0.0, 2.0, 1.0])
    described = only(nwbfile, tmp_path)
    assert described.default  # it is meant where no series is named, and refused
    assert not described.readable
    assert "decrease at sample" in described.notes[0]


def listing(path):
    return listing_of_contents(path.name, inspect(path).as_dict())


@pytest.mark.parametrize("damage", ["region", "filter", "times", "none"])
@pytest.mark.parametrize("with_units", [True, False])
def test_what_is_listed_as_read_is_what_is_read(damage, with_units, tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwbfile, 3)
    data = np.random.default_rng(0).normal(size=(400, 3))
    times = {"timestamps": np.arange(400)[::-1] * 0.01} if damage == "times" else {"rate": 100.0}
    nwbfiles.add_electrical(nwbfile, data, **times)
    nwbfiles.add_series(nwbfile, data, rate=100.0, name="other")
    if with_units:
        nwbfiles.add_units(nwbfile, [np.arange(0.05, 4, 0.1)])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    series = "acquisition/ElectricalSeries"
    if damage == "region":
        with h5py.File(path, "a") as file:
            file[f"{series}/electrodes"][...] = [100, 101, 102]
    elif damage == "filter":
        nwbfiles.compress(path, f"{series}/data", filter_number=305)
    contents, last = inspect(path), listing(path).splitlines()[-1]
    assert next(each.readable for each in contents if each.path == series) == (damage == "none")
    if with_units:
        assert contents.default is None and last == "to fit, name one or more with --series"
        with pytest.raises(SelectionError, match=f"choose one .*: --series {series}, --series units$"):
            read_nwb(path)
        return
    assert contents.default is not None and contents.default.path == contents.as_dict()["default"] == series
    if damage == "none":
        assert last == f"read without --series: {series}"
        assert json.loads(read_nwb(path).attrs["source"])["series"] == [series]
        return
    assert last == f"default without --series: {series}, but it cannot be read; name another with --series"
    with pytest.raises((DataError, FileError)):
        read_nwb(path)


def test_a_long_series_is_estimated_from_parts(tmp_path, monkeypatch):
    n = 3000
    times = np.arange(n) * 0.01
    for gap in (400, 1111, 2900):
        times[gap:] += 2.0
    data = np.random.default_rng(0).normal(size=(n, 2))
    data[np.random.default_rng(1).random(data.shape) < 0.25] = np.nan
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, data, timestamps=times)
    exact = only(nwbfile, tmp_path)
    monkeypatch.setattr(description, "MOST_EXACT", 100)
    monkeypatch.setattr(description, "BLOCK", 10)
    monkeypatch.setattr(description, "ENTRIES_PER_PART", 20)
    path = tmp_path / "x.nwb"
    (estimate,) = inspect(path)
    assert estimate.estimated
    assert not exact.estimated
    assert estimate.gaps == exact.gaps == 3
    assert estimate.longest_gap == pytest.approx(exact.longest_gap)
    assert (estimate.start, estimate.stop) == pytest.approx((exact.start, exact.stop))
    assert estimate.observed == pytest.approx(exact.observed, abs=0.05)


def test_the_span_of_many_spikes_is_found_from_the_ends_of_each_train(tmp_path, monkeypatch):
    nwbfile = nwbfiles.new_file()
    random = np.random.default_rng(0)
    nwbfiles.add_units(nwbfile, [np.sort(random.uniform(0, 9, n)) for n in (20, 0, 30)])
    exact = only(nwbfile, tmp_path)
    monkeypatch.setattr(units, "MOST_EXACT", 10)
    assert list(inspect(tmp_path / "x.nwb")) == [exact]


def test_what_cannot_be_read_is_listed_with_the_reason(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwbfile, 2)
    region = nwbfile.create_electrode_table_region([0, 1], "electrodes")
    snippets = SpikeEventSeries(
        name="snippets", data=np.zeros((3, 2, 8)), timestamps=[0.1, 0.2, 0.3], electrodes=region
    )
    nwbfile.add_acquisition(snippets)
    nwbfile.create_processing_module("ecephys", "generated").add(
        DecompositionSeries(name="bands", data=np.zeros((5, 2, 3)), metric="power", rate=1.0)
    )
    nwbfiles.add_series(nwbfile, np.zeros((5, 4, 4)), rate=1.0, name="film")
    nwbfiles.add_series(nwbfile, np.array(["a"] * 5), rate=1.0, name="words")
    nwbfiles.add_series(nwbfile, np.zeros(5), rate=1.0, name="pairs")
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        del file["acquisition/pairs/data"]
        file["acquisition/pairs/data"] = np.zeros(5, dtype=[("x", "f8"), ("y", "i4")])
        # pynwb reads this type and no longer writes it
        waves = file.create_group("acquisition/waves")
        waves.attrs.update({"neurodata_type": "EventWaveform", "namespace": "core", "object_id": str(uuid4())})
        file.move("acquisition/snippets", "acquisition/waves/snippets")
    reasons = {series.path: (series.readable, series.default, series.notes[0]) for series in inspect(path)}
    assert {path: reason[:2] for path, reason in reasons.items()} == dict.fromkeys(
        [
            "acquisition/film",
            "acquisition/pairs",
            "acquisition/waves",
            "acquisition/waves/snippets",
            "acquisition/words",
            "processing/ecephys/bands",
        ],
        (False, False),
    )
    assert "snippets of voltage" in reasons["acquisition/waves/snippets"][2]
    assert "power or phase per band" in reasons["processing/ecephys/bands"][2]
    assert reasons["acquisition/film"][2].startswith("its data of shape (5, 4, 4) have 3 dimensions; expected (time,)")
    assert reasons["acquisition/words"][2].startswith("its data are text; expected numbers")
    assert reasons["acquisition/pairs"][2].startswith("its data are compound; expected numbers")


def test_a_damaged_series_hides_no_other(tmp_path):
    nwbfile = nwbfiles.new_file()
    for name in ("good", "bad"):
        data = H5DataIO(np.random.default_rng(0).normal(size=(400, 2)), chunks=(100, 2), compression="gzip")
        nwbfiles.add_series(nwbfile, data, rate=10.0, name=name)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "r") as file:
        address = file["acquisition/bad/data"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as file:
        file.seek(address)
        file.write(b"\xff" * 100)
    bad, good = inspect(path)
    assert not bad.readable
    assert "'acquisition/bad/data': it is damaged" in bad.notes[0]
    assert good.observed == 1.0


def test_masks_are_listed_with_the_share_that_they_leave(tmp_path):
    nwbfile = nwbfiles.new_file()
    series = nwbfiles.add_series(nwbfile, np.ones((100, 4)), rate=10.0)
    mask = np.ones((100, 4), dtype="u1")
    mask[:50, 1] = mask[:25, 2] = 0
    table = DynamicTable(name="columns", description="generated", id=[0, 1, 2, 3])
    nwbfile.add_acquisition(table)
    region = DynamicTableRegion(name="channels", data=[0, 1, 2, 3], description="columns", table=table)
    nwbfile.add_acquisition(
        ObservationMaskSeries(name="mask", data=mask, unit="n/a", rate=10.0, channels=region, source_timeseries=series)
    )
    nwbfiles.add_invalid_times(nwbfile, [[2.0, 4.0]])
    contents = inspect(nwbfiles.write(nwbfile, tmp_path / "x.nwb"))
    listed = {mask.path: mask for mask in contents.masks}
    assert listed["acquisition/mask"].observed == pytest.approx(1 - 75 / 400)
    assert listed["acquisition/mask"].series == ("acquisition/series",)
    assert listed["invalid_times"].observed == pytest.approx(0.8)
    (described,) = (candidate for candidate in contents if candidate.role == "recording")
    assert described.observed == pytest.approx(0.8 * (1 - 75 / 400))
    assert described.estimated
    assert json.loads(json.dumps(contents.as_dict()))["masks"][0]["path"] == "acquisition/mask"


def test_recorded_files_are_described_as_they_are(realdata):
    def described(name):
        return {series.path: series for series in inspect(realdata / name)}

    maze = described("nlb/sub-Jenkins_ses-small_desc-test_ecephys.nwb")["units"]
    assert maze.shape == (107, 32_897)
    assert (maze.gaps, maze.duration) == (99, pytest.approx(79.9))
    assert maze.observed == pytest.approx(70 / 79.9)
    assert described("units/A8604-211122.nwb")["units"].shape == (3, 11_020 + 4_690 + 5_644)
    (alm,) = (path for path in (realdata / "units").glob("sub_anm*.nwb"))
    assert described(f"units/{alm.name}")["units"].shape == (4, 34_057)
    lf = described("ecephys/neuropixels_lf.nwb")["acquisition/ElectricalSeriesLF"]
    assert (lf.shape, lf.rate, lf.unit) == ((13_163, 384), 2500.0, "volts")
    both = described("ecephys/buzsaki_lfp_units.nwb")
    assert both["processing/ecephys/LFP/ElectricalSeries_lfp"].shape == (100, 96)
    assert both["units"].shape == (10, 1725)
    imaging = described("ophys/nwb_test.nwb")
    assert sorted(path.rsplit("/", 1)[-1] for path in imaging) == ["Deconvolved", "Neuropil", "RoiResponseSeries"]
    assert all((series.shape, series.rate) == ((250, 15), 10.0) for series in imaging.values())
    assert [path for path, series in imaging.items() if not series.default] == [
        "processing/ophys/Fluorescence/Neuropil"
    ]


@pytest.mark.parametrize("kind", ["units", "electrodes", "rois"])
def test_ids_that_repeat_are_noted(kind, tmp_path):
    nwbfile = nwbfiles.new_file()
    if kind == "units":
        nwbfiles.add_units(nwbfile, [[0.1, 0.9], [0.5]])
    elif kind == "electrodes":
        nwbfiles.add_electrodes(nwbfile, 2)
        nwbfiles.add_electrical(nwbfile, np.random.default_rng(0).normal(size=(40, 2)), rate=10.0)
    else:
        nwbfiles.add_rois(nwbfile, np.zeros((40, 2)), rate=10.0)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    table = {
        "units": "units",
        "electrodes": "general/extracellular_ephys/electrodes",
        "rois": "processing/ophys/ImageSegmentation/PlaneSegmentation",
    }[kind]
    with h5py.File(path, "a") as file:
        file[f"{table}/id"][...] = 7
    read = read_nwb(path, bin_width=0.2, trials=Window(start=0.0, stop=1.0))
    assert read["channel_id"].values.tolist() == [7, 7]
    assert read["channel_row"].values.tolist() == [0, 1]
    for notes in (json.loads(read.attrs["notes"]), inspect(path)[0].notes):
        assert any("repeat: 7; channels with the same id are distinguished by their row" in note for note in notes)


def test_what_lies_in_a_group_that_is_no_neurodata_is_named_by_its_place(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_rois(nwbfile, np.random.default_rng(0).normal(size=(60, 3)), rate=10.0)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        del file["processing/ophys/ImageSegmentation"].attrs["neurodata_type"]
    assert set(read_nwb(path)["table"].values) == {"processing/ophys/ImageSegmentation/PlaneSegmentation"}


def test_what_is_listed_is_a_table_in_print_and_in_a_notebook(tmp_path, monkeypatch):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.ones((100, 4)), name="a<b", rate=10.0, unit="m")
    path = nwbfiles.write(nwbfile, tmp_path / "recording.nwb")
    contents = inspect(path)
    assert repr(contents) == str(contents) == listing_of_contents("recording.nwb", contents.as_dict())
    printed = repr(contents)
    notebook(monkeypatch)
    assert repr(contents) == printed and "100×4" in printed
    page = contents._repr_html_()
    assert page.count("<table>") == 1 and page.count("<tr>") == 2
    for cell in ("acquisition/a&lt;b", "100×4", "10 Hz", "to fit, name one or more with --series"):
        assert cell in page, cell
