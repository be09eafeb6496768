"""Counts in narrow integers are those of an obvious count, or are refused before one is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.data.counts import WIDTHS, Counts


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("n_channels", [1, 3, 8, 13])
def test_counts_are_put_where_they_belong(dtype, n_channels):
    random = np.random.default_rng(n_channels)
    events = [np.sort(random.integers(0, 50, random.integers(0, 200))) for _ in range(n_channels)]
    counts = Counts(n_channels, 50, dtype=dtype)
    for channel, places in enumerate(events):
        half = len(places) // 2
        assert counts.add(channel, places[:half], n_parts=2)
        assert counts.add(channel, places[half:], n_parts=2)
    found = np.full((40, n_channels + 2), 7, dtype=np.float32)
    counts.put(found[:, 1:-1], 5)
    expected = np.stack([np.bincount(places, minlength=50)[5:45] for places in events], axis=1)
    assert (found[:, 1:-1] == expected).all()
    assert (found[:, [0, -1]] == 7).all()


@given(st.lists(st.integers(0, 700), min_size=1, max_size=6), st.integers(1, 5))
def test_no_count_is_larger_than_its_type_can_hold(sizes, n_parts):
    places = np.repeat(np.arange(len(sizes)), sizes)
    counts = Counts(1, len(sizes), dtype=np.uint8)
    taken = all(counts.add(0, places, n_parts=n_parts) for _ in range(n_parts))
    if taken:
        found = np.empty((len(sizes), 1), dtype=np.float32)
        counts.put(found, 0)
        assert found[:, 0].tolist() == [n_parts * size for size in sizes]
    else:
        # What is refused comes within a factor of two of what would not fit.
        assert 2 * n_parts * (max(sizes) + 1) > 255


def test_more_parts_than_the_type_counts_are_refused():
    assert not Counts(1, 4, dtype=np.uint8).add(0, np.array([2]), n_parts=256)
    assert Counts(1, 4, dtype=np.uint16).add(0, np.array([2]), n_parts=256)
