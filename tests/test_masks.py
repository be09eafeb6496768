import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch, to_sparse
from tests.support.batches import make_batch, to_dense

rates = st.floats(0.0, 0.95)
seeds = st.integers(0, 1000)


def inside(batch: Batch) -> bool:
    return not (batch.shown & ~batch.observed).any() and not (batch.scored & ~batch.observed).any()


@given(rates, seeds)
def test_coordinated_dropout_scores_exactly_what_it_hides(rate, seed):
    before = make_batch()
    after = masks.coordinated_dropout(before, rate, torch.Generator().manual_seed(seed))
    assert inside(after)
    assert not (after.shown & after.scored).any()
    assert torch.equal(after.shown | after.scored, before.shown)


def test_coordinated_dropout_keeps_scoring_channels_that_are_never_shown():
    held_out = torch.zeros(7, dtype=torch.bool)
    held_out[2] = True
    before = masks.cosmoothing(make_batch(), held_out)
    after = masks.coordinated_dropout(before, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(after.scored[..., 2], before.observed[..., 2])
    assert not after.shown[..., 2].any()


def test_the_same_generator_state_draws_the_same_mask():
    first, second = (masks.coordinated_dropout(make_batch(), 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.shown, second.shown)


@given(rates, seeds)
def test_sample_validation_draws_among_what_is_shown(share, seed):
    batch = make_batch()
    hidden = masks.sample_validation(batch, share, torch.Generator().manual_seed(seed))
    assert not (hidden & ~batch.shown).any()
    assert inside(masks.hide(batch, hidden))
    assert torch.equal(masks.score_only(batch, hidden).scored, hidden)


def test_forward_prediction_hides_the_end_and_scores_all():
    before = make_batch()
    after = masks.forward_prediction(before, 5)
    assert torch.equal(after.shown[:, :5], before.shown[:, :5])
    assert not after.shown[:, 5:].any()
    assert torch.equal(after.scored, before.scored)


def test_blocks_are_hidden_whole_and_have_a_random_offset():
    everything = torch.ones(50, 40, 3, dtype=torch.bool)
    batch = Batch(torch.zeros(50, 40, 3), everything, everything, everything, torch.arange(50))
    masked = masks.coordinated_dropout(batch, 0.5, torch.Generator().manual_seed(0), mask_length=8)
    change = masked.shown[:, 1:] != masked.shown[:, :-1]
    for trial, channel in ((0, 0), (7, 2), (31, 1)):
        at = change[trial, :, channel].nonzero()[:, 0]
        assert len(set((at % 8).tolist())) <= 1
    assert len({int(at) % 8 for _, at, _ in change.nonzero()}) == 8
    assert abs(masked.shown.float().mean() - 0.5) < 0.05
    assert torch.equal(masked.scored, ~masked.shown)


def test_blocks_of_a_sparse_batch_are_hidden_whole_and_have_a_random_offset():
    observed = torch.rand(60, 40, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    batch = to_sparse(Batch(torch.zeros(60, 40, 5), observed, observed, observed, torch.arange(60)))
    masked = masks.coordinated_dropout(batch, 0.3, torch.Generator().manual_seed(0), mask_length=8)
    again = masks.coordinated_dropout(batch, 0.3, torch.Generator().manual_seed(0), mask_length=8)
    other = masks.coordinated_dropout(batch, 0.3, torch.Generator().manual_seed(5), mask_length=8)
    assert torch.equal(masked.shown, again.shown)
    assert not torch.equal(masked.shown, other.shown)
    assert torch.equal(masked.scored, ~masked.shown)
    assert abs((~masked.shown).float().mean() - 0.3) < 0.05
    hidden = to_dense(masked).scored
    offsets = set()
    for trial in range(60):
        for channel in range(5):
            # Some offset makes every block of 8 bins hidden or shown as a whole.
            fits = [k for k in range(8) if _whole(hidden[trial, :, channel], observed[trial, :, channel], k)]
            assert fits
            offsets |= set(fits) if len(fits) == 1 else set()
    assert offsets == set(range(8))
    # Neighbouring channels and trials are drawn by themselves.
    share = hidden.float().sum(1) / observed.float().sum(1)
    assert abs(np.corrcoef(share[:, 0], share[:, 1])[0, 1]) < 0.4
    assert abs(np.corrcoef(share[:-1].ravel(), share[1:].ravel())[0, 1]) < 0.2


def _whole(hidden, observed, offset):
    blocks = (torch.arange(len(hidden)) + offset) // 8
    return all(len(set(hidden[observed & (blocks == block)].tolist())) <= 1 for block in blocks.unique())
