"""Things by name: the package's own, registered ones, those of entry points."""

from importlib.metadata import EntryPoint

import pytest

from nwb_sbtt import registry
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.registry import Registry

BUILTIN = {"ordered": "collections:OrderedDict"}


@pytest.fixture
def dictionaries(monkeypatch):
    points = [
        EntryPoint("counter", "collections:Counter", "dictionaries"),
        EntryPoint("broken", "no_such_module:thing", "dictionaries"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])
    return Registry("dictionary", "dictionaries", BUILTIN)


def test_builtin_registered_and_installed_things_are_found_by_name(dictionaries):
    @dictionaries.decorator("mine")
    class Mine(dict):
        pass

    assert dictionaries.names() == ["ordered", "broken", "counter", "mine"]
    assert [dictionaries[name].__name__ for name in ("ordered", "counter", "mine")] == [
        "OrderedDict",
        "Counter",
        "Mine",
    ]
    assert "counter" in dictionaries and "neither" not in dictionaries


def test_an_unknown_name_is_an_error_with_the_nearest_one(dictionaries):
    with pytest.raises(
        ConfigError, match="there is no dictionary 'orderd'; did you mean 'ordered'\\? known are ordered"
    ):
        dictionaries["orderd"]


def test_a_name_stands_for_one_thing(dictionaries):
    from collections import OrderedDict

    dictionaries.register("ordered", OrderedDict)
    with pytest.raises(ConfigError, match="there is a dictionary 'ordered' already"):
        dictionaries.register("ordered", dict)
    dictionaries.register("mine", dict)
    dictionaries.register("mine", dict)
    with pytest.raises(ConfigError, match="'mine' already"):
        dictionaries.register("mine", set)


def test_a_package_that_cannot_be_imported_is_named(dictionaries):
    with pytest.raises(ConfigError, match="'broken' of the package 'no_such_module' cannot be imported"):
        dictionaries["broken"]
