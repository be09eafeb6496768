"""Neuropil is found by the rows of the table of ROIs that it is about, and subtracted from raw fluorescence."""

import numpy as np
import pytest
from pynwb.ophys import DfOverF, Fluorescence, RoiResponseSeries

from nwb_sbtt.config import ReadConfig, RoiConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.rois import roi_source
from nwb_sbtt.io.read.selection import find_series, select
from tests.support.nwbfiles import Imaged, imaging_file, write

N_FRAMES, N_ROIS = 60, 4
RNG = np.random.default_rng(0)
LIGHT, AROUND, OTHER = (RNG.normal(level, 10, (N_FRAMES, N_ROIS)) for level in (300, 200, 400))


def recording(*containers, kind=Fluorescence):
    """A file of containers {name: {series: data, or (data, rows)}} on one table of ROIs, and its series by path."""
    nwbfile = imaging_file(Imaged("empty", np.zeros((3, N_ROIS))))
    ophys = nwbfile.processing["ophys"]
    table = ophys["ImageSegmentation"]["Seg0"]
    series = {}
    for name, held in containers:
        ophys.add(container := kind(name=name))
        for series_name, stored in held.items():
            data, rows = stored if isinstance(stored, tuple) else (stored, range(N_ROIS))
            region = table.create_roi_table_region(region=list(rows), description="ROIs")
            one = RoiResponseSeries(name=series_name, data=data, unit="a.u.", rois=region, rate=10.0)
            container.add_roi_response_series(one)
            series[f"{name}/{series_name}"] = one
    return nwbfile, series


def read(nwbfile, series, **rois):
    source = roi_source(nwbfile, series, ReadConfig(rois=RoiConfig(**rois)))
    values = source.bin(Grid(np.array([-0.05]), bin_width=0.1, n_bins=N_FRAMES)).values[0]
    return source, values


def subtracted(source, values, around=AROUND, coefficient=0.7):
    np.testing.assert_allclose(values, LIGHT - coefficient * around, rtol=1e-5)
    return any("is subtracted from" in note for note in source.notes) and "neuropil" in source.notes[-1]


@pytest.mark.parametrize(
    ("containers", "path"),
    [
        ([("Fluorescence", {"RoiResponseSeries": LIGHT, "Neuropil": AROUND})], "Fluorescence/RoiResponseSeries"),
        ([("Fluorescence", {"plane0": LIGHT}), ("Neuropil", {"plane0": AROUND})], "Fluorescence/plane0"),
        ([("F", {"traces": LIGHT}), ("neuropil_traces", {"traces": AROUND})], "F/traces"),
        ([("Fluorescence", {"plane0": LIGHT}), ("Neuropil", {"plane0": AROUND.T.copy()})], "Fluorescence/plane0"),
        ([("F", {"F": LIGHT.T.copy()}), ("Fneu", {"Fneu": AROUND})], "F/F"),
        ([("F", {"F": LIGHT}), ("Fneu", {"Fneu": (AROUND[:, ::-1].copy(), range(N_ROIS)[::-1])})], "F/F"),
        (
            [
                ("Fluorescence", {"chan1": LIGHT}),
                ("NeuropilChan2", {"chan2": OTHER}),
                ("NeuropilChan1", {"chan1": AROUND}),
            ],
            "Fluorescence/chan1",
        ),
        (
            [
                ("Fluorescence", {"plane0": OTHER}),
                ("Neuropil", {"plane0": OTHER}),
                ("Fluorescence_chan2", {"plane0": LIGHT}),
                ("Neuropil_chan2", {"plane0": AROUND}),
            ],
            "Fluorescence_chan2/plane0",
        ),
    ],
)
def test_neuropil_of_the_same_rows_is_subtracted_wherever_it_lies(containers, path):
    nwbfile, series = recording(*containers)
    assert subtracted(*read(nwbfile, series[path]))


def test_each_plane_of_a_container_has_its_own_neuropil():
    """Two planes of one table, as suite2p stores them: neuropil in one series of all its rows."""
    halves = slice(0, 2), slice(2, 4)
    nwbfile, series = recording(
        ("F", {f"plane{i}": (LIGHT[:, half], range(N_ROIS)[half]) for i, half in enumerate(halves)}),
        ("N", {"Neuropil": AROUND}),
    )
    for i, half in enumerate(halves):
        _, values = read(nwbfile, series[f"F/plane{i}"])
        np.testing.assert_allclose(values, (LIGHT - 0.7 * AROUND)[:, half], rtol=1e-5)
    nwbfile, series = recording(
        ("F", {f"Plane{i}": (LIGHT[:, half], range(N_ROIS)[half]) for i, half in enumerate(halves)}),
        ("N", {f"NeuropilPlane{i}": (AROUND[:, half], range(N_ROIS)[half]) for i, half in enumerate(halves)}),
    )
    for i, half in enumerate(halves):
        _, values = read(nwbfile, series[f"F/Plane{i}"])
        np.testing.assert_allclose(values, (LIGHT - 0.7 * AROUND)[:, half], rtol=1e-5)


def test_a_dark_level_taken_off_makes_no_relative_fluorescence():
    nwbfile, series = recording(("Fluorescence", {"RoiResponseSeries": LIGHT - 300, "Neuropil": AROUND - 185}))
    source, values = read(nwbfile, series["Fluorescence/RoiResponseSeries"])
    assert source.signal == "fluorescence" and "neuropil of" in source.signal_reason
    np.testing.assert_allclose(values, LIGHT - 300 - 0.7 * (AROUND - 185), atol=1e-4)
    nwbfile, series = recording(("Fluorescence", {"RoiResponseSeries": LIGHT / 300 - 1, "Neuropil": AROUND}))
    source, values = read(nwbfile, series["Fluorescence/RoiResponseSeries"])
    assert source.signal == "dF/F"
    assert "the series is ΔF/F" in source.notes[-1]
    np.testing.assert_allclose(values, LIGHT / 300 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("containers", "path", "coefficient", "reason"),
    [
        ([("F", {"F": LIGHT, "Neuropil": AROUND})], "F/F", 0.0, "neuropil_coefficient is 0"),
        (
            [("corrected", {"traces": LIGHT}), ("Neuropil", {"traces": AROUND})],
            "corrected/traces",
            None,
            "was already done",
        ),
        ([("F", {"F": LIGHT}), ("N", {"Neuropil": AROUND[:-1]})], "F/F", None, f"has {N_FRAMES - 1} frames"),
        ([("F", {"F": LIGHT}), ("N", {"Neuropil": (AROUND[:, 1:], [1, 2, 3])})], "F/F", None, "3 of the 4 ROIs"),
        (
            [("F", {"F": LIGHT}), ("N", {"NeuropilA": AROUND, "NeuropilB": OTHER})],
            "F/F",
            None,
            "choose one with read.rois.neuropil",
        ),
        (
            [("F", {"F_red": LIGHT}), ("N", {"Neuropil_green": AROUND})],
            "F/F_red",
            None,
            "has a different optical channel",
        ),
    ],
)
def test_neuropil_that_is_not_subtracted_is_named_with_the_reason(containers, path, coefficient, reason):
    nwbfile, series = recording(*containers)
    source, values = read(nwbfile, series[path], neuropil_coefficient=coefficient)
    assert "is not subtracted from" in source.notes[-1] and reason in source.notes[-1]
    np.testing.assert_array_equal(values, LIGHT.astype(np.float32))


def test_the_coefficient_is_a_setting():
    nwbfile, series = recording(("corrected", {"traces": LIGHT, "Neuropil": AROUND}))
    source, values = read(nwbfile, series["corrected/traces"], neuropil_coefficient=0.4)
    assert subtracted(source, values, coefficient=0.4) and source.subtracted.startswith("0.4 of ")
    nwbfile, series = recording(("F", {"traces": LIGHT}))
    assert "no neuropil of the ROIs" in read(nwbfile, series["F/traces"], neuropil_coefficient=0.4)[0].notes[-1]


def test_neuropil_that_no_name_tells_is_noted_and_can_be_named():
    surround = ("F", {"F": LIGHT, "surround": AROUND, "Denoised": OTHER, "baseline": OTHER})
    nwbfile, series = recording(surround, ("DfOverF", {"dff": LIGHT / 300}))
    source, values = read(nwbfile, series["F/F"])
    np.testing.assert_array_equal(values, LIGHT.astype(np.float32))
    assert (
        "If 'processing/ophys/F/surround' (same ROIs and frames) is its neuropil, " in source.notes[-1]
        and "read.rois.neuropil" in source.notes[-1]
    )
    assert subtracted(*read(nwbfile, series["F/F"], neuropil="processing/ophys/F/surround"))
    assert subtracted(*read(nwbfile, series["F/F"], neuropil="*/sur*"))
    assert not any("neuropil" in note for note in read(nwbfile, series["F/F"], neuropil_coefficient=0)[0].notes)
    with pytest.raises(SelectionError, match="no series matching this path"):
        read(nwbfile, series["F/F"], neuropil="*/annulus")
    nwbfile, series = recording(("F", {"F": LIGHT}), ("N", {"NeuropilA": AROUND, "NeuropilB": OTHER}))
    assert subtracted(*read(nwbfile, series["F/F"], neuropil="*/NeuropilA"))


@pytest.mark.parametrize("container", ["Fluorescence", "responses", "dFoF"])
def test_neuropil_is_not_subtracted_from_what_is_far_smaller(container):
    nwbfile, series = recording((container, {"traces": LIGHT / 300}), ("Neuropil", {"traces": AROUND}))
    source, values = read(nwbfile, series[f"{container}/traces"])
    assert source.signal == "dF/F" and "is not subtracted from" in source.notes[-1]
    np.testing.assert_array_equal(values, (LIGHT / 300).astype(np.float32))


def test_series_that_are_no_neuropil_are_not_subtracted():
    nwbfile, series = recording(
        ("F", {"F": LIGHT, "neuropil_corrected": OTHER}), ("Neuropil", {"dff": OTHER}), ("Neuropil2", {"spks": OTHER})
    )
    source, values = read(nwbfile, series["F/F"])
    np.testing.assert_array_equal(values, LIGHT.astype(np.float32))
    assert not any("neuropil" in note for note in source.notes)


def test_neuropil_missing_at_a_sample_leaves_it_unobserved():
    holes = AROUND.copy()
    holes[7, 2] = np.nan
    nwbfile, series = recording(("F", {"F": LIGHT, "Neuropil": holes}))
    source = roi_source(nwbfile, series["F/F"], ReadConfig())
    observed = source.only(np.array([False, True, True, False])).bin(Grid(np.array([-0.05]), 0.1, N_FRAMES)).observed[0]
    assert np.argwhere(~observed).tolist() == [[7, 1]]


def test_neuropil_is_not_taken_for_cells():
    nwbfile, _ = recording(("Fluorescence", {"plane0": LIGHT}), ("Neuropil", {"plane0": AROUND}))
    del nwbfile.processing["ophys"].data_interfaces["empty"]
    stored = find_series(nwbfile)
    recorded = [series for series in stored if series.path.endswith("plane0")]
    assert [series.path for series in select(recorded)] == ["processing/ophys/Fluorescence/plane0"]
    assert [series.path for series in select(recorded, ["*/plane0"])] == ["processing/ophys/Fluorescence/plane0"]
    with pytest.raises(SelectionError, match="Neuropil/plane0"):
        select([series for series in recorded if "Neuropil" in series.path])


def test_a_dataset_says_what_was_subtracted(tmp_path):
    pair = Imaged("Fluorescence", LIGHT, Fluorescence), Imaged("Neuropil", AROUND, Fluorescence)
    path = write(imaging_file(*pair), tmp_path / "file.nwb")
    ds = read_nwb(path, ReadConfig(rois=RoiConfig(deconvolve="never")))
    assert ds.attrs["neuropil"] == "0.7 of 'processing/ophys/Fluorescence/Neuropil'"
    path = write(imaging_file(Imaged("dff", LIGHT / 300 - 1, DfOverF)), tmp_path / "dff.nwb")
    assert "neuropil" not in read_nwb(path, ReadConfig(rois=RoiConfig(deconvolve="never"))).attrs


def test_a_dead_roi_is_not_brought_to_life_by_its_neuropil(tmp_path):
    dead = LIGHT.copy()
    dead[:, 1] = 0.0
    pair = Imaged("Fluorescence", dead, Fluorescence), Imaged("Neuropil", AROUND, Fluorescence)
    path = write(imaging_file(*pair), tmp_path / "file.nwb")
    ds = read_nwb(path, ReadConfig(rois=RoiConfig(deconvolve="never")))
    assert not ds["observed"].values[..., 1].any() and ds["observed"].values[..., 0].any()
    assert "constant 0" in ds.attrs["notes"]
