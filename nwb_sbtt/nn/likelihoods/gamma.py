"""Positive signals."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.config import GammaConfig, LikelihoodConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods.base import Values
from nwb_sbtt.nn.likelihoods.curved import Curved
from nwb_sbtt.nn.likelihoods.entrywise import SCALE, Linear
from nwb_sbtt.nn.sessions import SessionTables

LEAST = 1e-5
"""Least share of its greatest value that a parameter takes."""
SMALLEST = 1e-6
"""Smallest value told from zero, in units of a channel's mean."""
LEAST_UNIT = 1e-12
"""Mean of a channel that holds nothing but zeros."""
NARROWEST, WIDEST = 0.1, 10.0
"""Limits of the shape that a channel starts from."""


class Gamma(Curved):
    """Positive values with shape α and scale θ, both read out of the factors and bounded per channel.

    ``α = a · σ(W f + b)`` and ``θ = t · σ(V f + c)`` in units of each channel's mean, with trained bounds a and t per channel
    that have a prior at 20 (Zhu et al. 2022). A term is ``log Γ(αe) + αe log θ − (αe − 1) log x + x / θ`` for a value x in
    units of the channel's mean and exposure e: of a bin observed in part only that share of the shape is expected.
    """

    Config = GammaConfig
    n_parameters = 2

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse values of zero or less."""
        if flat := int((data.values[data.observed] <= 0).sum()):
            raise DataError(
                f"{flat} of {int(data.observed.sum())} values are zero or less, which a gamma distribution does not reach; "
                "choose likelihood='zig' for sizes of events, most of them zero, or 'gaussian'"
            )

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__(statistics, factors, config)
        self.scales = SessionTables()
        self.units = SessionTables()
        for session, stats in statistics.items():
            self.scales[session, "shape"] = nn.Parameter(torch.ones(len(stats.mean)))
            self.scales[session, "size"] = nn.Parameter(torch.ones(len(stats.mean)))
            self.units[session] = stats.mean.clamp(min=LEAST_UNIT)

    def _first_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return first_gamma(stats.mean, stats.sd)

    def _scales(self, session: str) -> tuple[Tensor, ...]:
        return self.scales[session, "shape"], self.scales[session, "size"]

    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        return *self._scales(session), self.units[session]

    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        shape, size = bounded(linear[0], per_channel[0]), bounded(linear[1], per_channel[1])
        if exposure is not None:
            shape = shape * exposure
        return gamma_terms((values / per_channel[2]).clamp(min=SMALLEST), shape, size)

    def _expected(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        expected = bounded(linear[0], per_channel[0]) * bounded(linear[1], per_channel[1]) * per_channel[2]
        return expected if exposure is None else expected * exposure

    def _variance(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        return self._expected(linear, exposure, *per_channel) * bounded(linear[1], per_channel[1]) * per_channel[2]


def first_gamma(mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
    """Biases from which shape and scale have this mean and sd, in units of the mean."""
    shape = ((mean / sd) ** 2).clamp(NARROWEST, WIDEST)
    return torch.logit(shape / SCALE), torch.logit(1 / (shape * SCALE))


def bounded(linear: Tensor, scale: Tensor) -> Tensor:
    """Parameter between 0 and its greatest value, `scale` in multiples of 20."""
    return SCALE * scale.clamp(min=1 / SCALE) * torch.sigmoid(linear).clamp(LEAST, 1 - LEAST)


def gamma_terms(values: Tensor, shape: Tensor, size: Tensor) -> Tensor:
    """Negative log-density of positive values."""
    return torch.lgamma(shape) + shape * size.log() - (shape - 1) * values.log() + values / size
