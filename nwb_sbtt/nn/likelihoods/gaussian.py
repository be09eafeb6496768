"""Gaussian likelihood of signals."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import GaussianConfig, LikelihoodConfig
from nwb_sbtt.nn import dense
from nwb_sbtt.nn.autocorrelation import decay_of_own_part
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods.base import Values
from nwb_sbtt.nn.likelihoods.entrywise import EntryByEntry, Linear
from nwb_sbtt.nn.sessions import SessionTables


class Gaussian(EntryByEntry):
    """Normal distribution with mean ``(W f + b) · sd`` and a learned noise sd per channel.

    A term is ``½ log 2π + log σ + (x − μ)² / 2σ²`` with x, μ and σ in units of the channel's own sd.
    """

    Config = GaussianConfig
    n_parameters = 1
    suits = ("signals",)
    draws = True

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__(statistics, factors, config)
        self.log_noise = SessionTables()
        self.scales = SessionTables()
        for session, stats in statistics.items():
            self.log_noise[session] = nn.Parameter(torch.zeros(len(stats.mean)))
            self.scales[session] = stats.sd.clone()

    @classmethod
    def mask_length(cls, data: Values, *, bin_width: float) -> int:
        """Return the bins after which what channels do not share has decayed; see `nwb_sbtt.nn.autocorrelation`."""
        training = slice(None) if data.training is None else data.training
        return decay_of_own_part(data.values[training], data.observed[training])

    def _initial_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return (stats.mean / stats.sd,)

    def noise_sd(self, session: str) -> Float[Tensor, "channel"]:
        """Return the sd of the noise, in the data's unit.

        Parameters
        ----------
        session : str
        """
        log_noise, scale = self._channel_tensors(session)
        return log_noise.exp() * scale

    def draw(
        self, expected: Float[Tensor, "*entry"], batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "*entry"], Float[Tensor, "*entry"]]:
        """Draw signals with their noise; they are the target too, since without noise its sd could not be learned."""
        drawn = torch.randn(expected.shape, generator=generator, device=expected.device).to(expected)
        values = torch.addcmul(expected, drawn, batch.along_channels(self.noise_sd(batch.session)))
        return values, values

    def natural(self, expected: Float[Tensor, "*rest channel"], session: str) -> tuple[Tensor, Tensor]:
        """Return ``(μ − r) / σ²`` and ``(μ − r)² / 2 σ²``."""
        away = expected - self.reference(session)
        slope = away / self.noise_sd(session) ** 2
        return slope, 0.5 * away * slope

    def reference(self, session: str) -> Float[Tensor, "channel"]:
        """Return the mean of each channel where all factors are 0."""
        return self.biases[session].detach() * self.scales[session]

    def _scales(self, session: str) -> tuple[Tensor, ...]:
        return ()

    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        return self.log_noise[session].clamp(min=-6.0), self.scales[session]

    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        log_noise, scale = per_channel
        residual = values / scale - linear[0]
        return 0.5 * math.log(2 * math.pi) + log_noise + 0.5 * (residual * (-log_noise).exp()) ** 2

    def _expected(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        return linear[0] * per_channel[1]

    def _gradients(
        self,
        linear: Linear,
        expected: Tensor,
        residuals: Tensor,
        log_noise: Tensor,
        scale: Tensor,
        *,
        by_terms: Tensor | None = None,
        by_expected: Tensor | None = None,
    ) -> dense.Gradients:
        """Slopes of a term by μ, ``−(x − μ) / σ²``, and by log σ, ``1 − (x − μ)² / σ²``, in units of the channel's sd."""
        slope = None if by_expected is None else by_expected.mul_(scale)
        if by_terms is None:
            return slope, None, None
        precision = (-2 * log_noise).exp()
        weighted = residuals * by_terms
        by_log_noise = by_terms.sum(0) - (residuals.mul_(weighted).sum(0) / scale**2) * precision
        weighted.mul_(precision / scale)
        return weighted.neg_() if slope is None else slope.sub_(weighted), by_log_noise, None

    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """Compute ``Σ ½ log s² + (x − μ)² / 2 s²`` in units of the channel's sd; s² is the noise variance plus that of μ."""

        def parts(
            linear: Linear, values: Tensor, exposure: Tensor | None, log_noise: Tensor, scale: Tensor
        ) -> tuple[Tensor, Tensor]:
            total = (2 * log_noise).exp() + linear[1]
            return total, (values / scale - linear[0]).square() / total

        def terms(linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
            total, share = parts(linear, values, exposure, *per_channel)
            return 0.5 * (total.log() + share)

        def differentiated(
            linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor, by_terms: Tensor
        ) -> tuple[Tensor, dense.Gradients]:
            """With the gradient by the variance of the mean, ``(1 − (x − μ)² / s²) / 2 s²``; no other is wanted."""
            total, share = parts(linear, values, exposure, *per_channel)
            slope = by_terms.div(total).mul_(0.5)
            slope.addcmul_(slope, share, value=-1)
            return total.log_().add_(share).mul_(0.5), (None, slope, None, None)

        functions = dense.Functions(terms, differentiated=differentiated)
        per_channel = self._channel_tensors(batch.session)
        return self._sum_with_spread(functions, factors, variance, per_channel=per_channel, batch=batch)

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the posterior sd of `expected`, a weighted sum of the factors, in the data's unit."""
        return nn.functional.linear(variance, self.weights[session] ** 2).sqrt() * self.scales[session]
