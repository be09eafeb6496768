"""Every setting, as frozen classes that check themselves. Sizes that the data have are never settings.

`reading` holds what is taken from a file, `models` and `likelihoods` one class each, `registries` those that other packages
register, `fitting` how a model is trained, `searching` how its settings are searched, `writing` what result files hold,
`listing` all settings as rows, `describe` one setting in words, `messages` what is wrong with one. Every field has a
description: what it does, its unit and range, and its default where that is chosen later; `help` shows them. Imports nothing
of the package but errors, the registry and atomic files.
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
    Seconds,
    SecondsOrZero,
    Share,
    Time,
    build,
    load_config,
    override,
    save_config,
)
from nwb_sbtt.config.describe import Unit
from nwb_sbtt.config.fitting import FitConfig, InitConfig, MaskConfig, SessionsConfig, TrainConfig
from nwb_sbtt.config.likelihoods import (
    AutoConfig,
    EdgeworthConfig,
    FluorescenceConfig,
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
from nwb_sbtt.config.registries import LIKELIHOODS, MODELS
from nwb_sbtt.config.searching import SearchConfig
from nwb_sbtt.config.writing import WriteConfig

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
    "FluorescenceConfig",
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
    "SearchConfig",
    "Seconds",
    "SecondsOrZero",
    "SessionsConfig",
    "Share",
    "Time",
    "TrainConfig",
    "Trials",
    "Unit",
    "Window",
    "WriteConfig",
    "ZeroInflatedGammaConfig",
    "build",
    "load_config",
    "override",
    "save_config",
]
