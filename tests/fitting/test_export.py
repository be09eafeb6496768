"""A fit as an ONNX file infers, without this package, what its stream infers."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import nwb_sbtt as sb
from nwb_sbtt.config import ConvConfig, FitConfig, TrainConfig
from nwb_sbtt.errors import ConfigError, FileError
from nwb_sbtt.fitting.export import LEAST_TORCH
from tests.fitting.test_stream import SMALL, dataset
from tests.support.commands import call

onnxruntime = pytest.importorskip("onnxruntime", reason="extra `test`")
pytest.importorskip("onnxscript", reason="extra `export`")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < LEAST_TORCH, reason="torch is too old"),
]
RIG = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
bins = np.load(sys.argv[2])
state = np.zeros(next(each.shape for each in session.get_inputs() if each.name == "state"), np.float32)
rates = []
for values in bins["values"]:
    given = {"values": values, "observed": ~np.isnan(values), "exposure": np.ones_like(values), "state": state}
    found, sd, factors, state = session.run(None, given)
    rates.append(found)
facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
assert not {"nwb_sbtt", "torch"} & set(sys.modules)
np.savez(sys.argv[3], rates=rates)
print(json.dumps(facts))
"""


def fit(ds, folder, *, lag, seeds=1):
    config = FitConfig(model=ConvConfig(lag=lag, **{**SMALL, "layers": 2}), train=TrainConfig(epochs=2), seeds=seeds)
    return sb.fit(ds, config, run_dir=folder)


@pytest.fixture(scope="module")
def counts():
    return dataset("counts")


@pytest.fixture(scope="module")
def fitted(counts, tmp_path_factory):
    return fit(counts, tmp_path_factory.mktemp("export") / "run", lag=2)


def feed(session, values, exposure, inputs):
    """Every output of each bin, by name."""
    shape = next(each.shape for each in session.get_inputs() if each.name == "state")
    state, rows = np.zeros(shape, np.float32), []
    for t in range(len(values)):
        given = {
            "values": values[t],
            "observed": np.ones(values.shape[1], bool),
            "exposure": exposure[t],
            "state": state,
        }
        given |= {} if inputs is None else {"inputs": inputs[t]}
        names = [each.name for each in session.get_outputs()]
        outputs = dict(zip(names, session.run(None, given), strict=True))
        state = outputs.pop("next_state")
        rows.append(outputs)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize(
    ("kind", "seeds", "lag", "with_inputs"),
    [("counts", 2, 0, False), ("counts", 1, 5, True), ("signals", 1, 3, False)],
    ids=["ensemble of counts", "counts with inputs", "signals"],
)
def test_the_file_infers_what_the_stream_infers(kind, seeds, lag, with_inputs, tmp_path):
    ds = dataset(kind, exposure=kind == "counts")
    random = np.random.default_rng(0)
    known = random.normal(size=ds["values"].shape[:2])
    known[:, 7] = np.nan
    ds = sb.with_inputs(ds, {"light": known}) if with_inputs else ds
    fitted = fit(ds, tmp_path / "run", lag=lag, seeds=seeds)
    session = onnxruntime.InferenceSession(fitted.export(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    values = np.where(ds["observed"].values[0], ds["values"].values[0], np.nan).astype(np.float32)
    exposure = ds["exposure"].values[0] if "exposure" in ds else np.ones_like(values)
    inputs = known[0][:, None].astype(np.float32) if with_inputs else None
    found, stream = feed(session, values, exposure, inputs), fitted.stream()
    expected = stream.step(values, exposure=exposure, **({"inputs": inputs} if with_inputs else {}))
    assert set(found) == ({"rates", "rates_sd", "factors"} if kind == "counts" else {"mean", "mean_sd", "factors"})
    for name, array in found.items():
        assert np.isnan(array[:lag]).all() and np.isfinite(array[lag:]).all()
        np.testing.assert_allclose(array, getattr(expected, name), rtol=1e-4, atol=1e-5 * np.nanmax(np.abs(array)))


def test_a_rig_without_this_package_runs_the_file(counts, fitted, tmp_path, monkeypatch):
    model, bins, out = tmp_path / "rig" / "model.onnx", tmp_path / "bins.npz", tmp_path / "rates.npz"
    assert call(monkeypatch, "export", fitted.run_dir, model) == 0
    values = np.where(counts["observed"].values[1], counts["values"].values[1], np.nan).astype(np.float32)
    np.savez(bins, values=values)
    words = [sys.executable, "-c", RIG, str(model), str(bins), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["channels"] == [str(each) for each in fitted.stream().channels] and facts["lag"] == 2
    assert facts["bin_width"] == 0.02 and facts["inputs"] == [] and facts["unit"] == "Hz"
    expected = fitted.stream().step(values).rates
    np.testing.assert_allclose(np.load(out)["rates"], expected, rtol=1e-4, atol=1e-5 * np.nanmax(expected))


def test_what_cannot_be_exported_is_refused(counts, fitted, tmp_path, monkeypatch, capsys):
    target = tmp_path / "model.onnx"
    target.write_text("kept")
    assert call(monkeypatch, "export", fitted.run_dir, target) == 2
    assert "exists; pass --overwrite" in capsys.readouterr().err and target.read_text() == "kept"
    with pytest.raises(FileError, match="exists; pass --overwrite"):
        fitted.export(target)
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.onnx"):
        fitted.export(tmp_path / "model.pt")
    whole = fit(counts, tmp_path / "whole", lag=None)
    with pytest.raises(ConfigError, match="infers each bin from the whole trial"):
        whole.export(tmp_path / "whole.onnx")
    assert not (tmp_path / "whole.onnx").exists()
