"""NWB extension for inferred neural dynamics: rates, signals, latent factors, observation masks and their model."""

from importlib.resources import files

from pynwb import get_class, load_namespaces

_SPEC = "spec/ndx-sbtt.namespace.yaml"
_beside = files(__name__) / _SPEC
_path = _beside if _beside.is_file() else files(__name__).joinpath("../../..", _SPEC)
load_namespaces(str(_path))

LatentVariableModel = get_class("LatentVariableModel", "ndx-sbtt")
InferredSignalSeries = get_class("InferredSignalSeries", "ndx-sbtt")
InferredRateSeries = get_class("InferredRateSeries", "ndx-sbtt")
LatentFactorSeries = get_class("LatentFactorSeries", "ndx-sbtt")
ObservationMaskSeries = get_class("ObservationMaskSeries", "ndx-sbtt")

__all__ = [
    "InferredRateSeries",
    "InferredSignalSeries",
    "LatentFactorSeries",
    "LatentVariableModel",
    "ObservationMaskSeries",
]
