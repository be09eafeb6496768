"""One table on a terminal, drawn again and again; many fits and a search each show their own in it."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from nwb_sbtt.printable import printable, unfiltered

MOST_ROWS = 20
"""Fits in a table at once."""


def is_terminal() -> bool:
    """Whether standard error is a terminal, which a table needs; lines are for all else."""
    return sys.stderr.isatty()


class Screen:
    """A table on a terminal.

    Parameters
    ----------
    stays : bool
        Whether the last table is left on the screen at the end.
    """

    def __init__(self, *, stays: bool) -> None:
        self._console = Console(file=unfiltered(sys.stderr))
        self._live = Live(console=self._console, auto_refresh=False, transient=not stays)
        self._live.start()

    @property
    def width(self) -> int:
        """Of the terminal, in characters."""
        return self._console.width

    def draw(self, table: RenderableType) -> None:
        """Draw a table in place of the last one.

        Parameters
        ----------
        table : renderable of rich
        """
        self._live.update(table, refresh=True)

    def print(self, text: str) -> None:
        """Print a line above the table.

        Parameters
        ----------
        text : str
        """
        self._console.print(Text(printable(text)), soft_wrap=True)

    def stop(self) -> None:
        """End; called also after an error."""
        self._live.stop()
