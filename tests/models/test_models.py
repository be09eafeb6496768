from dataclasses import replace

import pytest
import torch

from nwb_sbtt import masks
from nwb_sbtt.config import ConvConfig, LFADSConfig, SAEConfig
from nwb_sbtt.models import make_model
from nwb_sbtt.models.posterior import posterior
from nwb_sbtt.nn.channels import ReadIn, channel_statistics
from tests.support.batches import make_batch

SMALL = {"read_in": 8, "encoder": 8, "initial_condition": 4, "controller": 5, "generator": 9, "factors": 3}
CONV = ConvConfig(read_in=8, width=12, groups=4, layers=2, max_lag=5, factors=3, dropout=0.3, factor_noise=0.2)
MODELS = [
    SAEConfig(encoder=8, generator=8, factors=3),
    CONV,
    LFADSConfig(**SMALL, inputs=2),
    LFADSConfig(**SMALL, inputs=0),
]
IDS = ["sae", "conv", "lfads", "autonomous"]


def make(config, batch):
    torch.manual_seed(0)
    return make_model(config, {batch.session: channel_statistics(batch)}, "poisson").eval()


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_parameters_are_contiguous(config):
    """The fused optimiser pairs a parameter with its moments by memory, so a restored run needs both in one order."""
    assert all(p.is_contiguous() for p in make(config, make_batch()).parameters())


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_a_pass_without_a_generator_is_deterministic_and_trials_do_not_mix(config):
    batch = make_batch()
    model = make(config, batch)
    whole = model(batch)
    torch.testing.assert_close(model(batch).factors, whole.factors, rtol=0, atol=0)
    part = model(batch.select(torch.tensor([4, 1])))
    torch.testing.assert_close(part.factors, whole.factors[[4, 1]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(part.kl, whole.kl[[4, 1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_a_model_takes_trials_of_any_length(config):
    model = make(config, make_batch())
    assert model(make_batch(n_bins=23)).factors.shape == (6, 23, 3)
    assert model(make_batch(n_bins=1)).factors.shape == (6, 1, 3)


@pytest.mark.parametrize("config", MODELS[2:], ids=IDS[2:])
def test_the_posterior_narrows_around_its_mean(config):
    batch = make_batch()
    model = make(config, batch)
    many = posterior(model, batch, samples=400, generator=torch.Generator().manual_seed(0))
    error = (many["initial_condition"] - model(batch).initial_condition).abs()
    assert (error < 5 * many["initial_condition_sd"] / 400**0.5).all()
    assert (many["expected_sd"] > 0).all()


def test_a_model_without_a_posterior_has_no_spread():
    batch = make_batch()
    arrays = posterior(make(MODELS[0], batch), batch, samples=10, generator=torch.Generator())
    assert not [name for name in arrays if name.endswith("_sd")]


def test_a_model_that_says_how_sure_it_is_has_the_spread_of_a_lognormal_rate():
    batch = make_batch()
    model = make(CONV, batch)
    arrays = posterior(model, batch, samples=1, generator=torch.Generator())
    variance = arrays["factors_sd"] ** 2 @ model.likelihood.weights[batch.session].detach().t() ** 2
    torch.testing.assert_close(arrays["expected_sd"], arrays["expected"] * torch.expm1(variance).sqrt())
    assert (arrays["factors_sd"] > 0).all()


def test_how_sure_a_model_is_moves_nothing_else():
    batch = make_batch()
    model = make(CONV, batch)
    inference = model(batch)
    model.likelihood.variance_loss(inference.factors, inference.factor_variance, batch).backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"to_log_variance.weight", "to_log_variance.bias"}


def test_a_trial_in_which_nothing_is_shown_reads_as_zero():
    batch = make_batch()
    read_in = ReadIn({"session": channel_statistics(batch)}, 8, (1.0, 4.0))
    hidden = torch.zeros_like(batch.observed)
    hidden[2] = True
    read = read_in(masks.hide(batch, hidden))
    assert not read[2].any()
    assert read[1].any()


def test_read_in_keeps_its_size_when_channels_are_missing():
    """On scores that are all one, the features are nearly the same whether 3 or 300 of 300 channels are seen."""
    batch = make_batch(n_channels=300, missing=0.0)
    statistics = channel_statistics(batch)
    ones = replace(batch, values=(statistics.mean + statistics.sd).expand_as(batch.values))
    read_in = ReadIn({"session": statistics}, 4, (1.0, 4.0))
    with torch.no_grad():
        read_in.values["session"].fill_(1 / 300)
        whole = read_in(replace(ones, observed=torch.ones_like(batch.observed), shown=torch.ones_like(batch.shown)))
        few = torch.zeros_like(batch.shown)
        few[..., [5, 50, 200]] = True
        sparse = read_in(replace(ones, shown=few))
    ratio = sparse[1:] / whole[1:]
    assert (ratio > 0.7).all()
    assert (ratio <= 1.01).all()
