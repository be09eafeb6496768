"""What is wrong with settings, in words: the name as it is typed, what came, what is expected, and where it is described."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from nwb_sbtt.config.describe import classes_in, kind_in_words
from nwb_sbtt.suggestions import nearest

_LONGEST = 80
"""Characters of a value that a message shows."""


def in_words(error: ValidationError, kind: type[BaseModel], *, within: str = "", python: bool = False) -> str:
    """Name each wrong setting, its value, what is expected, and the nearest known name where the name is unknown.

    Parameters
    ----------
    error : ValidationError
        Of pydantic, from making a config.
    kind : type of Config
        Class that was to be made.
    within : str
        Dotted name of the part of the settings that it is; empty where it is all of them.
    python : bool
        Whether the class was called in Python. Else its settings came from a file or the command line.

    Returns
    -------
    str
        One line.

    Examples
    --------
    >>> from nwb_sbtt.config import TrainConfig
    >>> try:
    ...     TrainConfig.model_validate({"epochs": "many"})
    ... except ValidationError as error:
    ...     print(in_words(error, TrainConfig, within="train"))
    setting 'train.epochs' is 'many'; expected integer ≥ 1, or null (`nwb-sbtt settings --search train.epochs` describes it)
    """
    words = _Words(kind, within, python)
    # A union has an entry for each of its members: the same words, or those of the one that was meant.
    problems = dict.fromkeys(words.explain(entry) for entry in error.errors() if not _is_other_member(entry))
    described = next((where for _, where in problems if where), "")
    return "; ".join(dict.fromkeys(text for text, _ in problems)) + described


@dataclass(frozen=True)
class _Place:
    """Where in the settings something is wrong: dotted name, field, the classes below it, and what follows the field."""

    words: tuple[str, ...]
    field: FieldInfo | None
    owner: type[BaseModel]
    kinds: tuple[type[BaseModel], ...]
    rest: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class _Words:
    kind: type[BaseModel]
    within: str
    python: bool

    def explain(self, entry: Any) -> tuple[str, str]:
        """Put one error of pydantic into words; the second text, which may be empty, says where the setting is described."""
        place, problem, value = _located(self.kind, entry["loc"]), entry["type"], entry["input"]
        name = self._name(place.words)
        if problem == "extra_forbidden":
            unknown = str(place.rest[0])
            return f"unknown setting {self._name([*place.words, unknown])!r}; {self._nearest(unknown, place)}", ""
        if problem == "union_tag_invalid":
            expected = entry["ctx"]["expected_tags"]
            return f"setting {name!r} cannot be {entry['ctx']['tag']!r}; expected one of {expected}", ""
        if problem == "union_tag_not_found" and isinstance(value, Mapping):
            key = str(entry["ctx"]["discriminator"]).strip("'")
            tags = ", ".join(repr(tag) for kind in place.kinds for tag in sorted(map(str, _tags(kind))))
            return f"setting {self._name([*place.words, key])!r} is missing; expected one of {tags}", ""
        if problem == "invalid_key":
            return f"{value!r} is not a name of a setting; expected text", ""
        if problem == "value_error":
            return f"{name}: {str(entry['msg']).removeprefix('Value error, ')}".removeprefix(": "), ""
        if place.field is None:
            known = ", ".join(self.kind.model_fields)
            what = f"setting {self.within!r} is {_short(value)}; expected settings by name" if self.within else ""
            return (what or f"expected settings by name, not {_short(value)}") + f"; available: {known}", ""
        by_name = _is_by_name(place.field)
        within = [part for part in place.rest if by_name or not isinstance(part, str)]
        if problem == "missing" and not within:
            came = "is missing"
        elif problem == "missing" or not within:
            came = f"is {_short(value)}"
        else:
            came = f"holds {_short(value)}" + (f" under {within[0]!r}" if by_name else "")
        expected = "a finite number" if problem == "finite_number" else self._expected(place.field, place.kinds)
        return f"setting {name!r} {came}; expected {expected}", self._described(name, place)

    def _name(self, words: Sequence[str]) -> str:
        return ".".join([self.within, *words] if self.within else words)

    def _expected(self, field: FieldInfo, kinds: Sequence[type[BaseModel]]) -> str:
        """What a setting may be."""
        none = "None" if self.python else "null"
        if not kinds:
            return kind_in_words(field, none=none)
        members = get_args(field.annotation)
        words = [value for part in members if get_origin(part) is Literal for value in get_args(part)]
        if self.python:
            words = [repr(word) for word in words]
        also = "".join(f", or {word}" for word in (*words, *([none] if NoneType in members else [])))
        if name := getattr(field.default, "name", None):
            return f"a name, such as {name!r}, or " + (
                f"settings, such as {type(field.default).__name__}()" if self.python else "settings by name"
            )
        if self.python:
            return f"{' or '.join(kind.__name__ for kind in kinds)}, or a dict of its settings{also}"
        if len(kinds) > 1:
            return f"settings by name{also}"
        return f"settings by name ({', '.join(kinds[0].model_fields)}){also}"

    def _described(self, name: str, place: _Place) -> str:
        if self.python:
            return f" (`help(nwb_sbtt.config.{place.owner.__name__})` describes it)"
        return f" (`nwb-sbtt settings --search {name}` describes it)"

    def _nearest(self, word: str, place: _Place) -> str:
        """Suggest a setting of the same part or, by its dotted name, one of another part; else list those of the part."""
        if self.python and "." in word:
            first = word.partition(".")[0]
            return f"dotted names work only with --set; in Python pass {first}=… with the settings of that group"
        beside = {name: self._name([*place.words, name]) for kind in place.kinds for name in kind.model_fields}
        anywhere = {name.rpartition(".")[2]: self._name([name]) for name in reversed(list(_dotted(self.kind)))}
        # A name that exists further down is meant before one that is only similar.
        if word in anywhere and word not in beside:
            return f"did you mean {anywhere[word]!r}?"
        for names in (beside, anywhere):
            if near := _similar(word, names):
                return f"did you mean {names[near]!r}?"
        return f"available: {', '.join(sorted(beside.values()))}"


def _located(kind: type[BaseModel], location: Sequence[str | int]) -> _Place:
    """Find the field that a location of pydantic lies in.

    Where a setting chooses one of several classes, pydantic names the chosen one in the location; the dotted name does not.
    """
    place = _Place((), None, kind, (kind,))
    for i, part in enumerate(location):
        owners = [found for found in place.kinds if isinstance(part, str) and part in found.model_fields]
        several = len(place.kinds) > 1
        chosen = [found for found in place.kinds if part == found.__name__ or (several and part in _tags(found))]
        if owners:
            field = owners[0].model_fields[str(part)]
            place = _Place((*place.words, str(part)), field, owners[0], tuple(classes_in(field.annotation)))
        elif chosen:
            place = _Place(place.words, place.field, place.owner, tuple(chosen))
        else:
            return _Place(place.words, place.field, place.owner, place.kinds, tuple(location[i:]))
    return place


def _is_other_member(entry: Any) -> bool:
    """Whether an error is that of a word beside a class, where settings by name came, whose own errors tell what is wrong."""
    return (
        entry["type"] == "literal_error" and isinstance(entry["input"], Mapping) and "literal[" in str(entry["loc"][-1])
    )


def path_of(kind: type[BaseModel], name: str) -> str | None:
    """Find a setting by the last part of its name, however deep it lies.

    Parameters
    ----------
    kind : type of Config
    name : str
        Dotted, as it was typed.

    Returns
    -------
    str or None
        Dotted name; None where no setting of that class, or of the classes below it, has that last part.
    """
    last = name.rpartition(".")[2]
    return next((path for path in _dotted(kind) if path.rpartition(".")[2] == last), None)


def _tags(kind: type[BaseModel]) -> set[Any]:
    """Values of the setting that chooses a class among others."""
    return {
        value for field in kind.model_fields.values() for value in get_args(field.annotation) if field.default == value
    }


def _similar(word: str, names: Collection[str]) -> str | None:
    """The name that a misspelt, shortened or former one most likely means."""
    return next(iter([*nearest(word, names), *(name for name in names if word and word in name.split("_"))]), None)


def _is_by_name(field: FieldInfo) -> bool:
    """Whether a setting holds values by name; of one that may be of several types, pydantic puts the type in that place."""
    return get_origin(field.annotation) is dict or any(get_origin(part) is dict for part in get_args(field.annotation))


def _short(value: object) -> str:
    """Show a value in a line of a message; a long one by its beginning."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}… ({type(value).__name__})"


def _dotted(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings below a class; of alternatives, those of the default where there is one."""
    for name, field in kind.model_fields.items():
        yield prefix + name
        below = [type(field.default)] if isinstance(field.default, BaseModel) else classes_in(field.annotation)
        for part in below:
            yield from _dotted(part, f"{prefix}{name}.")
