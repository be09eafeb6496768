"""Counts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LikelihoodConfig, PoissonConfig
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.entries import dot
from nwb_sbtt.nn.likelihoods.base import MAX_LOG_RATE, MOST_LOG_VARIANCE, Values, refuse_negative
from nwb_sbtt.nn.likelihoods.entrywise import EntryByEntry, Linear


class Poisson(EntryByEntry):
    """Counts with rate ``exp(W f + b)`` per whole bin; a bin observed in part has that share of the rate.

    A term is ``λ e − k log(λ e)`` for count k, rate λ per bin and exposure e: without the constant ``log k!``, which no
    parameter changes.
    """

    Config = PoissonConfig
    n_parameters = 1
    suits = ("counts",)
    expects_counts = True

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse negative values."""
        refuse_negative(data, "counts")

    @classmethod
    def lacks(cls, scored: Float[Tensor, "entry"]) -> str:
        """A spike: without one every rate looks too high."""
        return "" if scored.any() else "spike"

    def _first_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return (stats.mean.clamp(min=1e-6).log(),)

    def _scales(self, session: str) -> tuple[Tensor, ...]:
        return ()

    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        return ()

    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        log_rate = linear[0].clamp(max=MAX_LOG_RATE)
        if exposure is not None:
            log_rate = log_rate + exposure.log()
        return log_rate.exp() - values * log_rate

    def _expected(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        rate = linear[0].clamp(max=MAX_LOG_RATE).exp()
        return rate if exposure is None else rate * exposure

    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """``Σ ½ log s² + (k − m)² / 2 s²`` with ``s² = m + m² (exp V − 1)``, expected count m and variance V of the log-rate.

        s² is the variance of a count whose rate is lognormal around m: a Poisson count's own, and that of not knowing its rate.
        The true variance makes this least on average, whatever the counts' distribution.
        """
        mean = self.expected_at(factors.detach(), batch).detach()
        table = self.weights[batch.session].detach() ** 2
        log_variance = dot(variance, table, bias=table.new_zeros(len(table)), batch=batch).clamp(max=MOST_LOG_VARIANCE)
        total = mean + mean**2 * torch.expm1(log_variance)
        loss = 0.5 * total.log() + 0.5 * (batch.values - mean) ** 2 / total
        return torch.where(batch.scored, loss, torch.zeros_like(loss)).sum()

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """That of a lognormal rate."""
        log_variance = nn.functional.linear(variance, self.weights[session] ** 2).clamp(max=MOST_LOG_VARIANCE)
        return self.expected(factors, session) * torch.expm1(log_variance).sqrt()
