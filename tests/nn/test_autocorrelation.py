"""How long the part of a signal that is a channel's own stays correlated with itself."""

import numpy as np
import pytest
from scipy.signal import lfilter

from nwb_sbtt.nn.autocorrelation import decay_of_own_part

SHAPE = (40, 120, 12)


def slow(rng, n_columns, *, bins):
    """Noise whose autocorrelation falls to 1/e in so many bins; (trial, time, column) of unit variance."""
    decay = np.exp(-1 / bins)
    noise = rng.normal(size=(SHAPE[0] * SHAPE[1], n_columns))
    noise = lfilter([np.sqrt(1 - decay**2)], [1, -decay], noise, axis=0)
    return noise.reshape(*SHAPE[:2], n_columns)


def shared(rng, *, bins=30):
    """Two slow signals that all channels share."""
    signal = slow(rng, 2, bins=bins) @ rng.normal(size=(2, SHAPE[2]))
    return signal / signal.std((0, 1))


EVERYWHERE = np.ones(SHAPE, dtype=bool)


@pytest.mark.parametrize("bins", [3, 6])
def test_it_is_the_decay_of_what_channels_do_not_share(bins):
    rng = np.random.default_rng(21)
    values = shared(rng) + 0.7 * slow(rng, SHAPE[2], bins=bins)
    assert 2 * bins <= decay_of_own_part(values, EVERYWHERE) <= 5 * bins
    # The unit of a channel does not matter, nor what was not observed.
    observed = rng.random(SHAPE) < 0.5
    in_units = np.where(observed, values * np.geomspace(1e-6, 1e3, SHAPE[2]) + 5.0, 1e9)
    assert 2 * bins <= decay_of_own_part(in_units, observed) <= 7 * bins
    assert decay_of_own_part(in_units, observed) == decay_of_own_part(np.where(observed, in_units, 0), observed)


def test_own_parts_without_a_memory_need_no_blocks_however_slow_the_shared_signal():
    rng = np.random.default_rng(22)
    assert decay_of_own_part(shared(rng) + 0.5 * rng.normal(size=SHAPE), EVERYWHERE) == 1
    assert decay_of_own_part(shared(rng), EVERYWHERE) == 1


def test_own_parts_that_do_not_decay_are_hidden_for_half_a_trial():
    rng = np.random.default_rng(23)
    assert decay_of_own_part(shared(rng, bins=3) + rng.normal(size=(SHAPE[0], 1, SHAPE[2])), EVERYWHERE) == 60


def test_channels_that_share_nothing_or_are_alone_are_predicted_from_themselves():
    rng = np.random.default_rng(24)
    own = slow(rng, SHAPE[2], bins=6)
    assert decay_of_own_part(own, EVERYWHERE) == 1
    assert decay_of_own_part(own[..., :1], EVERYWHERE[..., :1]) == 1
    assert decay_of_own_part(own, EVERYWHERE & False) == 1


def test_channels_that_are_sampled_in_turn_are_compared_in_bins_close_by():
    rng = np.random.default_rng(25)
    in_turn = np.broadcast_to((np.arange(SHAPE[1])[:, None] + np.arange(SHAPE[2])) % 3 == 0, SHAPE)
    own = slow(rng, SHAPE[2], bins=6)
    assert 9 <= decay_of_own_part(shared(rng) + 0.7 * own, in_turn) <= 36
    assert decay_of_own_part(shared(rng) + 0.7 * rng.normal(size=SHAPE), in_turn) <= 3
