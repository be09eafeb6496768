"""The example of a model in a package of its own: installed, fitted, resumed, averaged, reported and written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nwb_sbtt import read_result
from nwb_sbtt.config import MODELS, FitConfig, build
from nwb_sbtt.fitting.loading import load
from tests.support.commands import TRIALS, call, recording
from tests.support.fits import Stopping

pytest.importorskip("hatchling", reason="the example package is built by hatchling (extra `test`)")
EXAMPLE = Path(__file__).parents[1] / "extensions" / "example-model"
SMALL = ["model.factors=2", "model.read_in=4", "train.epochs=4", "train.checkpoint_every=1"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example package, installed by pip into a folder of its own that this process then imports from."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", folder]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, EXAMPLE], check=True)
    sys.path.insert(0, str(folder))
    MODELS.search_again()
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("example_lds", None)
    MODELS.search_again()


def fit(monkeypatch, source, run_dir, *words):
    settings = [word for text in SMALL for word in ("--set", text)]
    return call(monkeypatch, "fit", source, *TRIALS, "--model", "example-lds", *settings, "--run-dir", run_dir, *words)


def test_the_model_is_listed_with_its_package_and_settings(installed, monkeypatch, capsys):
    assert call(monkeypatch, "models", "--json") == 0
    listed = {part["name"]: part for part in json.loads(capsys.readouterr().out)}
    assert listed["example-lds"]["package"] == "example-lds"
    assert call(monkeypatch, "settings", "--model", "example-lds") == 0
    assert "model.read_in" in capsys.readouterr().out
    assert build(FitConfig, {"model": "example-lds"}).model.factors == 8


def test_wrong_settings_of_the_model_are_named_like_the_package_s_own(installed, monkeypatch, tmp_path, capsys):
    source = recording(tmp_path / "lorenz.nwb")
    assert fit(monkeypatch, source, tmp_path / "run", "--set", "model.factor=3") == 2
    assert "unknown setting 'model.factor'; did you mean 'model.factors'?" in capsys.readouterr().err
    assert call(monkeypatch, "fit", source, "--model", "exmaple-lds", "--run-dir", tmp_path / "run") == 2
    assert "did you mean 'example-lds'?" in capsys.readouterr().err


@pytest.mark.slow
def test_it_is_trained_resumed_averaged_reported_and_written(installed, monkeypatch, tmp_path):
    source, run, out = recording(tmp_path / "lorenz.nwb"), tmp_path / "run", tmp_path / "out.nwb"
    assert fit(monkeypatch, source, run, "--seeds", "2", "--out", out) == 0
    assert (run / "report.html").is_file()
    fitted = load(run)
    assert fitted.model.Config.__name__ == "LDSConfig" and len(fitted.members) == 2
    assert fitted.history[-1]["valid_loss"] < fitted.history[0]["valid_loss"]
    latents = read_result(out)
    assert latents["factors"].sizes["factor"] == 2 and {"rates", "rates_sd"} <= set(latents)
    again = tmp_path / "again"
    with monkeypatch.context() as patched:
        patched.setattr("nwb_sbtt.fitting.fit.default_tracker", lambda label: Stopping(2))
        assert fit(monkeypatch, source, again, "--seeds", "2") != 0
    assert not (again / "member-1").exists()
    assert fit(monkeypatch, source, again, "--seeds", "2") == 0
    for one, two in zip(fitted.members, load(again).members, strict=True):
        for name, tensor in one.model.state_dict().items():
            assert tensor.equal(two.model.state_dict()[name]), name


def test_another_fit_starts_from_its_dynamics(installed, monkeypatch, tmp_path):
    source, run = recording(tmp_path / "lorenz.nwb"), tmp_path / "run"
    assert fit(monkeypatch, source, run) == 0
    options = ["--init", run, "--set", "init.channels=new", "--set", "init.freeze=dynamics"]
    assert fit(monkeypatch, source, tmp_path / "next", *options) == 0
    first, second = (load(folder).model.state_dict() for folder in (run, tmp_path / "next"))
    assert (first["dynamics"] == second["dynamics"]).all()
    assert (first["read_in.values.@lorenz"] != second["read_in.values.@lorenz"]).any()
