"""Events land in the bin that exact arithmetic says, at any bin width and window start."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.data.binning import add_samples, bin_index, place_events, tolerance
from nwb_sbtt.data.grid import Grid


@given(
    ticks=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=30),
    start=st.integers(-(10**9), 10**9),
    width=st.integers(1, 10**6),
    clock=st.sampled_from([1000, 30_000, 10**6]),
)
def test_spikes_of_any_clock_land_in_the_bin_of_exact_arithmetic(ticks, start, width, clock):
    # Times up to eleven days on a millisecond clock; windows start and bins are as long as the clock allows.
    moments = np.array(ticks) / clock
    expected = [(tick - start) // width for tick in ticks]
    assert bin_index(moments, start / clock, width / clock).tolist() == expected
    assert bin_index(np.array(ticks) * (1 / clock), start * (1 / clock), width / clock).tolist() == expected


@given(
    event=st.integers(0, 10**8),
    before=st.integers(-5000, 5000),
    width=st.integers(1, 500),
    n_bins=st.integers(1, 60),
    data=st.data(),
)
def test_windows_around_an_event_count_millisecond_spikes_exactly(event, before, width, n_bins, data):
    first = event + before
    ticks = sorted(data.draw(st.lists(st.integers(first - 2 * width, first + (n_bins + 2) * width), max_size=40)))
    # The start is computed as a person would: the event's time plus the offset, both rounded on their own.
    grid = Grid(np.array([event / 1000 + before / 1000]), width / 1000, n_bins)
    bins = place_events(np.array(ticks, dtype=float) / 1000, grid)
    expected = [0] * n_bins
    for tick in ticks:
        if 0 <= (tick - first) // width < n_bins:
            expected[(tick - first) // width] += 1
    assert np.bincount(bins, minlength=n_bins).tolist() == expected


def test_plain_floor_would_fail_where_this_does_not():
    times = np.arange(2000) * 5 / 1000
    assert (np.floor(times / 0.005) != np.arange(2000)).any()
    assert (bin_index(times, 0.0, 0.005) == np.arange(2000)).all()


@given(st.permutations(range(6)), st.integers(0, 2**31))
def test_each_window_is_filled_as_if_it_were_alone(order, seed):
    random = np.random.default_rng(seed)
    times = np.sort(random.uniform(0, 10, 200).round(3))
    starts = np.array([0.0, 0.5, 0.6, 3.0, 8.5, 9.9])[list(order)]
    bins = place_events(times, Grid(starts, 0.1, 12))
    counts = np.bincount(bins, minlength=6 * 12).reshape(6, 12)
    for start, row in zip(starts, counts, strict=True):
        alone = place_events(times, Grid(np.array([start]), 0.1, 12))
        assert np.bincount(alone, minlength=12).tolist() == row.tolist()
        within = (times >= start - 1e-9) & (times < start + 1.2 - 1e-9)
        assert row.sum() == within.sum()


def test_no_events_and_no_windows_are_fine():
    assert len(place_events(np.empty(0), Grid(np.array([0.0]), 0.1, 5))) == 0
    assert len(place_events(np.array([0.1]), Grid(np.empty(0), 0.1, 5))) == 0


def test_times_that_are_not_finite_are_in_no_bin():
    assert bin_index([np.nan, np.inf, 0.25], 0.0, 0.1).tolist() == [-1, -1, 2]


def test_tolerance_follows_the_floats_where_these_are_coarser_than_a_nanosecond():
    assert tolerance(10.0) == pytest.approx(1e-9)
    assert tolerance(1.7e9) > np.spacing(1.7e9)


@given(st.integers(0, 2**31))
def test_sums_of_samples_equal_those_of_a_loop(seed):
    random = np.random.default_rng(seed)
    bins = np.sort(random.integers(-3, 9, 30))
    samples = random.normal(size=(30, 2))
    samples[random.random(samples.shape) < 0.2] = np.nan
    sums, counts = add_samples(samples, bins, 6)
    for b in range(6):
        for channel in range(2):
            finite = samples[bins == b, channel]
            finite = finite[np.isfinite(finite)]
            assert counts[b, channel] == len(finite)
            assert sums[b, channel] == pytest.approx(finite.sum())
