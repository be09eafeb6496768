"""Whatever tables are indexed by is checked before it is used, and errors name the column, the row and the value."""

import h5py
import numpy as np
import pytest
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt import inspect, read_nwb
from nwb_sbtt.config import ReadConfig, RoiConfig
from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.io.read.indices import ragged_column, real_numbers, region_rows, whole_numbers
from tests.support import nwbfiles


def table(ends, *, n_values=6, n_rows=3):
    values = VectorData(name="times", description="d", data=np.arange(float(n_values)))
    return DynamicTable(
        name="rows",
        description="d",
        columns=[VectorIndex(name="times_index", data=np.asarray(ends), target=values), values],
        id=list(range(n_rows)),
        colnames=["times"],
    )


def region(rows, *, n_rows=4):
    plain = DynamicTable(
        name="electrodes",
        description="d",
        columns=[VectorData(name="x", description="d", data=np.arange(n_rows))],
        id=list(range(100, 100 + n_rows)),
    )
    return DynamicTableRegion(name="electrodes", data=np.asarray(rows), description="d", table=plain)


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6), kind=st.sampled_from(["u1", "i8", "u8", "f8"]))
def test_a_sound_index_tells_the_values_of_each_row(lengths, kind):
    ends = np.cumsum(lengths).astype(kind)
    column = ragged_column(table(ends, n_values=int(ends[-1]), n_rows=len(ends)), "times", path="rows")
    assert np.diff(column.bounds).tolist() == lengths


@given(data=st.data())
def test_any_other_index_is_refused(data):
    ends = data.draw(st.lists(st.integers(-3, 12), min_size=3, max_size=3))
    sound = 0 <= ends[0] <= ends[1] <= ends[2] == 6
    if sound:
        assert ragged_column(table(ends), "times", path="rows").bounds.tolist() == [0, *ends]
        return
    with pytest.raises(DataError, match=r"column 'times_index' of 'rows', row \d: -?\d+; expected"):
        ragged_column(table(ends), "times", path="rows")


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ([2, 1, 6], r"row 1: 1; expected the end of the values of this row, at least 2 .* at most 6"),
        ([2, 4, 9], r"row 2: 9; .* at most 6"),
        ([2, 4, 5], r"row 2: 5; expected 6, .*: 1 values do not belong to any"),
        ([0, 0, 0], r"row 2: 0; expected 6, .*: 6 values do not belong to any"),
    ],
)
def test_damaged_indices_are_named(ends, says):
    with pytest.raises(DataError, match=f"column 'times_index' of 'rows'.*{says}"):
        ragged_column(table(ends), "times", path="rows")


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ([2.0, 4.5, 6.0], r"row 1: 4.5; expected a whole number"),
        ([2.0, np.nan, 6.0], r"row 1: nan; expected a whole number"),
        ([b"2", b"4", b"6"], r"row 0: '2' of type .*; expected whole numbers"),
        ([2 + 1j, 4, 6], r"row 0: \(2\+1j\) of type complex128; expected whole numbers"),
        ([True, False], r"row 0: True of type bool; expected whole numbers"),
        (np.array([2, 4, 2**63 + 6], dtype="u8"), r"row 2: 9223372036854775814; expected a whole number"),
        ([[2, 4, 6]] * 3, r"has shape \(3, 3\); expected one number per row"),
    ],
)
def test_only_whole_numbers_count_rows(stored, says):
    with pytest.raises(DataError, match=f"column 'times_index'.*{says}; try this"):
        whole_numbers(np.asarray(stored), "column 'times_index'", remedy="try this")


def test_sound_regions_are_read():
    for rows in ([3, 0, 0], [], np.array([1.0, 2.0])):
        assert region_rows(region(rows), path="es").tolist() == [int(row) for row in rows]


def test_floats_that_may_have_been_rounded_are_no_whole_numbers():
    large = np.array([2**24 - 1, 2**24 + 2], dtype=np.float32)
    assert whole_numbers(large[:1], "c", remedy="r").tolist() == [2**24 - 1]
    with pytest.raises(DataError, match="row 1: 16777218"):
        whole_numbers(large, "c", remedy="r")


@pytest.mark.parametrize("values", [[b"1.5"], ["1.5"], [1j], [True]])
def test_text_flags_and_complex_numbers_are_no_times(values):
    with pytest.raises(DataError, match=r"column 'start_time', row 0: .*expected real numbers"):
        real_numbers(np.asarray(values), "column 'start_time'")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Units with intervals, voltages, ROIs and invalid times."""
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_watched_units(nwbfile, np.random.default_rng(0))
    nwbfiles.add_electrodes(nwbfile, 4)
    nwbfiles.add_electrical(nwbfile, np.random.default_rng(1).normal(size=(400, 3)), rate=100.0, rows=[0, 1, 3])
    nwbfiles.add_rois(nwbfile, np.random.default_rng(2).normal(size=(60, 3)), rate=10.0)
    nwbfiles.add_invalid_times(nwbfile, [[1.0, 1.5]])
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("indices") / "whole.nwb")


ROIS = "processing/ophys/Fluorescence/RoiResponseSeries"
SEGMENTATION = "processing/ophys/ImageSegmentation/PlaneSegmentation"


@pytest.mark.parametrize(
    ("series", "dataset", "values", "names"),
    [
        ("units", "units/spike_times_index", [400, 300, 1200], "'spike_times_index' of 'units', row 1: 300"),
        ("units", "units/spike_times_index", [400, 800, 1100], "'spike_times_index' of 'units', row 2: 1100"),
        ("units", "units/spike_times", np.zeros((1200, 1)), r"'spike_times' of 'units' has shape \(1200, 1\)"),
        ("units", "units/spike_times", np.zeros(1200, complex), "'spike_times' of 'units', row 0: 0j"),
        ("units", "units/spike_times", np.full(1200, b"1.0"), "'spike_times' of 'units', row 0: '1.0'"),
        (
            "units",
            "units/obs_intervals_index",
            [3, 1, 4],
            "'obs_intervals_index' of 'units', row 1: 1.*obs_intervals=False",
        ),
        ("units", "units/obs_intervals_index", [0, 0, 0], "'obs_intervals_index' of 'units', row 2: 0"),
        ("units", "units/obs_intervals_index", [1, 3, 3], "'obs_intervals_index' of 'units', row 2: 3; expected 4"),
        ("units", "units/obs_intervals_index", [1, 3, 250], "'obs_intervals_index' of 'units', row 2: 250"),
        ("units", "units/obs_intervals", np.zeros((4, 3)), r"'obs_intervals' of 'units' has shape \(4, 3\)"),
        ("units", "units/obs_intervals", np.full((4, 2), b"1"), "'obs_intervals' of 'units', row 0: '1'"),
        ("units", "intervals/invalid_times/start_time", [b"1.0"], "'start_time' of 'invalid_times', row 0: '1.0'"),
        ("*Electrical*", "acquisition/ElectricalSeries/electrodes", [0, 1, -1], "'electrodes' of 'acq.*row 2: -1"),
        (
            "*Electrical*",
            "acquisition/ElectricalSeries/electrodes",
            [100, 101, 103],
            "'electrodes' of 'acq.*row 0: 100",
        ),
        ("*Electrical*", "acquisition/ElectricalSeries/electrodes", [0, 0.7, 2], "'electrodes' of 'acq.*row 1: 0.7"),
        (ROIS, f"{ROIS}/rois", [0, 1, 3], f"'rois' of '{ROIS}', row 2: 3; 'PlaneSegmentation' has 3 rows"),
        (ROIS, f"{SEGMENTATION}/pixel_mask_index", [2, 1, 3], "'pixel_mask_index' of 'PlaneSegmentation', row 1: 1"),
    ],
)
def test_a_damaged_file_is_refused_by_column_row_and_value(whole, tmp_path, series, dataset, values, names):
    path = tmp_path / "damaged.nwb"
    path.write_bytes(whole.read_bytes())
    with h5py.File(path, "a") as file:
        replace(file, dataset, np.asarray(values))
    by_lines = RoiConfig(offset="centroid", slow_axis="y", scan_line_rate=1000.0)
    config = ReadConfig(series=(series,), rois=by_lines if "pixel_mask" in dataset else RoiConfig())
    with pytest.raises(DataError, match=names):
        read_nwb(path, config)
    if "pixel_mask" not in dataset:
        # What cannot be read is listed with the reason.
        (unreadable, *_) = (candidate for candidate in inspect(path) if not candidate.readable)
        assert "expected" in unreadable.notes[0] and unreadable.path


def replace(file: h5py.File, name: str, values: np.ndarray) -> None:
    """Put other values in the place of a dataset; attributes and references to it stay right."""
    attributes = dict(file[name].attrs)
    pointing = [other for other in (f"{name}_index",) if other in file]
    del file[name]
    file.create_dataset(name, data=values).attrs.update(attributes)
    for other in pointing:
        file[other].attrs["target"] = file[name].ref


def test_a_whole_file_is_read(whole):
    for series in ("units", "*Electrical*", ROIS):
        assert read_nwb(whole, ReadConfig(series=(series,)))["observed"].values.any()


def test_columns_of_another_length_are_no_columns_of_channels(whole, tmp_path):
    path = tmp_path / "short.nwb"
    path.write_bytes(whole.read_bytes())
    with h5py.File(path, "a") as file:
        replace(file, "units/depth", np.array([1.0, 2.0]))
    with pytest.raises((DataError, FileError), match=r"depth|length"):
        read_nwb(path, ReadConfig(series=("units",), channel_columns=("depth",)))
