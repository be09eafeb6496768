"""Models and likelihoods by name: the package's own, and those that other packages add.

The registries stand here, below everything that uses them, because settings are checked by the class that a name stands for.
Nothing is imported before a name is asked for: settings of the package's own models are known without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import ValidationError

from nwb_sbtt.config.base import NamedConfig
from nwb_sbtt.config.messages import in_words
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.registry import Registry

N = TypeVar("N", bound=NamedConfig)


class Configured(Protocol):
    """A class that says what its settings are."""

    Config: ClassVar[type[NamedConfig]]


def _complaint(home: str, members: str) -> Callable[[str, object], str]:
    """Make a check of the classes that other packages add; by the module of their base, which is not imported here."""

    def complaint(name: str, thing: object) -> str:
        base = home.replace(":", ".")
        if not isinstance(thing, type):
            return f"is a {type(thing).__name__}; name a class that derives from {base}"
        if not any(f"{kind.__module__}:{kind.__qualname__}" == home for kind in thing.__mro__):
            return f"does not derive from {base}"
        config = getattr(thing, "Config", None)
        if not (isinstance(config, type) and issubclass(config, NamedConfig)):
            return "has no class of settings; set Config to one"
        chosen = config.model_fields["name"].default
        if chosen != name:
            return f"has settings whose name is {chosen!r}; the default of Config.name must be {name!r}"
        if missing := sorted(getattr(thing, "__abstractmethods__", ())):
            return f"lacks {', '.join(missing)}; see {members}"
        return ""

    return complaint


MODELS = Registry[Configured](
    "model",
    "nwb_sbtt.models",
    {
        "conv": "nwb_sbtt.models.conv:Conv",
        "lfads": "nwb_sbtt.models.lfads:LFADS",
        "ladder": "nwb_sbtt.models.ladder:Ladder",
        "sae": "nwb_sbtt.models.sae:SAE",
    },
    complaint=_complaint("nwb_sbtt.models.base:Model", "docs/adding_a_model.md"),
)
LIKELIHOODS = Registry[Configured](
    "likelihood",
    "nwb_sbtt.likelihoods",
    {
        "poisson": "nwb_sbtt.nn.likelihoods.poisson:Poisson",
        "zig": "nwb_sbtt.nn.likelihoods.zig:ZeroInflatedGamma",
        "gaussian": "nwb_sbtt.nn.likelihoods.gaussian:Gaussian",
        "gamma": "nwb_sbtt.nn.likelihoods.gamma:Gamma",
        "gaussian_moments": "nwb_sbtt.nn.likelihoods.gaussian_moments:GaussianMoments",
        "edgeworth": "nwb_sbtt.nn.likelihoods.edgeworth:Edgeworth",
    },
    complaint=_complaint("nwb_sbtt.nn.likelihoods.base:Likelihood", "docs/adding_a_model.md"),
    reserved=("auto",),
)


def config_class(name: str, registry: Registry[Configured], known: Mapping[str, type[N]]) -> type[N]:
    """Give the class of settings that a name stands for.

    Parameters
    ----------
    name : str
    registry : Registry
        `MODELS` or `LIKELIHOODS`.
    known : mapping of name to class
        Settings of the package's own, which need no import.

    Raises
    ------
    ConfigError
        If there is nothing of that name.
    """
    if name in known:
        return known[name]
    found: Any = registry[name].Config
    return found  # type: ignore[no-any-return]


def named_config(value: object, registry: Registry[Configured], known: Mapping[str, type[N]]) -> object:
    """Make settings from a name, or from plain values with a name among them; anything else is left to be checked.

    Parameters
    ----------
    value : object
        What the setting was given: a name, plain values by name, or settings that were made already.
    registry : Registry
        `MODELS` or `LIKELIHOODS`.
    known : mapping of name to class
        Settings of the package's own, which need no import.

    Returns
    -------
    object
        Settings, or `value` itself where it is neither a name nor a mapping.

    Raises
    ------
    ConfigError
        If the name is missing or unknown, or a setting is not one of that name's.
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    if "name" not in value:
        raise ConfigError(f"setting '{registry.kind}.name' is missing; available: {', '.join(registry.names())}")
    kind = config_class(str(value["name"]), registry, known)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        message = in_words(error, kind, within=registry.kind)
        for name in sorted(set(value) - set(kind.model_fields)):
            if owners := [owner for owner, other in known.items() if name in other.model_fields]:
                message += (
                    f". {name!r} is a setting of {' and '.join(owners)}, and the {registry.kind} is {value['name']!r}"
                )
        raise ConfigError(message) from None
