"""Samples of fluorescence in units of spikes, and the counts between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.calcium.kinetics import Kinetics

LEAST_VARIANCE = 1e-4
"""Of calcium, in squared spikes, added in each bin: keeps precisions finite where nothing is in doubt."""
LEAST_RATE = 1e-8
"""Spikes a bin."""
MAX_COUNT = 16
"""Most spikes between two samples that are summed over."""
NEGLIGIBLE = -60.0
"""Logarithm of a count's weight, relative to the likeliest count's, below which it is treated as this."""


@dataclass(frozen=True)
class Rows:
    """The samples in spikes, bin after bin: (time, row), where a row is one channel of one trial."""

    level: Tensor
    there: Tensor
    precision: Tensor
    rate: Tensor
    kept: Tensor
    late: Tensor
    lagging: Tensor
    unit: Tensor
    first: Tensor
    first_sd: Tensor
    powers: Tensor
    shape: Tensor | None
    log_weight: Tensor

    @classmethod
    def of(
        cls,
        fluorescence: Tensor,
        seen: Tensor,
        rate: Tensor,
        kinetics: Kinetics,
        *,
        shape: Tensor | None,
        max_count: int = MAX_COUNT,
    ) -> Rows:
        """Lay them out."""
        n_trials, n_bins, _ = fluorescence.shape

        def laid(of_channel: Tensor) -> Tensor:
            return of_channel.expand_as(fluorescence).transpose(0, 1).reshape(n_bins, -1)

        there = laid(seen)
        level = laid((fluorescence - kinetics.baseline) / kinetics.amplitude)
        precision = laid((kinetics.amplitude / kinetics.noise_sd).square()) * there
        rows = None if shape is None else shape.repeat(n_trials)
        counts = torch.arange(max_count + 1, dtype=level.dtype, device=level.device)
        return cls(
            torch.where(there, level, torch.zeros_like(level)),
            there,
            precision,
            laid(rate.clamp(min=LEAST_RATE)),
            kinetics.decay_per_bin.repeat(n_trials),
            kinetics.rise_amplitude.repeat(n_trials),
            kinetics.rise_per_bin.repeat(n_trials),
            kinetics.amplitude.repeat(n_trials),
            kinetics.initial.repeat(n_trials),
            kinetics.initial_sd.repeat(n_trials),
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

    def evidence(self, densities: Tensor, *, of: Tensor | None = None) -> Tensor:
        """Sum of the logarithms of the samples' densities, or some samples' alone, of a row in the data's unit.

        They come in spikes, and without the constants of the normal density.
        """
        counted = self.there if of is None else self.there & of
        return (densities * counted).sum(0) - counted.sum(0) * (self.unit.log() + 0.5 * math.log(2 * math.pi))


def _rising(shape: Float[Tensor, "row"], counts: Float[Tensor, "count"]) -> Float[Tensor, "row count"]:
    """Logarithm of ``shape (shape + 1) … (shape + k − 1)``."""
    return torch.lgamma(shape[:, None] + counts) - torch.lgamma(shape)[:, None]
