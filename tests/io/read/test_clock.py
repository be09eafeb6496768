"""When samples were taken, whatever is wrong with the rate or the timestamps."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt import inspect, read_nwb
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read import clock as clocks
from nwb_sbtt.io.read.clock import sample_clock
from tests.support import nwbfiles


def series(timestamps=None, rate=None, starting_time=None):
    return SimpleNamespace(
        name="s", timestamps=timestamps, rate=rate, starting_time=starting_time, get_read_io=lambda: None
    )


def test_a_rate_and_a_starting_time_say_when_each_sample_was():
    clock = sample_clock(series(rate=30.0, starting_time=5.0), n_samples=90)
    assert clock.times(30, 33) == pytest.approx(6 + np.arange(3) / 30)
    assert clock.span == pytest.approx((5.0, 8.0))
    assert clock.period == pytest.approx(1 / 30)
    assert clock.regular
    assert clock.gaps == 0


def test_a_rate_in_single_precision_does_not_drift():
    clock = sample_clock(series(rate=np.float32(29.97)), n_samples=10**6)
    assert clock.times(999_999, 10**6)[0] == pytest.approx(999_999 / 29.97, abs=1e-9)


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, np.nan, np.inf])
def test_without_timestamps_an_unusable_rate_is_refused(rate):
    with pytest.raises(DataError, match="expected a rate above 0 Hz, or timestamps"):
        sample_clock(series(rate=rate), n_samples=5)


def test_timestamps_win_over_an_unusable_rate():
    assert sample_clock(series(np.arange(5.0), rate=np.nan), n_samples=5).period == 1.0


def test_gaps_and_jitter_are_measured():
    times = np.arange(1000) * 0.01
    times[400:] += 0.5
    clock = sample_clock(series(times), n_samples=1000)
    assert clock.gaps == 1
    assert clock.longest_gap == pytest.approx(0.51)
    assert clock.missing_time == pytest.approx(0.5)
    assert not clock.regular
    jittered = np.arange(1000) * 0.01 + np.random.default_rng(0).uniform(-0.002, 0.002, 1000)
    clock = sample_clock(series(jittered), n_samples=1000)
    assert clock.gaps == 0
    assert clock.period == pytest.approx(0.01, rel=0.05)


def test_times_that_are_nan_or_the_missing_value_are_nobodys_time():
    times = np.arange(10.0)
    times[3], times[4], times[7] = np.nan, np.inf, -1.0
    clock = sample_clock(series(times), n_samples=10, missing_value=-1.0)
    assert np.flatnonzero(np.isnan(clock.times(0, 10))).tolist() == [3, 4, 7]
    assert clock.untimed == 3
    assert "3 of 10 samples of 's' have no valid timestamp" in clock.notes[0]


def test_repeated_times_are_noted_and_allowed():
    clock = sample_clock(series(np.array([0.0, 1, 1, 2, 3])), n_samples=5)
    assert clock.times(0, 5).tolist() == [0, 1, 1, 2, 3]
    assert "1 timestamps of 's' repeat" in clock.notes[0]


def test_times_that_go_back_are_refused_with_the_place():
    with pytest.raises(DataError, match=r"decrease at sample 3, from 2 to 1.5 s"):
        sample_clock(series(np.array([0.0, 1, 2, 1.5, 3])), n_samples=5)


def test_times_that_go_back_between_two_pieces_of_the_scan_are_refused(monkeypatch):
    monkeypatch.setattr(clocks, "SCAN", 8)
    monkeypatch.setattr(clocks, "BLOCK", 4)
    times = np.arange(20.0)
    times[8] = 6.5
    times[9] = np.nan
    with pytest.raises(DataError, match=r"decrease at sample 8, from 7 to 6.5 s"):
        sample_clock(series(times), n_samples=20)


def test_as_many_timestamps_as_samples_are_expected():
    with pytest.raises(DataError, match="5 samples but 4 timestamps"):
        sample_clock(series(np.arange(4.0)), n_samples=5)
    with pytest.raises(DataError, match="none of the 3 timestamps"):
        sample_clock(series(np.full(3, np.nan)), n_samples=3)
    with pytest.raises(DataError, match="no samples"):
        sample_clock(series(rate=1.0), n_samples=0)


@given(st.integers(0, 2**31), st.integers(2, 60), st.lists(st.floats(-2, 12), min_size=1, max_size=6))
def test_the_samples_of_a_window_are_all_in_its_range(seed, n, starts):
    random = np.random.default_rng(seed)
    times = np.sort(random.uniform(0, 10, n).round(2))
    times[random.random(n) < 0.2] = np.nan
    times[random.integers(n)] = 5.0 if n < 3 else np.nan
    if not np.isfinite(times).any():
        times[0] = 1.0
    times = np.where(np.isfinite(times), times, np.nan)
    known = times[np.isfinite(times)]
    times[np.isfinite(times)] = np.sort(known)
    grid = Grid(np.array(starts), 0.1, 7)
    small = pytest.MonkeyPatch()
    with small.context() as patch:
        patch.setattr(clocks, "BLOCK", 4)
        patch.setattr(clocks, "SCAN", 16)
        clock = sample_clock(series(times), n_samples=n)
        first, stop = clock.ranges(grid)
    for k in range(len(starts)):
        inside = np.flatnonzero((times >= grid.starts[k]) & (times < grid.stops[k]))
        assert 0 <= first[k] <= stop[k] <= n
        assert set(inside) <= set(range(first[k], stop[k]))
        near = (times[first[k] : stop[k]] >= grid.starts[k] - 0.11) & (times[first[k] : stop[k]] < grid.stops[k] + 0.11)
        assert near[np.isfinite(times[first[k] : stop[k]])].all()


@given(st.integers(1, 500), st.sampled_from([1.0, 30.0, 1250.0]), st.lists(st.floats(-2, 12), min_size=1, max_size=6))
def test_the_samples_of_a_window_are_found_by_rate_too(n, rate, starts):
    clock = sample_clock(series(rate=rate, starting_time=1.0), n_samples=n)
    grid = Grid(np.array(starts), 0.1, 7)
    times = clock.times(0, n)
    for start, end, first, stop in zip(grid.starts, grid.stops, *clock.ranges(grid), strict=True):
        inside = np.flatnonzero((times >= start - 1e-9) & (times < end))
        assert set(inside) <= set(range(first, stop))
        assert stop - first <= len(inside) + 6


@pytest.mark.parametrize(
    ("timestamps", "says"),
    [
        (np.array([b"0.0", b"1.0"]), "row 0: '0.0' of type .*expected real numbers; expected seconds"),
        (np.array([1j, 2j]), "row 0: 1j of type complex128"),
        (np.array([True, False]), "row 0: True of type bool"),
        (np.zeros((2, 3)), r"have shape \(2, 3\); expected one time per sample"),
    ],
)
def test_timestamps_are_one_real_number_a_sample(timestamps, says):
    with pytest.raises(DataError, match=f"timestamps of 's'.*{says}"):
        sample_clock(series(timestamps), n_samples=2)


@pytest.mark.parametrize(
    ("name", "unit"), [("starting_time", "milliseconds"), ("timestamps", "ms"), ("timestamps", "samples")]
)
def test_times_in_another_unit_than_seconds_are_refused(tmp_path, name, unit):
    nwbfile = nwbfiles.new_file()
    clock = {"rate": 10.0, "starting_time": 5.0} if name == "starting_time" else {"timestamps": np.arange(50.0)}
    nwbfiles.add_series(nwbfile, np.arange(50.0), **clock)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    for text in ("seconds", "Second", "s"):
        with h5py.File(path, "a") as file:
            file[f"acquisition/series/{name}"].attrs["unit"] = text
        assert read_nwb(path, series="acquisition/series", bin_width=1.0)["observed"].values.any()
    with h5py.File(path, "a") as file:
        file[f"acquisition/series/{name}"].attrs["unit"] = unit
    with pytest.raises(DataError, match=f"'{name}' of 'series' is in '{unit}'; expected seconds"):
        read_nwb(path, series="acquisition/series", bin_width=1.0)
    assert f"is in '{unit}'" in inspect(path)[0].notes[0]
