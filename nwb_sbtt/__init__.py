"""Selective backpropagation through time for NWB files.

The names that most analyses need are here; everything else is in submodules: `config` (every setting), `data`
(splits, bandwidth limits, merging), `calcium` (events in fluorescence), `dynamics` (fixed points, flow and forecasts of learned
systems), `models` (and how to add one), `simulate` (systems with known truth), `evaluate` (scores and baselines), `plot`,
`report`, `dandi` and `nlb`. All are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "Chop": "config",
    "FitConfig": "config",
    "Fitted": "fitting.fitted",
    "ReadConfig": "config",
    "SearchConfig": "config",
    "SBTT": "exchange.estimator",
    "Trials": "config",
    "Window": "config",
    "WriteConfig": "config",
    "compare": "runs.comparison",
    "decode": "evaluate.decoding",
    "fit": "fitting.fit",
    "fit_all": "runs.fitall",
    "from_numpy": "exchange.arrays",
    "from_pynapple": "exchange.recordings",
    "from_spikeinterface": "exchange.recordings",
    "from_xarray": "exchange.arrays",
    "inspect": "io.read.candidates",
    "interval": "evaluate.intervals",
    "load": "fitting.loading",
    "read_behaviour": "io.read.behaviour",
    "read_nwb": "io.read.reader",
    "read_result": "io.write.results",
    "schedule": "fitting.schedule",
    "search": "searching.search",
    "split": "data.splits",
    "to_mat": "exchange.results",
    "to_pandas": "exchange.results",
    "to_pynapple": "exchange.results",
    "with_inputs": "data.inputs",
    "write_mask": "io.write.mask",
    "write_nwb": "io.write.writer",
}
_SUBMODULES = {
    "calcium": "calcium",
    "config": "config",
    "dandi": "io.dandi",
    "data": "data",
    "dynamics": "fitting.dynamics",
    "evaluate": "evaluate",
    "models": "models",
    "nlb": "nlb",
    "plot": "plot",
    "report": "report",
    "simulate": "simulate",
}

__version__ = version("nwb_sbtt")
__all__ = ["__version__", *_HOMES, *_SUBMODULES]


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from nwb_sbtt import calcium as calcium
    from nwb_sbtt import config as config
    from nwb_sbtt import data as data
    from nwb_sbtt import evaluate as evaluate
    from nwb_sbtt import models as models
    from nwb_sbtt import nlb as nlb
    from nwb_sbtt import plot as plot
    from nwb_sbtt import report as report
    from nwb_sbtt import simulate as simulate
    from nwb_sbtt.config import Chop as Chop
    from nwb_sbtt.config import FitConfig as FitConfig
    from nwb_sbtt.config import ReadConfig as ReadConfig
    from nwb_sbtt.config import SearchConfig as SearchConfig
    from nwb_sbtt.config import Trials as Trials
    from nwb_sbtt.config import Window as Window
    from nwb_sbtt.config import WriteConfig as WriteConfig
    from nwb_sbtt.data.inputs import with_inputs as with_inputs
    from nwb_sbtt.data.splits import split as split
    from nwb_sbtt.evaluate.decoding import decode as decode
    from nwb_sbtt.evaluate.intervals import interval as interval
    from nwb_sbtt.exchange.arrays import from_numpy as from_numpy
    from nwb_sbtt.exchange.arrays import from_xarray as from_xarray
    from nwb_sbtt.exchange.estimator import SBTT as SBTT
    from nwb_sbtt.exchange.recordings import from_pynapple as from_pynapple
    from nwb_sbtt.exchange.recordings import from_spikeinterface as from_spikeinterface
    from nwb_sbtt.exchange.results import to_mat as to_mat
    from nwb_sbtt.exchange.results import to_pandas as to_pandas
    from nwb_sbtt.exchange.results import to_pynapple as to_pynapple
    from nwb_sbtt.fitting import dynamics as dynamics
    from nwb_sbtt.fitting.fit import fit as fit
    from nwb_sbtt.fitting.fitted import Fitted as Fitted
    from nwb_sbtt.fitting.loading import load as load
    from nwb_sbtt.fitting.schedule import schedule as schedule
    from nwb_sbtt.io import dandi as dandi
    from nwb_sbtt.io.read.behaviour import read_behaviour as read_behaviour
    from nwb_sbtt.io.read.candidates import inspect as inspect
    from nwb_sbtt.io.read.reader import read_nwb as read_nwb
    from nwb_sbtt.io.write.mask import write_mask as write_mask
    from nwb_sbtt.io.write.results import read_result as read_result
    from nwb_sbtt.io.write.writer import write_nwb as write_nwb
    from nwb_sbtt.runs.comparison import compare as compare
    from nwb_sbtt.runs.fitall import fit_all as fit_all
    from nwb_sbtt.searching.search import search as search
else:  # a checker that saw this would take every name, misspelt ones too
    __getattr__, _ = attach(__name__, _HOMES, _SUBMODULES)
