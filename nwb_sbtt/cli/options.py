"""Options of the command line that are settings too: they must agree with what --set says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from nwb_sbtt.errors import ConfigError

OPTIONS = {
    "model": "--model",
    "likelihood": "--likelihood",
    "seed": "--seed",
    "seeds": "--seeds",
    "device": "--device",
    "init.run_dir": "--init",
    "series": "--series",
    "bin_width": "--bin-width",
    "cut": "--trials, --window or --chop",
}
"""Options by the dotted names of their settings; those of the reader without ``read.``."""

NAMED = ("model", "likelihood")
"""Settings whose option gives a name."""


def check_agree(before: BaseModel, after: BaseModel, options: Mapping[str, Any], *, within: str = "") -> None:
    """Raise if --set changed what an option of its own has set.

    Parameters
    ----------
    before, after : Config
        Settings without and with the assignments of --set.
    options : mapping of dotted name to value
        Those of `OPTIONS` that were given; None for those that were not. Of a dict its values are compared, one by one.
    within : str
        Dotted name in front of those of the settings, such as "read".

    Raises
    ------
    ConfigError
        Naming the option, the setting and both values.
    """
    for name, value in options.items():
        parts = [f"{name}.{part}" for part in value] if isinstance(value, dict) else [name]
        for part in parts if value is not None else []:
            if (first := _plain(before, part)) != (second := _plain(after, part)):
                setting = (f"{within}." if within else "") + part + (".name" if name in NAMED else "")
                raise ConfigError(
                    f"{OPTIONS[name]} says {first!r}, and --set {setting} says {second!r}; give one of them"
                )


def check_initial(assignments: Sequence[str]) -> None:
    """Raise if --set names a setting of an initial fit, but not that fit; for settings that name none otherwise.

    Parameters
    ----------
    assignments : sequence of str
        As --set takes them.

    Raises
    ------
    ConfigError
        Naming the setting and --init.
    """
    names = [text.partition("=")[0].strip() for text in assignments]
    below = [name for name in names if name.startswith("init.")]
    if below and not {"init", "init.run_dir"} & set(names):
        raise ConfigError(f"{below[0]} is for a fit that starts from a finished one; name its run folder with --init")


def _plain(config: BaseModel, name: str) -> object:
    """Value of a setting by its dotted name; the name of a model or likelihood, and None where there is no such part."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part, None)
    value = getattr(value, "name", value)
    return list(value) if isinstance(value, tuple) else value
