"""Fluorescence read as events: found once, over the whole session, wherever it is cut and whenever each ROI was scanned."""

import json

import numpy as np
import pytest
from pynwb.ophys import DfOverF, Fluorescence

from nwb_sbtt.calcium.deconvolution import deconvolve, known_indicator
from nwb_sbtt.calcium.events import find_events
from nwb_sbtt.config import Chop, EventsConfig, ReadConfig, RoiConfig, Window
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.tensors import to_latents
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.io.read.reader import read_nwb
from tests.support.fluorescence import N_FRAMES, N_ROIS, OFFSETS, PERIOD, dff, light, write
from tests.support.nwbfiles import Imaged


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("events") / "dff.nwb", dff(light()[0]))


AS_IT_IS = RoiConfig(deconvolve="never")
WHOLE = Window(start=4.95, stop=4.95 + N_FRAMES * PERIOD)


def read(path, **changes):
    return read_nwb(path, ReadConfig(**{"events": EventsConfig(), **changes}))


def test_events_of_a_file_are_those_of_its_data(path):
    ds, expected = read(path, cut=WHOLE), find_events(read_nwb(path, ReadConfig(cut=WHOLE, rois=AS_IT_IS)))
    np.testing.assert_array_equal(ds["observed"], expected["observed"])
    # Fluorescence of the Dataset is float32, whose steps here are 2e-6; events are differences of several samples.
    np.testing.assert_allclose(ds["values"], expected["values"], atol=3e-5)
    np.testing.assert_allclose(ds["denoised"], expected["denoised"], atol=1e-4)
    np.testing.assert_allclose(ds["decay"], expected["decay"], rtol=1e-6)
    assert ds.attrs["signal"] == "events" and ds.attrs["indicator"] == "GCaMP6f"


def test_how_a_session_is_cut_changes_no_event(path):
    whole, cut = read(path, cut=WHOLE), read(path, cut=Chop(length=2.0, overlap=0.5))
    again = merge(cut)
    np.testing.assert_array_equal(again["observed"].values[0, :N_FRAMES], whole["observed"].values[0])
    np.testing.assert_array_equal(again["values"].values[0, :N_FRAMES], whole["values"].values[0])
    part = read(path, cut=Window(start=4.95 + 100 * PERIOD, stop=4.95 + 120 * PERIOD))
    assert part["observed"].values.all(), "the middle of a run has no first sample"
    np.testing.assert_array_equal(part["values"].values[0], whole["values"].values[0, 100:120])


def test_events_are_where_spikes_were(path):
    whole, sizes = read(path, cut=WHOLE)["values"].values[0], light()[1]
    for i in range(N_ROIS):
        assert np.corrcoef(whole[:, i], sizes[:, i])[0, 1] > 0.9


def test_each_roi_has_its_events_at_its_own_moments(path):
    fine = {"bin_width": 0.01, "cut": Window(start=5.0, stop=15.0)}
    coarse = read(path, cut=Window(start=4.95, stop=14.95))["values"].values[0]
    ds = read(path, rois=RoiConfig(offset="column"), **fine)
    for i, offset in enumerate(OFFSETS):
        places = np.arange(100) * 10 + round(offset / 0.01)
        expected = np.zeros(1000, dtype=bool)
        expected[places[1:]] = True
        np.testing.assert_array_equal(ds["observed"].values[0, :, i], expected)
        np.testing.assert_allclose(ds["values"].values[0, places, i], coarse[:, i], atol=1e-5)


def test_planes_taken_in_turn_become_one_population(tmp_path):
    upper, lower = light(1)[0], light(2)[0]
    path = write(
        tmp_path / "planes.nwb",
        Imaged("up_dff", upper, DfOverF, start=1.0),
        Imaged("low_dff", lower, DfOverF, plane=1, start=1.05),
    )
    config = {"series": ("*_dff",), "cut": Window(start=1.0, stop=61.0)}
    raw = read_nwb(path, ReadConfig(bin_width=0.05, rois=AS_IT_IS, **config))
    assert raw.sizes["channel"] == 2 * N_ROIS and len(set(raw["table"].values)) == 2
    observed = raw["observed"].values[0]
    channels_of = {table: np.flatnonzero(raw["table"].values == table) for table in raw["table"].values}
    first, second = channels_of.values()
    assert observed[::2][:, first].all() ^ observed[::2][:, second].all()
    assert (observed.sum(axis=1) == N_ROIS).all(), "one plane at a time"
    names = raw["series"].values
    for name, data in (("up_dff", upper), ("low_dff", lower)):
        columns = np.flatnonzero(np.char.endswith(names, name))
        samples = raw["values"].values[0][:, columns][observed[:, columns[0]]]
        np.testing.assert_allclose(samples, data, rtol=1e-6)
    ds = read(path, bin_width=0.05, **config)
    assert (observed & ~ds["observed"].values[0]).sum() == 2 * N_ROIS, "but for the first sample of each ROI"
    assert not (ds["observed"].values[0] & ~observed).any()
    np.testing.assert_array_equal(np.isnan(ds["denoised"].values[0]), ~observed)
    written = to_latents(ds, {}, {})
    for name, known in (("events", ds["observed"].values[0]), ("denoised", observed)):
        np.testing.assert_array_equal(np.isnan(written[name].values[0]), ~known)
    np.testing.assert_array_equal(np.isnan(merge(written)["events"].values), np.isnan(written["events"].values))


def test_a_gap_is_not_filled(tmp_path):
    data = light()[0]
    data[200:220, 1] = np.nan
    ds = read(write(tmp_path / "gap.nwb", dff(data)), cut=WHOLE)
    lost = np.flatnonzero(~ds["observed"].values[0, :, 1])
    assert np.isnan(ds["denoised"].values[0, 200:220, 1]).all() and np.isfinite(ds["denoised"].values[0, :200, 1]).all()
    np.testing.assert_array_equal(lost, [0, *range(200, 221)])
    np.testing.assert_array_equal(np.flatnonzero(~ds["observed"].values[0, :, 0]), [0])


@pytest.mark.parametrize("share", [0.7, 0.0])
def test_neuropil_beside_fluorescence_is_taken_off(tmp_path, share):
    around = 10 + np.random.default_rng(3).normal(0, 1, (N_FRAMES, N_ROIS)).cumsum(0) * 0.1
    raw = light()[0] + 0.7 * around
    path = write(
        tmp_path / "raw.nwb",
        Imaged("Fluorescence", raw, Fluorescence, start=5.0),
        Imaged("Neuropil", around, Fluorescence, start=5.0),
    )
    rois = RoiConfig(neuropil_coefficient=share)
    ds = read(path, rois=rois, series=("*/Fluorescence/Fluorescence",), cut=WHOLE)
    times, config = 5 + np.arange(N_FRAMES) * PERIOD, EventsConfig()
    one = deconvolve(
        raw[:, 1], times, config=config, indicator=known_indicator(config, "GCaMP6f"), neuropil=share * around[:, 1]
    )
    np.testing.assert_allclose(ds["values"].values[0, :, 1], one.sizes, atol=1e-5)
    assert ("neuropil" in ds.attrs) == (share > 0)


def test_with_a_threshold_all_events_exceed_what_is_said(path):
    ds = read(path, cut=WHOLE, events=EventsConfig(threshold=2.0))
    for i, least in enumerate(ds["smallest_event"].values):
        sizes = ds["values"].values[0, :, i]
        assert 0 < least < sizes[sizes > 0].min()


def test_little_memory_gives_the_same_events(path):
    usual, tight = read(path, cut=WHOLE), read(path, cut=WHOLE, memory_limit=1e5)
    np.testing.assert_array_equal(usual["values"], tight["values"])


def test_events_are_not_looked_for_in_events(tmp_path):
    path = write(tmp_path / "spks.nwb", Imaged("Deconvolved", light()[1], Fluorescence, start=5.0))
    with pytest.raises(DataError, match="already contains events"):
        read(path)


def test_rois_without_events_are_named_or_refused(tmp_path):
    data = light()[0]
    data[:, 1] = 0.0
    ds = read(write(tmp_path / "one.nwb", dff(data)), cut=WHOLE)
    assert "1 of 3 ROIs cannot be used" in ds.attrs["notes"] and not ds["observed"].values[..., 1].any()
    with pytest.raises(DataError, match="3 of 3 ROIs cannot be used"):
        read(write(tmp_path / "none.nwb", dff(np.zeros_like(data))), cut=WHOLE)


def test_events_are_not_looked_for_in_spikes(realdata):
    with pytest.raises(ConfigError, match="events can only be inferred from"):
        read(realdata / "units" / "A8604-211122.nwb")


def test_recorded_fluorescence_gives_events_like_those_of_suite2p(realdata):
    path = realdata / "ophys" / "nwb_test.nwb"
    ds = merge(read(path, series=("*/RoiResponseSeries",)))
    theirs = np.load(realdata / "ophys" / "suite2p_plane0_spks.npy")
    ours = ds["values"].values[0]
    scores = [np.corrcoef(ours[:, i], theirs[row])[0, 1] for i, row in enumerate(ds["channel_row"].values)]
    assert np.median(scores) > 0.8 and min(scores) > 0.5
    assert "Neuropil" in " ".join(json.loads(ds.attrs["notes"]))
