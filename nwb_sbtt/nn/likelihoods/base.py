"""What every likelihood (observation model) must say; `docs/adding_a_model.md` goes through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.config import LikelihoodConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.nn.channels import ChannelStatistics, channel_statistics
from nwb_sbtt.nn.entries import ReadOut
from nwb_sbtt.nn.sessions import SessionTables

MOST_LOG_VARIANCE = 4.0
"""Variance of a log-rate beyond which nothing is known of it, and logarithm of a factor's; keeps `exp` finite."""
MAX_LOG_RATE = 10.0
"""Natural logarithm of the highest expected count per bin; keeps `exp` finite early in training."""


@dataclass(frozen=True)
class Values:
    """Data that a model and a likelihood are asked about before a fit.

    Parameters
    ----------
    values : array (trial, time, channel)
    observed : bool array (trial, time, channel)
    kind : {"counts", "events", "signals"}
        What an entry is: spikes per bin, the size of an event, or anything else.
    signal : str
        What a signal is, such as "fluorescence" or "dF/F"; empty where the data do not say.
    channel_columns : mapping of name to array (channel)
        Numbers that the data have of each channel.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    kind: Literal["counts", "events", "signals"]
    signal: str = ""
    channel_columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.values.shape[2])


ChannelValues = Mapping[str, tuple[float, ...]]
"""What a likelihood is told of each channel, by name."""


def refuse_negative(data: Values, name: str) -> None:
    """Refuse negative values of what cannot be negative.

    Raises
    ------
    DataError
        With how many there are.
    """
    if negative := int((data.values < 0).sum()):
        raise DataError(
            f"{negative} of {int(data.observed.sum())} values are negative, which {name} cannot be; choose "
            "likelihood='gaussian' (--set likelihood=gaussian) for signals"
        )


class Likelihood(nn.Module, ABC):
    """Linear read-outs per session, and the likelihood on top of them.

    A likelihood says in `n_parameters` how many numbers of each entry it reads out of the factors; the weights of the first are
    `weights`, those of any others `further_weights`. It is either one of `EntryByEntry`, or couples the bins of a trial
    (`Moments`).

    `nll` gives one term an entry of the batch, dense or sparse; terms outside what is scored are junk.
    `expected` is of all channels: where there are a million, take `expected_at` the entries of a batch.
    """

    Config: ClassVar[type[LikelihoodConfig]]
    """Settings, with the name under which the likelihood is known."""
    n_parameters: ClassVar[int]
    suits: ClassVar[tuple[str, ...]] = ()
    """Kinds of data (`Values.kind`) that get this likelihood where the settings leave it open."""
    expects_counts: ClassVar[bool] = False
    """Whether what is expected of an entry is a count, so that per second it is a rate."""
    infers_rates: ClassVar[bool] = False
    """Whether spikes' rates are inferred from fluorescence, whose kinetics are then measured, and again in training."""

    @classmethod
    def mask_length(cls, bin_width: float) -> int:
        """Bins of a channel that are hidden together, where the settings leave it open; `bin_width` is in seconds."""
        return 1

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse values that are impossible under the likelihood, and would make it infinite.

        Raises
        ------
        DataError
            With what came, what is expected and what to try.
        """

    @classmethod
    def lacks(cls, scored: Float[Tensor, "entry"]) -> str:
        """Name what scored entries must hold, but do not, to compare models on them; empty where nothing is missing."""
        return ""

    @classmethod
    def channel_values(cls, data: Values, config: LikelihoodConfig) -> dict[str, list[float]]:
        """Give what the likelihood must be told of each channel, from settings and data; a fit is known by it too."""
        return {}

    @classmethod
    def measure(
        cls, batch: Batch, *, bin_width: float, channel_values: ChannelValues, config: LikelihoodConfig
    ) -> ChannelStatistics:
        """Measure what must be known of the channels before training.

        Parameters
        ----------
        batch : Batch
            The training trials of a session.
        bin_width : float
            Seconds.
        channel_values : mapping of name to numbers
            As `channel_values` gives them.
        config : LikelihoodConfig
        """
        return channel_statistics(batch)

    def refit(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, bin_width: float
    ) -> ChannelStatistics | None:
        """Measure kinetics again, given the rates of these factors; None where no rates are found in fluorescence."""
        return None

    def set_statistics(self, session: str, statistics: ChannelStatistics) -> None:
        """Take over what `refit` has measured."""

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__()
        self.config = config or self.Config()
        self.weights = SessionTables()
        self.biases = SessionTables()
        self.further_weights = nn.ModuleList(SessionTables() for _ in range(1, self.n_parameters))
        self.further_biases = nn.ModuleList(SessionTables() for _ in range(1, self.n_parameters))
        weights, biases = [self.weights, *self.further_weights], [self.biases, *self.further_biases]
        for session, stats in statistics.items():
            for of_parameter, offset, first in zip(weights, biases, self._first_biases(stats), strict=True):
                of_parameter[session] = nn.Parameter(torch.randn(len(stats.mean), factors) * 0.3 / factors**0.5)
                offset[session] = nn.Parameter(first)

    def read_outs(self, session: str) -> tuple[ReadOut, ...]:
        """Weights (channel, factor) and biases (channel) of each parameter."""
        weights, biases = [self.weights, *self.further_weights], [self.biases, *self.further_biases]
        return tuple((w[session], b[session]) for w, b in zip(weights, biases, strict=True))

    @abstractmethod
    def _first_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]: ...

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
    def variance_loss(
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
    def latent_estimates(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> dict[str, Float[Tensor, "trial time channel"]]:
        """What lies behind the expected values, by its name in a latents Dataset, per bin."""

    @abstractmethod
    def kinetics(self, session: str) -> Kinetics | None:
        """How fluorescence is taken to follow spikes, where that is what the values are."""
