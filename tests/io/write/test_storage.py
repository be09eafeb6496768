"""How results are stored: how small, with which digits, which parts, and whether other tools find what they look for."""

import re
import sys
import warnings

import h5py
import numpy as np
import pynwb
import pytest
from pynwb import NWBHDF5IO, TimeSeries

import nwb_sbtt as sb
from nwb_sbtt.config import WriteConfig
from nwb_sbtt.data.binning import simplest
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.layout import VARIABLES
from nwb_sbtt.io.write.precision import rounded, rounded_names
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.writer import rehearse, write_nwb
from tests.support import nwbfiles
from tests.support.latents import latents_of, make_latents, write_exactly

UNITS = [("units", "units", [2, 0, 1])]
STARTS = (0.0, 2.0, 4.5)
KNOWN_MODULES = ("behavior", "ecephys", "icephys", "misc", "ogen", "ophys", "retinotopy")
"""Processing modules in which viewers and nwbinspector look."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    random = np.random.default_rng(0)
    nwbfile = nwbfiles.new_file()
    spikes = [np.sort(random.random(20_000) * 100) for _ in range(3)]
    nwbfiles.add_units(nwbfile, spikes, ids=[11, 12, 7], columns={"region": ["M1", "PMd", "M1"]})
    nwbfiles.add_trials(nwbfile, [0.0, 2.0, 4.5], [1.0, 3.0, 5.5], side=["l", "r", "l"], go=[0.25, 2.25, 4.75])
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("recording") / "recording.nwb")


@pytest.fixture(scope="module")
def latents(recording):
    return latents_of(recording, UNITS, starts=STARTS)


@pytest.fixture(scope="module")
def result(latents, tmp_path_factory):
    return write_nwb(latents, tmp_path_factory.mktemp("result") / "result.nwb")


def test_errors_of_rounding_are_far_below_the_sd_and_the_change_from_bin_to_bin(latents, result):
    read = read_result(result)
    for name in rounded_names(latents):
        before, after = latents[name].values, read[name].values
        assert (before != after).any()
        if name.endswith("_sd"):
            assert np.abs(after / before - 1).max() <= 1 / 32
        else:
            assert (np.abs(after - before) <= latents[f"{name}_sd"].values / 16).all()
            assert ((after > 0) == (before > 0)).all()
    for name in ("rates", "factors", "inputs"):
        change = np.sqrt((np.diff(latents[name].values, axis=1) ** 2).mean((0, 1)))
        assert (np.abs(read[name].values - latents[name].values).max((0, 1)) <= change / 16).all()


def test_rounded_values_are_stored_in_half_the_space(tmp_path):
    course = np.sin(np.linspace(0, 60, 4000))[:, None] + np.arange(1, 7)
    many = make_latents(starts=np.arange(100.0), n_channels=6)
    smooth = many.assign(rates=many["rates"].copy(data=course.reshape(100, 40, 6).astype(np.float32)))
    smooth = smooth.assign(rates_sd=many["rates_sd"].copy(data=0.2 + smooth["rates"].values / 50))
    sizes = []
    for precision in ("rounded", "full"):
        path = write_nwb(smooth, tmp_path / f"{precision}.nwb", config=WriteConfig(precision=precision))
        with h5py.File(path) as file:
            sizes.append(
                sum(file[f"processing/ecephys/sbtt_{n}/data"].id.get_storage_size() for n in ("rates", "rates_sd"))
            )
    assert sizes[0] < sizes[1] / 2
    with NWBHDF5IO(tmp_path / "rounded.nwb", "r") as io:
        module = io.read().processing["ecephys"]
        assert "Rounded by at most a sixteenth of the posterior sd" in module["sbtt_rates"].description
        assert "Rounded by at most 3 %" in module["sbtt_factors_sd"].description
        assert "Rounded" not in module["sbtt_mask"].description


def test_values_without_an_sd_keep_all_digits(recording, tmp_path):
    plain = latents_of(recording, UNITS, starts=STARTS).drop_vars(["rates_sd", "factors_sd"])
    read = read_result(write_nwb(plain, tmp_path / "r.nwb"))
    for name in ("rates", "factors"):
        np.testing.assert_array_equal(read[name].values, plain[name].values)
    assert rounded_names(plain) == ["inputs", "initial_condition", "inputs_sd", "initial_condition_sd"]


def test_an_sd_of_zero_or_none_leaves_values_as_they_are(latents):
    changed = latents.copy(deep=True)
    changed["rates_sd"].values[0] = 0
    changed["rates_sd"].values[1, 0] = np.nan
    changed["rates"].values[1, 1] = np.nan
    changed["rates"].values[2, 0, 0] = 1e-7
    values = rounded(changed, rounded_names(changed))["rates"].values
    np.testing.assert_array_equal(values[0], changed["rates"].values[0])
    np.testing.assert_array_equal(values[1, :2], changed["rates"].values[1, :2])
    assert values[2, 0, 0] == np.float32(1e-7) and np.isfinite(values[2]).all()


def test_only_what_is_asked_for_is_written(latents, tmp_path):
    path = write_nwb(latents, tmp_path / "r.nwb", config=WriteConfig(variables=("rates", "factors")))
    read = read_result(path)
    assert set(read.data_vars) == {"rates", "factors", "observed"}
    np.testing.assert_array_equal(read["observed"], latents["observed"])
    assert pynwb.validate(path=path) == []
    with NWBHDF5IO(path, "r") as io:
        # It was rounded by an sd that is not in the file, and says so.
        assert "Rounded" in io.read().processing["ecephys"]["sbtt_rates"].description
    read = read_result(write_nwb(latents, tmp_path / "s.nwb", config=WriteConfig(variables=("factors", "factors_sd"))))
    assert set(read.data_vars) == {"factors", "factors_sd", "observed"}


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (("rate",), ConfigError, f"'rate' cannot be written .* did you mean 'rates'.*{', '.join(VARIABLES)}"),
        (("spikes", "rates"), ConfigError, r"available: rates, rates_sd, mean"),
        ((), ConfigError, "the list of variables to write"),
        (("rates_sd",), ConfigError, "the sd of 'rates', which is not"),
        (("rates", "events"), DataError, r"does not infer 'events'; choose from factors, factors_sd"),
    ],
)
def test_names_that_cannot_be_written_are_refused_and_nothing_is(latents, recording, tmp_path, names, error, message):
    config = WriteConfig(variables=names)
    with pytest.raises(error, match=message):
        write_nwb(latents, tmp_path / "r.nwb", config=config)
    assert not list(tmp_path.iterdir())
    if error is ConfigError:
        ds = read_nwb(recording, bin_width=0.02, trials=sb.Trials(event="start_time", start=0, stop=1))
        with pytest.raises(error, match=message):
            rehearse(ds, tmp_path / "r.nwb", config=config)


def test_what_is_carried_is_packed_like_everything_else(recording, result):
    with h5py.File(result) as file, h5py.File(recording) as source:
        stored = file["units/spike_times"]
        assert (stored.compression, stored.shuffle) == ("gzip", True) and stored.chunks is not None
        assert stored.id.get_storage_size() < 0.75 * stored.nbytes
        np.testing.assert_array_equal(stored[:], source["units/spike_times"][:])


def test_spikes_can_stay_behind(latents, tmp_path):
    path = write_nwb(latents, tmp_path / "r.nwb", config=WriteConfig(spikes=False))
    assert pynwb.validate(path=path) == []
    with NWBHDF5IO(path, "r") as io:
        units = io.read().units
        assert units.colnames == ("region",) and units.id[:].tolist() == [11, 12, 7]
    assert read_result(path)["channel_id"].values.tolist() == latents["channel_id"].values.tolist()
    # Blocks of spikes are what is large in this file.
    assert path.stat().st_size < 800_000


def test_blosc_is_a_setting(latents, tmp_path, monkeypatch):
    pytest.importorskip("hdf5plugin")
    config = WriteConfig(compression="blosc", precision="full")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_nwb(latents, tmp_path / "r.nwb", config=config)
    with h5py.File(path) as file:
        (chosen,) = file["processing/ecephys/sbtt_rates/data"]._filters
        assert chosen == "32001"
    np.testing.assert_array_equal(read_result(path)["rates"], latents["rates"])
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr("nwb_sbtt.io.write.packing.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"hdf5plugin, which is not installed: pip install .*or keep gzip"):
        write_nwb(latents, tmp_path / "s.nwb", config=config)
    assert not (tmp_path / "s.nwb").exists()


def test_the_trials_ride_along_with_their_columns(recording, result):
    with NWBHDF5IO(result, "r") as io, NWBHDF5IO(recording, "r") as io_of_source:
        trials, source = io.read().trials, io_of_source.read().trials
        assert trials.colnames == source.colnames == ("start_time", "stop_time", "side", "go")
        assert trials.to_dataframe().equals(source.to_dataframe())


def test_intervals_that_the_data_were_cut_by_ride_along(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1], [0.2], [0.3]], ids=[11, 12, 7])
    for name in ("choices", "pauses"):
        table = pynwb.epoch.TimeIntervals(name=name, description=f"{name} of the animal")
        table.add_column(name="licks", description="licks", index=True)
        for start in (0.0, 1.0):
            table.add_row(start_time=start, stop_time=start + 0.5, tags=["a", "b"], licks=[start, start + 0.1])
        nwbfile.add_time_intervals(table)
    path = nwbfiles.write(nwbfile, tmp_path / "recording.nwb")
    latents = latents_of(path, UNITS).assign_attrs(cut='{"by": "trials", "event": "start_time", "table": "choices"}')
    with NWBHDF5IO(write_nwb(latents, tmp_path / "r.nwb"), "r") as io:
        intervals = io.read().intervals
        assert list(intervals) == ["choices"]
        assert list(intervals["choices"]["tags"][1]) == ["a", "b"]
        np.testing.assert_array_equal(intervals["choices"]["licks"][1], [1.0, 1.1])


def test_tags_without_an_index_are_one_of_each_row(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1], [0.2], [0.3]], ids=[11, 12, 7])
    for start in (0.0, 1.0):
        nwbfile.add_trial(start_time=start, stop_time=start + 0.5, tags=[f"from {start:g}"])
    path = nwbfiles.write(nwbfile, tmp_path / "recording.nwb")
    with h5py.File(path, "r+") as file:
        del file["intervals/trials/tags_index"]
    latents = latents_of(path, UNITS).assign_attrs(cut='{"by": "trials", "event": "start_time", "table": "trials"}')
    with NWBHDF5IO(write_nwb(latents, tmp_path / "r.nwb"), "r") as io:
        read = io.read()
        assert list(read.trials["tags"][1]) == ["from 1"]
        assert list(read.units.id[:]) == [11, 12, 7]


def test_an_sd_can_be_deleted_and_all_else_is_read(latents, tmp_path):
    path = write_exactly(latents, tmp_path / "r.nwb")
    with h5py.File(path, "r+") as file:
        for name in ("rates_sd", "factors_sd", "inputs_sd"):
            del file[f"processing/ecephys/sbtt_{name}"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Path to Group altered/broken")
        read = read_result(path)
        with NWBHDF5IO(path, "r") as io:
            module = io.read().processing["ecephys"]
            assert module["sbtt_rates"].posterior_sd is None
            assert len(module["sbtt_rates"].timestamps) == 120
            (rates, *_) = module["sbtt_segments"]["timeseries"][1]
            np.testing.assert_array_equal(rates.data, latents["rates"].values[1])
    np.testing.assert_array_equal(read["rates"], latents["rates"])
    np.testing.assert_array_equal(read["inputs"], latents["inputs"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.09999999999990905, 0.1),
        (1 / 0.07, 14.285714285714285),
        (1 / (1 / 29.97), 29.97),
        (1 / 3, 1 / 3),
        (0.1000001, 0.1000001),
        (0.02, 0.02),
        (49.99999999999999, 50.0),
    ],
)
def test_a_number_is_the_short_decimal_that_it_is_within_rounding(value, expected):
    assert simplest(value) == expected


def test_bin_widths_and_rates_carry_no_dust(tmp_path):
    nwbfile = nwbfiles.new_file()
    # Steps of times this late are 0.1 within some 1e-12.
    times = 5000.3 + np.cumsum(np.full(200, 0.1))
    data = np.random.default_rng(0).standard_normal((200, 3))
    nwbfiles.add_series(nwbfile, data, timestamps=times)
    path = nwbfiles.write(nwbfile, tmp_path / "recording.nwb")
    assert float(np.median(np.diff(times))) != 0.1
    ds = read_nwb(path, series="acquisition/series")
    assert ds.attrs["bin_width"] == 0.1
    assert [candidate.rate for candidate in sb.inspect(path)] == [10.0]
    regular = make_latents(starts=[4 * 0.1, 7 * 0.1], n_bins=3, bin_width=0.1)
    with NWBHDF5IO(write_nwb(regular, tmp_path / "r.nwb"), "r") as io:
        module = io.read().processing["ecephys"]
        assert (module["sbtt_rates"].rate, module["sbtt_rates"].starting_time) == (10.0, 0.45)
        assert module["sbtt_model"].bin_width == 0.1


def test_pynapple_gets_ids_conditions_and_one_support_a_trial_from_a_file(result, latents):
    nap = pytest.importorskip("pynapple")
    rates = sb.to_pynapple(read_result(result).assign_coords(side=("trial", ["l", "r", "l"])))
    assert list(rates.columns) == latents["channel_id"].values.tolist()
    assert len(rates.time_support) == 3 and list(rates.time_support["side"]) == ["l", "r", "l"]
    file = nap.load_file(str(result))
    assert list(file["trials"]["side"]) == ["l", "r", "l"] and list(file["units"].index) == [7, 11, 12]
    assert len(file["sbtt_segments"]) == 3
    of_file = file["sbtt_rates"]
    np.testing.assert_array_equal(of_file.values, rates.values)
    np.testing.assert_allclose(of_file.t, rates.t)
    assert len(of_file.restrict(file["trials"][1])) == 40
    # pynapple labels the columns of recorded types alone; the ids of all others are in the region.
    channels = file.nwb.processing["ecephys"]["sbtt_rates"].channels
    assert channels.table.id[:][channels.data[:]].tolist() == list(rates.columns)


def test_other_readers_find_core_types_in_known_places_under_names_that_they_can_use(result):
    """MatNWB makes classes from the cached specification, and properties from names; viewers know modules and core types."""
    with h5py.File(result) as file:
        cached = file["specifications"]
        assert {"core", "hdmf-common", "ndx-sbtt"} <= set(cached)
        (text,) = (cached["ndx-sbtt"][version]["namespace"][()] for version in cached["ndx-sbtt"])
        assert b'"ndx-sbtt.extensions"' in text
    with NWBHDF5IO(result, "r") as io:
        nwb = io.read()
        assert set(nwb.processing) <= set(KNOWN_MODULES)
        for item in nwb.processing["ecephys"].data_interfaces.values():
            core = isinstance(item, TimeSeries | pynwb.core.DynamicTable)
            assert core or item.neurodata_type == "LatentVariableModel"
            assert re.fullmatch(r"[A-Za-z]\w{0,62}", item.name)


def test_the_inspector_finds_nothing_critical(result):
    from nwbinspector import Importance, inspect_nwbfile, load_config

    found = inspect_nwbfile(
        nwbfile_path=str(result), config=load_config("dandi"), importance_threshold=Importance.BEST_PRACTICE_VIOLATION
    )
    assert {each.check_function_name for each in found} <= {"check_units_resolution_is_set"}
