"""What is loaded on first use, and how."""

import gc
from collections.abc import Iterator

import pytest

from nwb_sbtt.lazy import loading


@pytest.fixture(autouse=True)
def searched() -> Iterator[None]:
    """Search for garbage as before when a test ends."""
    yield
    gc.unfreeze()
    gc.enable()


def test_no_garbage_is_searched_for_while_packages_load() -> None:
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() > 0


def test_garbage_is_searched_for_again_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError), loading():
        import nwb_sbtt.no_such_module  # noqa: F401
    assert gc.isenabled()


def test_what_was_switched_off_stays_off() -> None:
    gc.disable()
    with loading():
        pass
    assert not gc.isenabled()
