"""A search on the screen: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, Protocol

from rich.table import Table

from nwb_sbtt.report.comparison import shown_seconds, shown_setting
from nwb_sbtt.searching.record import Record, TrialRow
from nwb_sbtt.searching.screen import MOST_ROWS, Screen, is_terminal

WIDTH, ROOM, COLUMN = 100, 56, 12
"""Of a table, of all its columns but settings, and of a setting, in characters."""


class Display(Protocol):
    """Shows how a search goes."""

    def show(self, record: Record, changed: TrialRow | None, left: float | None) -> None:
        """Show the record after a trial began, reported a piece or ended.

        Parameters
        ----------
        record : Record
        changed : TrialRow or None
            The trial.
        left : float or None
            Seconds that the search still takes, estimated.
        """
        ...

    def stop(self) -> None:
        """End; called also after an error."""
        ...


class LiveTable:
    """One table of the trials: what runs first, then the best."""

    def __init__(self) -> None:
        self._screen = Screen(stays=True)

    def show(self, record: Record, changed: TrialRow | None, left: float | None) -> None:
        """Draw the table again."""
        self._screen.draw(_table(record, left, width=self._screen.width))

    def stop(self) -> None:
        """Leave the last table on the screen."""
        self._screen.stop()


class PlainLines:
    """One line for each trial that ends, and for pieces at most one in a while.

    Parameters
    ----------
    every_seconds : float
        Shortest time between two lines of pieces.
    """

    def __init__(self, every_seconds: float = 5.0) -> None:
        self._every, self._last = every_seconds, -math.inf

    def show(self, record: Record, changed: TrialRow | None, left: float | None) -> None:
        """Print a line."""
        now = time.monotonic()
        if changed is None or (changed.state == "running" and (not changed.steps or now - self._last < self._every)):
            return
        self._last = now
        print(_line(record, changed, left), file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Do nothing: no line is open."""


def default_display() -> Display:
    """Choose a live table on a terminal, plain lines elsewhere."""
    return LiveTable() if is_terminal() else PlainLines()


def shown_value(value: Any) -> str:
    """Write a value in a table, with three digits.

    Parameters
    ----------
    value : JSON value
    """
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(shown_value, value))
    return shown_setting(value)


def _table(record: Record, left: float | None, *, width: int = WIDTH) -> Table:
    # The state of a trial comes last and must be read: settings that find no room are in the record and the report.
    names = [each.name for each in record.space][: max((width - ROOM) // COLUMN, 1)]
    done = sum(row.state != "running" for row in record.rows.values())
    best = record.ranked[0] if record.ranked else None
    said = [f"{done} of {record.search.trials} trials"]
    said += [f"best {best.score:.4f} (trial {best.number})"] if best else []
    said += [f"{shown_seconds(left)} left"] if left is not None else []
    table = Table("trial", *(_short(name) for name in names), "epoch", "score", "state", title=" · ".join(said))
    running = [row for row in record.rows.values() if row.state == "running"]
    rest = [row for row in record.ranked if row.state != "running"]
    rest += [row for row in record.rows.values() if row.state == "failed"]
    for row in (running + rest)[:MOST_ROWS]:
        cells = [shown_value(row.settings.get(name)) for name in names]
        score = f"{row.score:.4f}" if math.isfinite(row.score) else "–"
        style = "bold" if best is not None and row.number == best.number else None
        table.add_row(
            str(row.number), *cells, f"{row.epoch}/{record.fit.train.epochs}", score, _state(row), style=style
        )
    return table


def _line(record: Record, row: TrialRow, left: float | None) -> str:
    score = f"score {row.score:.4f}" if math.isfinite(row.score) else "no score"
    best = record.ranked[0] if record.ranked else None
    parts = [f"trial {row.number} of {record.search.trials}", f"epoch {row.epoch}/{record.fit.train.epochs}", score]
    parts += [f"best {best.score:.4f} (trial {best.number})"] if best else []
    parts += [_state(row)] if row.state != "running" else []
    parts += [f"{shown_seconds(left)} left"] if left is not None else []
    return "  ".join(parts)


def _state(row: TrialRow) -> str:
    if row.state == "failed":
        return f"failed: {row.cause}"
    if row.origins and row.state == "running":
        return f"weights of trial {row.origins[-1].trial}"
    return "" if row.state == "running" else row.state


def _short(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ")
