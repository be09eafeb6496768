import numpy as np
import pytest

import nwb_sbtt as sb
from nwb_sbtt.errors import ConfigError, DataError

RNG = np.random.default_rng(3)


@pytest.fixture
def nap():
    return pytest.importorskip("pynapple")


@pytest.fixture
def group(nap):
    """Three units with metadata, recorded from 0 to 40 s and from 50 to 100 s."""
    support = nap.IntervalSet([0, 50], [40, 100])
    spikes = {key: nap.Ts(np.sort(RNG.random(500) * 100)) for key in (3, 7, 11)}
    return nap.TsGroup(spikes, time_support=support, metadata={"area": ["M1", "PMd", "M1"], "depth": [1.0, 2.0, 3.0]})


def test_spikes_of_pynapple_are_counted_within_their_time_support(nap, group):
    ds = sb.from_pynapple(group, bin_width=0.5, trials=sb.Window(start=30, stop=60))
    assert ds["channel_id"].values.tolist() == [3, 7, 11] and ds["area"].values.tolist() == ["M1", "PMd", "M1"]
    np.testing.assert_array_equal(ds["observed"].values[0, :, 0], np.r_[[True] * 20, [False] * 20, [True] * 20])
    counts = group.count(0.5, nap.IntervalSet(30, 40)).values
    np.testing.assert_array_equal(ds["values"].values[0, :20], counts)
    assert not {"source", "read_config", "session_start_time"} & set(ds.attrs)
    with pytest.raises(ConfigError, match=r"^trials is a IntervalSet; .*passed as events=…, with start=… and stop=…"):
        sb.from_pynapple(group, trials=group.time_support)
    one = sb.from_pynapple(group[3], bin_width=0.5, trials=sb.Window(start=30, stop=40))
    np.testing.assert_array_equal(one["values"].values[..., 0], ds["values"].values[:, :20, 0])
    few = sb.from_pynapple(group, bin_width=0.5, config=sb.ReadConfig(where={"area": ["M1"]}))
    assert few["channel_id"].values.tolist() == [3, 11]


def test_trials_come_from_events_with_their_columns(nap, group):
    cues = nap.IntervalSet(np.arange(5, 35, 5.0), np.arange(6, 36, 5.0), metadata={"side": list("lrlrlr")})
    ds = sb.from_pynapple(group, bin_width=0.02, events=cues, start=-0.5, stop=1.0)
    assert ds["side"].values.tolist() == list("lrlrlr") and ds.sizes["time"] == 75
    np.testing.assert_allclose(ds["trial_start"].values, np.arange(5, 35, 5.0) - 0.5)
    for events in (nap.Ts(np.arange(5, 35, 5.0)), np.arange(5, 35, 5.0)):
        other = sb.from_pynapple(group, bin_width=0.02, events=events, start=-0.5, stop=1.0)
        np.testing.assert_array_equal(other["values"].values, ds["values"].values)
    for words, message in (
        ({"events": cues}, "pass `start` and `stop`"),
        ({"start": 0.0}, "relative to events"),
        ({"events": cues, "start": 0.0, "stop": 1.0, "trials": sb.Chop()}, "either `events`"),
    ):
        with pytest.raises(ConfigError, match=message):
            sb.from_pynapple(group, bin_width=0.02, **words)
    for events, message in (([], r"events have shape \(0,\)"), (["cue"], "expected an array of real numbers")):
        with pytest.raises(DataError, match=message):
            sb.from_pynapple(group, bin_width=0.02, events=events, start=0.0, stop=1.0)


def test_samples_of_pynapple_keep_nan_and_gaps_missing(nap):
    times = np.r_[np.arange(200), np.arange(300, 500)] / 50
    values = RNG.normal(size=(400, 2))
    values[10:20, 1] = np.nan
    frame = nap.TsdFrame(t=times, d=values, columns=["x", "y"])
    ds = sb.from_pynapple(frame, bin_width=0.02, trials=sb.Window(start=-0.01, stop=9.99), unit="mV")
    observed = ds["observed"].values[0]
    assert ds["channel_id"].values.tolist() == ["x", "y"] and ds.attrs["unit"] == "mV" and ds.attrs["kind"] == "series"
    assert observed[:200, 0].all() and not observed[200:300].any() and not observed[10:20, 1].any()
    np.testing.assert_allclose(ds["values"].values[0, :10], values[:10], rtol=1e-5)
    alone = sb.from_pynapple(nap.Tsd(t=times, d=values[:, 0]), trials=sb.Window(start=-0.01, stop=3.99))
    np.testing.assert_allclose(alone["values"].values[0, :, 0], values[:200, 0], rtol=1e-5)
    with pytest.raises(DataError, match="expected a TsGroup, Ts, TsdFrame or Tsd of pynapple, not a ndarray"):
        sb.from_pynapple(values)


def test_data_without_a_measurement_are_refused_without_the_name_of_a_file(nap):
    empty = nap.TsdFrame(t=np.arange(100) / 10, d=np.full((100, 3), np.nan))
    with pytest.raises(
        DataError, match=r"^nothing is observed in these data: all 390 entries are masked; expected at least"
    ):
        sb.from_pynapple(empty, bin_width=0.1)


def test_a_model_of_objects_in_memory_takes_them_again(nap, group, tmp_path):
    words = {"bin_width": 0.1, "trials": sb.Chop(length=2.0)}
    config = sb.FitConfig(model=sb.config.SAEConfig(), train=sb.config.TrainConfig(epochs=1))
    fitted = sb.fit(sb.from_pynapple(group, **words), config, run_dir=tmp_path / "run")
    latents = fitted.infer(sb.from_pynapple(group, **words))
    assert latents["rates"].sizes["channel"] == 3


@pytest.fixture
def recording():
    """Two seconds of four channels, and their units."""
    core = pytest.importorskip("spikeinterface.core")
    return core.generate_ground_truth_recording(durations=[4.0], num_channels=4, num_units=3, seed=0)


def test_a_sorting_is_observed_for_as_long_as_its_recording(recording):
    traces, sorting = recording
    without = sb.from_spikeinterface(sorting, bin_width=0.01, trials=sb.Window(start=0, stop=5))
    assert without["observed"].values.all() and "no obs_intervals" in without.attrs["notes"]
    sorting.register_recording(traces)
    ds = sb.from_spikeinterface(sorting, bin_width=0.01, trials=sb.Window(start=0, stop=5))
    np.testing.assert_array_equal(ds["observed"].values[0, :, 0], np.arange(500) < 400)
    for channel, unit in enumerate(sorting.unit_ids):
        n_spikes = len(sorting.get_unit_spike_train(unit, segment_index=0))
        assert ds["values"].values[..., channel].sum() == n_spikes > 0
    assert ds["channel_id"].values.tolist() == [int(unit) for unit in sorting.unit_ids]


def test_voltages_of_spikeinterface_are_read_as_an_electrical_series(recording):
    traces, _ = recording
    config = sb.ReadConfig(electrical={"feature": "lfp", "band": None})
    window = sb.Window(start=0, stop=4)
    ds = sb.from_spikeinterface(traces, bin_width=0.01, trials=window, config=config)
    expected = traces.get_traces(return_in_uV=True).reshape(400, -1, 4).mean(axis=1) * 1e-6
    assert ds.attrs["unit"] == "volts" and ds["channel_id"].values.tolist() == [0, 1, 2, 3]
    scale = np.abs(expected).max()
    inner = ds["observed"].values[0]
    assert inner.mean() > 0.9
    assert np.corrcoef(ds["values"].values[0][inner], expected[inner])[0, 1] > 0.5 and scale < 1e-3
    crossings = sb.ReadConfig(electrical={"feature": "spikes"})
    counts = sb.from_spikeinterface(traces, bin_width=0.01, trials=window, config=crossings)
    assert counts.attrs["unit"] == "counts" and counts["values"].values.sum() > 0


def test_segments_and_types_are_asked_for(recording):
    core = pytest.importorskip("spikeinterface.core")
    traces, sorting = core.generate_ground_truth_recording(durations=[2.0, 1.0], num_channels=4, num_units=3, seed=0)
    with pytest.raises(ConfigError, match=r"has 2 segments; choose one with `segment`"):
        sb.from_spikeinterface(sorting)
    sorting.register_recording(traces)
    ds = sb.from_spikeinterface(sorting, segment=1, bin_width=0.01, trials=sb.Window(start=0, stop=2))
    np.testing.assert_array_equal(ds["observed"].values[0, :, 0], np.arange(200) < 100)
    with pytest.raises(DataError, match="expected a sorting or a recording of spikeinterface, not a dict"):
        sb.from_spikeinterface({})


def test_missing_libraries_are_named(monkeypatch):
    for name, make in (("pynapple", sb.from_pynapple), ("spikeinterface", sb.from_spikeinterface)):
        monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(ConfigError, match=f"pip install {name}"):
            make(object())
