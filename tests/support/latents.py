"""Made-up results that keep the contract of a latents Dataset, for files generated or recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from nwb_sbtt.config import WriteConfig
from nwb_sbtt.data.schema import with_ids_as_index
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.write.session import get_object
from nwb_sbtt.io.write.writer import write_nwb

MODEL = {
    "model_type": "lfads",
    "run": "run-1",
    "config": {"model": {"name": "lfads", "factors": 3}, "seed": 5},
    "likelihood": "poisson",
    "software_name": "nwb_sbtt",
    "software_version": "0.1.0",
    "seed": 5,
    "checkpoint_sha256": "ab" * 32,
    "environment": {"python": "3.11.9", "torch": "2.13.0"},
    "metrics": {"bits_per_spike": 0.25},
    "finished": "no improvement for 60 epochs",
    "training": [
        {"epoch": 0, "train_loss": 1.5, "valid_loss": None},
        {"epoch": 1, "train_loss": 1.25, "valid_loss": 1.375},
    ],
}


def make_latents(
    *,
    starts: Sequence[float] = (0.0, 2.0, 4.0),
    n_bins: int = 40,
    n_channels: int = 5,
    bin_width: float = 0.02,
    kind: str = "units",
    share: float = 0.8,
    seed: int = 0,
) -> xr.Dataset:
    """Random results; `rates` for units and `mean` for all else, observed at a random `share` of the entries."""
    generator = np.random.default_rng(seed)
    n = len(starts)
    shapes = {
        "rates" if kind == "units" else "mean": (("trial", "time", "channel"), (n, n_bins, n_channels)),
        "factors": (("trial", "time", "factor"), (n, n_bins, 3)),
        "inputs": (("trial", "time", "input"), (n, n_bins, 1)),
        "initial_condition": (("trial", "initial"), (n, 4)),
    }
    data = {
        f"{name}{sd}": (dims, generator.gamma(2.0, 5.0, shape).astype(np.float32))
        for name, (dims, shape) in shapes.items()
        for sd in ("", "_sd")
    }
    data["observed"] = (("trial", "time", "channel"), generator.random((n, n_bins, n_channels)) < share)
    coords = {
        "time": -0.25 + (np.arange(n_bins) + 0.5) * bin_width,
        "trial_start": ("trial", np.asarray(starts, dtype=np.float64)),
        "trial_id": ("trial", 100 + np.arange(n)),
        "split": ("trial", np.array([("train", "valid")[i % 2] for i in range(n)])),
        "channel_id": ("channel", np.arange(n_channels)),
    }
    attrs = {
        "bin_width": bin_width,
        "kind": kind,
        "unit": "counts" if kind == "units" else "volts",
        "session_id": "session-1",
        "session_start_time": "2024-03-01T12:00:00+00:00",
        "bin_reference": "center",
        "cut": json.dumps({"by": "trials", "event": "go", "start": -0.25, "stop": 0.55, "table": "trials"}),
        "notes": json.dumps(["1 of 4 rows was left out"]),
        "model": json.dumps(MODEL),
    }
    return xr.Dataset(data, coords=with_ids_as_index(coords), attrs=attrs)


def latents_of(path: Path, parts: Sequence[tuple[str, str, Sequence[int]]], **fields: object) -> xr.Dataset:
    """Results for channels of a file: `parts` holds (path of the table, path of the series, rows of the table)."""
    with open_nwb(path) as nwbfile:
        columns: dict[str, list[object]] = {"channel_id": [], "channel_row": [], "table": [], "series": []}
        for table, series, rows in parts:
            has_table = table != series or table == "units"
            ids = get_object(nwbfile, table).id[:] if has_table else np.arange(max(rows) + 1)
            columns["channel_id"] += [int(ids[row]) for row in rows]
            columns["channel_row"] += list(rows)
            columns["table"] += [table] * len(rows)
            columns["series"] += [series] * len(rows)
        source = {
            "path": str(path),
            "name": path.name,
            "object_id": nwbfile.object_id,
            "identifier": nwbfile.identifier,
            "sha256": digest(path),
            "series": list(dict.fromkeys(series for _, series, _ in parts)),
            "dandiset": "000140",
        }
    latents = make_latents(n_channels=len(columns["channel_id"]), **fields)
    labels = {name: ("channel", np.array(values)) for name, values in columns.items()}
    latents = latents.assign_coords(with_ids_as_index(labels))
    return latents.assign_attrs(source=json.dumps(source))


def write_exactly(latents: xr.Dataset, path: Path, **arguments: object) -> Path:
    """Write results with all their digits."""
    return write_nwb(latents, path, config=WriteConfig(precision="full"), **arguments)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_same(written: xr.Dataset, read: xr.Dataset) -> None:
    """Every variable and coordinate identical; attributes too, but for the recording's place on the disk."""
    assert set(written.variables) == set(read.variables)
    xr.testing.assert_identical(written.drop_attrs(), read[list(written.data_vars)].drop_attrs())
    assert "rates" not in read or read["rates"].attrs["units"] == "Hz"
    for name in written.data_vars:
        assert written[name].dtype == read[name].dtype, name
    attrs, actual = dict(written.attrs), dict(read.attrs)
    for key in ("model", "source"):
        expected = json.loads(attrs.pop(key, "{}"))
        expected.pop("path", None)
        assert expected == json.loads(actual.pop(key, "{}"))
    assert attrs == actual
