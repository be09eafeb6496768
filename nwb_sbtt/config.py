"""Every setting, as frozen classes that check themselves. Sizes that the data know are never settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from nwb_sbtt.errors import ConfigError
from nwb_sbtt.mistakes import in_words
from nwb_sbtt.reading import BandwidthConfig as BandwidthConfig
from nwb_sbtt.reading import Chop as Chop
from nwb_sbtt.reading import ElectricalConfig as ElectricalConfig
from nwb_sbtt.reading import EventsConfig as EventsConfig
from nwb_sbtt.reading import ReadConfig as ReadConfig
from nwb_sbtt.reading import RoiConfig as RoiConfig
from nwb_sbtt.reading import Trials as Trials
from nwb_sbtt.reading import Window as Window
from nwb_sbtt.settings import Config as Config
from nwb_sbtt.settings import Count as Count
from nwb_sbtt.settings import Finite as Finite
from nwb_sbtt.settings import NotNegative as NotNegative
from nwb_sbtt.settings import NotNegativeInt as NotNegativeInt
from nwb_sbtt.settings import Positive as Positive
from nwb_sbtt.settings import Share as Share
from nwb_sbtt.textfiles import load_settings, save_settings

# Models


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


# Fitting


class MaskConfig(Config):
    """What the encoder may see and what is scored while fitting; see ``nwb_sbtt.masks``."""

    coordinated_dropout: tuple[Share, Share] | None = None
    """Lowest and highest share of the observed entries hidden from the encoder; drawn anew for each batch. None takes half;
    for a convolutional model .7 to .9 where 64 trials train, or fewer, half where 1248 do, and in between what lies between."""
    stretch: Count | None = None
    """Bins of a channel that are hidden together. None takes single entries, and a second for a ladder and where moments follow
    from rates: what is hidden of fluorescence shows in the samples after it."""
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the observed entries of the validation trials kept from the encoder; models are compared on these."""
    held_out_channels: Share = 0.0
    """Share of the channels that are never shown to the encoder but scored in training (co-smoothing)."""


class TrainConfig(Config):
    """Optimiser, schedules and when to stop."""

    epochs: Count | None = None
    """None takes as many as make 3000 optimiser steps, at most 1000; for a convolutional model 500 to 1850 steps,
    for a ladder 500."""
    batch_size: Count | None = None
    """Trials; None takes a twentieth of the training trials, between 8 (convolutional: 16) and 64."""
    learning_rate: Positive | None = None
    """Peak of a one-cycle schedule: a linear rise over the first tenth of training, then half a cosine to zero. None takes
    .008; for a convolutional model .002 to .004."""
    weight_decay: NotNegative | None = None
    """Of weights, not of offsets. None takes .0001; for a convolutional model 1 (few trials) to .0001."""
    gradient_clip: Positive = 1.0
    averaging: Share = 0.995
    """Decay per step of the moving average of the weights, which is what is validated and kept."""
    kl_weight: NotNegative = 0.1
    """Weight of the KL divergence; 1 is the evidence lower bound at every missing fraction."""
    l2_weight: NotNegative = 0.0
    """Weight of the mean squared recurrent weight of generator and controller."""
    ramp: Share = 0.2
    """Share of training over which the KL and L2 weights rise linearly from zero."""
    patience: Count | None = None
    """Epochs without a better validation score after which training stops; None takes a third of them, 20 at least."""
    minutes: Positive | None = None
    """Stop after this many minutes."""
    checkpoint_every: Count = 5
    """Epochs between saved states; an interrupted run goes on from the last of them."""
    seed: NotNegativeInt | None = None
    """Of the first weights and of everything random in training; None takes the fit's seed."""


class InitConfig(Config):
    """A finished fit whose weights another one starts from.

    ``channels`` says whether the data have the channels of that fit: "same" carries their read-in and read-out over, "new"
    makes these afresh, and "auto" takes channels of the same ids for the same if they come from the same recording.
    ``freeze`` says what is left as it is: "none"; "dynamics" (all but read-in and read-out); "generator" (with what turns its
    state into factors); "decoder" (generator and read-out); "auto" is "dynamics" where channels are new, else "none".
    """

    run_dir: Path
    channels: Literal["auto", "same", "new"] = "auto"
    freeze: Literal["auto", "none", "dynamics", "generator", "decoder"] = "auto"
    checkpoint_sha256: str | None = None
    """Filled in by `fit`; where it is given, the weights must have it."""


class FitConfig(Config):
    """All that a fit depends on, beside the data."""

    model: ModelConfig = ConvConfig()
    likelihood: Literal["auto", "poisson", "gaussian", "gamma", "zig", "gaussian_moments", "edgeworth"] = "auto"
    """Poisson for counts, gamma for positive signals, zig (zero-inflated gamma) for sizes of events, gaussian for all else;
    gaussian_moments and edgeworth for fluorescence whose moments follow from rates of spikes, two of them or four."""
    smallest_event: NotNegative | None = None
    """Size that every event exceeds, under zig, in the data's unit; None takes the coordinate `smallest_event` of the data's
    channels, and 0 where there is none."""
    masks: MaskConfig = MaskConfig()
    train: TrainConfig = TrainConfig()
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the trials kept for validation, where the data carry no `split`."""
    samples: Count = 32
    """Posterior samples averaged by `infer`."""
    seed: NotNegativeInt = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """CPU threads; on networks of this size a second one costs more than it gives."""
    seeds: Count = 1
    """Models that share data, split and hidden entries, differ in all that is random in training, and are averaged."""
    init: InitConfig | None = None

    @property
    def training_seed(self) -> int:
        """Seed of the first weights and of everything random in training."""
        return self.seed if self.train.seed is None else self.train.seed


C = TypeVar("C", bound=Config)


def build(kind: type[C], settings: dict[str, Any]) -> C:
    """Make a config from plain values.

    Raises
    ------
    ConfigError
        Naming each wrong setting, what came, and the nearest known name where the name is unknown.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(in_words(error, kind)) from None


def load_config(kind: type[C], path: Path | str) -> C:
    """Read a config from a YAML file.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or does not fit.
    """
    return build(kind, load_settings(path))


def save_config(config: Config, path: Path | str) -> None:
    """Write a config as YAML; `load_config` gives back an equal one."""
    save_settings(config.model_dump(mode="json"), path)


def override(config: C, assignments: list[str]) -> C:
    """Change settings by ``a.b=value`` texts, values in YAML. What gets another ``name`` starts from that one's defaults.

    Raises
    ------
    ConfigError
        If a text has no ``=`` or does not name a setting.
    """
    settings = config.model_dump(mode="json")
    # Names first: what else is set is then set of what they name.
    for text in sorted(assignments, key=lambda text: not text.partition("=")[0].strip().endswith(".name")):
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} should read name=value, for example train.epochs=100")
        place = settings
        *parents, last = name.strip().split(".")
        for parent in parents:
            if place.get(parent) is None:
                place[parent] = {}
            below = place[parent]
            if not isinstance(below, dict):
                raise ConfigError(f"{name!r} is not a setting: {parent!r} has no parts")
            place = below
        try:
            chosen = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{value!r} in {text!r} is not a value that YAML can read") from None
        if parents and last == "name" and place.get(last) != chosen:
            place.clear()
        place[last] = chosen
    return build(type(config), settings)
