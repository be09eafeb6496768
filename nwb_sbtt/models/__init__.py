"""One file a model; read `sae` first."""

from __future__ import annotations

from nwb_sbtt.config import ConvConfig, LadderConfig, ModelConfig, SAEConfig
from nwb_sbtt.models.base import Inference, Model
from nwb_sbtt.models.conv import Conv
from nwb_sbtt.models.ladder import Ladder
from nwb_sbtt.models.lfads import LFADS
from nwb_sbtt.models.sae import SAE
from nwb_sbtt.nn.channels import ChannelStatistics

__all__ = ["LFADS", "SAE", "Conv", "Inference", "Ladder", "Model", "make_model"]


def make_model(config: ModelConfig, statistics: dict[str, ChannelStatistics], likelihood: str) -> Model:
    """Build the model that a config names, sized by the channels of each session."""
    if isinstance(config, SAEConfig):
        return SAE(config, statistics, likelihood)
    if isinstance(config, LadderConfig):
        return Ladder(config, statistics)
    if isinstance(config, ConvConfig):
        return Conv(config, statistics, likelihood)
    return LFADS(config, statistics, likelihood)
