"""What a person sees while a model is trained: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass(frozen=True)
class EpochRecord:
    """One epoch's numbers, in nats per scored entry; one line of ``log.jsonl``."""

    epoch: int
    train_loss: float
    kl: float
    valid_loss: float
    best_epoch: int
    learning_rate: float
    gradient_norm: float
    seconds: float


@runtime_checkable
class Tracker(Protocol):
    """Told of each epoch."""

    def start(self, epochs: int, done: int) -> None:
        """Say how many epochs there will be and how many are done already."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """Report one epoch."""
        ...

    def stop(self) -> None:
        """End, however training ended."""
        ...


class Silent:
    """Says nothing."""

    def start(self, epochs: int, done: int) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Bar:
    """A progress bar with losses, best epoch and time left; `label` says of what."""

    def __init__(self, label: str = "") -> None:
        text = TextColumn("train {task.fields[train]:.4f}  valid {task.fields[valid]:.4f}  best at {task.fields[best]}")
        count = TextColumn("{task.description}epoch {task.completed}/{task.total}")
        self._progress = Progress(
            count, BarColumn(), text, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
        )
        self._task = self._progress.add_task(label, total=None, train=float("nan"), valid=float("nan"), best=0)

    def start(self, epochs: int, done: int) -> None:
        """Show the bar."""
        self._progress.update(self._task, total=epochs, completed=done)
        self._progress.start()

    def epoch(self, record: EpochRecord) -> None:
        """Advance the bar."""
        self._progress.update(
            self._task,
            completed=record.epoch,
            train=record.train_loss,
            valid=record.valid_loss,
            best=record.best_epoch,
        )

    def stop(self) -> None:
        """Leave the bar as it last stood."""
        self._progress.stop()


class Lines:
    """A plain line now and then, each with the label in front: for logs, pipes and batch systems."""

    def __init__(self, every_seconds: float = 5.0, label: str = "") -> None:
        self._every, self._last, self._epochs, self._label = every_seconds, 0.0, 0, label

    def start(self, epochs: int, done: int) -> None:
        """Say where training stands."""
        self._epochs = epochs
        if done:
            print(f"{self._label}resuming after epoch {done} of {epochs}", file=sys.stderr, flush=True)

    def epoch(self, record: EpochRecord) -> None:
        """Print the epoch if the last line is old enough."""
        now = time.monotonic()
        if now - self._last >= self._every or record.epoch == self._epochs:
            self._last = now
            print(
                f"{self._label}epoch {record.epoch}/{self._epochs}  train {record.train_loss:.4f}  "
                f"valid {record.valid_loss:.4f}  best at {record.best_epoch}  {record.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )

    def stop(self) -> None:
        """Nothing is left open."""


def default_tracker(label: str = "") -> Tracker:
    """Choose the bar on a terminal, lines elsewhere."""
    return Bar(label) if sys.stderr.isatty() else Lines(label=label)
