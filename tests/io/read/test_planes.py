"""Planes that one scanner takes in turn: every sample in a bin of its own, and a remark where planes lack times."""

import json

import numpy as np
import pytest
from pynwb.ophys import RoiResponseSeries

from nwb_sbtt.config import ReadConfig, RoiConfig
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.grid import edge_between
from nwb_sbtt.errors import ConfigError, SelectionError
from nwb_sbtt.io.read.reader import read_nwb
from tests.support.nwbfiles import Imaged, imaging_file, write

FRAME, N_VOLUMES = 1 / 30, 300


def volumes(path, n_planes, *, delay=FRAME, jitter=0.0):
    """Planes of two ROIs whose values are the numbers of their volumes; plane p comes p delays late."""
    numbers = np.repeat(np.arange(N_VOLUMES)[:, None] + 1.0, 2, axis=1)
    nwbfile = imaging_file(*(Imaged(f"unread{p}", numbers[:3], plane=p) for p in range(n_planes)))
    ophys, rng = nwbfile.processing["ophys"], np.random.default_rng(0)
    for p in range(n_planes):
        when = {"rate": 1 / (n_planes * FRAME), "starting_time": p * delay}
        if jitter:
            times = np.arange(N_VOLUMES) * n_planes * FRAME + p * delay
            when = {"timestamps": times + rng.uniform(-jitter, jitter, N_VOLUMES)}
        region = ophys["ImageSegmentation"][f"Seg{p}"].create_roi_table_region(region=[0, 1], description="ROIs")
        ophys.add(RoiResponseSeries(name=f"plane{p}", data=numbers, unit="a.u.", rois=region, **when))
    return write(nwbfile, path)


def read(path, **options):
    return read_nwb(path, ReadConfig(series=("*/plane*",), rois=RoiConfig(deconvolve="never"), **options))


@pytest.mark.parametrize("n_planes", [1, 2, 3, 4, 5])
def test_jitter_puts_no_two_samples_of_a_plane_into_one_bin(tmp_path, n_planes):
    ds = merge(read(volumes(tmp_path / "x.nwb", n_planes, jitter=0.1 * FRAME)))
    observed, values = ds["observed"].values[0], ds["values"].values[0]
    for channel in range(2 * n_planes):
        found = values[observed[:, channel], channel]
        np.testing.assert_array_equal(found, np.arange(len(found)) + 1), "the mean of two would be no whole number"
        gaps = np.flatnonzero(~observed[:, channel])
        assert len(found) >= N_VOLUMES - 1 and len(gaps) <= 1 and not set(gaps) - {0, len(observed) - 1}


def test_edges_lie_between_samples_and_usual_ones_stay_where_they_do():
    planes = np.array([0.0, 0.25, 0.5, 0.75])
    assert edge_between(planes, 1.0, usual=-0.5) == pytest.approx(-0.125)
    assert edge_between(planes[:1], 1.0, usual=-0.5) == -0.5
    assert edge_between(np.array([0.0, 1 / 3, 2 / 3]), 1.0, usual=-0.5) == -0.5
    assert edge_between(np.linspace(0, 1, 500), 1.0, usual=-0.5) == -0.5, "no gap is worth it"
    assert edge_between(np.array([3.0, 3.1, 3.5]), 1.0, usual=2.5) == pytest.approx(2.75)
    assert edge_between(np.array([5.0, 5.1]), 0.1, usual=4.95) == 4.95


def test_planes_that_start_together_are_said_to_lack_their_times(tmp_path):
    path = volumes(tmp_path / "x.nwb", 3, delay=0.0)
    note = " ".join(json.loads(read(path).attrs["notes"]))
    assert "3 series of different ROIs all start at 0 s" in note and "0.0333 s more for each plane" in note
    assert "--offsets 'processing/ophys/plane1=SECONDS'" in note
    given = read_nwb(
        path,
        ReadConfig(series=("*/plane*",), rois=RoiConfig(deconvolve="never")),
        offsets={"*/plane0": 0.0, "*/plane1": FRAME, "processing/ophys/plane2": [2 * FRAME] * 2},
    )
    assert "different ROIs" not in given.attrs["notes"]
    np.testing.assert_allclose(given["sampling_offset"].values, np.repeat([0, FRAME, 2 * FRAME], 2))
    assert set(json.loads(given.attrs["offsets"])) == {f"processing/ophys/plane{p}" for p in range(3)}
    apart = volumes(tmp_path / "y.nwb", 3)
    assert "different ROIs" not in read(apart).attrs["notes"]
    np.testing.assert_array_equal(given["values"].values, read(apart)["values"].values)
    with pytest.raises(SelectionError, match=r"name '\*/plane7'"):
        read_nwb(path, series="*/plane*", offsets={"*/plane7": 0.0})
    with pytest.raises(SelectionError, match="plane1' twice"):
        read_nwb(path, series="*/plane*", offsets={"*/plane1": 0.0, "*plane*": 0.0})
    with pytest.raises(ConfigError, match="SERIES=SECONDS for each"):
        read_nwb(path, series="*/plane*", offsets=0.01)
