"""Every setting, as frozen classes that check themselves. Sizes that the data have are never settings.

`reading` holds what is taken from a file, `models` and `likelihoods` one class each, `registries` those that other packages
register, `fitting` how a model is trained, `searching` how its settings are searched, `writing` what result files hold,
`listing` all settings as rows, `describe` one setting in words, `messages` what is wrong with one. Every field has a
description: what it does, its unit and range, and its default where that is chosen later; `help` shows them. Imports nothing
of the package but errors, the registry, lazy names and atomic files. Settings of fits, searches and results are loaded on first
use: a look at a file needs those of reading alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    config_of,
    load_config,
    override,
    save_config,
)
from nwb_sbtt.config.describe import Unit
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
    check_cut,
)
from nwb_sbtt.config.registries import LIKELIHOODS, MODELS
from nwb_sbtt.lazy import attach

_HOMES = {
    "AutoConfig": "likelihoods",
    "ConvConfig": "models",
    "ConvolutionConfig": "models",
    "DynamicsConfig": "fitting",
    "EdgeworthConfig": "likelihoods",
    "FitConfig": "fitting",
    "FluorescenceConfig": "likelihoods",
    "GammaConfig": "likelihoods",
    "GaussianConfig": "likelihoods",
    "GaussianMomentsConfig": "likelihoods",
    "InitConfig": "fitting",
    "LFADSConfig": "models",
    "LadderConfig": "models",
    "LikelihoodConfig": "likelihoods",
    "MaskConfig": "fitting",
    "ModelConfig": "models",
    "PoissonConfig": "likelihoods",
    "SAEConfig": "models",
    "SearchConfig": "searching",
    "SessionsConfig": "fitting",
    "TrainConfig": "fitting",
    "WriteConfig": "writing",
    "ZeroInflatedGammaConfig": "likelihoods",
}
__all__ = [
    "LIKELIHOODS",
    "MODELS",
    "BandwidthConfig",
    "Chop",
    "Config",
    "Count",
    "Cut",
    "ElectricalConfig",
    "EventsConfig",
    "Finite",
    "NamedConfig",
    "NotNegative",
    "NotNegativeInt",
    "Positive",
    "ReadConfig",
    "RoiConfig",
    "Seconds",
    "SecondsOrZero",
    "Share",
    "Time",
    "Trials",
    "Unit",
    "Window",
    "build",
    "check_cut",
    "config_of",
    "load_config",
    "override",
    "save_config",
    *_HOMES,
]

if TYPE_CHECKING:
    from nwb_sbtt.config.fitting import DynamicsConfig as DynamicsConfig
    from nwb_sbtt.config.fitting import FitConfig as FitConfig
    from nwb_sbtt.config.fitting import InitConfig as InitConfig
    from nwb_sbtt.config.fitting import MaskConfig as MaskConfig
    from nwb_sbtt.config.fitting import SessionsConfig as SessionsConfig
    from nwb_sbtt.config.fitting import TrainConfig as TrainConfig
    from nwb_sbtt.config.likelihoods import AutoConfig as AutoConfig
    from nwb_sbtt.config.likelihoods import EdgeworthConfig as EdgeworthConfig
    from nwb_sbtt.config.likelihoods import FluorescenceConfig as FluorescenceConfig
    from nwb_sbtt.config.likelihoods import GammaConfig as GammaConfig
    from nwb_sbtt.config.likelihoods import GaussianConfig as GaussianConfig
    from nwb_sbtt.config.likelihoods import GaussianMomentsConfig as GaussianMomentsConfig
    from nwb_sbtt.config.likelihoods import LikelihoodConfig as LikelihoodConfig
    from nwb_sbtt.config.likelihoods import PoissonConfig as PoissonConfig
    from nwb_sbtt.config.likelihoods import ZeroInflatedGammaConfig as ZeroInflatedGammaConfig
    from nwb_sbtt.config.models import ConvConfig as ConvConfig
    from nwb_sbtt.config.models import ConvolutionConfig as ConvolutionConfig
    from nwb_sbtt.config.models import LadderConfig as LadderConfig
    from nwb_sbtt.config.models import LFADSConfig as LFADSConfig
    from nwb_sbtt.config.models import ModelConfig as ModelConfig
    from nwb_sbtt.config.models import SAEConfig as SAEConfig
    from nwb_sbtt.config.searching import SearchConfig as SearchConfig
    from nwb_sbtt.config.writing import WriteConfig as WriteConfig
else:
    __getattr__, _ = attach(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
