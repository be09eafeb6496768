"""What all settings share: a frozen base class, the kinds of numbers they take, and how they are built, loaded and saved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from nwb_sbtt.atomic import write_text
from nwb_sbtt.config.describe import Unit, classes_in, docstring, unpacked
from nwb_sbtt.config.messages import in_words
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.fileerrors import FileErrors, check_is_file, reason_of

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
LARGEST_INT = 2**63 - 1
"""Largest whole number that seeds of torch and sizes of arrays can be."""


def _representable(value: int) -> int:
    if value > LARGEST_INT:
        raise ValueError("expected a whole number from 0 to 2**63 − 1")
    return value


NotNegativeInt = Annotated[int, Field(ge=0), AfterValidator(_representable)]
Seconds = Annotated[Positive, Unit("s")]
SecondsOrZero = Annotated[NotNegative, Unit("s")]
Time = Annotated[Finite, Unit("s")]
"""On the session clock or from an event; may be negative."""


MOST_VALUES = 1_000_000
"""Values that a file of settings may hold."""


if TYPE_CHECKING:  # A checker takes the signature of a class from its fields.
    _Checked = BaseModel
else:

    class _ErrorsInWords(type(BaseModel)):
        """Class of config classes: what is wrong in a call is raised as the package's own error."""

        def __call__(cls, *values: object, **settings: object) -> object:
            if values:
                first = next((name for name, field in cls.model_fields.items() if field.is_required()), "NAME")
                raise ConfigError(f"{cls.__name__} takes settings by name, such as {first}=…, not {values[0]!r}")
            try:
                return super().__call__(**settings)
            except ValidationError as error:
                raise ConfigError(in_words(error, cls, python=True)) from None

    class _Checked(BaseModel, metaclass=_ErrorsInWords):
        pass


class Config(_Checked):
    """Base of all settings: frozen, and an unknown name is an error.

    The docstring of each class gets a section of its settings, from the descriptions of its fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Write the fields into the docstring, where `help` shows them."""
        cls.__doc__ = docstring(cls, cls.__dict__.get("__doc__"))

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, settings: object) -> object:
        """Refuse true and false where a number is expected; pydantic, as Python, takes them for 1 and 0."""
        given = settings if isinstance(settings, Mapping) else {}
        wrong = [
            InitErrorDetails(
                type=PydanticCustomError("truth_value", "true and false are not numbers"), loc=(name,), input=value
            )
            for name, value in given.items()
            if name in cls.model_fields and _holds_truth(value) and not _takes_truth(cls.model_fields[name].annotation)
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return settings

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse every change."""
        raise ConfigError(
            f"settings cannot be changed: {type(self).__name__}.{name} is {getattr(self, name, None)!r}; make a "
            f"changed copy, for example with nwb_sbtt.config.override(settings, ['{name}=…'])"
        )


class NamedConfig(Config):
    """Settings of one of several things of a kind, known by its name."""

    name: str = Field(default="", description="Name of the class that these settings belong to.")


C = TypeVar("C", bound=Config)


def build(kind: type[C], settings: dict[str, Any], *, within: str = "") -> C:
    """Make a config from plain values, such as those of a YAML file.

    Parameters
    ----------
    kind : type of Config
        Class of the config.
    settings : dict
        Values by name; a dict for a part of the config. What is not named has its default.
    within : str
        Dotted name in front of those of the settings in messages, such as "read".

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        Naming each wrong setting, its value, and the nearest known name where the name is unknown.

    Examples
    --------
    >>> from nwb_sbtt.config import FitConfig, build
    >>> build(FitConfig, {"train": {"epochs": 3}}).train.epochs
    3
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(in_words(error, kind, within=within)) from None


def config_of(kind: type[C], given: object, *, name: str = "config") -> C:
    """Return the settings that a function was given.

    Parameters
    ----------
    kind : type of Config
    given : Config, mapping or None
        A mapping holds values by name, with a mapping for a part; a name may be dotted, as for ``--set``. None is the defaults.
    name : str
        Of the argument, for the error.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        If it is anything else, or a setting in it is wrong.

    Examples
    --------
    >>> from nwb_sbtt.config import FitConfig, config_of
    >>> config_of(FitConfig, {"train": {"epochs": 3}, "model.name": "lfads"}).model.name
    'lfads'
    """
    if given is None:
        return kind()
    if isinstance(given, kind):
        return given
    if isinstance(given, Mapping):
        dotted = {key: value for key, value in given.items() if isinstance(key, str) and "." in key}
        return override(build(kind, {key: value for key, value in given.items() if key not in dotted}), dotted)
    came = repr(given) if isinstance(given, str) else f"a {type(given).__name__}"
    also = f"; nwb_sbtt.config.load_config({kind.__name__}, path) reads a file" if isinstance(given, str | Path) else ""
    raise ConfigError(f"{name} is {came}; expected a {kind.__name__}, or a dict of its settings{also}")


def load_config(kind: type[C], path: Path | str) -> C:
    """Load a config from a YAML file.

    Parameters
    ----------
    kind : type of Config
        Class of the config.
    path : path

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or holds settings that the class does not have.
    """
    return build(kind, load_settings(path))


def save_config(config: Config, path: Path | str) -> None:
    """Save a config as YAML, atomically; `load_config` returns an equal one.

    Parameters
    ----------
    config : Config
    path : path

    Raises
    ------
    FileError
        If the disk is full or not writable.
    """
    save_settings(config.model_dump(mode="json"), path)


def override(config: C, assignments: str | Sequence[str] | Mapping[str, object], *, within: str = "") -> C:
    """Change settings by assignments, as ``--set`` takes them.

    Parameters
    ----------
    config : Config
        Stays as it is.
    assignments : str, sequence of str, or mapping
        One or several such as ``"train.epochs=100"``, or ``{"train.epochs": 100}``: dotted name and value in YAML; a list also
        as ``1,2``. A later one overrides an earlier one. An assignment of ``….name`` comes first: a model with another name
        starts from its own defaults.
    within : str
        Dotted name in front of those of the settings in messages, such as "read".

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        If an assignment has no ``=``, does not name a setting, or its value is not allowed.

    Examples
    --------
    >>> from nwb_sbtt.config import FitConfig, override
    >>> override(FitConfig(), ["model.factors=8", "model.name=lfads"]).model.factors
    8
    """
    assignments = _as_assignments(assignments)
    prefix = f"{within}." if within else ""
    settings = config.model_dump(mode="json")
    # Names first: what else is set is then set of what they name.
    for text in sorted(assignments, key=lambda text: not text.partition("=")[0].strip().endswith(".name")):
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{prefix + text!r} should read name=value, for example train.epochs=100")
        place = settings
        *parents, last = name.strip().split(".")
        for i, parent in enumerate(parents):
            if place.get(parent) is None or _may_have_parts(place[parent], _field_at(config, parents[: i + 1])):
                place[parent] = {}
            below = place[parent]
            if not isinstance(below, dict):
                raise ConfigError(
                    f"{prefix + name!r} is not a setting: {parent!r} is one value without settings below it"
                )
            place = below
        try:
            chosen = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{value!r} in {prefix + text!r} is not a value that YAML can read") from None
        if (field := _field_at(config, [*parents, last])) is not None:
            chosen = _as_list(chosen, field)
        if parents and last == "name" and place.get(last) != chosen:
            place.clear()
        place[last] = chosen
    return build(type(config), settings, within=within)


def _as_assignments(given: object) -> list[str]:
    """Assignments as texts."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, Mapping):
        # A text is one in YAML, as for --set.
        return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()]
    parts: list[object] = list(given) if isinstance(given, Iterable) else [given]
    texts = [part for part in parts if isinstance(part, str)]
    if odd := [part for part in parts if not isinstance(part, str)]:
        raise ConfigError(f"got {odd[0]!r}; expected assignments, such as ['train.epochs=100'], or a dict of settings")
    return texts


def _field_at(config: Config, words: Sequence[str]) -> FieldInfo | None:
    """Field of a setting by the parts of its dotted name; None where there is none."""
    value: Any = config
    kinds: list[type[BaseModel]] = [type(config)]
    field = None
    for word in words:
        field = next((kind.model_fields[word] for kind in kinds if word in kind.model_fields), None)
        if field is None:
            return None
        value = getattr(value, word, None)
        kinds = [type(value)] if isinstance(value, BaseModel) else classes_in(field.annotation)
    return field


def _may_have_parts(value: object, field: FieldInfo | None) -> bool:
    """Tell whether a value is a word, such as "auto", in whose place settings may stand."""
    return isinstance(value, str) and field is not None and bool(classes_in(field.annotation))


def _holds_truth(value: object) -> bool:
    return any(isinstance(each, bool) for each in (value if isinstance(value, list | tuple) else (value,)))


def _takes_truth(annotation: object) -> bool:
    """Tell whether a setting may be true or false, or hold them."""
    return annotation is bool or any(_takes_truth(member) for member in get_args(annotation))


def _as_list(value: object, field: FieldInfo) -> object:
    """Read ``1,2`` as ``[1, 2]``, and one value as a list of it, where a setting takes lists and no such text or number."""
    members = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    bare = [unpacked(member, ())[0] for member in members]
    lists = [member for member in bare if get_origin(member) is tuple]
    words = [word for member in members if get_origin(member) is Literal for word in get_args(member)]
    if not lists or value in words or not isinstance(value, str | int | float) or isinstance(value, bool):
        return value
    if isinstance(value, str) and "," in value:
        return [yaml.safe_load(part) for part in value.split(",") if part.strip()]
    return [value] if any(get_args(kind)[-1] is Ellipsis for kind in lists) and str not in members else value


def load_settings(path: Path | str) -> dict[str, Any]:
    """Read the names and values of a YAML file, unchecked.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        Empty where the file is.

    Raises
    ------
    ConfigError
        If the file is missing or is not YAML.
    """
    path = Path(path)

    def not_yaml(error: Exception) -> str | None:
        return None if isinstance(error, OSError) else f"{str(path)!r} is not a YAML file: {reason_of(error)}"

    with FileErrors(path, what="the settings file", raising=ConfigError, explain=not_yaml):
        check_is_file(path)
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict | None):
        raise ConfigError(f"{str(path)!r} should contain `name: value` lines, not a {type(settings).__name__}")
    _check_plain(settings or {}, path)
    return settings or {}


def _check_plain(settings: dict[str, Any], path: Path) -> None:
    """Refuse what YAML can hold and settings cannot: dates, names that are no text, and parts that contain themselves."""
    waiting: list[tuple[str, Any]] = [("", settings)]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        name, value = waiting.pop()
        if isinstance(value, dict):
            if odd := [key for key in value if not isinstance(key, str)]:
                raise ConfigError(f"{str(path)!r} has the setting name {odd[0]!r}; expected text")
            waiting += [(f"{name}.{key}"[-80:].strip("."), below) for key, below in value.items()]
        elif isinstance(value, list):
            waiting += [(name, below) for below in value]
        elif not isinstance(value, str | int | float | None):
            kind = type(value).__name__
            raise ConfigError(
                f"{str(path)!r} has a {kind} as value of {name!r}; expected text, numbers, true, false or lists"
            )
        if len(waiting) > MOST_VALUES:
            break
    raise ConfigError(f"{str(path)!r} has more than {MOST_VALUES} values, or a section that contains itself")


def save_settings(settings: dict[str, Any], path: Path | str) -> None:
    """Write names and values as YAML, atomically; `load_settings` reads them back.

    Parameters
    ----------
    settings : dict
        Plain values.
    path : path

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    write_text(Path(path), yaml.safe_dump(settings, sort_keys=False))
