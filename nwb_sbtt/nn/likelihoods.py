"""Observation models: from factors to the probability of what was measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.entries import dot, gather_sum, gather_terms, spread, sum_terms

MAX_LOG_RATE = 10.0
"""Natural logarithm of the highest expected count per bin; keeps `exp` finite early in training."""

MOST_LOG_VARIANCE = 4.0
"""Variance of a log-rate beyond which nothing is known of it, and logarithm of a factor's; keeps `exp` finite."""


class Observation(nn.Module, ABC):
    """A linear read-out per session and the likelihood on top of it.

    `nll` gives one term an entry of the batch, dense or sparse; terms outside what is scored are junk.
    `expected` is of all channels: where there are a million, take `expected_at` the entries of a batch.
    """

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int):
        super().__init__()
        self.weights = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        for session, of in statistics.items():
            self.weights[session] = nn.Parameter(torch.randn(len(of.mean), factors) * 0.3 / factors**0.5)
            self.biases[session] = nn.Parameter(self._first_bias(of))

    def _linear(self, factors: Float[Tensor, "trial time factor"], session: str) -> Float[Tensor, "trial time channel"]:
        return nn.functional.linear(factors, self.weights[session], self.biases[session])

    @abstractmethod
    def _first_bias(self, of: ChannelStatistics) -> Float[Tensor, "channel"]: ...

    @abstractmethod
    def _of_channel(self, session: str) -> tuple[Tensor, ...]:
        """What `_terms` must know of each channel beside the read-out."""

    @abstractmethod
    def _terms(self, linear: Tensor, values: Tensor, exposure: Tensor | None, *of_channel: Tensor) -> Tensor:
        """Negative log-likelihood, entry by entry."""

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Negative log-likelihood of each entry, in nats."""
        linear = dot(factors, self.weights[batch.session], bias=self.biases[batch.session], batch=batch)
        of_channel = (spread(each, batch=batch) for each in self._of_channel(batch.session))
        return self._terms(linear, batch.values, batch.exposure, *of_channel)

    def total(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum of `nll` over the scored entries. Junk elsewhere has no effect, on gradients either."""
        if batch.entries is None:
            nll = self.nll(factors, batch)
            return torch.where(batch.scored, nll, torch.zeros_like(nll)).sum(dtype=dtype)
        table, bias = self.weights[batch.session], self.biases[batch.session]
        of_channel = self._of_channel(batch.session)
        total = sum_terms(self._terms, factors, table=table, bias=bias, of_channel=of_channel, batch=batch)
        return total.to(dtype)

    @abstractmethod
    def spread_total(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """Misfit of the factors' variances to the errors at the scored entries; it moves nothing but the variances."""

    @abstractmethod
    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """Posterior sd of `expected` where the factors have independent variances."""

    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Expected value of each entry of the batch, for its exposure, in the data's unit."""
        linear = dot(factors, self.weights[batch.session], bias=self.biases[batch.session], batch=batch)
        of_channel = (spread(each, batch=batch) for each in self._of_channel(batch.session))
        return self._expected(linear, batch.exposure, *of_channel)

    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
        unit: Float[Tensor, "channel"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum by `into` how far the shown entries of each bin are from what is expected of them, in units of each channel."""
        if batch.entries is None:
            residual = (batch.values - self.expected_at(factors, batch)) / unit
            return gather_sum(torch.where(batch.shown, residual, torch.zeros_like(residual)), into, batch=batch)

        def residuals(linear: Tensor, values: Tensor, exposure: Tensor | None, unit: Tensor, *rest: Tensor) -> Tensor:
            return (values - self._expected(linear, exposure, *rest)) / unit

        table, bias = self.weights[batch.session], self.biases[batch.session]
        of_channel = (unit, *self._of_channel(batch.session))
        return gather_terms(residuals, factors, table=table, bias=bias, of_channel=of_channel, into=into, batch=batch)

    @abstractmethod
    def _expected(self, linear: Tensor, exposure: Tensor | None, *of_channel: Tensor) -> Tensor:
        """Expected value, entry by entry."""

    @abstractmethod
    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected value of each entry over a whole bin, in the data's unit."""


class Poisson(Observation):
    """Counts with rate ``exp(W f + b)`` per whole bin; a bin observed in part has that share of the rate.

    A term is ``λ e − k log(λ e)`` for count k, rate λ per bin and exposure e: without the constant ``log k!``, which no
    parameter changes.
    """

    def _first_bias(self, of: ChannelStatistics) -> Float[Tensor, "channel"]:
        return of.mean.clamp(min=1e-6).log()

    def _of_channel(self, session: str) -> tuple[Tensor, ...]:
        return ()

    def _terms(self, linear: Tensor, values: Tensor, exposure: Tensor | None, *of_channel: Tensor) -> Tensor:
        log_rate = linear.clamp(max=MAX_LOG_RATE)
        if exposure is not None:
            log_rate = log_rate + exposure.log()
        return log_rate.exp() - values * log_rate

    def _expected(self, linear: Tensor, exposure: Tensor | None, *of_channel: Tensor) -> Tensor:
        rate = linear.clamp(max=MAX_LOG_RATE).exp()
        return rate if exposure is None else rate * exposure

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected count per whole bin."""
        return self._linear(factors, session).clamp(max=MAX_LOG_RATE).exp()

    def spread_total(
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
        misfit = 0.5 * total.log() + 0.5 * (batch.values - mean) ** 2 / total
        return torch.where(batch.scored, misfit, torch.zeros_like(misfit)).sum()

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """That of a lognormal rate."""
        log_variance = nn.functional.linear(variance, self.weights[session] ** 2).clamp(max=MOST_LOG_VARIANCE)
        return self.expected(factors, session) * torch.expm1(log_variance).sqrt()


class Gaussian(Observation):
    """Values around ``(W f + b) · sd`` with a learned noise sd per channel.

    A term is ``½ log 2π + log σ + (x − μ)² / 2σ²`` with x, μ and σ in units of the channel's own sd.
    """

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int):
        super().__init__(statistics, factors)
        self.log_noise = nn.ParameterDict({session: torch.zeros(len(of.mean)) for session, of in statistics.items()})
        for session, of in statistics.items():
            self.register_buffer(f"scale_{session}", of.sd.clone())

    def _first_bias(self, of: ChannelStatistics) -> Float[Tensor, "channel"]:
        return of.mean / of.sd

    def _of_channel(self, session: str) -> tuple[Tensor, ...]:
        return self.log_noise[session].clamp(min=-6.0), self.get_buffer(f"scale_{session}")

    def _terms(self, linear: Tensor, values: Tensor, exposure: Tensor | None, *of_channel: Tensor) -> Tensor:
        log_noise, scale = of_channel
        residual = values / scale - linear
        return 0.5 * math.log(2 * math.pi) + log_noise + 0.5 * (residual * (-log_noise).exp()) ** 2

    def _expected(self, linear: Tensor, exposure: Tensor | None, *of_channel: Tensor) -> Tensor:
        return linear * of_channel[1]

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected value in the data's own unit."""
        return self._linear(factors, session) * self.get_buffer(f"scale_{session}")

    def spread_total(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """``Σ ½ log s² + (x − μ)² / 2 s²``, s² the variance of the noise and of not knowing μ, in units of the channel's sd."""
        log_noise, scale = (spread(each.detach(), batch=batch) for each in self._of_channel(batch.session))
        residual = (batch.values - self.expected_at(factors.detach(), batch).detach()) / scale
        table = self.weights[batch.session].detach() ** 2
        total = (2 * log_noise).exp() + dot(variance, table, bias=table.new_zeros(len(table)), batch=batch)
        misfit = 0.5 * total.log() + 0.5 * residual**2 / total
        return torch.where(batch.scored, misfit, torch.zeros_like(misfit)).sum()

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """That of a weighted sum of the factors."""
        return nn.functional.linear(variance, self.weights[session] ** 2).sqrt() * self.get_buffer(f"scale_{session}")


LIKELIHOODS: dict[str, type[Observation]] = {"poisson": Poisson, "gaussian": Gaussian}
