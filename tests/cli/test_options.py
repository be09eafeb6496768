"""What options say of the settings, without a command."""

from types import SimpleNamespace

import pytest

from nwb_sbtt.cli.options import write_settings_of
from nwb_sbtt.config import WriteConfig
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
        (["rats"], None, "did you mean 'rates'.* known are rates, rates_sd"),
        ([","], None, "no variable is named"),
        (None, ["write.variables=[rats]"], "did you mean 'rates'"),
        (None, ["write.compression=zip"], "'write.compression' is 'zip'"),
        (None, ["write.spike=no"], "did you mean 'write.spikes'"),
        (["rates"], ["write.variables=[factors]"], "give one of them"),
    ],
)
def test_wrong_settings_of_writing_are_refused(write, set_, message):
    with pytest.raises(ConfigError, match=message):
        write_settings_of(_context(write, set_))
