"""Progress of downloads, uploads and long computations: a bar on a terminal and in notebooks, elsewhere lines of text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from nwb_sbtt.display import NotebookBar, in_notebook
from nwb_sbtt.printable import printable, unfiltered

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

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
    if in_notebook():
        bar = NotebookBar(label)
        steps = _Steps(lambda done: bar.show(done, total, _counted(done, total, of)), every=0.2)
        yield steps.advance
        steps.end()
        return
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        console = Console(file=unfiltered(sys.stderr))
        with Progress(*_columns(of), console=console, expand=True, transient=bool(of)) as progress:
            task = progress.add_task(printable(label), total=total)
            yield lambda n_bytes: progress.advance(task, n_bytes)
        return
    steps = _Steps(
        lambda done: print(f"{printable(label)}  {_counted(done, total, of)}", file=sys.stderr, flush=True), every=EVERY
    )
    yield steps.advance
    steps.end()


def _columns(of: str) -> tuple[ProgressColumn, ...]:
    """On a narrow terminal the label is shortened, not the numbers."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.table import Column

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


def _counted(done: int, total: int, of: str) -> str:
    from rich.filesize import decimal

    return f"{done} of {total} {of}" if of else f"{decimal(done)} of {decimal(total)}"


class _Steps:
    """Shows what is done if it was shown long enough ago, and at the end if it was shown at all."""

    def __init__(self, show: Callable[[int], object], *, every: float) -> None:
        self._show, self._every, self._done = show, every, 0
        self._last, self._has_shown, self._lock = time.monotonic(), False, Lock()

    def advance(self, n_bytes: int) -> None:
        """Count bytes, and show them if that is due."""
        with self._lock:
            self._done += n_bytes
            if time.monotonic() - self._last >= self._every:
                self._now()

    def end(self) -> None:
        """Show what was done in the end."""
        if self._has_shown:
            self._now()

    def _now(self) -> None:
        self._last, self._has_shown = time.monotonic(), True
        self._show(self._done)
