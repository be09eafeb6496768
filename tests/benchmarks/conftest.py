import importlib

import pytest

from tests.support.processes import BENCHMARKS


@pytest.fixture
def script(monkeypatch):
    """Import a benchmark by its name, for tests of its parts."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module
