"""A reader that is registered for a neurodata type reads it like those of the package, wherever the reader comes from."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest
from hdmf.common import DynamicTable, DynamicTableRegion
from pynwb import TimeSeries, get_class, load_namespaces
from pynwb.ecephys import ElectricalSeries, EventWaveform, SpikeEventSeries
from pynwb.image import ImageSeries, IndexSeries
from pynwb.misc import DecompositionSeries, IntervalSeries, Units
from pynwb.ophys import RoiResponseSeries
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder

from nwb_sbtt import Window, inspect, read_nwb, registry
from nwb_sbtt.errors import ConfigError, SelectionError
from nwb_sbtt.io.read import neurodata
from nwb_sbtt.io.read.neurodata import READERS, WITHOUT_READER, reader, reader_of
from nwb_sbtt.io.read.rois import roi_source
from nwb_sbtt.io.read.timeseries import timeseries_source
from nwb_sbtt.registry import Registry
from tests.support import nwbfiles

TRACES = np.arange(40, dtype=float).reshape(10, 4)


def photometry_source(nwbfile, series, config):
    """A reader of another package, found by its entry point."""
    return timeseries_source(nwbfile, series, config)


PHOTOMETRY = neurodata.Reader(photometry_source, kind="series")


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    """Two types of a namespace: photometry, and traces of regions of a table of ROIs under a name of their own."""
    folder = tmp_path_factory.mktemp("extension")
    builder = NWBNamespaceBuilder("types of a test", "ndx-test", version="0.1.0", author="a", contact="a@b.org")
    builder.include_type("TimeSeries", namespace="core")
    builder.include_type("DynamicTableRegion", namespace="hdmf-common")
    builder.add_spec(
        "ndx-test.extensions.yaml",
        NWBGroupSpec(doc="photometry", neurodata_type_def="TestPhotometrySeries", neurodata_type_inc="TimeSeries"),
    )
    builder.add_spec(
        "ndx-test.extensions.yaml",
        NWBGroupSpec(
            doc="responses",
            neurodata_type_def="TestResponseSeries",
            neurodata_type_inc="TimeSeries",
            datasets=[NWBDatasetSpec(doc="rows", name="table_region", neurodata_type_inc="DynamicTableRegion")],
        ),
    )
    builder.add_spec(
        "ndx-test.extensions.yaml",
        NWBGroupSpec(
            doc="responses as in ndx-microscopy, which called their region table_region before its version 0.4",
            neurodata_type_def="MicroscopyResponseSeries",
            neurodata_type_inc="TimeSeries",
            datasets=[
                NWBDatasetSpec(doc="rows", name=name, neurodata_type_inc="DynamicTableRegion", quantity="?")
                for name in ("rois", "table_region")
            ],
        ),
    )
    builder.export("ndx-test.namespace.yaml", outdir=str(folder))
    load_namespaces(str(folder / "ndx-test.namespace.yaml"))
    names = ("TestPhotometrySeries", "TestResponseSeries", "MicroscopyResponseSeries")
    return {name: get_class(name, "ndx-test") for name in names}


@pytest.fixture
def readers(monkeypatch):
    """The package's readers and what a test adds, which is gone after it."""
    fresh = Registry(READERS.kind, READERS.group, dict(READERS._places))
    monkeypatch.setattr(neurodata, "READERS", fresh)
    return fresh


def photometry_file(extension, tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfile.add_acquisition(extension["TestPhotometrySeries"](name="photometry", data=TRACES, unit="V", rate=10.0))
    nwbfiles.add_series(nwbfile, np.zeros(10), rate=10.0, name="other")
    return nwbfiles.write(nwbfile, tmp_path / "photometry.nwb")


def test_a_registered_type_is_listed_chosen_and_read(extension, readers, tmp_path):
    path = photometry_file(extension, tmp_path)
    assert [(series.path, series.default) for series in inspect(path)] == [
        ("acquisition/other", False),
        ("acquisition/photometry", False),
    ]

    @reader("TestPhotometrySeries", kind="series")
    def source(nwbfile, series, config):
        return timeseries_source(nwbfile, series, config)

    listed = {series.path: series for series in inspect(path)}["acquisition/photometry"]
    assert (listed.type, listed.kind, listed.default) == ("TestPhotometrySeries", "series", True)
    assert (listed.channels, listed.shape, listed.unit, listed.start, listed.stop) == (4, (10, 4), "V", 0.0, 1.0)
    assert listed.rate == pytest.approx(10.0)
    assert np.array_equal(read_nwb(path)["values"].values[0], TRACES)
    assert np.array_equal(read_nwb(path, series="acquisition/photometry")["values"].values[0], TRACES)


def test_a_registered_type_is_named_where_nothing_is_read_by_default(readers, tmp_path):
    reader("TestPhotometrySeries", kind="series")(photometry_source)
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_trials(nwbfile, [0.0], [1.0])
    path = nwbfiles.write(nwbfile, tmp_path / "empty.nwb")
    with pytest.raises(
        SelectionError,
        match="no usable Units, ElectricalSeries, RoiResponseSeries, MicroscopyResponseSeries or TestPhotometrySeries",
    ):
        read_nwb(path)


def test_a_reader_of_an_installed_package_is_found_by_its_entry_point(extension, readers, tmp_path, monkeypatch):
    points = [
        EntryPoint("TestPhotometrySeries", f"{__name__}:PHOTOMETRY", "nwb_sbtt.readers"),
        EntryPoint("TestResponseSeries", "no_such_package:source", "nwb_sbtt.readers"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])
    path = photometry_file(extension, tmp_path)
    assert np.array_equal(read_nwb(path)["values"].values[0], TRACES)
    with pytest.raises(ConfigError, match="'TestResponseSeries' of the package 'no_such_package' cannot be imported"):
        reader_of(extension["TestResponseSeries"])


def test_an_entry_point_that_names_no_reader_is_refused(extension, readers, tmp_path, monkeypatch):
    point = EntryPoint("TestPhotometrySeries", f"{__name__}:photometry_source", "nwb_sbtt.readers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match="does not point to a reader; expected a function decorated"):
        read_nwb(photometry_file(extension, tmp_path))


def test_a_reader_that_is_registered_and_named_by_an_entry_point_is_one_reader(readers, monkeypatch):
    point = EntryPoint("TestPhotometrySeries", f"{__name__}:photometry_source", "nwb_sbtt.readers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert "TestPhotometrySeries" in readers
    registered = reader("TestPhotometrySeries", kind="series")(photometry_source)
    assert readers["TestPhotometrySeries"] is registered


def test_rois_of_another_type_are_read_from_the_region_that_it_names(extension, readers, tmp_path):
    nwbfile = nwbfiles.new_file()
    table = nwbfiles.add_rois(nwbfile, np.zeros((10, 6)), rate=10.0).rois.table
    region = DynamicTableRegion(name="table_region", data=[5, 1, 0, 3], description="ROIs", table=table)
    nwbfile.add_acquisition(
        extension["TestResponseSeries"](name="responses", data=TRACES, unit="a.u.", rate=10.0, table_region=region)
    )
    path = nwbfiles.write(nwbfile, tmp_path / "responses.nwb")

    @reader("TestResponseSeries", kind="rois")
    def source(nwbfile, series, config, *, offsets=None):
        return roi_source(nwbfile, series, config, offsets=offsets, rois=series.table_region)

    ds = read_nwb(path, series="acquisition/responses", offsets=[0.0, 0.01, 0.02, 0.03])
    assert ds.attrs["kind"] == "rois"
    assert ds["channel_row"].values.tolist() == [5, 1, 0, 3]
    assert ds["sampling_offset"].values.tolist() == [0.0, 0.01, 0.02, 0.03]
    assert np.array_equal(ds["values"].values[0], TRACES)


@pytest.mark.parametrize("name", ["rois", "table_region"])
def test_responses_of_ndx_microscopy_are_read_as_rois(extension, name, tmp_path):
    nwbfile = nwbfiles.new_file()
    table = DynamicTable(name="segmentation", description="generated", id=[10, 11, 12, 13, 14])
    nwbfile.add_acquisition(table)
    region = DynamicTableRegion(name=name, data=[4, 1, 0, 3], description="ROIs", table=table)
    nwbfile.add_acquisition(
        extension["MicroscopyResponseSeries"](name="traces", data=TRACES, unit="a.u.", rate=10.0, **{name: region})
    )
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    (listed,) = inspect(path)
    assert (listed.kind, listed.default, listed.channels) == ("rois", True, 4)
    read = read_nwb(path, trials=Window(start=0.0, stop=1.0))
    assert read.attrs["kind"] == "rois"
    assert read["channel_id"].values.tolist() == [14, 11, 10, 13]
    assert np.array_equal(read["values"].values[0], TRACES)


def test_the_reader_of_the_most_derived_type_is_used(readers):
    class Derived(RoiResponseSeries):
        pass

    assert reader_of(Derived) is readers["RoiResponseSeries"]
    derived = reader("Derived", kind="rois")(roi_source.__wrapped__)
    assert reader_of(Derived) is derived
    assert reader_of(RoiResponseSeries) is readers["RoiResponseSeries"]
    kinds = {
        neurodata_class: reader_of(neurodata_class).kind for neurodata_class in (Units, ElectricalSeries, TimeSeries)
    }
    assert kinds == {Units: "units", ElectricalSeries: "electrodes", TimeSeries: "series"}


def test_types_without_one_number_per_channel_and_time_have_no_reader(readers):
    types = (DecompositionSeries, EventWaveform, ImageSeries, IndexSeries, IntervalSeries, SpikeEventSeries)
    assert {neurodata_class.__name__ for neurodata_class in types} == set(WITHOUT_READER)
    assert all(reader_of(neurodata_class) is None for neurodata_class in (*types, dict))
    registered = reader("SpikeEventSeries", kind="electrodes")(photometry_source)
    assert reader_of(SpikeEventSeries) is registered


def test_a_type_has_one_reader(readers):
    with pytest.raises(ConfigError, match="reader of the neurodata type 'Units' exists already"):
        reader("Units", kind="units")(photometry_source)
