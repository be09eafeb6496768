"""Fluorescence with the mean and variance that rates of spikes give it."""

from __future__ import annotations

import math

from torch import Tensor

from nwb_sbtt.config import GaussianMomentsConfig
from nwb_sbtt.nn.likelihoods.moments import Moments


class GaussianMoments(Moments):
    """A normal density of the first two moments of shot noise, which change with the rates.

    A term is ``½ log 2π + ½ log κ_2 + (x − κ_1)² / 2 κ_2`` with x in units of what a spike adds. The Gaussian LFADS of
    Prince and Richards (2019), where a kernel of five taps, shared by all channels, is trained instead.
    """

    Config = GaussianMomentsConfig
    order = 2

    def _terms(self, level: Tensor, cumulants: tuple[Tensor, ...]) -> Tensor:
        mean, variance = cumulants
        return gaussian_terms(level, mean, variance)


def gaussian_terms(level: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Negative log-density of a normal distribution."""
    return 0.5 * math.log(2 * math.pi) + 0.5 * variance.log() + 0.5 * (level - mean) ** 2 / variance
