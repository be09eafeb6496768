"""How tables and progress are shown: as text, and in notebooks as HTML. Imports nothing of the package but `printable`."""

from __future__ import annotations

import io
import sys
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nwb_sbtt.printable import printable

if TYPE_CHECKING:
    from rich.table import Table


def text_of(table: Table) -> str:
    """Lay out a table as text of at most 200 columns.

    Parameters
    ----------
    table : rich.table.Table

    Returns
    -------
    str
    """
    from rich.console import Console

    buffer = io.StringIO()
    # In notebooks rich would show the table itself, and write nothing.
    Console(file=buffer, force_jupyter=False, width=200, highlight=False, markup=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())


def html_of(table: Table) -> str:
    """Lay out a table as HTML.

    Parameters
    ----------
    table : rich.table.Table
        Of plain text.

    Returns
    -------
    str
    """
    style = [
        f' style="text-align:{column.justify if column.justify == "right" else "left"}"' for column in table.columns
    ]
    head = "".join(
        f"<th{align}>{escape(str(column.header))}</th>" for align, column in zip(style, table.columns, strict=True)
    )
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(
        "<tr>"
        + "".join(f"<td{align}>{escape(str(cell))}</td>" for align, cell in zip(style, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def in_notebook() -> bool:
    """Tell whether this runs in the kernel of a notebook, which can show HTML."""
    # A kernel has loaded IPython; without one it need not be there at all.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookBar:
    """A progress bar in the output of a notebook's cell; every frontend shows it, and it stays when the notebook is saved.

    Parameters
    ----------
    label : str
        In front of the bar.
    """

    def __init__(self, label: str = "") -> None:
        self._label = printable(label)
        self._handle: Any = None

    def show(self, done: float, total: float, text: str) -> None:
        """Draw the bar.

        Parameters
        ----------
        done, total : float
        text : str
            Behind the bar.
        """
        content = (
            f'{escape(self._label)} <progress value="{done:g}" max="{max(total, 1):g}" '
            f'style="width:16em;vertical-align:middle"></progress> {escape(printable(text))}'
        )
        # In notebooks alone, where it is loaded.
        display = import_module("IPython.display")
        page = display.HTML(f'<div style="font-variant-numeric:tabular-nums">{content}</div>')
        if self._handle is None:
            self._handle = display.display(page, display_id=True)
        else:
            self._handle.update(page)
