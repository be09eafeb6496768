"""Voltages around stimulus artefacts: blanks, what is left of an artefact after them, thresholds and dead times."""

import numpy as np
import pytest
from pynwb import NWBHDF5IO

from nwb_sbtt.config import ElectricalConfig, ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.io.read.timeseries import timeseries_source
from nwb_sbtt.io.read.voltages import electrical_source
from tests.support.nwbfiles import add_electrical, add_electrodes, add_invalid_times, add_series, new_file, write
from tests.support.voltages import stimulated

RATE = 20_000.0
GRID = Grid(np.zeros(1), 0.001, 8000)


def crossings(volts, blanks, **electrical):
    nwbfile = new_file()
    add_electrodes(nwbfile, volts.shape[1])
    series = add_electrical(nwbfile, volts, rate=RATE)
    add_invalid_times(nwbfile, blanks)
    config = ReadConfig(electrical=ElectricalConfig(feature="spikes", **electrical))
    return electrical_source(nwbfile, series, config).bin(GRID)


@pytest.mark.parametrize("tail", [0.0, 0.001, 0.002])
def test_what_is_left_of_an_artefact_after_its_blank_is_no_crossing(tail):
    volts, spikes, blanks = stimulated(8.0, rate=RATE, seed=21, tail=tail)
    binned = crossings(volts, blanks)
    for channel, samples in enumerate(spikes):
        assert abs(binned.values[0, :, channel].sum() - len(samples)) <= 0.05 * len(samples) + 2
    assert bool(binned.notes) == (tail > 0)
    if tail:
        assert "read.electrical.pad" in binned.notes[0]
        # Without it, the filter's answer to the decay crosses the threshold.
        unpadded = crossings(volts, blanks, pad=0.0)
        assert unpadded.values.sum() > binned.values.sum()
        assert unpadded.exposure.mean() > binned.exposure.mean()


def test_a_pad_that_is_set_takes_its_time_from_both_sides():
    volts, _, blanks = stimulated(8.0, rate=RATE, seed=22)
    none, some = (crossings(volts, blanks, pad=pad).exposure.sum() for pad in (0.0, 0.005))
    assert some == pytest.approx(none - 2 * 1000 * 0.01 * len(blanks), rel=0.01)


def test_thresholds_in_microvolts_and_of_both_polarities():
    volts, spikes, blanks = stimulated(8.0, rate=RATE, seed=23)
    n_spikes = sum(map(len, spikes))
    assert crossings(volts, blanks, threshold=-35.0, threshold_unit="uV").values.sum() == pytest.approx(
        n_spikes, rel=0.05
    )
    assert crossings(volts, blanks, threshold=-300.0, threshold_unit="uV").values.sum() == 0
    upside = volts * [1, -1]
    downward = crossings(upside, blanks, threshold=-35.0, threshold_unit="uV").values[0].sum(axis=0)
    both = crossings(upside, blanks, threshold=-35.0, threshold_unit="uV", both_polarities=True).values[0].sum(axis=0)
    assert downward[1] < 0.3 * len(spikes[1])
    np.testing.assert_allclose(both, [len(samples) for samples in spikes], rtol=0.05)


def test_microvolts_need_a_threshold():
    with pytest.raises(ConfigError, match="threshold_unit=uV needs a threshold in microvolts"):
        ElectricalConfig(threshold_unit="uV")


def test_an_invalid_time_that_names_series_holds_for_those_alone(tmp_path):
    rng = np.random.default_rng(0)
    nwbfile = new_file()
    add_electrodes(nwbfile, 2)
    named, other = (add_electrical(nwbfile, rng.normal(size=(4000, 2)), rate=1000.0, name=name) for name in ("a", "b"))
    add_series(nwbfile, rng.normal(size=(4000, 2)), rate=1000.0, name="plain")
    nwbfile.add_invalid_time_interval(start_time=1.0, stop_time=2.0, timeseries=[named], tags=["artefact"])
    nwbfile.add_invalid_time_interval(start_time=3.0, stop_time=3.5, timeseries=[named, other], tags=["artefact"])
    grid = Grid(np.zeros(1), 0.01, 400)
    with NWBHDF5IO(write(nwbfile, tmp_path / "named.nwb"), "r") as io:
        stored = io.read()
        named, other = (
            electrical_source(stored, stored.acquisition[name], ReadConfig()).bin(grid).observed[0, :, 0]
            for name in "ab"
        )
        plain = timeseries_source(stored, stored.acquisition["plain"], ReadConfig()).bin(grid).observed[0, :, 0]
    assert not named[100:200].any() and other[10:290].all() and plain.all()
    assert not named[300:350].any() and not other[300:350].any()
