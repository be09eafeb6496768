"""Voltages of devices that leave samples out all the time: what was stored is observed, and nothing else."""

import json

import numpy as np
import pytest
from hdmf.common import DynamicTableRegion
from ndx_sbtt import ObservationMaskSeries
from pynwb import TimeSeries

from nwb_sbtt import Trials, inspect, read_nwb
from nwb_sbtt.config import Chop, ElectricalConfig, ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.voltages import electrical_source
from tests.support.nwbfiles import add_electrical, add_electrodes, add_trials, new_file, write
from tests.support.voltages import field, speckled

RATE = 1000.0
SECONDS = 12.0


def recording(stored, *, how="nan", seed=3):
    """A file of a field potential of which `stored` (time, channel) was sampled; also as a plain TimeSeries."""
    voltage, shared = field(SECONDS, rate=RATE, n_channels=stored.shape[1], seed=seed)
    nwbfile = new_file()
    holed = np.where(stored, voltage, np.nan)
    if how != "obs_intervals":
        add_electrodes(nwbfile, stored.shape[1])
    else:
        device = nwbfile.create_device(name="probe", description="generated")
        group = nwbfile.create_electrode_group(name="shank", description="-", location="cortex", device=device)
        nwbfile.add_electrode_column("obs_intervals", "when the electrode was sampled", index=True)
        for channel in range(stored.shape[1]):
            edges = np.flatnonzero(np.diff(stored[:, channel], prepend=False, append=False)).reshape(-1, 2)
            nwbfile.add_electrode(
                id=100 + channel, group=group, location="cortex", obs_intervals=((edges - 0.5) / RATE).tolist()
            )
    series = add_electrical(nwbfile, holed if how == "nan" else voltage, rate=RATE)
    if how == "mask":
        region = DynamicTableRegion(
            name="channels", data=list(range(stored.shape[1])), description="-", table=nwbfile.electrodes
        )
        nwbfile.add_acquisition(
            ObservationMaskSeries(
                name="mask",
                data=stored.astype(np.uint8),
                unit="n/a",
                rate=RATE,
                channels=region,
                source_timeseries=series,
            )
        )
    nwbfile.add_acquisition(TimeSeries(name="plain", data=holed, unit="volts", rate=RATE))
    return nwbfile, series, shared


@pytest.mark.parametrize("pattern", ["every fourth", "random"])
@pytest.mark.parametrize("width", [0.001, 0.005, 0.01, 0.02])
def test_what_is_stored_is_what_is_observed_and_equals_a_plain_series(tmp_path, pattern, width):
    stored = speckled((int(SECONDS * RATE), 6), how=pattern, seed=11)
    nwbfile, _, _ = recording(stored)
    events = np.arange(1.0, 11.0)
    add_trials(nwbfile, events, events + 0.5, onset=events)
    path = write(nwbfile, tmp_path / "speckled.nwb")
    for cut in (Chop(length=0.5, overlap=0.0), Trials(event="onset", start=-0.2, stop=0.5)):
        config = {"bin_width": width, "trials": cut}
        read = read_nwb(path, series="acquisition/ElectricalSeries", **config)
        plain = read_nwb(path, series="acquisition/plain", **config)
        observed = read["observed"].values
        np.testing.assert_array_equal(observed, plain["observed"].values)
        if width == 0.001:
            assert abs(observed.mean() - stored.mean()) < 0.01
        # They differ by the slow part alone, which the other lacks.
        pairs = [
            np.corrcoef(
                read["values"].values[..., c][observed[..., c]], plain["values"].values[..., c][observed[..., c]]
            )
            for c in range(6)
        ]
        assert min(pair[0, 1] for pair in pairs) > 0.99
        notes = json.loads(read.attrs["notes"])
        assert any("each bin is the mean of its own observed samples" in note for note in notes)
        assert not any("lose" in note for note in notes)


@pytest.mark.parametrize("how", ["nan", "obs_intervals", "mask"])
@pytest.mark.parametrize("pattern", ["every fourth", "dwelling"])
def test_three_ways_of_storing_what_was_sampled_read_alike(how, pattern):
    stored = speckled((int(SECONDS * RATE), 4), how=pattern, seed=0)
    nwbfile, series, shared = recording(stored, how=how)
    width = 0.01
    binned = electrical_source(nwbfile, series, ReadConfig()).bin(Grid(np.zeros(1), width, round(SECONDS / width)))
    first = np.arange(int(SECONDS * RATE)) // round(width * RATE)
    expected = np.zeros((round(SECONDS / width), 4), dtype=bool)
    np.logical_or.at(expected, first, stored)
    np.testing.assert_array_equal(binned.observed[0], expected)
    truth = shared.reshape(-1, round(width * RATE), 4).mean(axis=1)
    for channel in range(4):
        seen = expected[:, channel]
        assert np.corrcoef(binned.values[0, seen, channel], truth[seen, channel])[0, 1] > 0.9


@pytest.mark.parametrize("how", ["nan", "obs_intervals", "mask"])
def test_inspect_tells_the_share_that_was_sampled(tmp_path, how):
    stored = np.arange(int(SECONDS * RATE))[:, None] // 500 % 4 == np.arange(4)
    path = write(recording(stored, how=how)[0], tmp_path / "x.nwb")
    candidate = next(each for each in inspect(path) if each.type == "ElectricalSeries")
    assert candidate.observed == pytest.approx(0.25, abs=1e-3)


def test_a_recording_with_one_short_gap_keeps_its_filter():
    voltage, _ = field(SECONDS, rate=RATE, n_channels=4, seed=5)
    holed = voltage.copy()
    holed[6000:6020, 1] = np.nan
    results = []
    for data in (voltage, holed):
        nwbfile = new_file()
        add_electrodes(nwbfile, 4)
        results.append(
            electrical_source(nwbfile, add_electrical(nwbfile, data, rate=RATE), ReadConfig()).bin(
                Grid(np.zeros(1), 0.01, 1200)
            )
        )
    whole, gap = results
    assert gap.notes == ()
    far = np.abs(np.arange(1200) - 601) > 100
    np.testing.assert_array_equal(gap.values[0, far], whole.values[0, far])


def test_a_filter_that_loses_more_than_a_tenth_says_how_much_and_what_to_set():
    stored = np.ones((int(SECONDS * RATE), 4), dtype=bool)
    stored[:, 1] = speckled(stored.shape, how="random", seed=2)[:, 1]
    nwbfile, series, _ = recording(stored)
    # In the band of 70 to 150 Hz no gap is short.
    grid = Grid(np.zeros(1), 0.02, 600)
    config = ReadConfig(electrical=ElectricalConfig(feature="power"))
    notes = electrical_source(nwbfile, series, config).bin(grid).notes
    assert len(notes) == 1 and notes[0].startswith(
        "1 of 4 electrodes of 'acquisition/ElectricalSeries' lose 100% of their stored bins"
    )
    assert "read.electrical.min_observed" in notes[0] and notes[0].endswith(": [101]")
    lower = ReadConfig(electrical=ElectricalConfig(feature="power", min_observed=0.5))
    binned = electrical_source(nwbfile, series, lower).bin(grid)
    assert binned.observed[..., 1].mean() > 0.95 and binned.notes == ()


@pytest.mark.parametrize("pattern", ["every fourth", "random"])
def test_power_of_a_slow_band_bridges_gaps_that_are_short_in_it(pattern):
    stored = speckled((int(SECONDS * RATE), 4), how=pattern, seed=5)
    stored[4000:6000, 2] = False
    config = ReadConfig(electrical=ElectricalConfig(feature="power", band=(4.0, 8.0)))
    grid = Grid(np.zeros(1), 0.1, 120)
    whole = electrical_source(*recording(np.ones_like(stored))[:2], config).bin(grid)
    holed = electrical_source(*recording(stored)[:2], config).bin(grid)
    assert np.array_equal(holed.observed[..., [0, 1, 3]], whole.observed[..., [0, 1, 3]])
    assert not holed.observed[0, 40:60, 2].any()
    both = whole.observed & holed.observed
    assert np.corrcoef(whole.values[both], holed.values[both])[0, 1] > 0.9


def test_an_error_on_nothing_observed_names_a_setting_that_helps(tmp_path):
    nwbfile, _, _ = recording(speckled((int(SECONDS * RATE), 4), how="random", seed=2))
    path = write(nwbfile, tmp_path / "speckled.nwb")
    config = ReadConfig(
        series=("acquisition/ElectricalSeries",), electrical=ElectricalConfig(feature="power", min_observed=1.0)
    )
    with pytest.raises(DataError, match=r"0\.0\d+ s to each side.*read\.electrical\.min_observed") as error:
        read_nwb(path, config)
    assert "invalid_times" not in str(error.value) and "half of the amplitude" not in str(error.value)


def test_an_error_on_a_reference_that_no_moment_has_names_it(tmp_path):
    stored = np.arange(int(SECONDS * RATE))[:, None] % 4 == np.arange(4)
    path = write(recording(stored)[0], tmp_path / "one by one.nwb")
    config = ReadConfig(series=("acquisition/ElectricalSeries",), electrical=ElectricalConfig(reference="median"))
    with pytest.raises(DataError, match=r"read\.electrical\.reference=none") as error:
        read_nwb(path, config)
    assert "min_observed" not in str(error.value)


@pytest.mark.parametrize(("on", "off", "edge"), [(100, 900, 5), (400, 1600, 1.6), (50, 50, None), (1, 3, None)])
def test_stretches_too_short_for_the_slow_part_are_said_with_the_edge_that_is_left(on, off, edge):
    stored = np.repeat(np.arange(int(SECONDS * RATE))[:, None] % (on + off) < on, 2, axis=1)
    nwbfile, series, _ = recording(stored)
    notes = electrical_source(nwbfile, series, ReadConfig()).bin(Grid(np.arange(4) * 3.0, 0.01, 300)).notes
    said = [note for note in notes if "in short runs, so" in note]
    assert [note.split("subtracted removes frequencies below about ")[1].split(" instead")[0] for note in said] == (
        [f"{edge} Hz"] if edge else []
    )


def test_crossings_are_counted_in_stretches_that_were_sampled_long_enough():
    rate, seconds = 20_000.0, 8.0
    rng = np.random.default_rng(9)
    voltage = rng.normal(size=(int(seconds * rate), 3))
    spikes = rng.choice(np.arange(100, len(voltage) - 100, 60), size=400, replace=False)
    for lag, size in ((-1, -12), (0, -25), (1, -12)):
        voltage[spikes + lag] += size
    # The device dwells on each electrode for 100 ms out of 300.
    stored = (np.arange(len(voltage))[:, None] // 2000 + np.arange(3)) % 3 == 0
    nwbfile = new_file()
    add_electrodes(nwbfile, 3)
    series = add_electrical(nwbfile, np.where(stored, voltage, np.nan), rate=rate)
    config = ReadConfig(electrical=ElectricalConfig(feature="spikes"))
    binned = electrical_source(nwbfile, series, config).bin(Grid(np.zeros(1), 0.02, 400))
    exposure = binned.exposure[0].sum(axis=0) / 400
    assert (exposure > 0.85 / 3).all() and (exposure <= 1 / 3).all()
    for channel in range(3):
        expected = stored[spikes, channel].sum() * 3 * exposure[channel]
        assert abs(binned.values[0, :, channel].sum() - expected) < 0.08 * expected + 3
