"""Ending a fit early without loss: on request, training saves its state at the end of an epoch and ends there.

SIGUSR1 is such a request, as batch systems send it some time before they end a job. Imports nothing of the package.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 60.0
"""Seconds that fits in other processes have to save their state, once they are asked to end."""
_requested = threading.Event()


class Stopped(BaseException):
    """Training ended on request, after its state was saved."""


def request() -> None:
    """Let training in this process end after the epoch that runs."""
    _requested.set()


def withdraw() -> None:
    """Take a request back: what begins now is not to end."""
    _requested.clear()


def is_requested() -> bool:
    """Return whether training is to end after the epoch that runs."""
    return _requested.is_set()


def check() -> None:
    """End here if that was requested.

    Raises
    ------
    Stopped
    """
    if is_requested():
        raise Stopped


@contextmanager
def by_signal() -> Iterator[None]:
    """Take SIGUSR1 as a request during the block, where the system has it and this is the main thread."""
    if not _takes_signals():
        yield
        return
    before = signal.signal(signal.SIGUSR1, lambda number, frame: request())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
        withdraw()


def keep_handler() -> Callable[[], None]:
    """Return a function that sets the handler of SIGUSR1 of now again, where another library has put its own in its place."""
    if not _takes_signals():
        return lambda: None
    kept = signal.getsignal(signal.SIGUSR1)

    def restore() -> None:
        signal.signal(signal.SIGUSR1, kept)

    return restore


def _takes_signals() -> bool:
    return hasattr(signal, "SIGUSR1") and threading.current_thread() is threading.main_thread()
