"""Counts in narrow integers are those of an obvious count, or are refused before one is wrong."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.data.counts import COUNT_TYPES, Counts


@pytest.mark.parametrize("dtype", COUNT_TYPES)
@pytest.mark.parametrize("n_channels", [1, 2, 3, 5, 8, 13, 16])
@pytest.mark.parametrize("n_bins", [1, 2, 257, 1500])
def test_counts_are_put_where_they_belong(dtype, n_channels, n_bins):
    random = np.random.default_rng(n_channels)
    expected = random.poisson(2, (n_bins, n_channels))
    counts = Counts(n_channels, n_bins, dtype=dtype)
    for channel, sizes in enumerate(expected.T):
        bins = np.repeat(np.arange(n_bins), sizes)
        half = len(bins) // 2
        assert counts.add(channel, bins[:half], n_parts=2)
        assert counts.add(channel, bins[half:], n_parts=2)
    observed = random.random((n_bins, n_channels)) < 0.9
    observed[: n_bins // 2] = True
    assert (counts.finish(observed) == expected * observed).all()


def test_bins_that_no_channel_observed_are_empty():
    counts = Counts(3, 600, dtype=np.uint8)
    assert all(counts.add(channel, np.arange(600)) for channel in range(3))
    observed = np.arange(600)[:, None] % 3 > 0
    assert (counts.finish(observed) == np.repeat(observed, 3, axis=1)).all()


@given(st.lists(st.integers(0, 700), min_size=1, max_size=6), st.integers(1, 5))
def test_no_count_is_larger_than_its_type_can_hold(sizes, n_parts):
    bins = np.repeat(np.arange(len(sizes)), sizes)
    counts = Counts(1, len(sizes), dtype=np.uint8)
    counted = all(counts.add(0, bins, n_parts=n_parts) for _ in range(n_parts))
    if counted:
        values = counts.finish(np.ones((len(sizes), 1), dtype=bool))
        assert values[:, 0].tolist() == [n_parts * size for size in sizes]
    else:
        # What is refused comes within a factor of two of what would not fit.
        assert 2 * n_parts * (max(sizes) + 1) > 255


@pytest.mark.parametrize("dtype", COUNT_TYPES)
@pytest.mark.parametrize("n_channels", [*range(1, 20), 100])
def test_counts_take_no_more_memory_than_the_result(dtype, n_channels):
    tracemalloc.start()
    counts = Counts(n_channels, 1000, dtype=dtype)
    assert tracemalloc.get_traced_memory()[0] < 1000 * n_channels * 4 + 8000
    tracemalloc.stop()
    assert counts.add(n_channels - 1, np.array([999]))


def test_after_a_refusal_nothing_is_counted():
    counts = Counts(2, 4, dtype=np.uint8)
    assert not counts.add(0, np.ones(300, dtype=np.intp))
    assert not counts.add(1, np.array([2]))


def test_more_parts_than_the_type_counts_are_refused():
    assert not Counts(1, 4, dtype=np.uint8).add(0, np.array([2]), n_parts=256)
    assert Counts(1, 4, dtype=np.uint16).add(0, np.array([2]), n_parts=256)
