"""Missing samples of a block, and sums over its bins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.signals.blocks import hold, interval_sums


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.booleans())
def test_holding_takes_the_nearest_observed_value(flags, whole):
    observed = np.array(flags)
    samples = np.random.default_rng(0).normal(size=(len(observed), 2))
    held = np.where(observed[:, None], samples, 1e9)
    hold(held, observed if whole else np.stack([observed, observed], axis=1))
    times = np.flatnonzero(observed)
    for row in range(len(observed)):
        if len(times) == 0:
            assert (held[row] == 0).all()
        else:
            nearest = times[np.argmin(np.abs(times - row))]
            assert np.array_equal(held[row], samples[nearest])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12))
def test_interval_sums_equal_summing_each_interval(pairs):
    values = np.random.default_rng(0).normal(size=(20, 2))
    starts, stops = (np.array(edges) for edges in zip(*pairs, strict=True))
    expected = np.array([values[start:stop].sum(axis=0) for start, stop in pairs])
    np.testing.assert_allclose(interval_sums(values, starts, stops), expected, atol=1e-12)
