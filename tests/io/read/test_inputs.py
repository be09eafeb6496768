"""Known inputs are read from series and tables, in the bins of the data, with their own gaps."""

import numpy as np
import pytest
from pynwb import TimeSeries
from pynwb.behavior import BehavioralEvents, Position, SpatialSeries
from pynwb.epoch import TimeIntervals
from pynwb.event import EventsTable
from pynwb.misc import AnnotationSeries, IntervalSeries

import nwb_sbtt as sb
from nwb_sbtt.data.schema import notes_of
from nwb_sbtt.errors import DataError, SelectionError
from tests.support.nwbfiles import add_units, new_file, write

END = 20.0
TRIALS = sb.Trials(event="start_time", start=0.0, stop=1.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    nwbfile = new_file()
    random = np.random.default_rng(0)
    add_units(nwbfile, [np.sort(random.uniform(0, END, 200)) for _ in range(3)])
    nwbfile.add_trial_column("cue_time", "time of the cue")
    nwbfile.add_trial_column("contrast", "of the stimulus")
    nwbfile.add_trial_column("side", "of the stimulus")
    for i in range(10):
        nwbfile.add_trial(
            start_time=2.0 * i,
            stop_time=2.0 * i + 1.5,
            cue_time=2.0 * i + 0.25 if i else np.nan,
            contrast=0.1 * i,
            side="left" if i % 2 else "right",
        )
    times = np.arange(0, END, 0.01)
    fast = TimeSeries(name="speed", data=np.sin(times), unit="m/s", timestamps=np.where(times < 5, times, times))
    keep = (times < 4) | (times >= 6)
    gappy = TimeSeries(name="pupil", data=times[keep], unit="mm", timestamps=times[keep], conversion=2.0, offset=1.0)
    slow = np.arange(0, END, 0.05)
    movie = TimeSeries(name="movie", data=np.zeros((400, 2, 3)), unit="m", rate=20.0)
    where = SpatialSeries(name="hand", data=np.stack([slow, -slow], 1), reference_frame="table", rate=20.0)
    module = nwbfile.create_processing_module("behavior", "behaviour")
    module.add(fast)
    module.add(movie)
    module.add(TimeSeries(name="wide", data=np.arange(21.0).reshape(3, 7), unit="m", rate=1.0))
    pulses = EventsTable(name="pulses", description="light")
    pulses.add_column("power", "power")
    for time, power in ((0.2, 3.0), (4.1, 5.0)):
        pulses.add_row(timestamp=time, power=power)
    nwbfile.add_events_table(pulses)
    module.add(gappy)
    module.add(Position(spatial_series=where))
    licks = TimeSeries(name="licks", data=np.ones(4), unit="n/a", timestamps=[0.105, 0.11, 2.5, 7.0])
    module.add(BehavioralEvents(time_series=licks))
    nwbfile.add_stimulus(AnnotationSeries(name="tones", data=["a", "b"], timestamps=[0.3, 4.3]))
    nwbfile.add_stimulus(IntervalSeries(name="laser", data=[1, -1, 1, -1], timestamps=[0.2, 0.45, 2.0, 2.1]))
    flashes = TimeIntervals(name="flashes", description="light on")
    flashes.add_row(start_time=0.5, stop_time=0.61)
    flashes.add_row(start_time=4.0, stop_time=4.2)
    nwbfile.add_time_intervals(flashes)
    nwbfile.add_invalid_time_interval(start_time=18.0, stop_time=18.2)
    return write(nwbfile, tmp_path_factory.mktemp("inputs") / "inputs.nwb")


def read(path, *inputs, bin_width=0.02, **settings):
    config = sb.ReadConfig(series=("units",), bin_width=bin_width, cut=TRIALS, inputs=inputs, **settings)
    return sb.read_nwb(path, config)


def column(ds, name):
    values = ds["inputs"].sel(input=name).values
    return np.where(ds["inputs_observed"].sel(input=name).values, values, np.nan)


def test_samples_of_a_series_are_averaged_in_each_bin(path):
    ds = read(path, "processing/behavior/speed")
    centres = ds["trial_start"].values[:, None] + ds["time"].values
    assert ds["input"].values.tolist() == ["speed"]
    np.testing.assert_allclose(column(ds, "speed")[:9], np.sin(centres - 0.005)[:9], atol=1e-4)
    assert any("known input 'speed': 'processing/behavior/speed', in m/s" in note for note in notes_of(ds))


def test_gaps_and_invalid_times_are_missing_and_conversions_are_applied(path):
    ds = read(path, "processing/behavior/pupil")
    values = column(ds, "pupil")
    assert np.isnan(values[2]).all(), "the trial from 4 to 5 s lies in the gap"
    assert np.isfinite(values[[0, 1, 4]]).all()
    np.testing.assert_allclose(values[0, 0], 2.0 * 0.005 + 1.0, atol=1e-6)
    assert np.isnan(values[9, :10]).all() and np.isfinite(values[9, 11:]).all()


def test_bins_shorter_than_the_sampling_period_are_interpolated_not_over_gaps(path):
    ds = read(path, "processing/behavior/Position/hand:y", bin_width=0.01)
    values = column(ds, "hand:y")
    centres = ds["trial_start"].values[:, None] + ds["time"].values
    inside = values[1]
    assert np.isfinite(inside).all(), "samples before and after the trial serve its first and last bins"
    np.testing.assert_allclose(inside, -centres[1], atol=0.011)
    assert any("interpolated linearly between samples 0.05 s apart" in note for note in notes_of(ds))


def test_columns_are_chosen_by_name_and_number(path):
    both = read(path, "processing/behavior/Position/hand")
    assert both["input"].values.tolist() == ["hand:x", "hand:y"]
    one = read(path, "processing/behavior/Position/hand:1")
    assert one["input"].values.tolist() == ["hand:y"]
    np.testing.assert_array_equal(one["inputs"].values[..., 0], both["inputs"].values[..., 1])
    with pytest.raises(SelectionError, match="no column 'z'; it has 2, counted from 0: x, y"):
        read(path, "processing/behavior/Position/hand:z")


def test_events_are_counted_and_zero_elsewhere(path):
    ds = read(path, "processing/behavior/BehavioralEvents/licks", "stimulus/presentation/tones")
    licks, tones = column(ds, "licks"), column(ds, "tones")
    assert licks[0, 5] == 2 and licks[1, 25] == 1 and np.nansum(licks) == 3, "the one at 7.0 s lies between trials"
    assert tones[0, 15] == 1 and tones[2, 15] == 1 and np.nansum(tones) == 2
    assert np.isnan(licks[9, :10]).all() and (licks[9, 10:] == 0).all(), "invalid times are unknown, not zero"


def test_intervals_are_the_share_of_the_bin(path):
    ds = read(path, "intervals/flashes", "stimulus/presentation/laser", bin_width=0.1)
    flashes, laser = column(ds, "flashes"), column(ds, "laser")
    np.testing.assert_allclose(flashes[0, 5:8], [1.0, 0.1, 0.0], atol=1e-6)
    np.testing.assert_allclose(flashes[2, :3], [1.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(laser[0, 1:6], [0, 1, 1, 0.5, 0], atol=1e-6)


def test_columns_of_trials_are_times_or_values(path):
    ds = read(path, "trials:cue_time", "trials:contrast")
    cues, contrast = column(ds, "trials:cue_time"), column(ds, "trials:contrast")
    assert (cues[1:9, 12] == 1).all() and np.nansum(cues) == 9, "the first trial has no cue"
    np.testing.assert_allclose(contrast[3], 0.3, atol=1e-6)


def test_values_of_rows_are_unknown_outside_their_intervals(path):
    config = sb.ReadConfig(
        series=("units",), bin_width=0.1, cut=sb.Window(start=0.0, stop=4.0), inputs=("trials:contrast",)
    )
    values = column(sb.read_nwb(path, config), "trials:contrast")[0]
    assert np.isfinite(values[:15]).all() and np.isnan(values[15:20]).all() and np.isfinite(values[20:35]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("processing/behavior/sped", "did you mean 'processing/behavior/speed'"),
        ("speed", "did you mean 'processing/behavior/speed'"),
        ("units", "holds units, which are data to fit"),
        ("trials:side", "holds str.* values such as 'right'; expected numbers"),
        ("trials:colour", "colour"),
        ("processing/behavior/movie", "input 'processing/behavior/movie' cannot be read: its data"),
        (
            "events/pulses:power",
            "column 'power' of 'events/pulses' holds values of events, not times; name only the table",
        ),
        ("stimulus/presentation/tones:0", "has no columns, only times; omit ':0'"),
    ],
)
def test_what_is_no_input_is_refused(path, text, message):
    with pytest.raises(SelectionError, match=message):
        read(path, text)


def test_a_table_of_events_is_counted_at_its_times(path):
    for text in ("events/pulses", "events/pulses:timestamp"):
        pulses = read(path, text, bin_width=0.1)["inputs"].values[..., 0]
        assert pulses.sum() == 2 and pulses[0, 2] == pulses[2, 1] == 1


def test_a_transposed_series_is_taken_by_named_columns_only(path):
    with pytest.raises(DataError, match="3 samples of 7 columns, so it seems to be transposed"):
        read(path, "processing/behavior/wide")
    assert read(path, "processing/behavior/wide:2,5")["input"].values.tolist() == ["wide:2", "wide:5"]


def test_an_input_is_named_once(path):
    with pytest.raises(SelectionError, match="name 'processing/behavior/speed' twice"):
        read(path, "processing/behavior/speed", "processing/behavior/speed")


def test_an_input_that_is_never_known_is_refused(path):
    config = sb.ReadConfig(series=("units",), cut=sb.Window(start=4.2, stop=5.8), inputs=("processing/behavior/pupil",))
    with pytest.raises(DataError, match="not known in any bin"):
        sb.read_nwb(path, config)


def test_timestamps_that_may_be_milliseconds_are_asked_about(tmp_path):
    nwbfile = new_file()
    add_units(nwbfile, [np.sort(np.random.default_rng(0).uniform(0, END, 200))])
    times = 1000 * np.arange(0, END, 0.01)
    nwbfile.add_acquisition(TimeSeries(name="speed", data=np.sin(times), unit="m/s", timestamps=times))
    config = sb.ReadConfig(series=("units",), bin_width=0.02, inputs=("acquisition/speed",))
    ds = sb.read_nwb(write(nwbfile, tmp_path / "ms.nwb"), config)
    assert any("samples 10 s apart, which is many bins: check that" in note for note in notes_of(ds))
