"""An extension that a file uses without carrying its definitions is imported by its name, or named."""

import json
import shutil
import sys

import h5py
import numpy as np
import pytest
import yaml
from pynwb import available_namespaces
from pynwb.spec import NWBAttributeSpec, NWBGroupSpec, NWBNamespaceBuilder

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.read.extensions import missing_namespace
from nwb_sbtt.io.read.files import open_nwb
from tests.support import nwbfiles


def file_of(path, namespace, neurodata_type="Probe"):
    """A file with a device of an extension, without the definitions of that extension."""
    nwbfile = nwbfiles.new_file()
    nwbfile.create_device(name="probe", description="generated")
    nwbfiles.add_series(nwbfile, np.arange(4.0), rate=1.0)
    nwbfiles.write(nwbfile, path)
    with h5py.File(path, "a") as file:
        file["general/devices/probe"].attrs.update({"namespace": namespace, "neurodata_type": neurodata_type, "x": "q"})
    return path


def install(folder, name, monkeypatch):
    """Make a package of an extension that can be imported."""
    builder = NWBNamespaceBuilder("a lab's types", name, version="0.1.0", author="a", contact="a@b.org")
    builder.include_type("Device", namespace="core")
    attribute = NWBAttributeSpec(name="x", doc="x", dtype="text")
    builder.add_spec(
        f"{name}.extensions.yaml",
        NWBGroupSpec(doc="probe", neurodata_type_def="Probe", neurodata_type_inc="Device", attributes=[attribute]),
    )
    package = folder / name.replace("-", "_")
    package.mkdir()
    builder.export(f"{name}.namespace.yaml", outdir=str(package))
    (package / "__init__.py").write_text(
        "from pathlib import Path\nfrom pynwb import load_namespaces\n"
        f"load_namespaces(str(Path(__file__).with_name('{name}.namespace.yaml')))\n"
    )
    monkeypatch.syspath_prepend(folder)


def test_an_installed_extension_is_imported_by_its_name(tmp_path, monkeypatch):
    path = file_of(tmp_path / "x.nwb", "ndx-installed-lab")
    with pytest.raises(
        FileError, match=r"needs the NWB extension 'ndx-installed-lab'.*: pip install ndx-installed-lab"
    ):
        open_nwb(path).__enter__()
    install(tmp_path, "ndx-installed-lab", monkeypatch)
    with open_nwb(path) as nwbfile:
        assert nwbfile.devices["probe"].x == "q"
        data = nwbfile.acquisition["series"].data
        assert data[:].tolist() == [0, 1, 2, 3]
    assert not data.id.valid


def test_definitions_that_a_file_carries_are_known_for_this_file_alone(tmp_path, monkeypatch):
    path, name = file_of(tmp_path / "x.nwb", "ndx-carried-lab"), "ndx-carried-lab"
    without = shutil.copyfile(path, tmp_path / "without.nwb")
    install(tmp_path, name, monkeypatch)
    with h5py.File(path, "a") as file:
        stored = file["specifications"].create_group(f"{name}/0.1.0")
        for part in ("namespace", "extensions"):
            content = yaml.safe_load((tmp_path / "ndx_carried_lab" / f"{name}.{part}.yaml").read_text())
            if part == "namespace":
                for each in content["namespaces"][0]["schema"]:
                    each.update({"source": f"{name}.extensions"} if "source" in each else {})
            stored[part if part == "namespace" else f"{name}.extensions"] = json.dumps(content)
    before = available_namespaces()
    with open_nwb(path) as nwbfile:
        assert nwbfile.devices["probe"].x == "q"
    assert name not in before and available_namespaces() == before
    sys.path.remove(str(tmp_path))
    with pytest.raises(FileError, match=f"needs the NWB extension '{name}'"):
        open_nwb(without).__enter__()


def test_a_file_cannot_have_any_module_imported(tmp_path):
    path = file_of(tmp_path / "x.nwb", "antigravity")
    with pytest.raises(FileError, match=r"'antigravity'.*no package has this name. Import"):
        open_nwb(path).__enter__()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("content", ["raise RuntimeError('broken')", "import no_such_module_of_a_lab"])
def test_an_extension_that_cannot_be_imported_is_named_with_the_cause(tmp_path, monkeypatch, content):
    name = f"ndx-broken-{len(content)}"
    (tmp_path / f"{name.replace('-', '_')}.py").write_text(content + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileError, match=r"its package cannot be imported: .*(broken|no_such_module_of_a_lab)"):
        open_nwb(file_of(tmp_path / "x.nwb", name)).__enter__()


def test_a_package_without_the_extension_is_not_imported_for_ever(tmp_path, monkeypatch):
    (tmp_path / "ndx_hollow.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileError, match="does not follow the NWB schema: 'ndx-hollow' not a namespace"):
        open_nwb(file_of(tmp_path / "x.nwb", "ndx-hollow")).__enter__()


def test_other_errors_miss_no_namespace():
    assert missing_namespace(KeyError("'ndx-a' not a namespace")) == "ndx-a"
    assert missing_namespace(KeyError("ndx-a")) is None
