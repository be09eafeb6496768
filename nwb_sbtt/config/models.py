"""Settings of the models that come with the package: one frozen class a model, with only the fields that it uses."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nwb_sbtt.config.base import (
    Count,
    NamedConfig,
    NotNegative,
    NotNegativeInt,
    Positive,
    Seconds,
    SecondsOrZero,
    Share,
)
from nwb_sbtt.config.describe import Unit

Smoothing = Annotated[
    tuple[Positive, ...],
    Unit("bins"),
    Field(
        min_length=1,
        description="Standard deviations of Gaussian kernels. The encoder gets the data and, for each kernel, a "
        "smoothed copy of the data.",
    ),
]


class ModelConfig(NamedConfig):
    """Settings of a model. Those of another package derive from this class."""


class SAEConfig(ModelConfig):
    """Smallest sequential autoencoder: a bidirectional GRU, a GRU unrolled from its last states, a linear read-out."""

    name: Literal["sae"] = Field(default="sae", description="Chooses the sequential autoencoder.")
    encoder: Count = Field(
        default=64, description="Units of the encoder in each direction, and features of the read-in."
    )
    generator: Count = Field(default=64, description="Units of the generator.")
    factors: Count = Field(default=16, description="Number of latent factors.")
    dropout: Share = Field(
        default=0.1, description="Dropout of the encoder's input and states and of the generator's states."
    )
    smoothing: Smoothing = (1.0, 2.0, 4.0, 8.0)


class LFADSConfig(ModelConfig):
    """LFADS (Sussillo et al. 2016; Pandarinath et al. 2018; Keshtkaran et al. 2022)."""

    name: Literal["lfads"] = Field(default="lfads", description="Chooses LFADS.")
    read_in: Count = Field(default=32, description="Number of features that the read-in computes from the channels.")
    encoder: Count = Field(
        default=64,
        description=(
            "Units of the encoder in each direction. One encoder is used for the initial condition and the controller."
        ),
    )
    initial_condition: Count = Field(default=64, description="Dimensions of the latent initial condition.")
    controller: Count = Field(default=32, description="Units of the controller.")
    inputs: NotNegativeInt = Field(
        default=4,
        description=(
            "Number of inferred inputs of the generator; with 0 there is no controller, and the dynamics are "
            "autonomous."
        ),
    )
    generator: Count = Field(default=64, description="Units of the generator, which is a GRU.")
    factors: Count = Field(default=16, description="Number of latent factors read out of the generator.")
    dropout: Share = Field(
        default=0.1,
        description="Dropout of the encoder's input and states and of the generator's states, drawn in every bin.",
    )
    smoothing: Smoothing = (1.0, 2.0, 4.0, 8.0)
    ic_prior_sd: Positive = Field(
        default=0.316,
        description="Standard deviation of the Gaussian prior of the initial condition; the prior's mean is learned.",
    )
    input_prior: Literal["gaussian", "autoregressive"] = Field(
        default="autoregressive",
        description="Prior of the inferred inputs: independent in time, or a first-order autoregressive process.",
    )
    input_prior_tau: Annotated[Positive, Unit("bins")] = Field(
        default=10.0, description="Initial time constant of the autoregressive prior, which is learned."
    )
    input_prior_sd: Positive = Field(
        default=0.316, description="Initial standard deviation of the prior of the inputs, which is learned."
    )
    cell_clip: Positive = Field(
        default=5.0,
        description="Largest magnitude of the generator's initial state. The states of a GRU stay within this value or ±1, "
        "whichever is larger, so later states are bounded too.",
    )


class ConvolutionConfig(ModelConfig):
    """Sizes of a convolutional model."""

    read_in: Count = Field(
        default=32, description="Number of features that the read-in computes from data and residuals."
    )
    width: Count = Field(
        default=64, description="Features in each bin between read-in and read-out; a multiple of `groups`."
    )
    layers: Count = Field(default=6, description="Layers; each refines the prediction of the one before.")
    groups: Count = Field(
        default=16,
        description="Number of kernels in a layer, each shared by width / groups features. `width` must be a multiple of it.",
    )
    max_lag: Annotated[Count, Unit("bins")] = Field(
        default=64, description="Longest lag of a kernel, backwards and forwards in time."
    )
    factors: Count = Field(default=40, description="Number of latent factors that each layer predicts.")
    dropout: Share | None = Field(
        default=None,
        description="Feature dropout, the same for a whole trial. Default: 0.4 (up to 64 training trials) to 0.1 (from 1,248).",
    )
    factor_noise: NotNegative = Field(
        default=0.5, description="Standard deviation of the Gaussian noise that is added to the factors in training."
    )
    input_memory: Count = Field(
        default=64, description="Units of the recurrent network that remembers known inputs (`read.inputs`)."
    )
    smoothing: Smoothing = (1.0, 2.0, 4.0, 8.0)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.groups:
            raise ValueError(
                f"width is {self.width} and groups is {self.groups}; expected a width that is a multiple of groups"
            )
        return self


class ConvConfig(ConvolutionConfig):
    """Gated long convolutions over all bins at once; each layer sees the data minus the prediction of the layer before."""

    name: Literal["conv"] = Field(default="conv", description="Chooses the convolutional model.")
    lag: Annotated[NotNegativeInt, Unit("bins")] | None = Field(
        default=None,
        description="Bins after its own that an estimate depends on, for use online: 0 uses past and present, 3 three later "
        "bins too. It is the look-ahead of the whole network. Default: the whole trial.",
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.lag is not None and self.lag > (most := self.layers * self.max_lag):
            raise ValueError(
                f"a lag of {self.lag} bins is farther than {self.layers} layers with kernels of {self.max_lag} bins look ahead "
                f"({most}); leave it open to use the whole trial"
            )
        return self


class LadderConfig(ConvolutionConfig):
    """From fluorescence to spikes, and from spikes to rates and latents (Prince and Richards 2019).

    The upper level is convolutional.
    """

    name: Literal["ladder"] = Field(
        default="ladder", description="Chooses the ladder model, which infers spikes and rates from fluorescence."
    )
    indicator: str | None = Field(
        default=None,
        description='Calcium indicator, such as "GCaMP6f". Its decay time is the centre of the prior of each channel\'s decay '
        "time, and its rise time is used. Default: a wide prior, and a rise time of 0.",
    )
    decay_time: Seconds | None = Field(
        default=None, description="Decay time of the fluorescence after a spike. Default: measured in each channel."
    )
    rise_time: SecondsOrZero | None = Field(
        default=None,
        description="Rise time of the fluorescence after a spike. 0: fluorescence rises fully within the bin of the spike. "
        "Default: that of the indicator; 0 if no indicator is set.",
    )


MODEL_CONFIGS: dict[str, type[ModelConfig]] = {
    "conv": ConvConfig,
    "lfads": LFADSConfig,
    "ladder": LadderConfig,
    "sae": SAEConfig,
}
"""Of the package's own models, which are known without importing these."""
