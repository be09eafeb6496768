"""Likelihoods (observation models), one file each: from factors to the probability of what was measured.

Imports `nn`, `calcium`, `batch` and `config`. Another package adds one with `register_likelihood`, or by an entry point in the
group ``nwb_sbtt.likelihoods``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from nwb_sbtt.config import LIKELIHOODS as _LIKELIHOODS
from nwb_sbtt.config import LikelihoodConfig
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.likelihoods.base import ChannelValues, Likelihood, Values
from nwb_sbtt.registry import Registry

__all__ = [
    "LIKELIHOODS",
    "ChannelValues",
    "Likelihood",
    "Values",
    "make_likelihood",
    "register_likelihood",
    "suitable_likelihood",
]

LIKELIHOODS = cast("Registry[type[Likelihood]]", _LIKELIHOODS)
"""Classes by name."""


def register_likelihood(kind: type[Likelihood]) -> type[Likelihood]:
    """Make a likelihood known under the name of its settings, `kind.Config`; a decorator.

    Raises
    ------
    ConfigError
        If another likelihood has that name.
    """
    LIKELIHOODS.register(kind.Config.model_fields["name"].default, kind)
    return kind


def make_likelihood(
    config: LikelihoodConfig | str, statistics: Mapping[str, ChannelStatistics], factors: int
) -> Likelihood:
    """Build a likelihood, sized by the channels of each session.

    Parameters
    ----------
    config : LikelihoodConfig or str
        Settings, or a name for the defaults.
    statistics : mapping of session to ChannelStatistics
        As the likelihood's `measure` gives them.
    factors : int
        Number of factors that are read out.

    Raises
    ------
    ConfigError
        If there is no likelihood of that name.
    """
    if isinstance(config, str):
        return LIKELIHOODS[config](dict(statistics), factors)
    return LIKELIHOODS[config.name](dict(statistics), factors, config)


def suitable_likelihood(kind: str) -> str:
    """Name the likelihood of the package that suits a kind of data, "counts", "events" or "signals"."""
    return next(name for name in LIKELIHOODS.names() if kind in LIKELIHOODS[name].suits)
