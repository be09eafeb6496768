"""Progress of training on the screen: a progress bar on a terminal and in notebooks, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nwb_sbtt.display import NotebookBar, in_notebook
from nwb_sbtt.printable import unfiltered

LEARNING = "learning a system: step"
"""In front of the numbers of steps."""


@dataclass(frozen=True)
class EpochRecord:
    """Numbers of one epoch; one line of ``log.jsonl``.

    Parameters
    ----------
    epoch, best_epoch : int
        From 1.
    train_loss, valid_loss : float
        Nats per scored entry.
    kl : float
        Nats per observed entry.
    learning_rate : float
        At the end of the epoch.
    gradient_norm : float
        Before clipping.
    seconds : float
        Since the start of training, over all processes.
    """

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
    """Receives the progress of training, as a progress bar does."""

    def start(self, epochs: int, done: int) -> None:
        """Begin.

        Parameters
        ----------
        epochs : int
            Number of all epochs.
        done : int
            Epochs done by earlier processes.
        """
        ...

    def epoch(self, record: EpochRecord) -> None:
        """Receive the numbers of one epoch.

        Parameters
        ----------
        record : EpochRecord
        """
        ...

    def learning(self, step: int, steps: int) -> None:
        """Receive how far a system is learned, between the epochs of the first and of further training.

        Parameters
        ----------
        step, steps : int
            Steps that are done, and that there are.
        """
        ...

    def stop(self) -> None:
        """End; called also after an error."""
        ...


class Silent:
    """Ignores the progress of training."""

    def start(self, epochs: int, done: int) -> None:
        """Do nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Do nothing."""

    def learning(self, step: int, steps: int) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class Bar:
    """A progress bar with losses, best epoch and remaining time; a second one while a system is learned.

    Parameters
    ----------
    label : str
        Text in front of the bar.
    """

    def __init__(self, label: str = "") -> None:
        count = TextColumn("{task.description} {task.completed}/{task.total}")
        self._progress = Progress(
            count,
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=unfiltered(sys.stderr)),
        )
        self._task = self._progress.add_task(f"{label}epoch", total=None, numbers="")
        self._learning = self._progress.add_task(
            f"{label}{LEARNING}", total=None, numbers="", visible=False, start=False
        )

    def start(self, epochs: int, done: int) -> None:
        """Show the bar."""
        self._progress.update(self._task, total=epochs, completed=done)
        self._progress.start()

    def epoch(self, record: EpochRecord) -> None:
        """Advance the bar."""
        numbers = f"train {record.train_loss:.4f}  valid {record.valid_loss:.4f}  best at {record.best_epoch}"
        self._progress.update(self._task, completed=record.epoch, numbers=numbers)

    def learning(self, step: int, steps: int) -> None:
        """Advance the second bar, which is there until the last step."""
        self._progress.start_task(self._learning)
        self._progress.update(self._learning, total=steps, completed=step, visible=step < steps)

    def stop(self) -> None:
        """Stop the bar and leave it on the screen."""
        self._progress.stop()


class Notebook:
    """A progress bar in a notebook, with losses and best epoch.

    Parameters
    ----------
    label : str
        Text in front of the bar.
    """

    def __init__(self, label: str = "") -> None:
        self._bar, self._epochs, self._last = NotebookBar(label), 0, 0.0

    def start(self, epochs: int, done: int) -> None:
        """Show the bar."""
        self._epochs = epochs
        self._bar.show(done, epochs, f"epoch {done}/{epochs}")

    def epoch(self, record: EpochRecord) -> None:
        """Advance the bar, at most five times a second."""
        now = time.monotonic()
        if now - self._last >= 0.2 or record.epoch == self._epochs:
            self._last = now
            self._bar.show(record.epoch, self._epochs, _numbers(record, self._epochs))

    def learning(self, step: int, steps: int) -> None:
        """Let the bar show how far a system is learned, at most five times a second."""
        now = time.monotonic()
        if now - self._last >= 0.2 or step == steps:
            self._last = now
            self._bar.show(step, steps, f"{LEARNING} {step}/{steps}")

    def stop(self) -> None:
        """Leave the bar where it is."""


class Lines:
    """Plain lines, for logs, pipes and batch systems.

    Parameters
    ----------
    every_seconds : float
        Shortest time between two lines.
    label : str
        Text in front of each line.
    """

    def __init__(self, every_seconds: float = 5.0, label: str = "") -> None:
        self._every, self._last, self._epochs, self._label = every_seconds, 0.0, 0, label

    def start(self, epochs: int, done: int) -> None:
        """Print after which epoch training is resumed, if it is."""
        self._epochs = epochs
        if done:
            print(f"{self._label}resuming after epoch {done} of {epochs}", file=sys.stderr, flush=True)

    def epoch(self, record: EpochRecord) -> None:
        """Print the epoch if `every_seconds` have passed since the last line, or if it is the last epoch."""
        now = time.monotonic()
        if now - self._last >= self._every or record.epoch == self._epochs:
            self._last = now
            print(f"{self._label}{_numbers(record, self._epochs)}", file=sys.stderr, flush=True)

    def learning(self, step: int, steps: int) -> None:
        """Print the step if `every_seconds` have passed since the last line, or if it is the last step."""
        now = time.monotonic()
        if now - self._last >= self._every or step == steps:
            self._last = now
            print(f"{self._label}{LEARNING} {step}/{steps}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Do nothing: no line is open."""


def default_tracker(label: str = "") -> Tracker:
    """Choose a progress bar on a terminal and in notebooks, plain lines elsewhere.

    Parameters
    ----------
    label : str
        Text in front of the bar or of each line.

    Returns
    -------
    Tracker
    """
    if in_notebook():
        return Notebook(label)
    return Bar(label) if sys.stderr.isatty() else Lines(label=label)


def _numbers(record: EpochRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch}/{epochs}  train {record.train_loss:.4f}  valid {record.valid_loss:.4f}  "
        f"best at {record.best_epoch}  {record.seconds:.0f} s"
    )
