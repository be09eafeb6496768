"""New objects check themselves; files are read whatever optional field they lack, and whichever version wrote them."""

import re
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import DynamicTableRegion
from ndx_sbtt import (
    BinReference,
    InferredRateSeries,
    InferredSignalSeries,
    LatentFactorSeries,
    LatentKind,
    LatentVariableModel,
    ObservationMaskSeries,
)
from pynwb import NWBHDF5IO, TimeSeries, get_manager, validate
from pynwb.testing.mock.ecephys import mock_Units
from pynwb.testing.mock.file import mock_NWBFile

ROOT = Path(__file__).parents[3]
DATA = np.arange(15, dtype=np.float32).reshape(5, 3)
MODEL = {
    "name": "run_model",
    "model_type": "lfads",
    "software_name": "nwb_sbtt",
    "software_version": "0.1.0",
    "bin_width": 0.01,
    "bin_reference": "center",
    "config": "{}",
}


def _region(rows=3):
    table = mock_Units(num_units=4)
    return DynamicTableRegion(name="channels", data=list(range(rows)), description="rows", table=table)


def _sd(data=DATA, unit="Hz"):
    return TimeSeries(name="run_sd", description="sd", data=data, unit=unit, rate=100.0)


def _rates(**changes):
    fields = {"name": "run_rates", "data": DATA, "unit": "Hz", "rate": 100.0, "channels": _region()}
    return InferredRateSeries(**{**fields, **changes})


def _mask(data, rows=3):
    return ObservationMaskSeries(name="run_mask", data=data, unit="n/a", rate=100.0, channels=_region(rows))


def _factors(**changes):
    fields = {"name": "run_factors", "data": DATA, "unit": "a.u.", "rate": 100.0, "kind": "factors"}
    return LatentFactorSeries(**{**fields, **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _rates(unit="spikes/s"), "in 'spikes/s'; expected 'Hz': divide counts per bin"),
        (lambda: _rates(channels=_region(2)), "3 columns of data, and 'channels' names 2 rows"),
        (lambda: _rates(data=H5DataIO(DATA), channels=_region(4)), "3 columns of data, and 'channels' names 4 rows"),
        (lambda: _rates(posterior_sd=_sd(DATA[:4])), r"shape \(4, 3\), and the data \(5, 3\)"),
        (lambda: _rates(posterior_sd=_sd(unit="V")), "is in 'V', and the data in 'Hz'"),
        (lambda: _factors(posterior_sd=_sd()), "is in 'Hz', and the data in 'a.u.'"),
        (lambda: _factors(kind="states"), "'kind' of 'run_factors' is 'states'; expected one of 'factors', "),
        (lambda: _mask(DATA), "holds float32 other than 0 and 1; expected true or false"),
        (lambda: _mask((DATA > 3) * 2), "other than 0 and 1"),
        (lambda: _mask(H5DataIO(DATA > 3)), "wrap it as uint8"),
        (lambda: _mask(DATA > 3, rows=2), "'channels' names 2 rows"),
        (lambda: LatentVariableModel(**{**MODEL, "config": "{a"}), "'config' of 'run_model' is not JSON .*json.dumps"),
        (lambda: LatentVariableModel(**MODEL, metrics="good"), "'metrics' of 'run_model' is not JSON"),
        (lambda: LatentVariableModel(**{**MODEL, "bin_width": 0.0}), "is 0.0; expected seconds, above 0"),
        (
            lambda: LatentVariableModel(**{**MODEL, "bin_reference": "end"}),
            "is 'end'; expected one of 'start', 'center'",
        ),
    ],
)
def test_what_a_field_may_not_hold_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_set_later_is_checked_too():
    rates, model = _rates(), LatentVariableModel(**MODEL)
    with pytest.raises(ValueError, match="expected the same"):
        rates.posterior_sd = _sd(DATA[:, :2])
    rates.posterior_sd = _sd()
    with pytest.raises(ValueError, match="not JSON"):
        model.details = "no"
    model.details = "[1]"


def test_enumerations_are_texts():
    assert _factors(kind=LatentKind.INFERRED_INPUTS).kind == "inferred_inputs"
    model = LatentVariableModel(**{**MODEL, "bin_reference": BinReference.START})
    assert type(model.bin_reference) is str and model.bin_reference == "start"


@pytest.mark.parametrize("data", [DATA > 3, (DATA > 3).tolist(), (DATA > 3).astype(int), (DATA > 3).astype(np.uint8)])
def test_masks_are_true_and_false_or_0_and_1(data):
    stored = _mask(data).data
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, DATA > 3)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    nwbfile = mock_NWBFile()
    units = mock_Units(num_units=3, nwbfile=nwbfile)

    def region():
        return DynamicTableRegion(name="channels", data=[2, 0, 1], description="rows", table=units)

    optional = dict.fromkeys(("environment", "metrics", "details", "input_description"), "{}")
    model = LatentVariableModel(**MODEL, **optional, random_seed=3, run_name="run", bin_times=np.arange(3.0))
    sd = _sd()
    module = nwbfile.create_processing_module("ecephys", "estimates")
    more = {"name": "run_signal", "data": DATA, "unit": "V", "rate": 1.0}
    for item in (
        model,
        sd,
        _rates(channels=region(), model=model, posterior_sd=sd),
        InferredSignalSeries(**more, channels=region(), model=model),
        _factors(model=model),
        ObservationMaskSeries(name="run_mask", data=DATA > 3, unit="n/a", rate=1.0, channels=region()),
    ):
        module.add(item)
    path = tmp_path_factory.mktemp("file") / "file.nwb"
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def _optional_fields():
    """Name of each object with each of its fields that may be missing."""
    catalog = get_manager().namespace_catalog
    names = {"run_model": "LatentVariableModel", "run_rates": "InferredRateSeries", "run_factors": "LatentFactorSeries"}
    names |= {"run_signal": "InferredSignalSeries", "run_mask": "ObservationMaskSeries"}
    for name, kind in names.items():
        spec = catalog.get_spec("ndx-sbtt", kind)
        yield from ((name, each.name) for each in spec.attributes if not each.required)
        parts = [*spec.datasets, *spec.groups, *spec.links]
        yield from ((name, each.name) for each in parts if each.name and each.quantity == "?")


def test_files_without_any_of_the_optional_fields_are_read(path, tmp_path):
    bare = shutil.copy(path, tmp_path / "bare.nwb")
    removed = set()
    with h5py.File(bare, "r+") as file:
        module = file["processing/ecephys"]
        for name, field in _optional_fields():
            for holder in (module[name], module[name].attrs):
                if field in holder and field not in ("starting_time", "timestamps"):
                    del holder[field]
                    removed.add((name, field))
    assert {("run_model", "metrics"), ("run_model", "bin_times"), ("run_rates", "posterior_sd")} <= removed
    assert validate(path=bare) == []
    with NWBHDF5IO(bare, "r") as io:
        module = io.read().processing["ecephys"]
        for name, field in removed:
            value = getattr(module[name], field, None)
            assert value is None or (isinstance(value, str) and value.startswith("no ")), (name, field)


def test_what_was_written_against_the_rules_is_read_as_it_is(path, tmp_path):
    wrong = shutil.copy(path, tmp_path / "wrong.nwb")
    with h5py.File(wrong, "r+") as file:
        module = file["processing/ecephys"]
        module["run_factors"].attrs["kind"] = "a word of version 0.1.0"
        module["run_model"].attrs["bin_reference"] = "end"
        module["run_mask/data"][0] = 7
        del module["run_model/metrics"]
        module["run_model"]["metrics"] = "not JSON"
    with NWBHDF5IO(wrong, "r") as io:
        module = io.read().processing["ecephys"]
        assert module["run_factors"].kind == "a word of version 0.1.0"
        assert module["run_model"].metrics == "not JSON" and module["run_mask"].data[0, 0] == 7


def test_files_of_version_0_1_0_are_read(path, tmp_path):
    old = shutil.copy(path, tmp_path / "old.nwb")
    with h5py.File(old, "r+") as file:
        (version,) = file["specifications/ndx-sbtt"]
        file.move(f"specifications/ndx-sbtt/{version}", "specifications/ndx-sbtt/0.1.0")
        text = file["specifications/ndx-sbtt/0.1.0/namespace"][()].decode().replace(version, "0.1.0")
        file["specifications/ndx-sbtt/0.1.0/namespace"][()] = text
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Ignoring the following cached namespace")
        with NWBHDF5IO(old, "r") as io:
            rates = io.read().processing["ecephys"]["run_rates"]
            np.testing.assert_array_equal(rates.data[:], DATA)
            assert rates.model.bin_width == 0.01


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})
    assert "lfads Hz 2" in capsys.readouterr().out
    assert validate(path="rates.nwb") == []


def test_versions_agree():
    texts = [(ROOT / name).read_text() for name in ("pyproject.toml", "ndx-meta.yaml", "spec/ndx-sbtt.namespace.yaml")]
    (version,) = {re.search(r"^\s*version\W+([\d.]+)", text, flags=re.M)[1] for text in texts}
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
