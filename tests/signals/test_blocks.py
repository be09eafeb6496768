"""Missing samples of a block, and sums over its bins."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.signals.blocks import SampleBlock, bridge, channel_medians, interval_sums
from nwb_sbtt.signals.filters import Filter, LowPass


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
@given(st.lists(st.booleans(), min_size=3, max_size=40), st.integers(0, 8))
def test_short_gaps_between_observed_samples_count_as_observed(flags, longest):
    observed = np.array(flags)[:, None]
    block = SampleBlock(
        values=np.zeros((len(flags), 1)),
        first=0,
        observed=np.ones(len(flags), dtype=bool),
        gap_channels=np.array([0]),
        gap_observed=observed,
        flat=np.zeros((0, 1), dtype=bool),
    )
    single = Filter(LowPass(0.4, 40.0))
    assert single.margin == 2
    inside = np.arange(2.0, len(flags) - 2)
    supported = block.supported(single, inside, 0.9, short_gap=longest)[:, 0]
    times = np.flatnonzero(observed[:, 0])
    for position, enough in zip(inside, supported, strict=True):
        before, after = times[times <= position], times[times >= position]
        assert enough == (len(before) > 0 and len(after) > 0 and after[0] - before[-1] - 1 <= longest)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12))
def test_interval_sums_equal_summing_each_interval(pairs):
    values = np.random.default_rng(0).normal(size=(20, 2))
    starts, stops = (np.array(edges) for edges in zip(*pairs, strict=True))
    expected = np.array([values[start:stop].sum(axis=0) for start, stop in pairs])
    np.testing.assert_allclose(interval_sums(values, starts, stops), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_medians_of_channels_are_numpys(n_times, seed, dtype):
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(n_times, 3)).astype(dtype)
    observed = rng.random((n_times, 3)) < 0.5
    observed[:, 1] = False
    expected = np.median(samples, axis=0) if n_times else np.full(3, np.nan)
    np.testing.assert_allclose(channel_medians(samples), expected, rtol=1e-6)
    found = channel_medians(samples, observed)
    for channel, there in enumerate(observed.T):
        value = np.median(samples[there, channel]) if there.any() else np.nan
        np.testing.assert_allclose(found[channel], value, rtol=1e-6)
