"""Voltages: the three uses against slow whole-recording computations, and what is not observed kept out of filters."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hdmf.common import DynamicTableRegion
from ndx_sbtt import ObservationMaskSeries
from pynwb import NWBHDF5IO
from pynwb.ecephys import ElectricalSeries
from scipy.signal import butter, sosfiltfilt

from nwb_sbtt.config import ElectricalConfig, ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.voltages import electrical_source
from nwb_sbtt.signals.flat import shortest_flicker
from tests.support.nwbfiles import add_electrical, add_electrodes, add_invalid_times, new_file, write

USES = ("lfp", "band", "power", "spikes")
RATE = 2000.0


def session(data, *, n_electrodes=8, rows=None, **fields):
    """A file with one ElectricalSeries, at 2 kHz unless told otherwise; `fields` may hold scale fields too."""
    nwbfile = new_file()
    add_electrodes(nwbfile, n_electrodes, columns={"depth": np.arange(n_electrodes) * 10.0})
    scale = {name: fields.pop(name) for name in ("conversion", "offset", "channel_conversion") if name in fields}
    if not scale and "timestamps" in fields:
        return nwbfile, add_electrical(nwbfile, data, rows=rows, **fields)
    rows = list(range(np.shape(data)[1] if np.ndim(data) == 2 else 1)) if rows is None else rows
    region = nwbfile.create_electrode_table_region(list(rows), "electrodes")
    clock = fields if "timestamps" in fields else {"rate": RATE, **fields}
    series = ElectricalSeries(name="ElectricalSeries", data=data, electrodes=region, **clock, **scale)
    nwbfile.add_acquisition(series)
    return nwbfile, series


def settings_of(use, *, memory_limit=1e9, **config):
    bands = {"lfp": None, "band": (8.0, 20.0), "power": (70.0, 150.0), "spikes": (200.0, 800.0)}
    feature = "lfp" if use == "band" else use
    electrical = ElectricalConfig(feature=feature, band=config.pop("band", bands[use]), **config.pop("electrical", {}))
    return ReadConfig(electrical=electrical, memory_limit=memory_limit, **config)


def read(nwbfile, series, use, *, grid, **config):
    return electrical_source(nwbfile, series, settings_of(use, **config)).bin(grid)


def noise(seconds=12.0, n_channels=4, *, seed=0, dtype=np.float32):
    """Brown and white noise: like a local field potential, with power at all frequencies."""
    rng = np.random.default_rng(seed)
    shape = (int(seconds * RATE), n_channels)
    return (rng.normal(size=shape).cumsum(axis=0) + 20 * rng.normal(size=shape)).astype(dtype)


def whole(seconds=12.0, width=0.02):
    return Grid(np.array([0.0]), width, round(seconds / width))


def same(first, second, *, where=None, exactly=False):
    where = np.ones(first.observed.shape, dtype=bool) if where is None else where
    assert np.array_equal(first.observed[where], second.observed[where])
    if exactly:
        assert np.array_equal(first.values[where], second.values[where])
    else:
        np.testing.assert_allclose(first.values[where], second.values[where], rtol=1e-4, atol=2e-4)


def slow_lfp(volts, centres, *, low, high, width):
    """The definition, in float64 and without blocks: windowed sinc at each centre, less a Gaussian mean."""
    transition = min(max(1 / width - 2 * high, 0.05 / width), 0.5 * high) / RATE
    cut, half = high / RATE + transition / 2, (50 - 7.95) / (14.36 * transition) / 2
    n = len(volts)
    padded = np.concatenate([np.repeat(volts[:1], n, 0), volts, np.repeat(volts[-1:], n, 0)])
    result = []
    for centre in centres:
        lags = centre - np.arange(-n, 2 * n)
        window = np.i0(0.1102 * 41.3 * np.sqrt(np.clip(1 - (lags / half) ** 2, 0, None))) * (np.abs(lags) <= half)
        weights = np.sinc(2 * cut * lags) * window
        bell = np.exp(-0.5 * ((centre - np.arange(n)) / (0.2494 * RATE / low)) ** 2)
        bell[np.abs(centre - np.arange(n)) > 4 * 0.2494 * RATE / low] = 0
        result.append(weights @ padded / weights.sum() - bell @ volts / bell.sum())
    return np.array(result)


def test_the_lfp_equals_its_definition_computed_over_the_whole_recording():
    data = (noise(4.0) * 3).astype(np.int16)
    factors = np.array([1.0, 0.5, 2.0, -1.5])
    nwbfile, series = session(data, conversion=1e-6, channel_conversion=factors, offset=0.7)
    binned = read(nwbfile, series, "lfp", grid=whole(4.0))
    centres = (np.arange(200) + 0.5) * 0.02 * RATE
    expected = slow_lfp(data * 1e-6 * factors + 0.7, centres, low=1.0, high=20.0, width=0.02)
    scale = expected.std(axis=0)
    assert np.flatnonzero(binned.observed.all(axis=2)[0]).tolist() == list(range(2, 198))
    # The Gaussian mean is taken over short blocks instead of samples.
    assert (np.abs(binned.values[0] - expected)[2:-2] < 0.01 * scale).all()


def test_the_lfp_keeps_its_band_and_halves_the_power_at_its_lower_edge():
    times = np.arange(int(40 * RATE)) / RATE
    data = np.stack([np.sin(2 * np.pi * f * times) for f in (0.1, 1.0, 4.0, 18.0, 33.0, 60.0)], axis=1)
    binned = read(*session(data), "lfp", grid=whole(40.0))
    gain = np.sqrt(2) * binned.values[0, 250:-250].std(axis=0)
    np.testing.assert_allclose(gain, [0.0123, 0.7071, 1, 1, 0, 0], atol=0.012)


@pytest.mark.parametrize(("band", "width"), [((8.0, 12.0), 0.01), ((1.0, 40.0), 0.01), ((30.0, 80.0), 0.002)])
def test_a_band_that_was_asked_for_is_a_band(band, width):
    data = noise(60.0, 3, seed=8)
    binned = read(*session(data), "lfp", grid=whole(60.0, width), band=band)
    inside = slice(round(3 / width), -round(3 / width))
    values = binned.values[0, inside]
    assert binned.observed[0, inside].all()
    frequencies = np.fft.rfftfreq(len(values), width)
    spectrum = np.abs(np.fft.rfft(values * np.hanning(len(values))[:, None], axis=0)) ** 2
    assert spectrum[(frequencies < band[0]) | (frequencies > band[1])].sum() < 0.03 * spectrum.sum()
    centres = np.round((np.arange(round(60 / width)) + 0.5) * width * RATE - 0.5).astype(int)
    expected = sosfiltfilt(butter(4, band, "band", fs=RATE, output="sos"), data, axis=0)[centres][inside]
    # In phase, and at its size.
    for channel in range(3):
        assert np.corrcoef(values[:, channel], expected[:, channel])[0, 1] > 0.97
        assert abs(values[:, channel].std() / expected[:, channel].std() - 1) < 0.05


def test_speckled_samples_keep_the_lower_edge_of_a_band():
    times = np.arange(int(20 * RATE)) / RATE
    data = np.stack([np.sin(2 * np.pi * f * times) for f in (4.0, 10.0)], axis=1) + 5.0
    data[np.random.default_rng(4).random(data.shape) < 0.3] = np.nan
    binned = read(*session(data), "lfp", grid=whole(20.0, 0.01), band=(8.0, 12.0))
    assert binned.observed[0, 200:-200].all()
    assert (np.sqrt(2) * binned.values[0, 200:-200].std(axis=0) < [0.1, 1.1]).all()
    assert np.sqrt(2) * binned.values[0, 200:-200, 1].std() > 0.95


def test_at_the_sampling_rate_the_lfp_is_the_signal_less_its_slow_part():
    data = noise(2.0)
    grid = Grid(np.array([-0.5 / RATE]), 1 / RATE, len(data))
    binned = read(*session(data), "lfp", grid=grid, band=None)
    assert binned.observed.all()
    slow = slow_lfp(data, np.arange(0, len(data), 50), low=1.0, high=0.4 * RATE, width=1 / RATE)
    np.testing.assert_allclose(binned.values[0, ::50], slow, atol=0.01 * slow.std())


def test_band_power_is_the_log_of_the_mean_square_of_the_band():
    data = noise()
    binned = read(*session(data, conversion=1e-3), "power", grid=whole(width=0.1))
    band = sosfiltfilt(butter(8, [70, 150], "band", fs=RATE, output="sos"), data * 1e-3, axis=0)
    expected = np.log((band**2).reshape(120, 200, -1).mean(axis=1))
    inside = binned.observed[0].all(axis=1)
    assert inside.sum() >= 117
    # Filters of another shape: the same power within a fifth of a decibel on average.
    assert abs((binned.values[0] - expected)[inside].mean()) < 0.05
    assert np.corrcoef(binned.values[0][inside].ravel(), expected[inside].ravel())[0, 1] > 0.98


def test_power_in_bins_shorter_than_a_cycle_is_that_of_the_envelope():
    rng = np.random.default_rng(12)
    times = np.arange(int(40 * RATE)) / RATE
    slow = np.interp(times, np.arange(0, 41, 0.5), rng.uniform(0.3, 2, 82))
    data = (slow * np.sin(2 * np.pi * 6 * times))[:, None] + 0.05 * rng.normal(size=(len(times), 1))
    binned = read(*session(data), "power", grid=whole(40.0), band=(4.0, 8.0))
    inside = slice(100, -100)
    power, expected = binned.values[0, inside, 0], np.log(0.5 * slow.reshape(-1, 40).mean(axis=1) ** 2)[inside]
    assert binned.observed[0, inside].all() and np.corrcoef(power, expected)[0, 1] > 0.98
    assert abs((power - expected).mean()) < 0.05


def test_the_power_of_a_sine_is_half_its_squared_amplitude():
    times = np.arange(int(6 * RATE)) / RATE
    data = np.stack([3 * np.sin(2 * np.pi * f * times) for f in (100.0, 40.0, 250.0)], axis=1)
    data[:, 1] += 1000
    values = read(*session(data), "power", grid=whole(6.0, 0.1)).values[0, 5:-5]
    np.testing.assert_allclose(values[:, 0], np.log(4.5), atol=0.05)
    assert (values[:, 1:] < np.log(4.5) - 9).all()


def spiky(seconds=12.0, *, dtype=np.int16):
    """Noise of 10 units with downward spikes of 150 at known samples."""
    rng = np.random.default_rng(5)
    data = 10 * rng.normal(size=(int(seconds * RATE), 3)) + 500 * np.sin(np.arange(int(seconds * RATE)) / 400)[:, None]
    truth = []
    for channel in range(3):
        crossings = np.sort(rng.choice(np.arange(60, len(data) - 60, 20), size=40 * (channel + 1), replace=False))
        truth.append(crossings)
        for lag, size in ((-1, -60), (0, -150), (1, -60), (2, 70)):
            data[crossings + lag, channel] += size
    return data.astype(dtype), truth


@pytest.mark.parametrize("sign", [1, -1])
def test_threshold_crossings_find_the_spikes_that_were_put_in(sign):
    data, truth = spiky()
    nwbfile, series = session(data, conversion=sign * 1e-6)
    binned = read(nwbfile, series, "spikes", grid=whole(), electrical={"threshold": -sign * 4.5})
    for channel, crossings in enumerate(truth):
        expected = np.histogram((crossings + 0.5) / RATE, bins=np.arange(601) * 0.02)[0]
        # A crossing may come a sample before its trough, in the bin before.
        assert abs(binned.values[0, :, channel].sum() - len(crossings)) <= 2
        assert np.abs(np.cumsum(binned.values[0, :, channel]) - np.cumsum(expected)).max() <= 3
    assert (binned.values == np.round(binned.values)).all()


def test_a_dead_time_leaves_the_first_of_crossings_that_are_close():
    data, truth = spiky()
    for crossings in truth:
        assert np.diff(crossings).min() >= 20
    free = read(*session(data), "spikes", grid=whole()).values.sum()
    spaced = read(*session(data), "spikes", grid=whole(), electrical={"dead_time": 30 / RATE}).values.sum()
    close = sum(int((np.diff(crossings) < 30).sum()) for crossings in truth)
    assert close > 0 and abs((free - spaced) - close) <= 2


@pytest.mark.parametrize(
    ("threshold", "unit", "said"),
    [
        (-4.5, "sd", None),
        (-200.0, "sd", "no electrode crosses the threshold of -200 sd"),
        (-1e9, "uV", "no electrode crosses the threshold of -1e.09 uV; .*threshold_unit=sd"),
        (-1e-3, "uV", r"cross the threshold of -0.001 uV [2-9]\d\d times per second, which is typical for noise"),
    ],
)
def test_a_threshold_that_nothing_or_noise_crosses_is_doubted(threshold, unit, said):
    data, _ = spiky()
    electrical = {"threshold": threshold, "threshold_unit": unit}
    notes = [
        note for note in read(*session(data), "spikes", grid=whole(), electrical=electrical).notes if "cross" in note
    ]
    assert [bool(re.search(said or "", note)) for note in notes] == [True] * (said is not None)


def test_an_electrode_without_noise_is_unobserved():
    data, _ = spiky()
    data[:, 1] = 7
    binned = read(*session(data), "spikes", grid=whole())
    assert not binned.observed[..., 1].any() and binned.observed[..., [0, 2]].all()
    assert not read(*session(data), "power", grid=whole()).observed[..., 1].any()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_reading_in_pieces_equals_reading_whole(tmp_path, use, dtype):
    data = noise(dtype=dtype)
    if dtype == np.float32:
        data[5000:5003, 1] = np.nan
    nwbfile, _ = session(data)
    path = write(nwbfile, tmp_path / "session.nwb")
    with NWBHDF5IO(path, "r") as io:
        stored = io.read()
        series = stored.acquisition["ElectricalSeries"]
        once = read(stored, series, use, grid=whole(), memory_limit=1e9)
        pieces = read(stored, series, use, grid=whole(), memory_limit=1.2e6)
    same(once, pieces)
    if once.exposure is not None:
        assert np.array_equal(once.exposure, pieces.exposure)


def test_a_zarr_store_reads_like_an_hdf5_file(tmp_path):
    nwbfile, series = session(noise(4.0), rows=[6, 0, 3, 5])
    expected = read(nwbfile, series, "lfp", grid=whole(4.0))
    path = write(nwbfile, tmp_path / "session.nwb.zarr", zarr=True)
    with open_nwb(path) as stored:
        same(read(stored, stored.acquisition["ElectricalSeries"], "lfp", grid=whole(4.0)), expected, exactly=True)


@pytest.mark.parametrize("use", USES)
def test_windows_give_what_the_whole_gives_in_any_order_and_overlap(use):
    nwbfile, series = session(noise())
    starts = np.array([7.0, 2.0, 2.4, 9.98, 3.0])
    once = read(nwbfile, series, use, grid=whole())
    windows = read(nwbfile, series, use, grid=Grid(starts, 0.02, 50))
    for trial, start in enumerate(starts):
        part = slice(round(start / 0.02), round(start / 0.02) + 50)
        np.testing.assert_allclose(windows.values[trial], once.values[0, part], rtol=1e-4, atol=2e-4)
        assert np.array_equal(windows.observed[trial], once.observed[0, part])


class Counted:
    """Samples that count how many rows of them are read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.rows = data, data.shape, data.dtype, 0

    def __getitem__(self, part):
        self.rows += part.stop - part.start
        return self.data[part]


def rows_read(data, use, grid, **config):
    """Rows that reading takes, and what comes of it."""
    source = electrical_source(*session(data), settings_of(use, **config))
    counted = Counted(data)
    slabs = type(source.recording.slabs)(counted)
    return replace(source, recording=replace(source.recording, slabs=slabs)).bin(grid), counted.rows


def test_only_what_the_windows_need_is_read():
    windows = Grid(np.array([5.0, 30.0]), 0.02, 50)
    binned, rows = rows_read(noise(60.0), "lfp", windows)
    np.testing.assert_array_equal(binned.values, read(*session(noise(60.0)), "lfp", grid=windows).values)
    # Eight parts of a quarter of a second are looked at before the windows are read, and on either side of these what may
    # belong to a stretch of two values.
    assert rows < (8 * 0.25 + 2 * 2 * (1.0 + 2 * 1.1)) * RATE + 4 * shortest_flicker(RATE)


def test_parts_by_which_a_recording_is_judged_are_read_once_where_memory_allows():
    data, windows = noise(60.0, dtype=np.int16), Grid(np.array([5.0, 30.0]), 0.02, 50)
    data[:, 0] = np.round(np.random.default_rng(1).normal(size=len(data)))
    binned, rows = rows_read(data, "spikes", windows)
    of_parts, of_windows = 20 * (0.25 + 2 * 0.2), 2 * (1.0 + 2 * 0.2)
    assert rows < (of_parts + 8 * 0.25 + of_windows) * RATE + 2 * (RATE + 2 * shortest_flicker(RATE))
    small, more_rows = rows_read(data, "spikes", windows, memory_limit=4e5)
    assert more_rows > rows + 19 * 0.25 * RATE
    same(binned, small, exactly=True)


@pytest.mark.parametrize("use", USES)
def test_a_hidden_sample_changes_nothing_beyond_the_reach_of_the_filter(use):
    clean = noise()
    holed = clean.copy()
    hidden = int(6.01 * RATE)
    holed[hidden : hidden + 15, 1] = np.nan
    first, second = (read(*session(data), use, grid=whole()) for data in (clean, holed))
    times = np.arange(600) * 0.02
    reach = {"lfp": 1.1, "band": 0.62, "power": 0.45, "spikes": 0.1}[use]
    where = np.ones(first.observed.shape, dtype=bool)
    where[0, np.abs(times - 6.01) < reach, 1] = False
    same(first, second, where=where, exactly=True)
    assert not second.observed[0, 300, 1] or (use != "lfp" and (use == "power" or second.exposure[0, 300, 1] < 1))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("how", ["invalid_times", "missing_value", "control", "mask"])
def test_what_stands_at_unobserved_samples_does_not_matter_bit_for_bit(use, how):
    rng = np.random.default_rng(3)
    results = []
    for junk in (0, 1000, 30000):
        data = noise(8.0, dtype=np.int16)
        config, fields = {}, {}
        if how == "missing_value":
            data[9000:9700] = junk - 32768
            config = {"missing_value": junk - 32768.0}
        else:
            data[9000:9700] = rng.permutation(np.arange(-350, 350))[:, None] * junk // 350
        if how == "control":
            control = np.zeros(len(data), dtype=np.uint8)
            control[9000:9700] = 1
            fields, config = {"control": control, "control_description": ["good", "bad"]}, {"control": (0,)}
        nwbfile, series = session(data, **fields)
        if how == "invalid_times":
            add_invalid_times(nwbfile, [[9000 / RATE, 9700 / RATE]])
        if how == "mask":
            mask = np.ones(data.shape, dtype=np.uint8)
            mask[9000:9700] = 0
            region = DynamicTableRegion(
                name="channels", data=[0, 1, 2, 3], description="electrodes", table=nwbfile.electrodes
            )
            nwbfile.add_acquisition(
                ObservationMaskSeries(
                    name="mask", data=mask, unit="n/a", rate=RATE, channels=region, source_timeseries=series
                )
            )
        results.append(read(nwbfile, series, use, grid=whole(8.0), **config))
    for other in results[1:]:
        same(results[0], other, exactly=True)
    assert not results[0].observed[0, 226:242].any() and results[0].observed[0, 260:380].all()


def test_bins_watched_in_part_carry_their_exposure():
    data, _ = spiky()
    nwbfile, series = session(data)
    add_invalid_times(nwbfile, [[4.015, 6.0]])
    binned = read(nwbfile, series, "spikes", grid=whole())
    share = binned.exposure[0, :, 0]
    assert 0 < share[200] < 0.75 and (share[202:298] == 0).all() and (share[:199] == 1).sum() >= 198
    assert np.array_equal(binned.observed, binned.exposure > 0)


@pytest.mark.parametrize("use", USES)
def test_a_gap_in_the_timestamps_gives_two_pieces_filtered_by_themselves(use):
    data = noise()
    # Cut at a multiple of the lengths in which both readings add up samples (3, 10 and 31), so that they can be compared.
    cut = 10230
    times = np.arange(len(data)) / RATE + 1.0
    times[cut:] += 3.0
    gap = read(*session(data, timestamps=times), use, grid=Grid(np.array([1.0]), 0.02, 750))
    before = read(*session(data[:cut], timestamps=times[:cut]), use, grid=Grid(np.array([1.0]), 0.02, 250))
    after = read(*session(data[cut:], timestamps=times[cut:]), use, grid=Grid(np.array([9.0]), 0.02, 350))
    if use != "spikes":
        np.testing.assert_allclose(gap.values[0, :250], before.values[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(gap.values[0, 400:], after.values[0], rtol=1e-3, atol=1e-3)
    assert np.array_equal(gap.observed[0, :250], before.observed[0])
    assert np.array_equal(gap.observed[0, 400:], after.observed[0])
    assert not gap.observed[0, 257:404].any()


@pytest.mark.parametrize("use", USES)
def test_samples_lost_from_the_timestamps_read_as_samples_stored_as_nan(use):
    data = noise(dtype=np.float64)
    rng = np.random.default_rng(4)
    stored = rng.random(len(data)) > 0.002
    stored[5000:5300] = False
    stored[[0, -1]] = True
    times = 1.0 + np.arange(len(data)) / RATE
    invalid = [[3.0, 3.02], [6.5, 6.51]]
    control = (np.arange(len(data)) // 2000 % 5 != 4).astype(np.uint8)
    fields = {"control_description": ["x", "y"], "conversion": 1.0}
    read_alike = []
    for kept in (stored, np.ones_like(stored)):
        here = {**fields, "control": control[kept]}
        nwbfile, series = session(np.where(stored[:, None], data, np.nan)[kept], timestamps=times[kept], **here)
        add_invalid_times(nwbfile, invalid)
        read_alike.append(read(nwbfile, series, use, grid=Grid(np.array([1.0]), 0.02, 590), control=(1,)))
    lost, nan = read_alike
    assert np.array_equal(lost.observed, nan.observed) and 0.2 < lost.observed.mean() < 0.9
    same(lost, nan)


def test_gaps_of_timestamps_that_are_short_make_no_pieces():
    data = noise(4.0)
    times = np.arange(len(data)) / RATE
    times[2000:] += 0.1004
    times[3000:] += 2.0
    source = electrical_source(*session(data, timestamps=times), settings_of("lfp"))
    assert [note.split(": ")[1] for note in source.notes] == [
        "1 gap in the timestamps; each part is filtered separately",
        f"1 gap of no more than 1 s in the timestamps; the {round(0.1004 * RATE)} lost samples are treated as missing",
    ]
    assert [(piece.first, piece.stop) for piece in source.recording.pieces] == [
        (0, 3000 + round(0.1004 * RATE)),
        (3000 + round(0.1004 * RATE), len(data) + round(0.1004 * RATE)),
    ]
    # Of a clock that is not even nothing is counted.
    uneven = np.cumsum(np.random.default_rng(0).uniform(0.6, 1.4, len(data)))
    uneven[4000:] += 2.0
    assert electrical_source(*session(data, timestamps=uneven / RATE), settings_of("lfp")).recording.runs is None


def test_jittered_timestamps_are_followed():
    data = noise(4.0)
    rng = np.random.default_rng(0)
    drifting = np.arange(len(data)) / RATE * 1.01 + rng.uniform(0, 1e-5, len(data))
    grid = Grid(np.array([0.0]), 0.0202, 190)
    result = read(*session(data, timestamps=drifting), "lfp", grid=grid)
    plain = read(*session(data), "lfp", grid=Grid(np.array([0.0]), 0.02, 190))
    where = result.observed & plain.observed
    assert where.mean() > 0.95
    np.testing.assert_allclose(result.values[where], plain.values[where], atol=0.04 * plain.values[where].std())


def test_channels_follow_the_region_in_its_own_order():
    data = noise(2.0, 3)
    nwbfile, series = session(data, rows=[6, 0, 3])
    source = electrical_source(nwbfile, series, settings_of("lfp"))
    assert source.channel_id.tolist() == [106, 100, 103] and source.channel_row.tolist() == [6, 0, 3]
    assert source.channel_columns["depth"].tolist() == [60.0, 0.0, 30.0]
    assert "group" not in source.channel_columns and source.channel_columns["group_name"].tolist() == ["shank"] * 3
    assert (source.table, source.path, source.unit) == ("electrodes", "acquisition/ElectricalSeries", "volts")
    assert source.sampling_period == 1 / RATE and source.span == (0.0, 2.0)


def test_one_electrode_may_be_a_plain_vector():
    data = noise(2.0, 1)
    plain = read(*session(data[:, 0], rows=[2]), "lfp", grid=whole(2.0))
    same(plain, read(*session(data, rows=[2]), "lfp", grid=whole(2.0)), exactly=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("use", USES)
def test_transposed_data_are_recognised_and_said(use):
    data, keep = noise(2.0), np.array([True, False, True, True])
    nwbfile, series = session(data.T.copy(), rows=range(4))
    source = electrical_source(nwbfile, series, settings_of(use))
    assert any("transposed when read" in note for note in source.notes)
    upright = electrical_source(*session(data), settings_of(use))
    same(source.bin(whole(2.0)), upright.bin(whole(2.0)), exactly=True)
    same(source.only(keep).bin(whole(2.0)), upright.only(keep).bin(whole(2.0)), exactly=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_shape_that_fits_neither_way_is_an_error_naming_it():
    with pytest.raises(DataError, match=r"\(4000, 4\).*5 electrodes"):
        electrical_source(*session(noise(2.0), rows=range(5)), ReadConfig())


def test_bins_shorter_than_a_sample_and_too_little_memory_are_errors():
    with pytest.raises(DataError, match="sampling period"):
        read(*session(noise(2.0)), "spikes", grid=whole(2.0, 0.0001))
    with pytest.raises(DataError, match="memory_limit"):
        read(*session(noise(2.0)), "lfp", grid=whole(2.0), memory_limit=1000)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["neuropixels_lf.nwb", "buzsaki_lfp_units.nwb"])
@pytest.mark.slow
def test_recorded_voltages_equal_the_whole_file_in_volts(realdata, name):
    with NWBHDF5IO(realdata / "ecephys" / name, "r") as io:
        nwbfile = io.read()
        series = next(item for item in nwbfile.objects.values() if isinstance(item, ElectricalSeries))
        source = electrical_source(nwbfile, series, ReadConfig(memory_limit=6e7))
        n = series.data.shape[0]
        binned = source.bin(Grid(np.array([source.span[0] - source.sampling_period / 2]), source.sampling_period, n))
        volts = series.data[:].astype(float) * series.conversion
    assert binned.values.shape == (1, n, volts.shape[1])
    # Two electrodes are clipped, one of them for half a second.
    whole_channels = binned.observed[0].all(axis=0)
    assert whole_channels.sum() >= volts.shape[1] - 2 and binned.observed.mean() > 0.999
    sd = 0.2494 / source.sampling_period
    for row in range(0, n, max(n // 40, 1)):
        bell = np.exp(-0.5 * ((row - np.arange(n)) / sd) ** 2) * (np.abs(row - np.arange(n)) <= 4 * sd)
        expected = volts[row] - bell @ volts / bell.sum()
        np.testing.assert_allclose(
            binned.values[0, row, whole_channels], expected[whole_channels], atol=2e-3 * volts.std()
        )


@pytest.mark.parametrize("use", USES)
def test_flat_electrodes_are_named_in_a_note(use):
    data = noise(4.0)
    assert read(*session(data), use, grid=whole(4.0)).notes == ()
    data[:, [1, 3]] = [250.0, 0.0]
    binned = read(*session(data), use, grid=whole(4.0))
    assert len(binned.notes) == 1
    assert binned.notes[0].startswith("2 of 4 electrodes of 'acquisition/ElectricalSeries'")
    assert binned.notes[0].endswith(": [101, 103]")
    assert binned.observed.any(axis=(0, 1)).tolist() == [True, False, True, False]


def test_band_power_without_a_bin_width_comes_in_usual_bins(tmp_path):
    path = write(session(noise(2.0))[0], tmp_path / "x.nwb")
    assert read_nwb(path, settings_of("power")).attrs["bin_width"] == 0.02


@pytest.mark.parametrize(
    ("rate", "band", "feature", "width", "seconds"),
    [
        (1000.0, None, "lfp", 0.01, 3.0),
        (30_000.0, None, "lfp", 0.01, 3.0),
        (50.0, None, "lfp", 0.02, 3.0),
        (1250.0, (4.0, 12.0), "lfp", 0.02, 2.0),
        (1000.0, (4.0, 8.0), "power", 0.5, 5.0),
        (30_000.0, None, "spikes", 0.02, 2.0),
    ],
)
def test_bins_and_chops_follow_from_rate_and_band_where_none_are_set(tmp_path, rate, band, feature, width, seconds):
    data = np.random.default_rng(0).normal(size=(int(32 * rate), 1)).astype(np.float32)
    nwbfile = new_file()
    add_electrodes(nwbfile, 1)
    add_electrical(nwbfile, data, rate=rate)
    electrical = ElectricalConfig(feature=feature, band=band)
    read = read_nwb(write(nwbfile, tmp_path / "x.nwb"), ReadConfig(electrical=electrical))
    assert read.attrs["bin_width"] == pytest.approx(width)
    assert read.sizes["time"] * width == pytest.approx(seconds)
    assert ("which is typical for spikes, but is" in read.attrs["notes"]) == (feature == "lfp" and rate > 10_000)


def test_several_series_take_the_longest_of_their_bins(tmp_path):
    nwbfile = new_file()
    add_electrodes(nwbfile, 4)
    rng = np.random.default_rng(0)
    for name, rate, rows in (("slow", 50.0, [0, 1]), ("fast", 1000.0, [2, 3])):
        add_electrical(nwbfile, rng.normal(size=(int(30 * rate), 2)), rate=rate, name=name, rows=rows)
    read = read_nwb(write(nwbfile, tmp_path / "x.nwb"), series=["acquisition/slow", "acquisition/fast"])
    assert read.attrs["bin_width"] == 0.02 and read["observed"].values.mean() > 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"feature": "power", "band": (1e-6, 40.0)},
            r"extends 2.93e\+06 s .* longest part of .* is 3 s; .* raise the lower",
        ),
        ({"feature": "spikes", "band": (10.0, 10.01)}, r"a band of 10 to 10.01 Hz needs a filter .* wider band"),
        ({"bands": {"a": (4.0, 8.0), "b": (0.01, 4.0)}}, "a band of 0.01 to 4 Hz needs a filter that extends"),
        (
            {"band": (48.5, 51.5), "notch": 50.0},
            "removes everything within 1 Hz of 50 Hz, which is 67% of the band",
        ),
    ],
)
def test_bands_that_leave_nothing_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        source = electrical_source(*session(noise(3.0, 2)), ReadConfig(electrical=ElectricalConfig(**settings)))
        source.bin(whole(3.0, 0.004))


def test_a_notch_may_take_a_small_part_of_a_band():
    nwbfile, series = session(noise(2.0, 2))
    config = ReadConfig(electrical=ElectricalConfig(feature="lfp", band=(45.0, 55.0), notch=50.0))
    assert electrical_source(nwbfile, series, config).bin(whole(2.0, 0.004)).observed.any()


def test_a_pad_that_leaves_nothing_is_named(tmp_path):
    nwbfile, _ = session(noise(2.0, 2))
    add_invalid_times(nwbfile, [(1.0, 1.1)])
    with pytest.raises(DataError, match=r"read.electrical.pad=10 s around all invalid times leaves"):
        read_nwb(write(nwbfile, tmp_path / "x.nwb"), ReadConfig(electrical=ElectricalConfig(pad=10.0)))
