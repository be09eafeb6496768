"""What is handed out: the source distribution has all of the project and the wheel, built from it, all of the package."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from itertools import chain
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> list[Path]:
    """The wheel and the source distribution."""
    missing = [name for name in ("build", "hatchling", "twine") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} of the extra dev missing")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return sorted(folder.iterdir())


def listed(*options: str) -> set[str]:
    """Files of the project by git, with those that git does not ignore if asked for."""
    listing = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("this is not a git checkout, so what belongs to the project is not known")
    return {name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.mark.slow
def test_descriptions_are_shown_by_an_index_of_packages(built):
    ended = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *built], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_the_source_distribution_has_every_file_of_the_project_and_no_other(built):
    with tarfile.open(next(path for path in built if path.name.endswith(".tar.gz"))) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    assert listed() <= names
    assert names <= listed("--cached", "--others", "--exclude-standard") | {"PKG-INFO"}


@pytest.mark.slow
def test_the_wheel_has_the_package_its_types_and_its_extension_and_no_tests(built):
    with zipfile.ZipFile(next(path for path in built if path.suffix == ".whl")) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nwb_sbtt").rglob("*.py")}
    spec = {f"ndx_sbtt/spec/{path.name}" for path in (ROOT / "extensions" / "ndx-sbtt" / "spec").iterdir()}
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == package | spec | {"nwb_sbtt/py.typed", "ndx_sbtt/__init__.py"}
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)
    assert "nwb-sbtt = nwb_sbtt.cli.main:main" in entry_points


FALLBACK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]["fallback-version"]
"""Version where nothing says another one."""


def version_of(folder: Path) -> Version:
    """The version that a wheel built in a folder would have."""
    if missing := [name for name in ("hatchling", "hatch_vcs") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} of the extra test missing")
    ended = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return Version(ended.stdout.strip())


def git(folder: Path, *command: str) -> None:
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what tells a version, and no git yet."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", ".git_archival.txt", ".gitattributes"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_a_folder_without_git_has_the_version_of_the_project(checkout: Path) -> None:
    assert version_of(checkout) == Version(FALLBACK)


def test_a_clone_without_tags_has_a_development_version_of_its_commit(checkout: Path) -> None:
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    version = version_of(checkout)
    assert (version.release, version.dev) == (Version(FALLBACK).release, 1)
    assert str(version.local).startswith("g")


def test_a_tag_gives_the_version_and_changes_after_it_are_counted(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    git(checkout, "tag", "v7.1.0")
    assert version_of(checkout) == Version("7.1.0")
    git(checkout, "commit", "--allow-empty", "-m", "second")
    version = version_of(checkout)
    assert (version.is_devrelease, version.dev) == (True, 1) and version > Version("7.1.0")
    git(checkout, "archive", "v7.1.0", "--prefix=archived/", "-o", str(tmp_path / "archived.tar"))
    with tarfile.open(tmp_path / "archived.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    assert version_of(tmp_path / "archived") == Version("7.1.0")


def test_an_archive_of_a_commit_without_tags_has_the_version_of_the_project(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    git(checkout, "archive", "HEAD", "--prefix=archived/", "-o", str(tmp_path / "archived.tar"))
    with tarfile.open(tmp_path / "archived.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    assert version_of(tmp_path / "archived") == Version(FALLBACK)


def test_the_oldest_versions_are_the_bounds_of_the_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [names for extra, names in project["optional-dependencies"].items() if extra not in ("dev", "docs")]
    pins = re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints-oldest.txt").read_text(), re.MULTILINE)
    oldest = {name: Version(version) for name, version in pins}
    for requirement in map(Requirement, chain(project["dependencies"], *extras)):
        if requirement.name != project["name"]:
            (bound,) = (each for each in requirement.specifier if each.operator != "!=")
            assert bound.operator == ">="
            assert oldest[requirement.name] == Version(bound.version), requirement
