"""What the package says of itself holds: its names, its README, its versions, its promises."""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from packaging.version import Version
from typer.main import get_command

import nwb_sbtt as sb
from nwb_sbtt.cli import main as cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted((ROOT / "nwb_sbtt").rglob("*.py"))


def _lazy_modules():
    """The package and its submodules that load names on first use, each with where its names live."""
    found = [
        importlib.import_module(path)
        for path in ("nwb_sbtt", *(f"nwb_sbtt.{home}" for home in sb._SUBMODULES.values()))
    ]
    return [module for module in found if hasattr(module, "_HOMES")]


def test_every_public_name_loads_and_is_explained():
    assert dir(sb) == sorted(sb.__all__)
    assert len(sb._HOMES) <= 32, "the package itself has the names that most analyses need"
    for module in _lazy_modules():
        for name in module._HOMES:
            thing = getattr(module, name)
            assert inspect.isclass(thing) or inspect.isfunction(thing), name
            assert thing.__doc__, name
    for name in sb._SUBMODULES:
        assert inspect.ismodule(getattr(sb, name)) and getattr(sb, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        sb.fitt  # noqa: B018


def test_the_command_line_is_there_before_torch_pynwb_and_ray_are():
    code = (
        "import sys\nfrom nwb_sbtt.cli import main\n"
        "print([name for name in ('torch', 'pynwb', 'xarray', 'ray', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("module", _lazy_modules(), ids=lambda module: module.__name__)
def test_types_are_checked_against_the_names_that_are_loaded(module):
    tree = ast.parse(Path(module.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {
        name: f"{importlib.util.resolve_name(f'.{home}', module.__name__)}.{name}"
        for name, home in module._HOMES.items()
    }
    homes |= {name: f"nwb_sbtt.{home}" for name, home in getattr(module, "_SUBMODULES", {}).items()}
    assert declared == homes


def _methods(kind):
    return [
        (name, each)
        for name, each in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(each) or isinstance(each, property))
    ]


def test_every_method_of_a_public_class_is_explained():
    for name in sb.__all__:
        thing = getattr(sb, name)
        if inspect.isclass(thing):
            assert all(each.__doc__ for _, each in _methods(thing)), name


def test_the_readme_names_commands_and_options_that_exist():
    verbs = get_command(cli.app).commands
    assert set(re.findall(r"nwb-sbtt ([a-z-]+)", README)) == set(verbs)
    every = [*verbs.values(), *(each for verb in verbs.values() for each in getattr(verb, "commands", {}).values())]
    options = {option for verb in every for parameter in verb.params for option in parameter.opts}
    commands = "\n".join(line for line in README.splitlines() if "pip install" not in line)
    assert set(re.findall(r"--[a-z][a-z-]*", commands)) <= options


def test_the_python_of_the_readme_calls_what_there_is():
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(block.group(1))) if isinstance(node, ast.Call)]
    assert len(calls) >= 5
    for call in calls:
        owner, _, name = ast.unparse(call.func).partition(".")
        of_package = owner == "sb"
        kind = attrgetter(name)(sb if of_package else sb.Fitted)
        signature = inspect.signature(kind)
        arguments = [object()] * (len(call.args) + (not of_package))
        signature.bind(*arguments, **{each.arg: object() for each in call.keywords})


def test_settings_in_the_readme_and_on_the_pages_are_settings():
    from nwb_sbtt.config import (
        ConvConfig,
        FitConfig,
        LadderConfig,
        LFADSConfig,
        ReadConfig,
        SAEConfig,
        SearchConfig,
        WriteConfig,
        override,
    )
    from nwb_sbtt.errors import ConfigError

    def taken(config, text):
        try:
            return bool(override(config, [text]))
        except ConfigError as error:
            # Alone it may lack another one, such as sessions.stitching its condition.
            return "is missing" in str(error) or not re.search("unknown setting|expected", str(error))

    models = ConvConfig(), LadderConfig(), LFADSConfig(), SAEConfig()
    sections = {"read": ReadConfig(), "search": SearchConfig(), "write": WriteConfig()}
    pages = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]
    texts = [found for page in pages for found in re.findall(r"--set '([^']+)'|--set ([^\s`'()]+)", page)]
    texts = [quoted or plain for quoted, plain in texts if "=" in (quoted or plain)]
    assert len(texts) >= 20
    for text in texts:
        section, _, rest = text.partition(".")
        if section in sections:
            assert taken(sections[section], rest), text
        else:
            assert any(taken(FitConfig(model=model), text) for model in models), text


def test_the_readme_shows_pictures_and_names_files_that_are_there():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)|`([\w/]+\.(?:py|md|cff))`", README):
        assert (ROOT / next(filter(None, name))).exists(), name


def headings(level: int) -> list[str]:
    """Headings of the changelog: versions are of level 2, kinds of changes of level 3."""
    changes = (ROOT / "CHANGELOG.md").read_text()
    return re.findall(rf"^#{{{level}}} \[?([^]\s]+)", changes, re.MULTILINE)


def test_the_version_is_that_of_what_is_installed_and_follows_the_releases():
    current, newest = Version(sb.__version__), Version(next(name for name in headings(2) if name != "Unreleased"))
    assert sb.__version__ == version("nwb_sbtt")
    assert current >= newest, "install the package again: pip install -e ."
    # Where there are no tags.
    fallback = Version(PROJECT["tool"]["hatch"]["version"]["fallback-version"])
    unreleased = (ROOT / "CHANGELOG.md").read_text().partition("## [Unreleased]")[2].partition("\n## ")[0].strip()
    assert fallback.is_devrelease and fallback > newest if unreleased else fallback == newest


def test_the_changelog_names_what_is_not_released_first_and_sorts_changes_by_kind():
    assert headings(2)[0] == "Unreleased"
    assert set(headings(3)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_licence_and_the_papers_are_named():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")
    for paper in citation["references"]:
        assert {"title", "authors", "year", "notes"} <= set(paper), paper["title"]
        for module in re.findall(r"\((?:nwb_sbtt\.)?([a-z_.]+)[,)]", paper["notes"]):
            assert (ROOT / "nwb_sbtt" / (module.replace(".", "/") + ".py")).exists(), module


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "nwb_sbtt")))
def test_nothing_is_pickled_and_no_module_is_long(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 700
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            assert ast.unparse(node.value) == str(node.arg == "weights_only")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save"):
            pytest.fail(f"{ast.unparse(node.func)} pickles")


def test_no_file_names_a_place_on_one_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout, so what belongs to the project is not known")
    place = re.compile(rb"/(?:work|tmp|root|home)/")
    found = [
        name
        for name in listed.stdout.split("\0")
        if name
        and (ROOT / name).is_file()
        and name != "tests/test_package.py"
        and place.search((ROOT / name).read_bytes())
    ]
    assert found == []


def test_the_conda_recipe_needs_what_the_package_needs():
    project = PROJECT["project"]
    # isal has builds for some processors alone, and zlib takes its place.
    plain = [each for each in project["dependencies"] if ";" not in each]
    needed = {re.sub(r"^torch\b", "pytorch", each).replace(">=", " >=") for each in plain}
    recipe = yaml.safe_load(re.sub(r"\$\{\{ (\w+) \}\}", r"\1", (ROOT / "conda/recipe.yaml").read_text()))
    assert set(recipe["requirements"]["run"]) == {*needed, f"python {project['requires-python']}"}
    assert recipe["context"]["version"] == PROJECT["tool"]["hatch"]["version"]["fallback-version"]
    built_by = {re.sub(r" >=.*", "", each) for each in recipe["requirements"]["host"]} - {"python", "pip"}
    assert built_by == {re.sub(r">=.*", "", each) for each in PROJECT["build-system"]["requires"]}


def test_metadata_for_zenodo_are_those_of_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    zenodo = json.loads((ROOT / ".zenodo.json").read_text())
    assert (zenodo["title"], zenodo["license"]) == (citation["title"], citation["license"])
    assert [each["name"] for each in zenodo["creators"]] == [each["name"] for each in citation["authors"]]
