"""Every setting, as frozen classes that check themselves. Sizes that the data have are never settings.

`reading` holds what is taken from a file, `models` one class a model, `fitting` how a model is trained, `messages` what is
wrong with a setting, in words. Imports nothing of the package but errors and atomic files.
"""

from __future__ import annotations

from nwb_sbtt.config.base import (
    Config,
    Count,
    Finite,
    NamedConfig,
    NotNegative,
    NotNegativeInt,
    Positive,
    Share,
    build,
    load_config,
    override,
    save_config,
)
from nwb_sbtt.config.doors import LIKELIHOODS, MODELS
from nwb_sbtt.config.fitting import FitConfig, InitConfig, MaskConfig, TrainConfig
from nwb_sbtt.config.likelihoods import (
    AutoConfig,
    EdgeworthConfig,
    GammaConfig,
    GaussianConfig,
    GaussianMomentsConfig,
    LikelihoodConfig,
    PoissonConfig,
    ZeroInflatedGammaConfig,
)
from nwb_sbtt.config.models import ConvConfig, ConvolutionConfig, LadderConfig, LFADSConfig, ModelConfig, SAEConfig
from nwb_sbtt.config.reading import (
    BandwidthConfig,
    Chop,
    Cut,
    ElectricalConfig,
    EventsConfig,
    ReadConfig,
    RoiConfig,
    Trials,
    Window,
)

__all__ = [
    "LIKELIHOODS",
    "MODELS",
    "AutoConfig",
    "BandwidthConfig",
    "Chop",
    "Config",
    "ConvConfig",
    "ConvolutionConfig",
    "Count",
    "Cut",
    "EdgeworthConfig",
    "ElectricalConfig",
    "EventsConfig",
    "Finite",
    "FitConfig",
    "GammaConfig",
    "GaussianConfig",
    "GaussianMomentsConfig",
    "InitConfig",
    "LFADSConfig",
    "LadderConfig",
    "LikelihoodConfig",
    "MaskConfig",
    "ModelConfig",
    "NamedConfig",
    "NotNegative",
    "NotNegativeInt",
    "PoissonConfig",
    "Positive",
    "ReadConfig",
    "RoiConfig",
    "SAEConfig",
    "Share",
    "TrainConfig",
    "Trials",
    "Window",
    "ZeroInflatedGammaConfig",
    "build",
    "load_config",
    "override",
    "save_config",
]
