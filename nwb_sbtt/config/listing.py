"""The list of all settings, as plain rows: what `nwb-sbtt settings` prints."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nwb_sbtt.config.describe import default_in_words, kind_in_words
from nwb_sbtt.config.doors import LIKELIHOODS, MODELS, config_class
from nwb_sbtt.config.fitting import FitConfig
from nwb_sbtt.config.likelihoods import LIKELIHOOD_CONFIGS, LikelihoodConfig
from nwb_sbtt.config.models import MODEL_CONFIGS, ModelConfig
from nwb_sbtt.config.reading import ReadConfig
from nwb_sbtt.errors import ConfigError


@dataclass(frozen=True)
class Setting:
    """One setting of a fit or of reading.

    Parameters
    ----------
    section : str
        Settings that belong together; empty for those at the top level.
    about : str
        What the section is for.
    name : str
        Dotted name, as ``--set`` takes it.
    values : str
        Kind, range and unit of its values.
    default : str
        Default as YAML takes it, or "required".
    description : str
    """

    section: str
    about: str
    name: str
    values: str
    default: str
    description: str

    def as_dict(self) -> dict[str, str]:
        """The same as a plain dict."""
        return asdict(self)


def list_settings(*, model: str | None = None, search: str | None = None) -> list[Setting]:
    """List every setting, section by section.

    Parameters
    ----------
    model : str, optional
        Name of the one model whose settings are listed; all of them by default.
    search : str, optional
        Text that the name or the description of a setting must contain, in upper or lower case.

    Raises
    ------
    ConfigError
        If there is no such model, or nothing contains the text.

    Examples
    --------
    >>> [setting.name for setting in list_settings(search="learning rate")]
    ['train.learning_rate']
    """
    rows = [*_rows(FitConfig, "", "", model), *_rows(ReadConfig, "read", _summary(ReadConfig), model)]
    if search is not None:
        wanted = search.casefold()
        rows = [row for row in rows if wanted in row.name.casefold() or wanted in row.description.casefold()]
        if not rows:
            raise ConfigError(
                f"no setting has {search!r} in its name or description; `nwb-sbtt settings` lists them all"
            )
    return rows


def _rows(kind: type[BaseModel], section: str, about: str, model: str | None, *, skip: str = "") -> Iterator[Setting]:
    """Settings of one class, then those of the classes below it."""
    prefix = f"{section.partition(' ')[0]}." if section else ""
    below: list[tuple[str, FieldInfo]] = []
    for name, field in kind.model_fields.items():
        kinds = _classes(field.annotation)
        if kinds:
            below.append((name, field))
        if name != skip and (not kinds or field.default is None) and not _alternatives_of(kinds):
            yield Setting(
                section, about, prefix + name, kind_in_words(field), default_in_words(field), field.description or ""
            )
    for name, field in below:
        choices = _alternatives_of(_classes(field.annotation))
        if choices:
            yield from _alternatives(field, choices, prefix + name, model if prefix + name == "model" else None)
        else:
            yield from _rows(_classes(field.annotation)[0], prefix + name, field.description or "", model)


def _alternatives_of(kinds: Sequence[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Classes that a setting chooses from, by the value that chooses each; none where there is one class or no class."""
    if len(kinds) > 1:
        return {str(get_args(kind.model_fields[_key(kind)].annotation)[0]): kind for kind in kinds}
    if kinds == [ModelConfig]:
        return {name: config_class(name, MODELS, MODEL_CONFIGS) for name in MODELS.names()}
    if kinds == [LikelihoodConfig]:
        names = dict.fromkeys([*LIKELIHOOD_CONFIGS, *LIKELIHOODS.names()])
        return {name: config_class(name, LIKELIHOODS, LIKELIHOOD_CONFIGS) for name in names}
    return {}


def _key(kind: type[BaseModel]) -> str:
    """Setting that tells a class from its alternatives."""
    return next(name for name, part in kind.model_fields.items() if get_origin(part.annotation) is Literal)


def _alternatives(
    field: FieldInfo, choices: Mapping[str, type[BaseModel]], section: str, only: str | None
) -> Iterator[Setting]:
    """The setting that chooses one of several classes, then the settings of each class, or of one alone."""
    key = _key(next(iter(choices.values())))
    if only is not None and only not in choices:
        near = difflib.get_close_matches(only, choices, n=1)
        raise ConfigError(
            f"no model is called {only!r}; " + (f"did you mean {near[0]!r}?" if near else f"known are {list(choices)}")
        )
    description, default = field.description or "", default_in_words(field)
    yield Setting(section, "", f"{section}.{key}", " | ".join(choices), default, description)
    for choice, kind in choices.items():
        if only in (None, choice):
            yield from _rows(kind, f"{section} ({key}={choice})", _summary(kind), only, skip=key)


def _classes(annotation: Any) -> list[type[BaseModel]]:
    """Config classes that a type names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _classes(part)]


def _summary(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
