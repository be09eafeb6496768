"""Spikes given fluorescence: the posterior of Poisson counts whose calcium is seen through noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nwb_sbtt.calcium import rising
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.samples import LEAST_VARIANCE, MAX_COUNT, Rows


@dataclass(frozen=True)
class Spikes:
    """Posterior means and variances, in spikes.

    Parameters
    ----------
    mean, variance : Float[Tensor, "trial time channel"]
        Of the count of each bin.
    calcium, calcium_variance : Float[Tensor, "trial time channel"]
        At the end of each bin, in units of what a spike adds.
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
    seen: Bool[Tensor, "trial time channel"],
    rate: Float[Tensor, "*trial channel"],
    kinetics: Kinetics,
    *,
    shape: Float[Tensor, "channel"] | None = None,
    max_count: int = MAX_COUNT,
    rises: bool | None = None,
) -> Spikes:
    """Infer the counts ``s_t ~ Poisson(rate_t)`` from noisy samples of calcium, ``c_t = decay_per_bin · c_{t−1} + s_t``.

    Counts are summed over exactly, and what is believed of calcium is kept as mean and variance: assumed-density filtering
    forward in time, and backward with messages that make the two agree. Both go from sample to sample: the count between two
    samples is one number, which goes to its bins by their rates.

    Parameters
    ----------
    seen : bool tensor
        Which samples there are; what `fluorescence` holds elsewhere is not looked at.
    rate : Float[Tensor, "trial time channel"] or Float[Tensor, "channel"]
        Expected count of each bin, before the fluorescence is looked at.
    shape : Float[Tensor, "channel"], optional
        Where rates are not known: shape of the gamma distribution of mean `rate` that they follow between two samples. Counts
        are then negative binomial.
    max_count : int
        Most spikes between two samples.
    rises : bool, optional
        Whether any channel has a rise, where that is known; otherwise the kinetics are asked.

    Returns
    -------
    Spikes
        Without gradients.
    """
    with torch.no_grad():
        rows = Rows.of(fluorescence, seen, rate, kinetics, shape=shape, max_count=max_count)
        if kinetics.rises if rises is None else rises:
            beliefs, densities = rising.forward(rows)
            found = rising.backward(rows, beliefs)
        else:
            of_calcium, densities = _forward(rows)
            found = _backward(rows, of_calcium)
    return _spikes(found, rows.evidence(densities), fluorescence.shape)


def log_evidence(
    fluorescence: Float[Tensor, "trial time channel"],
    seen: Bool[Tensor, "trial time channel"],
    rate: Float[Tensor, "*trial channel"],
    kinetics: Kinetics,
    *,
    shape: Float[Tensor, "channel"] | None = None,
    of: Bool[Tensor, "trial time channel"] | None = None,
    max_count: int = MAX_COUNT,
    rises: bool | None = None,
) -> Float[Tensor, "trial channel"]:
    """Logarithm of the density of what was seen of each channel and trial, in the data's unit; see `infer_spikes`.

    With `of`, that of some of the samples, each given all that were seen before it.
    """
    with torch.no_grad():
        rows = Rows.of(fluorescence, seen, rate, kinetics, shape=shape, max_count=max_count)
        densities = (rising.forward if (kinetics.rises if rises is None else rises) else _forward)(rows)[1]
        some = None if of is None else of.transpose(0, 1).reshape(densities.shape)
    return rows.evidence(densities, of=some).reshape(len(fluorescence), -1)


def _spikes(found: list[Tensor], evidence: Tensor, size: torch.Size) -> Spikes:
    n_trials, n_bins, n_channels = size
    mean, variance, calcium, doubt = (each.reshape(n_bins, n_trials, n_channels).transpose(0, 1) for each in found)
    return Spikes(mean, variance, calcium, doubt, evidence.reshape(n_trials, n_channels))


@dataclass(frozen=True)
class _Belief:
    """What earlier samples say of a bin: of the calcium left of what was there at the last sample, and of spikes since.

    `pending` are the spikes expected since, this bin's included, and `size` what one of them has left on average.
    """

    mean: Tensor
    variance: Tensor
    pending: Tensor
    size: Tensor


def _forward(rows: Rows) -> tuple[list[_Belief], Tensor]:
    """Beliefs of all bins, and the logarithm of the density of each sample, in spikes, given those before it."""
    mean, variance = rows.first, rows.first_sd**2
    pending, decayed = torch.zeros_like(mean), torch.zeros_like(mean)
    beliefs, densities = [], []
    for level, there, precision, rate in zip(rows.level, rows.there, rows.precision, rows.rate, strict=True):
        mean, variance = rows.kept * mean, rows.kept**2 * variance + LEAST_VARIANCE
        pending, decayed = pending + rate, rows.kept * decayed + rate
        size = decayed / pending
        beliefs.append(_Belief(mean, variance, pending, size))
        surprise = precision / (1 + variance * precision)
        error = level - mean
        count, spread, total = rows.weigh(pending, surprise * error * size, -0.5 * surprise * size**2)
        density = total - 0.5 * surprise * error**2 + 0.5 * torch.where(there, surprise, 1.0).log()
        densities.append(torch.where(there, density, 0.0))
        left = 1 / (1 + variance * precision)
        mean = mean + torch.where(there, (1 - left) * error + left * size * count, 0.0)
        variance = torch.where(there, variance * left + (left * size) ** 2 * spread, variance)
        pending, decayed = pending * ~there, decayed * ~there
    return beliefs, torch.stack(densities)


def _backward(rows: Rows, beliefs: list[_Belief]) -> list[Tensor]:
    """Mean and variance of counts and of calcium, (time, row) each."""
    weight, after = torch.zeros_like(rows.kept), torch.zeros_like(rows.kept)
    pull, surer, reach = torch.zeros_like(weight), torch.zeros_like(weight), torch.ones_like(weight)
    count = spread = over = beliefs[-1].pending
    found = []
    for t in reversed(range(len(beliefs))):
        now, there = beliefs[t], rows.there[t]
        weight, after = weight + rows.precision[t], after + rows.precision[t] * rows.level[t]
        shrink = 1 + now.variance * weight
        own, own_spread, _ = rows.weigh(
            now.pending, now.size * (after - weight * now.mean) / shrink, -0.5 * now.size**2 * weight / shrink
        )
        count, spread = torch.where(there, own, count), torch.where(there, own_spread, spread)
        over = torch.where(there, now.pending, over)
        # What was left in this bin of the calcium at the sample before, given this sample and all later ones.
        left = (now.mean + now.variance * (after - weight * now.size * own)) / shrink
        doubt = now.variance / shrink + (now.variance * weight * now.size / shrink) ** 2 * own_spread
        # Bins without a sample have their own belief, pulled as that of the next sample is.
        pull = torch.where(there, (left - now.mean) / now.variance, pull)
        surer = torch.where(there, (now.variance - doubt) / now.variance**2, surer)
        reach = torch.where(there, 1.0, reach)
        share, since, tied = rows.rate[t] / over, now.pending / over, reach * now.variance
        drawn = (now.variance - tied**2 * surer).clamp(min=0)
        drawn = drawn + now.size**2 * (since * (1 - since) * count + since**2 * spread)
        # A spike more is mostly taken off what was there before; only at a sample is it known how much.
        at_sample = now.variance / shrink + (now.size / shrink) ** 2 * spread
        found.append(
            (
                share * count,
                share * (1 - share) * count + share**2 * spread,
                now.mean + tied * pull + since * now.size * count,
                torch.where(there, at_sample, drawn),
            )
        )
        told = there & (doubt < now.variance)
        weight = torch.where(told, 1 / doubt - 1 / now.variance, weight * ~there)
        after = torch.where(told, left / doubt - now.mean / now.variance, after * ~there)
        weight, after, reach = rows.kept**2 * weight, rows.kept * after, rows.kept * reach
    return [torch.stack(each[::-1]) for each in zip(*found, strict=True)]
