"""Observation models: from factors to the probability of what was measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.entries import dot, spread

MAX_LOG_RATE = 10.0
"""Natural logarithm of the highest expected count per bin; keeps `exp` finite early in training."""


class Observation(nn.Module, ABC):
    """A linear read-out per session and the likelihood on top of it.

    `nll` gives one term an entry of the batch, dense or sparse; terms outside what is scored are junk to be masked by the
    caller. `expected` is of all channels: where there are a million, read factors out for a few trials or channels at a time.
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

    def _linear_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        return dot(factors, self.weights[batch.session], bias=self.biases[batch.session], batch=batch)

    @abstractmethod
    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Negative log-likelihood of each entry, in nats."""

    @abstractmethod
    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected value of each entry over a whole bin, in the data's unit."""


class Poisson(Observation):
    """Counts with rate ``exp(W f + b)`` per whole bin; a bin observed in part has that share of the rate.

    `nll` leaves out the constant ``log k!``, which no parameter changes.
    """

    def _first_bias(self, of: ChannelStatistics) -> Float[Tensor, "channel"]:
        return of.mean.clamp(min=1e-6).log()

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """``λ e − k log(λ e)`` for count k, rate λ per bin and exposure e."""
        log_rate = self._linear_at(factors, batch).clamp(max=MAX_LOG_RATE)
        if batch.exposure is not None:
            log_rate = log_rate + batch.exposure.log()
        return log_rate.exp() - batch.values * log_rate

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected count per whole bin."""
        return self._linear(factors, session).clamp(max=MAX_LOG_RATE).exp()


class Gaussian(Observation):
    """Values around ``(W f + b) · sd`` with a learned noise sd per channel."""

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int):
        super().__init__(statistics, factors)
        self.log_noise = nn.ParameterDict({session: torch.zeros(len(of.mean)) for session, of in statistics.items()})
        for session, of in statistics.items():
            self.register_buffer(f"scale_{session}", of.sd.clone())

    def _first_bias(self, of: ChannelStatistics) -> Float[Tensor, "channel"]:
        return of.mean / of.sd

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """``½ log 2π + log σ + (x − μ)² / 2σ²`` with x, μ and σ in units of the channel's own sd."""
        log_noise: Tensor = self.log_noise[batch.session].clamp(min=-6.0)
        scaled = batch.values / batch.along_channels(self.get_buffer(f"scale_{batch.session}"))
        residual = (scaled - self._linear_at(factors, batch)) * spread((-log_noise).exp(), batch=batch)
        return 0.5 * math.log(2 * math.pi) + spread(log_noise, batch=batch) + 0.5 * residual**2

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected value in the data's own unit."""
        return self._linear(factors, session) * self.get_buffer(f"scale_{session}")


LIKELIHOODS: dict[str, type[Observation]] = {"poisson": Poisson, "gaussian": Gaussian}
