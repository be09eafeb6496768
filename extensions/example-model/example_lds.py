"""A linear dynamical system with a fixed-gain smoother: a model for nwb_sbtt in a package of its own."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from nwb_sbtt.config import ModelConfig
from nwb_sbtt.models import Encoded, Inference, Model
from nwb_sbtt.nn.channels import ReadIn
from nwb_sbtt.nn.likelihoods import make_likelihood


class LDSConfig(ModelConfig):
    """A linear dynamical system whose state is smoothed forward and backward in time with a fixed gain."""

    name: Literal["example-lds"] = Field(default="example-lds", description="Chooses the linear dynamical system.")
    factors: int = Field(default=8, ge=1, description="Dimensions of the state.")
    read_in: int = Field(default=16, ge=1, description="Features that the read-in makes of the channels.")


class LDS(Model):
    """``x_t = A x_(t−1) + G u_t``, run forward and backward, where u is what the read-in makes of the shown entries."""

    Config = LDSConfig
    samples = False

    def __init__(self, config, statistics, likelihood):
        super().__init__()
        self.read_in = ReadIn(statistics, config.read_in, (1.0, 2.0, 4.0, 8.0))
        self.gain = nn.Linear(self.read_in.n_features, config.factors, bias=False)
        self.dynamics = nn.Parameter(torch.stack([0.9 * torch.eye(config.factors)] * 2))
        self.likelihood = make_likelihood(likelihood, statistics, config.factors)

    def encode(self, batch, generator=None):
        """Run the system over the shown entries in both directions."""
        drive = self.gain(self.read_in(batch))
        states = self._run(drive, self.dynamics[0]) + self._run(drive.flip(1), self.dynamics[1]).flip(1) - drive
        return Encoded(states, states.mean(1))

    def generate(self, encoded, generator=None):
        """The state is the factors; nothing is sampled."""
        return Inference(encoded.states, kl=encoded.states.new_zeros(len(encoded.states)))

    def _run(self, drive, dynamics):
        states = [drive[:, 0]]
        for step in drive.unbind(1)[1:]:
            states.append(states[-1] @ dynamics + step)
        return torch.stack(states, 1)
