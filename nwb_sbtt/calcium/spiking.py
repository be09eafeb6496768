"""Spikes given fluorescence: the posterior of Poisson counts whose calcium is sampled with noise, by message passing.

Counts are summed over exactly. Calcium, of which counts of all bins before are in doubt together, is believed to be Gaussian:
forward in time by assumed-density filtering, and backward by messages that make both directions agree, as in expectation
propagation. Both go from sample to sample: the count between two samples is one number, which is parted among its bins by
their rates. So bins without a sample cost nothing in accuracy.

The same two loops serve indicators without and with a rise; `nwb_sbtt.calcium.beliefs` has the two forms of their steps and
derives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nwb_sbtt.calcium.beliefs import Belief, Calcium, Form, LightAndRise, Pair, Symmetric
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.samples import MAX_COUNT, Count, Samples

V = TypeVar("V", Tensor, Pair)
M = TypeVar("M", Tensor, Symmetric)
C = TypeVar("C")


@dataclass(frozen=True)
class Spikes:
    """Posterior of spikes and calcium, in spikes.

    Parameters
    ----------
    mean, variance : Float[Tensor, "trial time channel"]
        Of the count of each bin.
    calcium, calcium_variance : Float[Tensor, "trial time channel"]
        Of what the sample of each bin shows, in units of what a spike adds: calcium or, with a rise, its shown part.
    evidence : Float[Tensor, "trial channel"]
        Logarithm of the density of the fluorescence of each channel and trial, in the data's unit.
    """

    mean: Float[Tensor, "trial time channel"]
    variance: Float[Tensor, "trial time channel"]
    calcium: Float[Tensor, "trial time channel"]
    calcium_variance: Float[Tensor, "trial time channel"]
    evidence: Float[Tensor, "trial channel"]


def infer_spikes(
    fluorescence: Float[Tensor, "trial time channel"],
    observed: Bool[Tensor, "trial time channel"],
    rate: Float[Tensor, "*trial channel"],
    kinetics: Kinetics,
    *,
    shape: Float[Tensor, "channel"] | None = None,
    max_count: int = MAX_COUNT,
    rises: bool | None = None,
) -> Spikes:
    """Infer the counts ``s_t ~ Poisson(rate_t)`` from noisy samples of the calcium ``c_t = decay_per_bin · c_{t−1} + s_t``.

    Parameters
    ----------
    fluorescence : Float[Tensor, "trial time channel"]
        In the data's unit; what it holds outside `observed` plays no part.
    observed : Bool[Tensor, "trial time channel"]
        Which samples there are.
    rate : Float[Tensor, "trial time channel"] or Float[Tensor, "channel"]
        Expected count of each bin, before the fluorescence is looked at.
    kinetics : Kinetics
    shape : Float[Tensor, "channel"], optional
        Where rates are not known: shape of the gamma distribution of mean `rate` that they have between two samples. Counts
        are then negative binomial.
    max_count : int
        Most spikes between two samples.
    rises : bool, optional
        Whether any channel has a rise. Pass it where it is known: asking the kinetics waits for a tensor.

    Returns
    -------
    Spikes
        Without gradients.

    Examples
    --------
    One spike in the third of five bins, seen through little noise:

    >>> decay, one, zero = torch.full((1,), 0.5), torch.ones(1), torch.zeros(1)
    >>> kinetics = Kinetics(decay, one, zero, 0.1 * one, zero, 0.1 * one, rise_time=zero)
    >>> fluorescence = torch.tensor([0, 0, 1, 0.5, 0.25])[None, :, None]
    >>> spikes = infer_spikes(fluorescence, torch.ones(1, 5, 1, dtype=torch.bool), 0.2 * one, kinetics)
    >>> spikes.mean[0, :, 0].round().tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    with torch.no_grad():
        samples = Samples.of(fluorescence, observed, rate, kinetics, shape=shape, max_count=max_count)
        if kinetics.rises if rises is None else rises:
            moments, densities = _smooth(LightAndRise(samples))
        else:
            moments, densities = _smooth(Calcium(samples))
    n_trials, n_bins, n_channels = fluorescence.shape
    mean, variance, light, light_variance = (
        tensor.reshape(n_bins, n_trials, n_channels).transpose(0, 1) for tensor in moments
    )
    return Spikes(mean, variance, light, light_variance, samples.evidence(densities).reshape(n_trials, n_channels))


def log_evidence(
    fluorescence: Float[Tensor, "trial time channel"],
    observed: Bool[Tensor, "trial time channel"],
    rate: Float[Tensor, "*trial channel"],
    kinetics: Kinetics,
    *,
    shape: Float[Tensor, "channel"] | None = None,
    only: Bool[Tensor, "trial time channel"] | None = None,
    max_count: int = MAX_COUNT,
    rises: bool | None = None,
) -> Float[Tensor, "trial channel"]:
    """Logarithm of the density of the samples of each channel and trial, in the data's unit; half the work of `infer_spikes`.

    Parameters
    ----------
    fluorescence, observed, rate, kinetics, shape, max_count, rises
        As in `infer_spikes`.
    only : Bool[Tensor, "trial time channel"], optional
        Samples whose density is asked for, each given all samples before it: a one-step predictive log-likelihood.

    Returns
    -------
    Float[Tensor, "trial channel"]
        Without gradients.
    """
    with torch.no_grad():
        samples = Samples.of(fluorescence, observed, rate, kinetics, shape=shape, max_count=max_count)
        rising = kinetics.rises if rises is None else rises
        densities = _filter(LightAndRise(samples))[1] if rising else _filter(Calcium(samples))[1]
        asked = None if only is None else only.transpose(0, 1).reshape(densities.shape)
    return samples.evidence(densities, only=asked).reshape(len(fluorescence), -1)


def _smooth(form: Form[V, M, C]) -> tuple[list[Tensor], Tensor]:
    beliefs, densities = _filter(form)
    return _backward(form, beliefs), densities


def _filter(form: Form[V, M, C]) -> tuple[list[Belief[V, M]], Tensor]:
    """Beliefs of all bins, and the log-density of each sample given those before it, in spikes: 0 where there is none.

    Given n, the error e of a sample is normal with mean s n and precision ``p / (1 + P p)``. In its log-density stand
    ``e s n`` and ``−½ s² n²`` times that, so n is summed over; what is left of it, and of n's sum, is the sample's density.
    """
    state = form.initial()
    beliefs, densities = [], []
    for sample in form.samples:
        belief = form.predict(state, sample.rate)
        beliefs.append(belief)
        light = form.light(belief)
        precision = sample.precision / (1 + light.variance * sample.precision)
        error = sample.value - light.mean
        count, total = form.samples.weigh(
            belief.pending, precision * error * light.size, -0.5 * precision * light.size**2
        )
        density = total - 0.5 * precision * error**2 + 0.5 * torch.where(sample.observed, precision, 1.0).log()
        densities.append(torch.where(sample.observed, density, 0.0))
        state = form.update(belief, sample, error, count)
    return beliefs, torch.stack(densities)


def _backward(form: Form[V, M, C], beliefs: list[Belief[V, M]]) -> list[Tensor]:
    """Posterior mean and variance of counts and of light, (time, row) each.

    The count n between two samples, of mean n̄ and variance v, is parted among its bins as a binomial by their shares q of the
    expected count: ``q n̄`` and ``q (1 − q) n̄ + q² v``. Of the light of a bin without a sample, spikes since the last sample are
    a part, of the share `since` of n, likewise.
    """
    message, correction = form.nothing()
    count = Count(beliefs[-1].pending, beliefs[-1].pending)
    expected = beliefs[-1].pending
    moments = []
    for t in reversed(range(len(beliefs))):
        belief, sample = beliefs[t], form.samples[t]
        observed = sample.observed
        message = form.add(message, sample)
        combined = form.combine(belief, message)
        at_sample, _ = form.samples.weigh(belief.pending, combined.linear, combined.square)
        posterior = combined.posterior(at_sample, observed)
        count = Count(*(torch.where(observed, own, later) for own, later in zip(at_sample, count, strict=True)))
        expected = torch.where(observed, belief.pending, expected)
        correction = form.choose(observed, posterior.correction, correction)
        share, since, size = sample.rate / expected, belief.pending / expected, form.light(belief).size
        light, light_variance = form.corrected(belief, correction)
        light_variance = light_variance + size**2 * (since * (1 - since) * count.mean + since**2 * count.variance)
        moments.append(
            (
                share * count.mean,
                share * (1 - share) * count.mean + share**2 * count.variance,
                light + since * size * count.mean,
                torch.where(observed, posterior.light_variance, light_variance),
            )
        )
        message, correction = form.back(posterior.message, correction)
    return [torch.stack(tensors[::-1]) for tensors in zip(*moments, strict=True)]
