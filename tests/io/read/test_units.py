"""Spikes are counted where their unit was watched, and nowhere else."""

import json

import h5py
import numpy as np
import pytest
from pynwb.misc import Units

from nwb_sbtt import Window, inspect, read_nwb
from nwb_sbtt.config import Chop, ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read import units as unit_reading
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.units import LAST_SPIKE, units_source
from tests.support import nwbfiles

GRID = Grid(np.array([0.0, 0.4]), 0.1, 10)


def binned(spikes, *, config=None, invalid=None, grid=GRID, **fields):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, spikes, **fields)
    if invalid is not None:
        nwbfiles.add_invalid_times(nwbfile, invalid)
    source = units_source(nwbfile, nwbfile.units, config or ReadConfig())
    return source, source.bin(grid)


def counted_slowly(spikes, grid, obs_intervals):
    """Counts, share observed and mask, bin by bin in exact ticks of a millisecond."""
    ticks_per_bin = round(grid.bin_width * 1000)
    values = np.zeros((*grid.shape, len(spikes)))
    share = np.zeros(values.shape)
    for trial, start in enumerate(grid.starts):
        for b in range(grid.n_bins):
            first = round(start * 1000) + b * ticks_per_bin
            ticks = np.arange(first, first + ticks_per_bin)
            for unit, times in enumerate(spikes):
                observed = np.zeros(len(ticks), dtype=bool)
                for on, off in obs_intervals[unit]:
                    observed |= (ticks >= round(on * 1000)) & (ticks < round(off * 1000))
                share[trial, b, unit] = observed.mean()
                values[trial, b, unit] = np.isin(np.round(np.asarray(times) * 1000).astype(int), ticks[observed]).sum()
    return values, share


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_exposure_equal_those_of_a_slow_count(seed):
    random = np.random.default_rng(seed)
    obs_intervals = [random.choice(200, 4, replace=False).reshape(2, 2) / 100 for _ in range(4)]
    obs_intervals = [np.sort(intervals, axis=1) for intervals in obs_intervals]
    obs_intervals = [intervals[np.argsort(intervals[:, 0])] for intervals in obs_intervals]
    # At most half of the spikes may lie outside.
    within = [random.uniform(*intervals[0], 60) for intervals in obs_intervals]
    spikes = [np.sort(np.append(times, random.uniform(0, 2, 60))).round(3) for times in within]
    grid = Grid(np.array([0.7, 0.0, 0.25]), 0.05, 11)
    source, result = binned(spikes, obs_intervals=obs_intervals, grid=grid)
    values, share = counted_slowly(spikes, grid, obs_intervals)
    assert (result.observed == (share > 0)).all()
    assert (result.values == values).all()
    assert result.exposure[result.observed] == pytest.approx(share[share > 0], abs=1e-6)
    assert source.channel_row.tolist() == [0, 1, 2, 3]


def test_each_unit_has_its_own_intervals():
    _, result = binned([[0.05, 0.55], [0.05, 0.55]], obs_intervals=[[[0.0, 0.3]], [[0.5, 2.0]]])
    assert result.observed[0, :, 0].tolist() == [True] * 3 + [False] * 7
    assert result.observed[0, :, 1].tolist() == [False] * 5 + [True] * 5
    assert result.values.sum(axis=(1,))[0].tolist() == [1, 1]
    assert result.exposure is None


def test_spikes_outside_the_intervals_are_not_counted_but_noted():
    _, result = binned([[0.05, 0.15, 0.2, 0.9]], obs_intervals=[[[0.0, 0.12], [0.18, 0.2]]])
    assert result.values[0].sum() == 1
    # The spike on the very end of an interval is none of those outside.
    assert "2 spikes of 'units' are outside" in result.notes[0]


def test_invalid_times_are_taken_off_every_unit():
    _, result = binned([[0.05, 0.12, 0.15], [0.12]], invalid=[[0.1, 0.14], [0.3, 0.6]])
    assert result.values[0, :3, 0].tolist() == [1, 1, 0]
    assert result.values[0].sum() == 2
    assert result.exposure[0, :3, 0] == pytest.approx([1, 0.6, 1])
    assert not result.observed[0, 3:6].any()
    _, ignored = binned([[0.05, 0.12, 0.15], [0.12]], invalid=[[0.1, 0.6]], config=ReadConfig(invalid_times=False))
    assert ignored.observed.all()
    assert ignored.values[0].sum() == 4


def test_intervals_can_be_ignored_and_a_unit_without_any_was_never_observed():
    fields = {"obs_intervals": [[[0.0, 0.2]], np.empty((0, 2))]}
    _, everything = binned([[0.1, 0.5], [0.5]], config=ReadConfig(obs_intervals=False), **fields)
    assert everything.observed.all()
    source, result = binned([[0.1, 0.15], [0.5]], **fields)
    assert not result.observed[:, :, 1].any()
    assert result.observed[0, :, 0].tolist() == [True] * 2 + [False] * 8
    assert source.notes == (
        "1 of 2 units of 'units' have no interval in obs_intervals, so they were never observed; their 1 spikes are not "
        "counted (--set read.obs_intervals=false counts all)",
    )


def test_intervals_that_are_empty_for_all_units_are_as_none():
    source, result = binned([[0.05, 0.5], [0.5]], obs_intervals=[np.empty((0, 2))] * 2)
    assert result.observed.all()
    assert (
        "empty obs_intervals for all units, which are treated as not given, so every unit counts as obs"
        in source.notes[0]
    )
    assert source.span == binned([[0.05, 0.5], [0.5]])[0].span


def test_losing_most_spikes_is_an_error_that_asks_about_the_unit_of_time():
    times = np.linspace(0.01, 0.99, 40)
    # All units, then one of three; in milliseconds, and only without a time.
    with pytest.raises(DataError, match=r"78 of 80 spikes of 'units' would be lost: 78 lie outside.*milliseconds"):
        binned([1000 * times, 1000 * times], obs_intervals=[[[0, 30]]] * 2)
    fields = {"obs_intervals": [[[0, 1]]] * 3, "ids": [7, 8, 9]}
    with pytest.raises(DataError, match=r"40 of 120 spikes.*\(unit 8: 40 of 40\)"):
        binned([times, 1000 + times, times], **fields)
    with pytest.raises(DataError, match=r"unit 9: 40 of 40.*pass obs_intervals=False.*read.where"):
        binned([times, times, np.full(40, np.nan)], **fields)
    # Spikes between the trials are not lost, and neither are few of a silent unit.
    assert binned([10 + times, times], obs_intervals=[[[0, 20]]] * 2)[1].values.sum() > 0
    assert binned([times, [500.0]], obs_intervals=[[[0, 1]]] * 2)[1].values.sum() > 0


def test_units_that_fire_a_thousand_times_too_slowly_are_noted_or_refused():
    random = np.random.default_rng(0)
    minutes = [1000 * np.sort(random.uniform(0, 600, 3000)) for _ in range(3)]
    asks = r"units of 'units' fire at 0.005 Hz.*which is too slow for neurons; .*not in milliseconds or samples"
    with pytest.raises(DataError, match=asks):
        binned(minutes)
    with pytest.raises(DataError, match=r"--set read.slow_units=true"):
        binned(minutes)
    assert binned(minutes, config=ReadConfig(slow_units=True))[1].values.sum() == 0  # none within the first bins
    chosen = ReadConfig(cut=Chop(start=0, stop=600))
    with pytest.raises(DataError, match=asks + r"; the 2 windows have \d+ spikes"):
        binned(minutes, config=chosen, grid=Grid(np.array([0.0, 1e5]), 1.0, 600))
    # Seconds of the same minutes, a week in which each unit was found for ten minutes, and a day with ten minutes of units.
    assert binned([times / 1000 for times in minutes])[0].notes[1:] == ()
    assert binned([times / 1000 + 100_000 * unit for unit, times in enumerate(minutes)])[0].notes[1:] == ()
    day = [np.append(times / 1000, 86_400 * 7.0) for times in minutes]
    source, result = binned(day, config=chosen, grid=Grid(np.array([0.0]), 1.0, 600))
    assert "0.005 Hz" in source.notes[1]
    assert result.values.sum() == 9000


def test_spike_times_that_are_not_numbers_are_left_out_and_noted():
    _, result = binned([[0.05, np.nan, 0.15], [np.inf]])
    assert result.values[0].sum() == 2
    assert "2 spike times of 'units' are not finite" in result.notes[-1]


def test_the_order_in_which_spikes_are_stored_does_not_matter():
    spikes = np.random.default_rng(0).uniform(0, 1, 50)
    assert (binned([np.sort(spikes)])[1].values == binned([spikes])[1].values).all()


def test_long_trains_are_read_in_pieces(monkeypatch):
    random = np.random.default_rng(1)
    spikes = [np.sort(random.uniform(0, 2, n)).round(3) for n in (3, 0, 40, 7, 1, 25)]
    whole = binned(spikes)[1].values
    monkeypatch.setattr(unit_reading, "BLOCK", 8)
    assert (binned(spikes)[1].values == whole).all()
    assert [int(count) for count in binned(spikes, grid=Grid(np.array([0.0]), 2.0, 1))[1].values[0, 0]] == [
        3,
        0,
        40,
        7,
        1,
        25,
    ]


@pytest.mark.parametrize("n_spikes", [127, 255, 256, 300, 70_000])
def test_crowded_bins_are_counted_to_the_last_spike(n_spikes):
    # More than a byte, and than two, can hold, in one unit of several.
    spikes = [[0.05], np.full(n_spikes, 0.15), [0.15, 0.25]]
    _, result = binned(spikes, grid=Grid(np.array([0.0]), 0.1, 3))
    assert result.values[0].tolist() == [[1, 0, 0], [0, n_spikes, 1], [0, 0, 1]]


def test_the_span_is_that_of_the_intervals_or_of_the_spikes():
    assert binned([[0.5, 3.0]], obs_intervals=[[[0.0, 2.0]]])[0].span == (0.0, 2.0)
    first, last = binned([[0.5, 3.0], []])[0].span
    assert first == 0.5
    assert 3.0 < last < 3.001


@pytest.mark.parametrize("interval", [[np.nan, 1.0], [0.0, np.nan], [2.0, 1.0]])
def test_intervals_without_bounds_are_refused(interval):
    with pytest.raises(DataError, match=r"row 0 of the obs_intervals of 'units'.*obs_intervals=False"):
        binned([[0.5]], obs_intervals=[[interval]])
    with pytest.raises(DataError, match=r"row 0 of invalid_times.*invalid_times=False"):
        binned([[0.5]], invalid=[interval])


def test_a_table_without_spikes_is_refused():
    nwbfile = nwbfiles.new_file()
    nwbfile.add_unit_column("quality", "generated")
    nwbfile.add_unit(quality="good")
    with pytest.raises(DataError, match="no column 'spike_times'"):
        units_source(nwbfile, nwbfile.units, ReadConfig())
    nwbfile = nwbfiles.new_file()
    nwbfile.units = Units(name="units", description="generated")
    with pytest.raises(DataError, match="no"):
        units_source(nwbfile, nwbfile.units, ReadConfig())
    with pytest.raises(DataError, match="no unit of 'units' has a spike"):
        binned([[], []])


def test_a_damaged_index_is_refused(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [0.3]])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        file["units/spike_times_index"][:] = [2, 9]
    with (
        open_nwb(path) as read,
        pytest.raises(DataError, match=r"'spike_times_index' of 'units', row 1: 9; .*at most 3"),
    ):
        units_source(read, read.units, ReadConfig())


def test_intervals_without_an_index_are_refused_and_can_be_ignored(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1, 0.2], [0.3]], obs_intervals=[[[0, 1]], [[0, 2]]])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        del file["units/obs_intervals_index"]
        attributes = dict(file["units/obs_intervals"].attrs)
        del file["units/obs_intervals"]
        file["units"].create_dataset("obs_intervals", data=[1.0, 2.0]).attrs.update(attributes)
    with open_nwb(path) as read:
        with pytest.raises(DataError, match=r"'obs_intervals' of 'units' has no index.*pass obs_intervals=False"):
            units_source(read, read.units, ReadConfig())
        assert units_source(read, read.units, ReadConfig(obs_intervals=False)).bin(GRID).observed.all()


def test_columns_with_one_value_a_unit_come_along():
    source, _ = binned([[0.1], [0.2]], columns={"quality": ["good", "mua"], "depth": [1.5, 2.5]}, ids=[7, 3])
    assert source.channel_columns["quality"].tolist() == ["good", "mua"]
    assert source.channel_columns["depth"].tolist() == [1.5, 2.5]
    assert source.channel_id.tolist() == [7, 3]
    assert "spike_times" not in source.channel_columns


def test_what_lies_beyond_the_record_of_units_that_do_not_say_is_counted():
    _, result = binned([[0.25], [0.75]])
    assert result.notes[0].startswith(
        "10 of 20 bins, in 2 of 2 windows, are before the first or after the last spike (0.25 to 0.750001 s); they count "
        "as observed, because the units of 'units' have no obs_intervals"
    )
    assert binned([[0.0], [1.4]])[1].notes == ()
    assert binned([[0.25], [0.75]], config=ReadConfig(obs_intervals=False))[1].notes == ()


@pytest.mark.parametrize("keep", [[0, 1, 2, 3, 4, 5], [5], [0, 1, 4], [1, 3, 5]])
def test_chosen_units_are_as_they_are_among_all(monkeypatch, keep):
    random = np.random.default_rng(3)
    spikes = [np.sort(random.uniform(0, 2, n)).round(3) for n in (30, 0, 40, 7, 50, 25)]
    obs_intervals = [[[0, 1 + 0.11 * unit]] if unit % 2 else [[0.2, 2]] for unit in range(6)]
    for block, group in ((1 << 18, 64), (16, 2)):
        monkeypatch.setattr(unit_reading, "BLOCK", block)
        monkeypatch.setattr(unit_reading, "GROUP", group)
        source, whole = binned(spikes, obs_intervals=obs_intervals, ids=list(range(10, 16)))
        part = source.only(np.isin(np.arange(6), keep))
        assert part.channel_id.tolist() == [10 + unit for unit in keep]
        result = part.bin(GRID)
        for name in ("values", "observed"):
            assert (getattr(result, name) == getattr(whole, name)[:, :, keep]).all()
        # Without an exposure every bin is whole.
        exposure = np.ones(result.observed.shape) if result.exposure is None else result.exposure
        assert (exposure == whole.exposure[:, :, keep]).all()


def test_the_first_and_the_last_spike_are_found_wherever_they_are_stored(monkeypatch):
    random = np.random.default_rng(5)
    spikes = [random.uniform(3, 7, n) for n in (40, 0, 30)]
    spikes[2][17], spikes[0][5], spikes[0][6], spikes[2][0] = 1.5, 8.5, np.nan, np.inf
    for block in (7, 1 << 16):
        monkeypatch.setattr(unit_reading, "BLOCK", block)
        assert binned(spikes)[0].span == (1.5, 8.5 + LAST_SPIKE)


def test_a_mask_that_all_units_share_takes_the_memory_of_one():
    random = np.random.default_rng(7)
    spikes = [np.sort(random.uniform(0, 2, 60)).round(3) for _ in range(4)]
    shared, distinct = [[[0.03, 0.61], [0.7, 1.6]]] * 4, [[[0.03, 0.61], [0.7, 1.6]]] * 3 + [[[0.0, 1.7]]]
    same, different = binned(spikes, obs_intervals=shared)[1], binned(spikes, obs_intervals=distinct)[1]
    assert same.observed.strides[2] == same.exposure.strides[2] == 0
    for name in ("values", "observed", "exposure"):
        assert (getattr(same, name)[:, :, :3] == getattr(different, name)[:, :, :3]).all()


def test_intervals_without_an_index_are_one_a_unit_and_said(tmp_path):
    nwbfile = nwbfiles.new_file()
    times = [np.arange(0.05, 10.0, 0.1)] * 3
    nwbfiles.add_units(nwbfile, times, obs_intervals=[[[0.0, 8.0]], [[2.0, 10.0]], [[0.0, 10.0]]])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        del file["units/obs_intervals_index"]
    read = read_nwb(path, bin_width=0.1, trials=Window(start=0.0, stop=10.0))
    assert read["observed"].values[0].sum(axis=0).tolist() == [80, 80, 100]
    (described,) = inspect(path)
    assert described.observed == pytest.approx(26 / 30)
    for notes in (json.loads(read.attrs["notes"]), described.notes):
        assert any("have no index; row n is used as the only interval of unit n" in note for note in notes)


def test_a_unit_observed_without_an_end_is_read_to_the_last_spike(tmp_path):
    nwbfile = nwbfiles.new_file()
    spikes = np.arange(0.05, 60.0, 0.1)
    nwbfiles.add_units(nwbfile, [spikes], obs_intervals=[[[0.0, 30.0], [31.0, np.inf]]])
    path = nwbfiles.write(nwbfile, tmp_path / "open.nwb")
    (listed,) = inspect(path)
    assert (listed.start, listed.stop) == (0.0, pytest.approx(spikes[-1], abs=1e-5))
    read = read_nwb(path, ReadConfig(bin_width=0.5, cut=Chop(length=5.0, overlap=0.0)))
    assert float(read["values"].sum()) > 500
    assert not any("outside 'units'" in note for note in json.loads(read.attrs["notes"]))


@pytest.mark.parametrize(("rate", "refused"), [(40.0, True), (400.0, False)])
def test_fast_units_in_milliseconds_show_by_the_trials_beside_them(rate, refused):
    nwbfile = nwbfiles.new_file()
    random = np.random.default_rng(3)
    nwbfiles.add_units(nwbfile, [np.sort(random.uniform(0, 600, round(600 * rate))) * 1000 for _ in range(3)])
    nwbfiles.add_trials(nwbfile, 1.0 + 5 * np.arange(100), 3.0 + 5 * np.arange(100))
    if not refused:  # too fast to be told from slow units in seconds
        units_source(nwbfile, nwbfile.units, ReadConfig())
        return
    with pytest.raises(
        DataError, match=r"fire at 0.04 Hz.*100 trials cover the first 0.08. %, which is too slow for neurons"
    ):
        units_source(nwbfile, nwbfile.units, ReadConfig())
    windows = ReadConfig(cut=Window(start=0.0, stop=100.0))
    source = units_source(nwbfile, nwbfile.units, windows)
    with pytest.raises(DataError, match=r"too slow for neurons.*the 1 windows have"):
        source.bin(Grid(np.array([10.0]), 1.0, 90))
