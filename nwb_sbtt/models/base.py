"""The base class of models, and what a pass through one returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch, precise_dtype
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.search import some_trials
from nwb_sbtt.config import LikelihoodConfig, ModelConfig
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS, ChannelValues, Likelihood, Values


@dataclass(frozen=True)
class Encoded:
    """Output of an encoder.

    Parameters
    ----------
    states : Float[Tensor, "trial time state"]
        State in every bin.
    last : Float[Tensor, "trial state"]
        Summary of the whole trial.
    intermediate_factors : tuple of Float[Tensor, "trial time factor"]
        Predictions of earlier layers, of a model that reads the residual input several times.
    intermediate_totals : tuple of Float[Tensor, ""]
        Negative log-likelihood of the batch under each of them, summed over its scored entries (`Likelihood.total`).
    known_inputs : Float[Tensor, "trial time feature"] or None
        Features of the known inputs, of a model whose generator reads them.
    """

    states: Float[Tensor, "trial time state"]
    last: Float[Tensor, "trial state"]
    intermediate_factors: tuple[Float[Tensor, "trial time factor"], ...] = ()
    intermediate_totals: tuple[Float[Tensor, ""], ...] = ()
    known_inputs: Float[Tensor, "trial time feature"] | None = None


@dataclass(frozen=True)
class Inference:
    """One pass through a model.

    Parameters
    ----------
    factors : Float[Tensor, "trial time factor"]
    kl : Float[Tensor, "trial"]
        KL divergence of all latents from their priors, in nats; 0 for a model without latents.
    initial_condition : Float[Tensor, "trial initial"] or None
        State from which the generator is unrolled.
    inputs : Float[Tensor, "trial time input"] or None
        Inferred inputs of the generator.
    factor_variance : Float[Tensor, "trial time factor"] or None
        Posterior variance of the factors, of a model that predicts it instead of being sampled.
    intermediate_factors : tuple of Float[Tensor, "trial time factor"]
        Predictions of earlier layers; they are scored in training too.
    intermediate_totals : tuple of Float[Tensor, ""]
        Negative log-likelihood of the batch that was encoded under each of them, of a model that is trained on that batch
        (`Model.target`) and had to read these factors out anyway; else empty.
    """

    factors: Float[Tensor, "trial time factor"]
    kl: Float[Tensor, "trial"]
    initial_condition: Float[Tensor, "trial initial"] | None = None
    inputs: Float[Tensor, "trial time input"] | None = None
    factor_variance: Float[Tensor, "trial time factor"] | None = None
    intermediate_factors: tuple[Float[Tensor, "trial time factor"], ...] = ()
    intermediate_totals: tuple[Float[Tensor, ""], ...] = ()


@dataclass(frozen=True)
class Defaults:
    """A model's defaults of the training settings.

    Parameters
    ----------
    steps : int
        Optimiser steps.
    least_batch : int
        Smallest number of trials in a batch.
    learning_rate, weight_decay : float
        Of AdamW.
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

    Given a random generator, a pass samples the posterior, and in training mode applies dropout; without one it takes
    posterior means and is deterministic. `samples` is whether there is a posterior to sample.
    """

    Config: ClassVar[type[ModelConfig]]
    """Class of the settings; the default of its field ``name`` is the model's name."""
    infers_spikes: ClassVar[bool] = False
    """Whether the model itself infers spikes from fluorescence."""
    takes_inputs: ClassVar[bool] = False
    """Whether the model reads known inputs (`Batch.inputs`)."""
    likelihood: Likelihood
    samples: bool

    @property
    def lag(self) -> int | None:
        """Bins after its own that an estimate depends on: 0 for the past and the present alone, None for the whole trial."""
        return None

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Inference:
        """Infer latents from the shown entries.

        Parameters
        ----------
        batch : Batch
        generator : torch.Generator, optional
            Source of dropout, noise and posterior samples; without one the pass is deterministic.

        Returns
        -------
        Inference
        """
        return self.generate(self.encode(batch, generator), generator)

    @abstractmethod
    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Encode the shown entries; in evaluation mode this part is the same for every posterior sample.

        Parameters
        ----------
        batch : Batch
        generator : torch.Generator, optional
            Source of dropout and noise.

        Returns
        -------
        Encoded
        """

    @abstractmethod
    def generate(self, encoded: Encoded, generator: torch.Generator | None = None) -> Inference:
        """Sample the posterior, or take its mean, and unroll the model's generator.

        Parameters
        ----------
        encoded : Encoded
        generator : torch.Generator, optional
            Source of dropout and posterior samples.

        Returns
        -------
        Inference
        """

    def target(self, inference: Inference, batch: Batch) -> Batch:
        """Return what the likelihood is trained on: the batch itself, or inferred spikes of a model that infers them.

        Parameters
        ----------
        inference : Inference
        batch : Batch
            Masked for this step.

        Returns
        -------
        Batch
        """
        return batch

    def held_out_nll(
        self, inference: Inference, batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum the negative log-likelihood of the scored entries: what models are compared by.

        Parameters
        ----------
        inference : Inference
            Of a deterministic pass.
        batch : Batch
        dtype : torch.dtype
            Of the sum.

        Returns
        -------
        Float[Tensor, ""]
            Nats.
        """
        return self.likelihood.total(inference.factors, batch, dtype=dtype)

    def estimates(self, inference: Inference, batch: Batch) -> dict[str, Float[Tensor, "trial time channel"]]:
        """Compute what is expected of every entry.

        Parameters
        ----------
        inference : Inference
        batch : Batch

        Returns
        -------
        dict of name to Float[Tensor, "trial time channel"]
            ``expected`` in the data's unit, per whole bin, and ``expected_sd`` where the model predicts a variance. Models of
            fluorescence add ``rates`` and ``events`` (spikes per bin), each with its ``_sd``.
        """
        factors, variance, session = inference.factors, inference.factor_variance, batch.session
        arrays = {"expected": self.likelihood.expected(factors, session)}
        if variance is not None:
            arrays["expected_sd"] = self.likelihood.expected_sd(factors, variance, session)
        return arrays | self.likelihood.latent_estimates(factors, variance, session)

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
        return self.likelihood.kinetics(session)

    def recurrent_weights(self) -> list[Tensor]:
        """Return the weights that ``train.l2_weight`` penalises; none by default."""
        return []

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that ``init.freeze="generator"`` freezes: those of the generator and of its factors."""
        return []

    @classmethod
    def mask_length(cls, data: Values, *, likelihood: str, bin_width: float) -> int:
        """Return the default number of bins of a channel that are hidden together; by default that of the likelihood.

        Parameters
        ----------
        data : Values
            A prepared session; what is measured is measured on its training trials.
        likelihood : str
            Name of the likelihood.
        bin_width : float
            Seconds.

        Returns
        -------
        int
            Bins.
        """
        return LIKELIHOODS[likelihood].mask_length(data, bin_width=bin_width)

    @classmethod
    def check(cls, data: Values, likelihood: str) -> None:
        """Refuse data that the model cannot be fitted to.

        Parameters
        ----------
        data : Values
            A prepared session.
        likelihood : str
            Name of the likelihood.

        Raises
        ------
        DataError
            If the data do not suit; the message says what is expected and what to try.
        """

    @classmethod
    def defaults(cls, amount: float) -> Defaults:
        """Return the defaults of the training settings.

        Parameters
        ----------
        amount : float
            Amount of data, from 0 (few training trials, 64) to 1 (many, 1,248), on a logarithmic scale.

        Returns
        -------
        Defaults
        """
        return Defaults()

    @classmethod
    def fill(cls, config: C, amount: float) -> C:
        """Resolve settings of the model that are left open.

        Parameters
        ----------
        config : ModelConfig
        amount : float
            Amount of data, from 0 (few training trials, 64) to 1 (many, 1,248), on a logarithmic scale.

        Returns
        -------
        ModelConfig
        """
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
        """Measure the statistics of a session's channels that initialise the model; by default those of the likelihood.

        Parameters
        ----------
        batch : Batch
            The training trials.
        config : ModelConfig
        likelihood : LikelihoodConfig
        bin_width : float
            Seconds.
        channel_values : mapping of name to numbers
            Parameters of the likelihood per channel, from `Likelihood.channel_values`.

        Returns
        -------
        ChannelStatistics
        """
        return LIKELIHOODS[likelihood.name].measure(
            batch, bin_width=bin_width, channel_values=channel_values, config=likelihood
        )

    def evidence(self, batch: Batch, *, hidden: bool = False) -> Batch:
        """Give the data that the likelihood is of: the batch itself, or what it tells of spikes where the model infers these.

        A learned system is learned from these, and weighed by them.

        Parameters
        ----------
        batch : Batch
        hidden : bool
            Whether entries that are not shown tell of spikes too.

        Returns
        -------
        Batch
        """
        return batch

    def given_rates(self, rates: Float[Tensor, "trial time channel"], batch: Batch) -> dict[str, Tensor]:
        """Infer again what follows from rates, where the model infers spikes.

        Parameters
        ----------
        rates : Float[Tensor, "trial time channel"]
            Expected spikes per bin.
        batch : Batch

        Returns
        -------
        dict of name to tensor
            Those of `estimates` that depend on rates, and these.

        Raises
        ------
        NotImplementedError
            If it does not infer spikes.
        """
        raise NotImplementedError(f"{type(self).__name__} infers no spikes")

    def draw_values(
        self, counts: Float[Tensor, "trial time channel"], batch: Batch, generator: torch.Generator
    ) -> Float[Tensor, "trial time channel"]:
        """Simulate data from drawn spikes, where the model infers spikes.

        Parameters
        ----------
        counts : Float[Tensor, "trial time channel"]
        batch : Batch
            Its session is used.
        generator : torch.Generator

        Returns
        -------
        Float[Tensor, "trial time channel"]
            In the data's unit.

        Raises
        ------
        NotImplementedError
            If it does not infer spikes.
        """
        raise NotImplementedError(f"{type(self).__name__} infers no spikes")

    def cost_of_hidden(
        self, expected: Float[Tensor, "trial time channel"], batch: Batch, weights: Float[Tensor, "channel"]
    ) -> Float[Tensor, ""]:
        """Compute the negative log-likelihood of the hidden scored entries given expectations, but for terms of the data alone.

        Parameters
        ----------
        expected : Float[Tensor, "trial time channel"]
            Over a whole bin: of counts, spikes or signals, whichever the likelihood is of.
        batch : Batch
        weights : Float[Tensor, "channel"]
            What an entry of each channel counts for.

        Returns
        -------
        Float[Tensor, ""]
            In nats.
        """
        slope, cost = (batch.at_entries(each) for each in self.likelihood.natural(expected, batch.session))
        share = batch.exposure if batch.exposure is not None and self.likelihood.expects_counts else 1.0
        values = batch.values - batch.along_channels(self.likelihood.reference(batch.session))
        terms = (share * cost - values * slope) * batch.along_channels(weights)
        return torch.where(batch.scored, terms, torch.zeros_like(terms)).sum(dtype=precise_dtype(batch.device))

    @property
    def infers_rates(self) -> bool:
        """Whether rates are inferred from fluorescence, so that its kinetics are refitted in training."""
        return self.infers_spikes or self.likelihood.infers_rates

    def refit(self, batch: Batch, *, bin_width: float) -> ChannelStatistics | None:
        """Refit the kinetics, given the rates that are inferred from the shown entries.

        Parameters
        ----------
        batch : Batch
            The training trials of a session, some of their entries hidden.
        bin_width : float
            Seconds.

        Returns
        -------
        ChannelStatistics or None
            None for a model without kinetics.
        """
        subset = some_trials(batch)
        with torch.no_grad():
            factors = self(subset).factors
        return self.likelihood.refit(factors, subset, bin_width=bin_width)

    def set_statistics(self, session: str, statistics: ChannelStatistics) -> None:
        """Set the statistics of a session to those that `refit` has measured.

        Parameters
        ----------
        session : str
        statistics : ChannelStatistics
        """
        self.likelihood.set_statistics(session, statistics)


def between(few: float, many: float, amount: float) -> float:
    """Interpolate a default linearly.

    Parameters
    ----------
    few, many : float
        Values for few and for many training trials.
    amount : float
        Amount of data, from 0 (few) to 1 (many).

    Returns
    -------
    float
    """
    return few + (many - few) * amount


def dropout(
    x: Float[Tensor, "*rest width"], rate: float, generator: torch.Generator | None
) -> Float[Tensor, "*rest width"]:
    """Apply inverted dropout with an explicit generator; without one return `x`.

    Four units share one random number of 64 bits, which takes a fifth of the time of one float per unit; `rate` is met to
    within 2⁻¹⁷.

    Parameters
    ----------
    x : Float[Tensor, "*rest width"]
    rate : float
        Share of the units that are set to zero.
    generator : torch.Generator or None
        On the device of `x`.

    Returns
    -------
    Float[Tensor, "*rest width"]
        The other units are divided by ``1 − rate``.
    """
    if generator is None or rate == 0:
        return x
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[: x.numel()]
    scale = bits.ge_(min(round(rate * 2**16), 2**16 - 1) - 2**15).to(x.dtype).mul_(1 / (1 - rate))
    return x * scale.view(x.shape)


def noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers.

    Parameters
    ----------
    shape : tuple of int
    generator : torch.Generator
        On the device of `like`.
    like : Tensor
        Whose device and type the result has.

    Returns
    -------
    Tensor
    """
    return torch.randn(shape, generator=generator, device=like.device).to(like)
