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
    "ConvConfig": "config",
    "LFADSConfig": "config",
    "MaskConfig": "config",
    "TrainConfig": "config",
    "InitConfig": "config",
    "FitConfig": "config",
    "read_nwb": "io.reader",
    "inspect": "io.candidates",
    "write_nwb": "io.writer",
    "read_result": "io.results",
    "download": "io.dandi.download",
    "upload": "io.dandi.upload",
    "validate": "io.validation",
    "simulate_lorenz": "io.simulation",
    "simulate": "io.simulation",
    "write_simulation": "io.simulation",
    "read_truth": "io.truth",
    "lorenz": "data.simulate",
    "LorenzDynamics": "data.simulate",
    "perturbation": "data.perturbation",
    "KickedOscillation": "data.perturbation",
    "Simulation": "data.systems",
    "calcium": "data.imaging",
    "Imaging": "data.imaging",
    "subframe": "data.imaging",
    "split": "data.splits",
    "split_by_label": "data.conditions",
    "merge": "data.trials",
    "limit_bandwidth": "data.bandwidth",
    "power_saved": "data.power",
    "events": "data.events",
    "EventsConfig": "config",
    "fit": "fitting",
    "load": "fitted",
    "Fitted": "fitted",
    "interval": "evaluate.calibration",
    "write_report": "report.page",
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
    from nwb_sbtt.config import BandwidthConfig as BandwidthConfig
    from nwb_sbtt.config import Chop as Chop
    from nwb_sbtt.config import ConvConfig as ConvConfig
    from nwb_sbtt.config import ElectricalConfig as ElectricalConfig
    from nwb_sbtt.config import EventsConfig as EventsConfig
    from nwb_sbtt.config import FitConfig as FitConfig
    from nwb_sbtt.config import InitConfig as InitConfig
    from nwb_sbtt.config import LFADSConfig as LFADSConfig
    from nwb_sbtt.config import MaskConfig as MaskConfig
    from nwb_sbtt.config import ReadConfig as ReadConfig
    from nwb_sbtt.config import RoiConfig as RoiConfig
    from nwb_sbtt.config import SAEConfig as SAEConfig
    from nwb_sbtt.config import TrainConfig as TrainConfig
    from nwb_sbtt.config import Trials as Trials
    from nwb_sbtt.config import Window as Window
    from nwb_sbtt.data.bandwidth import limit_bandwidth as limit_bandwidth
    from nwb_sbtt.data.conditions import split_by_label as split_by_label
    from nwb_sbtt.data.events import events as events
    from nwb_sbtt.data.imaging import Imaging as Imaging
    from nwb_sbtt.data.imaging import calcium as calcium
    from nwb_sbtt.data.imaging import subframe as subframe
    from nwb_sbtt.data.perturbation import KickedOscillation as KickedOscillation
    from nwb_sbtt.data.perturbation import perturbation as perturbation
    from nwb_sbtt.data.power import power_saved as power_saved
    from nwb_sbtt.data.simulate import LorenzDynamics as LorenzDynamics
    from nwb_sbtt.data.simulate import lorenz as lorenz
    from nwb_sbtt.data.splits import split as split
    from nwb_sbtt.data.systems import Simulation as Simulation
    from nwb_sbtt.data.trials import merge as merge
    from nwb_sbtt.evaluate.calibration import interval as interval
    from nwb_sbtt.fitted import Fitted as Fitted
    from nwb_sbtt.fitted import load as load
    from nwb_sbtt.fitting import fit as fit
    from nwb_sbtt.io.candidates import inspect as inspect
    from nwb_sbtt.io.dandi.download import download as download
    from nwb_sbtt.io.dandi.upload import upload as upload
    from nwb_sbtt.io.reader import read_nwb as read_nwb
    from nwb_sbtt.io.results import read_result as read_result
    from nwb_sbtt.io.simulation import simulate as simulate
    from nwb_sbtt.io.simulation import simulate_lorenz as simulate_lorenz
    from nwb_sbtt.io.simulation import write_simulation as write_simulation
    from nwb_sbtt.io.truth import read_truth as read_truth
    from nwb_sbtt.io.validation import validate as validate
    from nwb_sbtt.io.writer import write_nwb as write_nwb
    from nwb_sbtt.report.page import write_report as write_report
