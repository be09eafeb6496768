"""Selective backpropagation through time for NWB files.

Public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

_HOMES = {
    "Trials": "config",
    "Window": "config",
    "Chop": "config",
    "ElectricalConfig": "config",
    "RoiConfig": "config",
    "BandwidthConfig": "config",
    "ReadConfig": "config",
    "SAEConfig": "config",
    "LFADSConfig": "config",
    "MaskConfig": "config",
    "TrainConfig": "config",
    "FitConfig": "config",
    "read_nwb": "io.reader",
    "inspect": "io.candidates",
    "write_nwb": "io.writer",
    "read_result": "io.results",
}

__version__ = version("nwb_sbtt")
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"nwb_sbtt.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'nwb_sbtt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from nwb_sbtt.config import (
        BandwidthConfig as BandwidthConfig,
    )
