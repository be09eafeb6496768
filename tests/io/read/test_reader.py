"""A file becomes a Dataset whose every entry can be traced to a sample, an interval or the lack of one."""

import cProfile
import json

import numpy as np
import pytest
import xarray as xr

from nwb_sbtt import Chop, ReadConfig, Trials, Window, read_nwb
from nwb_sbtt.config import BandwidthConfig, RoiConfig
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import ConfigError, DataError, SelectionError
from nwb_sbtt.io.read.files import sha256
from tests.support import nwbfiles


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Three units with intervals of their own, five trials (one without an event), and a hand."""
    random = np.random.default_rng(0)
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_watched_units(nwbfile, random)
    nwbfiles.add_trials(
        nwbfile,
        np.arange(5) * 4.0,
        np.arange(5) * 4.0 + 4,
        go=[1.0, 5.0, np.nan, 13.0, 17.0],
        go_text=["1.0", "5.0", "N/A", "13.0", ""],
        side=["left", "right", "left", "left", "right"],
        split=["train", "train", "val", "val", "test"],
    )
    nwbfiles.add_invalid_times(nwbfile, [[12.0, 12.5], [16.75, 17.0]])
    nwbfiles.add_series(nwbfile, random.normal(size=(200, 2)), rate=10.0, module="behavior", name="hand")
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("reader") / "session.nwb")


GO = Trials(event="go", start=-0.5, stop=0.5)


def notes(ds):
    return json.loads(ds.attrs["notes"])


def test_a_benchmark_file_reads_to_the_reference_tensor_in_every_bin(realdata):
    path = realdata / "nlb" / "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
    trials = Trials(event="move_onset_time", start=-0.25, stop=0.45)
    maze = read_nwb(path, bin_width=0.005, trials=trials)
    with np.load(realdata / "nlb" / "mc_maze_small_test_nlb_tools_5ms.npz") as reference:
        counts = reference["eval_spikes_heldin"]
    assert maze["values"].dims == ("trial", "time", "channel")
    assert maze["values"].shape == counts.shape
    assert (maze["values"].values == counts).all()
    assert maze["observed"].values.all()
    assert "exposure" not in maze
    assert set(maze["split"].values) == {"test"}
    assert "held_out" not in maze.coords  # the file has the column, which marks nothing
    assert json.loads(maze.attrs["source"])["sha256"].startswith("ca8a0bef")


def test_trials_without_an_event_are_left_out_of_a_recorded_file(realdata):
    (path,) = (realdata / "units").glob("sub_anm*.nwb")
    ds = read_nwb(path, bin_width=0.02, trials=Trials(event="cue_start_time", start=-2, stop=2))
    assert ds.sizes == {"trial": 342, "time": 200, "channel": 4}
    assert "70 rows of 'trials' have no time in 'cue_start_time' and are left out" in notes(ds)


def test_trials_carry_their_labels_and_moments(session):
    config = ReadConfig(trial_columns=("side", "stop_time"), channel_columns=("area", "depth"))
    ds = read_nwb(session, config, bin_width=0.1, trials=GO)
    assert ds.sizes == {"trial": 4, "time": 10, "channel": 3}
    assert ds["trial_id"].values.tolist() == [0, 1, 3, 4]
    assert ds["side"].values.tolist() == ["left", "right", "left", "right"]
    assert ds["split"].values.tolist() == ["train", "train", "val", "test"]
    assert ds["stop_time"].values.tolist() == [4.0, 8.0, 16.0, 20.0]
    assert ds["trial_start"].values == pytest.approx([0.5, 4.5, 12.5, 16.5])
    assert ds["time"].values == pytest.approx(np.arange(-0.45, 0.5, 0.1))
    assert ds["channel_id"].values.tolist() == [10, 20, 30]
    assert ds["held_out"].values.tolist() == [False, True, False]
    assert "1 of 3 channels are held out" in ds.attrs["notes"]
    assert ds["area"].values.tolist() == ["V1", "M1", "M1"]
    assert ds["depth"].values.tolist() == [1.0, 2.0, 3.0]
    assert set(ds["series"].values) == set(ds["table"].values) == {"units"}
    assert ds["channel_row"].values.tolist() == [0, 1, 2]
    source = json.loads(ds.attrs["source"])
    assert source["name"] == "session.nwb"
    assert source["sha256"] == sha256(session)
    assert source["series"] == ["units"]
    assert json.loads(ds.attrs["cut"]) == GO.model_dump(mode="json")
    assert ds.attrs["unit"] == "counts"
    assert ds.attrs["session_id"] == "session-1"
    assert ds.attrs["session_start_time"] == "2024-03-01T12:00:00+00:00"


def test_events_written_as_texts_are_read_and_texts_that_are_none_are_missing(session):
    ds = read_nwb(session, bin_width=0.1, trials=Trials(event="go_text", start=-0.5, stop=0.5))
    assert ds["trial_id"].values.tolist() == [0, 1, 3]


def test_the_mask_is_the_and_of_intervals_and_invalid_times(session):
    ds = read_nwb(session, bin_width=0.1, trials=GO)
    observed = ds["observed"].values
    assert observed[:, :, 0].sum(axis=1).tolist() == [10, 10, 10, 8]
    assert not observed[0, :, 2].any()
    assert observed[1, :, 2].tolist() == [False] * 5 + [True] * 5
    exposure = ds["exposure"].values
    assert exposure[3, 2, 0] == pytest.approx(0.5, abs=1e-6)
    assert (exposure[:3] == 1).all()


def test_each_window_reads_the_same_whichever_others_are_read(session, tmp_path):
    together = read_nwb(session, bin_width=0.05, trials=GO)
    for trial, start in enumerate(together["trial_start"].values):
        alone = read_nwb(session, bin_width=0.05, trials=Window(start=start, stop=start + 1.0))
        assert (alone["values"].values[0] == together["values"].values[trial]).all()
        assert (alone["observed"].values[0] == together["observed"].values[trial]).all()


def test_chops_hold_the_whole_session_and_merge_to_one_window(session):
    whole = read_nwb(session, bin_width=0.1, trials=Window(start=0.0, stop=20.0))
    chops = read_nwb(session, bin_width=0.1, trials=Chop(length=1.5, overlap=0.4))
    merged = merge(chops)
    for name in ("values", "observed", "exposure"):
        assert (merged[name].values == whole[name].values).all()
    assert merged["time"].values == pytest.approx(whole["time"].values)


def test_without_a_word_the_session_is_chopped_in_bins_of_20_ms(session):
    ds = read_nwb(session)
    assert ds.attrs["bin_width"] == 0.02
    assert ds.sizes["time"] == 100
    assert json.loads(ds.attrs["cut"])["by"] == "chop"


def test_chops_that_hold_nothing_are_left_out_and_counted(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.5, 9.5]], obs_intervals=[[[0, 2], [8, 10]]])
    ds = read_nwb(nwbfiles.write(nwbfile, tmp_path / "x.nwb"), bin_width=0.1, trials=Chop(length=1.0, overlap=0.0))
    assert ds["trial_start"].values == pytest.approx([0, 1, 8, 9])
    assert "6 of 10 chops have no observed entry and are left out" in notes(ds)
    assert merge(ds)["covered"].values.sum() == 40


def test_keywords_go_before_the_config(session):
    config = ReadConfig(series=("units",), bin_width=0.1, cut=GO)
    ds = read_nwb(session, config, series="processing/behavior/hand", bin_width=0.2, trials=Window(start=0, stop=4))
    assert ds.sizes == {"trial": 1, "time": 20, "channel": 2}
    assert ds.attrs["kind"] == "series"
    assert set(ds["series"].values) == {"processing/behavior/hand"}


def test_a_zarr_store_reads_to_the_identical_dataset(tmp_path):
    read = []
    for zarr in (False, True):
        random = np.random.default_rng(3)
        nwbfile = nwbfiles.new_file()
        spikes = [np.sort(random.uniform(0, 10, 90)).round(3) for _ in range(4)]
        nwbfiles.add_units(nwbfile, spikes, obs_intervals=[[[0, 6], [7, 10]]] * 4, columns={"area": list("abba")})
        nwbfiles.add_trials(nwbfile, [0, 4], [4, 8], go=[2.0, 6.5], side=["left", "right"])
        nwbfiles.add_invalid_times(nwbfile, [[2.05, 2.2]])
        times = np.arange(100) * 0.1
        times[40:] += 0.7
        nwbfiles.add_series(nwbfile, random.normal(size=(100, 3)), timestamps=times, module="behavior", name="hand")
        path = nwbfiles.write(nwbfile, tmp_path / ("x.nwb.zarr" if zarr else "x.nwb"), zarr=zarr)
        config = ReadConfig(trial_columns=("side",), channel_columns=("area",))
        read.append(read_nwb(path, config, bin_width=0.02, trials=Trials(event="go", start=-1, stop=1)))
        read.append(read_nwb(path, series="*/hand"))
    for hdf5, zarr in zip(read[:2], read[2:], strict=True):
        xr.testing.assert_equal(hdf5, zarr)
        assert hdf5.attrs["notes"] == zarr.attrs["notes"]


def test_the_samples_of_a_series_lie_in_the_middle_of_default_bins(session):
    ds = merge(read_nwb(session, series="processing/behavior/hand"))
    assert ds.attrs["bin_width"] == pytest.approx(0.1)
    centres = ds["trial_start"].values + ds["time"].values
    invalid = [120, 121, 122, 123, 124, 168, 169]
    expected = np.setdiff1d(np.arange(200), invalid) / 10
    assert centres[ds["observed"].values[0, :, 0]] == pytest.approx(expected)


def test_jitter_of_less_than_half_a_period_leaves_every_default_bin_with_its_sample(tmp_path):
    times = np.arange(300) * 0.1 + np.random.default_rng(0).uniform(-0.02, 0.02, 300)
    times[0] = 0.0
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.arange(300.0), timestamps=times)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    ds = merge(read_nwb(path, series="acquisition/series", bin_width=0.1))
    assert ds["observed"].values.all()
    assert (ds["values"].values[0, :, 0] == np.arange(300)).all()


def test_series_of_different_rates_take_the_longest_period(tmp_path):
    nwbfile = nwbfiles.new_file()
    for name, rate in (("fast", 100.0), ("slow", 10.0)):
        nwbfiles.add_series(nwbfile, np.arange(20 * rate), rate=rate, name=name)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    ds = merge(read_nwb(path, series=["acquisition/fast", "acquisition/slow"]))
    assert ds.attrs["bin_width"] == pytest.approx(0.1)
    assert ds["observed"].values.mean(axis=(0, 1)).min() > 0.99


def test_probes_are_put_on_one_clock(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_rois(nwbfile, np.arange(60.0).reshape(20, 3), rate=10.0, name="plane_a", plane="A")
    nwbfiles.add_rois(
        nwbfile, 100 + np.arange(40.0).reshape(20, 2), rate=10.0, starting_time=0.05, name="plane_b", plane="B"
    )
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    ds = read_nwb(path, series="*/plane_*", bin_width=0.05, trials=Window(start=0, stop=2.0))
    assert ds.sizes["channel"] == 5
    assert ds["observed"].values[0, :4].astype(int).tolist() == [[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]] * 2
    assert ds["values"].values[0, :2].tolist() == [[0, 1, 2, 0, 0], [0, 0, 0, 100, 101]]
    assert [table.rsplit("/", 1)[-1] for table in ds["table"].values] == ["A"] * 3 + ["B"] * 2
    assert ds["channel_id"].values.tolist() == [0, 1, 2, 0, 1]


def test_consecutive_series_on_the_same_rois_are_the_same_channels(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_rois(nwbfile, np.ones((20, 3)), rate=10.0, name="first", rows=[0, 1, 2])
    nwbfiles.add_rois(nwbfile, np.full((20, 2), 2.0), rate=10.0, starting_time=3.0, name="second", rows=[2, 1])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    ds = read_nwb(path, series=["*/first", "*/second"], trials=Window(start=0, stop=5.0))
    assert ds["channel_id"].values.tolist() == [0, 1, 2]
    assert ds["observed"].values[0].sum(axis=0).tolist() == [20, 40, 40]
    assert ds["values"].values[0, -1].tolist() == [0, 2, 2]
    assert any("in several series" in note for note in notes(ds))


def test_series_of_different_kinds_are_refused(session):
    with pytest.raises(SelectionError, match="different kinds"):
        read_nwb(session, series=["units", "processing/behavior/hand"])


def test_offsets_go_to_rois_alone_and_by_path_where_there_are_several(session, tmp_path):
    with pytest.raises(ConfigError, match="`offsets` are only for"):
        read_nwb(session, offsets=[0.0, 0.0, 0.0])
    nwbfile = nwbfiles.new_file()
    for name in ("a", "b"):
        nwbfiles.add_rois(nwbfile, np.ones((20, 2)), rate=10.0, name=name, plane=name.upper())
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with pytest.raises(ConfigError, match="as a mapping"):
        read_nwb(path, series="*/Fluorescence/*", offsets=[0.0, 0.01])
    with pytest.raises(SelectionError, match="name 'c'"):
        read_nwb(path, series="*/Fluorescence/*", offsets={"c": [0.0, 0.01]})
    series = "processing/ophys/Fluorescence/b"
    ds = read_nwb(path, series="*/Fluorescence/*", bin_width=0.05, offsets={series: [0.0, 0.06]})
    assert ds["sampling_offset"].values == pytest.approx([0, 0, 0, 0.06])


def test_where_keeps_the_channels_asked_for(session):
    ds = read_nwb(session, ReadConfig(where={"area": ("M1",)}), bin_width=0.1, trials=GO)
    assert ds["channel_id"].values.tolist() == [20, 30]
    assert "1 of 3 channels excluded by `where`" in notes(ds)
    ds = read_nwb(session, ReadConfig(where={"area": ("M1",), "heldout": (False,)}), bin_width=0.1, trials=GO)
    assert ds["channel_id"].values.tolist() == [30]
    ds = read_nwb(session, ReadConfig(where={"id": (10, 30)}), bin_width=0.1, trials=GO)
    assert ds["channel_id"].values.tolist() == [10, 30]
    with pytest.raises(SelectionError, match=r"keeps no channel.*\['M1', 'V1'\]"):
        read_nwb(session, ReadConfig(where={"area": ("V4",)}))
    with pytest.raises(SelectionError, match="no column 'region'"):
        read_nwb(session, ReadConfig(where={"region": ("V1",)}))


def test_unknown_tables_and_columns_name_those_there_are(session):
    with pytest.raises(SelectionError, match=r"no table of intervals 'epochs'.*'intervals/trials'"):
        read_nwb(session, trials=Trials(table="epochs", event="start_time", start=0, stop=1))
    with pytest.raises(SelectionError, match="did you mean 'go_text'"):
        read_nwb(session, trials=Trials(event="go_texts", start=0, stop=1))
    with pytest.raises(SelectionError, match="'side' of 'trials' has str values such as 'left'; expected times"):
        read_nwb(session, trials=Trials(event="side", start=0, stop=1))
    with pytest.raises(SelectionError, match="no column 'colour'"):
        read_nwb(session, ReadConfig(trial_columns=("colour",)), trials=GO)
    with pytest.raises(ConfigError, match="need trials"):
        read_nwb(session, ReadConfig(trial_columns=("side",)))
    with pytest.raises(SelectionError, match="no column 'colour'"):
        read_nwb(session, ReadConfig(channel_columns=("colour",)))


def test_a_column_whose_name_is_taken_is_refused(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.5]], columns={"side": ["left"]})
    nwbfiles.add_trials(nwbfile, [0.0], [1.0], time=[0.5], side=["left"])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    cut = Trials(event="time", start=0, stop=0.2)
    assert read_nwb(path, bin_width=0.1, trials=cut)["values"].values.sum() == 1
    with pytest.raises(ConfigError, match=r"columns \['time'\]"):
        read_nwb(path, ReadConfig(trial_columns=("time",)), bin_width=0.1, trials=cut)
    with pytest.raises(ConfigError, match=r"columns \['side'\]"):
        read_nwb(path, ReadConfig(trial_columns=("side",), channel_columns=("side",)), bin_width=0.1, trials=cut)


def test_windows_beyond_the_recording_are_noted(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.5, 1.5, 9.0]])
    nwbfiles.add_trials(nwbfile, [1.0, 20.0], [2.0, 21.0])
    cut = Trials(event="start_time", start=0, stop=1)
    ds = read_nwb(nwbfiles.write(nwbfile, tmp_path / "x.nwb"), bin_width=0.1, trials=cut)
    assert "1 of 2 windows are entirely outside 'units', which covers 0.5 to 9 s" in notes(ds)


def test_any_table_of_intervals_can_be_cut_by(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.5, 1.5, 2.5]], obs_intervals=[[[0, 10]]])
    nwbfile.add_epoch(start_time=1.0, stop_time=2.0, tags=["a"])
    from pynwb.epoch import TimeIntervals

    stimuli = TimeIntervals(name="stimuli", description="generated")
    stimuli.add_interval(start_time=2.0, stop_time=3.0)
    nwbfile.add_time_intervals(stimuli)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    for table, start in (("epochs", 1.0), ("stimuli", 2.0), ("intervals/stimuli", 2.0)):
        cut = Trials(table=table, event="start_time", start=0, stop=1)
        assert read_nwb(path, bin_width=0.1, trials=cut)["trial_start"].values.tolist() == [start]


@pytest.mark.parametrize("width", [np.nan, np.inf, 0.0, -0.1])
def test_a_bin_width_that_is_none_is_refused(session, width):
    with pytest.raises(ConfigError, match="bin_width"):
        read_nwb(session, bin_width=width)


def test_a_file_in_which_nothing_was_observed_says_why(session):
    with pytest.raises(DataError, match=r"nothing is observed.*all 15 entries are masked"):
        read_nwb(session, bin_width=0.1, trials=Window(start=12, stop=12.5))


def test_windows_outside_the_recording_and_without_a_spike_have_errors_of_their_own(session, tmp_path):
    with pytest.raises(
        DataError, match=r"none of the 1 windows is inside the recording: .* 30 to 31 s, 'units' covers 0 to 20 s"
    ):
        read_nwb(session, bin_width=0.1, trials=Window(start=30, stop=31))
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.5, 8.5]])
    nwbfiles.add_trials(nwbfile, [1000.0, 2000.0], [1500.0, 2500.0])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with pytest.raises(DataError, match=r"none of the 2 windows is inside the recording: .*one is in milliseconds"):
        read_nwb(path, bin_width=0.1, trials=Trials(event="start_time", start=0, stop=1))
    with pytest.raises(
        DataError, match=r"none of the 1 windows contains a spike: .* 2 to 3 s, 'units' covers 0.5 to 8.5 s"
    ):
        read_nwb(path, bin_width=0.1, trials=Window(start=2, stop=3))


def test_trials_that_hold_nothing_stay_and_are_noted(session):
    ds = read_nwb(session, bin_width=0.1, trials=Trials(event="stop_time", start=0, stop=1))
    assert ds.sizes["trial"] == 5
    assert not ds["observed"].values[4].any()
    assert "1 of 5 trials have no observed entry" in notes(ds)


def test_the_bandwidth_is_limited_last(session):
    config = ReadConfig(bandwidth=BandwidthConfig(k=1))
    free = read_nwb(session, bin_width=0.1, trials=GO)
    limited = check_dataset(read_nwb(session, config, bin_width=0.1, trials=GO))
    assert (limited["observed"].values.sum(axis=2) == np.minimum(free["observed"].values.sum(axis=2), 1)).all()


def test_an_unreadable_roi_setting_reaches_the_reader_of_rois(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_rois(nwbfile, np.ones((20, 2)), rate=10.0)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with pytest.raises(SelectionError):
        read_nwb(path, ReadConfig(rois=RoiConfig(offset="column")))


def test_ten_million_spikes_are_read_without_a_step_for_each(tmp_path):
    random = np.random.default_rng(0)
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.0]] * 100, obs_intervals=[[[0, 1800], [1900, 3600]]] * 100)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    spikes = np.sort(random.uniform(0, 3600, (100, 100_000)), axis=1)
    nwbfiles.replace_spikes(path, spikes)
    with cProfile.Profile() as profile:
        ds = read_nwb(path, bin_width=0.02, trials=Window(start=0, stop=3600))
    assert sum(entry.callcount for entry in profile.getstats()) < spikes.size / 10
    inside = ((spikes < 1800) | (spikes >= 1900)).sum()
    assert ds["values"].values.sum(dtype=np.float64) == inside


def test_a_stored_mask_takes_bins_of_units_and_samples_of_a_series(tmp_path):
    from hdmf.common import DynamicTableRegion
    from ndx_sbtt import ObservationMaskSeries

    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.5, 1.5, 2.5]] * 2, obs_intervals=[[[0, 4]]] * 2)
    hand = nwbfiles.add_series(nwbfile, np.ones((4, 2)), rate=1.0, name="hand")
    shown = np.array([[1, 1], [0, 1], [1, 1], [1, 0]], dtype=np.uint8)
    for name, link in (("of_units", {}), ("of_hand", {"source_timeseries": hand})):
        region = DynamicTableRegion(name="channels", data=[1, 0], description="units", table=nwbfile.units)
        mask = ObservationMaskSeries(name=name, data=shown, unit="n/a", rate=1.0, channels=region, **link)
        nwbfile.add_acquisition(mask)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    for series in ("units", "acquisition/hand"):
        ds = read_nwb(path, series=series, bin_width=1.0, trials=Window(start=0, stop=4))
        assert (ds["observed"].values[0] == shown[:, ::-1]).all()
        assert (ds["values"].values[0, :3] == shown[:3, ::-1]).all()
