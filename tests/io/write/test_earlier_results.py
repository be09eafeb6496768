"""Result files that an earlier version wrote are read as that version read them."""

import gzip
import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.write.results import read_model, read_result
from nwb_sbtt.io.write.series import ROI_VARIABLES
from nwb_sbtt.io.write.writer import write_nwb
from tests.support.commands import call

FOLDER = Path(__file__).parent / "results_0.1.0"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.fixture(params=NAMES)
def result(request, tmp_path):
    """Path of a result file, and what the version that wrote it read."""
    path = tmp_path / f"{request.param}.nwb"
    path.write_bytes(gzip.decompress((FOLDER / f"{request.param}.nwb.gz").read_bytes()))
    return path, json.loads((FOLDER / f"{request.param}.json").read_text(encoding="utf-8"))


def test_the_files_are_of_counts_fluorescence_and_events():
    assert NAMES == ["counts_lfads_ensemble", "events_conv", "fluorescence_ladder"]


def test_results_are_read_as_the_version_read_them_that_wrote_them(result):
    path, expected = result
    ds = read_result(path)
    assert ds.attrs == expected["attrs"]
    indexed = {"channel_id": "channel", "trial_id": "trial"}
    for name, dim in indexed.items():
        assert name not in ds.coords or (ds[dim].values == ds[name].values).all()
    # That version had no ids as indices.
    ds = ds.drop_vars(indexed.values(), errors="ignore")
    for part in ("coords", "data_vars"):
        assert {name: described(variable) for name, variable in getattr(ds, part).items()} == expected[part]


def test_the_record_of_the_model_is_read_as_it_was(result):
    path, expected = result
    assert read_model(path) == expected["model"]


def test_their_series_are_still_told_from_recordings(result, monkeypatch, capsys):
    path, _ = result
    assert call(monkeypatch, "inspect", path) == 0
    listing = capsys.readouterr().out
    roles = {candidate.path: candidate.role for candidate in inspect(path)}
    inferred = [path for path in roles if any(name in path for name in ("_mean", "_rates", "_events", "_factors"))]
    assert inferred
    assert {roles[path] for path in inferred} == {"result"}
    assert "results of a model: " in listing
    assert all(path in listing for path in inferred)


def test_the_same_results_written_today_have_the_names_and_types_of_then(result, tmp_path):
    # Without the recording there are neither sources nor ROIs to link to, and events are no RoiResponseSeries.
    path, _ = result
    before, now = stored(path), stored(write_nwb(read_result(path), tmp_path / "now.nwb"))
    # Timestamps have moved from the first sd to the series that it belongs to.
    links = ("channels", "roi", "rois", "timestamps")
    names = {name for name in before if "/sources" not in name and name.rsplit("/", 1)[-1] not in links}
    assert names == {name for name in now if name.rsplit("/", 1)[-1] not in links}
    for name in names:
        if not any(f"sbtt_{variable}" in name for variable in ROI_VARIABLES):
            assert now[name] == before[name], name


def stored(path):
    """Names of the objects of a set of results, each with the names of its attributes, its type and its unit."""
    objects = {}

    def add(name, item):
        if name.startswith("processing/") and "/sbtt_" in name:
            attrs = dict(item.attrs)
            plain = {key: attrs.get(key) for key in ("neurodata_type", "namespace", "unit")}
            objects[name] = {"attributes": sorted(attrs), **plain}

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return objects


def described(array):
    values = np.ascontiguousarray(array.values)
    short = {"values": values.tolist()} if values.size <= 12 else {}
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    attrs = dict(array.variable.attrs)
    dims, shape = list(array.dims), list(values.shape)
    return {"dims": dims, "dtype": values.dtype.str, "shape": shape, "attrs": attrs, **short, "sha256": digest}
