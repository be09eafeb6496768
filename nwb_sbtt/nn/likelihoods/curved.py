"""What an observation model makes of a spread of the factors where the expected value is a curved function of them."""

from __future__ import annotations

from abc import abstractmethod
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LikelihoodConfig
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.entries import along_channels, dot
from nwb_sbtt.nn.likelihoods.entrywise import EntryByEntry, Linear
from nwb_sbtt.nn.sessions import SessionTables

LEAST_SHARE = 1e-4
"""Share of a channel's overall variance below which no spread is taken to lie."""


class Curved(EntryByEntry):
    """To first order: the variance of the expected value is that of its tangent at the expected factors."""

    costly = True

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__(statistics, factors, config)
        self.least_variances = SessionTables()
        for session, stats in statistics.items():
            self.least_variances[session] = LEAST_SHARE * stats.sd**2

    @abstractmethod
    def _variance(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        """Variance of an entry whose factors are known, in the data's unit squared."""

    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """``Σ ½ log s² + (x − μ)² / 2 s²``, s² the variance of the value and of not knowing its mean μ."""
        per_channel = tuple(tensor.detach() for tensor in self._spread(batch))
        linear = tuple(tensor.detach() for tensor in self._linear_at(factors.detach(), batch))
        least = along_channels(self.least_variances[batch.session], batch=batch)
        mean = self._expected(linear, batch.exposure, *per_channel)
        total = self._variance(linear, batch.exposure, *per_channel)
        slopes = self._slopes(linear, batch.exposure, per_channel)
        tables = [weights.detach() for weights, _ in self.read_outs(batch.session)]
        for (one, slope), (other, other_slope) in product(zip(tables, slopes, strict=True), repeat=2):
            shared = dot(variance, one * other, bias=one.new_zeros(len(one)), batch=batch)
            total = total + slope * other_slope * shared
        total = torch.maximum(total, least)
        loss = 0.5 * (total / least).log() + 0.5 * (batch.values - mean) ** 2 / total
        return torch.where(batch.scored, loss, torch.zeros_like(loss)).sum()

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """To first order in the spread of the factors."""
        per_channel = self._channel_tensors(session)
        slopes = self._slopes(self._linear(factors, session), None, per_channel)
        tables = [weights for weights, _ in self.read_outs(session)]
        total = torch.zeros_like(slopes[0])
        for (one, slope), (other, other_slope) in product(zip(tables, slopes, strict=True), repeat=2):
            total = total + slope * other_slope * nn.functional.linear(variance, one * other)
        return total.clamp(min=0).sqrt()

    def _slopes(self, linear: Linear, exposure: Tensor | None, per_channel: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Slopes of the expected value by each parameter."""
        with torch.enable_grad():
            leaves = tuple(tensor.detach().requires_grad_() for tensor in linear)
            expected = self._expected(leaves, exposure, *(tensor.detach() for tensor in per_channel))
            return torch.autograd.grad(expected.sum(), leaves)
