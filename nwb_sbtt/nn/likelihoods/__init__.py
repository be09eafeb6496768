"""Observation models, one file each: from factors to the probability of what was measured."""

from __future__ import annotations

from nwb_sbtt.nn.likelihoods.base import MAX_LOG_RATE, MOST_LOG_VARIANCE, Observation
from nwb_sbtt.nn.likelihoods.edgeworth import Edgeworth
from nwb_sbtt.nn.likelihoods.gamma import Gamma
from nwb_sbtt.nn.likelihoods.gaussian import Gaussian
from nwb_sbtt.nn.likelihoods.gaussian_moments import GaussianMoments
from nwb_sbtt.nn.likelihoods.poisson import Poisson
from nwb_sbtt.nn.likelihoods.zig import ZeroInflatedGamma

__all__ = [
    "LIKELIHOODS",
    "MAX_LOG_RATE",
    "MOST_LOG_VARIANCE",
    "Edgeworth",
    "Gamma",
    "Gaussian",
    "GaussianMoments",
    "Observation",
    "Poisson",
    "ZeroInflatedGamma",
]

LIKELIHOODS: dict[str, type[Observation]] = {
    "poisson": Poisson,
    "gaussian": Gaussian,
    "gamma": Gamma,
    "zig": ZeroInflatedGamma,
    "gaussian_moments": GaussianMoments,
    "edgeworth": Edgeworth,
}
