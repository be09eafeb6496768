"""Likelihoods (observation models), one file each: the probability of measurements, given factors.

May import `nn`, `calcium`, `batch` and `config`. Another package adds one with `register_likelihood`, or by an entry point in
the group ``nwb_sbtt.likelihoods``.
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
"""Classes of likelihoods by name."""


def register_likelihood(kind: type[Likelihood]) -> type[Likelihood]:
    """Register a likelihood under the name in its settings, `kind.Config`; a decorator.

    Parameters
    ----------
    kind : type of Likelihood

    Returns
    -------
    type of Likelihood
        The same class.

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
    """Make a likelihood, sized by the channels of each session.

    Parameters
    ----------
    config : LikelihoodConfig or str
        Settings, or its name for the defaults.
    statistics : mapping of session to ChannelStatistics
        As returned by the likelihood's `measure`.
    factors : int
        Number of factors.

    Returns
    -------
    Likelihood
        With random weights from torch's global generator.

    Raises
    ------
    ConfigError
        If there is no likelihood of that name.
    """
    if isinstance(config, str):
        return LIKELIHOODS[config](dict(statistics), factors)
    return LIKELIHOODS[config.name](dict(statistics), factors, config)


def suitable_likelihood(kind: str) -> str:
    """Choose the likelihood of a kind of data.

    Parameters
    ----------
    kind : {"counts", "events", "signals"}

    Returns
    -------
    str
        Name of the first registered likelihood that suits; those of this package come first.
    """
    return next(name for name in LIKELIHOODS.names() if kind in LIKELIHOODS[name].suits)
