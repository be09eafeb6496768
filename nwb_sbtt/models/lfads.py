"""LFADS: latent factor analysis via dynamical systems, under the mask rules of `nwb_sbtt.masks`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LFADSConfig, LikelihoodConfig
from nwb_sbtt.models.base import Encoded, Inference, Model, dropout, noise
from nwb_sbtt.nn.channels import ChannelStatistics, ReadIn, known_inputs
from nwb_sbtt.nn.control import MIN_LOG_SD, run_controlled
from nwb_sbtt.nn.likelihoods import make_likelihood
from nwb_sbtt.nn.priors import InputPrior, kl_to_gaussian
from nwb_sbtt.nn.recurrent import Cell, run_gru


class LFADS(Model):
    """Initial condition, generator, factors, and a controller that infers the generator's inputs.

    Sussillo et al. 2016 and Pandarinath et al. 2018, with an autoregressive prior on the inputs. One bidirectional
    encoder serves the initial condition and the controller. With ``inputs=0`` there is no controller, and the generator is
    autonomous but for known inputs, which it reads beside those that the controller infers.

    Parameters
    ----------
    config : LFADSConfig
    statistics : dict of session to ChannelStatistics
    likelihood : LikelihoodConfig or str
    """

    Config = LFADSConfig
    samples = True
    takes_inputs = True
    prior_log_sd: Tensor

    def __init__(
        self, config: LFADSConfig, statistics: dict[str, ChannelStatistics], likelihood: LikelihoodConfig | str
    ):
        super().__init__()
        self.config = c = config
        self.read_in = ReadIn(statistics, c.read_in, c.smoothing)
        self.encoder = nn.GRU(self.read_in.n_features, c.encoder, bidirectional=True)
        self.to_initial = nn.Linear(2 * c.encoder, 2 * c.initial_condition)
        self.to_generator = nn.Linear(c.initial_condition, c.generator)
        self.prior_mean = nn.Parameter(torch.zeros(c.initial_condition))
        self.register_buffer("prior_log_sd", torch.full((c.initial_condition,), math.log(c.ic_prior_sd)))
        self.known = known_inputs(statistics)
        n_known = 0 if self.known is None else self.known.n_features
        self.generator = Cell(c.inputs + n_known, c.generator) if c.inputs else nn.GRU(n_known or 1, c.generator)
        self.to_factors = nn.Parameter(torch.randn(c.factors, c.generator) / c.generator**0.5)
        if c.inputs:
            self.feedback = nn.Parameter(torch.randn(c.factors, 3 * c.controller) / c.factors**0.5)
            self.controller = Cell(2 * c.encoder, c.controller)
            self.to_inputs = nn.Linear(c.controller, 2 * c.inputs)
            self.input_prior = InputPrior(c.input_prior, c.inputs, tau=c.input_prior_tau, sd=c.input_prior_sd)
        self.likelihood = make_likelihood(likelihood, statistics, c.factors)

    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Encode the shown entries in both directions of time."""
        features = dropout(self.read_in(batch), self._rate, generator)
        states, last = run_gru(self.encoder, features.transpose(0, 1))
        known = None if self.known is None else self.known(batch)
        return Encoded(
            dropout(states, self._rate, generator).transpose(0, 1),
            torch.cat([last[0], last[1]], -1),
            known_inputs=known,
        )

    def generate(self, encoded: Encoded, generator: torch.Generator | None = None) -> Inference:
        """Sample the initial condition and the inputs, and unroll the generator."""
        c, rate, n_steps = self.config, self._rate, encoded.states.shape[1]
        mean, log_sd = self.to_initial(dropout(encoded.last, rate, generator)).chunk(2, -1)
        log_sd = log_sd.clamp(min=MIN_LOG_SD) + self.prior_log_sd
        kl = kl_to_gaussian(mean, log_sd, self.prior_mean, self.prior_log_sd)
        initial = mean if generator is None else mean + log_sd.exp() * noise(tuple(mean.shape), generator, mean)
        g0 = self.to_generator(initial).clamp(-c.cell_clip, c.cell_clip)
        weights = nn.functional.normalize(self.to_factors, dim=1).t()
        inputs = None
        known = None if encoded.known_inputs is None else encoded.known_inputs.transpose(0, 1)
        if isinstance(self.generator, nn.GRU):
            path, _ = run_gru(self.generator, g0.new_zeros(n_steps, len(g0), 1) if known is None else known, g0[None])
        else:
            draws = (n_steps, len(g0), c.inputs)
            run = run_controlled(
                self.controller,
                self.generator,
                encoded=encoded.states.transpose(0, 1),
                feedback=weights @ self.feedback,
                to_inputs=(self.to_inputs.weight.t(), self.to_inputs.bias, self.input_prior.log_sd),
                g0=g0,
                draws=None if generator is None else noise(draws, generator, g0),
                known=known,
            )
            path, inputs = run.generator, run.inputs.transpose(0, 1)
            kl = kl + self.input_prior.kl(run.mean, run.log_sd, run.inputs)
        factors = (dropout(path, rate, generator) @ weights).transpose(0, 1)
        return Inference(factors, kl, initial_condition=initial, inputs=inputs)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the generator and of the factors."""
        return [*self.generator.parameters(), self.to_factors]

    @property
    def _rate(self) -> float:
        return self.config.dropout if self.training else 0.0

    def recurrent_weights(self) -> list[Tensor]:
        """Return the recurrent weights of the generator and the controller."""
        if isinstance(self.generator, nn.GRU):
            return [w for name, w in self.generator.named_parameters() if name.startswith("weight_hh")]
        return [self.generator.recurrent, self.controller.recurrent]
