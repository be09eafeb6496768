"""Sizes of deconvolved calcium events: most of them zero, the others positive."""

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
from nwb_sbtt.nn.likelihoods.gamma import LEAST_UNIT, SMALLEST, bounded, first_gamma, gamma_terms
from nwb_sbtt.nn.sessions import SessionTables

SMALLEST_EVENT = "smallest_event"
"""Column of the channels, and setting, with the size that every event exceeds."""
MOST_LOGIT = 15.0
"""Logit beyond which an event is as good as certain, or impossible."""
LEAST_SIZE = 0.1
"""Least mean size of events above the smallest one, and least sd of it, as shares of their mean size."""


class ZeroInflatedGamma(Curved):
    """An event with probability q; its size is the smallest possible one and gamma-distributed above that.

    RADICaL's model (Zhu et al. 2022), with q by its logit. For event size x and smallest size s of the channel,

    * ``x = 0``: ``log(1 − q)``
    * ``x > s``: ``log q − log Γ(α) − α log θ + (α − 1) log(x − s) − (x − s) / θ``

    with ``α = a · σ(W f + b)`` and ``θ = t · σ(V f + c)``, where the bounds a and t of each channel are trained and have a
    prior at 20; sizes are in units of each channel's mean event above s. A bin that was observed for a share e of its time
    holds no event with probability ``(1 − q)^e``. A size within ``(0, s]`` is impossible; `prepare` refuses it.
    """

    Config = ZeroInflatedGammaConfig
    n_parameters = 3
    suits = ("events",)

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse negative values, and events that are not larger than the smallest one."""
        refuse_negative(data, "sizes of events")
        smallest = np.asarray(cls.channel_values(data, config)[SMALLEST_EVENT], dtype=np.float32)
        small = (data.values > 0) & (data.values <= smallest)
        if small.any():
            raise DataError(
                f"{int(small.sum())} events of {int(data.observed.sum())} values lie above 0 but not above the smallest event "
                f"size, the least of them {data.values[small].min():g}; set smallest_event below it "
                "(--likelihood zig --set likelihood.smallest_event=0), or remove such events"
            )

    @classmethod
    def channel_values(cls, data: Values, config: LikelihoodConfig) -> dict[str, list[float]]:
        """Size that the events of each channel exceed: what the settings say, what the data carry, or 0."""
        chosen = config.smallest_event if isinstance(config, ZeroInflatedGammaConfig) else None
        if chosen is not None:
            return {SMALLEST_EVENT: [chosen] * data.n_channels}
        carried = data.channel_columns.get(SMALLEST_EVENT, np.zeros(data.n_channels))
        return {SMALLEST_EVENT: [float(size) for size in carried]}

    @classmethod
    def measure(
        cls, batch: Batch, *, bin_width: float, channel_values: ChannelValues, config: LikelihoodConfig
    ) -> ChannelStatistics:
        """Measure mean, sd and share of events; the smallest size is told."""
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

    def _first_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return torch.logit(stats.nonzero_share.clamp(1e-4, 1 - 1e-4)), *first_gamma(*_sizes(stats))

    def _scales(self, session: str) -> tuple[Tensor, ...]:
        return self.scales[session, "shape"], self.scales[session, "size"]

    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        return *self._scales(session), self.units[session], self.smallest[session]

    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        shape, size = bounded(linear[1], per_channel[0]), bounded(linear[2], per_channel[1])
        event, none = _log_chances(linear[0], exposure)
        above = ((values - per_channel[3]) / per_channel[2]).clamp(min=SMALLEST)
        return torch.where(values > 0, gamma_terms(above, shape, size) - event, -none)

    def _expected(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        return _chance(linear[0], exposure) * _mean_size(linear, *per_channel)

    def _variance(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        chance, mean = _chance(linear[0], exposure), _mean_size(linear, *per_channel)
        within = bounded(linear[1], per_channel[0]) * (bounded(linear[2], per_channel[1]) * per_channel[2]) ** 2
        return chance * (within + (1 - chance) * mean**2)


def _sizes(stats: ChannelStatistics) -> tuple[Tensor, Tensor]:
    """Mean and sd of the sizes of events, above the smallest one."""
    mean = (stats.mean / stats.nonzero_share).clamp(min=LEAST_UNIT)
    variance = (stats.sd**2 + stats.mean**2) / stats.nonzero_share - mean**2
    least = LEAST_SIZE * mean
    return (mean - stats.smallest_event).maximum(least), variance.clamp(min=0).sqrt().maximum(least)


def _log_chances(logit: Tensor, exposure: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logarithms of the chances of an event and of none."""
    logit = logit.clamp(-MOST_LOGIT, MOST_LOGIT)
    none = nn.functional.logsigmoid(-logit)
    if exposure is None:
        return nn.functional.logsigmoid(logit), none
    none = none * exposure
    return torch.log(-torch.expm1(none)), none


def _chance(logit: Tensor, exposure: Tensor | None) -> Tensor:
    if exposure is None:
        return torch.sigmoid(logit.clamp(-MOST_LOGIT, MOST_LOGIT))
    return -torch.expm1(_log_chances(logit, exposure)[1])


def _mean_size(linear: Linear, *per_channel: Tensor) -> Tensor:
    above = bounded(linear[1], per_channel[0]) * bounded(linear[2], per_channel[1])
    return above * per_channel[2] + per_channel[3]
