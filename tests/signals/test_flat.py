"""Runs of identical samples, told from those that noise makes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.signals.flat import at_limits, may_be_flat, measure, runs, two_valued_stretches

FULL = np.zeros(4000, dtype=bool)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=30))
def test_runs_put_together_are_the_samples_that_are_not_missing(entries):
    samples, missing = (np.array(column) for column in zip(*entries, strict=True))
    starts, lengths, values = runs(samples, missing.astype(bool))
    rebuilt = np.full(len(samples), -1)
    for start, length, value in zip(starts, lengths, values, strict=True):
        assert (rebuilt[start : start + length] == -1).all()
        rebuilt[start : start + length] = value
        beyond = start + length
        assert beyond == len(samples) or missing[beyond] or samples[beyond] != value
    np.testing.assert_array_equal(rebuilt, np.where(missing, -1, samples))


def rule(samples, *, rate=1000.0):
    return measure([(samples, np.zeros(samples.shape, dtype=bool))], rate=rate)


@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0, 30.0])
def test_rounded_noise_is_never_flat(sd):
    samples = np.round(sd * np.random.default_rng(1).normal(size=(40_000, 4))).astype(np.int16)
    assert not rule(samples[:4000]).find(samples, np.zeros(samples.shape, dtype=bool)).any()


def test_a_rule_is_the_longer_the_coarser_the_steps():
    noise = np.random.default_rng(2).normal(size=(4000, 3))
    lengths = rule(np.round(noise * [100, 1, 0.5])).run
    assert lengths[0] == 10 < lengths[1] < lengths[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["i2", "u2", "f4", "f8"]), st.booleans())
def test_a_rule_follows_from_how_often_each_value_and_each_run_is_there(seed, dtype, holed):
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(rng.integers(1, 5)):
        noise = np.round(rng.choice([0.3, 1.0, 5.0], size=4) * rng.normal(size=(rng.integers(20, 300), 4))) + 20
        noise[:, rng.integers(4)] = np.clip(noise[:, 0], 18, 21)
        parts.append((noise.astype(dtype), rng.random(noise.shape) < 0.2 * holed))
    rule = measure(parts, rate=1000.0)
    for channel in range(4):
        values = np.concatenate([part[~missing[:, channel], channel] for part, missing in parts]).astype(float)
        assert rule.two_valued[channel] == (len(values) >= 100 and len(np.unique(values)) <= 2)
        present, counts = np.unique(values, return_counts=True)
        for limit, at_end, following in ((rule.low, 0, 1), (rule.high, -1, -2)):
            beside = counts[following] if len(counts) > 2 else 0
            piled_up = counts[at_end] >= max(10, 5 * beside)
            assert limit[channel] == present[at_end] if piled_up else np.isnan(limit[channel])
        of_parts = [runs(part[:, channel], missing[:, channel])[1] for part, missing in parts]
        lengths = np.concatenate([each for each in of_parts if len(each) > 1] or [np.empty(0)])
        usual, equal = 1.0, 0.0
        if lengths.sum() >= 100:
            usual = max(np.quantile(lengths, 0.99), 1)
            within = lengths[lengths <= usual]
            equal = 1 - len(within) / within.sum()
        by_chance = 1 + (np.ceil(np.log(1e-9) / np.log(equal)) if equal > 0 else 0)
        assert rule.run[channel] == int(max(10, 3 * by_chance, 4 * (usual - 1)))


def test_parts_may_share_their_memory():
    rng = np.random.default_rng(4)
    parts = [(np.round(rng.normal(size=(300, 3))), rng.random((300, 3)) < 0.1) for _ in range(3)]

    def one_after_the_other():
        samples, missing = (np.empty_like(array) for array in parts[0])
        for part in parts:
            samples[:], missing[:] = part
            yield samples, missing

    expected, found = measure(parts, rate=1000.0), measure(one_after_the_other(), rate=1000.0)
    for name in ("run", "zero_run", "low", "high", "two_valued", "flicker", "spread"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    chosen = expected.of(np.array([True, False, True]))
    np.testing.assert_array_equal(chosen.run, expected.run[[0, 2]])


def test_limits_of_the_type_are_those_of_integers_alone():
    assert at_limits(np.zeros((5, 2), dtype=np.uint16)) is None
    assert at_limits(np.full((5, 2), np.inf)) is None
    samples = np.array([[0, 32767], [-32768, 5], [32766, 6]], dtype=np.int16)
    np.testing.assert_array_equal(at_limits(samples), [[False, True], [True, False], [True, False]])


def test_without_three_equal_samples_nothing_may_be_flat():
    samples = np.random.default_rng(3).normal(size=(100, 2))
    assert not may_be_flat(samples, rate=10.0)
    samples[5:8, 1] = 0.5
    assert may_be_flat(samples, rate=10.0)
    samples[5:8, 1] = 0.1, 0.2, 0.3
    samples[20:40, 0] = np.arange(20) % 2
    assert may_be_flat(samples, rate=10.0) and not may_be_flat(samples, rate=100.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=30))
def test_stretches_of_two_values_are_the_longest_there_are(entries):
    samples, missing = (np.array(column) for column in zip(*entries, strict=True))
    found = set(zip(*(each.tolist() for each in two_valued_stretches(samples, missing.astype(bool))), strict=True))
    expected = set()
    for start in range(len(samples)):
        for stop in range(start + 1, len(samples) + 1):
            part = samples[start:stop]
            longer = [samples[max(start - 1, 0) : stop], samples[start : stop + 1]]
            holes = [missing[max(start - 1, 0) : stop], missing[start : stop + 1]]
            whole = all(len(x) == len(part) or h.any() or len(set(x)) > 2 for x, h in zip(longer, holes, strict=True))
            if whole and not missing[start:stop].any() and (np.diff(part) != 0).sum() >= 2 and len(set(part)) == 2:
                expected.add((start, stop - start, float(np.ptp(part))))
    assert found == expected


def flickering(*, seed, steps, seconds=40, rate=1000):
    """A signal of so many steps from end to end; one bit flickers in the second quarter of channel 0."""
    rng = np.random.default_rng(seed)
    smooth = np.sin(2 * np.pi * 7 * np.arange(seconds * rate)[:, None] / rate + rng.random(3))
    samples = np.round(steps / 2 * smooth + 0.05 * steps * rng.normal(size=smooth.shape)).astype(np.int16)
    quarter = slice(seconds * rate // 4, seconds * rate // 2)
    samples[quarter, 0] = 5 + rng.integers(0, 2, quarter.stop - quarter.start)
    return samples, quarter


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_a_flickering_bit_is_flat_where_the_channel_has_many_values_and_kept_where_it_has_few(seed):
    for steps, is_flat in ((200, True), (30, True), (5, False)):
        samples, quarter = flickering(seed=seed, steps=steps)
        starts = np.linspace(0, len(samples) - 256, 20).astype(int)
        parts = [(samples[i : i + 256], np.zeros((256, 3), dtype=bool)) for i in starts]
        flat = measure(parts, rate=1000.0).find(samples, np.zeros(samples.shape, dtype=bool))
        expected = np.zeros(samples.shape, dtype=bool)
        expected[quarter, 0] = is_flat
        # A neighbour may happen to have one of the two values.
        assert (flat != expected).sum() <= 4
