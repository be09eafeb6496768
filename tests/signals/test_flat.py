"""Runs of identical samples, told from those that noise makes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.signals.flat import at_limits, may_be_flat, measure, runs

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


def test_limits_of_the_type_are_those_of_integers_alone():
    assert at_limits(np.zeros((5, 2), dtype=np.uint16)) is None
    assert at_limits(np.full((5, 2), np.inf)) is None
    samples = np.array([[0, 32767], [-32768, 5], [32766, 6]], dtype=np.int16)
    np.testing.assert_array_equal(at_limits(samples), [[False, True], [True, False], [True, False]])


def test_without_three_equal_samples_nothing_may_be_flat():
    samples = np.random.default_rng(3).normal(size=(100, 2))
    assert not may_be_flat(samples)
    samples[5:8, 1] = 0.5
    assert may_be_flat(samples)
