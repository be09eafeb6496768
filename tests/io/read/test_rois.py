"""Imaging series: each sample in the bin in which its ROI was scanned, and nowhere else."""

from types import SimpleNamespace

import numpy as np
import pytest
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO
from pynwb.testing.mock.file import mock_NWBFile
from pynwb.testing.mock.ophys import mock_ImagingPlane, mock_TwoPhotonSeries

from nwb_sbtt.config import ReadConfig, RoiConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.read.rois import roi_source
from nwb_sbtt.io.read.scanning import centroid_offsets
from tests.support import nwbfiles

N_ROIS = 5


def build(data, *, rows=None, columns=None, masks=None, n_table=8, two_photon=None, described="ROIs", **timing):
    """A file with one RoiResponseSeries on some rows of a PlaneSegmentation with `n_table` ROIs, ids 100, 101, …"""
    nwbfile = mock_NWBFile()
    plane = mock_ImagingPlane(nwbfile=nwbfile)
    if two_photon is not None:
        mock_TwoPhotonSeries(nwbfile=nwbfile, imaging_plane=plane, **two_photon)
    from pynwb.ophys import ImageSegmentation, RoiResponseSeries

    segmentation = ImageSegmentation()
    table = segmentation.create_plane_segmentation(description="ROIs", imaging_plane=plane, name="PlaneSegmentation")
    if masks == "none":
        table.add_column(name="ROICentroids", description="x, y")
        for row in range(n_table):
            table.add_row(id=100 + row, ROICentroids=(row, 2 * row + 1), enforce_unique_id=True)
    else:
        for row in range(n_table):
            mask = masks(row) if masks else {"pixel_mask": [(row, 2 * row, 1.0), (row, 2 * row + 2, 1.0)]}
            table.add_roi(id=100 + row, **mask)
    for name, values in (columns or {}).items():
        table.add_column(name=name, description=name, data=list(values))
    rows = list(range(N_ROIS)) if rows is None else list(rows)
    timing = timing or {"rate": 10.0}
    series = RoiResponseSeries(
        name="responses",
        data=np.asarray(data),
        unit="a.u.",
        rois=table.create_roi_table_region(region=rows, description=described),
        **timing,
    )
    module = nwbfile.create_processing_module("ophys", "imaging")
    module.add(segmentation)
    module.add(series)
    return nwbfile, series


def read(nwbfile, series, *, grid, offsets=None, missing_value=None, memory_limit=1e9, **rois):
    config = ReadConfig(rois=RoiConfig(**rois), missing_value=missing_value, memory_limit=memory_limit)
    source = roi_source(nwbfile, series, config, offsets=offsets)
    return source, source.bin(grid)


def slow_bins(data, times, offsets, grid):
    """Every sample by itself, in pure Python."""
    sums = np.zeros((*grid.shape, data.shape[1]))
    counts = np.zeros(sums.shape, dtype=int)
    for trial, start in enumerate(grid.starts):
        for frame, time in enumerate(times):
            for roi, offset in enumerate(offsets):
                position = round((time + offset - start) / grid.bin_width, 6)
                if np.isfinite(position) and 0 <= position < grid.n_bins and np.isfinite(data[frame, roi]):
                    sums[trial, int(position), roi] += data[frame, roi]
                    counts[trial, int(position), roi] += 1
    return sums / np.maximum(counts, 1), counts > 0


@pytest.mark.parametrize("seed", range(6))
def test_reading_equals_putting_every_sample_into_its_bin_by_hand(seed):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(60, N_ROIS))
    data[rng.random(data.shape) < 0.2] = np.nan
    times = 3 + np.arange(60) * 0.1 + rng.uniform(0, 0.03, 60) + (np.arange(60) > 30) * 1.7
    times[rng.integers(0, 60, 3)] = np.nan
    times[10] = times[11]
    offsets = rng.uniform(0, 0.02, N_ROIS)
    grid = Grid(np.sort(rng.uniform(2, 9, 4))[::-1], bin_width=rng.choice([0.013, 0.1, 0.25]), n_bins=17)
    _, binned = read(*build(data, timestamps=times), grid=grid, offsets=offsets)
    values, observed = slow_bins(data, times, offsets, grid)
    assert np.array_equal(binned.observed, observed)
    np.testing.assert_allclose(binned.values, values, rtol=1e-6)
    assert (binned.values[~binned.observed] == 0).all()


def test_a_sample_lies_in_exactly_the_fine_bin_of_its_scan_moment():
    data = np.arange(20 * N_ROIS, dtype=np.float32).reshape(20, N_ROIS) + 1
    offsets = np.array([0.0, 0.01, 0.02, 0.055, 0.09])
    _, binned = read(*build(data), grid=Grid(np.array([0.0]), bin_width=0.01, n_bins=200), offsets=offsets)
    assert binned.observed.sum(axis=(0, 1)).tolist() == [20] * N_ROIS
    for roi, first in enumerate([0, 1, 2, 5, 9]):
        assert np.flatnonzero(binned.observed[0, :, roi]).tolist() == list(range(first, 200, 10))
        assert np.array_equal(binned.values[0, first::10, roi], data[:, roi])


def test_frames_in_invalid_times_or_with_another_control_value_are_unobserved():
    data = np.ones((30, N_ROIS))
    control = np.zeros(30, dtype=np.uint8)
    control[20:24] = 1
    nwbfile, series = build(data, rate=10.0, control=control, control_description=["imaged", "shutter closed"])
    nwbfile.add_invalid_time_interval(start_time=0.48, stop_time=0.72, tags=["artefact"])
    config = ReadConfig(control=(0,))
    offsets = np.array([0.0, 0.01, 0.02, 0.05, 0.09])
    source = roi_source(nwbfile, series, config, offsets=offsets)
    binned = source.bin(Grid(np.zeros(1), bin_width=0.1, n_bins=30))
    for roi, offset in enumerate(offsets):
        frames = np.arange(30)
        times = frames / 10 + offset
        observed = ~((times >= 0.48) & (times < 0.72)) & ~((frames >= 20) & (frames < 24))
        assert np.array_equal(binned.observed[0, :, roi], observed)


def test_a_tiny_memory_limit_changes_nothing():
    data = np.random.default_rng(0).normal(size=(300, N_ROIS))
    nwbfile, series = build(data)
    grid = Grid(np.arange(0, 25, 2.0), bin_width=0.04, n_bins=70)
    _, whole = read(nwbfile, series, grid=grid, offsets=np.full(N_ROIS, 0.03))
    _, pieces = read(nwbfile, series, grid=grid, offsets=np.full(N_ROIS, 0.03), memory_limit=2000)
    assert np.array_equal(whole.values, pieces.values) and np.array_equal(whole.observed, pieces.observed)


def test_several_frames_in_a_bin_give_their_mean_or_their_sum():
    data = np.random.default_rng(1).poisson(3, size=(40, N_ROIS)).astype(float)
    data[5, 2] = np.nan
    grid = Grid(np.array([0.0]), bin_width=0.4, n_bins=10)
    _, mean = read(*build(data), grid=grid)
    _, total = read(*build(data), grid=grid, aggregate="sum")
    np.testing.assert_allclose(mean.values[0], np.nanmean(data.reshape(10, 4, -1), axis=1), rtol=1e-6)
    np.testing.assert_allclose(total.values[0][total.observed[0]], data.reshape(10, 4, -1).sum(1)[total.observed[0]])
    assert np.argwhere(~total.observed[0]).tolist() == [[1, 2]]
    assert mean.observed.all()
    config = ReadConfig(bin_width=0.4, rois=RoiConfig(aggregate="sum"))
    assert any("the sum of its frames" in note for note in roi_source(*build(data), config).notes)


def test_conversion_and_offset_are_applied_and_missing_values_are_missing():
    data = np.arange(12 * N_ROIS, dtype=np.int16).reshape(12, N_ROIS)
    data[3, 1] = -999
    nwbfile, series = build(data, rate=10.0, conversion=0.5, offset=2.0)
    _, binned = read(nwbfile, series, grid=Grid(np.array([0.0]), bin_width=0.1, n_bins=12), missing_value=-999)
    expected = data * 0.5 + 2
    assert np.argwhere(~binned.observed[0]).tolist() == [[3, 1]]
    assert np.array_equal(binned.values[binned.observed], expected[None][binned.observed].astype(np.float32))


def test_ids_and_columns_follow_the_rows_of_the_region():
    rows = [6, 1, 4, 0, 7]
    nwbfile, series = build(np.zeros((9, 5)), rows=rows, columns={"snr": np.arange(8) / 10, "area": list("abcdefgh")})
    source, _ = read(nwbfile, series, grid=Grid(np.array([0.0]), bin_width=0.1, n_bins=9))
    assert source.channel_id.tolist() == [106, 101, 104, 100, 107]
    assert source.channel_row.tolist() == rows
    assert source.channel_columns["snr"].tolist() == [0.6, 0.1, 0.4, 0.0, 0.7]
    assert source.channel_columns["area"].tolist() == list("gbeah")
    assert source.path == "processing/ophys/responses"
    assert source.table == "processing/ophys/ImageSegmentation/PlaneSegmentation"
    assert source.sampling_period == 0.1


def test_a_transposed_array_is_recognised_and_said():
    data = np.random.default_rng(2).normal(size=(30, N_ROIS))
    grid = Grid(np.array([0.5]), bin_width=0.1, n_bins=20)
    _, upright = read(*build(data), grid=grid)
    with pytest.warns(UserWarning, match="transposed|Length|dimension"):
        nwbfile, series = build(data.T)
    source, transposed = read(nwbfile, series, grid=grid)
    assert np.array_equal(upright.values, transposed.values)
    assert any("transposed" in note for note in source.notes)


def test_a_square_array_is_taken_as_nwb_says():
    data = np.arange(25.0).reshape(5, 5)
    source, binned = read(*build(data), grid=Grid(np.array([0.0]), bin_width=0.1, n_bins=5))
    assert np.array_equal(binned.values[0], data.astype(np.float32)) and source.notes == ()


def test_one_roi_may_be_a_plain_vector():
    data = np.arange(7.0)
    source, binned = read(*build(data, rows=[3]), grid=Grid(np.array([0.0]), bin_width=0.1, n_bins=7))
    assert np.array_equal(binned.values[0, :, 0], data) and source.channel_id.tolist() == [103]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("shape", [(30, 4), (4, 30), (30,)])
def test_a_shape_that_does_not_fit_the_rois_is_an_error_naming_it(shape):
    with pytest.raises(DataError, match=r"shape \(.*5 ROIs"):
        roi_source(*build(np.zeros(shape)), ReadConfig())


@pytest.mark.parametrize(
    "columns",
    [
        {"Accepted": [1, 0, 1, 0, 1, 1, 1, 1], "Rejected": [0, 1, 0, 1, 0, 0, 0, 0]},
        {"iscell": [[1, 0.9], [0, 0.1], [1, 0.8], [0, 0.2], [1, 0.9], [1, 1], [1, 1], [1, 1]]},
        {"rejected": [False, True, False, True, False, False, False, False]},
        {"is_accepted": [1.0, 0, 1, 0, 1, 1, 1, 1]},
    ],
)
def test_accepted_cells_are_found_under_the_names_pipelines_write(columns):
    data = np.arange(50.0).reshape(10, 5)
    nwbfile, series = build(data, columns=columns)
    offsets = np.array([0.0, 0.99e-1, 0.0, 0.99e-1, 0.0])
    source, binned = read(
        nwbfile, series, grid=Grid(np.array([0.0]), bin_width=0.1, n_bins=10), cells="accepted", offsets=offsets
    )
    assert source.channel_id.tolist() == [100, 102, 104]
    assert np.array_equal(binned.values[0], data[:, [0, 2, 4]])
    assert any("2 of 5" in note for note in source.notes)


def test_asking_for_accepted_cells_without_such_a_column_lists_the_columns():
    with pytest.raises(SelectionError, match=r"pixel_mask.*snr"):
        read(*build(np.zeros((9, 5)), columns={"snr": np.arange(8)}), grid=None, cells="accepted")


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0.0, 0.1], "each of 5 ROIs"),
        ([0.0, 0.01, np.nan, 0, 0], "not finite"),
        ([0, 0, 0, 0, 0.1], "less than the frame period"),
        ([0, 0, -0.01, 0, 0], "at least 0"),
        ([0, 10, 20, 30, 40], "milliseconds"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(offsets, message):
    with pytest.raises(DataError, match=message):
        read(*build(np.zeros((9, 5))), grid=None, offsets=offsets)


def test_offsets_come_from_a_column_in_the_order_of_the_region():
    column = np.arange(8) / 100
    nwbfile, series = build(np.zeros((9, 5)), rows=[7, 0, 3, 2, 1], columns={"sampling_time_offset": column})
    source, _ = read(nwbfile, series, grid=Grid(np.zeros(1), 0.1, 9), offset="column")
    assert source.channel_columns["sampling_offset"].tolist() == [0.07, 0.0, 0.03, 0.02, 0.01]
    with pytest.raises(SelectionError, match="sampling_time_offset"):
        read(nwbfile, series, grid=None, offset="column", offset_column="delay")


@pytest.mark.parametrize("slow_axis", ["x", "y"])
@pytest.mark.parametrize("kind", ["pixel_mask", "image_mask", "stored_yx", "centroid"])
def test_offsets_from_centroids_are_lines_over_the_line_rate(slow_axis, kind):
    def masks(row):
        image = np.zeros((20, 40))
        image[row, 2 * row] = image[row, 2 * row + 2] = 1
        if kind == "pixel_mask":
            return {"pixel_mask": [(row, 2 * row, 1.0), (row, 2 * row + 2, 1.0)]}
        return {"image_mask": image.T if kind == "stored_yx" else image}

    nwbfile, series = build(
        np.zeros((9, 5)),
        masks="none" if kind == "centroid" else masks,
        rows=[4, 3, 2, 1, 0],
        two_photon={"scan_line_rate": 500.0, "dimension": [20, 40], "data": np.zeros((2, 20, 40)), "rate": 10.0},
    )
    source, _ = read(nwbfile, series, grid=Grid(np.zeros(1), 0.1, 9), offset="centroid", slow_axis=slow_axis)
    rows = np.array([4, 3, 2, 1, 0])
    lines = rows if slow_axis == "x" else 2 * rows + 1
    np.testing.assert_allclose(source.channel_columns["sampling_offset"], lines / 500)
    assert any("reversed" in note for note in source.notes) == (kind == "stored_yx")


def test_nothing_about_the_scan_is_guessed():
    nwbfile, series = build(np.zeros((9, 5)))
    with pytest.raises(SelectionError, match=r"rois\.slow_axis"):
        read(nwbfile, series, grid=None, offset="centroid")
    with pytest.raises(SelectionError, match=r"rois\.scan_line_rate"):
        read(nwbfile, series, grid=None, offset="centroid", slow_axis="y")
    with pytest.raises(DataError, match="frame period"):
        read(nwbfile, series, grid=None, offset="centroid", slow_axis="y", scan_line_rate=20.0)


def test_masks_that_do_not_fit_the_images_are_refused():
    images = {"dimension": [20, 41], "data": np.zeros((2, 20, 41)), "scan_line_rate": 500.0, "rate": 10.0}
    nwbfile, series = build(np.zeros((9, 5)), masks=lambda row: {"image_mask": np.ones((20, 40))}, two_photon=images)
    with pytest.raises(DataError, match=r"\(20, 40\).*\(20, 41\)"):
        read(nwbfile, series, grid=None, offset="centroid", slow_axis="y")


def test_a_series_without_a_usable_clock_is_an_error():
    nwbfile, series = build(np.zeros((9, 5)), timestamps=np.full(9, np.nan))
    with pytest.raises(DataError, match="timestamps"):
        roi_source(nwbfile, series, ReadConfig())


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "stored"), [("RoiResponseSeries", "F"), ("Neuropil", "Fneu"), ("Deconvolved", "spks")]
)
def test_a_suite2p_session_equals_the_arrays_that_suite2p_wrote(realdata, name, stored):
    truth = np.load(realdata / "ophys" / f"suite2p_plane0_{stored}.npy").T
    accepted = np.load(realdata / "ophys" / "suite2p_plane0_iscell.npy")[:, 0] > 0
    with NWBHDF5IO(realdata / "ophys" / "nwb_test.nwb", "r") as io:
        nwbfile = io.read()
        series = nwbfile.processing["ophys"]["Fluorescence"][name]
        grid = Grid(np.array([0.0]), bin_width=0.1, n_bins=250)
        source, binned = read(nwbfile, series, grid=grid, neuropil_coefficient=0)
        some, chosen = read(nwbfile, series, grid=grid, neuropil_coefficient=0, cells="accepted")
    assert binned.observed.all() and np.array_equal(binned.values[0], truth)
    assert np.array_equal(chosen.values[0], truth[:, accepted]) and np.array_equal(
        some.channel_id, np.flatnonzero(accepted)
    )
    assert source.path == f"processing/ophys/Fluorescence/{name}"


class MicroscopySegmentation(DynamicTable):
    """A segmentation as in ndx-microscopy: masks (ROI, y, x), and lines scanned at a rate that its space states."""

    planar_imaging_space = SimpleNamespace(
        dimensions_in_pixels=[30, 20], illumination_pattern=SimpleNamespace(line_rate_in_Hz=1000.0)
    )


def test_centroids_of_ndx_microscopy_come_with_their_line_rate_and_have_y_first():
    masks = np.zeros((2, 20, 30))
    masks[0, 4, 10] = masks[1, 16, 25] = 1
    table = MicroscopySegmentation(name="segmentation", description="generated", id=[0, 1])
    table.add_column(name="image_mask", description="masks", data=masks)
    for axis, lines in (("y", [4, 16]), ("x", [10, 25])):
        config = RoiConfig(offset="centroid", slow_axis=axis)
        offsets = centroid_offsets(nwbfiles.new_file(), table, np.array([0, 1]), config=config, period=0.1)
        assert np.allclose(offsets.seconds, np.array(lines) / 1000)
        assert any("(roi, y, x), as ndx-microscopy defines it" in note for note in offsets.notes)


def lines_of_masks(size=(512, 512), *, described="ROIs", **options):
    """Lines of the centroids of three ROIs of two pixels each, in images of a size as the file says it; and the notes."""
    places = ((400, 20), (100, 300), (250, 480))
    nwbfile, series = build(
        np.zeros((9, 3)) + 5,
        rows=range(3),
        n_table=3,
        masks=lambda row: {"pixel_mask": [(*places[row], 1.0)]},
        two_photon={"dimension": list(size), "scan_line_rate": 10_000.0},
        described=described,
    )
    rois = RoiConfig(offset="centroid", slow_axis="y", **options)
    source = roi_source(nwbfile, series, ReadConfig(rois=rois))
    return (source.offsets * 10_000).round().astype(int).tolist(), " ".join(source.notes)


X_FIRST, Y_FIRST = [20, 300, 480], [400, 100, 250]


def test_masks_of_the_export_of_suite2p_have_y_first():
    assert lines_of_masks()[0] == X_FIRST
    lines, notes = lines_of_masks(described="ROIs for plane0")
    assert lines == Y_FIRST and "pixel_mask read as (y, x), as the NWB export of suite2p writes them" in notes
    for described in ("ROIs", "ROIs for plane0"):
        for order, expected in (("xy", X_FIRST), ("yx", Y_FIRST)):
            assert lines_of_masks(described=described, mask_order=order)[0] == expected
    # suite2p gives the size of the images as y, x too.
    assert lines_of_masks((450, 500), described="ROIs for plane0")[0] == Y_FIRST


def test_masks_that_fit_the_images_only_with_y_first_are_read_so():
    lines, notes = lines_of_masks((512, 490))
    assert lines == X_FIRST and "y, x" not in notes
    lines, notes = lines_of_masks((490, 401))
    assert lines == Y_FIRST and "because only this order matches the size of the" in notes
    with pytest.raises(DataError, match=r"check read\.rois\.slow_axis and read\.rois\.mask_order"):
        lines_of_masks((300, 300))
