"""What every observation model must say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.entries import ReadOut

MOST_LOG_VARIANCE = 4.0
"""Variance of a log-rate beyond which nothing is known of it, and logarithm of a factor's; keeps `exp` finite."""
MAX_LOG_RATE = 10.0
"""Natural logarithm of the highest expected count per bin; keeps `exp` finite early in training."""


class Observation(nn.Module, ABC):
    """Linear read-outs per session, and the likelihood on top of them.

    A likelihood says in `n_parameters` how many numbers of each entry it reads out of the factors; the weights of the first are
    `weights`, those of any others `further_weights`. It is either one of `EntryByEntry`, or couples the bins of a trial
    (`Moments`).

    `nll` gives one term an entry of the batch, dense or sparse; terms outside what is scored are junk.
    `expected` is of all channels: where there are a million, take `expected_at` the entries of a batch.
    """

    n_parameters: ClassVar[int]

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int):
        super().__init__()
        self.weights = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        self.further_weights = nn.ModuleList(nn.ParameterDict() for _ in range(1, self.n_parameters))
        self.further_biases = nn.ModuleList(nn.ParameterDict() for _ in range(1, self.n_parameters))
        weights, biases = [self.weights, *self.further_weights], [self.biases, *self.further_biases]
        for session, of in statistics.items():
            for of_parameter, offset, first in zip(weights, biases, self._first_biases(of), strict=True):
                of_parameter[session] = nn.Parameter(torch.randn(len(of.mean), factors) * 0.3 / factors**0.5)
                offset[session] = nn.Parameter(first)

    def read_outs(self, session: str) -> tuple[ReadOut, ...]:
        """Weights (channel, factor) and biases (channel) of each parameter."""
        weights, biases = [self.weights, *self.further_weights], [self.biases, *self.further_biases]
        return tuple((w[session], b[session]) for w, b in zip(weights, biases, strict=True))

    @abstractmethod
    def _first_biases(self, of: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]: ...

    @abstractmethod
    def prior(self, session: str) -> Float[Tensor, ""]:
        """Penalty of the scales of the channels, to be added to the mean term of an entry."""

    @abstractmethod
    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Negative log-likelihood of each entry, in nats."""

    def total(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum of `nll` over the scored entries. Junk elsewhere has no effect, on gradients either."""
        nll = self.nll(factors, batch)
        return torch.where(batch.scored, nll, torch.zeros_like(nll)).sum(dtype=dtype)

    @abstractmethod
    def spread_total(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """Misfit of the factors' variances to the errors at the scored entries; it moves nothing but the variances."""

    @abstractmethod
    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected value of each entry over a whole bin, in the data's unit."""

    @abstractmethod
    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """Posterior sd of `expected` where the factors have independent variances."""

    @abstractmethod
    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Expected value of each entry of the batch, for its exposure, in the data's unit."""

    @abstractmethod
    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum by `into` how far the shown entries of each bin are from what is expected of them."""

    @abstractmethod
    def behind(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> dict[str, Float[Tensor, "trial time channel"]]:
        """What lies behind the expected values, by its name in a latents Dataset, per bin."""

    @abstractmethod
    def kinetics(self, session: str) -> Kinetics | None:
        """How fluorescence is taken to follow spikes, where that is what the values are."""
