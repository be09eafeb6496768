"""Spikes given fluorescence: the posterior of Poisson counts whose calcium is seen through noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEAST_VARIANCE = 1e-4
"""Of calcium, in squared spikes, added in each bin: keeps precisions finite where nothing is in doubt."""
LEAST_RATE = 1e-8
NEGLIGIBLE = -60.0
"""Logarithm of a count's weight beside the likeliest one's that is as good as none."""


@dataclass(frozen=True)
class Kinetics:
    """How fluorescence follows spikes, for each channel: ``f = gain · c + baseline + noise``, where each spike adds 1 to c.

    Parameters
    ----------
    kept : Float[Tensor, "channel"]
        Share of the calcium that is left after a bin, ``exp(−Δ / τ)``.
    gain, baseline, noise : Float[Tensor, "channel"]
        In the data's unit; `noise` is an sd.
    first, first_sd : Float[Tensor, "channel"]
        Calcium before the first bin of a trial, and its spread over trials, in spikes.
    most : Int[Tensor, ""]
        Spikes between two samples that are reckoned with, at most.
    """

    kept: Float[Tensor, "channel"]
    gain: Float[Tensor, "channel"]
    baseline: Float[Tensor, "channel"]
    noise: Float[Tensor, "channel"]
    first: Float[Tensor, "channel"]
    first_sd: Float[Tensor, "channel"]
    most: Int[Tensor, ""]


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
) -> Spikes:
    """Infer the counts ``s_t ~ Poisson(rate_t)`` with ``c_t = kept · c_{t−1} + s_t`` from noisy samples of c.

    Counts are summed over exactly, and what is believed of calcium is kept as a mean and a variance: assumed-density filtering
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

    Returns
    -------
    Spikes
        Without gradients.
    """
    with torch.no_grad():
        return _infer(_Rows.of(fluorescence, seen, rate, kinetics, shape=shape), fluorescence.shape)


def log_evidence(
    fluorescence: Float[Tensor, "trial time channel"],
    seen: Bool[Tensor, "trial time channel"],
    rate: Float[Tensor, "*trial channel"],
    kinetics: Kinetics,
    *,
    shape: Float[Tensor, "channel"] | None = None,
) -> Float[Tensor, "trial channel"]:
    """Logarithm of the density of what was seen of each channel and trial, in the data's unit; see `infer_spikes`."""
    with torch.no_grad():
        _, evidence = _forward(_Rows.of(fluorescence, seen, rate, kinetics, shape=shape))
    return evidence.reshape(len(fluorescence), -1)


def _infer(rows: _Rows, size: torch.Size) -> Spikes:
    n_trials, n_bins, n_channels = size
    forward, evidence = _forward(rows)
    found = _backward(rows, forward)
    mean, variance, calcium, doubt = (each.reshape(n_bins, n_trials, n_channels).transpose(0, 1) for each in found)
    return Spikes(mean, variance, calcium, doubt, evidence.reshape(n_trials, n_channels))


@dataclass(frozen=True)
class _Rows:
    """The samples in spikes, bin after bin: (time, row), where a row is one channel of one trial."""

    level: Tensor
    there: Tensor
    precision: Tensor
    rate: Tensor
    kept: Tensor
    unit: Tensor
    first: Tensor
    first_sd: Tensor
    powers: Tensor
    shape: Tensor | None
    log_weight: Tensor

    @classmethod
    def of(cls, fluorescence: Tensor, seen: Tensor, rate: Tensor, kinetics: Kinetics, *, shape: Tensor | None) -> _Rows:
        """Lay them out."""
        n_trials, n_bins, _ = fluorescence.shape

        def laid(of_channel: Tensor) -> Tensor:
            return of_channel.expand_as(fluorescence).transpose(0, 1).reshape(n_bins, -1)

        there = laid(seen)
        level = laid((fluorescence - kinetics.baseline) / kinetics.gain)
        precision = laid((kinetics.gain / kinetics.noise).square()) * there
        rows = None if shape is None else shape.repeat(n_trials)
        counts = torch.arange(int(kinetics.most) + 1, dtype=level.dtype, device=level.device)
        return cls(
            torch.where(there, level, torch.zeros_like(level)),
            there,
            precision,
            laid(rate.clamp(min=LEAST_RATE)),
            kinetics.kept.repeat(n_trials),
            kinetics.gain.repeat(n_trials),
            kinetics.first.repeat(n_trials),
            kinetics.first_sd.repeat(n_trials),
            torch.stack([torch.ones_like(counts), counts, counts**2]),
            rows,
            -torch.lgamma(counts + 1) + (0 if rows is None else _rising(rows, counts)),
        )

    def weigh(self, expected: Tensor, linear: Tensor, square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of a count whose probabilities are tilted by ``exp(linear k + square k²)``, and log Σ of them."""
        if self.shape is None:
            slope, at_zero = expected.log(), expected
        else:
            slope, at_zero = (expected / (self.shape + expected)).log(), self.shape * (expected / self.shape).log1p()
        logits = torch.addmm(self.log_weight, torch.stack([linear + slope, square], 1), self.powers[1:])
        peak = logits.amax(1, keepdim=True)
        # Smaller weights would be denormal numbers, whose exponentials take several times as long.
        weights = logits.sub_(peak).clamp_(min=NEGLIGIBLE).exp_()
        total, first, second = (weights @ self.powers.t()).unbind(1)
        mean = first / total
        return mean, (second / total - mean**2).clamp(min=0), total.log() + peak[:, 0] - at_zero


@dataclass(frozen=True)
class _Belief:
    """What earlier samples say of a bin: of the calcium left of what was there at the last sample, and of spikes since.

    `pending` are the spikes expected since, this bin's included, and `size` what one of them has left on average.
    """

    mean: Tensor
    variance: Tensor
    pending: Tensor
    size: Tensor


def _forward(rows: _Rows) -> tuple[list[_Belief], Tensor]:
    mean, variance = rows.first, rows.first_sd**2
    pending, decayed = torch.zeros_like(mean), torch.zeros_like(mean)
    evidence = torch.zeros_like(mean)
    beliefs = []
    for level, there, precision, rate in zip(rows.level, rows.there, rows.precision, rows.rate, strict=True):
        mean, variance = rows.kept * mean, rows.kept**2 * variance + LEAST_VARIANCE
        pending, decayed = pending + rate, rows.kept * decayed + rate
        size = decayed / pending
        beliefs.append(_Belief(mean, variance, pending, size))
        surprise = precision / (1 + variance * precision)
        error = level - mean
        count, spread, total = rows.weigh(pending, surprise * error * size, -0.5 * surprise * size**2)
        density = total - 0.5 * surprise * error**2 + 0.5 * torch.where(there, surprise, 1.0).log()
        evidence = evidence + torch.where(there, density, 0.0)
        left = 1 / (1 + variance * precision)
        mean = mean + torch.where(there, (1 - left) * error + left * size * count, 0.0)
        variance = torch.where(there, variance * left + (left * size) ** 2 * spread, variance)
        pending, decayed = pending * ~there, decayed * ~there
    n_samples = rows.there.sum(0)
    return beliefs, evidence - n_samples * (rows.unit.log() + 0.5 * math.log(2 * math.pi))


def _backward(rows: _Rows, beliefs: list[_Belief]) -> list[Tensor]:
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


def _rising(shape: Float[Tensor, "row"], counts: Float[Tensor, "count"]) -> Float[Tensor, "row count"]:
    """Logarithm of ``shape (shape + 1) … (shape + k − 1)``."""
    return torch.lgamma(shape[:, None] + counts) - torch.lgamma(shape)[:, None]
