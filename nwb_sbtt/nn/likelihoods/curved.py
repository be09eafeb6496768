"""Likelihoods whose expected value is a nonlinear function of the read-outs: variances to first order."""

from __future__ import annotations

from abc import abstractmethod
from itertools import combinations_with_replacement, product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LikelihoodConfig
from nwb_sbtt.nn import dense
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods.entrywise import EntryByEntry, Linear
from nwb_sbtt.nn.sessions import SessionTables

LEAST_SHARE = 1e-4
"""Smallest predicted variance of an entry, as a share of the channel's overall variance."""


class Curved(EntryByEntry):
    """Propagate variances of the factors by the tangent of the expected value (delta method).

    With read-outs ``y_i = w_i · f + b_i`` of factors of independent variances v, and the slopes ``g_i = ∂μ/∂y_i`` of the
    expected value, ``Var(μ) = Σ_ij g_i g_j Σ_k w_ik w_jk v_k``.
    """

    costly = True

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__(statistics, factors, config)
        self.least_variances = SessionTables()
        for session, stats in statistics.items():
            self.least_variances[session] = LEAST_SHARE * stats.sd**2

    @abstractmethod
    def _variance(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        """Variance of an entry given its factors, in the data's unit squared."""

    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """Compute ``Σ ½ log s² + (x − μ)² / 2 s²``; s² is the variance of the value given its mean μ, plus that of μ."""

        def terms(
            linear: Linear, values: Tensor, exposure: Tensor | None, least: Tensor, *per_channel: Tensor
        ) -> Tensor:
            linear, covariances = linear[: self.n_parameters], linear[self.n_parameters :]
            mean = self._expected(linear, exposure, *per_channel)
            total = self._variance(linear, exposure, *per_channel)
            slopes = self._slopes(linear, exposure, per_channel)
            pairs = combinations_with_replacement(range(len(slopes)), 2)
            for (i, j), covariance in zip(pairs, covariances, strict=True):
                total = total + (2 - (i == j)) * slopes[i] * slopes[j] * covariance
            total = torch.maximum(total, least)
            return 0.5 * ((total / least).log() + (values - mean) ** 2 / total)

        per_channel = self.least_variances[batch.session], *self._channel_tensors(batch.session)
        return self._sum_with_spread(dense.Functions(terms), factors, variance, per_channel=per_channel, batch=batch)

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the posterior sd of `expected`, to first order in the sd of the factors."""
        per_channel = self._channel_tensors(session)
        slopes = self._slopes(self._linear(factors, session), None, per_channel)
        tables = [weights for weights, _ in self.read_outs(session)]
        total = torch.zeros_like(slopes[0])
        for (left, left_slope), (right, right_slope) in product(zip(tables, slopes, strict=True), repeat=2):
            total = total + left_slope * right_slope * nn.functional.linear(variance, left * right)
        return total.clamp(min=0).sqrt()

    def _slopes(self, linear: Linear, exposure: Tensor | None, per_channel: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Derivatives of the expected value by each parameter."""
        with torch.enable_grad():
            leaves = tuple(tensor.detach().requires_grad_() for tensor in linear)
            expected = self._expected(leaves, exposure, *(tensor.detach() for tensor in per_channel))
            return torch.autograd.grad(expected.sum(), leaves)
