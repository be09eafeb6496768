"""Edgeworth likelihood: fluorescence with mean, variance, skewness and kurtosis that follow from the rates."""

from __future__ import annotations

from torch import Tensor

from nwb_sbtt.config import EdgeworthConfig
from nwb_sbtt.nn.likelihoods.gaussian_moments import gaussian_terms
from nwb_sbtt.nn.likelihoods.moments import Moments

MOST_SKEWED = 0.8
"""Limit of skewness and of excess kurtosis, as published; those of rare spikes are too large for the expansion."""
FLOOR = 0.05
"""Smallest value of the expansion's bracket, which is negative where a skewed density has no mass. Within `MOST_SKEWED`
this adds at most 1.3 % to the integral, and the slope of the bracket's logarithm is at most 1 / FLOOR."""
FARTHEST = 8.0
"""Distance from the mean, in sds, beyond which the bracket is constant: its powers would overflow."""


class Edgeworth(Moments):
    """Edgeworth expansion of order four of the density with the first four cumulants of shot noise.

    With ``z = (x − κ_1) / √κ_2``, ``s = κ_3 / κ_2^1.5`` and ``k = κ_4 / κ_2²`` it is the normal density times
    ``1 + s He_3(z) / 6 + k He_4(z) / 24 + s² He_6(z) / 72``, where He are the probabilists' Hermite polynomials. As in the
    Edgeworth LFADS of Prince and Richards (2019), whose smaller floor of 1e-8 under that bracket makes gradients diverge.
    """

    Config = EdgeworthConfig
    order = 4

    def _terms(self, level: Tensor, cumulants: tuple[Tensor, ...]) -> Tensor:
        mean, variance, third, fourth = cumulants
        skewness = (third / variance**1.5).clamp(max=MOST_SKEWED)
        kurtosis = (fourth / variance**2).clamp(max=MOST_SKEWED)
        z = ((level - mean) / variance.sqrt()).clamp(-FARTHEST, FARTHEST)
        return gaussian_terms(level, mean, variance) - bracket(z, skewness, kurtosis).clamp(min=FLOOR).log()


def bracket(z: Tensor, skewness: Tensor, kurtosis: Tensor) -> Tensor:
    """Compute the factor by which the expansion differs from a normal density.

    Parameters
    ----------
    z : Tensor
        Standardised value.
    skewness, kurtosis : Tensor
        Skewness and excess kurtosis, of the same shape.

    Returns
    -------
    Tensor
    """
    square = z * z
    third = z * (square - 3)
    fourth = square * (square - 6) + 3
    sixth = square * (square * (square - 15) + 45) - 15
    return 1 + skewness * third / 6 + kurtosis * fourth / 24 + skewness**2 * sixth / 72
