"""What takes longer than a small fit, left out of tests whose subject it is not: figures, validation, long baselines."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nwb_sbtt.evaluate.baselines import statespace
from nwb_sbtt.io.write import writer
from nwb_sbtt.report import page
from tests.support.validator import remember_schemas

FIGURES = ("plot/", "report/")
"""Where the figures of reports are drawn."""
VALIDATION = ("io/", "contracts/", "laws/", "simulate/")
"""Where each file that is written is validated against the schema, which takes half of a write."""
BASELINES = ("evaluate/", "benchmarks/")
"""Where models of the baselines are fitted to their end and their sizes are compared."""

_panels = page._panels


def shorten(patch: pytest.MonkeyPatch, file: str = "") -> None:
    """Leave out what is not the subject of a test file, named by its place among the tests."""
    remember_schemas(patch)
    if not file.startswith(FIGURES):
        patch.setattr(page, "_panels", lambda *args, **options: iter(()))
    if not file.startswith(VALIDATION):
        patch.setattr(writer, "_validate", lambda *args: None)
    if not file.startswith(BASELINES):
        patch.setattr(statespace, "FACTOR_COUNTS", (2,))
        patch.setattr(statespace, "OSCILLATOR_COUNTS", (1,))
        patch.setattr(statespace, "FIRST_ITERATIONS", 2)
        patch.setattr(statespace, "MAX_EXTENSIONS", 0)
        patch.setattr(statespace, "LAST_ITERATIONS", 2)


def shorten_for_good(file: str = "") -> None:
    """Do the same in a process that ends with the test."""
    shorten(pytest.MonkeyPatch(), file)


@contextmanager
def with_figures() -> Iterator[None]:
    """Draw figures in this block, whatever holds for the test around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_panels", _panels)
        yield
