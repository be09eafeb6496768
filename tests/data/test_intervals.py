"""Interval arithmetic equals counting ticks one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.data.grid import Grid
from nwb_sbtt.data.intervals import covered_share, difference, inside, total_duration, union

TICKS = 60
intervals = st.lists(st.tuples(st.integers(0, TICKS), st.integers(0, TICKS)).map(sorted), max_size=8)


def ticks_in(rows):
    """Which of the ticks [k, k + 1) lie in any of the intervals."""
    held = np.zeros(TICKS, dtype=bool)
    for start, stop in rows:
        held[int(start) : int(stop)] = True
    return held


@given(intervals)
def test_a_union_covers_the_same_moments_without_touching_itself(rows):
    joined = union(rows)
    assert (ticks_in(joined) == ticks_in(rows)).all()
    assert (joined[:, 1] > joined[:, 0]).all()
    assert (joined[1:, 0] > joined[:-1, 1]).all()
    assert total_duration(rows) == ticks_in(rows).sum()


@given(intervals, intervals)
def test_a_difference_is_what_lies_in_the_first_alone(kept, removed):
    assert (ticks_in(difference(kept, removed)) == (ticks_in(kept) & ~ticks_in(removed))).all()


def test_all_time_less_an_interval_is_the_time_before_and_after():
    rest = difference([[-np.inf, np.inf]], [[1, 2]])
    assert rest.tolist() == [[-np.inf, 1.0], [2.0, np.inf]]


@given(intervals)
def test_a_moment_is_inside_as_its_tick_is(rows):
    moments = np.arange(TICKS) + 0.0
    assert (inside(moments, union(rows)) == ticks_in(rows)).all()


@given(intervals, st.lists(st.integers(-5, TICKS), min_size=1, max_size=5), st.integers(1, 7), st.integers(1, 12))
def test_coverage_is_the_share_of_ticks(rows, starts, width, n_bins):
    # A tick of a millisecond makes every edge a float that is not exact.
    grid = Grid(np.array(starts) / 1000, width / 1000, n_bins)
    share = covered_share(np.array(rows, dtype=float).reshape(-1, 2) / 1000, grid)
    held = ticks_in(rows)
    for trial, start in enumerate(starts):
        for b in range(n_bins):
            ticks = np.arange(start + b * width, start + (b + 1) * width)
            ticks = ticks[(ticks >= 0) & (ticks < TICKS)]
            assert share[trial, b] == pytest.approx(held[ticks].sum() / width, abs=1e-6)


@given(intervals, st.integers(0, 50))
def test_whole_and_empty_bins_are_exactly_so_however_late_in_the_session(rows, days):
    shift = days * 86_400.0
    grid = Grid(np.array([shift]), 0.001, TICKS)
    share = covered_share(np.array(rows, dtype=float).reshape(-1, 2) / 1000 + shift, grid)[0]
    assert (share == ticks_in(rows)).all()


def test_a_sliver_too_short_to_mean_anything_is_nothing():
    share = covered_share([[0.0, 0.1 + 1e-9]], Grid(np.array([0.0]), 0.1, 3))[0]
    assert share.tolist() == [1.0, 0.0, 0.0]


def test_intervals_without_end_are_understood():
    assert covered_share([[0.15, np.inf]], Grid(np.array([0.0]), 0.1, 3))[0] == pytest.approx([0, 0.5, 1])
