"""Reports with and without their figures: drawing them takes longer than a small fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nwb_sbtt.report import page

_panels = page._panels


def without_figures(patch: pytest.MonkeyPatch | None = None) -> None:
    """Let reports of this process have none, for good or until the patch is undone."""
    (patch or pytest.MonkeyPatch()).setattr(page, "_panels", lambda *args, **options: iter(()))


@contextmanager
def with_figures() -> Iterator[None]:
    """Draw them in this block, whatever holds for the test around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_panels", _panels)
        yield
