"""Inference by long convolutions that read the data again after each guess; parallel in time."""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import ConvConfig, ConvolutionConfig, LikelihoodConfig, ModelConfig
from nwb_sbtt.models.base import C, Defaults, Encoded, Inference, Model, between, dropout, noise
from nwb_sbtt.nn.channels import ChannelStatistics, ReadIn
from nwb_sbtt.nn.convolution import GatedConvolution
from nwb_sbtt.nn.entries import marked_share
from nwb_sbtt.nn.likelihoods import make_likelihood
from nwb_sbtt.nn.likelihoods.base import MOST_LOG_VARIANCE


class Layer(nn.Module):
    """Add what the last guess missed and what the whole trial says to each bin, then mix over time."""

    def __init__(self, config: ConvolutionConfig):
        super().__init__()
        self.now = nn.Linear(config.factors, config.width)
        self.near = nn.Linear(config.factors, config.width, bias=False)
        self.trial = nn.Linear(config.width, config.width, bias=False)
        self.mixing = GatedConvolution(config.width, config.groups, config.max_lag)

    def forward(
        self, state: Float[Tensor, "trial time width"], missed: tuple[Tensor, Tensor]
    ) -> tuple[Float[Tensor, "trial time width"], Float[Tensor, "trial time width"]]:
        """The state with what was missed, and what mixing adds to it."""
        now, near = missed
        state = state + self.now(now) + self.near(near) + self.trial(state.mean(1, keepdim=True))
        return state, self.mixing(state)


class Conv(Model):
    """Unrolled inference: guess the rates, read how far the data are from them, mix over time, and guess again.

    Each layer is a gated long convolution (`nwb_sbtt.nn.convolution`) that takes the residuals of the shown entries from the
    guess before it, and the mean of its state over the trial. All bins are computed at once, so a step costs a few large
    matrix products where LFADS needs hundreds of small ones. There is no generator: factors have no initial condition and no
    inputs. Nor is there a posterior to sample: a read-out of the last state, trained on how far hidden entries are from what
    was expected and on nothing else, says what variance each factor has in each bin.
    """

    Config: ClassVar[type[ModelConfig]] = ConvConfig
    samples = False
    many_steps = 1850.0
    """Optimiser steps where there are many training trials."""

    def __init__(
        self, config: ConvolutionConfig, statistics: dict[str, ChannelStatistics], likelihood: LikelihoodConfig | str
    ):
        super().__init__()
        self.config = c = config
        self.read_in = ReadIn(statistics, c.read_in, c.smoothing, residual_features=c.factors)
        self.embedding = nn.Linear(self.read_in.n_features, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.to_factors = nn.Linear(c.width, c.factors)
        self.to_log_variance = nn.Linear(c.width, c.factors)
        nn.init.zeros_(self.to_log_variance.weight)
        nn.init.constant_(self.to_log_variance.bias, math.log(0.1))
        self.likelihood = make_likelihood(likelihood, statistics, c.factors)

    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Guess and read again, once a layer."""
        state = self._drop(self.embedding(self.read_in(batch)), generator)
        share = marked_share(batch.shown, batch=batch)
        intermediate_factors = []
        for layer in self.layers:
            intermediate_factors.append(self._factors(state, generator))
            residuals = partial(self.likelihood.sum_residuals, intermediate_factors[-1], batch)
            state, added = layer(state, self.read_in.residual_input(residuals, share, batch=batch))
            state = state + self._drop(added, generator)
        return Encoded(state, state.mean(1), tuple(intermediate_factors))

    def generate(self, encoded: Encoded, generator: torch.Generator | None = None) -> Inference:
        """Read factors out of the last state, and how sure they are."""
        factors = self._factors(encoded.states, generator)
        variance = self.to_log_variance(self.norm(encoded.states).detach()).clamp(max=MOST_LOG_VARIANCE).exp()
        none = factors.new_zeros(len(factors))
        return Inference(factors, kl=none, factor_variance=variance, intermediate_factors=encoded.intermediate_factors)

    def _factors(self, state: Tensor, generator: torch.Generator | None) -> Float[Tensor, "trial time factor"]:
        factors: Tensor = self.to_factors(self.norm(state))
        sd = self.config.factor_noise
        if not self.training or generator is None or not sd:
            return factors
        return factors + sd * noise(tuple(factors.shape), generator, factors)

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Float[Tensor, "trial time width"]:
        """Drop features of whole trials: cheaper than bin by bin, and neighbours in time cannot fill in for each other."""
        rate = self.config.dropout
        if not self.training or not rate:
            return x
        return x * dropout(x.new_ones(len(x), 1, x.shape[2]), rate, generator)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Those of the factors: there is no generator."""
        return [*self.to_factors.parameters()]

    @classmethod
    def defaults(cls, amount: float) -> Defaults:
        """Tuned at 64 and at 1248 training trials of motor cortex and of a Lorenz system."""
        return Defaults(
            steps=round(between(500.0, cls.many_steps, amount)),
            least_batch=16,
            learning_rate=between(2e-3, 4e-3, amount),
            weight_decay=10.0 ** between(0.0, -4.0, amount),
            coordinated_dropout=(between(0.7, 0.5, amount), between(0.9, 0.5, amount)),
        )

    @classmethod
    def fill(cls, config: C, amount: float) -> C:
        """Drop more where less trains."""
        if not isinstance(config, ConvolutionConfig) or config.dropout is not None:
            return config
        return config.model_copy(update={"dropout": between(0.4, 0.1, amount)})

    def recurrent_weights(self) -> list[Tensor]:
        """The kernels over time, which are what a recurrent model has recurrent weights for."""
        return [weight for name, weight in self.layers.named_parameters() if name.endswith("kernels")]
