"""The list of settings: complete, named as `--set` takes them, and with defaults that can be set."""

from types import SimpleNamespace
from typing import Literal

import pytest
from pydantic import Field

from nwb_sbtt.config import (
    MODELS,
    Config,
    Count,
    FitConfig,
    ModelConfig,
    ReadConfig,
    SearchConfig,
    WriteConfig,
    override,
)
from nwb_sbtt.config.listing import list_settings
from nwb_sbtt.errors import ConfigError

NAMES = ("sae", "lfads", "conv", "ladder")


def _leaves(config, prefix=""):
    """Dotted names of all settings of a config."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        yield from _leaves(value, f"{prefix}{name}.") if isinstance(value, Config) else [f"{prefix}{name}"]


@pytest.mark.parametrize("model", NAMES)
def test_every_setting_of_a_fit_is_listed(model):
    names = [setting.name for setting in list_settings(model=model)]
    of_fit = override(FitConfig(), [f"model.name={model}", "init.run_dir=run"])
    assert set(_leaves(of_fit)) <= set(names)
    few = ["cut={by: trials, event: go, start: 0, stop: 1}", "events={}", "bandwidth.k=3"]
    assert {f"read.{name}" for name in _leaves(override(ReadConfig(), few))} <= set(names)
    assert {f"search.{name}" for name in _leaves(SearchConfig())} <= set(names)
    listed = list_settings(model=model)
    # Likelihoods may have settings of the same name.
    ours = [(setting.section, setting.name) for setting in listed if not setting.name.startswith("read.cut.")]
    assert len(set(ours)) == len(ours)


def test_all_models_are_listed_where_none_is_named():
    sections = {setting.section for setting in list_settings()}
    assert {f"model (name={model})" for model in NAMES} <= sections
    assert {setting.section for setting in list_settings(model="lfads")} & {f"model (name={m})" for m in NAMES} == {
        "model (name=lfads)"
    }


@pytest.mark.parametrize("model", NAMES)
def test_listed_defaults_can_be_set_and_change_nothing(model):
    chosen = [f"model.name={model}"]
    texts = [
        f"{setting.name}={setting.default}"
        for setting in list_settings(model=model)
        if setting.default != "required"
        and setting.section not in ("init", "dynamics")
        and setting.name != "model.name"
    ]
    of_likelihoods = [text for text in texts if text.startswith("likelihood.") and "name=" not in text]
    for likelihood in ("zig", "gaussian_moments", "edgeworth"):
        listed = list_settings(likelihood=likelihood)
        own = [f"{each.name}={each.default}" for each in listed if each.name.startswith("likelihood.")]
        expected = override(FitConfig(), [f"likelihood={likelihood}"])
        assert override(FitConfig(), [*own, f"likelihood.name={likelihood}"]) == expected
    of_fit = [text for text in texts if not text.startswith(("read.", "write.", "search.", *of_likelihoods))]
    assert override(FitConfig(), chosen + of_fit) == override(FitConfig(), chosen)
    of_reading = [
        text.removeprefix("read.")
        for text in texts
        if text.startswith("read.") and not text.startswith(("read.cut.", "read.events.", "read.bandwidth."))
    ]
    assert override(ReadConfig(), of_reading) == ReadConfig()
    of_search = [text.removeprefix("search.") for text in texts if text.startswith("search.")]
    assert override(SearchConfig(), of_search) == SearchConfig()
    of_writing = [text.removeprefix("write.") for text in texts if text.startswith("write.")]
    assert len(of_writing) == len(WriteConfig.model_fields)
    assert override(WriteConfig(), of_writing) == WriteConfig()


class ExampleConfig(ModelConfig):
    """A model of another package."""

    name: Literal["example"] = Field(default="example", description="Chooses the example.")
    order: Count = Field(default=2, description="Order of the example.")


def test_settings_of_a_registered_model_are_listed(monkeypatch):
    monkeypatch.setitem(MODELS._things, "example", SimpleNamespace(Config=ExampleConfig))
    (row,) = (setting for setting in list_settings(model="example") if setting.section == "model (name=example)")
    assert (row.name, row.values, row.default, row.about) == (
        "model.order",
        "integer ≥ 1",
        "2",
        "A model of another package.",
    )
    assert row in list_settings()


def test_one_likelihood_is_listed_where_it_is_named():
    names = [setting.name for setting in list_settings(likelihood="zig") if setting.section.startswith("likelihood")]
    assert names == ["likelihood.name", "likelihood.smallest_event"]
    assert "likelihood.smallest_event" in {setting.name for setting in list_settings()}
    assert "likelihood.smallest_event" not in {setting.name for setting in list_settings(likelihood="poisson")}


def test_settings_are_found_by_name_and_description():
    assert [setting.name for setting in list_settings(search="LEARNING_RATE")] == ["train.learning_rate"]
    assert [setting.name for setting in list_settings(search="adamw")] == ["train.weight_decay"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "lfad"}, "there is no model 'lfad'; did you mean 'lfads'?"),
        ({"model": "x"}, "available:"),
        ({"likelihood": "poison"}, "there is no likelihood 'poison'; did you mean 'poisson'?"),
        ({"search": "zebra"}, "no setting has 'zebra' in its name or description"),
    ],
)
def test_what_is_not_there_is_said(asked, message):
    with pytest.raises(ConfigError) as error:
        list_settings(**asked)
    assert message in str(error.value)
