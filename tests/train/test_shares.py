"""What estimates are worth, decided on hidden entries."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from nwb_sbtt.batch import Batch
from nwb_sbtt.models import Model
from nwb_sbtt.nn.channels import blank_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.train.shares import _shares, _weights

CHANNELS, BINS = 4, 25


def estimates_of(trials, likelihood="poisson", seed=0, never=()):
    """The score of mixtures, on values drawn from true expectations; these, their mean, and those of other trials."""
    generator = torch.Generator().manual_seed(seed)
    true = (0.8 * torch.randn(trials, BINS, CHANNELS, generator=generator)).exp()
    of_model = LIKELIHOODS[likelihood]({"session": blank_statistics(CHANNELS, 0)}, 3)
    values = torch.poisson(true, generator=generator)
    if likelihood == "gaussian":
        values = true + torch.randn(true.shape, generator=generator)
    sampled = torch.ones(true.shape, dtype=torch.bool)
    sampled[:, :, list(never)] = False
    batch = Batch(values, sampled, sampled, sampled, torch.arange(trials))
    score = partial(Model.cost_of_hidden, SimpleNamespace(likelihood=of_model), batch=batch, weights=_weights(batch))
    return score, [true, true.mean((0, 1)).expand_as(true), true.roll(1, 0)]


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_many_entries_decide(likelihood):
    score, (true, mean, other) = estimates_of(200, likelihood)
    assert _shares([mean, true, other], score) == pytest.approx([0, 1, 0], abs=0.05)
    assert _shares([other, mean], score)[0] == pytest.approx(0, abs=0.05)


def test_two_that_err_independently_share_alike():
    score, (true, _, _) = estimates_of(400)
    apart = [true * (0.4 * torch.randn(true.shape, generator=torch.Generator().manual_seed(i))).exp() for i in (1, 2)]
    found = _shares(apart, score)
    assert found == pytest.approx([0.5, 0.5], abs=0.08)
    assert sum(found) == pytest.approx(1)


def test_few_entries_leave_the_shares_nearly_equal():
    score, (_, mean, _) = estimates_of(1)
    near = [mean * (1 + 0.02 * sign) for sign in (-1, 0, 1)]
    # On single trials the best of three that hardly differ is always one alone.
    assert _shares(near, score) == pytest.approx([1 / 3] * 3, abs=0.05)


@pytest.mark.parametrize("never", [(), (0, 2, 3)], ids=["all sampled", "most never sampled"])
def test_the_score_is_in_nats(never):
    score, (true, mean, _) = estimates_of(30, never=never)
    ratio = score(true) - score(mean)
    batch = score.keywords["batch"]
    log = [torch.distributions.Poisson(each).log_prob(batch.values)[batch.scored].sum() for each in (mean, true)]
    assert float(ratio) == pytest.approx(float(log[0] - log[1]), rel=1e-4)
