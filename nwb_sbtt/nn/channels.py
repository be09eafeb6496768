"""What a model must know of a session's channels, and the layer that reads them in.

Only this layer and the observation model (`nwb_sbtt.nn.likelihoods`) know the channel axis; everything between them is
(trial, time, width).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel per whole bin, over the shown entries of the training trials."""

    mean: Float[Tensor, "channel"]
    sd: Float[Tensor, "channel"]


def channel_statistics(batch: Batch) -> ChannelStatistics:
    """Measure mean and sd of each channel where it was observed.

    A channel with next to no observations gets the mean over all channels, weighted in like one observed bin, so that
    nothing is infinite and a silent channel keeps a small positive rate.
    """
    weight = batch.observed.double()
    amount = weight if batch.exposure is None else weight * batch.exposure
    values = batch.values.double()
    overall = (values * weight).sum() / amount.sum().clamp(min=1e-12)
    per_channel = amount.sum((0, 1))
    mean = ((values * weight).sum((0, 1)) + overall) / (per_channel + 1)
    spread = ((values - mean * (1 if batch.exposure is None else batch.exposure)) ** 2 * weight).sum((0, 1))
    overall_variance = (spread.sum() / weight.sum().clamp(min=1)).clamp(min=1e-24)
    variance = (spread + overall_variance) / (weight.sum((0, 1)) + 1)
    return ChannelStatistics(mean.float(), variance.sqrt().float())


class ReadIn(nn.Module):
    """Sum what each shown entry has to say, and tell the encoder how much was missing.

    Input of a bin is ``N / n · Σ_shown W_c (value_c / exposure_c − mean_c) / sd_c + Σ_shown M_c / N`` over the `n` of `N`
    channels shown: the first term keeps its expected size whatever is missing, the second says which channels were seen.
    A bin in which nothing is shown gives exactly 0 in both.
    """

    def __init__(self, statistics: dict[str, ChannelStatistics], width: int):
        super().__init__()
        self.values = nn.ParameterDict()
        self.masks = nn.ParameterDict()
        for session, of in statistics.items():
            n_channels = len(of.mean)
            self.values[session] = nn.Parameter(torch.randn(n_channels, width) / n_channels**0.5)
            self.masks[session] = nn.Parameter(torch.zeros(n_channels, width))
            self.register_buffer(f"mean_{session}", of.mean)
            self.register_buffer(f"sd_{session}", of.sd)

    def forward(self, batch: Batch) -> Float[Tensor, "trial time width"]:
        """Read the shown entries of a batch."""
        mean, sd = self.get_buffer(f"mean_{batch.session}"), self.get_buffer(f"sd_{batch.session}")
        shown = batch.shown.to(batch.values.dtype)
        values = batch.values if batch.exposure is None else batch.values / batch.exposure
        scores = torch.where(batch.shown, (values - mean) / sd, torch.zeros_like(values))
        n_shown = shown.sum(-1, keepdim=True)
        rescale = values.shape[-1] / n_shown.clamp(min=1)
        read: Tensor = scores @ self.values[batch.session] * rescale
        seen: Tensor = shown @ self.masks[batch.session] / values.shape[-1]
        return read + seen
