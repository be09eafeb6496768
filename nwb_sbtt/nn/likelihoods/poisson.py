"""Poisson likelihood of counts."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LikelihoodConfig, PoissonConfig
from nwb_sbtt.nn import dense
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods.base import MAX_LOG_RATE, MOST_LOG_VARIANCE, Values, refuse_negative
from nwb_sbtt.nn.likelihoods.entrywise import EntryByEntry, Linear

LEAST_COUNT = 1e-8
"""Per bin, that can be expected where a count is weighed; keeps its logarithm finite."""


class Poisson(EntryByEntry):
    """Poisson distribution of counts with rate ``λ = exp(W f + b)`` per whole bin.

    A term is ``λ e − k log(λ e)`` for count k and exposure e, the share of the bin that was observed. The constant ``log k!``
    is left out.
    """

    Config = PoissonConfig
    n_parameters = 1
    suits = ("counts",)
    expects_counts = True
    draws = True

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse negative counts."""
        refuse_negative(data, "counts")

    @classmethod
    def lacks(cls, scored: Float[Tensor, "entry"]) -> str:
        """Name a spike where there is none: without spikes the lowest rate would always win."""
        return "" if scored.any() else "spike"

    def _initial_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return (stats.mean.clamp(min=1e-6).log(),)

    def draw(
        self, expected: Float[Tensor, "*entry"], batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "*entry"], Float[Tensor, "*entry"]]:
        """Draw counts; the target is the expected count, in which a term is linear."""
        return torch.poisson(expected, generator=generator), expected

    def natural(self, expected: Float[Tensor, "*rest channel"], session: str) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the expected count, and itself."""
        return expected.clamp(min=LEAST_COUNT).log(), expected

    def _scales(self, session: str) -> tuple[Tensor, ...]:
        return ()

    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        return ()

    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        return self._both(linear, values, exposure)[0]

    def _expected(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        rate = exponential(_bounded(linear[0]))
        return rate if exposure is None else rate * exposure

    def _both(self, linear: Linear, values: Tensor, exposure: Tensor | None) -> tuple[Tensor, Tensor]:
        log_rate = _bounded(linear[0])
        if exposure is not None:
            log_rate = log_rate + exposure.log()
        expected = exponential(log_rate)
        return torch.addcmul(expected, values, log_rate, value=-1), expected

    def _gradients(
        self,
        linear: Linear,
        expected: Tensor,
        residuals: Tensor,
        *,
        by_terms: Tensor | None = None,
        by_expected: Tensor | None = None,
    ) -> dense.Gradients:
        """Slopes by the log-rate: that of a term is ``λ e − k``, and that of the expected value λ e itself."""
        slope = None if by_expected is None else by_expected.mul_(expected)
        if by_terms is not None:
            slope = residuals.mul_(by_terms).neg_() if slope is None else slope.addcmul_(by_terms, residuals, value=-1)
        if slope is not None and float(linear[0].amax()) > MAX_LOG_RATE:
            slope.masked_fill_(linear[0] > MAX_LOG_RATE, 0.0)
        return (slope,)

    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """Compute ``Σ ½ log s² + (k − m)² / 2 s²`` with ``s² = m + m² (exp V − 1)``.

        m is the expected count and V the variance of the log-rate. s² is the variance of a Poisson count whose rate is
        lognormal with mean m. On average the loss is smallest at the true variance, whatever the distribution of the counts.
        """

        def terms(linear: Linear, values: Tensor, exposure: Tensor | None) -> Tensor:
            mean = self._expected(linear[:1], exposure)
            total = mean + mean * mean * torch.expm1(linear[1].clamp(max=MOST_LOG_VARIANCE))
            return 0.5 * (total.log() + (values - mean).square() / total)

        def differentiated(
            linear: Linear, values: Tensor, exposure: Tensor | None, *, by_terms: Tensor
        ) -> tuple[Tensor, dense.Gradients]:
            """With the gradient by V, ``(1 − (k − m)² / s²) m² exp V / 2 s²``; none by the log-rate is wanted."""
            mean = self._expected(linear[:1], exposure)
            share, square = values.sub(mean).square_(), mean.square()
            added = torch.expm1(_bounded(linear[1], MOST_LOG_VARIANCE)).mul_(square)
            total, slope = mean.add_(added), square.add_(added)
            share.div_(total)
            slope.div_(total).mul_(by_terms).mul_(0.5)
            slope.addcmul_(slope, share, value=-1)
            if float(linear[1].amax()) > MOST_LOG_VARIANCE:
                slope.masked_fill_(linear[1] > MOST_LOG_VARIANCE, 0.0)
            return total.log_().add_(share).mul_(0.5), (None, slope)

        functions = dense.Functions(terms, differentiated=differentiated)
        return self._sum_with_spread(functions, factors, variance, per_channel=(), batch=batch)

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the posterior sd of `expected`, that of a lognormal rate."""
        log_variance = nn.functional.linear(variance, self.weights[session] ** 2).clamp(max=MOST_LOG_VARIANCE)
        return self.expected(factors, session) * torch.expm1(log_variance).sqrt()


def exponential(x: Tensor) -> Tensor:
    """Compute the exponential; on a CPU, where nothing is to be differentiated, as a power of two, in half the time.

    Parameters
    ----------
    x : Tensor

    Returns
    -------
    Tensor
    """
    return (x * math.log2(math.e)).exp2_() if x.is_cpu and not x.requires_grad else x.exp()


def _bounded(x: Tensor, most: float = MAX_LOG_RATE) -> Tensor:
    """Numbers up to a largest one; where none is larger, one look spares three passes. A GPU would wait for the answer."""
    if x.is_cpu and x.numel() and float(x.detach().amax()) <= most:
        return x
    return x.clamp(max=most)
