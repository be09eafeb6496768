"""Models, one file each; read `sae` first, and `docs/adding_a_model.md` to add one.

May import `nn`, `calcium`, `batch` and `config`, but nothing that reads files or labels. Another package adds a model with
`register_model`, or by an entry point in the group ``nwb_sbtt.models``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from nwb_sbtt.config import MODELS as _MODELS
from nwb_sbtt.config import LikelihoodConfig, ModelConfig
from nwb_sbtt.models.base import Defaults, Encoded, Inference, Model
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.registry import Registry

__all__ = ["MODELS", "Defaults", "Encoded", "Inference", "Model", "make_model", "register_model"]

MODELS = cast("Registry[type[Model]]", _MODELS)
"""Classes of models by name."""


def register_model(kind: type[Model]) -> type[Model]:
    """Register a model under the name in its settings, `kind.Config`; a decorator.

    Parameters
    ----------
    kind : type of Model

    Returns
    -------
    type of Model
        The same class.

    Raises
    ------
    ConfigError
        If another model has that name.
    """
    MODELS.register(kind.Config.model_fields["name"].default, kind)
    return kind


def make_model(
    config: ModelConfig, statistics: Mapping[str, ChannelStatistics], likelihood: LikelihoodConfig | str
) -> Model:
    """Make the model that a config names, sized by the channels of each session.

    Parameters
    ----------
    config : ModelConfig
    statistics : mapping of session to ChannelStatistics
        As returned by the model's `measure`.
    likelihood : LikelihoodConfig or str
        Settings of the likelihood, or its name for the defaults.

    Returns
    -------
    Model
        With random weights from torch's global generator.

    Raises
    ------
    ConfigError
        If there is no model or likelihood of that name.
    """
    return MODELS[config.name](config, dict(statistics), likelihood)
