"""A setting in words: its kind, range, unit and default, and the docstring that a config class gets from its fields."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_NAMES = {
    bool: ("true or false", "truth values"),
    int: ("integer", "integers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    Path: ("path", "paths"),
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class Unit:
    """Unit of a setting, put into its annotation: ``Annotated[Positive, Unit("s")]``.

    Parameters
    ----------
    symbol : str
        Such as "s" or "Hz", or what is counted, such as "bins".
    """

    symbol: str


def kind_in_words(field: FieldInfo, *, none: str = "null") -> str:
    """Describe the values that a setting takes: kind, range and unit.

    Parameters
    ----------
    field : pydantic.fields.FieldInfo
    none : str
        Word for None, which is ``null`` in YAML.

    Examples
    --------
    >>> from nwb_sbtt.config import TrainConfig
    >>> kind_in_words(TrainConfig.model_fields["patience"])
    'integer ≥ 1 (epochs), or null'
    """
    return _kind(field.annotation, field.metadata, none)


def default_in_words(field: FieldInfo, *, none: str = "null") -> str:
    """Write the default of a setting as YAML takes it; "required" where there is none.

    Parameters
    ----------
    field : pydantic.fields.FieldInfo
    none : str
        Word for None, which is ``null`` in YAML.

    Returns
    -------
    str
    """
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return none
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", "its defaults"))
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, float) and value >= 1e6:
        return f"{value:g}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def docstring(kind: type[BaseModel], summary: str | None) -> str:
    """Put the settings of a config class below what its docstring says, in numpydoc's layout.

    Parameters
    ----------
    kind : type of Config
        Class whose fields are settings.
    summary : str or None
        What its docstring says; None for no more than its name.

    Returns
    -------
    str
        In numpydoc's layout.
    """
    lines = [inspect.cleandoc(summary or kind.__name__), "", "Parameters", "----------"]
    for name, field in kind.model_fields.items():
        default = default_in_words(field, none="None")
        if default != "required":
            default = f"default: {default}"
        lines.append(f"{name} : {kind_in_words(field, none='None')}, {default}")
        lines += textwrap.wrap(
            field.description or "", 84, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )
    return "\n".join(lines) + "\n"


def classes_in(annotation: Any) -> list[type[BaseModel]]:
    """Config classes that a type names, such as the alternatives of a setting.

    Parameters
    ----------
    annotation : type
        Of a field; it may be optional, a union, or annotated.

    Examples
    --------
    >>> from nwb_sbtt.config import Chop, Window
    >>> [kind.__name__ for kind in classes_in(Chop | Window | None)]
    ['Chop', 'Window']
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in classes_in(part)]


def _kind(annotation: Any, metadata: Iterable[Any], none: str) -> str:
    """Kind, range and unit of a type and what is annotated to it."""
    annotation, metadata = unpacked(annotation, metadata)
    if get_origin(annotation) in (Union, UnionType):
        members = get_args(annotation)
        parts = [member for member in members if member is not NoneType]
        words = " or ".join(dict.fromkeys(_kind(part, metadata, none) for part in parts))
        return f"{words}, or {none}" if NoneType in members else words
    return _noun(annotation, metadata, none, plural=False)


def _noun(annotation: Any, metadata: Iterable[Any], none: str, *, plural: bool) -> str:
    annotation, metadata = unpacked(annotation, metadata)
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(member) for member in members)
    if origin is tuple:
        words = _noun(members[0], (), none, plural=True)
        some = f"{len(members)}" if members[-1] is not Ellipsis else "list of"
        return f"{some} {words}" + _unit(metadata)
    if origin is dict:
        return f"{_noun(members[0], (), none, plural=False)}: {_noun(members[1], (), none, plural=False)}"
    if origin in (Union, UnionType):
        return " or ".join(_noun(member, (), none, plural=plural) for member in members)
    if annotation in _NAMES:
        return _NAMES[annotation][plural] + _range(metadata) + _unit(metadata)
    return "settings" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else str(annotation)


def unpacked(annotation: Any, metadata: Iterable[Any]) -> tuple[Any, list[Any]]:
    """Part a type from what is annotated to it.

    Parameters
    ----------
    annotation : type
    metadata : iterable
        What else is known to be annotated to it.

    Returns
    -------
    type, list
        The type itself, and all that is annotated to it, flat.
    """
    flat = list(metadata)
    while get_origin(annotation) is Annotated:
        annotation, *added = get_args(annotation)
        flat += added
    nested = [item for entry in flat if isinstance(entry, FieldInfo) for item in entry.metadata]
    return annotation, [entry for entry in flat if not isinstance(entry, FieldInfo)] + nested


def _range(metadata: Iterable[Any]) -> str:
    """Bounds of a number, such as ``≥ 0, < 1``."""
    bounds = [(sign, getattr(entry, bound, None)) for entry in metadata for bound, sign in _BOUNDS.items()]
    words = [f"{sign} {value:g}" for sign, value in bounds if value is not None]
    return " " + ", ".join(words) if words else ""


def _unit(metadata: Iterable[Any]) -> str:
    symbols = [entry.symbol for entry in metadata if isinstance(entry, Unit)]
    return f" ({symbols[0]})" if symbols else ""
