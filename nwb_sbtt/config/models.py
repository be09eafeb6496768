"""Settings of the models that come with the package: one frozen class a model, with only the fields that it uses."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nwb_sbtt.config.base import Config, Count, NotNegative, NotNegativeInt, Positive, Share


class SAEConfig(Config):
    """Smallest sequential autoencoder: a bidirectional GRU, a GRU unrolled from its last states, a linear read-out."""

    name: Literal["sae"] = "sae"
    encoder: Count = 64
    generator: Count = 64
    factors: Count = 16
    dropout: Share = 0.1
    smoothing: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0, 4.0, 8.0)
    """Sds, in bins, of the Gaussians through which the encoder sees its input beside the input itself."""


class LFADSConfig(Config):
    """LFADS (Sussillo et al. 2016; Pandarinath et al. 2018; Keshtkaran et al. 2022)."""

    name: Literal["lfads"] = "lfads"
    read_in: Count = 32
    encoder: Count = 64
    initial_condition: Count = 64
    controller: Count = 32
    inputs: NotNegativeInt = 1
    generator: Count = 64
    factors: Count = 16
    dropout: Share = 0.1
    smoothing: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0, 4.0, 8.0)
    """Sds, in bins, of the Gaussians through which the encoder sees its input beside the input itself."""
    ic_prior_sd: Positive = 0.316
    input_prior: Literal["gaussian", "autoregressive"] = "autoregressive"
    input_prior_tau: Positive = 10.0
    """Bins."""
    input_prior_sd: Positive = 0.316
    state_limit: Positive = 5.0


class ConvolutionConfig(Config):
    """Sizes of a convolutional model."""

    read_in: Count = 32
    width: Count = 64
    layers: Count = 6
    groups: Count = 16
    """Kernels a layer; divides the width."""
    reach: Count = 64
    """Farthest lag of a kernel, in bins."""
    factors: Count = 40
    dropout: Share | None = None
    """Of features of whole trials; None goes from .4 where 64 trials train, or fewer, to .1 where 1248 do."""
    noise: NotNegative = 0.5
    """Sd of the noise on the factors in training."""
    smoothing: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0, 4.0, 8.0)
    """Sds, in bins, of the Gaussians through which the model sees its input beside the input itself."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.groups:
            raise ValueError(f"{self.groups} groups do not divide a width of {self.width}")
        return self


class ConvConfig(ConvolutionConfig):
    """Gated long convolutions that read the data again after each guess; all bins at once."""

    name: Literal["conv"] = "conv"


class LadderConfig(ConvolutionConfig):
    """From fluorescence to spikes, and from spikes to rates and latents (Prince and Richards 2019), with a convolutional top.

    ``indicator`` names the calcium indicator ("GCaMP6f", …) whose decay is the prior of each channel's and whose rise is taken;
    None takes a wide prior and no rise. ``decay`` and ``rise`` [s] set the decay time instead of measuring it, and the
    rise's; 0 is fluorescence in which a spike shows in full at the end of its bin.
    """

    name: Literal["ladder"] = "ladder"
    indicator: str | None = None
    decay: Positive | None = None
    rise: NotNegative | None = None


ModelConfig = Annotated[SAEConfig | LFADSConfig | ConvConfig | LadderConfig, Field(discriminator="name")]
