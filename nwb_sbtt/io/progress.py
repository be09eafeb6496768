"""Progress of downloads, uploads and long computations: a bar on a terminal, elsewhere a line of text every few seconds."""

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

from nwb_sbtt.printable import printable, unfiltered

Advance = Callable[[int], None]
"""Called with a number of further bytes, or of what else is counted."""
EVERY = 5.0
"""Seconds between two lines."""


@contextmanager
def show_progress(total: int, *, label: str, of: str = "") -> Iterator[Advance]:
    """Show on standard error how much of a total is done.

    Parameters
    ----------
    total : int
        Bytes, or what `of` names.
    label : str
    of : str
        What is counted, such as "ROIs", where it is not bytes. Its bar is removed at the end.

    Yields
    ------
    callable
        To be called with each further number of bytes, from any thread; a negative number takes bytes back.
    """
    if sys.stderr.isatty():
        console = Console(file=unfiltered(sys.stderr))
        with Progress(*_columns(of), console=console, expand=True, transient=bool(of)) as progress:
            task = progress.add_task(printable(label), total=total)
            yield lambda n_bytes: progress.advance(task, n_bytes)
        return
    lines = _Lines(total, label, of)
    yield lines.advance
    lines.end()


def _columns(of: str) -> tuple[ProgressColumn, ...]:
    """On a narrow terminal the label is shortened, not the numbers."""
    columns = [Column(no_wrap=True) for _ in range(4)]
    label = TextColumn(
        "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
    )
    bar, remaining = BarColumn(bar_width=12, table_column=columns[0]), TimeRemainingColumn(table_column=columns[3])
    if of:
        return label, bar, TextColumn(f"{{task.completed}}/{{task.total}} {of}", table_column=columns[1]), remaining
    return (
        label,
        bar,
        DownloadColumn(table_column=columns[1]),
        TransferSpeedColumn(table_column=columns[2]),
        remaining,
    )


class _Lines:
    """Prints a line if the last one is old enough, and a last one if there was any."""

    def __init__(self, total: int, label: str, of: str) -> None:
        self._total, self._label, self._of, self._done = total, label, of, 0
        self._last, self._has_printed, self._lock = time.monotonic(), False, Lock()

    def advance(self, n_bytes: int) -> None:
        """Count bytes, and print a line if the last one is old enough."""
        with self._lock:
            self._done += n_bytes
            if time.monotonic() - self._last >= EVERY:
                self._print()

    def end(self) -> None:
        """Print the last line."""
        if self._has_printed:
            self._print()

    def _print(self) -> None:
        self._last, self._has_printed = time.monotonic(), True
        done, total = (
            (f"{self._done}", f"{self._total} {self._of}") if self._of else map(decimal, (self._done, self._total))
        )
        print(f"{printable(self._label)}  {done} of {total}", file=sys.stderr, flush=True)
