"""Samples of fluorescence in spikes, and the counts between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEAST_VARIANCE = 1e-4
"""Of calcium, in squared spikes, added in each bin: keeps precisions finite where nothing is in doubt."""
LEAST_RATE = 1e-8
LEAST_RISE = 1e-3
"""Bins."""
NEGLIGIBLE = -60.0
"""Logarithm of a count's weight beside the likeliest one's that is as good as none."""


@dataclass(frozen=True)
class Kinetics:
    """How fluorescence follows spikes, for each channel: ``f = gain · (c − m) + baseline + noise``.

    Each spike adds 1 to calcium c, which decays. What of it the indicator does not show yet, m, shrinks faster. So the
    response to a spike, n bins later, is ``keptⁿ − late · laggingⁿ``, two exponentials. Without a rise, a spike is shown in
    full by its own bin's sample. With one, samples are means over their bins, in which spikes fall anywhere, as those of a
    microscope do: however fast the rise, half a spike is late.

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
    rise : Float[Tensor, "channel"]
        Time constant of the rise in bins; 0 where spikes are shown at once.
    """

    kept: Float[Tensor, "channel"]
    gain: Float[Tensor, "channel"]
    baseline: Float[Tensor, "channel"]
    noise: Float[Tensor, "channel"]
    first: Float[Tensor, "channel"]
    first_sd: Float[Tensor, "channel"]
    most: Int[Tensor, ""]
    rise: Float[Tensor, "channel"]

    @property
    def rises(self) -> bool:
        """Whether any channel shows spikes later than at once."""
        return bool((self.rise > 0).any())

    @property
    def lagging(self) -> Float[Tensor, "channel"]:
        """Share of what is not shown yet that is not a bin later."""
        return torch.where(self.rise > 0, (-1 / self.rise.clamp(min=LEAST_RISE)).exp(), 0.0)

    @property
    def late(self) -> Float[Tensor, "channel"]:
        """Share of a spike that its own bin's sample does not show; with it all samples show in sum what they should."""
        kept, rise = self.kept.double(), self.rise.double()
        share = (1 - self.lagging) * (1 / (1 - kept) + 1 / kept.log() + rise)
        return torch.where(self.rise > 0, share.clamp(0, 1), 0.0).to(self.kept.dtype)


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
    def of(cls, fluorescence: Tensor, seen: Tensor, rate: Tensor, kinetics: Kinetics, *, shape: Tensor | None) -> Rows:
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
            kinetics.late.repeat(n_trials),
            kinetics.lagging.repeat(n_trials),
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

    def evidence(self, densities: Tensor, *, of: Tensor | None = None) -> Tensor:
        """Sum of the logarithms of the samples' densities, or some samples' alone, of a row in the data's unit.

        They come in spikes, and without the constants of the normal density.
        """
        counted = self.there if of is None else self.there & of
        return (densities * counted).sum(0) - counted.sum(0) * (self.unit.log() + 0.5 * math.log(2 * math.pi))


def _rising(shape: Float[Tensor, "row"], counts: Float[Tensor, "count"]) -> Float[Tensor, "row count"]:
    """Logarithm of ``shape (shape + 1) … (shape + k − 1)``."""
    return torch.lgamma(shape[:, None] + counts) - torch.lgamma(shape)[:, None]
