"""Any TimeSeries, the mean of its samples in each bin; a bin without a sample is unobserved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.timeseries import timeseries_source
from tests.support import nwbfiles


def source_of(data, *, config=None, invalid=None, **fields):
    nwbfile = nwbfiles.new_file()
    if invalid is not None:
        nwbfiles.add_invalid_times(nwbfile, invalid)
    series = nwbfiles.add_series(nwbfile, data, **fields)
    return timeseries_source(nwbfile, series, config or ReadConfig())


def row(source, *, start=0.0, width=1.0, n=5):
    """Values of one window, NaN where unobserved."""
    result = source.bin(Grid(np.array([start]), width, n))
    assert (result.values[~result.observed] == 0).all()
    return np.where(result.observed, result.values, np.nan)[0].squeeze(axis=-1)


def test_values_are_in_the_unit_of_the_series():
    source = source_of(np.arange(5, dtype=np.int16), rate=1.0, conversion=0.5, offset=3.0, unit="m")
    assert row(source) == pytest.approx([3.0, 3.5, 4.0, 4.5, 5.0])
    assert source.unit == "m"
    assert source.path == source.table == "acquisition/series"


@given(st.integers(0, 2**31))
def test_means_equal_those_of_a_loop(seed):
    random = np.random.default_rng(seed)
    times = np.sort(random.uniform(0, 3, 40)).round(2)
    data = random.normal(size=(40, 2))
    data[random.random(data.shape) < 0.2] = np.nan
    grid = Grid(np.array([1.1, 0.0, 0.5]), 0.25, 6)
    result = source_of(data, timestamps=times).bin(grid)
    for trial, start in enumerate(grid.starts):
        for b in range(6):
            in_bin = (np.round(times * 100) >= round(start * 100) + 25 * b) & (
                np.round(times * 100) < round(start * 100) + 25 * (b + 1)
            )
            for channel in range(2):
                samples = data[in_bin, channel]
                samples = samples[np.isfinite(samples)]
                assert result.observed[trial, b, channel] == (len(samples) > 0)
                if len(samples):
                    assert result.values[trial, b, channel] == pytest.approx(samples.mean(), abs=1e-6)


def test_a_gap_is_unobserved_and_a_sample_stands_for_its_own_bin_only():
    times = np.array([0.0, 1.0, 4.0])
    assert row(source_of([1.0, 2.0, 3.0], timestamps=times)).tolist() == pytest.approx(
        [1, 2, np.nan, np.nan, 3], nan_ok=True
    )
    fine = row(source_of([1.0, 2.0], rate=1.0), width=0.25, n=6)
    assert fine == pytest.approx([1, np.nan, np.nan, np.nan, 2, np.nan], nan_ok=True)


def test_missing_samples_missing_values_and_bad_times_are_unobserved():
    data = np.array([1.0, np.nan, -999.0, 4.0, 5.0])
    times = np.array([0.0, 1.0, 2.0, np.nan, 4.0])
    source = source_of(data, timestamps=times, config=ReadConfig(missing_value=-999.0))
    assert row(source) == pytest.approx([1, np.nan, np.nan, np.nan, 5], nan_ok=True)
    assert "1 of 5 samples" in source.notes[0]


def test_a_missing_value_is_a_stored_value_before_conversion():
    source = source_of(
        np.array([-1, 2], dtype=np.int16), rate=1.0, conversion=2.0, config=ReadConfig(missing_value=-1.0)
    )
    assert row(source, n=2) == pytest.approx([np.nan, 4], nan_ok=True)


def test_samples_at_the_same_time_are_averaged():
    assert row(source_of([1.0, 3.0, 7.0], timestamps=[0.0, 0.0, 1.0]), n=2).tolist() == [2, 7]


def test_samples_in_invalid_times_are_dropped():
    source = source_of(np.arange(10.0), rate=2.0, invalid=[[0.5, 1.5]])
    assert row(source) == pytest.approx([0, 3, 4.5, 6.5, 8.5])


def test_control_says_which_samples_count():
    control = {"control": np.array([1, 0, 1, 2, 1], dtype=np.uint8), "control_description": ["off", "on", "test"]}
    data = np.arange(5.0)
    assert np.isfinite(row(source_of(data, rate=1.0, **control))).all()
    on = source_of(data, rate=1.0, config=ReadConfig(control=(1,)), **control)
    assert np.isfinite(row(on)).tolist() == [True, False, True, False, True]
    either = source_of(data, rate=1.0, config=ReadConfig(control=(1, 2)), **control)
    assert np.isfinite(row(either)).tolist() == [True, False, True, True, True]
    without = source_of(data, rate=1.0, config=ReadConfig(control=(1,)))
    assert "has no `control`" in without.notes[0]


def test_little_memory_changes_nothing():
    random = np.random.default_rng(0)
    data, times = random.normal(size=(500, 3)), np.sort(random.uniform(0, 10, 500))
    grid = Grid(np.array([0.0, 2.0]), 0.5, 10)
    whole = source_of(data, timestamps=times).bin(grid)
    little = source_of(data, timestamps=times, config=ReadConfig(memory_limit=1000)).bin(grid)
    assert (whole.observed == little.observed).all()
    assert little.values == pytest.approx(whole.values, abs=1e-6)


def test_timestamps_and_data_may_be_those_of_another_series(tmp_path):
    nwbfile = nwbfiles.new_file()
    first = nwbfiles.add_series(nwbfile, [1.0, 2.0, 3.0], timestamps=[0.0, 2.0, 4.0], name="first")
    nwbfiles.add_series(nwbfile, [4.0, 5.0, 6.0], timestamps=first, name="same_times")
    nwbfiles.add_series(nwbfile, first, timestamps=[0.0, 1.0, 2.0], name="same_data")
    with open_nwb(nwbfiles.write(nwbfile, tmp_path / "x.nwb")) as read:
        linked = [timeseries_source(read, read.acquisition[name], ReadConfig()) for name in ("same_times", "same_data")]
        assert row(linked[0]) == pytest.approx([4, np.nan, 5, np.nan, 6], nan_ok=True)
        assert row(linked[1]) == pytest.approx([1, 2, 3, np.nan, np.nan], nan_ok=True)


def test_texts_and_images_are_no_channels():
    with pytest.raises(DataError, match="expected numbers"):
        source_of(np.array(["a", "b"]), rate=1.0)
    with pytest.raises(DataError, match="3 dimensions"):
        source_of(np.zeros((4, 2, 2)), rate=1.0)
