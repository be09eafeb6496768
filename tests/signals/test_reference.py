"""Voltages against a common reference, in pairs, and with the converter's delays taken out."""

import numpy as np
import pytest

from nwb_sbtt.signals.blocks import SampleBlock
from nwb_sbtt.signals.reference import Montage


def block(values, observed=None, *, first=0):
    observed = np.ones(values.shape, dtype=bool) if observed is None else observed
    gaps = np.flatnonzero(~observed.all(axis=0))
    return SampleBlock(
        np.where(observed, values, 0),
        first,
        np.ones(len(values), dtype=bool),
        gaps,
        observed[:, gaps],
        np.zeros((0, len(gaps)), dtype=bool),
    )


def montage(how, groups, *, scale=None, delay=None, outputs=None, partners=()):
    n = len(groups)
    return Montage(
        how,
        np.array(groups),
        np.ones(n) if scale is None else np.array(scale),
        np.zeros(n) if delay is None else np.array(delay),
        np.arange(n) if outputs is None else np.array(outputs),
        np.array(partners, dtype=np.intp),
        np.dtype(np.float64),
    )


@pytest.mark.parametrize("how", ["median", "average"])
def test_a_common_reference_is_taken_over_what_was_observed_of_the_group_at_that_moment(how):
    rng = np.random.default_rng(21)
    values, observed = rng.normal(size=(700, 9)), rng.random((700, 9)) < 0.6
    groups = np.array([0, 0, 0, 1, 1, 0, 1, 1, 1])
    scale, level = rng.uniform(0.5, 2, 9), rng.normal(size=9)
    referenced = montage(how, groups, scale=scale).apply(block(values, observed), level)
    middle = {"median": np.median, "average": np.mean}[how]
    kept = referenced.observed_entries()
    for row in range(700):
        for group in (0, 1):
            there = observed[row] & (groups == group)
            assert kept[row, groups == group].sum() == (there.sum() if there.sum() >= 2 else 0)
            if there.sum() >= 2:
                common = middle((values[row, there] - level[there]) * scale[there])
                np.testing.assert_allclose(referenced.values[row, there], values[row, there] - common / scale[there])
    assert (referenced.values[~kept] == 0).all()


def test_some_electrodes_of_a_group_have_the_reference_of_all_of_it():
    values = np.random.default_rng(22).normal(size=(300, 6))
    every = montage("median", [0] * 6).apply(block(values), np.zeros(6))
    some = montage("median", [0] * 6, outputs=[4, 1]).apply(block(values), np.zeros(6))
    assert np.array_equal(some.values, every.values[:, [4, 1]]) and some.observed_entries() is None


def test_a_pair_is_observed_where_both_are():
    rng = np.random.default_rng(23)
    values, observed = rng.normal(size=(200, 3)), rng.random((200, 3)) < 0.8
    pairs = montage("bipolar", [0, 0, 0], scale=[1, 2, 4], outputs=[0, 1], partners=[1, 2]).apply(
        block(values, observed), np.zeros(3)
    )
    both = observed[:, :2] & observed[:, 1:]
    assert np.array_equal(pairs.observed_entries(), both)
    np.testing.assert_allclose(pairs.values, np.where(both, values[:, :2] - 2 * values[:, 1:], 0))


def test_delays_of_the_converter_are_taken_out_before_a_reference():
    delay = np.arange(12) / 13
    times = np.arange(2000)[:, None]
    # A common artefact of up to a third of the sampling rate, which every electrode samples a little later than the one before.
    artefact = sum(np.sin(2 * np.pi * f * (times + delay) + f) for f in (0.01, 0.1, 0.21, 0.33))
    plain = montage("average", [0] * 12).apply(block(artefact), np.zeros(12))
    delayed = montage("average", [0] * 12, delay=delay)
    corrected = delayed.apply(block(artefact), np.zeros(12))
    assert corrected.first == delayed.margin and len(corrected.values) == 2000 - 2 * delayed.margin
    assert plain.values.std() > 0.4 and corrected.values.std() < 0.02
