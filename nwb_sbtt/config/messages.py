"""What is wrong with settings, in words."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def in_words(error: ValidationError, kind: type[BaseModel], *, within: str = "") -> str:
    """Name each wrong setting of a config class, what came, and the nearest known name where the name is unknown."""
    return "; ".join(_explain(kind, entry, within) for entry in error.errors())


def _explain(kind: type[BaseModel], entry: Any, within: str) -> str:
    place = [*([within] if within else []), *(str(part) for part in entry["loc"])]
    name = ".".join(place)
    if entry["type"] == "extra_forbidden":
        names = sorted(_names(kind.model_json_schema()))
        near = difflib.get_close_matches(place[-1], names, n=1)
        return f"unknown setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; known are {names}")
    if entry["type"] == "union_tag_invalid":
        context = entry["ctx"]
        return f"setting {name!r} cannot be {context['tag']!r}; expected one of {context['expected_tags']}"
    if entry["type"] == "missing":
        return f"setting {name!r} is missing"
    said = str(entry["msg"]).removeprefix("Value error, ")
    if not name or entry["type"] == "value_error":
        return f"{name}: {said}".removeprefix(": ")
    return f"setting {name!r} is {entry['input']!r}: {said}"


def _names(schema: Any) -> set[str]:
    """Every setting's name anywhere below a JSON schema."""
    if isinstance(schema, dict):
        own = set(schema.get("properties", {}))
        return own.union(*(_names(part) for part in schema.values()))
    if isinstance(schema, list):
        return set().union(*(_names(part) for part in schema))
    return set()
