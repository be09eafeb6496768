from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from nwb_sbtt.batch import to_sparse
from nwb_sbtt.nn.channels import blank_statistics, channel_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.nn.likelihoods.gamma import Gamma
from nwb_sbtt.nn.likelihoods.gaussian import Gaussian
from nwb_sbtt.nn.likelihoods.poisson import Poisson
from tests.support.batches import make_batch, make_masked_batch


@pytest.fixture
def batch():
    return make_batch(missing=0.0)


def test_poisson_terms_are_the_density_up_to_the_factorial(batch):
    torch.manual_seed(0)
    exposure = torch.rand(batch.values.shape).clamp(min=0.1)
    batch = replace(batch, exposure=exposure)
    poisson = Poisson({"session": channel_statistics(batch)}, 3)
    factors = torch.randn(6, 9, 3)
    rates = poisson.expected(factors, "session").detach().numpy()
    counts = batch.values.numpy()
    expected = -scipy.stats.poisson.logpmf(counts, rates * exposure.numpy()) - scipy.special.gammaln(counts + 1)
    np.testing.assert_allclose(poisson.nll(factors, batch).detach().numpy(), expected, rtol=2e-4, atol=2e-5)


def test_half_the_exposure_halves_the_expected_count(batch):
    poisson = Poisson({"session": channel_statistics(batch)}, 3)
    factors = torch.randn(6, 9, 3)
    silent = replace(batch, values=torch.zeros_like(batch.values))
    half = replace(silent, exposure=torch.full_like(silent.values, 0.5))
    torch.testing.assert_close(poisson.nll(factors, half), poisson.nll(factors, silent) / 2)


def test_gaussian_terms_are_the_density_in_units_of_each_channel(batch):
    batch = replace(batch, values=torch.randn_like(batch.values) * 30 + 100)
    statistics = channel_statistics(batch)
    gaussian = Gaussian({"session": statistics}, 3)
    with torch.no_grad():
        gaussian.log_noise["session"].copy_(torch.linspace(-2, 1, 7))
    factors = torch.randn(6, 9, 3)
    sd = statistics.sd.numpy()
    noise = np.exp(np.linspace(-2, 1, 7)) * sd
    mean = gaussian.expected(factors, "session").detach().numpy()
    expected = -scipy.stats.norm.logpdf(batch.values.numpy(), mean, noise) - np.log(sd)
    np.testing.assert_allclose(gaussian.nll(factors, batch).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_statistics_use_observed_entries_and_their_exposure():
    batch = make_batch(missing=0.5, seed=3)
    junk = replace(batch, values=torch.where(batch.observed, batch.values, torch.full_like(batch.values, 99.0)))
    one, other = channel_statistics(batch), channel_statistics(replace(junk, values=junk.values * junk.observed))
    torch.testing.assert_close(one.mean, other.mean)
    half = replace(batch, exposure=torch.full_like(batch.values, 0.5))
    many = one.mean > 0.1
    ratio = channel_statistics(half).mean / one.mean
    torch.testing.assert_close(ratio[many], torch.full_like(ratio[many], 2.0), rtol=0.1, atol=0.0)


def test_a_silent_channel_keeps_a_finite_log_rate():
    statistics = channel_statistics(make_batch())
    assert statistics.mean[-1] > 0
    assert torch.isfinite(Poisson({"session": statistics}, 2).biases["session"]).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS.values())
def test_the_total_ignores_junk_where_nothing_is_scored(likelihood):
    batch = make_masked_batch(missing=0.5, seed=0)
    of = replace(channel_statistics(batch), kinetics=blank_statistics(batch.shape[2]).kinetics)
    observation = likelihood({"session": of}, 3)
    junk = replace(batch, values=batch.values.masked_fill(~batch.observed, 1e6))
    found = []
    for each in (batch, junk):
        factors = torch.ones(6, 9, 3, requires_grad=True)
        total = observation.total(factors, each)
        total.backward()
        found.append((total.detach(), factors.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][0], observation.nll(factors, batch)[batch.scored].sum())
    nothing = replace(batch, scored=torch.zeros_like(batch.scored))
    assert observation.total(factors, nothing) == 0


@pytest.mark.parametrize("likelihood", [Poisson, Gaussian, Gamma])
def test_what_is_expected_at_the_entries_is_what_is_expected_of_all(likelihood):
    batch = make_masked_batch(missing=0.5, seed=0, exposure=True)
    observation = likelihood({"session": channel_statistics(batch)}, 3)
    factors = torch.randn(6, 9, 3)
    for form in (batch, to_sparse(batch)):
        found = form.dense(observation.expected_at(factors, form))[batch.observed]
        expected = observation.expected(factors, "session")
        expected = expected if likelihood is Gaussian else expected * batch.exposure
        torch.testing.assert_close(found, expected[batch.observed])
