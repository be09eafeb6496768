"""One decision on the axes of stored data: `inspect`, the reader and the masks follow it, whatever the type."""

import json

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.ophys import RoiResponseSeries

from nwb_sbtt import Window, inspect, read_nwb
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.layout import Layout, not_samples, sample_layout
from tests.support import nwbfiles

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
DATA = np.arange(30.0).reshape(10, 3)


def series_of(kind, nwbfile, data):
    """A series of three channels and ten samples at 10 Hz, in that orientation of its data."""
    if kind == "electrodes":
        nwbfiles.add_electrodes(nwbfile, 3)
        region = nwbfile.create_electrode_table_region([0, 1, 2], "electrodes")
        series = ElectricalSeries(name="x", data=data, electrodes=region, rate=10.0)
    elif kind == "rois":
        table = nwbfiles.add_rois(nwbfile, DATA, rate=10.0).rois.table
        region = table.create_roi_table_region(region=[0, 1, 2], description="ROIs")
        series = RoiResponseSeries(name="x", data=data, unit="a.u.", rois=region, rate=10.0)
    else:
        series = TimeSeries(name="x", data=data, unit="V", timestamps=np.arange(10) / 10)
    nwbfile.add_acquisition(series)
    return series


def transpose(path, dataset):
    """Store an array the other way, which pynwb does not always write."""
    with h5py.File(path, "a") as file:
        values, attributes = file[dataset][...], dict(file[dataset].attrs)
        del file[dataset]
        file.create_dataset(dataset, data=values.T).attrs.update(attributes)


@pytest.mark.parametrize("kind", ["electrodes", "rois", "series"])
@pytest.mark.parametrize("transposed", [False, True])
def test_inspect_says_what_is_read(kind, transposed, tmp_path):
    nwbfile = nwbfiles.new_file()
    series_of(kind, nwbfile, DATA)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    if transposed:
        transpose(path, "acquisition/x/data")
    listed = {series.path: series for series in inspect(path)}["acquisition/x"]
    assert (listed.channels, listed.start, listed.stop) == (3, 0.0, 1.0)
    read = read_nwb(path, series="acquisition/x", bin_width=0.1, trials=Window(start=0, stop=1))
    assert read.sizes["channel"] == 3
    if kind != "electrodes":
        assert np.array_equal(read["values"].values[0], DATA)
    notes = json.loads(read.attrs["notes"])
    for said in (listed.notes, notes):
        assert any("stored as (channel, time), shape (3, 10)" in note for note in said) == transposed


@pytest.mark.parametrize("kind", ["electrodes", "rois"])
def test_a_shape_that_fits_neither_way_is_refused_by_both(kind, tmp_path):
    nwbfile = nwbfiles.new_file()
    series_of(kind, nwbfile, np.zeros((10, 4)))
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    listed = {series.path: series for series in inspect(path)}["acquisition/x"]
    assert not listed.readable
    reason = r"data of 'x' have shape \(10, 4\), but `.*` refers to 3"
    with pytest.raises(DataError, match=reason) as refused:
        read_nwb(path, series="acquisition/x")
    assert str(refused.value) in listed.notes[0]


def test_a_square_array_is_what_nwb_says():
    assert not sample_layout(series_of("electrodes", nwbfiles.new_file(), np.zeros((3, 3)))).transposed


def test_more_channels_than_samples_are_noted_where_nothing_tells_the_axes_apart():
    layout = sample_layout(TimeSeries(name="x", data=DATA.T, unit="V", rate=10.0))
    assert (layout.n_samples, layout.n_channels, layout.transposed) == (3, 10, False)
    assert "more channels (10) than samples (3)" in layout.notes[0]
    assert sample_layout(TimeSeries(name="x", data=DATA, unit="V", rate=10.0)) == Layout((10, 3), 10, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (["a", "b"], "are text; expected numbers"),
        (np.zeros((4, 3, 2)), r"of shape (4, 3, 2) have 3 dimensions; expected (time,) or (time, channel)"),
        (np.zeros((4, 0)), "have no columns"),
    ],
)
def test_data_that_are_no_samples_are_named(data, reason):
    series = TimeSeries(name="x", data=data, unit="V", rate=10.0)
    with pytest.raises(DataError) as refused:
        sample_layout(series)
    assert reason in str(refused.value)
    assert (not_samples(series) is None) == (np.shape(data) == (4, 0))
