"""Dense batches, worked on block by block."""

from dataclasses import replace

import pytest
import torch

from nwb_sbtt.nn import dense
from nwb_sbtt.nn.likelihoods.gaussian import Gaussian
from nwb_sbtt.nn.likelihoods.poisson import Poisson
from tests.laws.test_mask_invariance import MODELS, loss_and_gradients, make
from tests.support.batches import fluorescence_statistics, make_batch

CONV = MODELS[-1]


@pytest.fixture
def small_blocks(monkeypatch):
    """Take blocks of a few bins, the last of them shorter."""
    monkeypatch.setattr(dense, "BLOCK", 35)


@pytest.fixture
def whole(monkeypatch):
    """Let torch differentiate whole batches, as it does on a GPU."""

    def switch():
        monkeypatch.setattr(dense, "in_blocks", lambda batch: False)

    return switch


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
@pytest.mark.parametrize("config", [CONV, MODELS[1]], ids=["conv", "lfads"])
@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_a_batch_give_the_loss_and_gradients_of_the_whole(whole, config, likelihood, exposed):
    batch = make_batch()
    if exposed:
        batch = replace(batch, exposure=0.2 + 0.8 * torch.rand(batch.values.shape))
    in_blocks, gradients_in_blocks = loss_and_gradients(make(config, likelihood, batch), batch)
    whole()
    loss, gradients = loss_and_gradients(make(config, likelihood, batch), batch)
    assert in_blocks == pytest.approx(loss, rel=1e-5)
    for mine, theirs in zip(gradients_in_blocks, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_junk_outside_observed_does_not_reach_blocks():
    batch = make_batch()
    junk = torch.where(batch.observed, batch.values, torch.full_like(batch.values, 1e6))
    loss, gradients = loss_and_gradients(make(CONV, "poisson", batch), batch)
    dirty, of_junk = loss_and_gradients(make(CONV, "poisson", batch), replace(batch, values=junk))
    assert loss == dirty
    assert all(torch.equal(a, b) for a, b in zip(gradients, of_junk, strict=True))


class Halved(Poisson):
    """Has terms of its own, whose slopes are not those of `Poisson`."""

    def _terms(self, linear, values, exposure, *per_channel):
        return 0.5 * super()._terms(linear, values, exposure, *per_channel)


def compared(kind, batch, *, factors, into):
    """Residual sums and total of a likelihood with weights of its own, and gradients of both together and one by one."""
    torch.manual_seed(0)
    likelihood = kind({batch.session: fluorescence_statistics(batch)}, factors.shape[-1])
    inputs = [factors, into, *likelihood.parameters()]
    sums, total = likelihood.compare(factors, batch, into=into)
    weights = torch.linspace(-1, 1, sums.numel()).reshape(sums.shape)
    both = torch.autograd.grad((sums * weights).sum() + 3 * total, inputs, retain_graph=True)
    residuals = torch.autograd.grad((sums * weights).sum(), inputs, materialize_grads=True)
    alone = likelihood.total(factors, batch)
    of_total = torch.autograd.grad(3 * alone, [factors, *likelihood.parameters()])
    return sums, total, alone, *both, *residuals, *of_total


@pytest.mark.parametrize("steep", [1.0, 40.0], ids=["usual", "bounded"])
@pytest.mark.parametrize("kind", [Poisson, Halved, Gaussian])
@pytest.mark.parametrize("kept", [0, dense.KEPT], ids=["again", "kept"])
@pytest.mark.usefixtures("small_blocks")
def test_one_pass_gives_the_residuals_and_the_total_of_two(monkeypatch, whole, kind, steep, kept):
    monkeypatch.setattr(dense, "KEPT", kept)
    batch = make_batch()
    factors = (steep * torch.randn(*batch.shape[:2], 3, generator=torch.Generator().manual_seed(3))).requires_grad_()
    into = torch.randn(batch.shape[2], 4, generator=torch.Generator().manual_seed(4)).requires_grad_()
    found = compared(kind, batch, factors=factors, into=into)
    whole()
    expected = compared(kind, batch, factors=factors, into=into)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.detach().abs().max()))


@pytest.mark.parametrize("kind", [Poisson, Gaussian])
def test_gradients_of_usual_likelihoods_are_closed_forms(monkeypatch, kind):
    """By way of torch they would take twice the time."""

    def by_torch(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr(dense, "_differentiated", by_torch)
    batch = make_batch()
    factors = torch.randn(*batch.shape[:2], 3).requires_grad_()
    likelihood = kind({batch.session: fluorescence_statistics(batch)}, 3)
    sums, total = likelihood.compare(factors, batch, into=torch.ones(batch.shape[2], 4))
    spread = likelihood.variance_loss(factors, factors.square(), batch)
    (sums.sum() + total + spread).backward()
    assert factors.grad.isfinite().all()


def test_a_batch_is_taken_in_blocks_where_it_is_dense_and_on_a_cpu():
    batch = make_batch()
    assert dense.in_blocks(batch)
    assert not dense.in_blocks(batch.to("meta"))
