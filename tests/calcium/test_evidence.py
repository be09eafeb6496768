"""What fluorescence tells of rates: its slope and curvature, and its limits where spikes are known and where nothing is."""

from dataclasses import replace

import pytest
import torch

from nwb_sbtt.calcium.evidence import LEAST_SHARE, spike_evidence
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.spiking import infer_spikes, log_evidence

TRIALS, BINS, CHANNELS = 3, 12, 2


def kinetics(noise_sd, *, rise=0.0):
    one = torch.ones(CHANNELS)
    return Kinetics(0.7 * one, 2 * one, 5 * one, noise_sd * one, 0 * one, 0.1 * one, rise_time=rise * one)


def recorded(noise_sd, *, share=1.0, rise=0.0):
    """Spikes, their fluorescence, the samples there are, rates and kinetics."""
    generator, of = torch.Generator().manual_seed(0), kinetics(noise_sd, rise=rise)
    rates = 0.1 + torch.rand(TRIALS, BINS, CHANNELS, generator=generator)
    spikes = torch.poisson(rates, generator)
    light, calcium = torch.zeros_like(spikes), torch.zeros(TRIALS, CHANNELS)
    for t in range(BINS):
        calcium = of.decay_per_bin * calcium + spikes[:, t]
        light[:, t] = calcium
    clean = of.amplitude * light + of.baseline
    fluorescence = clean + of.noise_sd * torch.randn(clean.shape, generator=generator)
    sampled = torch.rand(clean.shape, generator=generator) < share
    return spikes, fluorescence, sampled, rates, of


def evidence(fluorescence, sampled, rates, of):
    return spike_evidence(infer_spikes(fluorescence, sampled, rates, of), rates, sampled)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("noise_sd", [0.2, 1.0, 3.0])
def test_slope_and_curvature_are_those_of_the_fluorescence(noise_sd, share):
    _, fluorescence, sampled, rates, of = recorded(noise_sd, share=share)
    counts, shares, told = evidence(fluorescence, sampled, rates, of)
    assert (told.float().mean() > 0.9) == (share == 1)
    step, exact, precise = 0.02, 0, replace(of, **{name: getattr(of, name).double() for name in vars(of)})

    def change(t, by):
        near = rates.double().clone()
        near[:, t] *= torch.tensor(by, dtype=torch.float64).exp()
        return log_evidence(fluorescence.double(), sampled, near, precise)

    for t in range(BINS):
        # Bins that are gaps of their own: their sample and the one before.
        alone = told[:, t] & sampled[:, t] & (sampled[:, t - 1] if t else torch.zeros_like(told[:, 0]))
        ahead, here, behind = (change(t, by) for by in (step, 0.0, -step))
        slope, curvature = (ahead - behind) / (2 * step), (ahead - 2 * here + behind) / step**2
        of_counts = counts[:, t] - shares[:, t] * rates[:, t]
        torch.testing.assert_close(of_counts[alone].double(), slope[alone], rtol=0.05, atol=0.08)
        # Where fewer spikes are inferred than the rates let expect, so is the curvature.
        less = alone & (slope < 0) & (counts[:, t] > 0) & (shares[:, t] > LEAST_SHARE)
        exact += int(less.sum())
        torch.testing.assert_close(-(shares * rates)[:, t][less].double(), curvature[less], rtol=0.1, atol=0.05)
    assert exact > 3


def test_known_spikes_are_counts_of_whole_bins_and_noise_tells_nothing():
    spikes, fluorescence, sampled, rates, of = recorded(0.02)
    counts, shares, told = evidence(fluorescence, sampled, rates, of)
    torch.testing.assert_close(counts[told], spikes[told], rtol=0, atol=0.05)
    assert shares[told].min() > 0.95
    _, fluorescence, sampled, rates, of = recorded(200.0)
    counts, shares, told = evidence(fluorescence, sampled, rates, of)
    assert shares[told].max() < 0.05 and counts[told].max() < 0.05


def test_the_count_of_a_gap_is_told_of_all_its_bins():
    spikes, fluorescence, _, rates, of = recorded(0.02)
    sampled = torch.zeros_like(rates, dtype=torch.bool)
    sampled[:, [0, 4, 9]] = True
    counts, shares, told = evidence(fluorescence, sampled, rates, of)
    assert not told[:, 0].any() and told[:, 1:10].all() and not told[:, 10:].any()
    for first, last in ((1, 4), (5, 9)):
        gap = slice(first, last + 1)
        near = of.decay_per_bin ** (last - torch.arange(BINS))[gap, None]
        # Old spikes show less, so that the number in the gap is known about.
        total, least = spikes[:, gap].sum(1), (spikes[:, gap] * near).sum(1)
        assert ((counts[:, gap].sum(1) / shares[:, last]) > 0.8 * least).all()
        assert (counts[:, gap].sum(1) < 2.5 * total + 1).all()
        torch.testing.assert_close(shares[:, gap], shares[:, last : last + 1].expand(-1, last - first + 1, -1))
        parts = counts[:, gap] / rates[:, gap]
        torch.testing.assert_close(parts, parts[:, :1].expand_as(parts), rtol=1e-4, atol=1e-5)


def test_nothing_is_told_without_samples():
    _, fluorescence, sampled, rates, of = recorded(0.5)
    counts, shares, told = evidence(fluorescence, sampled & False, rates, of)
    assert not told.any() and not counts.any() and (shares == 1).all()


def test_more_spikes_than_can_be_counted_tell_nothing():
    _, fluorescence, sampled, rates, of = recorded(0.1)
    fluorescence[:, 6:] += 60 * of.amplitude * of.decay_per_bin ** torch.arange(BINS - 6)[:, None]
    counts, shares, told = evidence(fluorescence, sampled, rates, of)
    assert not told[:, 6].any() and not counts[:, 6].any() and (shares[:, 6] == 1).all()
    assert told[:, 2:5].all() and (counts[told] < 16).all()
    rare = torch.zeros_like(sampled)
    rare[:, [0, -1]] = True
    assert not evidence(fluorescence, rare, 4 * rates.clamp(min=0.5), of)[2].any()
