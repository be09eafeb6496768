"""The extension's yaml is what its script writes, is valid, and needs nobody to have the extension installed."""

import os
import subprocess
import sys
from pathlib import Path

import pynwb
import pytest

from tests.support.processes import run
from tests.support.validator import remember_schemas

HOME = Path(__file__).parents[2] / "extensions" / "ndx-sbtt"
SPEC = HOME / "spec"


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_the_specification_is_what_its_script_writes(tmp_path):
    done = _run(sys.executable, str(HOME / "src" / "spec" / "create_extension_spec.py"), str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert written == {file.name: file.read_text() for file in SPEC.iterdir()}


def test_the_specification_keeps_the_schema_language(tmp_path):
    schema = Path(pynwb.__file__).parent / "nwb-schema" / "nwb.schema.json"
    done = _run(str(Path(sys.executable).with_name("validate_hdmf_spec")), str(SPEC), "-m", str(schema), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_check_can_fail(tmp_path):
    broken = tmp_path / "spec"
    broken.mkdir()
    for file in SPEC.iterdir():
        (broken / file.name).write_text(file.read_text().replace("dtype: uint8", "dtype: [uint8"))
    schema = Path(pynwb.__file__).parent / "nwb-schema" / "nwb.schema.json"
    done = _run(str(Path(sys.executable).with_name("validate_hdmf_spec")), str(broken), "-m", str(schema), cwd=tmp_path)
    assert done.returncode != 0


def test_no_type_has_two_links_that_hdmf_would_mix_up():
    import ndx_sbtt

    catalog = pynwb.get_manager().namespace_catalog
    for name in (name for name in ndx_sbtt.__all__ if issubclass(getattr(ndx_sbtt, name), pynwb.core.NWBContainer)):
        targets = [link.target_type for link in catalog.get_spec("ndx-sbtt", name).links]
        families = [set(catalog.get_hierarchy("ndx-sbtt", target)) for target in targets]
        for i, target in enumerate(targets):
            assert not any(target in family for j, family in enumerate(families) if j != i), (name, targets)


@pytest.mark.slow
def test_the_extensions_own_tests_pass(tmp_path):
    words = ("-q", "-n0", "-p", "no:cacheprovider", "-c", HOME / "pyproject.toml", HOME / "src" / "pynwb" / "tests")
    ended = run(_pytest, *words, cwd=tmp_path)
    assert ended.code == 0, ended.out


def _pytest(words: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_ADDOPTS", raising=False)  # Options of this run, which the extension does not know.
        remember_schemas(patch)
        sys.exit(pytest.main(words))
