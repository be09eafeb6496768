"""Work on arrays shared out among threads; what numpy does to large arrays, it does outside of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

THREADS = 4
"""At most so many; beyond, reading waits for the disk."""
PARTS = 4
"""Parts of some work for each thread, so that none waits long for another."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def n_threads() -> int:
    """Threads that can work at once: as many as there are cores for this process, within reason."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(THREADS, cores)


def shares(first: int, stop: int, *, size: int = 1) -> list[range]:
    """Parts of a range for threads to share, each but the last a multiple of `size` long."""
    step = max(-(-(stop - first) // (PARTS * n_threads() * size)), 1) * size
    return [range(low, min(low + step, stop)) for low in range(first, stop, step)]


def in_threads(action: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Results of an action on each part, in order."""
    if len(parts) < 2 or n_threads() < 2:
        return [action(part) for part in parts]
    with ThreadPoolExecutor(n_threads()) as threads:
        return list(threads.map(action, parts))


class _SingleBlas:
    """Keeps products of matrices to the thread that asks for them, as long as anyone wants it so."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted = 0
        self._controller: ThreadpoolController | None = None
        self._limit: Any = None

    @contextmanager
    def wanted(self) -> Iterator[None]:
        with self._lock:
            if self._controller is None:
                self._controller = ThreadpoolController()
            if self._wanted == 0:
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._wanted += 1
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if self._wanted == 0:
                    self._limit.restore_original_limits()


single_blas = _SingleBlas().wanted
"""A context in which each product of matrices is computed by one thread. Its own threads, waiting for each other at every
small product, cost ten times the arithmetic where other programs keep the cores busy."""
