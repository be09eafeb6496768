"""The base class of likelihoods (observation models); `docs/adding_a_model.md` shows how to add one."""

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
"""Largest variance of a log-rate, and largest log-variance of a factor; keeps `exp` finite."""
MAX_LOG_RATE = 10.0
"""Natural logarithm of the highest expected count per bin; keeps `exp` finite early in training."""


@dataclass(frozen=True)
class Values:
    """Data that model and likelihood check before a fit: arrays without labels.

    Parameters
    ----------
    values : array (trial, time, channel)
    observed : bool array (trial, time, channel)
    kind : {"counts", "events", "signals"}
        What an entry is: spikes per bin, the size of an event, or anything else.
    signal : str
        Type of signal, such as "fluorescence" or "dF/F"; empty where the data do not name it.
    channel_columns : mapping of name to array (channel)
        Numeric columns of the channels.
    training : bool array (trial), optional
        Trials that are for training; None means all.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    kind: Literal["counts", "events", "signals"]
    signal: str = ""
    channel_columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    training: NDArray[np.bool_] | None = None

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.values.shape[2])


ChannelValues = Mapping[str, tuple[float, ...]]
"""Parameters of a likelihood that follow from the data or the settings, one number per channel, by name."""


def refuse_negative(data: Values, name: str) -> None:
    """Refuse negative values.

    Parameters
    ----------
    data : Values
    name : str
        What the values are, for the message.

    Raises
    ------
    DataError
        If there are negative values, with their number.
    """
    if negative := int((data.values < 0).sum()):
        raise DataError(
            f"{negative} of {int(data.observed.sum())} values are negative, which {name} cannot be; for signals use "
            "likelihood='gaussian' (--likelihood gaussian)"
        )


class Likelihood(nn.Module, ABC):
    """Linear read-outs of each session, and the likelihood of values given these.

    `n_parameters` is the number of parameters of an entry that are read out of the factors; the weights of the first are
    `weights`, those of any others `further_weights`. Subclasses are `EntryByEntry`, or couple the bins of a trial (`Moments`).

    `nll` has one term per entry of the batch, dense or sparse; terms of entries that are not scored are arbitrary.
    `expected` is computed for all channels; with a million channels use `expected_at`, for the entries of a batch.

    Parameters
    ----------
    statistics : dict of session to ChannelStatistics
        From which the biases are initialised.
    factors : int
        Number of factors.
    config : LikelihoodConfig, optional
    """

    Config: ClassVar[type[LikelihoodConfig]]
    """Class of the settings; the default of its field ``name`` is the likelihood's name."""
    n_parameters: ClassVar[int]
    suits: ClassVar[tuple[str, ...]] = ()
    """Kinds of data (`Values.kind`) for which "auto" chooses this likelihood."""
    expects_counts: ClassVar[bool] = False
    """Whether expected values are counts, which divided by the bin width are rates."""
    infers_rates: ClassVar[bool] = False
    """Whether rates are inferred from fluorescence; its kinetics are then measured, and refitted in training."""
    draws: ClassVar[bool] = False
    """Whether values can be drawn (`draw`) and expectations of them be weighed (`natural`), as systems need it."""

    @classmethod
    def mask_length(cls, data: Values, *, bin_width: float) -> int:
        """Return the default number of bins of a channel that are hidden together.

        Parameters
        ----------
        data : Values
            A prepared session; what is measured is measured on its training trials.
        bin_width : float
            Seconds.

        Returns
        -------
        int
            Bins.
        """
        return 1

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse values that are impossible under the likelihood.

        Parameters
        ----------
        data : Values
            A prepared session.
        config : LikelihoodConfig

        Raises
        ------
        DataError
            If there are any; the message says what is expected and what to try.
        """

    @classmethod
    def lacks(cls, scored: Float[Tensor, "entry"]) -> str:
        """Name what scored entries lack to compare models on them.

        Parameters
        ----------
        scored : Float[Tensor, "entry"]
            Values of the scored entries.

        Returns
        -------
        str
            Such as "spike"; empty where nothing is missing.
        """
        return ""

    @classmethod
    def channel_values(cls, data: Values, config: LikelihoodConfig) -> dict[str, list[float]]:
        """Resolve parameters of each channel from settings and data; they are part of the signature of a fit.

        Parameters
        ----------
        data : Values
        config : LikelihoodConfig

        Returns
        -------
        dict of name to list of float
            One number per channel.
        """
        return {}

    @classmethod
    def measure(
        cls, batch: Batch, *, bin_width: float, channel_values: ChannelValues, config: LikelihoodConfig
    ) -> ChannelStatistics:
        """Measure the statistics of the channels that initialise the likelihood.

        Parameters
        ----------
        batch : Batch
            The training trials of a session.
        bin_width : float
            Seconds.
        channel_values : mapping of name to numbers
            As returned by `channel_values`.
        config : LikelihoodConfig

        Returns
        -------
        ChannelStatistics
        """
        return channel_statistics(batch)

    def refit(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, bin_width: float
    ) -> ChannelStatistics | None:
        """Refit the kinetics of fluorescence, given the rates of these factors.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        batch : Batch
            The same trials.
        bin_width : float
            Seconds.

        Returns
        -------
        ChannelStatistics or None
            None for a likelihood that does not infer rates from fluorescence.
        """
        return None

    def set_statistics(self, session: str, statistics: ChannelStatistics) -> None:
        """Set the statistics of a session to those that `refit` has measured.

        Parameters
        ----------
        session : str
        statistics : ChannelStatistics
        """

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__()
        self.config = config or self.Config()
        self.weights = SessionTables()
        self.biases = SessionTables()
        self.further_weights = nn.ModuleList(SessionTables() for _ in range(1, self.n_parameters))
        self.further_biases = nn.ModuleList(SessionTables() for _ in range(1, self.n_parameters))
        weights, biases = [self.weights, *self.further_weights], [self.biases, *self.further_biases]
        for session, stats in statistics.items():
            for weight, bias, initial in zip(weights, biases, self._initial_biases(stats), strict=True):
                weight[session] = nn.Parameter(torch.randn(len(stats.mean), factors) * 0.3 / factors**0.5)
                bias[session] = nn.Parameter(initial)

    def read_outs(self, session: str) -> tuple[ReadOut, ...]:
        """Return the read-outs of a session.

        Parameters
        ----------
        session : str

        Returns
        -------
        tuple of (weights, biases)
            For each of the `n_parameters` parameters, of shapes (channel, factor) and (channel).
        """
        weights, biases = [self.weights, *self.further_weights], [self.biases, *self.further_biases]
        return tuple((w[session], b[session]) for w, b in zip(weights, biases, strict=True))

    def draw(
        self, expected: Float[Tensor, "*entry"], batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "*entry"], Float[Tensor, "*entry"]]:
        """Draw values of the entries of a batch, and give what a model that should infer what is expected is trained on.

        Parameters
        ----------
        expected : Float[Tensor, "*entry"]
            Of each entry, for its exposure (`expected_at`).
        batch : Batch
            Its values and masks are not used.
        generator : torch.Generator

        Returns
        -------
        values, target : Float[Tensor, "*entry"]
            In the data's unit, of all entries, observed or not. The target has the same expectation; where the expected value
            itself gives the terms of the likelihood theirs, it has no noise.

        Raises
        ------
        NotImplementedError
            If `draws` is false.
        """
        raise NotImplementedError(f"{type(self).__name__} does not draw values")

    def natural(self, expected: Float[Tensor, "*rest channel"], session: str) -> tuple[Tensor, Tensor]:
        """Give what of the log-likelihood of a value depends on what is expected of it, as two factors of products.

        The log-likelihood of x, observed for the share e of its bin, is ``(x − r) · slope − e · cost``, and a term of x alone,
        with r the `reference` of the channel. So many expectations are weighed for many trials by two products of matrices.

        Parameters
        ----------
        expected : Float[Tensor, "*rest channel"]
            As returned by `expected`, over a whole bin.
        session : str

        Returns
        -------
        slope, cost : Float[Tensor, "*rest channel"]
            Per unit of the data, and in nats.

        Raises
        ------
        NotImplementedError
            If `draws` is false.
        """
        raise NotImplementedError(f"{type(self).__name__} does not weigh expectations")

    def reference(self, session: str) -> Float[Tensor, "channel"]:
        """Return numbers near the values of each channel, from which these are counted where digits would be lost.

        Parameters
        ----------
        session : str

        Returns
        -------
        Float[Tensor, "channel"]
            In the data's unit; 0 for counts.
        """
        return torch.zeros_like(self.biases[session])

    @abstractmethod
    def _initial_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]: ...

    @abstractmethod
    def prior(self, session: str) -> Float[Tensor, ""]:
        """Compute the penalty of the trained scales of the channels.

        Parameters
        ----------
        session : str

        Returns
        -------
        Float[Tensor, ""]
            Nats, added to the mean negative log-likelihood of the scored entries.
        """

    @abstractmethod
    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the negative log-likelihood of each entry.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        batch : Batch

        Returns
        -------
        Float[Tensor, "*entry"]
            Nats, laid out as `batch.values`.
        """

    def total(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum `nll` over the scored entries; values elsewhere change neither the sum nor its gradient.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        batch : Batch
        dtype : torch.dtype
            Of the sum.

        Returns
        -------
        Float[Tensor, ""]
            Nats.
        """
        nll = self.nll(factors, batch)
        return torch.where(batch.scored, nll, torch.zeros_like(nll)).sum(dtype=dtype)

    @abstractmethod
    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """Compute the loss of the predicted variance at the scored entries; its gradient reaches `variance` only.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        variance : Float[Tensor, "trial time factor"]
            Posterior variance of each factor, taken as independent.
        batch : Batch

        Returns
        -------
        Float[Tensor, ""]
            Sum over the scored entries.
        """

    @abstractmethod
    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the expected value of every entry over a whole bin.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        session : str

        Returns
        -------
        Float[Tensor, "trial time channel"]
            In the data's unit.
        """

    @abstractmethod
    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the posterior sd of `expected`.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        variance : Float[Tensor, "trial time factor"]
            Posterior variance of each factor, taken as independent.
        session : str

        Returns
        -------
        Float[Tensor, "trial time channel"]
            In the data's unit.
        """

    @abstractmethod
    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the expected value of each entry of a batch, for its exposure.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        batch : Batch

        Returns
        -------
        Float[Tensor, "*entry"]
            In the data's unit, laid out as `batch.values`.
        """

    @abstractmethod
    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum the residuals of the shown entries, data minus expected value, weighted by `into`.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        batch : Batch
        into : Float[Tensor, "channel width"]
            Weights of each channel.

        Returns
        -------
        Float[Tensor, "trial time width"]
        """

    def compare(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> tuple[Float[Tensor, "trial time width"], Float[Tensor, ""]]:
        """Compare a prediction with the shown and with the scored entries.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        batch : Batch
        into : Float[Tensor, "channel width"]
            Weights of each channel.

        Returns
        -------
        residuals : Float[Tensor, "trial time width"]
            `sum_residuals`.
        total : Float[Tensor, ""]
            `total`.
        """
        return self.sum_residuals(factors, batch, into=into), self.total(factors, batch)

    @abstractmethod
    def latent_estimates(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> dict[str, Float[Tensor, "trial time channel"]]:
        """Compute further estimates, such as the rates that fluorescence follows from.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        variance : Float[Tensor, "trial time factor"] or None
            Posterior variance of each factor, where the model predicts it.
        session : str

        Returns
        -------
        dict of name to Float[Tensor, "trial time channel"]
            Per bin, by the names of a latents Dataset.
        """

    @abstractmethod
    def kinetics(self, session: str) -> Kinetics | None:
        """Return the calcium kinetics of a session's channels.

        Parameters
        ----------
        session : str

        Returns
        -------
        Kinetics or None
            None where rates are not inferred from fluorescence.
        """
