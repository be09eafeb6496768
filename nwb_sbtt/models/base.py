"""What every model must say, and how one is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.search import some_trials
from nwb_sbtt.config import LikelihoodConfig, ModelConfig
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS, ChannelValues, Likelihood, Values


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of a batch: its states at every step, and what it made of the trial as a whole.

    A model that reads the data several times also gives the factors that it guessed before each time.
    """

    states: Float[Tensor, "trial time state"]
    last: Float[Tensor, "trial state"]
    intermediate_factors: tuple[Float[Tensor, "trial time factor"], ...] = ()


@dataclass(frozen=True)
class Inference:
    """One pass through a model.

    Parameters
    ----------
    factors : Float[Tensor, "trial time factor"]
    kl : Float[Tensor, "trial"]
        KL divergence of all latents from their priors, in nats; 0 for a model without any.
    initial_condition : Float[Tensor, "trial initial"] or None
        State from which a generator is unrolled.
    inputs : Float[Tensor, "trial time input"] or None
        Inferred inputs of the generator.
    factor_variance : Float[Tensor, "trial time factor"] or None
        Of a model that says how sure it is of its factors, where others are sampled.
    intermediate_factors : tuple of Float[Tensor, "trial time factor"]
        Factors as the model guessed them on the way; they carry loss in training.
    """

    factors: Float[Tensor, "trial time factor"]
    kl: Float[Tensor, "trial"]
    initial_condition: Float[Tensor, "trial initial"] | None = None
    inputs: Float[Tensor, "trial time input"] | None = None
    factor_variance: Float[Tensor, "trial time factor"] | None = None
    intermediate_factors: tuple[Float[Tensor, "trial time factor"], ...] = ()


@dataclass(frozen=True)
class Defaults:
    """Settings of training that a model takes where they are left open.

    Parameters
    ----------
    steps : int
        Optimiser steps.
    least_batch : int
        Trials of a batch, at least.
    learning_rate, weight_decay : float
    coordinated_dropout : tuple of two floats
        Lowest and highest share of the observed entries that are hidden.
    """

    steps: int = 3000
    least_batch: int = 8
    learning_rate: float = 8e-3
    weight_decay: float = 1e-4
    coordinated_dropout: tuple[float, float] = (0.5, 0.5)


C = TypeVar("C", bound=ModelConfig)


class Model(nn.Module, ABC):
    """A sequential autoencoder: a batch in, factors out, and an observation model on top.

    With a generator a pass samples the posterior (and in training mode drops units out); without one it takes posterior
    means and is deterministic. `samples` says whether there is a posterior to sample.
    """

    Config: ClassVar[type[ModelConfig]]
    """Settings, with the name under which the model is known."""
    infers_spikes: ClassVar[bool] = False
    """Whether the model takes fluorescence and infers the spikes behind it by itself."""
    likelihood: Likelihood
    samples: bool

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Inference:
        """Infer from what is shown."""
        return self.generate(self.encode(batch, generator), generator)

    @abstractmethod
    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Read what is shown; in evaluation mode this part is the same for every posterior sample."""

    @abstractmethod
    def generate(self, encoded: Encoded, generator: torch.Generator | None = None) -> Inference:
        """Draw from the posterior, or take its mean, and unroll the generator."""

    def target(self, inference: Inference, batch: Batch) -> Batch:
        """What the observation model is to predict in training: the batch itself, but for a model of what lies behind it."""
        return batch

    def held_out_nll(
        self, inference: Inference, batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Negative log-likelihood of the scored entries, given what is inferred, and summed: what models are compared by."""
        return self.likelihood.total(inference.factors, batch, dtype=dtype)

    def estimates(self, inference: Inference, batch: Batch) -> dict[str, Float[Tensor, "trial time channel"]]:
        """What is expected of every entry in the data's unit, ``expected``, with ``expected_sd``; and what lies behind it."""
        factors, variance, session = inference.factors, inference.factor_variance, batch.session
        arrays = {"expected": self.likelihood.expected(factors, session)}
        if variance is not None:
            arrays["expected_sd"] = self.likelihood.expected_sd(factors, variance, session)
        return arrays | self.likelihood.latent_estimates(factors, variance, session)

    def kinetics(self, session: str) -> Kinetics | None:
        """How fluorescence is taken to follow spikes, where the model says so."""
        return self.likelihood.kinetics(session)

    def recurrent_weights(self) -> list[Tensor]:
        """Recurrent weights that the L2 penalty is taken on; none where a model has no state."""
        return []

    def generator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the generator and of what turns its state into factors: what ``freeze="generator"`` keeps."""
        return []

    @classmethod
    def mask_length(cls, bin_width: float) -> int:
        """Bins of a channel that are hidden together where the settings leave it open; `bin_width` is in seconds."""
        return 1

    @classmethod
    def check(cls, data: Values, likelihood: str) -> None:
        """Refuse data that the model cannot be fitted to.

        Raises
        ------
        DataError
            With what came, what is expected and what to try.
        """

    @classmethod
    def defaults(cls, amount: float) -> Defaults:
        """Settings of training that are left open, for few (0) to many (1) training trials."""
        return Defaults()

    @classmethod
    def fill(cls, config: C, amount: float) -> C:
        """Fill in what the model's own settings leave open, for few (0) to many (1) training trials."""
        return config

    @classmethod
    def measure(
        cls,
        batch: Batch,
        *,
        config: ModelConfig,
        likelihood: LikelihoodConfig,
        bin_width: float,
        channel_values: ChannelValues,
    ) -> ChannelStatistics:
        """Measure what must be known of a session's channels before training: what the likelihood asks for.

        Parameters
        ----------
        batch : Batch
            The training trials.
        bin_width : float
            Seconds.
        channel_values : mapping of name to numbers
            What the likelihood is told of each channel.
        """
        return LIKELIHOODS[likelihood.name].measure(
            batch, bin_width=bin_width, channel_values=channel_values, config=likelihood
        )

    @property
    def infers_rates(self) -> bool:
        """Whether rates are inferred from fluorescence, whose kinetics are then measured again in training."""
        return self.infers_spikes or self.likelihood.infers_rates

    def refit(self, batch: Batch, *, bin_width: float) -> ChannelStatistics | None:
        """Measure kinetics again, given what is inferred from the shown entries; None where there are none.

        Parameters
        ----------
        batch : Batch
            The training trials of a session, in part hidden.
        bin_width : float
            Seconds.
        """
        part = some_trials(batch)
        with torch.no_grad():
            factors = self(part).factors
        return self.likelihood.refit(factors, part, bin_width=bin_width)

    def set_statistics(self, session: str, statistics: ChannelStatistics) -> None:
        """Take over what `refit` has measured."""
        self.likelihood.set_statistics(session, statistics)


def between(few: float, many: float, amount: float) -> float:
    """Go evenly from the value for few trials (amount 0) to that for many (amount 1)."""
    return few + (many - few) * amount


def dropout(
    x: Float[Tensor, "*rest width"], rate: float, generator: torch.Generator | None
) -> Float[Tensor, "*rest width"]:
    """Inverted dropout with an explicit generator; nothing happens without one.

    Four units share one random number of 64 bits, so that `rate` is met to within 2⁻¹⁷: a fifth of the time that a float for
    each unit takes.
    """
    if generator is None or rate == 0:
        return x
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[: x.numel()]
    kept = bits.ge_(min(round(rate * 2**16), 2**16 - 1) - 2**15).to(x.dtype).mul_(1 / (1 - rate))
    return x * kept.view(x.shape)


def noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal draws from the generator on the device and in the type of `like`."""
    return torch.randn(shape, generator=generator, device=like.device).to(like)
