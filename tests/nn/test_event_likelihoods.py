"""Gamma and zero-inflated gamma: densities by integration, by scipy and by sampling; what a spread of the factors makes."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from nwb_sbtt.batch import Batch, to_sparse
from nwb_sbtt.nn.channels import channel_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.nn.likelihoods.entrywise import EntryByEntry
from nwb_sbtt.nn.likelihoods.gamma import Gamma, bounded
from nwb_sbtt.nn.likelihoods.zig import ZeroInflatedGamma
from tests.support.batches import make_batch

SMALLEST = 0.3
N_CHANNELS = 7


def events(*, seed=0, missing=0.0, exposure=None, shape=(6, 9, N_CHANNELS)):
    """A batch of event sizes above `SMALLEST`, in channels of very different units, most of them zero."""
    generator = torch.Generator().manual_seed(seed)
    batch = make_batch(*shape, missing=missing, seed=seed)
    sizes = SMALLEST + torch.empty(shape).exponential_(generator=generator) + 0.01
    values = sizes * (torch.rand(shape, generator=generator) < 0.3) * batch.observed
    return replace(batch, values=values, exposure=exposure)


def make(likelihood, batch, *, seed=0):
    """An observation model with scales that differ between channels, and random factors in double precision."""
    torch.manual_seed(seed)
    smallest = torch.full((N_CHANNELS,), SMALLEST if likelihood is ZeroInflatedGamma else 0.0)
    observation = likelihood({"session": channel_statistics(batch, smallest_event=smallest)}, 3).double()
    with torch.no_grad():
        for scale in observation._scales("session"):
            scale.uniform_(0.5, 1.2)
    return observation, torch.randn(*batch.shape[:2], 3, dtype=torch.float64)


def parameters(observation, factors):
    """Chance of an event (or None), shape, scale in the data's unit, smallest size: numpy arrays of the entries."""
    linear = observation._linear(factors, "session")
    shape_scale, size_scale, unit, *smallest = observation._channel_tensors("session")
    shape, size = bounded(linear[-2], shape_scale), bounded(linear[-1], size_scale) * unit
    chance = torch.sigmoid(linear[0]) if smallest else None
    found = (chance, shape, size, *(smallest or [torch.zeros(())]))
    return [None if each is None else each.detach().numpy() for each in found]


def unit_of(observation):
    return observation.units["session"].numpy()


def test_gamma_terms_are_the_density_in_units_of_each_channel():
    batch = events()
    values = batch.values.double() + 0.1
    observation, factors = make(Gamma, replace(batch, values=values.float()))
    for share in (None, torch.rand(values.shape, dtype=torch.float64).clamp(min=0.1)):
        _, shape, size, _ = parameters(observation, factors)
        whole = shape if share is None else shape * share.numpy()
        expected = -scipy.stats.gamma.logpdf(values.numpy(), whole, scale=size) - np.log(unit_of(observation))
        found = observation.nll(factors, replace(batch, values=values, exposure=share))
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_zero_inflated_terms_are_the_density_in_units_of_each_channel():
    batch = events()
    observation, factors = make(ZeroInflatedGamma, batch)
    values = batch.values.double()
    for share in (None, torch.rand(values.shape, dtype=torch.float64).clamp(min=0.1)):
        chance, shape, size, smallest = parameters(observation, factors)
        none = (1 - chance) ** (1.0 if share is None else share.numpy())
        density = scipy.stats.gamma.pdf(values.numpy() - smallest, shape, scale=size) * unit_of(observation)
        likelihood = np.where(values.numpy() > 0, (1 - none) * density, none)
        found = observation.nll(factors, replace(batch, values=values, exposure=share))
        np.testing.assert_allclose(found.detach().numpy(), -np.log(likelihood), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("likelihood", [each for each in LIKELIHOODS.values() if issubclass(each, EntryByEntry)])
@pytest.mark.parametrize("share", [None, 0.4])
def test_the_densities_integrate_to_one(likelihood, share):
    batch = events()
    if likelihood is Gamma:
        batch = replace(batch, values=batch.values + 1)
    observation, factors = make(likelihood, batch)
    factors = factors[:1, :1] * 0.5
    if likelihood is LIKELIHOODS["poisson"]:
        grid, weight = torch.arange(200.0, dtype=torch.float64), 1.0
    elif likelihood is LIKELIHOODS["gaussian"]:
        grid = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
        weight = float(grid[1] - grid[0]) / observation.scales["session"].numpy()
    else:
        # Even steps of the logarithm, as a density may be infinite at its lower end.
        steps = torch.linspace(-60, 8, 40_001, dtype=torch.float64)
        grid = steps.exp() + (SMALLEST if likelihood is ZeroInflatedGamma else 0.0)
        weight = (steps.exp() * (steps[1] - steps[0])).numpy()[:, None] / unit_of(observation)
    values = grid[None, :, None].expand(1, -1, N_CHANNELS)
    seen = torch.ones(values.shape, dtype=torch.bool)
    exposure = None if share is None else torch.full_like(values, share)
    many = Batch(values, seen, seen, seen, trials=torch.arange(1), exposure=exposure)
    terms = observation.nll(factors.expand(1, len(grid), 3), many).detach()
    if likelihood is LIKELIHOODS["poisson"]:
        terms = terms + torch.lgamma(values + 1)
    total = (np.exp(-terms.numpy()[0]) * weight).sum(0)
    if likelihood is ZeroInflatedGamma:
        nothing = replace(many, values=torch.zeros_like(values))
        total += np.exp(-observation.nll(factors.expand(1, len(grid), 3), nothing).detach().numpy()[0, 0])
    np.testing.assert_allclose(total, 1, atol=2e-3)


@pytest.mark.parametrize("likelihood", [Gamma, ZeroInflatedGamma])
@pytest.mark.parametrize("share", [None, 0.4])
def test_mean_and_variance_are_those_of_samples(likelihood, share):
    batch = events()
    observation, factors = make(likelihood, batch)
    chance, shape, size, smallest = parameters(observation, factors[:1, :1])
    generator = np.random.default_rng(0)
    n = (400_000, N_CHANNELS)
    if likelihood is Gamma:
        samples = generator.gamma(shape[0] * (share or 1), size[0], n)
    else:
        happens = generator.random(n) < 1 - (1 - chance[0]) ** (share or 1)
        samples = happens * (smallest + generator.gamma(shape[0], size[0], n))
    exposure = None if share is None else torch.full((1, 1, N_CHANNELS), share, dtype=torch.float64)
    linear, per_channel = observation._linear(factors[:1, :1], "session"), observation._channel_tensors("session")
    mean = observation._expected(linear, exposure, *per_channel).detach().numpy()[0, 0]
    variance = observation._variance(linear, exposure, *per_channel).detach().numpy()[0, 0]
    np.testing.assert_allclose(samples.mean(0), mean, rtol=0.03)
    np.testing.assert_allclose(samples.var(0), variance, rtol=0.06)


@pytest.mark.parametrize("likelihood", [Gamma, ZeroInflatedGamma])
def test_a_small_spread_of_the_factors_spreads_the_expected_value_as_said(likelihood):
    batch = events()
    observation, factors = make(likelihood, batch)
    variance = 1e-4 * torch.rand(factors.shape, dtype=torch.float64)
    drawn = torch.randn(3000, *factors.shape, dtype=torch.float64) * variance.sqrt()
    with torch.no_grad():
        sampled = torch.stack([observation.expected(factors + each, "session") for each in drawn]).std(0)
        said = observation.expected_sd(factors, variance, "session")
    torch.testing.assert_close(said, sampled, rtol=0.1, atol=0.0)


@pytest.mark.parametrize("likelihood", [Gamma, ZeroInflatedGamma])
def test_the_misfit_of_the_spread_moves_the_variances_alone(likelihood):
    batch = events(missing=0.4)
    observation, factors = make(likelihood, batch)
    observation, factors = observation.float(), factors.float().requires_grad_()
    found = []
    for form in (batch, to_sparse(batch)):
        variance = torch.full_like(factors, 0.1).requires_grad_()
        total = observation.variance_loss(factors, variance, form)
        total.backward()
        assert torch.isfinite(total) and variance.grad.any()
        found.append((total.detach(), variance.grad))
    assert factors.grad is None and all(p.grad is None for p in observation.parameters())
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("likelihood", [Gamma, ZeroInflatedGamma])
@pytest.mark.parametrize("share", [None, 0.4])
def test_terms_of_picked_entries_add_up_to_those_of_all_with_the_rest_masked(monkeypatch, likelihood, share):
    batch = events(missing=0.4)
    exposure = None if share is None else torch.full(batch.values.shape, share, dtype=torch.float64)
    drawn = torch.rand(batch.values.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    batch = replace(batch, values=batch.values.double() + 0.1 * (likelihood is Gamma), exposure=exposure)
    batch = replace(batch, shown=batch.observed & drawn, scored=batch.observed & ~drawn)
    into = torch.randn(N_CHANNELS, 4, dtype=torch.float64)
    found = []
    for picked in (True, False):
        monkeypatch.setattr(likelihood, "costly", picked)
        observation, factors = make(likelihood, batch)
        factors = torch.linspace(-1, 1, factors.numel(), dtype=torch.float64).reshape(factors.shape).requires_grad_()
        sums = observation.sum_residuals(factors, batch, into=into)
        total = observation.total(factors, batch, dtype=torch.float64)
        leaves = [factors, *observation.parameters()]
        found.append([total, sums, *torch.autograd.grad(total + sums.sin().sum(), leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("likelihood", [Gamma, ZeroInflatedGamma])
def test_a_model_starts_from_the_mean_of_each_channel(likelihood):
    batch = events(shape=(60, 50, N_CHANNELS))
    if likelihood is Gamma:
        batch = replace(batch, values=batch.values + 0.5)
    observation, _ = make(likelihood, batch)
    with torch.no_grad():
        for scale in observation._scales("session"):
            scale.fill_(1.0)
        start = observation.expected(torch.zeros(1, 1, 3, dtype=torch.float64), "session")[0, 0]
    torch.testing.assert_close(start, batch.values.mean((0, 1)).double(), rtol=0.05, atol=0.0)


def test_the_prior_is_least_where_the_scales_are_twenty():
    observation, _ = make(ZeroInflatedGamma, events())
    assert observation.prior("session") > 0
    with torch.no_grad():
        observation.scales["session", "shape"].fill_(1.0)
        observation.scales["session", "size"].fill_(1.0)
    assert observation.prior("session") == 0
    with torch.no_grad():
        observation.scales["session", "size"][0] = 21 / 20
    torch.testing.assert_close(observation.prior("session"), torch.tensor(0.5e-4, dtype=torch.float64))
    poisson, _ = make(LIKELIHOODS["poisson"], events())
    assert poisson.prior("session") == 0
