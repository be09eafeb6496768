"""What a person sees of many fits: one live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nwb_sbtt.printable import printable
from nwb_sbtt.report.comparison import shown_seconds
from nwb_sbtt.runs.single import Outcome
from nwb_sbtt.searching.screen import MOST_ROWS, Screen, is_terminal

EVERY = 30.0
"""Seconds between two lines about all fits, where there is no table."""
Log = Callable[[str], None]


@dataclass
class _Running:
    """A fit that has begun."""

    began: float
    stage: str = "waiting for a worker"
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None

    @property
    def text(self) -> str:
        """What it does now."""
        if self.stage != "training" or not self.epochs:
            return self.stage
        loss = "" if self.loss is None else f", validation loss {self.loss:.4f}"
        return f"epoch {self.epoch} of {self.epochs}{loss}"


@dataclass
class View:
    """Shows many fits, and prints a line for each that has ended.

    Parameters
    ----------
    log : callable
        Takes each line.
    live : bool
        Whether a table is drawn on standard error, in which case messages of the fits are not printed as lines.
    """

    log: Log = print
    live: bool = field(default_factory=is_terminal)
    _total: int = 0
    _at_once: int = 1
    _running: dict[str, _Running] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _seconds: list[float] = field(default_factory=list)
    _last: float = field(default_factory=time.monotonic)
    _screen: Screen | None = None

    def start(self, total: int) -> None:
        """Begin.

        Parameters
        ----------
        total : int
            Number of fits.
        """
        self._total = total
        if self.live and self._screen is None:
            self._screen = Screen(stays=False)

    def began(self, name: str, *, at_once: int) -> None:
        """Show a fit that was handed to a worker.

        Parameters
        ----------
        name : str
        at_once : int
            How many fits there is room for.
        """
        self._at_once = max(at_once, 1)
        self._running.setdefault(name, _Running(time.monotonic()))

    def told(self, name: str, kind: str, content: Any) -> None:
        """Show what a fit told.

        Parameters
        ----------
        name : str
        kind : str
            "text", "epoch" or "fetching", as of `nwb_sbtt.runs.single.fit_job`.
        content : object
        """
        fit = self._running.setdefault(name, _Running(time.monotonic()))
        if kind == "epoch":
            fit.stage = "training"
            fit.epoch, fit.epochs, fit.loss = content
        elif kind == "fetching":
            fit.stage = "fetching"
            self._say(f"{name}: downloading {content}")
        else:
            fit.stage = str(content).partition("\n")[0] if fit.epoch else "reading"
            if fit.epochs == 0:
                self._say("\n".join(f"{name}: {line.strip()}" for line in str(content).splitlines()))

    def ended(self, outcome: Outcome) -> None:
        """Print how a fit ended.

        Parameters
        ----------
        outcome : Outcome
        """
        self._running.pop(outcome.name, None)
        self._counts[outcome.state] += 1
        took = ""
        if outcome.state == "fitted":
            self._seconds.append(outcome.seconds)
            took = f" in {shown_seconds(outcome.seconds)}"
        cause = f": {outcome.cause}" if outcome.cause else ""
        self._print(f"[{self._counts.total()}/{self._total}] {outcome.name}: {outcome.state}{took}{cause}")

    def tick(self) -> None:
        """Draw the table again, or print a line about all fits if the last is old enough."""
        if self._screen is not None:
            self._screen.draw(self._table())
        elif time.monotonic() - self._last >= EVERY and self._running:
            self._last = time.monotonic()
            doing = [f"{name} ({fit.text})" for name, fit in list(self._running.items())[:4]]
            more = f" and {len(self._running) - 4} more" if len(self._running) > 4 else ""
            self.log(f"{self._summary()}; now {', '.join(doing)}{more}")

    def stop(self) -> None:
        """Remove the table."""
        if self._screen is not None:
            self._screen.stop()
            self._screen = None

    def _say(self, text: str) -> None:
        if not self.live:
            self.log(text)

    def _print(self, text: str) -> None:
        if self._screen is None:
            self.log(text)
        else:
            self._screen.print(text)

    def _summary(self) -> str:
        counts = ", ".join(f"{n} {state}" for state, n in self._counts.items())
        text = f"{self._counts.total()} of {self._total} done" + (f" ({counts})" if counts else "")
        if not self._seconds:
            return text
        left = (self._total - self._counts.total()) * sum(self._seconds) / len(self._seconds) / self._at_once
        return f"{text}; about {shown_seconds(left)} left"

    def _table(self) -> Group:
        table = Table(box=None)
        for heading in ("fit", "", "time"):
            table.add_column(
                heading, overflow="ellipsis", no_wrap=True, justify="right" if heading == "time" else "left"
            )
        now = time.monotonic()
        for name, fit in list(self._running.items())[:MOST_ROWS]:
            table.add_row(Text(printable(name)), Text(printable(fit.text)), shown_seconds(now - fit.began))
        return Group(table, Text(self._summary()))
