"""Gamma likelihood of positive signals."""

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
"""Smallest value of a parameter, as a share of its upper bound."""
SMALLEST = 1e-6
"""Smallest value that differs from zero, in units of a channel's mean."""
LEAST_UNIT = 1e-12
"""Mean that a channel of zeros is given."""
NARROWEST, WIDEST = 0.1, 10.0
"""Limits of a channel's initial shape."""


class Gamma(Curved):
    """Gamma distribution with shape α and scale θ, both read out of the factors and bounded per channel.

    ``α = a · σ(W f + b)`` and ``θ = t · σ(V f + c)`` in units of each channel's mean, with trained bounds a and t per channel
    that have a prior at 20 (Zhu et al. 2022). A term is ``log Γ(αe) + αe log θ − (αe − 1) log x + x / θ`` for a value x in
    units of the channel's mean and exposure e: a partly observed bin has that share of the shape.
    """

    Config = GammaConfig
    n_parameters = 2

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse values of zero or less."""
        if flat := int((data.values[data.observed] <= 0).sum()):
            raise DataError(
                f"{flat} of {int(data.observed.sum())} values are zero or less, which a gamma distribution excludes; "
                "use likelihood='zig' (--likelihood zig) for event sizes that are mostly zero, or 'gaussian'"
            )

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__(statistics, factors, config)
        self.scales = SessionTables()
        self.units = SessionTables()
        for session, stats in statistics.items():
            self.scales[session, "shape"] = nn.Parameter(torch.ones(len(stats.mean)))
            self.scales[session, "size"] = nn.Parameter(torch.ones(len(stats.mean)))
            self.units[session] = stats.mean.clamp(min=LEAST_UNIT)

    def _initial_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return initial_gamma(stats.mean, stats.sd)

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


def initial_gamma(mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
    """Compute biases with which shape and scale have a given mean and sd.

    Parameters
    ----------
    mean, sd : Float[Tensor, "channel"]

    Returns
    -------
    shape, scale : Float[Tensor, "channel"]
        Logits, in units of the mean.
    """
    shape = ((mean / sd) ** 2).clamp(NARROWEST, WIDEST)
    return torch.logit(shape / SCALE), torch.logit(1 / (shape * SCALE))


def bounded(linear: Tensor, scale: Tensor) -> Tensor:
    """Bound a parameter between 0 and ``20 · scale``.

    Parameters
    ----------
    linear : Tensor
        Logit of the parameter.
    scale : Tensor
        Upper bound in multiples of 20, at least 1 / 20.

    Returns
    -------
    Tensor
    """
    return SCALE * scale.clamp(min=1 / SCALE) * torch.sigmoid(linear).clamp(LEAST, 1 - LEAST)


def gamma_terms(values: Tensor, shape: Tensor, size: Tensor) -> Tensor:
    """Compute the negative log-density of a gamma distribution.

    Parameters
    ----------
    values, shape, size : Tensor
        Positive values, shape α and scale θ.

    Returns
    -------
    Tensor
        Nats.
    """
    return torch.lgamma(shape) + shape * size.log() - (shape - 1) * values.log() + values / size
