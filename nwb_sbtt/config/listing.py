"""The list of all settings, as plain rows: what `nwb-sbtt settings` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nwb_sbtt.config.base import NamedConfig
from nwb_sbtt.config.describe import classes_in, default_in_words, kind_in_words
from nwb_sbtt.config.fitting import FitConfig
from nwb_sbtt.config.likelihoods import LIKELIHOOD_CONFIGS, LikelihoodConfig
from nwb_sbtt.config.models import MODEL_CONFIGS, ModelConfig
from nwb_sbtt.config.reading import ReadConfig
from nwb_sbtt.config.registries import LIKELIHOODS, MODELS, Configured, config_class
from nwb_sbtt.config.searching import SearchConfig
from nwb_sbtt.config.writing import WriteConfig
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.registry import Registry
from nwb_sbtt.suggestions import nearest

T = TypeVar("T")


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


def list_settings(
    *, model: str | None = None, likelihood: str | None = None, search: str | None = None
) -> list[Setting]:
    """List every setting, section by section.

    Parameters
    ----------
    model, likelihood : str, optional
        Name of the one model and of the one likelihood whose settings are listed; all of them by default.
    search : str, optional
        Text that the name or the description of a setting must contain, in upper or lower case.

    Raises
    ------
    ConfigError
        If there is no such model or likelihood, or nothing contains the text.

    Examples
    --------
    >>> [setting.name for setting in list_settings(search="learning rate")]
    ['train.learning_rate']
    """
    only = {"model": model, "likelihood": likelihood}
    rows = [*_rows(FitConfig, "", "", only), *_rows(ReadConfig, "read", _summary(ReadConfig), only)]
    rows += _rows(WriteConfig, "write", _summary(WriteConfig), only)
    rows += _rows(SearchConfig, "search", _summary(SearchConfig), only)
    if search is not None:
        wanted = search.casefold()
        rows = [row for row in rows if wanted in row.name.casefold() or wanted in row.description.casefold()]
        if not rows:
            raise ConfigError(
                f"no setting has {search!r} in its name or description; `nwb-sbtt settings` lists them all"
            )
    return rows


@dataclass(frozen=True)
class Part:
    """Something that can be added by name: a model, a likelihood, a baseline or a reader of a neurodata type.

    Parameters
    ----------
    kind : str
        "model", "likelihood", "baseline" or "reader".
    name : str
        As ``--model`` and ``--likelihood`` take it; of a reader the neurodata type.
    package : str
        Package that it comes from.
    description : str
    """

    kind: str
    name: str
    package: str
    description: str

    def as_dict(self) -> dict[str, str]:
        """The same as a plain dict."""
        return asdict(self)


def list_parts() -> list[Part]:
    """List the models and likelihoods of this package and of the installed ones that add some.

    Examples
    --------
    >>> [part.name for part in list_parts() if part.package == "nwb_sbtt" and part.kind == "model"]
    ['conv', 'lfads', 'ladder', 'sae']
    """
    parts = []
    for registry, known in _REGISTRIES.values():
        for name in registry.names():
            try:
                if name not in known:
                    registry[name]
                description = _summary(config_class(name, registry, known))
            except ConfigError as error:
                description = f"cannot be used: {error}"
            parts.append(Part(registry.kind, name, registry.package(name), description))
    return parts


def list_functions(kind: str, registry: Registry[T]) -> list[Part]:
    """List the functions of a registry, of this package and of the installed ones that add some.

    Parameters
    ----------
    kind : str
        What one of them is called, such as "baseline".
    registry : Registry
        Each function is imported: its description is the first line of its docstring.

    Returns
    -------
    list of Part
        One that cannot be imported is among them, described by the reason.
    """
    parts = []
    for name in registry.names():
        try:
            description = (registry[name].__doc__ or "").strip().partition("\n")[0]
        except ConfigError as error:
            description = f"cannot be used: {error}"
        parts.append(Part(kind, name, registry.package(name), description))
    return parts


def _rows(
    kind: type[BaseModel], section: str, about: str, only: Mapping[str, str | None], *, skip: str = ""
) -> Iterator[Setting]:
    """Settings of one class, then those of the classes below it."""
    prefix = f"{section.partition(' ')[0]}." if section else ""
    below: list[tuple[str, FieldInfo, list[type[BaseModel]]]] = []
    for name, field in kind.model_fields.items():
        kinds = classes_in(field.annotation)
        if kinds:
            below.append((prefix + name, field, kinds))
        if (
            name != skip
            and (not kinds or field.default is None or isinstance(field.default, str))
            and not _choices(kinds)
        ):
            yield Setting(
                section, about, prefix + name, kind_in_words(field), default_in_words(field), field.description or ""
            )
    for name, field, kinds in below:
        choices = _choices(kinds)
        if choices:
            yield from _alternatives(name, field, kinds, only)
        else:
            yield from _rows(kinds[0], name, field.description or "", only)


def _alternatives(
    section: str, field: FieldInfo, kinds: Sequence[type[BaseModel]], only: Mapping[str, str | None]
) -> Iterator[Setting]:
    """The setting that chooses one of several classes, then the settings of each class, or of one alone."""
    choices, key, wanted = _choices(kinds), _key(kinds[0]), only.get(section)
    if wanted is not None and wanted not in choices:
        near = nearest(wanted, choices)
        hint = f"did you mean {near[0]!r}?" if near else f"available: {choices}"
        raise ConfigError(f"there is no {section} {wanted!r}; {hint}")
    description, below = [field.description or ""], list[Setting]()
    for choice in choices if wanted is None else [wanted]:
        try:
            kind = _chosen(choice, kinds)
        except ConfigError:
            # `nwb-sbtt models` tells why; the settings of all others are listed.
            if wanted is not None:
                raise
            continue
        rows = list(_rows(kind, f"{section} ({key}={choice})", _summary(kind), only, skip=key))
        # What has settings is described in the heading of these.
        description += [] if rows else [f"{choice}: {_summary(kind)}"]
        below += rows
    yield Setting(section, "", f"{section}.{key}", " | ".join(choices), default_in_words(field), " ".join(description))
    yield from below


def _choices(kinds: Sequence[type[BaseModel]]) -> list[str]:
    """Names of the classes that a setting chooses from; none where there is one class or no class."""
    if len(kinds) > 1:
        return [_tag(kind) for kind in kinds]
    for base, (registry, known) in _REGISTRIES.items():
        if kinds == [base]:
            return list(dict.fromkeys([*known, *registry.names()]))
    return []


def _chosen(choice: str, kinds: Sequence[type[BaseModel]]) -> type[BaseModel]:
    """Class of a name; one that another package registers is imported now."""
    for base, (registry, known) in _REGISTRIES.items():
        if kinds == [base]:
            return config_class(choice, registry, known)
    return next(kind for kind in kinds if _tag(kind) == choice)


def _key(kind: type[BaseModel]) -> str:
    """Setting that tells a class from its alternatives."""
    return next((name for name, part in kind.model_fields.items() if get_origin(part.annotation) is Literal), "name")


def _tag(kind: type[BaseModel]) -> str:
    return str(get_args(kind.model_fields[_key(kind)].annotation)[0])


def _summary(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


_REGISTRIES: dict[type[BaseModel], tuple[Registry[Configured], Mapping[str, type[NamedConfig]]]] = {
    ModelConfig: (MODELS, MODEL_CONFIGS),
    LikelihoodConfig: (LIKELIHOODS, LIKELIHOOD_CONFIGS),
}
"""Where the settings of a model and of a likelihood are found by name."""
