"""Zero-inflated gamma likelihood of deconvolved calcium events, most of which are zero."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LikelihoodConfig, ZeroInflatedGammaConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.nn.channels import ChannelStatistics, channel_statistics
from nwb_sbtt.nn.likelihoods.base import ChannelValues, Values, refuse_negative
from nwb_sbtt.nn.likelihoods.curved import Curved
from nwb_sbtt.nn.likelihoods.entrywise import Linear
from nwb_sbtt.nn.likelihoods.gamma import LEAST_UNIT, SMALLEST, bounded, gamma_terms, initial_gamma
from nwb_sbtt.nn.sessions import SessionTables

SMALLEST_EVENT = "smallest_event"
"""Name of the setting, and of the column of the channels, with the smallest event size."""
MOST_LOGIT = 15.0
"""Largest absolute logit of the probability of an event."""
LEAST_SIZE = 0.1
"""Smallest initial mean and sd of event sizes above the smallest size, as shares of their mean."""


class ZeroInflatedGamma(Curved):
    """An event with probability q, whose size above the smallest size is gamma-distributed.

    RADICaL's model (Zhu et al. 2022), with the logit of q read out. For event size x and smallest size s of the channel,

    * ``x = 0``: ``log(1 − q)``
    * ``x > s``: ``log q − log Γ(α) − α log θ + (α − 1) log(x − s) − (x − s) / θ``

    with ``α = a · σ(W f + b)`` and ``θ = t · σ(V f + c)``, where the bounds a and t of each channel are trained and have a
    prior at 20; sizes are in units of each channel's mean event above s. A bin with exposure e, the share of it that was
    observed, has no event with probability ``(1 − q)^e``. A size within ``(0, s]`` is impossible and refused by `check`.
    """

    Config = ZeroInflatedGammaConfig
    n_parameters = 3
    suits = ("events",)

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse negative values, and events that do not exceed the smallest size."""
        refuse_negative(data, "sizes of events")
        smallest = np.asarray(cls.channel_values(data, config)[SMALLEST_EVENT], dtype=np.float32)
        small = (data.values > 0) & (data.values <= smallest)
        if small.any():
            raise DataError(
                f"{int(small.sum())} events of {int(data.observed.sum())} values are above 0 but not above the "
                f"smallest event size; the smallest is {data.values[small].min():g}. Set smallest_event below it "
                "(--likelihood zig --set likelihood.smallest_event=0), or remove such events"
            )

    @classmethod
    def channel_values(cls, data: Values, config: LikelihoodConfig) -> dict[str, list[float]]:
        """Resolve the smallest event size of each channel: from the settings, else from the data, else 0."""
        setting = config.smallest_event if isinstance(config, ZeroInflatedGammaConfig) else None
        if setting is not None:
            return {SMALLEST_EVENT: [setting] * data.n_channels}
        sizes = data.channel_columns.get(SMALLEST_EVENT, np.zeros(data.n_channels))
        return {SMALLEST_EVENT: [float(size) for size in sizes]}

    @classmethod
    def measure(
        cls, batch: Batch, *, bin_width: float, channel_values: ChannelValues, config: LikelihoodConfig
    ) -> ChannelStatistics:
        """Measure mean, sd and share of events of each channel."""
        return channel_statistics(batch, smallest_event=torch.tensor(channel_values[SMALLEST_EVENT]))

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__(statistics, factors, config)
        self.scales = SessionTables()
        self.units = SessionTables()
        self.smallest = SessionTables()
        for session, stats in statistics.items():
            self.scales[session, "shape"] = nn.Parameter(torch.ones(len(stats.mean)))
            self.scales[session, "size"] = nn.Parameter(torch.ones(len(stats.mean)))
            self.units[session] = _sizes(stats)[0]
            self.smallest[session] = stats.smallest_event.clone()

    def _initial_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return torch.logit(stats.nonzero_share.clamp(1e-4, 1 - 1e-4)), *initial_gamma(*_sizes(stats))

    def _scales(self, session: str) -> tuple[Tensor, ...]:
        return self.scales[session, "shape"], self.scales[session, "size"]

    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        return *self._scales(session), self.units[session], self.smallest[session]

    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        shape, size = bounded(linear[1], per_channel[0]), bounded(linear[2], per_channel[1])
        event, none = _log_probabilities(linear[0], exposure)
        above = ((values - per_channel[3]) / per_channel[2]).clamp(min=SMALLEST)
        return torch.where(values > 0, gamma_terms(above, shape, size) - event, -none)

    def _expected(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        return _probability(linear[0], exposure) * _mean_size(linear, *per_channel)

    def _variance(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        probability, mean = _probability(linear[0], exposure), _mean_size(linear, *per_channel)
        within = bounded(linear[1], per_channel[0]) * (bounded(linear[2], per_channel[1]) * per_channel[2]) ** 2
        return probability * (within + (1 - probability) * mean**2)


def _sizes(stats: ChannelStatistics) -> tuple[Tensor, Tensor]:
    """Mean and sd of event sizes above the smallest size."""
    mean = (stats.mean / stats.nonzero_share).clamp(min=LEAST_UNIT)
    variance = (stats.sd**2 + stats.mean**2) / stats.nonzero_share - mean**2
    least = LEAST_SIZE * mean
    return (mean - stats.smallest_event).maximum(least), variance.clamp(min=0).sqrt().maximum(least)


def _log_probabilities(logit: Tensor, exposure: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities of an event and of none."""
    logit = logit.clamp(-MOST_LOGIT, MOST_LOGIT)
    none = nn.functional.logsigmoid(-logit)
    if exposure is None:
        return nn.functional.logsigmoid(logit), none
    none = none * exposure
    return torch.log(-torch.expm1(none)), none


def _probability(logit: Tensor, exposure: Tensor | None) -> Tensor:
    if exposure is None:
        return torch.sigmoid(logit.clamp(-MOST_LOGIT, MOST_LOGIT))
    return -torch.expm1(_log_probabilities(logit, exposure)[1])


def _mean_size(linear: Linear, *per_channel: Tensor) -> Tensor:
    above = bounded(linear[1], per_channel[0]) * bounded(linear[2], per_channel[1])
    return above * per_channel[2] + per_channel[3]
