"""Junk outside `observed` changes neither loss nor gradient, bit for bit; what is hidden does not reach the factors."""

from dataclasses import replace

import pytest
import torch

from nwb_sbtt import masks
from nwb_sbtt.config import ConvConfig, LadderConfig, LFADSConfig, SAEConfig
from nwb_sbtt.models import make_model
from nwb_sbtt.train.objective import Weights, objective
from tests.support.batches import fluorescence_statistics, make_batch

MODELS = [
    SAEConfig(encoder=8, generator=8, factors=3),
    LFADSConfig(read_in=8, encoder=8, initial_condition=4, controller=5, generator=9, factors=3, inputs=2),
    LFADSConfig(read_in=8, encoder=8, initial_condition=4, generator=9, factors=3, inputs=0, input_prior="gaussian"),
    ConvConfig(read_in=8, width=8, layers=2, groups=4, max_lag=5, factors=3, dropout=0.1),
]


IDS = ["sae", "lfads", "autonomous", "conv"]
LADDER = LadderConfig(read_in=8, width=8, layers=2, groups=4, max_lag=5, factors=3, dropout=0.1)
OF_FLUORESCENCE = [
    *((config, likelihood, 0.0) for config in MODELS for likelihood in ("gaussian_moments", "edgeworth")),
    (MODELS[-1], "edgeworth", 1.5),
    (LADDER, "gaussian", 0.0),
    (LADDER, "gaussian", 1.5),
]
"""Models of fluorescence: settings, likelihood and rise time in bins."""
FLUORESCENCE_IDS = [
    *(f"{name}-{likelihood}" for name in IDS for likelihood in ("moments", "edgeworth")),
    *("conv-edgeworth-rising", "ladder", "ladder-rising"),
]
of_fluorescence = pytest.mark.parametrize(("config", "likelihood", "rise"), OF_FLUORESCENCE, ids=FLUORESCENCE_IDS)


def make(config, likelihood, batch, rise=0.0):
    torch.manual_seed(0)
    return make_model(config, {batch.session: fluorescence_statistics(batch, rise=rise)}, likelihood)


def loss_and_gradients(model, batch):
    model.zero_grad()
    generator = torch.Generator().manual_seed(1)
    batch = masks.coordinated_dropout(batch, 0.3, generator)
    loss = objective(model, batch, generator, Weights(kl=0.5, l2=0.1))
    loss.total.backward()
    return loss.total.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian", "gamma", "zig"])
@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_unobserved_values_do_not_matter(config, likelihood):
    check_unobserved_values(config, likelihood)


@of_fluorescence
def test_unobserved_fluorescence_does_not_matter(config, likelihood, rise):
    check_unobserved_values(config, likelihood, rise)


def check_unobserved_values(config, likelihood, rise=0.0):
    batch = make_batch()
    junk = torch.where(batch.observed, batch.values, torch.full_like(batch.values, 1e6))
    model = make(config, likelihood, batch, rise)
    clean = loss_and_gradients(model, batch)
    dirty = loss_and_gradients(model, replace(batch, values=junk))
    assert clean[0] == dirty[0]
    assert all(torch.equal(a, b) for a, b in zip(clean[1], dirty[1], strict=True))


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_hidden_values_do_not_reach_the_factors(config):
    check_hidden_values(config, "poisson")


@of_fluorescence
def test_hidden_fluorescence_does_not_reach_the_factors(config, likelihood, rise):
    check_hidden_values(config, likelihood, rise)


def check_hidden_values(config, likelihood, rise=0.0):
    batch = make_batch()
    hidden = masks.sample_validation(batch, 0.5, torch.Generator().manual_seed(2))
    model = make(config, likelihood, batch, rise).eval()
    other = replace(batch, values=torch.where(hidden, batch.values + 3, batch.values))
    assert hidden.any()
    assert torch.equal(model(masks.hide(batch, hidden)).factors, model(masks.hide(other, hidden)).factors)
    assert not torch.equal(model(batch).factors, model(other).factors)


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_every_parameter_learns(config):
    check_learning(config, "poisson")


@of_fluorescence
def test_every_parameter_of_a_model_of_fluorescence_learns(config, likelihood, rise):
    check_learning(config, likelihood, rise)


def check_learning(config, likelihood, rise=0.0):
    batch = make_batch()
    model = make(config, likelihood, batch, rise)
    loss_and_gradients(model, batch)
    still = {name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert still <= {"generator.weight_ih_l0"}, "only the weights of an input that is always zero may stand still"


def test_the_bound_per_entry_means_the_same_whatever_is_missing():
    """The KL of a trial is divided by its number of observed entries, whichever of them are scored."""
    batch = make_batch(missing=0.0)
    model = make(MODELS[1], "poisson", batch).eval()
    generator = torch.Generator()
    loss = objective(model, batch, generator.manual_seed(0), Weights(kl=1.0, l2=0.0))
    some = replace(batch, scored=batch.scored & (torch.arange(7) < 3))
    fewer = objective(model, some, generator.manual_seed(0), Weights(kl=1.0, l2=0.0))
    assert loss.kl == fewer.kl
    kl = model(batch, generator.manual_seed(0)).kl.mean()
    torch.testing.assert_close(loss.kl, kl / (batch.observed.sum() / len(batch.trials)))
