"""Gaussian likelihood of fluorescence, with mean and variance that follow from the rates."""

from __future__ import annotations

import math

from torch import Tensor

from nwb_sbtt.config import GaussianMomentsConfig
from nwb_sbtt.nn.likelihoods.moments import Moments


class GaussianMoments(Moments):
    """Normal distribution with the first two cumulants of shot noise.

    A term is ``½ log 2π + ½ log κ_2 + (x − κ_1)² / 2 κ_2`` with x in units of the spike amplitude. The Gaussian LFADS of
    Prince and Richards (2019) trains a kernel of five taps, shared by all channels, instead.
    """

    Config = GaussianMomentsConfig
    order = 2

    def _terms(self, level: Tensor, cumulants: tuple[Tensor, ...]) -> Tensor:
        mean, variance = cumulants
        return gaussian_terms(level, mean, variance)


def gaussian_terms(level: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Compute the negative log-density of a normal distribution.

    Parameters
    ----------
    level, mean, variance : Tensor
        In one unit, and its square.

    Returns
    -------
    Tensor
        Nats.
    """
    return 0.5 * math.log(2 * math.pi) + 0.5 * variance.log() + 0.5 * (level - mean) ** 2 / variance
