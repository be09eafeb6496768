"""The smallest sequential autoencoder. Read this file first; other models differ in encoder and generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LikelihoodConfig, SAEConfig
from nwb_sbtt.models.base import Encoded, Inference, Model, dropout
from nwb_sbtt.nn.channels import ChannelStatistics, ReadIn
from nwb_sbtt.nn.likelihoods import make_likelihood


class SAE(Model):
    """A bidirectional GRU encodes a trial as one vector; an autonomous GRU unrolls that vector into factors.

    Deterministic, without prior or posterior: the autoencoder of Zhu, Sedler et al. 2021, with the mask as further input.

    Parameters
    ----------
    config : SAEConfig
    statistics : dict of session to ChannelStatistics
    likelihood : LikelihoodConfig or str
    """

    Config = SAEConfig
    samples = False

    def __init__(self, config: SAEConfig, statistics: dict[str, ChannelStatistics], likelihood: LikelihoodConfig | str):
        super().__init__()
        self.config = config
        self.read_in = ReadIn(statistics, config.encoder, config.smoothing)
        self.encoder = nn.GRU(self.read_in.n_features, config.encoder, batch_first=True, bidirectional=True)
        self.to_initial = nn.Linear(2 * config.encoder, config.generator)
        self.generator = nn.GRU(1, config.generator, batch_first=True)
        self.to_factors = nn.Linear(config.generator, config.factors, bias=False)
        self.likelihood = make_likelihood(likelihood, statistics, config.factors)

    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Encode the shown entries in both directions of time."""
        states, last = self.encoder(dropout(self.read_in(batch), self._rate, generator))
        return Encoded(states, torch.cat([last[0], last[1]], -1))

    def generate(self, encoded: Encoded, generator: torch.Generator | None = None) -> Inference:
        """Unroll the generator from the encoder's last states."""
        n_trials, n_bins, _ = encoded.states.shape
        initial = self.to_initial(dropout(encoded.last, self._rate, generator))
        states, _ = self.generator(initial.new_zeros(n_trials, n_bins, 1), initial[None])
        factors = self.to_factors(dropout(states, self._rate, generator))
        return Inference(factors, kl=initial.new_zeros(n_trials), initial_condition=initial)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the generator and of the factors."""
        return [*self.generator.parameters(), *self.to_factors.parameters()]

    @property
    def _rate(self) -> float:
        return self.config.dropout if self.training else 0.0

    def recurrent_weights(self) -> list[Tensor]:
        """Return the recurrent weights of the generator."""
        return [w for name, w in self.generator.named_parameters() if name.startswith("weight_hh")]
