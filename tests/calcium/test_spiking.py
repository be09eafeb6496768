"""Spikes given fluorescence."""

from dataclasses import fields
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from nwb_sbtt.calcium import spiking
from nwb_sbtt.calcium.kinetics import Kinetics

MAX_COUNT = 4
infer_spikes = partial(spiking.infer_spikes, max_count=MAX_COUNT)
log_evidence = partial(spiking.log_evidence, max_count=MAX_COUNT)


def kinetics(
    n: int, *, decay=0.75, amplitude=1.0, baseline=0.0, noise=0.2, initial=0.5, initial_sd=0.4, rise=0.0
) -> Kinetics:
    numbers = (decay, amplitude, baseline, noise, initial, initial_sd, rise)
    return Kinetics(*(torch.full((n,), number, dtype=torch.float64) for number in numbers))


def response(of: Kinetics, n_bins: int) -> torch.Tensor:
    """To one spike, in each bin from its own on."""
    bins = torch.arange(n_bins)
    return of.decay_per_bin[0] ** bins - of.rise_amplitude[0] * of.rise_per_bin[0] ** bins


def simulated(of: Kinetics, rate: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts, and their fluorescence, of one channel that is without calcium before."""
    spikes = torch.poisson(rate, generator=generator).clamp(max=4)
    course = response(of, len(rate))
    light = torch.stack([(course[: t + 1].flip(0) * spikes[: t + 1]).sum() for t in range(len(rate))])
    return spikes, light + of.noise_sd * torch.randn(len(rate), generator=generator).double()


def exact(
    values: torch.Tensor, seen: torch.Tensor, rate: torch.Tensor, of: Kinetics
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean counts and log evidence of one channel by going through all counts there can be."""
    n_bins = len(values)
    decay, noise = float(of.decay_per_bin[0]), float(of.noise_sd[0])
    course = response(of, n_bins).tolist()
    powers = torch.tensor([[course[t - j] if j <= t else 0.0 for j in range(n_bins)] for t in range(n_bins)]).double()
    fall = decay ** torch.arange(1, n_bins + 1).double()
    rows = torch.arange(n_bins)[seen]
    covariance = float(of.initial_sd[0]) ** 2 * torch.outer(fall[rows], fall[rows]) + noise**2 * torch.eye(len(rows))
    counts = torch.tensor(list(product(range(MAX_COUNT + 1), repeat=n_bins))).double()
    prior = torch.distributions.Poisson(rate).log_prob(counts).sum(1)
    mean = (counts @ powers.T + float(of.initial[0]) * fall)[:, rows]
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(rows)).double(), covariance)
    joint = prior + normal.log_prob(values[rows] - mean)
    weights = torch.softmax(joint, 0)
    return weights @ counts, torch.logsumexp(joint, 0)


@pytest.mark.parametrize(
    ("noise", "gaps", "rise"), [(0.1, 0.0, 0.0), (0.25, 0.0, 0.0), (0.25, 0.3, 0.0), (0.25, 0.0, 1.5), (0.25, 0.3, 1.5)]
)
def test_counts_and_evidence_are_close_to_those_of_all_courses_together(noise, gaps, rise):
    generator = torch.Generator().manual_seed(0)
    of = kinetics(1, noise=noise, rise=rise)
    worst, off = [], []
    for _ in range(20):
        rate = torch.rand(6, generator=generator).double() * 0.8
        values = simulated(of, rate, generator)[1] + 0.5 * 0.75 ** torch.arange(1, 7)
        seen = torch.rand(6, generator=generator) >= gaps
        seen[0] = True
        found = infer_spikes(values[None, :, None], seen[None, :, None], rate[None, :, None], of)
        mean, evidence = exact(values, seen, rate, of)
        worst.append((found.mean[0, :, 0] - mean).abs().max())
        off.append(abs(float(found.evidence) - float(evidence)))
        alone = log_evidence(values[None, :, None], seen[None, :, None], rate[None, :, None], of)
        torch.testing.assert_close(found.evidence, alone)
    # A gap's counts are taken to have decayed alike.
    assert torch.stack(worst).median() < (0.2 if gaps else 0.1 if rise else 0.05)
    assert np.median(off) < (0.2 if rise else 0.1) and max(off) < (1.5 if gaps else 0.5)


@pytest.mark.parametrize("rise", [0.0, 1.5])
def test_the_density_of_a_sample_is_by_how_much_it_adds_to_that_of_those_before_it(rise):
    generator = torch.Generator().manual_seed(0)
    of = kinetics(3, rise=rise)
    values = torch.rand((4, 9, 3), generator=generator).double() * 2
    seen = torch.rand(values.shape, generator=generator) < 0.7
    rate = torch.full(values.shape, 0.4).double()
    last = torch.arange(9)[:, None].expand_as(seen) == 6
    before = torch.arange(9)[:, None].expand_as(seen) < 6
    added = log_evidence(values, seen & (before | last), rate, of) - log_evidence(values, seen & before, rate, of)
    torch.testing.assert_close(log_evidence(values, seen, rate, of, only=last), added)


def test_a_belief_of_light_and_rise_is_that_of_calcium_where_nothing_rises():
    generator = torch.Generator().manual_seed(3)
    values, seen = (
        torch.rand(5, 40, 3, generator=generator).double() * 3,
        torch.rand(5, 40, 3, generator=generator) > 0.4,
    )
    of, rate = kinetics(3), torch.full((3,), 0.3).double()
    plain = infer_spikes(values, seen, rate, of)
    other = infer_spikes(values, seen, rate, of, rises=True)
    for field in fields(spiking.Spikes):
        torch.testing.assert_close(getattr(other, field.name), getattr(plain, field.name))


@pytest.mark.parametrize("rise", [0.05, 0.4, 3.0])
def test_what_a_sample_shows_is_the_mean_of_its_bin_over_spikes_anywhere_in_theirs(rise):
    of = kinetics(1, decay=0.9, rise=rise)
    decay, moments = -1 / np.log(0.9), (np.arange(500) + 0.5) / 500
    means = []
    for n in range(100):
        since = moments[:, None] - moments + n
        shown = np.exp(-since.clip(0) / decay) - np.exp(-since.clip(0) / rise)
        means.append(shown[since > 0].sum() / since.size)
    np.testing.assert_allclose(response(of, 100).sum(), sum(means), rtol=1e-3)
    # Two exponentials cannot bend as sharply as the mean of a bin does.
    np.testing.assert_allclose(response(of, 100), means, atol=0.1 if rise == 0.4 else 0.05)


def test_spikes_are_found_where_they_were_if_the_rise_is_known():
    generator = torch.Generator().manual_seed(4)
    rng = np.random.default_rng(0)
    moments = np.sort(rng.uniform(0, 400, 60))
    fine = np.bincount((moments * 50).astype(int), minlength=400 * 50)
    t = np.arange(4000) / 50
    light = np.convolve(fine, np.exp(-t / 12) - np.exp(-t / 0.8))[: len(fine)].reshape(400, 50).mean(1)
    noisy = torch.from_numpy(light) + 0.1 * torch.randn(400, generator=generator).double()
    counts = fine.reshape(400, 50).sum(1)
    scores = []
    for rise in (0.8, 0.0):
        of = kinetics(1, decay=np.exp(-1 / 12), rise=rise, noise=0.1, initial=0.0, initial_sd=0.1)
        seen, rate = torch.ones(1, 400, 1, dtype=torch.bool), torch.full((1,), 0.15).double()
        found = infer_spikes(noisy[None, :, None], seen, rate, of).mean[0, :, 0]
        scores.append(np.corrcoef(found.numpy(), counts)[0, 1])
    assert scores[0] > 0.75 and scores[0] > scores[1] + 0.2


def test_without_samples_the_rates_come_back():
    rate = torch.rand(3, 7, 2).double()
    values, unseen = torch.zeros(3, 7, 2).double(), torch.zeros(3, 7, 2, dtype=torch.bool)
    found = infer_spikes(values, unseen, rate, kinetics(2))
    torch.testing.assert_close(found.mean, rate)
    torch.testing.assert_close(found.variance, rate)
    assert (found.evidence == 0).all()


def test_what_is_not_seen_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(4, 20, 3, generator=generator).double()
    seen = torch.rand(4, 20, 3, generator=generator) > 0.5
    rate = torch.full((3,), 0.3).double()
    found = infer_spikes(values, seen, rate, kinetics(3))
    junk = torch.where(seen, values, torch.full_like(values, torch.nan))
    again = infer_spikes(junk, seen, rate, kinetics(3))
    assert torch.equal(found.mean, again.mean) and torch.equal(found.calcium, again.calcium)
    assert torch.equal(found.evidence, again.evidence)


def test_counts_do_not_depend_on_the_unit_of_the_fluorescence():
    values = torch.rand(2, 30, 2, generator=torch.Generator().manual_seed(2)).double() * 3
    seen, rate = torch.ones(2, 30, 2, dtype=torch.bool), torch.full((2,), 0.3).double()
    plain = infer_spikes(values, seen, rate, kinetics(2))
    other = infer_spikes(40 + 7 * values, seen, rate, kinetics(2, amplitude=7.0, baseline=40.0, noise=1.4))
    torch.testing.assert_close(plain.mean, other.mean)
    torch.testing.assert_close(plain.evidence - 30 * torch.tensor(7.0).double().log(), other.evidence)


def test_calcium_between_samples_goes_on_from_the_sample_before():
    values = torch.full((1, 30, 1), 6.0).double()
    seen = torch.zeros(1, 30, 1, dtype=torch.bool)
    seen[0, 4] = True
    rate = torch.full((1,), 1e-6).double()
    found = infer_spikes(values, seen, rate, kinetics(1, initial=20.0, initial_sd=10.0))
    course = found.calcium[0, :, 0]
    assert abs(float(course[4]) - 6) < 0.1
    torch.testing.assert_close(course[5:] / course[4:-1], torch.full((25,), 0.75).double(), rtol=1e-3, atol=0)


def test_rates_of_unknown_spread_leave_room_for_more_spikes():
    values, seen = torch.tensor([0.0, 3.0, 2.2, 1.7]).double()[None, :, None], torch.ones(1, 4, 1, dtype=torch.bool)
    of, rate = kinetics(1, noise=0.6, initial=0.0), torch.full((1,), 0.1).double()
    known = infer_spikes(values, seen, rate, of)
    unknown = infer_spikes(values, seen, rate, of, shape=torch.full((1,), 0.3).double())
    assert float(unknown.mean[0, 1, 0]) > float(known.mean[0, 1, 0]) + 0.05
    nearly = infer_spikes(values, seen, rate, of, shape=torch.full((1,), 1e7).double())
    torch.testing.assert_close(nearly.mean, known.mean, rtol=1e-3, atol=1e-4)
