"""What a series of ROIs holds is told from its names and, where these do not say, from its values."""

import json

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.ophys import DfOverF, Fluorescence, RoiResponseSeries
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from nwb_sbtt.config import ReadConfig, RoiConfig, Window
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read import fluorescence
from nwb_sbtt.io.read.fluorescence import classify_signal, decays_like_calcium
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.rois import roi_source
from tests.support.nwbfiles import Imaged, imaging_file, write

RNG = np.random.default_rng(0)
LIGHT = RNG.normal(300, 20, (400, 3))
RELATIVE = RNG.normal(0, 0.1, (400, 3))
SIZES = RNG.gamma(2, 1, (400, 3)) * (RNG.random((400, 3)) < 0.1)


def classify(name, data, *, unit="a.u.", kind=None, missing_value=None, kinetics=("GCaMP6f", 0.1)):
    nwbfile = imaging_file(Imaged(name, data, kind, unit))
    series = next(nwb_object for nwb_object in nwbfile.objects.values() if isinstance(nwb_object, RoiResponseSeries))
    return classify_signal(series, columns=[0, 1, 2], transposed=False, missing_value=missing_value, kinetics=kinetics)


@pytest.mark.parametrize(
    ("name", "data", "options", "signal", "reason"),
    [
        ("Deconvolved", SIZES, {"kind": Fluorescence}, "events", "its name contains 'Deconv'"),
        ("spks", SIZES, {}, "events", "'spks'"),
        ("EventAmplitude", SIZES, {"kind": DfOverF}, "events", "'Event'"),
        ("RoiResponseSeries", SIZES, {}, "events", "of its values are exactly zero"),
        ("EventAmplitude", RELATIVE, {}, "dF/F", "negative, which events cannot be"),
        ("dff", RELATIVE, {}, "dF/F", "'dff'"),
        ("dF_F0", RELATIVE, {}, "dF/F", "its name"),
        ("dFoF", LIGHT, {}, "dF/F", "'dFoF'"),
        ("spike_prob", np.abs(RELATIVE), {}, "events", "'spike'"),
        ("deltaF/F".replace("/", "_over_"), RELATIVE, {}, "dF/F", "its name"),
        ("RoiResponseSeries", LIGHT, {"kind": DfOverF}, "dF/F", "DfOverF container"),
        ("RoiResponseSeries", LIGHT, {"unit": "dF/F"}, "dF/F", "its unit"),
        ("RoiResponseSeries", RELATIVE, {"kind": Fluorescence}, "dF/F", "negative, unlike raw fluorescence"),
        ("RoiResponseSeries", LIGHT, {"kind": Fluorescence}, "fluorescence", "no value is negative"),
        ("Neuropil", LIGHT, {"kind": Fluorescence}, "fluorescence", "'Neuropil'"),
        ("RoiResponseSeries", np.where(LIGHT > 320, -1.0, LIGHT), {"missing_value": -1.0}, "fluorescence", "no value"),
    ],
)
def test_what_a_series_holds_is_said_with_the_reason(name, data, options, signal, reason):
    result = classify(name, data, **options)
    assert result.signal == signal
    assert reason in result.reason and "\n" not in result.reason


def test_frames_that_look_blanked_are_noted_and_nothing_else():
    blanked = np.round(LIGHT)
    blanked[5::20] = 0
    remark = classify("RoiResponseSeries", blanked).remark
    assert "have the value 0 in all ROIs at once" in remark and "read.missing_value=0 " in remark
    assert not classify("RoiResponseSeries", blanked, missing_value=0.0).remark
    nwbfile = imaging_file(Imaged("RoiResponseSeries", blanked + 7))
    series = nwbfile.processing["ophys"]["RoiResponseSeries"]
    series.fields["conversion"] = 0.5
    notes = roi_source(nwbfile, series, ReadConfig()).notes
    assert "have the value 3.5 " in notes[-1] and "read.missing_value=7 " in notes[-1]
    clipped, dead = np.maximum(RELATIVE, 0), np.where([True, True, False], 0.0, LIGHT)
    for data in (LIGHT, np.round(LIGHT), clipped, dead, SIZES, np.full_like(LIGHT, np.nan)):
        assert not classify("dff" if data is clipped else "RoiResponseSeries", data).remark


@pytest.mark.parametrize("place", [0, 2, 5])
def test_frames_that_were_blanked_for_a_while_are_noted_wherever_that_was(place, monkeypatch):
    monkeypatch.setattr(fluorescence, "VALUES_READ", 900)
    stored = np.round(RNG.normal(300, 20, (3000, 3)))
    stored[500 * place : 500 * (place + 1) : 20] = 0
    assert "have the value 0 in all ROIs at once" in classify("RoiResponseSeries", stored).remark


def test_missing_values_and_conversion_are_heeded():
    data = LIGHT.copy()
    data[::3] = np.nan
    assert classify("RoiResponseSeries", data).signal == "fluorescence"
    nwbfile = imaging_file(Imaged("RoiResponseSeries", LIGHT))
    series = nwbfile.processing["ophys"]["RoiResponseSeries"]
    series.fields["offset"] = -300.0
    assert classify_signal(series, columns=[0], transposed=False).signal == "dF/F"


def read(nwbfile, tmp_path, **options):
    path = write(nwbfile, tmp_path / "file.nwb")
    return read_nwb(path, ReadConfig(bin_width=0.05, cut=Window(start=0, stop=30), **options))


def test_a_dataset_says_signal_reason_and_indicator(tmp_path):
    ds = read(imaging_file(Imaged("Deconvolved", SIZES)), tmp_path)
    assert ds.attrs["signal"] == "events" and ds.attrs["indicator"] == "GCaMP6f"
    assert ds.attrs["signal_reason"].startswith("'processing/ophys/Deconvolved': its name contains")
    json.dumps(ds.attrs)


def test_planes_taken_in_turn_are_merged_each_sample_in_its_own_bin(tmp_path):
    """Two planes at 10 Hz, the second half a period later: 20 Hz bins alternate between them."""
    other = SIZES[::-1].copy()
    planes = Imaged("DeconvolvedA", SIZES), Imaged("DeconvolvedB", other, plane=1, start=0.05)
    ds = read(imaging_file(*planes), tmp_path, series=("*/DeconvolvedA", "*/DeconvolvedB"))
    observed, values = ds["observed"].values[0], ds["values"].values[0]
    assert observed[::2, :3].all() and not observed[1::2, :3].any()
    assert observed[1::2, 3:].all() and not observed[::2, 3:].any()
    np.testing.assert_array_equal(values[::2, :3], SIZES[:300].astype(np.float32))
    np.testing.assert_array_equal(values[1::2, 3:], other[:300].astype(np.float32))
    assert ds.attrs["signal"] == "events" and ds.attrs["signal_reason"].count("its name contains") == 2
    assert len(set(ds["table"].values)) == 2


def test_series_that_hold_different_things_have_no_one_signal(tmp_path):
    planes = Imaged("Deconvolved", SIZES), Imaged("dff", RELATIVE, plane=1, start=0.05)
    ds = read(imaging_file(*planes), tmp_path, series=("*/Deconvolved", "*/dff"))
    assert "signal" not in ds.attrs and "signal_reason" not in ds.attrs


def test_planes_with_offsets_of_their_own_rois_lie_where_the_scanner_was(tmp_path):
    """Each plane has its own offsets, and each sample the fine bin of its own moment."""
    planes = Imaged("DeconvolvedA", SIZES + 1), Imaged("DeconvolvedB", SIZES + 2, plane=1, start=0.05)
    nwbfile = imaging_file(*planes)
    segmentation = nwbfile.processing["ophys"]["ImageSegmentation"]
    for name, offsets in (("Seg0", [0.0, 0.01, 0.02]), ("Seg1", [0.03, 0.02, 0.0])):
        segmentation[name].add_column(name="sampling_time_offset", description="s", data=offsets)
    path = write(nwbfile, tmp_path / "file.nwb")
    config = ReadConfig(
        bin_width=0.01,
        cut=Window(start=0, stop=10),
        series=("*/DeconvolvedA", "*/DeconvolvedB"),
        rois=RoiConfig(offset="column"),
    )
    ds = read_nwb(path, config)
    phases = [np.unique(np.flatnonzero(bins) % 10).tolist() for bins in ds["observed"].values[0].T]
    assert phases == [[0], [1], [2], [8], [7], [5]]
    np.testing.assert_allclose(ds["sampling_offset"].values, [0.0, 0.01, 0.02, 0.03, 0.02, 0.0])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "signal"), [("RoiResponseSeries", "fluorescence"), ("Neuropil", "fluorescence"), ("Deconvolved", "events")]
)
def test_the_three_series_of_a_suite2p_session_are_told_apart(realdata, name, signal):
    with NWBHDF5IO(realdata / "ophys" / "nwb_test.nwb", "r") as io:
        series = io.read().processing["ophys"]["Fluorescence"][name]
        assert classify_signal(series, columns=range(15), transposed=False).signal == signal


def test_rois_that_cannot_be_used_are_unobserved_and_named(tmp_path):
    values = LIGHT.copy()
    values[:, 0], values[20:, 1] = 500.0, np.nan
    path = write(imaging_file(Imaged("Fluorescence", values, Fluorescence)), tmp_path / "dead.nwb")
    ds = read_nwb(path, ReadConfig(rois=RoiConfig(deconvolve="never")))
    assert not ds["observed"].values[..., :2].any() and ds["observed"].values[..., 2].any()
    assert "2 of 3 ROIs cannot be used and are treated as missing: 0" in ds.attrs["notes"]


def test_what_a_series_holds_can_be_said():
    for holds, signal in (("fluorescence", "fluorescence"), ("dff", "dF/F"), ("events", "events")):
        nwbfile = imaging_file(Imaged("dff", np.abs(LIGHT), DfOverF))
        series = nwbfile.processing["ophys"]["DfOverF"]["dff"]
        source = roi_source(nwbfile, series, ReadConfig(rois=RoiConfig(holds=holds)))
        assert source.signal == signal and source.signal_reason == "set by read.rois.holds"
    nwbfile = imaging_file(Imaged("spks", RELATIVE))
    with pytest.raises(DataError, match=r"read.rois.holds is events, but \d+% of the values"):
        roi_source(nwbfile, nwbfile.processing["ophys"]["spks"], ReadConfig(rois=RoiConfig(holds="events")))


def test_a_rounding_error_does_not_make_events_fluorescence(tmp_path):
    sizes = SIZES.copy()
    sizes[5, 0], sizes[7, 1] = -1e-9, -0.5
    result = classify("Deconvolved", sizes)
    assert result.signal == "events" and "almost no value is negative" in result.reason
    sizes[7, 1] = 0.0
    assert classify("RoiResponseSeries", sizes).signal == "events"
    sizes[7, 1] = -0.5
    ds = read(imaging_file(Imaged("Deconvolved", sizes)), tmp_path)
    assert ds["values"].values.min() == 0 and (~ds["observed"].values[0, ::2]).sum() == 1
    assert not ds["observed"].values[0, 14, 1] and ds["observed"].values[0, 10, 0]
    notes = " ".join(json.loads(ds.attrs["notes"]))
    assert "1 values of 'processing/ophys/Deconvolved' are negative because of rounding, and are read as 0" in notes
    assert (
        "1 values of 'processing/ophys/Deconvolved' are negative, which events cannot be, and are treated as missing"
        in notes
    )


def clipped(decay, rate, *, rise=0.05, seed=0):
    """ΔF/F of sparse events, clipped at zero, and the events themselves; arrays (frame, ROI)."""
    rng = np.random.default_rng(seed)
    sizes = (rng.random((int(120 * rate), 4)) < 0.3 / rate) * 1.0
    times = np.arange(0, 8 * decay, 1 / rate)
    response = (1 - np.exp(-times / rise)) * np.exp(-times / decay)
    calcium = lfilter(response / response.max(), [1], sizes, axis=0)
    return np.maximum(calcium + rng.normal(0, 0.1, calcium.shape) - 0.3, 0), sizes


@pytest.mark.parametrize(("indicator", "decay"), [("GCaMP6f", 0.4), ("GCaMP6s", 1.5), ("jGCaMP8m", 0.14), ("", 0.5)])
@pytest.mark.parametrize("rate", [15.0, 30.0])
def test_clipped_fluorescence_is_told_from_events_by_its_decay(indicator, decay, rate):
    light, sizes = clipped(decay, rate)
    assert decays_like_calcium(light, indicator, 1 / rate)
    smoothed = gaussian_filter1d(sizes, 0.05 * rate, axis=0, truncate=3)
    spread = sizes + 0.5 * np.roll(sizes, 1, axis=0) * np.random.default_rng(1).random(sizes.shape)
    for events in (sizes, smoothed, spread, np.zeros_like(sizes)):
        assert not decays_like_calcium(events, indicator, 1 / rate)
    assert not decays_like_calcium(light, indicator, None) and not decays_like_calcium(light, indicator, 3.0)


def test_names_decide_before_values_and_the_container_speaks_where_the_series_does_not():
    light, sizes = clipped(0.4, 10.0)
    assert classify("RoiResponseSeries", light, kind=Fluorescence).signal == "dF/F"
    assert classify("Deconvolved", light, kind=Fluorescence).signal == "events"
    assert classify("RoiResponseSeries", sizes, kind=Fluorescence).signal == "events"
    nwbfile = imaging_file(Imaged("empty", LIGHT))
    region = nwbfile.processing["ophys"]["empty"].rois
    for name, signal in (("Deconvolved", "events"), ("dff", "dF/F"), ("raw_traces", "fluorescence")):
        nwbfile.processing["ophys"].add(container := Fluorescence(name=name))
        data = np.abs(LIGHT) if name != "raw_traces" else RELATIVE
        series = RoiResponseSeries(name="plane0", data=data, unit="a.u.", rois=region, rate=10.0)
        container.add_roi_response_series(series)
        result = classify_signal(series, columns=[0, 1, 2], transposed=False)
        assert result.signal == signal and "its container's name contains" in result.reason
