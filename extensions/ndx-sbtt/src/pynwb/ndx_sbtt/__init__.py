"""NWB extension for inferred neural dynamics: rates, signals, latent factors, observation masks and their model.

New objects check themselves: what a field may not hold is a ValueError that says what came and what is expected. Objects that
are read from a file are taken as they are, whatever version of the extension wrote them.
"""

import json
from collections.abc import Callable
from enum import StrEnum
from importlib.resources import files
from typing import Any

import numpy as np
from hdmf.data_utils import DataIO
from hdmf.utils import docval, get_data_shape, get_docval
from pynwb import get_class, load_namespaces, register_class

_NAMESPACE = "ndx-sbtt"
_SPEC = "spec/ndx-sbtt.namespace.yaml"
_beside = files(__name__) / _SPEC
_path = _beside if _beside.is_file() else files(__name__).joinpath("../../..", _SPEC)
load_namespaces(str(_path))


class LatentKind(StrEnum):
    """Which latent variables a `LatentFactorSeries` holds."""

    FACTORS = "factors"
    """What the rates or signals are read out from."""
    GENERATOR_STATES = "generator_states"
    """State of the dynamical system."""
    INFERRED_INPUTS = "inferred_inputs"
    """Input that the controller gives to the dynamical system."""
    OTHER = "other"
    """Something else, which the description explains."""


class BinReference(StrEnum):
    """Which moment of its bin a timestamp names."""

    START = "start"
    CENTER = "center"


def _checked(base: type, name: str, check: Callable[[Any, Any], Any]) -> property:
    """Return the property of a generated class, which takes what `check` makes of a value.

    The check gets the object and the value, of new objects alone: those that are read have a source.
    """
    generated = getattr(base, name)

    def put(self: Any, value: Any) -> None:
        is_read = self.container_source is not None
        generated.fset(self, value if is_read or value is None else check(self, value))

    return property(generated.fget, put, doc=generated.__doc__)


def _one_of(kinds: type[StrEnum], field: str) -> Callable[[Any, Any], str]:
    def check(item: Any, value: Any) -> str:
        if value not in list(kinds):
            expected = ", ".join(repr(str(kind)) for kind in kinds)
            raise ValueError(f"{field!r} of {item.name!r} is {str(value)!r}; expected one of {expected}")
        return str(value)

    return check


def _json(field: str) -> Callable[[Any, Any], str]:
    def check(item: Any, text: str) -> str:
        try:
            json.loads(text)
        except ValueError as error:
            raise ValueError(
                f"{field!r} of {item.name!r} is not JSON ({error}): {text[:40]!r}; make it with json.dumps"
            ) from None
        return text

    return check


def _positive(item: Any, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"'bin_width' of {item.name!r} is {value}; expected seconds, above 0")
    return value


def _rows_of_columns(item: Any, region: Any) -> Any:
    shape, rows = get_data_shape(item.data), len(region.data)
    if shape is not None and len(shape) == 2 and shape[1] is not None and shape[1] != rows:
        raise ValueError(
            f"{item.name!r} has {shape[1]} columns of data, and 'channels' names {rows} rows; expected one row a column"
        )
    return region


def _same_shape_and_unit(item: Any, sd: Any) -> Any:
    shape, other = get_data_shape(item.data), get_data_shape(sd.data)
    if shape is not None and other is not None and tuple(shape) != tuple(other):
        raise ValueError(f"'posterior_sd' of {item.name!r} has shape {other}, and the data {shape}; expected the same")
    if sd.unit != item.unit:
        raise ValueError(
            f"'posterior_sd' of {item.name!r} is in {sd.unit!r}, and the data in {item.unit!r}; expected the same"
        )
    return sd


def _hertz(item: Any, unit: str) -> str:
    if unit != "Hz":
        raise ValueError(
            f"rates of {item.name!r} are in {unit!r}; expected 'Hz': divide counts per bin by the width of a bin in seconds"
        )
    return unit


_Model = get_class("LatentVariableModel", _NAMESPACE)


@register_class("LatentVariableModel", _NAMESPACE)
class LatentVariableModel(_Model):  # type: ignore[misc, valid-type]
    """Record of the model behind a set of estimates."""

    bin_width = _checked(_Model, "bin_width", _positive)
    bin_reference = _checked(_Model, "bin_reference", _one_of(BinReference, "bin_reference"))
    config = _checked(_Model, "config", _json("config"))
    environment = _checked(_Model, "environment", _json("environment"))
    metrics = _checked(_Model, "metrics", _json("metrics"))
    details = _checked(_Model, "details", _json("details"))
    input_description = _checked(_Model, "input_description", _json("input_description"))


_Signal = get_class("InferredSignalSeries", _NAMESPACE)


@register_class("InferredSignalSeries", _NAMESPACE)
class InferredSignalSeries(_Signal):  # type: ignore[misc, valid-type]
    """A model's estimate of the noise-free signal of each channel, in the unit of the recorded signal."""

    channels = _checked(_Signal, "channels", _rows_of_columns)
    posterior_sd = _checked(_Signal, "posterior_sd", _same_shape_and_unit)


_Rates = get_class("InferredRateSeries", _NAMESPACE)


@register_class("InferredRateSeries", _NAMESPACE)
class InferredRateSeries(_Rates):  # type: ignore[misc, valid-type]
    """A model's estimate of the rate of each channel's events, in Hz."""

    unit = _checked(_Rates, "unit", _hertz)


_Factors = get_class("LatentFactorSeries", _NAMESPACE)


@register_class("LatentFactorSeries", _NAMESPACE)
class LatentFactorSeries(_Factors):  # type: ignore[misc, valid-type]
    """Latent variables of a model over time."""

    kind = _checked(_Factors, "kind", _one_of(LatentKind, "kind"))
    posterior_sd = _checked(_Factors, "posterior_sd", _same_shape_and_unit)


_Mask = get_class("ObservationMaskSeries", _NAMESPACE)


@register_class("ObservationMaskSeries", _NAMESPACE)
class ObservationMaskSeries(_Mask):  # type: ignore[misc, valid-type]
    """Where a measurement exists: 1 where the channel was measured at that time, 0 where it was not."""

    channels = _checked(_Mask, "channels", _rows_of_columns)

    @docval(*get_docval(_Mask.__init__))
    def __init__(self, **kwargs: Any) -> None:
        if self.container_source is None:
            kwargs["data"] = _mask(kwargs["name"], kwargs["data"])
        super().__init__(**kwargs)


def _mask(name: str, data: Any) -> Any:
    """Return a mask as uint8, if it holds 0 and 1 alone; data that come in parts are not looked at."""
    values = data.data if isinstance(data, DataIO) else data
    if not isinstance(values, np.ndarray | list | tuple):
        return data
    values = np.asarray(values)
    if values.dtype.kind not in "biu" or not np.isin(values, (0, 1)).all():
        raise ValueError(f"the mask {name!r} holds {values.dtype} other than 0 and 1; expected true or false")
    if values.dtype == np.uint8:
        return data
    if isinstance(data, DataIO):
        raise ValueError(f"the mask {name!r} holds {values.dtype}; wrap it as uint8: mask.astype('uint8')")
    return values.astype(np.uint8)


__all__ = [
    "BinReference",
    "InferredRateSeries",
    "InferredSignalSeries",
    "LatentFactorSeries",
    "LatentKind",
    "LatentVariableModel",
    "ObservationMaskSeries",
]
