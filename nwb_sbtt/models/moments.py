"""Any model under a likelihood of moments, as the search of its kinetics sees it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import LadderConfig
from nwb_sbtt.models.base import Inference, Model
from nwb_sbtt.models.ladder import Ladder
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods.moments import Moments
from nwb_sbtt.nn.spiking import Kinetics

SHELL = LadderConfig(read_in=1, width=1, layers=1, groups=1, reach=1, factors=1, dropout=0.0)


class OfRates(Ladder):
    """A ladder without levels of its own: rates and kinetics are those of a model whose fluorescence follows from rates.

    So `nwb_sbtt.train.kinetics.revise`, which searches a ladder's kinetics again when it knows rates, searches the model's.
    """

    def __init__(self, model: Model):
        with torch.random.fork_rng():
            super().__init__(SHELL, {})
        assert isinstance(model.observation, Moments)
        self.of, self.moments = model, model.observation

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Inference:
        """What the model infers."""
        return self.of.forward(batch, generator)

    def rates(self, inference: Inference, batch: Batch) -> Float[Tensor, "trial time channel"]:
        """Spikes expected of each bin."""
        return self.moments.rates(inference.factors, batch.session)

    def kinetics(self, session: str) -> Kinetics:
        """How the model takes fluorescence to follow spikes."""
        return self.moments.kinetics(session)

    def adopt(self, session: str, of: ChannelStatistics) -> None:
        """Tell the model of kinetics that were found anew."""
        self.moments.adopt(session, of)
