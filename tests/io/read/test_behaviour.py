"""Behaviour of a recording, in the bins of other data."""

import numpy as np

from nwb_sbtt.config import ReadConfig, Trials
from nwb_sbtt.io.read.behaviour import attach_behaviour
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
    assert hand["hand_pos_column"].values.tolist() == ["hand_pos 1", "hand_pos 2"]
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
