"""LFADS: latent factor analysis via dynamical systems, under the mask rules of `nwb_sbtt.masks`."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LFADSConfig
from nwb_sbtt.models.base import Inference, Model, dropout, noise
from nwb_sbtt.nn.channels import ChannelStatistics, ReadIn
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.nn.priors import InputPrior, kl_to_gaussian
from nwb_sbtt.nn.recurrent import Cell

MIN_LOG_SD = -5.0


class LFADS(Model):
    """Initial condition, generator, factors, and a controller that infers the generator's inputs.

    Sussillo et al. 2016 and Pandarinath et al. 2018, with an autoregressive prior on the inputs. One bidirectional
    encoder serves the initial condition and the controller. ``inputs=0`` leaves the controller out: the generator is then
    autonomous.
    """

    samples = True
    prior_log_sd: Tensor

    def __init__(self, config: LFADSConfig, statistics: dict[str, ChannelStatistics], likelihood: str):
        super().__init__()
        self.config = c = config
        self.read_in = ReadIn(statistics, c.read_in)
        self.encoder = nn.GRU(c.read_in, c.encoder, batch_first=True, bidirectional=True)
        self.to_initial = nn.Linear(2 * c.encoder, 2 * c.initial_condition)
        self.to_generator = nn.Linear(c.initial_condition, c.generator)
        self.prior_mean = nn.Parameter(torch.zeros(c.initial_condition))
        self.register_buffer("prior_log_sd", torch.full((c.initial_condition,), math.log(c.ic_prior_sd)))
        self.generator = Cell(c.inputs, c.generator, limit=c.state_limit)
        self.to_factors = nn.Parameter(torch.randn(c.factors, c.generator) / c.generator**0.5)
        if c.inputs:
            self.controller = Cell(2 * c.encoder + c.factors, c.controller, limit=c.state_limit)
            self.to_inputs = nn.Linear(c.controller, 2 * c.inputs)
            self.input_prior = InputPrior(c.input_prior, c.inputs, tau=c.input_prior_tau, sd=c.input_prior_sd)
        self.observation = LIKELIHOODS[likelihood](statistics, c.factors)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Inference:
        """Infer from what is shown."""
        rate = self.config.dropout if self.training else 0.0
        read = dropout(self.read_in(batch), rate, generator)
        states, last = self.encoder(read)
        mean, log_sd = self.to_initial(dropout(torch.cat([last[0], last[1]], -1), rate, generator)).chunk(2, -1)
        log_sd = log_sd.clamp(min=MIN_LOG_SD) + self.prior_log_sd
        initial = mean if generator is None else mean + log_sd.exp() * noise(tuple(mean.shape), generator, mean)
        kl = kl_to_gaussian(mean, log_sd, self.prior_mean, self.prior_log_sd)
        g = self.to_generator(initial)
        weights = nn.functional.normalize(self.to_factors, dim=1)
        if not self.config.inputs:
            g_t, path = g, []
            nothing = self.generator.project(g.new_zeros(len(g), 0))
            for _ in range(read.shape[1]):
                g_t = self.generator(nothing, g_t)
                path.append(g_t)
            factors = dropout(torch.stack(path, 1), rate, generator) @ weights.T
            return Inference(factors, kl, initial_condition=initial)
        factors, inputs, kl_inputs = self._controlled(dropout(states, rate, generator), g, weights, generator)
        return Inference(factors, kl + kl_inputs, initial_condition=initial, inputs=inputs)

    def _controlled(
        self,
        states: Float[Tensor, "trial time state"],
        g: Float[Tensor, "trial generator"],
        weights: Float[Tensor, "factor generator"],
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n_encoder = states.shape[-1]
        from_encoder = self.controller.project(states, slice(0, n_encoder))
        shape = (states.shape[1], len(g), self.config.inputs)
        draws = None if generator is None else noise(shape, generator, g)
        c = g.new_zeros(len(g), self.config.controller)
        factor = g @ weights.T
        paths: list[Tensor] = []
        means, log_sds, us = [], [], []
        from_factor = self.controller.weights(slice(n_encoder, None))
        for t in range(states.shape[1]):
            c = self.controller(torch.addmm(from_encoder[:, t], factor, from_factor), c)
            mean, log_sd = self.to_inputs(c).chunk(2, -1)
            log_sd = log_sd.clamp(min=MIN_LOG_SD) + self.input_prior.log_sd
            u = mean if draws is None else mean + log_sd.exp() * draws[t]
            g = self.generator(self.generator.project(u), g)
            factor = g @ weights.T
            paths.append(factor)
            means.append(mean)
            log_sds.append(log_sd)
            us.append(u)
        inputs = torch.stack(us, 1)
        kl = self.input_prior.kl(torch.stack(means, 1), torch.stack(log_sds, 1), inputs)
        return torch.stack(paths, 1), inputs, kl

    def recurrent_weights(self) -> list[Tensor]:
        """Those of the generator and the controller."""
        return [self.generator.recurrent, *([self.controller.recurrent] if self.config.inputs else [])]
