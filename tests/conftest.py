"""What holds in all tests: one thread, and what takes long is done where it is the subject, unless all is asked for."""

import importlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import jaxtyping
import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before anything loads torch, here and in every process started from here

SHAPES = ("laws/", "models/test_base.py", "models/test_models.py", "nn/", "test_masks.py", "train/")
"""Where shapes are checked, which doubles the time of a fit; everywhere with ``--thorough``."""
TESTS = Path(__file__).parent
DURATIONS = TESTS / "durations.json"

hypothesis.settings.register_profile("tests", deadline=None)  # how fast this machine is says nothing about the code
hypothesis.settings.load_profile("tests")
jaxtyping.install_import_hook(
    ["nwb_sbtt.batch", "nwb_sbtt.masks", "nwb_sbtt.nn", "nwb_sbtt.models", "nwb_sbtt.train"], "beartype.beartype"
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a benchmark by its name, for tests of its parts."""
    monkeypatch.syspath_prepend(str(TESTS.parent / "benchmarks"))
    return importlib.import_module


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options of these tests."""
    parser.addoption(
        "--thorough",
        action="store_true",
        help="check all shapes, draw, validate and fit baselines to their end everywhere",
    )
    parser.addoption(
        "--store-durations", action="store_true", help=f"note in {DURATIONS.name} what the tests of each file took"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many processes as cores, four at most, and no other for a single file."""
    alone = len(config.args) == 1 and Path(config.args[0].partition("::")[0]).is_file()
    return 0 if alone else min(os.cpu_count() or 1, 4)


@pytest.hookimpl(trylast=True)  # after those that -m and -k leave out are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files first whose tests take longest, so that all processes end at about the same time."""
    seconds = json.loads(DURATIONS.read_text())
    parts = {(_file(item.path), _kind(item.keywords)) for item in items}
    took: Counter[str] = Counter()
    for file, kind in parts:
        took[file] += seconds[kind].get(file, 1.0)
    items.sort(key=lambda item: -took[_file(item.path)])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Around a test and the fixtures that are made for it, whatever their scope."""
    from tests.support.shortcuts import shorten

    file, thorough = _file(item.path), item.config.getoption("thorough")
    jaxtyping.config.update("jaxtyping_disable", not (thorough or file.startswith(SHAPES)))
    with pytest.MonkeyPatch.context() as patch:
        if not thorough:
            shorten(patch, file)
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Note what the tests of each file took, slow ones apart, if asked to; what did not run stays as it was."""
    if config.getoption("store_durations"):
        seconds: dict[str, Counter[str]] = {}
        for report in [report for reports in terminalreporter.stats.values() for report in reports]:
            if isinstance(report, pytest.TestReport):
                of_kind = seconds.setdefault(_kind(report.keywords), Counter())
                of_kind[_file(TESTS.parent / report.location[0])] += report.duration
        stored = json.loads(DURATIONS.read_text())
        for kind, of_kind in seconds.items():
            others = {file: took for file, took in stored[kind].items() if file not in of_kind}
            noted = {file: round(took, 1) for file, took in of_kind.items() if took >= 0.1}
            stored[kind] = dict(sorted((others | noted).items()))
        DURATIONS.write_text(json.dumps(stored, indent=1) + "\n")


def _kind(keywords: Collection[str]) -> str:
    """Whether a test with these keywords is run by the README's command or with the slow ones."""
    return "slow" if "slow" in keywords else "not slow"


def _file(path: Path) -> str:
    """A test file by its place among the tests."""
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else path.name


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of recorded files beside the project; a test that needs it is skipped, in words, where it is missing."""
    folder = TESTS.parents[1] / "shared" / "realdata"
    if not folder.is_dir():
        pytest.skip("the recorded files (../shared/realdata beside the project) are not here")
    return folder
