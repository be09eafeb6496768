import torch
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch
from tests.support.batches import make_batch

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
