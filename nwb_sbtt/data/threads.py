"""Work on arrays shared out among threads: numpy works on large arrays outside of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

MOST_THREADS = 4
"""With more, reading waits for the disk."""
PARTS_PER_THREAD = 4
"""So that no thread waits long for another."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def n_threads() -> int:
    """Return how many threads can work at once: as many as this process may use cores, at most `MOST_THREADS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)


def split_range(first: int, stop: int, *, size: int = 1) -> list[range]:
    """Split a range into parts for threads to work on.

    Parameters
    ----------
    first, stop : int
    size : int
        Every part but the last is a multiple of it long.

    Returns
    -------
    list of range
        One after the other; none where the range is empty.
    """
    step = max(-(-(stop - first) // (PARTS_PER_THREAD * n_threads() * size)), 1) * size
    return [range(start, min(start + step, stop)) for start in range(first, stop, step)]


def in_threads(action: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Call an action on each part, several at once.

    Parameters
    ----------
    action : callable
        Must be safe to be called by several threads.
    parts : sequence

    Returns
    -------
    list
        Results in the order of the parts.

    Examples
    --------
    >>> in_threads(len, [[1], [2, 3]])
    [1, 2]
    """
    if len(parts) < 2 or n_threads() < 2:
        return [action(part) for part in parts]
    with ThreadPoolExecutor(n_threads()) as threads:
        return list(threads.map(action, parts))


class _SingleBlas:
    """Limits products of matrices to one thread as long as anyone is inside."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._n_inside = 0
        self._controller: ThreadpoolController | None = None
        self._limit: Any = None

    @contextmanager
    def limited(self) -> Iterator[None]:
        with self._lock:
            if self._controller is None:
                from threadpoolctl import ThreadpoolController

                self._controller = ThreadpoolController()
            if self._n_inside == 0:
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1
                if self._n_inside == 0:
                    self._limit.restore_original_limits()


single_blas = _SingleBlas().limited
"""A context in which each product of matrices is computed by one thread, for all threads of the process. BLAS's own threads,
waiting for each other at every small product, cost ten times the arithmetic where other programs keep the cores busy."""
