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
        ConfigError, match="there is no dictionary 'orderd'; did you mean 'ordered'\\? available: ordered"
    ):
        dictionaries["orderd"]


def test_a_name_stands_for_one_thing(dictionaries):
    from collections import OrderedDict

    dictionaries.register("ordered", OrderedDict)
    with pytest.raises(ConfigError, match="a dictionary 'ordered' exists already"):
        dictionaries.register("ordered", dict)
    dictionaries.register("mine", dict)
    dictionaries.register("mine", dict)
    with pytest.raises(ConfigError, match="'mine' exists already"):
        dictionaries.register("mine", set)


def test_a_name_of_several_packages_is_refused_when_it_is_asked_for(monkeypatch):
    points = [
        EntryPoint(name, "collections:Counter", "dictionaries") for name in ("auto", "ordered", "other", "other", "zoo")
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    dictionaries = Registry("dictionary", "dictionaries", BUILTIN, reserved=("auto",))
    for name in ("ordered", "other"):
        with pytest.raises(ConfigError, match=f"the packages .* and 'collections' both have a dictionary '{name}'"):
            dictionaries[name]
    assert dictionaries["zoo"].__name__ == "Counter"
    assert "auto" not in dictionaries.names()


def test_what_another_package_adds_is_checked(dictionaries):
    dictionaries._complaint = lambda name, thing: "counts" if thing.__name__ == "Counter" else ""
    with pytest.raises(ConfigError, match="the dictionary 'counter' of the package 'collections' counts"):
        dictionaries["counter"]
    with pytest.raises(ConfigError, match="the dictionary 'another' counts"):
        dictionaries.register("another", type("Counter", (), {}))
    assert dictionaries["ordered"].__name__ == "OrderedDict"


def test_a_package_that_cannot_be_imported_is_named(dictionaries):
    with pytest.raises(ConfigError, match="'broken' of the package 'no_such_module' cannot be imported"):
        dictionaries["broken"]
