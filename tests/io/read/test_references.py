"""Voltages of files against common references and in pairs: groups, delays, missing samples, blocks."""

import numpy as np
import pytest
from hdmf.common import VectorData
from pynwb import NWBHDF5IO

from nwb_sbtt.config import ElectricalConfig, ReadConfig, Window
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.survey import parts_of
from nwb_sbtt.io.read.voltages import electrical_source
from tests.support.nwbfiles import add_electrical, add_electrodes, new_file, write
from tests.support.voltages import common_noise

RATE = 10_000.0
GRID = Grid(np.array([0.0]), 0.02, 100)


def session(volts, *, columns=None, rate=RATE):
    nwbfile = new_file()
    n_channels = volts.shape[1]
    add_electrodes(nwbfile, n_channels, columns=columns or {"shank": np.arange(n_channels) % 2})
    return nwbfile, add_electrical(nwbfile, volts, rate=rate)


def settings(feature="spikes", *, memory_limit=1e9, **electrical):
    return ReadConfig(electrical=ElectricalConfig(feature=feature, **electrical), memory_limit=memory_limit)


def crossings(volts, **electrical):
    return electrical_source(*session(volts), settings(**electrical)).bin(GRID)


def test_a_common_reference_takes_common_noise_off_and_leaves_spikes():
    quiet, noisy, spikes = common_noise(2.0, rate=RATE, seed=51, n_channels=12)
    n_spikes = sum(map(len, spikes))
    assert abs(crossings(quiet).values.sum() / n_spikes - 1) < 0.05
    assert crossings(noisy).values.sum() < 0.7 * n_spikes or crossings(noisy).values.sum() > 1.3 * n_spikes
    for how in ("median", "average"):
        referenced = crossings(noisy, reference=how)
        assert abs(referenced.values.sum() / n_spikes - 1) < 0.06
    binned = np.stack([np.histogram(times / RATE, GRID.n_bins, (0, 2.0))[0] for times in spikes], axis=1)
    assert np.corrcoef(crossings(noisy, reference="median").values[0].ravel(), binned.ravel())[0, 1] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("feature", "how"), [("lfp", "median"), ("spikes", "average"), ("power", "bipolar")])
def test_blocks_windows_and_chosen_channels_change_no_reference(tmp_path, how, feature):
    rate = 2000.0 if feature == "lfp" else RATE
    _, volts, _ = common_noise(3.0, rate=rate, seed=52, n_channels=8)
    volts = volts.astype(np.float32)
    volts[round(1.5 * rate) : round(1.502 * rate), 3] = np.nan
    columns = {"shank": np.arange(8) % 2, "inter_sample_shift": np.arange(8) / 8.0}
    path = write(session(volts, columns=columns, rate=rate)[0], tmp_path / "x.nwb")
    with NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        series = nwbfile.acquisition["ElectricalSeries"]
        options = {"reference": how, "reference_by": "shank"}
        source = electrical_source(nwbfile, series, settings(feature, **options))
        grid = Grid(np.array([0.0]), 0.02, 150)
        once = source.bin(grid)
        small = electrical_source(nwbfile, series, settings(feature, memory_limit=2e6, **options)).bin(grid)
        keep = np.zeros(len(source.channel_id), dtype=bool)
        keep[[1, 4]] = True
        some = source.only(keep).bin(grid)
        window = source.bin(Grid(np.array([1.0]), 0.02, 30))
    for other, of_once in (
        (small, (slice(None), slice(None))),
        (some, (slice(None), keep)),
        (window, (slice(50, 80), slice(None))),
    ):
        assert np.array_equal(other.observed[0], once.observed[0][of_once[0]][:, of_once[1]])
        np.testing.assert_allclose(
            other.values[0], once.values[0][of_once[0]][:, of_once[1]], atol=1e-3 * once.values.std(), rtol=1e-4
        )
    assert feature != "spikes" or not (once.observed if once.exposure is None else once.exposure == 1).all()


@pytest.mark.parametrize(("n_channels", "every", "together"), [(4, 1, 4), (16, 1, None), (16, 4, 4), (24, 2, None)])
def test_a_reference_over_few_electrodes_says_what_it_takes_of_each(n_channels, every, together):
    rng = np.random.default_rng(58)
    volts = rng.normal(size=(8000, n_channels)) * 1e-5
    # Every so many samples of each electrode are stored, those of its neighbours at other moments.
    volts[np.arange(8000)[:, None] % every != np.arange(n_channels) % every] = np.nan
    grid = Grid(np.array([0.0]), 0.01, 200)
    notes = electrical_source(*session(volts), settings("lfp", reference="average")).bin(grid).notes
    said = [note for note in notes if "is computed from only" in note]
    assert len(said) == (together is not None)
    if together is not None:
        assert f"computed from only {together} electrodes at a time, so about {1 / together:.0%} of" in said[0]
    assert not any(
        "computed from" in note for note in electrical_source(*session(volts), settings("lfp")).bin(grid).notes
    )


def test_what_stands_at_missing_samples_does_not_matter_to_a_reference():
    _, volts, _ = common_noise(2.0, rate=RATE, seed=53, n_channels=6)
    stored = np.random.default_rng(54).random(volts.shape) < 0.8
    grid = Grid(np.array([0.0]), 0.02, 100)
    nwbfile, series = session(np.where(stored, volts, np.nan))
    nan = electrical_source(nwbfile, series, settings("lfp", reference="median")).bin(grid)
    nwbfile, series = session(np.where(stored, volts, -1.0))
    config = ReadConfig(electrical=ElectricalConfig(reference="median"), missing_value=-1.0)
    valued = electrical_source(nwbfile, series, config).bin(grid)
    assert np.array_equal(nan.observed, valued.observed) and np.array_equal(nan.values, valued.values)
    assert nan.observed.mean() > 0.99


def test_pairs_are_neighbours_along_each_shank_and_named(tmp_path):
    volts = np.random.default_rng(55).normal(size=(20_000, 6)) * 1e-5
    columns = {"shank": [0, 1, 0, 1, 0, 1], "rel_y": [40.0, 20.0, 0.0, 0.0, 20.0, 60.0]}
    nwbfile, _ = session(volts, columns=columns)
    config = ReadConfig(
        electrical=ElectricalConfig(reference="bipolar", reference_by="shank"), cut=Window(start=0.5, stop=1.5)
    )
    ds = read_nwb(write(nwbfile, tmp_path / "x.nwb"), config)
    assert ds["channel_id"].values.tolist() == [101, 102, 103, 104]
    assert ds["reference_id"].values.tolist() == [105, 104, 101, 100]
    plain = electrical_source(*session(volts, columns=columns), settings("lfp")).bin(Grid(np.array([0.5]), 0.01, 100))
    np.testing.assert_allclose(
        ds["values"].values[0], plain.values[0][:, [1, 2, 3, 4]] - plain.values[0][:, [5, 4, 1, 0]], atol=1e-9
    )
    assert "each electrode minus the next one along the shank within each shank" in ds.attrs["notes"]


def test_groups_are_named_by_group_probe_or_column_and_need_two_electrodes():
    volts = np.random.default_rng(56).normal(size=(8000, 4)) * 1e-5
    nwbfile, series = session(volts, columns={"hemisphere": ["l", "l", "r", "r"], "alone": [0, 0, 0, 1]})
    nwbfile.electrodes.add_column(name="inter_sample_shift", description="x", data=[0.0, 0.25, 0.5, 0.75])
    for by, n_groups in (("group", 1), ("probe", 1), ("hemisphere", 2)):
        source = electrical_source(nwbfile, series, settings("lfp", reference="median", reference_by=by))
        assert f"within each {by} ({n_groups} in all), after correction of the delays" in source.notes[-1]
    with pytest.raises(DataError, match=r"'1' has 1 electrode .*reference_by"):
        electrical_source(nwbfile, series, settings("lfp", reference="median", reference_by="alone"))
    with pytest.raises(SelectionError, match="no column 'shank'"):
        electrical_source(nwbfile, series, settings("lfp", reference="median", reference_by="shank"))
    assert isinstance(nwbfile.electrodes["inter_sample_shift"], VectorData)


def test_bad_electrodes_are_named_and_masked_where_asked_for(tmp_path):
    rng = np.random.default_rng(57)
    field = rng.normal(size=(20_000, 1)).cumsum(axis=0)
    volts = 1e-6 * (field + rng.normal(size=(20_000, 8)))
    volts[:, 2] = 1e-6 * (field[:, 0] + 30 * rng.normal(size=20_000))
    grid = Grid(np.array([0.0]), 0.01, 200)
    said = electrical_source(*session(volts), settings("lfp", reference="average")).bin(grid)
    assert said.observed.mean() > 0.95 and said.notes == (
        "1 of 8 electrodes of 'acquisition/ElectricalSeries' are noisy, but are kept (read.electrical.bad_channels=auto treats "
        "them as missing): [102]",
    )
    assert electrical_source(*session(volts), settings("lfp", bad_channels="off")).bin(grid).notes == ()
    masked = electrical_source(*session(volts), settings("lfp", reference="average", bad_channels="auto")).bin(grid)
    listed = electrical_source(*session(volts), settings("lfp", reference="average", bad_channels=(102,))).bin(grid)
    good = np.arange(8) != 2
    without = electrical_source(*session(volts[:, good]), settings("lfp", reference="average")).bin(grid)
    for binned in (masked, listed):
        assert (
            not binned.observed[..., 2].any()
            and "treated as missing" in binned.notes[0]
            and not binned.values[..., 2].any()
        )
        np.testing.assert_allclose(binned.values[..., good], without.values, atol=1e-10)
    assert said.values[..., good].std() > 1.5 * without.values.std()
    pairs = electrical_source(*session(volts), settings("lfp", reference="bipolar", bad_channels=(102,))).bin(grid)
    assert pairs.observed.any(axis=(0, 1)).tolist() == [True, False, False, True, True, True, True]
    typo = electrical_source(*session(volts), settings("lfp", bad_channels=(102, "x7")))
    assert (
        typo.notes[-1] == "read.electrical.bad_channels names x7, which are not in 'electrodes'; its ids are 100 to 107"
    )
    with pytest.raises(SelectionError, match="contains all"):
        electrical_source(*session(volts), settings("lfp", bad_channels=tuple(range(100, 108)))).bin(grid)


def test_parts_that_are_looked_at_are_as_long_as_each_other_whatever_the_rate():
    rate = 9999.7
    source = electrical_source(*session(np.zeros((40_000, 3), dtype=np.int16), rate=rate), settings("lfp"))
    for grid in (GRID, Grid(np.array([0.3, 1.7]), 0.013, 17)):
        extents = parts_of(source.recording, grid)
        length = min(0.5, len(grid.starts) * grid.n_bins * grid.bin_width / 8) * rate
        assert [stop - first for _, first, stop in extents] == [round(length)] * 8


@pytest.mark.slow
def test_lines_and_artefacts_in_the_band_are_said_and_a_notch_takes_lines_out():
    quiet, noisy, spikes = common_noise(2.0, rate=RATE, seed=58, n_channels=6)
    n_spikes = sum(map(len, spikes))
    plain = crossings(noisy)
    (line,) = (note for note in plain.notes if "read.electrical.notch" in note)
    assert "notch=50, or try read.electrical.reference=median" in line
    assert crossings(quiet).notes == ()
    notched = crossings(noisy, notch=50.0)
    assert abs(notched.values.sum() / n_spikes - 1) < 0.1 and notched.notes == ()
    small = electrical_source(*session(noisy), settings(notch=50.0, memory_limit=2.5e7)).bin(GRID)
    assert np.array_equal(small.values, notched.values)
    source = electrical_source(*session(noisy), settings(notch=50.0))
    assert source.note_on_band(0.02).endswith(
        "line noise at 250, 300, 350, 400, … 3350 Hz is removed (within 1 Hz of each)"
    )
    _, burst, _ = common_noise(2.0, rate=RATE, seed=59, n_channels=6, hum=0.0, bursts=8)
    assert any("subtracts what electrodes share" in note for note in crossings(burst).notes)
    referenced = crossings(burst, reference="median")
    assert abs(referenced.values.sum() / n_spikes - 1) < 0.1 and referenced.notes == ()
