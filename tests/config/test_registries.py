"""Models and likelihoods of other packages: what is wrong with one is said in one line, and stops nothing else."""

from importlib.metadata import EntryPoint

import pytest

from nwb_sbtt import registry
from nwb_sbtt.config import LIKELIHOODS, MODELS, ModelConfig
from nwb_sbtt.config.listing import list_parts, list_settings
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.models import Model
from nwb_sbtt.models.sae import SAE


class WithoutConfig(Model):
    pass


class OtherName(SAE):
    pass


class Unfinished(Model):
    class Config(ModelConfig):
        name: str = "unfinished"


def function():
    pass


POINTS = {
    "function": "is a function; name a class that derives from nwb_sbtt.models.base.Model",
    "WithoutConfig": "has no class of settings",
    "OtherName": "has settings whose name is 'sae'; the default of Config.name must be 'othername'",
    "Unfinished": "lacks encode, generate",
    "ModelConfig": "does not derive from nwb_sbtt.models.base.Model",
    "nothing": "cannot be imported .AttributeError",
}


@pytest.fixture
def installed(monkeypatch):
    points = [EntryPoint(name.lower(), f"{__name__}:{name}", "nwb_sbtt.models") for name in POINTS]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "nwb_sbtt.models" else [])
    MODELS.search_again()
    yield
    monkeypatch.undo()
    MODELS.search_again()


@pytest.mark.parametrize("name", POINTS)
def test_a_class_that_is_no_model_is_refused_in_one_line(installed, name):
    with pytest.raises(ConfigError, match=POINTS[name]) as raised:
        MODELS[name.lower()]
    assert "\n" not in str(raised.value)


def test_broken_models_stop_no_listing(installed):
    parts = {part.name: part for part in list_parts()}
    assert parts["unfinished"].description.startswith("cannot be used: the model 'unfinished' of the package")
    assert parts["conv"].package == "nwb_sbtt" and "cannot" not in parts["conv"].description
    assert any(setting.name == "model.controller" for setting in list_settings())


def test_no_likelihood_may_be_called_auto():
    with pytest.raises(ConfigError, match="a likelihood 'auto' exists already"):
        LIKELIHOODS.register("auto", SAE)
