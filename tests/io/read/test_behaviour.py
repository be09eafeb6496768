"""Behaviour of a recording, in the bins of other data."""

import numpy as np
import pytest

from nwb_sbtt.config import Chop, ReadConfig, Trials
from nwb_sbtt.errors import DataError, SbttError, SelectionError
from nwb_sbtt.io.read.behaviour import attach_behaviour, read_behaviour
from nwb_sbtt.io.read.reader import read_nwb
from tests.support import nwbfiles


def recording(folder):
    """Four trials of a second; a hand sampled at 20 Hz in the first three, and a picture of 30 numbers."""
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 4, 0.1), np.arange(0.02, 4, 0.2)], obs_intervals=[[[0.0, 4.0]]] * 2)
    nwbfiles.add_trials(nwbfile, np.arange(4.0), np.arange(1.0, 5.0))
    time = np.arange(60) / 20
    hand = np.stack([time, -time], axis=1)
    nwbfiles.add_series(nwbfile, hand, module="behavior", name="hand_pos", rate=20.0, unit="cm")
    nwbfiles.add_series(nwbfile, np.ones((60, 30)), module="behavior", name="picture", rate=20.0, unit="a.u.")
    return nwbfiles.write(nwbfile, folder / "x.nwb")


def test_behaviour_is_the_mean_of_its_samples_in_each_bin_and_nan_elsewhere(tmp_path):
    path = recording(tmp_path)
    config = ReadConfig(series=("units",), bin_width=0.1, cut=Trials(event="start_time", start=0.0, stop=1.0))
    ds = read_nwb(path, config)
    found = attach_behaviour(path, ds, config)
    assert set(found.data_vars) - set(ds.data_vars) == {"hand_pos"}
    hand = found["hand_pos"]
    assert hand.dims == ("trial", "time", "hand_pos_column") and hand.attrs["units"] == "cm"
    assert hand["hand_pos_column"].values.tolist() == ["hand_pos 0", "hand_pos 1"]
    starts = ds["trial_start"].values[:3, None] + 0.1 * np.arange(10)
    expected = starts + 0.025  # two samples in each bin, at its start and in its middle
    np.testing.assert_allclose(hand.values[:3, :, 0], expected, atol=1e-5)
    np.testing.assert_allclose(hand.values[:3, :, 1], -expected, atol=1e-5)
    assert np.isnan(hand.values[3]).all(), "not measured any more"


def test_a_recording_without_behaviour_stays_as_it_is(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.5, 1.5], [0.7]], obs_intervals=[[[0.0, 2.0]]] * 2)
    nwbfiles.add_trials(nwbfile, [0.0, 1.0], [1.0, 2.0])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    config = ReadConfig(bin_width=0.1, cut=Trials(event="start_time", start=0.0, stop=1.0))
    ds = read_nwb(path, config)
    assert attach_behaviour(path, ds, config).identical(ds)


def test_a_series_is_read_in_the_bins_of_data_and_later_by_a_lag(tmp_path):
    path = recording(tmp_path)
    ds = read_nwb(
        path, ReadConfig(series=("units",), bin_width=0.1, cut=Trials(event="start_time", start=0.0, stop=1.0))
    )
    hand = read_behaviour(path, "processing/behavior/hand_pos", ds)
    assert hand.dims == ("trial", "time", "column") and hand.name == "hand_pos"
    later = read_behaviour(path, "processing/behavior/hand_pos:1", ds, lag=0.3)
    assert later["column"].values.tolist() == ["hand_pos 1"] and later.attrs["lag"] == 0.3
    np.testing.assert_allclose(later.values[:2, :7, 0], hand.values[:2, 3:, 1], atol=1e-5)
    np.testing.assert_allclose(later.values[0, 7:, 0], hand.values[1, :3, 1], atol=1e-5, err_msg="of the next trial")
    np.testing.assert_array_equal(np.isfinite(later.values[2, :, 0]), np.arange(10) < 7)
    assert np.isnan(later.values[3]).all()


def test_bins_between_slow_samples_stay_empty(tmp_path):
    path = recording(tmp_path)
    ds = read_nwb(path, ReadConfig(series=("units",), bin_width=0.02, cut=Chop(length=0.5)))
    hand = read_behaviour(path, "processing/behavior/hand_pos", ds)
    assert 0 < np.isfinite(hand.values[0, :, 0]).mean() < 0.5, "20 samples in 50 bins of a second"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("processing/behavior/hand_vel", SelectionError, "did you mean 'processing/behavior/hand_pos'"),
        ("processing/behavior/*", SelectionError, "matches 2 series: .*name one of them"),
        ("processing/behavior/hand_pos:2", SelectionError, "has no column .2.; it has 2, counted from 0: 0, 1"),
        ("processing/behavior/hand_pos:x", SelectionError, "has no column .x.; it has 2, counted from 0: 0, 1"),
        ("processing/behavior/hand_pos:", SelectionError, "names no column after the colon"),
        ("units", SelectionError, "'units' is a Units; expected a TimeSeries"),
    ],
)
def test_behaviour_that_is_not_there_is_refused(tmp_path, name, error, message):
    path = recording(tmp_path)
    ds = read_nwb(
        path, ReadConfig(series=("units",), bin_width=0.1, cut=Trials(event="start_time", start=0.0, stop=1.0))
    )
    with pytest.raises(error, match=message) as refused:
        read_behaviour(path, name, ds)
    assert isinstance(refused.value, SbttError)


def test_behaviour_that_never_overlaps_is_refused(tmp_path):
    path = recording(tmp_path)
    ds = read_nwb(
        path, ReadConfig(series=("units",), bin_width=0.1, cut=Trials(event="start_time", start=0.0, stop=1.0))
    )
    with pytest.raises(DataError, match="'processing/behavior/hand_pos' has no sample in the 1 trials"):
        read_behaviour(path, "processing/behavior/hand_pos", ds.isel(trial=[3]))
