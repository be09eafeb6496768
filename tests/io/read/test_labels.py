"""Channels are chosen by their columns before anything of the others is read."""

import json

import numpy as np
import pytest
import xarray as xr

from nwb_sbtt import ReadConfig, Window, read_nwb
from nwb_sbtt.config import RoiConfig
from nwb_sbtt.io.read import units
from tests.support import nwbfiles


@pytest.fixture(scope="module")
def sorted_units(tmp_path_factory):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_watched_units(nwbfile, np.random.default_rng(0))
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("labels") / "units.nwb")


@pytest.mark.slow
def test_channels_chosen_before_reading_are_as_they_are_among_all(sorted_units, tmp_path):
    random = np.random.default_rng(1)
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_electrodes(nwbfile, 6, columns={"area": ["V1", "M1", "M1", "V1", "S1", "M1"]})
    signal = (random.normal(size=(4000, 6)) * 100).astype(np.int16)
    nwbfiles.add_electrical(nwbfile, signal[:2000], name="first", rate=1000.0)
    nwbfiles.add_electrical(
        nwbfile, signal[2000:, [5, 3, 4]], name="later", rows=[5, 3, 4], rate=1000.0, starting_time=2.0
    )
    nwbfiles.add_rois(nwbfile, random.normal(size=(40, 3)), rate=10.0)
    nwbfiles.add_series(nwbfile, random.normal(size=(40, 3)), rate=10.0, name="hand")
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    cut = Window(start=0.0, stop=4.0)
    cases = [
        (sorted_units, ("units",), {"area": ("M1",)}, Window(start=0.0, stop=20.0)),
        (path, ("acquisition/first", "acquisition/later"), {"area": ("M1",)}, cut),
        (path, ("acquisition/first", "acquisition/later"), {"area": ("S1", "V1")}, cut),
        (path, ("acquisition/first",), {"id": (100, 103)}, cut),
        # Read as it is: whether there are events to infer depends on the ROIs.
        (path, ("*RoiResponseSeries",), {"id": (0, 2)}, cut),
        (path, ("acquisition/hand",), {"id": (1,)}, cut),
    ]
    for file, series, where, window in cases:
        column = next(iter(where))
        config = ReadConfig(
            series=series,
            bin_width=0.1,
            channel_columns=() if column == "id" else (column,),
            cut=window,
            rois=RoiConfig(deconvolve="never"),
        )
        whole = read_nwb(file, config)
        label = whole["channel_id" if column == "id" else column].values
        after = whole.isel(channel=np.flatnonzero(np.isin(label, where[column])))
        before = read_nwb(file, config.model_copy(update={"where": where}))
        assert 0 < before.sizes["channel"] < whole.sizes["channel"]
        for name in (set(after.data_vars) | set(after.coords)) - {"values"}:
            xr.testing.assert_equal(before[name].variable, after[name].variable)
        # The products of a filter with few columns and with many add up in different orders; counts and copies do not.
        slack = 1e-5 * float(after["values"].std()) if before.attrs["kind"] == "electrodes" else 0.0
        assert np.abs(before["values"].values - after["values"].values).max() <= slack
        n_left = whole.sizes["channel"] - before.sizes["channel"]
        assert f"{n_left} of {whole.sizes['channel']} channels excluded by `where`" in json.loads(before.attrs["notes"])


def test_channels_left_out_are_not_read(sorted_units, monkeypatch):
    read = []
    plain = units.spikes_by_unit
    monkeypatch.setattr(
        units, "spikes_by_unit", lambda stored, bounds, rows: read.extend(rows) or plain(stored, bounds, rows)
    )
    read_nwb(sorted_units, ReadConfig(where={"area": ("M1",)}), bin_width=0.1, trials=Window(start=0.0, stop=20.0))
    assert sorted(map(int, read)) == [1, 2]
