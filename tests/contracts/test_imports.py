"""A look at a file takes little more time than pynwb itself: what `inspect` imports beside it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nwbfiles import add_trials, add_units, new_file, write

OF_COMMANDS = {"typer", "shellingham", "annotated_doc", "rich"}
OF_SETTINGS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "yaml"}
OF_FILES = {"hdf5plugin", "isal", "ndx_sbtt"}
"""The first two are imported where they are installed, the third for a file that has its namespace: one that is written by a
process that has loaded it."""


def imported(code: str, *arguments: object) -> set[str]:
    """Modules that a program has in the end."""
    program = f"import sys\n{code}\nprint(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def of_inspect(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Modules that `inspect` of a file imports beyond those of pynwb."""
    nwbfile = new_file()
    add_units(nwbfile, [[0.1, 0.5], [0.2]])
    add_trials(nwbfile, [0.0, 0.5], [0.5, 1.0], condition=["a", "b"])
    path: Path = write(nwbfile, tmp_path_factory.mktemp("file") / "recording.nwb")
    code = "from nwb_sbtt.cli.main import app\napp(['inspect', sys.argv[1]], standalone_mode=False)"
    return imported(code, path) - imported("import pynwb")


def test_inspect_imports_no_package_that_it_can_do_without(of_inspect: set[str]) -> None:
    packages = {name.partition(".")[0] for name in of_inspect} - sys.stdlib_module_names
    # Cython's own modules are named after its version.
    others = {name for name in packages if not name.startswith("_cython")}
    assert others - {"nwb_sbtt"} <= OF_COMMANDS | OF_SETTINGS | OF_FILES


def test_inspect_imports_no_part_of_the_package_that_it_can_do_without(of_inspect: set[str]) -> None:
    assert {"nwb_sbtt.io.read.candidates", "nwb_sbtt.config.reading"} <= of_inspect
    assert not of_inspect & {f"nwb_sbtt.config.{name}" for name in ("fitting", "models", "likelihoods", "searching")}
    assert not of_inspect & {"nwb_sbtt.pipeline", "nwb_sbtt.io.read.reader", "nwb_sbtt.plot", "rich.progress"}
