"""What a person sees while files are fetched: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

Advance = Callable[[int], None]
EVERY = 5.0
"""Seconds between two lines."""


@contextmanager
def shown(total: int, *, label: str) -> Iterator[Advance]:
    """Show how many of `total` bytes have come, on standard error.

    Gives a function that is told of each further number of bytes, from any thread; bytes that were taken back are
    negative.
    """
    if sys.stderr.isatty():
        with Progress(*_columns(), console=Console(stderr=True), expand=True) as progress:
            task = progress.add_task(label, total=total)
            yield lambda n_bytes: progress.advance(task, n_bytes)
        return
    lines = _Lines(total, label)
    yield lines.advance
    lines.end()


def _columns() -> tuple[ProgressColumn, ...]:
    """Where the terminal is narrow, the label gives way to the numbers."""
    whole = [Column(no_wrap=True) for _ in range(4)]
    return (
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=12, table_column=whole[0]),
        DownloadColumn(table_column=whole[1]),
        TransferSpeedColumn(table_column=whole[2]),
        TimeRemainingColumn(table_column=whole[3]),
    )


class _Lines:
    """Prints a line if the last one is old enough, and one at the end if there was any."""

    def __init__(self, total: int, label: str) -> None:
        self._total, self._label, self._done = total, label, 0
        self._last, self._said, self._lock = time.monotonic(), False, Lock()

    def advance(self, n_bytes: int) -> None:
        """Count, and perhaps say."""
        with self._lock:
            self._done += n_bytes
            if time.monotonic() - self._last >= EVERY:
                self._say()

    def end(self) -> None:
        """Say how it ended."""
        if self._said:
            self._say()

    def _say(self) -> None:
        self._last, self._said = time.monotonic(), True
        print(f"{self._label}  {decimal(self._done)} of {decimal(self._total)}", file=sys.stderr, flush=True)
