"""Stored observation masks: which series they speak about, and which bins and samples they leave."""

import subprocess
import sys

import numpy as np
import pytest
from hdmf.common import DynamicTableRegion
from ndx_sbtt import LatentVariableModel, ObservationMaskSeries
from pynwb import NWBHDF5IO

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.masks import stored_masks
from nwb_sbtt.io.read.rois import roi_source
from tests.support.nwbfiles import add_rois, add_units, new_file, write


def add_mask(nwbfile, data, table, *, rows=None, link=None, name="mask", where=None, **clock):
    rows = list(range(np.shape(data)[1])) if rows is None else list(rows)
    region = DynamicTableRegion(name="channels", data=rows, description="channels", table=table)
    fields = {} if link is None else {"source_timeseries": link}
    clock = clock or {"rate": 10.0}
    mask = ObservationMaskSeries(
        name=name, data=np.asarray(data, dtype=np.uint8), unit="n/a", channels=region, **fields, **clock
    )
    (nwbfile.add_acquisition if where is None else where.add)(mask)
    return mask


def imaging(n_frames=40, n_rois=4):
    nwbfile = new_file()
    return nwbfile, add_rois(nwbfile, np.ones((n_frames, n_rois)), rate=10.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_bin_is_left_where_no_sample_that_touches_it_is_zero(seed):
    rng = np.random.default_rng(seed)
    nwbfile, series = imaging()
    data = rng.random((40, 3)) > 0.3
    times = np.arange(40) * 0.1 + (np.arange(40) >= 20) * 1.3
    add_mask(nwbfile, data, series.rois.table, rows=[3, 0, 2], link=series, timestamps=times)
    (mask,) = stored_masks(nwbfile, series)
    grid = Grid(np.array([2.1, -0.2, 0.33]), float(rng.choice([0.03, 0.1, 0.25])), 13)
    observed = mask.bin(grid, np.array([0, 1, 2, 3]))
    column = {3: 0, 0: 1, 2: 2}
    for trial, start in enumerate(grid.starts):
        for b in range(13):
            low, high = start + b * grid.bin_width, start + (b + 1) * grid.bin_width
            touching = (times < high - 1e-8) & (times + 0.1 > low + 1e-8)
            for channel in range(4):
                expected = channel not in column or data[touching, column[channel]].all()
                assert observed[trial, b, channel] == expected


def test_samples_are_hidden_by_the_mask_sample_that_covers_them():
    nwbfile, series = imaging()
    data = np.ones((40, 4))
    data[5:8, 2] = 0
    add_mask(nwbfile, data, series.rois.table, link=series)
    (mask,) = stored_masks(nwbfile, series)
    times = np.arange(-10, 450) / 100
    hidden = mask.hidden(times, np.array([2, 0]))
    assert np.array_equal(hidden[:, 0], (times >= 0.5 - 1e-9) & (times < 0.8 - 1e-9)) and not hidden[:, 1].any()


def test_a_mask_of_frames_hides_those_frames_of_those_rois():
    nwbfile, series = imaging()
    data = np.random.default_rng(0).random((40, 4)) > 0.4
    add_mask(nwbfile, data, series.rois.table)
    source = roi_source(nwbfile, series, ReadConfig(), offsets=[0, 0.02, 0.05, 0.09])
    binned = source.bin(Grid(np.array([0.0]), 0.1, 40))
    assert np.array_equal(binned.observed[0], data)


def test_a_mask_speaks_about_what_it_links_to_or_about_its_table_and_length():
    nwbfile, series = imaging()
    other = add_rois(nwbfile, np.ones((40, 4)), name="Neuropil", rate=10.0)
    short = add_rois(nwbfile, np.ones((30, 4)), name="Short", rate=10.0)
    add_units(nwbfile, [np.arange(5.0), np.arange(5.0)])
    add_mask(nwbfile, np.ones((40, 4)), series.rois.table, link=series, name="linked")
    add_mask(nwbfile, np.ones((40, 4)), series.rois.table, name="by_table")
    add_mask(nwbfile, np.ones((25, 2)), nwbfile.units, name="of_units")
    names = {
        item.name: [mask.path for mask in stored_masks(nwbfile, item)] for item in (series, other, short, nwbfile.units)
    }
    assert names == {
        "RoiResponseSeries": ["acquisition/by_table", "acquisition/linked"],
        "Neuropil": ["acquisition/by_table"],
        "Short": [],
        "units": ["acquisition/of_units"],
    }


def test_the_mask_of_a_result_is_not_one_of_the_recording():
    nwbfile, series = imaging()
    module = nwbfile.create_processing_module("latents", "result")
    module.add(
        LatentVariableModel(
            name="model",
            model_type="lfads",
            software_name="nwb_sbtt",
            software_version="0",
            bin_width=0.1,
            bin_reference="center",
            random_seed=0,
            config="{}",
        )
    )
    add_mask(nwbfile, np.zeros((40, 4)), series.rois.table, where=module)
    assert stored_masks(nwbfile, series) == ()


def test_a_mask_without_a_column_for_each_channel_is_refused():
    nwbfile, series = imaging()
    # The class itself refuses such data; files of other programs may hold them.
    mask = add_mask(nwbfile, np.ones((3, 3)), series.rois.table, rows=[0, 1, 2], link=series)
    mask.fields["data"] = np.ones((3, 40), dtype=np.uint8)
    with pytest.raises(DataError, match=r"acquisition/mask.*\(3, 40\).*name 3"):
        stored_masks(nwbfile, series)


@pytest.mark.slow
def test_a_mask_is_read_where_the_extension_is_not_installed(tmp_path):
    nwbfile, series = imaging()
    data = np.ones((40, 4))
    data[10:20, 1] = 0
    add_mask(nwbfile, data, series.rois.table, link=series)
    path = write(nwbfile, tmp_path / "session.nwb")
    with NWBHDF5IO(path, "r") as io:
        stored = io.read()
        assert len(stored_masks(stored, stored.processing["ophys"]["Fluorescence"]["RoiResponseSeries"])) == 1
    program = f"""
import sys, numpy as np
sys.modules["ndx_sbtt"] = None
from pynwb import NWBHDF5IO
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.io.read.rois import roi_source
with NWBHDF5IO({str(path)!r}, "r") as io:
    nwbfile = io.read()
    series = nwbfile.processing["ophys"]["Fluorescence"]["RoiResponseSeries"]
    binned = roi_source(nwbfile, series, ReadConfig()).bin(Grid(np.array([0.0]), 0.1, 40))
print((~binned.observed).sum(), np.argwhere(~binned.observed[0]).min(axis=0).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10 [10, 1]"
