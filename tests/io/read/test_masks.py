"""Stored observation masks: which series they speak about, and which bins and samples they leave."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hdmf.common import DynamicTableRegion
from ndx_sbtt import LatentVariableModel, ObservationMaskSeries
from pynwb import NWBHDF5IO, TimeSeries

import nwb_sbtt as sb
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.data.schema import notes_of
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.masks import stored_masks
from nwb_sbtt.io.read.rois import roi_source
from tests.support.nwbfiles import add_rois, add_units, new_file, write


def add_mask(nwbfile, data, table, *, rows=None, link=None, name="mask", where=None, **clock):
    rows = list(range(np.shape(data)[1])) if rows is None else list(rows)
    region = DynamicTableRegion(name="channels", data=rows, description="channels", table=table)
    fields = {} if link is None else {"source_timeseries": link}
    clock = clock or {"rate": 10.0}
    mask = ObservationMaskSeries(
        name=name, data=np.asarray(data, dtype=np.uint8), unit="n/a", channels=region, **fields, **clock
    )
    (nwbfile.add_acquisition if where is None else where.add)(mask)
    return mask


def imaging(n_frames=40, n_rois=4):
    nwbfile = new_file()
    return nwbfile, add_rois(nwbfile, np.ones((n_frames, n_rois)), rate=10.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_bin_is_left_where_no_sample_that_touches_it_is_zero(seed):
    rng = np.random.default_rng(seed)
    nwbfile, series = imaging()
    data = rng.random((40, 3)) > 0.3
    times = np.arange(40) * 0.1 + (np.arange(40) >= 20) * 1.3
    add_mask(nwbfile, data, series.rois.table, rows=[3, 0, 2], link=series, timestamps=times)
    (mask,), _ = stored_masks(nwbfile, series, ReadConfig())
    grid = Grid(np.array([2.1, -0.2, 0.33]), float(rng.choice([0.03, 0.1, 0.25])), 13)
    observed = mask.bin(grid, np.array([0, 1, 2, 3]))
    column = {3: 0, 0: 1, 2: 2}
    for trial, start in enumerate(grid.starts):
        for b in range(13):
            low, high = start + b * grid.bin_width, start + (b + 1) * grid.bin_width
            touching = (times < high - 1e-8) & (times + 0.1 > low + 1e-8)
            for channel in range(4):
                expected = channel not in column or data[touching, column[channel]].all()
                assert observed[trial, b, channel] == expected


def test_samples_are_hidden_by_the_mask_sample_that_covers_them():
    nwbfile, series = imaging()
    data = np.ones((40, 4))
    data[5:8, 2] = 0
    add_mask(nwbfile, data, series.rois.table, link=series)
    (mask,), _ = stored_masks(nwbfile, series, ReadConfig())
    times = np.arange(-10, 450) / 100
    hidden = mask.hidden(times, np.array([2, 0]))
    assert np.array_equal(hidden[:, 0], (times >= 0.5 - 1e-9) & (times < 0.8 - 1e-9)) and not hidden[:, 1].any()


def test_a_mask_of_frames_hides_those_frames_of_those_rois():
    nwbfile, series = imaging()
    data = np.random.default_rng(0).random((40, 4)) > 0.4
    add_mask(nwbfile, data, series.rois.table)
    source = roi_source(nwbfile, series, ReadConfig(), offsets=[0, 0.02, 0.05, 0.09])
    binned = source.bin(Grid(np.array([0.0]), 0.1, 40))
    assert np.array_equal(binned.observed[0], data)


def test_a_mask_speaks_about_what_it_links_to_or_about_its_table_and_length():
    nwbfile, series = imaging()
    other = add_rois(nwbfile, np.ones((40, 4)), name="Neuropil", rate=10.0)
    short = add_rois(nwbfile, np.ones((30, 4)), name="Short", rate=10.0)
    add_units(nwbfile, [np.arange(5.0), np.arange(5.0)])
    add_mask(nwbfile, np.ones((40, 4)), series.rois.table, link=series, name="linked")
    add_mask(nwbfile, np.ones((40, 4)), series.rois.table, name="by_table")
    add_mask(nwbfile, np.ones((25, 2)), nwbfile.units, name="of_units")
    names = {
        item.name: [mask.path for mask in stored_masks(nwbfile, item, ReadConfig())[0]]
        for item in (series, other, short, nwbfile.units)
    }
    assert names == {
        "RoiResponseSeries": ["acquisition/by_table", "acquisition/linked"],
        "Neuropil": ["acquisition/by_table"],
        "Short": [],
        "units": ["acquisition/of_units"],
    }


def test_the_mask_of_a_result_is_not_one_of_the_recording():
    nwbfile, series = imaging()
    module = nwbfile.create_processing_module("latents", "result")
    module.add(
        LatentVariableModel(
            name="model",
            model_type="lfads",
            software_name="nwb_sbtt",
            software_version="0",
            bin_width=0.1,
            bin_reference="center",
            random_seed=0,
            config="{}",
        )
    )
    add_mask(nwbfile, np.zeros((40, 4)), series.rois.table, where=module)
    assert stored_masks(nwbfile, series, ReadConfig()) == ((), ())


def test_a_mask_without_a_column_for_each_channel_is_refused():
    nwbfile, series = imaging()
    # The class itself refuses such data; files of other programs may hold them.
    mask = add_mask(nwbfile, np.ones((3, 3)), series.rois.table, rows=[0, 1, 2], link=series)
    mask.fields["data"] = np.ones((3, 40), dtype=np.uint8)
    with pytest.raises(DataError, match=r"acquisition/mask.*\(3, 40\).*refer to 3"):
        stored_masks(nwbfile, series, ReadConfig())


@pytest.mark.slow
def test_a_mask_is_read_where_the_extension_is_not_installed(tmp_path):
    nwbfile, series = imaging()
    data = np.ones((40, 4))
    data[10:20, 1] = 0
    add_mask(nwbfile, data, series.rois.table, link=series)
    path = write(nwbfile, tmp_path / "session.nwb")
    with NWBHDF5IO(path, "r") as io:
        stored = io.read()
        series = stored.processing["ophys"]["Fluorescence"]["RoiResponseSeries"]
        assert len(stored_masks(stored, series, ReadConfig())[0]) == 1
    program = f"""
import sys, numpy as np
sys.modules["ndx_sbtt"] = None
from pynwb import NWBHDF5IO, TimeSeries
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.io.read.rois import roi_source
with NWBHDF5IO({str(path)!r}, "r") as io:
    nwbfile = io.read()
    series = nwbfile.processing["ophys"]["Fluorescence"]["RoiResponseSeries"]
    binned = roi_source(nwbfile, series, ReadConfig()).bin(Grid(np.array([0.0]), 0.1, 40))
print((~binned.observed).sum(), np.argwhere(~binned.observed[0]).min(axis=0).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10 [10, 1]"


VALUES = np.random.default_rng(3).normal(size=(100, 3))
FLAGS = np.random.default_rng(4).random((100, 3)) < 0.7


def beside(tmp_path, mask, *, name="voltage_mask", settings=None, **clock):
    """What is read of a series of 100 samples (50 Hz, 3 channels) beside a plain series of that name; and the path."""
    nwbfile = new_file()
    nwbfile.add_acquisition(TimeSeries(name="voltage", data=VALUES, unit="V", rate=50.0))
    nwbfile.add_acquisition(TimeSeries(name=name, data=mask, unit="n/a", **(clock or {"rate": 50.0})))
    path = write(nwbfile, tmp_path / "session.nwb")
    window = sb.Window(start=0.0, stop=2.0)
    read = sb.read_nwb(
        path, ReadConfig(**(settings or {})), series="acquisition/voltage", bin_width=0.02, trials=window
    )
    return read, path


def notes_about(ds, path="acquisition/voltage_mask"):
    return "; ".join(note for note in notes_of(ds) if path in note)


@pytest.mark.parametrize(
    ("mask", "words", "expected", "said"),
    [
        (FLAGS.astype(np.uint8), {}, FLAGS, "samples with 0 are missing"),
        (
            FLAGS.astype(np.uint8),
            {"name": "Voltage_Mask"},
            FLAGS,
            "'acquisition/Voltage_Mask', a TimeSeries of 0 and 1",
        ),
        (np.where(FLAGS, 1.0, np.nan), {}, FLAGS, "so are samples with NaN"),
        (FLAGS.T.astype(np.uint8), {}, FLAGS, r"is stored \(channel, time\) \(3, 100\) and is transposed"),
        (FLAGS[:, 0].astype(np.uint8), {}, np.repeat(FLAGS[:, :1], 3, axis=1), "one column is used for all channels"),
        (FLAGS[:, :1].astype(np.uint8), {}, np.repeat(FLAGS[:, :1], 3, axis=1), "one column is used for all channels"),
        (FLAGS[:20].astype(np.uint8), {"rate": 10.0}, np.repeat(FLAGS[:20], 5, axis=0), "its rate is different"),
        (FLAGS.repeat(2, axis=0).astype(np.uint8), {"rate": 100.0}, FLAGS, "its rate is different"),
    ],
)
def test_a_plain_mask_that_can_be_understood_is_used_and_a_note_states_how(tmp_path, mask, words, expected, said):
    ds, path = beside(tmp_path, mask, **words)
    np.testing.assert_array_equal(ds["observed"].values[0], expected)
    about = notes_about(ds, f"acquisition/{words.get('name', 'voltage_mask')}")
    assert re.search(said, about) and "covers" not in about
    (listed,) = [each for each in sb.inspect(path) if each.path == "acquisition/voltage"]
    assert any(re.search(said, note) for note in listed.notes)


@pytest.mark.parametrize(
    ("mask", "clock", "message"),
    [
        (FLAGS[:80], {}, r"has shape \(80, 3\) at 50 Hz; expected \(100, 3\) at 50 Hz"),
        (FLAGS[:, :2], {}, r"has shape \(100, 2\)"),
        (FLAGS, {"rate": 25.0}, r"has shape \(100, 3\) at 25 Hz; expected \(100, 3\) at 50 Hz"),
        (FLAGS[0], {"rate": 50.0}, r"has shape \(3,\)"),
    ],
)
def test_a_plain_mask_that_does_not_fit_is_an_error_until_masks_are_ignored(tmp_path, mask, clock, message):
    with pytest.raises(DataError, match=message + r".*read\.stored_masks=false"):
        beside(tmp_path, mask.astype(np.uint8), **clock)
    ds, _ = beside(tmp_path, mask.astype(np.uint8), settings={"stored_masks": False}, **clock)
    assert ds["observed"].values.all() and not notes_about(ds)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (FLAGS * 2, "it contains 2"),
        (VALUES, r"it contains -?\d"),
        (np.ones((100, 3, 2)), "have 3 dimensions"),
        (np.array(["yes"] * 100), "its data are text"),
    ],
)
def test_what_has_the_name_of_a_mask_and_holds_no_flags_is_noted(tmp_path, values, reason):
    ds, _ = beside(tmp_path, values.astype(np.int16) if values.dtype == bool else values)
    assert ds["observed"].values.all()
    assert re.search(
        f"is not used as mask of 'acquisition/voltage'.*{reason}.*a mask contains 1 where", notes_about(ds)
    )


def test_a_mask_that_lies_elsewhere_hides_nothing_and_a_note_states_how_much_it_covers(tmp_path):
    hidden = np.zeros((100, 3), dtype=np.uint8)
    for start, share in ((100.0, "none"), (1.0, "50.0%")):
        ds, path = beside(tmp_path, hidden, rate=50.0, starting_time=start)
        assert f"covers {share} of 'acquisition/voltage': it runs from {start:g} to" in notes_about(ds)
        assert "samples outside of a mask count as observed" in notes_about(ds)
        assert ds["observed"].values[0].all(axis=1).tolist() == [t < start for t in ds["time"].values]
        (listed,) = [each for each in sb.inspect(path) if each.path == "acquisition/voltage"]
        assert listed.observed == pytest.approx(min((start - 0) / 2, 1.0), abs=0.02)


def test_gaps_of_a_mask_that_its_series_lacks_are_not_covered(tmp_path):
    every_second = np.delete(np.arange(50) / 25, slice(20, 30))
    ds, path = beside(tmp_path, np.ones((40, 3), dtype=np.uint8), timestamps=every_second)
    said = "covers 80.0% of 'acquisition/voltage': it runs from 0 to 2 s with 1 gap"
    assert said in notes_about(ds)
    (listed,) = [each for each in sb.inspect(path) if each.path == "acquisition/voltage"]
    assert any(said in note for note in listed.notes)
    times = np.delete(np.arange(100) / 50, slice(40, 60))
    nwbfile = new_file()
    nwbfile.add_acquisition(TimeSeries(name="voltage", data=VALUES[:80], unit="V", timestamps=times))
    nwbfile.add_acquisition(TimeSeries(name="voltage_mask", data=np.ones((80, 3)), unit="n/a", timestamps=times))
    path = write(nwbfile, tmp_path / "both.nwb")
    read = sb.read_nwb(path, series="acquisition/voltage", bin_width=0.02, trials=sb.Window(start=0.0, stop=2.0))
    (listed,) = [each for each in sb.inspect(path) if each.path == "acquisition/voltage"]
    assert "covers" not in notes_about(read) and not any("covers" in note for note in listed.notes)


def test_a_mask_of_units_is_stated_beside_the_intervals_that_they_lack(tmp_path):
    nwbfile = new_file()
    add_units(nwbfile, [np.arange(0, 20, 0.1), np.arange(0, 20, 0.3)])
    add_mask(nwbfile, np.arange(20)[:, None] % [2, 3] > 0, nwbfile.units, name="seen", rate=1.0)
    ds = sb.read_nwb(write(nwbfile, tmp_path / "units.nwb"), bin_width=0.5, trials=sb.Window(start=0.0, stop=20.0))
    notes = notes_of(ds)
    assert any("'acquisition/seen' is used as mask of 'units': samples with 0 are missing" in note for note in notes)
    assert not any("all the time" in note and "except where a mask" not in note for note in notes)
