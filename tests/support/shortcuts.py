"""What takes longer than a small fit, left out of tests whose subject it is not: figures, validation, long baselines."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nwb_sbtt.evaluate.baselines import statespace
from nwb_sbtt.io.write import appending
from nwb_sbtt.report import page
from tests.support.validator import remember_schemas

FIGURES = ("plot/", "report/")
"""Where the figures of reports are drawn."""
VALIDATION = ("io/write/", "contracts/", "simulate/")
"""Where each file that is written is validated against the schema, which takes half of a write."""
BASELINES = ("evaluate/", "benchmarks/")
"""Where models of the baselines are fitted to their end and their sizes are compared."""

BRIEF = {
    "FACTOR_COUNTS": (2,),
    "OSCILLATOR_COUNTS": (1,),
    "FIRST_ITERATIONS": 2,
    "MAX_EXTENSIONS": 0,
    "LAST_ITERATIONS": 2,
}
"""Sizes and iterations of the baselines elsewhere."""

_panels = page._panels
_whole = {name: getattr(statespace, name) for name in BRIEF}


def shorten(patch: pytest.MonkeyPatch, file: str = "") -> None:
    """Leave out what is not the subject of a test file, named by its place among the tests."""
    remember_schemas(patch)
    if not file.startswith(FIGURES):
        patch.setattr(page, "_panels", lambda *args, **options: iter(()))
    if not file.startswith(VALIDATION):
        patch.setattr(appending, "_validate", lambda **options: set())
    if not file.startswith(BASELINES):
        for name, value in BRIEF.items():
            patch.setattr(statespace, name, value)


def shorten_for_good(file: str = "") -> None:
    """Do the same in a process that ends with the test."""
    shorten(pytest.MonkeyPatch(), file)


@contextmanager
def with_figures(*headings: str) -> Iterator[None]:
    """Draw figures in this block, whatever holds for the test around it; only those with these headings, if any is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            page,
            "_panels",
            lambda content: (panel for panel in _panels(content) if not headings or panel.heading in headings),
        )
        yield


@contextmanager
def with_whole_baselines() -> Iterator[None]:
    """Fit baselines to their end in this block, as the installed program does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _whole.items():
            patch.setattr(statespace, name, value)
        yield
