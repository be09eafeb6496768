"""Settings of the likelihoods that come with the package: one frozen class a likelihood."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from nwb_sbtt.config.base import NamedConfig, NotNegative, Seconds


class LikelihoodConfig(NamedConfig):
    """Settings of a likelihood. Those of another package derive from this class."""


class AutoConfig(LikelihoodConfig):
    """What suits the data: Poisson for counts, zero-inflated gamma for sizes of events, Gaussian for all else."""

    name: Literal["auto"] = Field(default="auto", description="Chooses the likelihood that suits the data.")


class PoissonConfig(LikelihoodConfig):
    """Counts per bin."""

    in_words: ClassVar[str] = "Poisson likelihood"
    name: Literal["poisson"] = Field(default="poisson", description="Chooses the Poisson likelihood.")


class GaussianConfig(LikelihoodConfig):
    """Signals with normal noise."""

    in_words: ClassVar[str] = "Gaussian likelihood"
    name: Literal["gaussian"] = Field(default="gaussian", description="Chooses the Gaussian likelihood.")


class GammaConfig(LikelihoodConfig):
    """Positive signals."""

    in_words: ClassVar[str] = "gamma likelihood"
    name: Literal["gamma"] = Field(default="gamma", description="Chooses the gamma likelihood.")


class ZeroInflatedGammaConfig(LikelihoodConfig):
    """Sizes of deconvolved calcium events, most of them zero (Zhu et al. 2022)."""

    in_words: ClassVar[str] = "zero-inflated gamma likelihood"
    name: Literal["zig"] = Field(default="zig", description="Chooses the zero-inflated gamma likelihood.")
    smallest_event: NotNegative | None = Field(
        default=None,
        description="Lower limit of event sizes, in the unit of the data; every event is larger. Default: the coordinate "
        "`smallest_event` of the channels; 0 where the data have none.",
    )


class FluorescenceConfig(LikelihoodConfig):
    """Settings that likelihoods of the moments of fluorescence share."""

    indicator: str | None = Field(
        default=None,
        description='Calcium indicator, such as "GCaMP6f". Its decay time is the centre of the prior of each channel\'s decay '
        "time. Default: a wide prior.",
    )
    decay_time: Seconds | None = Field(
        default=None, description="Decay time of the fluorescence after a spike. Default: measured in each channel."
    )


class GaussianMomentsConfig(FluorescenceConfig):
    """Fluorescence with the mean and variance that rates of spikes give it."""

    in_words: ClassVar[str] = "likelihood of two moments"
    name: Literal["gaussian_moments"] = Field(
        default="gaussian_moments", description="Chooses the likelihood of two moments."
    )


class EdgeworthConfig(FluorescenceConfig):
    """Fluorescence with the mean, variance, skewness and kurtosis that rates of spikes give it."""

    in_words: ClassVar[str] = "likelihood of four moments"
    name: Literal["edgeworth"] = Field(default="edgeworth", description="Chooses the likelihood of four moments.")


LIKELIHOOD_CONFIGS: dict[str, type[LikelihoodConfig]] = {
    "auto": AutoConfig,
    "poisson": PoissonConfig,
    "gaussian": GaussianConfig,
    "gamma": GammaConfig,
    "zig": ZeroInflatedGammaConfig,
    "gaussian_moments": GaussianMomentsConfig,
    "edgeworth": EdgeworthConfig,
}
"""Of the package's own likelihoods, which are known without importing these."""


def likelihood_in_words(name: str) -> str:
    """Return what a likelihood is called in a sentence.

    Parameters
    ----------
    name : str
        Name in settings; of a likelihood of another package it is kept.

    Returns
    -------
    str

    Examples
    --------
    >>> likelihood_in_words("zig")
    'zero-inflated gamma likelihood'
    >>> likelihood_in_words("bounded")
    'bounded likelihood'
    """
    return str(getattr(LIKELIHOOD_CONFIGS.get(name), "in_words", f"{name} likelihood"))
