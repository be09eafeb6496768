"""Missing samples of a block, and sums over its bins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.signals.blocks import bridge, interval_sums


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.booleans(), st.integers(1, 12))
def test_short_gaps_are_bridged_by_a_line_and_long_ones_hold_the_nearest_observed_value(flags, whole, longest):
    observed = np.array(flags)
    samples = np.random.default_rng(0).normal(size=(len(observed), 2))
    bridged = np.where(observed[:, None], samples, 1e9)
    bridge(bridged, observed if whole else np.stack([observed, observed], axis=1), longest=longest)
    times = np.flatnonzero(observed)
    for row in range(len(observed)):
        before, after = times[times <= row], times[times >= row]
        if len(times) == 0:
            expected = np.zeros(2)
        elif len(before) and len(after) and after[0] - before[-1] <= longest:
            expected = np.array([np.interp(row, times, samples[times, column]) for column in range(2)])
        else:
            expected = samples[times[np.argmin(np.abs(times - row))]]
        np.testing.assert_allclose(bridged[row], expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12))
def test_interval_sums_equal_summing_each_interval(pairs):
    values = np.random.default_rng(0).normal(size=(20, 2))
    starts, stops = (np.array(edges) for edges in zip(*pairs, strict=True))
    expected = np.array([values[start:stop].sum(axis=0) for start, stop in pairs])
    np.testing.assert_allclose(interval_sums(values, starts, stops), expected, atol=1e-12)
