"""Iterative inference by long convolutions, parallel in time: each layer reads the data minus the last prediction."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import ConvConfig, ConvolutionConfig, LikelihoodConfig, ModelConfig
from nwb_sbtt.models.base import C, Defaults, Encoded, Inference, Model, between, dropout, noise
from nwb_sbtt.nn.channels import RESIDUAL_SMOOTHING, ChannelStatistics, Nearby, ReadIn, known_inputs
from nwb_sbtt.nn.convolution import GatedConvolution, recent_mean
from nwb_sbtt.nn.inputs import InputMemory
from nwb_sbtt.nn.likelihoods import make_likelihood
from nwb_sbtt.nn.likelihoods.base import MOST_LOG_VARIANCE


def look_ahead(lag: int | None, layers: int) -> tuple[int | None, ...]:
    """Share the look-ahead of a network out among its read-in and its layers, so that they add up to the lag.

    Parameters
    ----------
    lag : int or None
        Bins.
    layers : int

    Returns
    -------
    tuple of int or None
        Bins of the read-in and of each layer; None without a lag.
    """
    if lag is None:
        return (None,) * (layers + 1)
    return (0, *(lag // layers + (i < lag % layers) for i in range(layers)))


class Layer(nn.Module):
    """Add the residual input and the mean state of the trial to the state of each bin, then convolve over time.

    Parameters
    ----------
    config : ConvolutionConfig
    ahead : int, optional
        Bins that the layer looks ahead; the mean state is then that of the last `max_lag` bins. By default the whole trial.
    """

    def __init__(self, config: ConvolutionConfig, *, ahead: int | None = None):
        super().__init__()
        self.memory = None if ahead is None else config.max_lag
        self.now = nn.Linear(config.factors, config.width)
        self.near = nn.Linear(config.factors, config.width, bias=False)
        self.trial = nn.Linear(config.width, config.width, bias=False)
        self.mixing = GatedConvolution(config.width, config.groups, config.max_lag, ahead=ahead)

    def forward(
        self, state: Float[Tensor, "trial time width"], residual_input: tuple[Tensor, Tensor]
    ) -> tuple[Float[Tensor, "trial time width"], Float[Tensor, "trial time width"]]:
        """Update the state.

        Parameters
        ----------
        state : Float[Tensor, "trial time width"]
        residual_input : tuple of two Float[Tensor, "trial time factor"]
            Of the bin, and smoothed over nearby bins.

        Returns
        -------
        state, added : Float[Tensor, "trial time width"]
            The state with the residual input, and what the convolution adds to it.
        """
        # The products of the two residual inputs add to the state, in its memory; a sum of its own would read all of it again.
        mean = (state.sum(1) / state.shape[1])[:, None] if self.memory is None else recent_mean(state, self.memory)
        flat = (state + nn.functional.linear(mean, self.trial.weight, self.now.bias)).flatten(0, 1)
        for read, of in zip(residual_input, (self.now, self.near), strict=True):
            flat = torch.addmm(flat, read.flatten(0, 1), of.weight.t())
        state = flat.view(state.shape)
        return state, self.mixing(state)


class Conv(Model):
    """Unrolled inference: predict the rates, compare them with the data, convolve over time, and predict again.

    Each layer is a gated long convolution (`nwb_sbtt.nn.convolution`). Its input is the residual input (the shown entries
    minus the prediction of the layer before) and the mean of its state over the trial. All bins are computed at once, so a
    step costs a few large matrix products where LFADS needs hundreds of small ones. There is no generator: factors have no
    initial condition and no inputs. There is no posterior to sample: a read-out of the last state, trained on the errors at
    hidden entries only, predicts the variance of each factor in each bin.

    Parameters
    ----------
    config : ConvolutionConfig
    statistics : dict of session to ChannelStatistics
    likelihood : LikelihoodConfig or str
    """

    Config: ClassVar[type[ModelConfig]] = ConvConfig
    samples = False
    takes_inputs = True
    many_steps = 1850.0
    """Optimiser steps for many training trials."""

    def __init__(
        self, config: ConvolutionConfig, statistics: dict[str, ChannelStatistics], likelihood: LikelihoodConfig | str
    ):
        super().__init__()
        self.config = c = config
        ahead = look_ahead(self.lag, c.layers)
        self.read_in = ReadIn(statistics, c.read_in, c.smoothing, residual_features=c.factors, ahead=ahead[0])
        self.embedding = nn.Linear(self.read_in.n_features, c.width)
        known = known_inputs(statistics)
        self.memory = None if known is None else InputMemory(known, c.input_memory, c.width)
        self.layers = nn.ModuleList(Layer(c, ahead=bins) for bins in ahead[1:])
        self.norm = nn.LayerNorm(c.width)
        self.to_factors = nn.Linear(c.width, c.factors)
        self.to_log_variance = nn.Linear(c.width, c.factors)
        nn.init.zeros_(self.to_log_variance.weight)
        nn.init.constant_(self.to_log_variance.bias, math.log(0.1))
        self.likelihood = make_likelihood(likelihood, statistics, c.factors)

    @property
    def lag(self) -> int | None:
        """Bins after its own that an estimate depends on; None: on the whole trial."""
        return self.config.lag if isinstance(self.config, ConvConfig) else None

    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Predict factors and read their residual input, once per layer."""
        state = self.embedding(self.read_in(batch))
        if self.memory is not None:
            state = state + self.memory(batch)
        state = self._drop(state, generator)
        nearby = Nearby(batch, (RESIDUAL_SMOOTHING,), ahead=None if self.lag is None else 0)
        into = self.read_in.residual_table(batch.session)
        predictions, totals = list[Tensor](), list[Tensor]()
        for layer in self.layers:
            predictions.append(self._factors(state, generator))
            if self.training and not self.infers_spikes:
                sums, total = self.likelihood.compare(predictions[-1], batch, into=into)
                totals.append(total)
            else:
                sums = self.likelihood.sum_residuals(predictions[-1], batch, into=into)
            state, added = layer(state, nearby.residual_input(sums))
            state = self._add(state, added, generator)
        return Encoded(state, state.mean(1), tuple(predictions), tuple(totals))

    def generate(self, encoded: Encoded, generator: torch.Generator | None = None) -> Inference:
        """Read out factors and their variance from the last state."""
        factors = self._factors(encoded.states, generator)
        variance = self.to_log_variance(self.norm(encoded.states).detach()).clamp(max=MOST_LOG_VARIANCE).exp()
        zeros = factors.new_zeros(len(factors))
        return Inference(
            factors,
            kl=zeros,
            factor_variance=variance,
            intermediate_factors=encoded.intermediate_factors,
            intermediate_totals=encoded.intermediate_totals,
        )

    def _factors(self, state: Tensor, generator: torch.Generator | None) -> Float[Tensor, "trial time factor"]:
        factors: Tensor = self.to_factors(self.norm(state))
        sd = self.config.factor_noise
        if not self.training or generator is None or not sd:
            return factors
        return factors.add(noise(tuple(factors.shape), generator, factors), alpha=sd)

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Float[Tensor, "trial time width"]:
        """Feature dropout, the same for a whole trial: neighbouring bins cannot replace each other."""
        kept = self._kept(x, generator)
        return x if kept is None else x * kept

    def _add(self, x: Tensor, added: Tensor, generator: torch.Generator | None) -> Float[Tensor, "trial time width"]:
        """Add features to which feature dropout is applied."""
        kept = self._kept(added, generator)
        return x + added if kept is None else torch.addcmul(x, added, kept)

    def _kept(self, x: Tensor, generator: torch.Generator | None) -> Float[Tensor, "trial 1 width"] | None:
        rate = self.config.dropout
        return dropout(x.new_ones(len(x), 1, x.shape[2]), rate, generator) if self.training and rate else None

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the factors: there is no generator."""
        return [*self.to_factors.parameters()]

    @classmethod
    def defaults(cls, amount: float) -> Defaults:
        """Return the defaults of the training settings, tuned on motor cortex and a Lorenz system (64 and 1,248 trials)."""
        return Defaults(
            steps=round(between(500.0, cls.many_steps, amount)),
            least_batch=16,
            learning_rate=between(2e-3, 4e-3, amount),
            weight_decay=10.0 ** between(0.0, -4.0, amount),
            coordinated_dropout=(between(0.7, 0.5, amount), between(0.9, 0.5, amount)),
        )

    @classmethod
    def fill(cls, config: C, amount: float) -> C:
        """Resolve feature dropout: 0.4 for few to 0.1 for many training trials."""
        if not isinstance(config, ConvolutionConfig) or config.dropout is not None:
            return config
        return config.model_copy(update={"dropout": between(0.4, 0.1, amount)})

    def recurrent_weights(self) -> list[Tensor]:
        """Return the kernels over time, which are penalised in place of recurrent weights."""
        return [weight for name, weight in self.layers.named_parameters() if name.endswith("kernels")]
