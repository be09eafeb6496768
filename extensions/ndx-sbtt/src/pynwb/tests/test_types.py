"""Each type survives a write, a read and an export, and the validator finds nothing."""

import numpy as np
import pytest
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData
from ndx_sbtt import (
    InferredRateSeries,
    InferredSignalSeries,
    LatentFactorSeries,
    LatentVariableModel,
    ObservationMaskSeries,
)
from pynwb import TimeSeries
from pynwb.testing import NWBH5IOFlexMixin, TestCase
from pynwb.testing.mock.ecephys import mock_electrodes, mock_Units
from pynwb.testing.mock.ophys import mock_PlaneSegmentation


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _model() -> LatentVariableModel:
    model = LatentVariableModel(
        name="run_model",
        model_type="lfads",
        software_name="nwb_sbtt",
        software_version="0.1.0",
        bin_width=0.01,
        bin_reference="center",
        random_seed=3,
        config='{"factors": 3}',
        environment='{"python": "3.11"}',
        bin_times=np.arange(20) * 0.01,
    )
    model.training_metrics = DynamicTable(
        name="training_metrics",
        description="losses",
        columns=[VectorData(name="epoch", description="epoch", data=[0, 1])],
    )
    model.sources = DynamicTable(
        name="sources",
        description="recordings",
        columns=[VectorData(name="file_name", description="name of the file", data=["a.nwb"])],
    )
    return model


def _region(table: DynamicTable) -> DynamicTableRegion:
    return DynamicTableRegion(name="channels", data=[2, 0, 1], description="row of each column", table=table)


def _data(columns: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((20, columns)).astype(np.float32)


class _RoundTrip(NWBH5IOFlexMixin):
    def add(self, *things):
        module = self.nwbfile.processing.get("run") or self.nwbfile.create_processing_module("run", "estimates")
        for thing in things:
            module.add(thing)

    def getContainer(self, nwbfile):  # noqa: N802
        return nwbfile.processing["run"][f"run_{self.getContainerType()}"]


class TestModel(_RoundTrip, TestCase):
    def getContainerType(self):  # noqa: N802
        return "model"

    def addContainer(self):  # noqa: N802
        self.add(_model())


class TestRatesOfUnits(_RoundTrip, TestCase):
    def getContainerType(self):  # noqa: N802
        return "rates"

    def addContainer(self):  # noqa: N802
        model = _model()
        sd = TimeSeries(name="run_sd", description="sd", data=_data(), unit="Hz", rate=100.0)
        units = mock_Units(num_units=3, nwbfile=self.nwbfile)
        rates = InferredRateSeries(
            name="run_rates", data=_data(), unit="Hz", rate=100.0, channels=_region(units), model=model, posterior_sd=sd
        )
        self.add(model, sd, rates)


class TestSignalsOfElectrodes(_RoundTrip, TestCase):
    def getContainerType(self):  # noqa: N802
        return "signal"

    def addContainer(self):  # noqa: N802
        mock_electrodes(n_electrodes=3, nwbfile=self.nwbfile)
        signal = InferredSignalSeries(
            name="run_signal",
            data=_data(),
            unit="volts",
            timestamps=np.arange(20.0) ** 1.1,
            channels=_region(self.nwbfile.electrodes),
        )
        self.add(signal)


class TestMaskOfRois(_RoundTrip, TestCase):
    def getContainerType(self):  # noqa: N802
        return "mask"

    def addContainer(self):  # noqa: N802
        rois = mock_PlaneSegmentation(n_rois=3, nwbfile=self.nwbfile)
        recorded = TimeSeries(name="recorded", data=_data(), unit="a.u.", rate=100.0)
        self.nwbfile.add_acquisition(recorded)
        mask = ObservationMaskSeries(
            name="run_mask",
            data=(_data() > 0.5).astype(np.uint8),
            unit="n/a",
            rate=100.0,
            channels=_region(rois),
            source_timeseries=recorded,
        )
        self.add(mask)


class TestFactors(_RoundTrip, TestCase):
    def getContainerType(self):  # noqa: N802
        return "factors"

    def addContainer(self):  # noqa: N802
        self.add(LatentFactorSeries(name="run_factors", data=_data(5), unit="a.u.", rate=100.0, kind="factors"))


def test_every_series_is_a_time_series_to_a_reader_that_walks_types():
    for kind in (InferredRateSeries, InferredSignalSeries, LatentFactorSeries, ObservationMaskSeries):
        assert issubclass(kind, TimeSeries)
    assert issubclass(InferredRateSeries, InferredSignalSeries)
