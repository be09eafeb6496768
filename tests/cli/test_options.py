"""What options say of the settings, without a command."""

from types import SimpleNamespace

import pytest

from nwb_sbtt.cli.options import settings_of, write_settings_of
from nwb_sbtt.config import ConvConfig, WriteConfig
from nwb_sbtt.errors import ConfigError


def _context(write=None, set_=None):
    return SimpleNamespace(params={"write": write, "set_": set_})


@pytest.mark.parametrize("write", [["rates,factors"], ["rates", "factors"], ["rates factors"], ["rates, factors"]])
def test_what_is_written_is_a_comma_list_or_repeated(write):
    assert write_settings_of(_context(write)) == WriteConfig(variables=("rates", "factors"))


def test_settings_of_writing_are_taken_out_of_those_of_the_fit():
    context = _context(None, ["train.epochs=3", "write.compression=blosc", " write.spikes=false"])
    assert write_settings_of(context) == WriteConfig(compression="blosc", spikes=False)
    assert context.params["set_"] == ["train.epochs=3"]
    assert write_settings_of(_context()) == WriteConfig()
    assert write_settings_of(_context(["rates"], ["write.variables=[rates]"])).variables == ("rates",)


@pytest.mark.parametrize(
    ("write", "set_", "message"),
    [
        (["rats"], None, "did you mean 'rates'.* available: rates, rates_sd"),
        ([","], None, "the list of variables to write"),
        (None, ["write.variables=[rats]"], "did you mean 'rates'"),
        (None, ["write.compression=zip"], "'write.compression' is 'zip'"),
        (None, ["write.spike=no"], "did you mean 'write.spikes'"),
        (["rates"], ["write.variables=[factors]"], "use only one of them"),
    ],
)
def test_wrong_settings_of_writing_are_refused(write, set_, message):
    with pytest.raises(ConfigError, match=message):
        write_settings_of(_context(write, set_))


_FILES = ["config", "init", "series", "inputs", "bin_width", "trials", "trials_table", "window", "chop"]
_GIVEN = dict.fromkeys([*_FILES, "model", "likelihood", "seed", "seeds", "lag", "device", "set_"])


def _fit(**given):
    return settings_of(SimpleNamespace(params={**_GIVEN, "trials_relative": False, **given}))[1]


def test_a_lag_is_a_setting_of_the_model_whether_it_is_named_or_not():
    assert _fit().lag is None
    assert _fit(lag=0).model == ConvConfig(lag=0)
    assert _fit(lag=3, model="conv", set_=["model.width=32"]).model == ConvConfig(lag=3, width=32)
    assert _fit(set_=["model.lag=3"]).lag == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lag": 0, "model": "lfads"}, "'lag' is a setting of conv, and the model is 'lfads'"),
        ({"lag": 0, "set_": ["model.lag=3"]}, "--lag is 0, but --set model.lag is 3"),
        ({"lag": 1000}, r"6 layers with kernels of 64 bins look ahead \(384\)"),
    ],
)
def test_a_lag_that_cannot_be_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        _fit(**given)
