"""Samples of fluorescence in units of spikes, and sums over the counts between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nwb_sbtt.calcium.kinetics import Kinetics

LEAST_RATE = 1e-8
"""Spikes a bin."""
MAX_COUNT = 16
"""Most spikes between two samples that are summed over."""
NEGLIGIBLE = -60.0
"""Least logarithm of a count's weight, relative to that of the likeliest count."""


class Sample(NamedTuple):
    """One bin of all rows: the sample in spikes, whether there is one, its precision (0 where not), and the expected count."""

    value: Float[Tensor, "row"]
    observed: Bool[Tensor, "row"]
    precision: Float[Tensor, "row"]
    rate: Float[Tensor, "row"]


class Count(NamedTuple):
    """Mean and variance of a count."""

    mean: Float[Tensor, "row"]
    variance: Float[Tensor, "row"]


@dataclass(frozen=True)
class Samples:
    """All samples, laid out as (time, row); a row is one channel of one trial.

    Parameters
    ----------
    bins : Sample
        Each tensor (time, row).
    decay, rise, rise_amplitude : Float[Tensor, "row"]
        ``decay_per_bin``, ``rise_per_bin`` and ``rise_amplitude`` of `Kinetics`.
    unit : Float[Tensor, "row"]
        What a spike adds, in the data's unit.
    initial, initial_sd : Float[Tensor, "row"]
        Calcium before the first bin, and its sd.
    powers : Float[Tensor, "3 count"]
        1, k and k² of all counts k.
    shape : Float[Tensor, "row"] or None
        Of the gamma distribution of the rates, where counts are negative binomial instead of Poisson.
    log_weight : Float[Tensor, "*row count"]
        The part of a count's log-probability that does not depend on its expectation.
    """

    bins: Sample
    decay: Float[Tensor, "row"]
    rise: Float[Tensor, "row"]
    rise_amplitude: Float[Tensor, "row"]
    unit: Float[Tensor, "row"]
    initial: Float[Tensor, "row"]
    initial_sd: Float[Tensor, "row"]
    powers: Float[Tensor, "3 count"]
    shape: Float[Tensor, "row"] | None
    log_weight: Float[Tensor, "*row count"]

    @classmethod
    def of(
        cls,
        fluorescence: Float[Tensor, "trial time channel"],
        observed: Bool[Tensor, "trial time channel"],
        rate: Float[Tensor, "*trial channel"],
        kinetics: Kinetics,
        *,
        shape: Float[Tensor, "channel"] | None,
        max_count: int = MAX_COUNT,
    ) -> Samples:
        """Lay fluorescence out in units of spikes above the baseline.

        Parameters
        ----------
        fluorescence : Float[Tensor, "trial time channel"]
            In the data's unit.
        observed : Bool[Tensor, "trial time channel"]
        rate : Float[Tensor, "*trial channel"]
            Expected spikes per bin; it broadcasts over (trial, time, channel).
        kinetics : Kinetics
            Of the channels.
        shape : Float[Tensor, "channel"] or None
            Shape of the gamma distribution of the rates, where they are not known.
        max_count : int
            Largest count that is summed over.

        Returns
        -------
        Samples
            One row for each trial and channel.
        """
        n_trials, n_bins, _ = fluorescence.shape

        def laid_out(values: Tensor) -> Tensor:
            return values.expand_as(fluorescence).transpose(0, 1).reshape(n_bins, -1)

        sampled = laid_out(observed)
        value = laid_out((fluorescence - kinetics.baseline) / kinetics.amplitude)
        precision = laid_out((kinetics.amplitude / kinetics.noise_sd).square()) * sampled
        row_shape = None if shape is None else shape.repeat(n_trials)
        counts = torch.arange(max_count + 1, dtype=value.dtype, device=value.device)
        return cls(
            Sample(
                torch.where(sampled, value, torch.zeros_like(value)),
                sampled,
                precision,
                laid_out(rate.clamp(min=LEAST_RATE)),
            ),
            kinetics.decay_per_bin.repeat(n_trials),
            kinetics.rise_per_bin.repeat(n_trials),
            kinetics.rise_amplitude.repeat(n_trials),
            kinetics.amplitude.repeat(n_trials),
            kinetics.initial.repeat(n_trials),
            kinetics.initial_sd.repeat(n_trials),
            torch.stack([torch.ones_like(counts), counts, counts**2]),
            row_shape,
            -torch.lgamma(counts + 1) + (0 if row_shape is None else _log_rising_factorial(row_shape, counts)),
        )

    def __iter__(self) -> Iterator[Sample]:
        """Go through the bins in time."""
        return (Sample(*tensors) for tensors in zip(*self.bins, strict=True))

    def __len__(self) -> int:
        return len(self.bins.value)

    def __getitem__(self, t: int) -> Sample:
        return Sample(*(tensor[t] for tensor in self.bins))

    def weigh(
        self, expected: Float[Tensor, "row"], linear: Float[Tensor, "row"], square: Float[Tensor, "row"]
    ) -> tuple[Count, Float[Tensor, "row"]]:
        """Sum over a count k whose probabilities are multiplied by ``exp(linear k + square k²)``.

        A Poisson count of expectation μ has the log-probability ``k log μ − μ − log k!``. If rates are not known but have a
        gamma distribution of mean μ and shape a, the count is negative binomial:
        ``k log(μ / (a + μ)) − a log(1 + μ / a) + log (a (a + 1) … (a + k − 1)) − log k!``. So both are a term that is linear
        in k, a term at ``k = 0`` and a table, and all three sums over k are one matrix product.

        Parameters
        ----------
        expected : Float[Tensor, "row"]
            Expected count μ.
        linear, square : Float[Tensor, "row"]
            Coefficients of k and k².

        Returns
        -------
        Count
            Mean and variance of k under the normalised weights.
        Float[Tensor, "row"]
            Logarithm of the sum of the weights.
        """
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
        return Count(mean, (second / total - mean**2).clamp(min=0)), total.log() + peak[:, 0] - at_zero

    def evidence(
        self, densities: Float[Tensor, "time row"], *, only: Bool[Tensor, "time row"] | None = None
    ) -> Float[Tensor, "row"]:
        """Sum the log-densities of all samples of a row, or of some, in the data's unit.

        `densities` are in spikes and without the constant of the normal density; both are added.

        Parameters
        ----------
        densities : Float[Tensor, "time row"]
            Log-densities of the samples, in spikes and without the constant of the normal density; both are added.
        only : Bool[Tensor, "time row"], optional
            Samples to sum over. Default: all.

        Returns
        -------
        Float[Tensor, "row"]
            Nats.
        """
        counted = self.bins.observed if only is None else self.bins.observed & only
        return (densities * counted).sum(0) - counted.sum(0) * (self.unit.log() + 0.5 * math.log(2 * math.pi))


def _log_rising_factorial(shape: Float[Tensor, "row"], counts: Float[Tensor, "count"]) -> Float[Tensor, "row count"]:
    """Logarithm of ``shape (shape + 1) … (shape + k − 1)``."""
    return torch.lgamma(shape[:, None] + counts) - torch.lgamma(shape)[:, None]
