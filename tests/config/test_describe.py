"""Every setting is described: what it does, its range and unit, and its default in words."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from nwb_sbtt import config
from nwb_sbtt.config import Config, FitConfig, Positive, ReadConfig
from nwb_sbtt.config.describe import Unit, default_in_words, kind_in_words

CLASSES = [
    kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, Config) and kind is not Config
]
FIELDS = [pytest.param(kind, name, id=f"{kind.__name__}.{name}") for kind in CLASSES for name in kind.model_fields]


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_setting_is_described(kind, name):
    field = kind.model_fields[name]
    assert field.description and field.description.endswith(".")
    assert field.default is not None or "Default: " in field.description
    assert "  " not in field.description


def test_no_two_settings_have_the_same_description():
    names = {}
    for kind in CLASSES:
        for name, field in kind.model_fields.items():
            names.setdefault(field.description, set()).add(name)
    assert [shared for shared in names.values() if len(shared) > 1] == []


@pytest.mark.parametrize("kind", CLASSES)
def test_help_shows_every_setting(kind):
    summary, _, settings = kind.__doc__.partition("\n\nParameters\n----------\n")
    assert summary
    words = " ".join(settings.split())
    for name, field in kind.model_fields.items():
        assert f"{name} : {kind_in_words(field, none='None')}, " in words
        assert field.description in words


class Example(Config):
    share: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.5, description="A share.")
    seconds: Annotated[Positive, Unit("s")] | None = Field(default=None, description="Time. Default: none.")
    pair: Annotated[tuple[Positive, Positive], Unit("Hz")] = Field(default=(1.0, 2.0), description="Two.")
    many: tuple[int, ...] = Field(default=(), description="Many.")
    choice: Literal["a", "b"] = Field(default="a", description="One of two.")
    flag: bool = Field(default=True, description="Yes or no.")
    folder: Path = Field(description="Needed.")
    below: FitConfig | None = Field(default=None, description="More. Default: none.")


def test_values_are_said_with_range_and_unit():
    assert {name: kind_in_words(field) for name, field in Example.model_fields.items()} == {
        "share": "number ≥ 0, < 1",
        "seconds": "number > 0 (s), or null",
        "pair": "2 numbers > 0 (Hz)",
        "many": "list of integers",
        "choice": "a | b",
        "flag": "true or false",
        "folder": "path",
        "below": "settings, or null",
    }


def test_defaults_are_said_as_yaml_takes_them():
    defaults = [default_in_words(field) for field in Example.model_fields.values()]
    assert defaults == ["0.5", "null", "[1.0, 2.0]", "[]", "a", "true", "required", "null"]
    assert default_in_words(ReadConfig.model_fields["memory_limit"]) == "1e+09"
    assert default_in_words(FitConfig.model_fields["model"]) == "conv"
