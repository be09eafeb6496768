"""Moments of fluorescence that follow from rates of spikes, and the densities made of them."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.integrate import simpson
from scipy.signal import lfilter
from scipy.stats import kurtosis, norm, skew

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch, to_sparse
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.nn.channels import channel_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.nn.likelihoods.edgeworth import FLOOR, MOST_SKEWED, Edgeworth, bracket
from nwb_sbtt.nn.likelihoods.gaussian_moments import GaussianMoments
from nwb_sbtt.nn.likelihoods.moments import filtered
from tests.support.batches import make_masked_batch

BOTH = [GaussianMoments, Edgeworth]
KEPT, GAIN, BASELINE, NOISE, FIRST, FIRST_SD = (
    (0.9, 0.75, 0.4),
    (2.0, 50.0, 0.1),
    (5.0, -30.0, 0.0),
    (0.4, 20.0, 0.02),
    0.5,
    0.3,
)


def kinetics(n_channels=3):
    rows = (KEPT, GAIN, BASELINE, NOISE, (FIRST,) * 3, (FIRST_SD,) * 3)
    per_channel = [torch.tensor(row).repeat(n_channels)[:n_channels] for row in rows]
    return Kinetics(*per_channel, rise_time=torch.zeros(n_channels))


def make(likelihood, batch, n_factors=3):
    torch.manual_seed(0)
    of = replace(channel_statistics(batch), kinetics=kinetics(batch.shape[2]))
    return likelihood({batch.session: of}, n_factors)


def fluorescence(n_trials=4, n_bins=9, missing=0.3):
    generator = torch.Generator().manual_seed(1)
    level = torch.rand((n_trials, n_bins, 3), generator=generator) * 3
    values = torch.tensor(BASELINE) + torch.tensor(GAIN) * level
    observed = torch.rand(values.shape, generator=generator) > missing
    return Batch(torch.where(observed, values, 0.0), observed, observed, observed, torch.arange(n_trials))


def test_a_trial_is_filtered_as_one_bin_after_another():
    for n_bins in (1, 2, 7, 64, 65):
        rates = torch.rand(2, n_bins, 3, dtype=torch.float64)
        found = filtered(rates, torch.tensor(KEPT, dtype=torch.float64))
        for i, kept in enumerate(KEPT):
            np.testing.assert_allclose(
                found[..., i], lfilter([1], [1, -kept], rates[..., i].numpy(), axis=1), rtol=1e-6
            )


def test_cumulants_are_those_of_simulated_shot_noise():
    observation = make(Edgeworth, fluorescence())
    generator = np.random.default_rng(0)
    rates = np.random.default_rng(3).gamma(0.5, 0.6, (6, 3))
    n = 300_000
    calcium = generator.normal(FIRST, FIRST_SD, (n, 3))
    for rate in rates:
        calcium = np.array(KEPT) * calcium + generator.poisson(rate, (n, 3))
    level = calcium + generator.normal(size=(n, 3)) * np.array(NOISE) / np.array(GAIN)
    found = observation.cumulants(torch.from_numpy(rates)[None].float(), "session")
    mean, variance, third, fourth = (each[0, -1].numpy() for each in found)
    np.testing.assert_allclose(mean, level.mean(0), rtol=0.01)
    np.testing.assert_allclose(variance, level.var(0), rtol=0.02)
    np.testing.assert_allclose(third / variance**1.5, skew(level, axis=0), rtol=0.05)
    np.testing.assert_allclose(fourth / variance**2, kurtosis(level, axis=0), rtol=0.15)


@pytest.mark.parametrize("likelihood", BOTH)
def test_the_densities_integrate_to_one_with_the_moments_that_rates_say(likelihood):
    observation = make(likelihood, fluorescence())
    # Fast and frequent spikes, so that skewness and kurtosis are within bounds and the bracket lies above its floor.
    cumulants = observation.cumulants(torch.full((1, 20, 3), 20.0), "session")
    mean, variance, *higher = own = tuple(each[0, -1].double() for each in cumulants)
    z = torch.linspace(-7.5, 7.5, 4001, dtype=torch.float64)[:, None]
    density = (-observation._terms(mean + variance.sqrt() * z, own)).exp() * variance.sqrt()
    of_powers = [1.0, 0.0, 1.0, higher[0] / variance**1.5 if higher else 0.0]
    for power, expected in enumerate(of_powers):
        found = simpson((density * z**power).numpy(), x=z[:, 0].numpy(), axis=0)
        np.testing.assert_allclose(found, np.broadcast_to(expected, 3), atol=1e-3)


def test_a_floor_adds_little_to_a_skewed_density_and_keeps_it_positive():
    z = np.linspace(-8, 8, 4001)
    for skewness in np.linspace(0, MOST_SKEWED, 9):
        for excess in np.linspace(0, MOST_SKEWED, 9):
            found = bracket(*(torch.as_tensor(each) for each in (z, skewness, excess))).clamp(min=FLOOR).numpy()
            total = (norm.pdf(z) * found).sum() * (z[1] - z[0])
            assert 1 - 1e-6 < total < 1.014


def test_gaussian_terms_are_the_density_in_units_of_each_channel():
    batch = fluorescence(missing=0.0)
    observation = make(GaussianMoments, batch)
    factors = torch.randn(4, 9, 3)
    mean = observation.expected(factors, "session").detach().numpy()
    variance = observation.cumulants(observation.rates(factors, "session"), "session")[1].detach().numpy()
    expected = -norm.logpdf(batch.values.numpy(), mean, np.sqrt(variance) * np.array(GAIN)) - np.log(
        channel_statistics(batch).sd.numpy()
    )
    np.testing.assert_allclose(observation.nll(factors, batch).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_a_skewed_density_tells_bursts_from_dips():
    mean, variance, third, fourth = (torch.tensor(each) for each in (1.0, 1.0, 0.5, 0.4))
    up, down = (
        make(Edgeworth, fluorescence())._terms(torch.tensor(x), (mean, variance, third, fourth)) for x in (3.5, -1.5)
    )
    assert up < down - 1


@pytest.mark.parametrize("likelihood", BOTH)
def test_no_sample_however_far_and_no_rate_makes_loss_or_gradient_infinite(likelihood):
    batch = fluorescence(missing=0.0)
    observation = make(likelihood, batch)
    for scale, size in ((1e6, 1.0), (1.0, 30.0), (-1e6, 30.0)):
        far = replace(batch, values=batch.values * scale)
        factors = (torch.randn(4, 9, 3) * size).requires_grad_()
        total = observation.total(factors, far)
        total.backward()
        assert total.isfinite() and factors.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in observation.parameters())


@pytest.mark.parametrize("likelihood", BOTH)
def test_a_channel_starts_at_the_rate_that_makes_its_mean(likelihood):
    batch = fluorescence(n_bins=200, missing=0.0)
    observation = make(likelihood, batch)
    expected = observation.expected(torch.zeros(1, 200, 3), "session")[0, -1]
    torch.testing.assert_close(expected, channel_statistics(batch).mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("likelihood", BOTH)
def test_gradients_and_sums_are_the_same_in_the_sparse_form(likelihood):
    batch = make_masked_batch(missing=0.6, seed=0)
    observation = make(likelihood, batch)
    into = torch.randn(batch.shape[2], 4)
    found = []
    for form in (batch, to_sparse(batch)):
        factors = torch.ones(*batch.shape[:2], 3).requires_grad_()
        total = observation.total(factors, form)
        spread = observation.variance_loss(factors, torch.full_like(factors, 0.2), form)
        residuals = observation.sum_residuals(factors, form, into=into)
        (total + residuals.square().sum()).backward()
        found.append((total.detach(), spread.detach(), residuals.detach(), factors.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("likelihood", BOTH)
def test_hidden_samples_have_no_residual_and_unscored_ones_no_loss(likelihood):
    batch = fluorescence()
    observation = make(likelihood, batch)
    hidden = masks.hide(batch, torch.rand(batch.values.shape, generator=torch.Generator().manual_seed(0)) < 0.4)
    hidden = masks.score_only(hidden, ~hidden.shown)
    factors = torch.randn(4, 9, 3)
    for marked, sum_of in (
        (hidden.shown, lambda each: observation.sum_residuals(factors, each, into=torch.ones(3, 1)).sum()),
        (hidden.scored, lambda each: observation.total(factors, each)),
    ):
        junk = replace(hidden, values=torch.where(marked, hidden.values, torch.full((), 1e5)))
        assert torch.equal(sum_of(hidden), sum_of(junk))


@pytest.mark.parametrize("likelihood", BOTH)
def test_a_spread_is_learned_without_moving_anything_else(likelihood):
    batch = fluorescence()
    observation = make(likelihood, batch)
    factors = torch.randn(4, 9, 3).requires_grad_()
    variance = torch.full((4, 9, 3), 0.1).requires_grad_()
    observation.variance_loss(factors, variance, batch).backward()
    assert variance.grad.any() and factors.grad is None
    assert all(p.grad is None for p in observation.parameters())
    behind = observation.latent_estimates(factors, variance, "session")
    assert set(behind) == {"rates", "rates_sd"} and (behind["rates_sd"] > 0).all()
    assert (observation.expected_sd(factors, variance, "session") > 0).all()


def test_kinetics_come_back_as_they_were_measured():
    observation, given = make(Edgeworth, fluorescence()), kinetics()
    for field in fields(Kinetics):
        assert torch.equal(getattr(observation.kinetics("session"), field.name), getattr(given, field.name))
    assert all(LIKELIHOODS[name] in BOTH for name in ("gaussian_moments", "edgeworth"))


@pytest.mark.parametrize("likelihood", BOTH)
def test_kinetics_found_anew_are_told_to_rates_and_not_to_the_unit_of_the_density(likelihood):
    batch = fluorescence(n_bins=200, missing=0.0)
    observation = make(likelihood, batch)
    before = observation.expected(torch.zeros(1, 200, 3), "session")[0, -1]
    given = kinetics()
    other = replace(
        given, amplitude=2 * given.amplitude, decay_per_bin=given.decay_per_bin**2, baseline=given.baseline - 0.1
    )
    observation.set_statistics("session", replace(channel_statistics(batch), kinetics=other))
    torch.testing.assert_close(
        observation.expected(torch.zeros(1, 200, 3), "session")[0, -1], before, rtol=1e-3, atol=1e-3
    )
    assert torch.equal(observation.kinetics("session").amplitude, other.amplitude)
    # A density is one of the data, whatever a spike is said to add to them.
    grid = torch.linspace(-60, 60, 60_001)[None, :, None].expand(1, -1, 3)
    seen = torch.ones(grid.shape, dtype=torch.bool)
    sd = channel_statistics(batch).sd
    values = before + 2 * grid * sd / 6
    terms = observation.nll(torch.zeros(1, 1, 3).expand(1, 60_001, 3), Batch(values, seen, seen, seen, torch.arange(1)))
    total = (-terms[0, 200:]).exp().sum(0) * float(grid[0, 1, 0] - grid[0, 0, 0]) / 3
    torch.testing.assert_close(total, torch.ones(3), rtol=0.02, atol=0.02)
