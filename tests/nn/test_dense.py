"""Large dense batches, worked on a few trials at a time."""

from dataclasses import replace

import pytest
import torch

from nwb_sbtt.batch import Batch
from nwb_sbtt.nn import dense
from tests.laws.test_mask_invariance import MODELS, loss_and_gradients, make
from tests.support.batches import make_batch

CONV = MODELS[-1]


@pytest.fixture
def large(monkeypatch):
    """Count every batch as large, and take blocks of a few bins."""

    def switch():
        monkeypatch.setattr(dense, "SMALL", 0)
        monkeypatch.setattr(dense, "BLOCK", 40)

    return switch


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
@pytest.mark.parametrize("config", [CONV, MODELS[1]], ids=["conv", "lfads"])
def test_blocks_of_a_batch_give_the_loss_and_gradients_of_the_whole(large, config, likelihood, exposed):
    batch = make_batch()
    if exposed:
        batch = replace(batch, exposure=0.2 + 0.8 * torch.rand(batch.values.shape))
    loss, gradients = loss_and_gradients(make(config, likelihood, batch), batch)
    large()
    assert dense.is_large(batch)
    in_blocks, gradients_in_blocks = loss_and_gradients(make(config, likelihood, batch), batch)
    assert in_blocks == pytest.approx(loss, rel=1e-5)
    for mine, whole in zip(gradients_in_blocks, gradients, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-3, atol=1e-5)


def test_junk_outside_observed_does_not_reach_blocks(large):
    large()
    batch = make_batch()
    junk = torch.where(batch.observed, batch.values, torch.full_like(batch.values, 1e6))
    loss, gradients = loss_and_gradients(make(CONV, "poisson", batch), batch)
    dirty, of_junk = loss_and_gradients(make(CONV, "poisson", batch), replace(batch, values=junk))
    assert loss == dirty
    assert all(torch.equal(a, b) for a, b in zip(gradients, of_junk, strict=True))


def test_only_gradients_of_dense_batches_are_taken_in_blocks():
    values = torch.zeros(1, dense.SMALL // 8 + 1, 8)
    everywhere = torch.ones_like(values, dtype=torch.bool)
    batch = Batch(values, everywhere, everywhere, everywhere, torch.arange(1))
    assert dense.is_large(batch)
    with torch.no_grad():
        assert not dense.is_large(batch)
    assert not dense.is_large(make_batch())
