"""What is wrong with settings, in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from nwb_sbtt.config.describe import classes_in


def in_words(error: ValidationError, kind: type[BaseModel], *, within: str = "") -> str:
    """Name each wrong setting, its value, and the nearest known name where the name is unknown.

    Parameters
    ----------
    error : ValidationError
        Of pydantic, from making a config.
    kind : type of Config
        Class that was to be made.
    within : str
        Dotted name of the part of the settings that it is; empty where it is all of them.
    """
    return "; ".join(_explain(kind, entry, within) for entry in error.errors())


def _explain(kind: type[BaseModel], entry: Any, within: str) -> str:
    words, kinds = _located(kind, entry["loc"])
    name = ".".join([within, *words] if within else words)
    if entry["type"] == "extra_forbidden":
        return f"unknown setting {name!r}; {_nearest(words[-1], kinds, kind)}"
    if entry["type"] == "union_tag_invalid":
        context = entry["ctx"]
        return f"setting {name!r} cannot be {context['tag']!r}; expected one of {context['expected_tags']}"
    if entry["type"] == "missing":
        return f"setting {name!r} is missing"
    message = str(entry["msg"]).removeprefix("Value error, ")
    if not name or entry["type"] == "value_error":
        return f"{name}: {message}".removeprefix(": ")
    return f"setting {name!r} is {entry['input']!r}: {message}"


def _located(kind: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str], list[type[BaseModel]]]:
    """Parts of a setting's dotted name, and the classes that could have it.

    Where a setting chooses one of several classes, pydantic names the chosen one in the location; the dotted name does not.
    """
    words: list[str] = []
    kinds = [kind]
    for part in location:
        fields = [found.model_fields[part] for found in kinds if isinstance(part, str) and part in found.model_fields]
        chosen = [found for found in kinds if len(kinds) > 1 and part in _tags(found)]
        if fields:
            words.append(str(part))
            kinds = classes_in(fields[0].annotation)
        elif chosen:
            kinds = chosen
        else:
            words.append(str(part))
    return words, kinds


def _tags(kind: type[BaseModel]) -> set[Any]:
    """Values of the setting that chooses a class among others."""
    return {
        value for field in kind.model_fields.values() for value in get_args(field.annotation) if field.default == value
    }


def _nearest(word: str, kinds: Sequence[type[BaseModel]], root: type[BaseModel]) -> str:
    """Suggest a setting of the same part or, by its dotted name, one of another part; else list those of the part."""
    beside = {name: name for kind in kinds for name in kind.model_fields}
    anywhere = {name.rpartition(".")[2]: name for name in reversed(list(_dotted(root)))}
    for names in (beside, anywhere):
        if near := difflib.get_close_matches(word, names, n=1):
            return f"did you mean {names[near[0]]!r}?"
    return f"known are {sorted(beside)}"


def _dotted(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings below a class; of alternatives, those of the default where there is one."""
    for name, field in kind.model_fields.items():
        yield prefix + name
        below = [type(field.default)] if isinstance(field.default, BaseModel) else classes_in(field.annotation)
        for part in below:
            yield from _dotted(part, f"{prefix}{name}.")
