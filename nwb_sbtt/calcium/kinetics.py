"""How the fluorescence of each channel follows its spikes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import precise_dtype

LEAST_RISE_TIME = 1e-3
"""Bins; keeps the exponent finite where a channel has no rise."""


@dataclass(frozen=True)
class Kinetics:
    """How fluorescence follows spikes, for each channel: ``f = amplitude · (c − m) + baseline + noise``.

    Each spike adds 1 to calcium c, which decays. The rising component m is what the indicator does not show of it yet; it
    shrinks faster. The response n bins after a spike is a double exponential,
    ``decay_per_binⁿ − rise_amplitude · rise_per_binⁿ``.

    Without a rise, the sample of a spike's own bin shows it in full. With one, a sample is the mean over its bin, as a
    microscope's frame is, and a spike may fall anywhere in its bin: however fast the rise, half a spike is shown later.

    Parameters
    ----------
    decay_per_bin : Float[Tensor, "channel"]
        Share of the calcium that is left after a bin, ``exp(−Δ / τ)``.
    amplitude : Float[Tensor, "channel"]
        Fluorescence that a spike adds, in the data's unit.
    baseline : Float[Tensor, "channel"]
        Fluorescence without calcium, in the data's unit.
    noise_sd : Float[Tensor, "channel"]
        Of one sample, in the data's unit.
    initial, initial_sd : Float[Tensor, "channel"]
        Calcium before the first bin of a trial, and its sd over trials, in spikes.
    rise_time : Float[Tensor, "channel"]
        Time constant of the rising component in bins; 0 where spikes are shown at once.
    """

    decay_per_bin: Float[Tensor, "channel"]
    amplitude: Float[Tensor, "channel"]
    baseline: Float[Tensor, "channel"]
    noise_sd: Float[Tensor, "channel"]
    initial: Float[Tensor, "channel"]
    initial_sd: Float[Tensor, "channel"]
    rise_time: Float[Tensor, "channel"]

    @property
    def rises(self) -> bool:
        """Whether any channel has a rise. Reads the tensor: on a GPU this waits for it."""
        return bool((self.rise_time > 0).any())

    @property
    def rise_per_bin(self) -> Float[Tensor, "channel"]:
        """Share of the rising component that is left after a bin."""
        return torch.where(self.rise_time > 0, (-1 / self.rise_time.clamp(min=LEAST_RISE_TIME)).exp(), 0.0)

    @property
    def rise_amplitude(self) -> Float[Tensor, "channel"]:
        """Share of a spike that the sample of its own bin does not show.

        It is chosen so that all samples together show what they should: with decay and rise times τ and ρ in bins, means over
        bins of the double exponential sum to ``τ − ρ``, and samples of the response to
        ``1 / (1 − decay_per_bin) − rise_amplitude / (1 − rise_per_bin)``.
        """
        precise = precise_dtype(self.decay_per_bin.device)
        decay, rise = self.decay_per_bin.to(precise), self.rise_time.to(precise)
        share = (1 - self.rise_per_bin) * (1 / (1 - decay) + 1 / decay.log() + rise)
        return torch.where(self.rise_time > 0, share.clamp(0, 1), 0.0).to(self.decay_per_bin.dtype)
