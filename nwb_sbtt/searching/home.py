"""What Ray reports of the trials of a search comes home: into the record, the run folders and onto the screen.

This module imports Ray; it is imported when a search begins.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune

from nwb_sbtt import stopping
from nwb_sbtt.searching.progress import Display
from nwb_sbtt.searching.record import Origin, Record, Step, TrialRow
from nwb_sbtt.searching.trial import bring_home

_BETWEEN_SAVES = 2.0
"""Seconds between two writings of the record, at most; the end of a trial is written at once."""


class Home(tune.Callback):
    """Keeps the record of a search while Ray runs it.

    Parameters
    ----------
    record : Record
        Before this process began.
    run_dir : Path
        Folder of the search.
    display : Display
    board : handle of a `nwb_sbtt.searching.tasks.Board`
        By which trials are asked to end.
    """

    def __init__(self, record: Record, run_dir: Path, display: Display, board: Any) -> None:
        self.record, self._run_dir, self._display, self._board = record, run_dir, display, board
        self._numbers: dict[str, int] = {}
        self._began, self._before, self._saved = time.monotonic(), record.seconds, 0.0
        self._epochs_before = sum(row.epoch for row in record.rows.values())
        self._deadline: float | None = None
        self._at_rest: set[str] = set()
        self._idle: set[str] = set()
        self._restore_handler = stopping.keep_handler()

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """End the search here if that was requested (`nwb_sbtt.stopping`), once all that run have saved their states.

        Parameters
        ----------
        iteration, trials, info
            As Ray gives them.
        """
        # Ray puts its own in its place, which would end the search as if all trials were done.
        self._restore_handler()
        if not stopping.is_requested():
            return
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + stopping.PATIENCE
            self._board.stop.remote()
        running = {trial.trial_id for trial in trials if trial.status == trial.RUNNING}
        if running <= self._at_rest or now > self._deadline:
            stopping.check()

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Note a trial that begins; one that was paused is known already.

        Parameters
        ----------
        iteration, trials, info
            As Ray gives them.
        trial : ray.tune.experiment.Trial
        """
        if trial.trial_id in self._numbers:
            return
        number = int(trial.config["trial"]["number"])
        self._numbers[trial.trial_id] = number
        given = trial.config["trial"]
        row = self.record.rows.get(number, TrialRow(number, dict(given["point"]), given["seed"]))
        self._note(replace(row, state="running", cause=""), now=True)

    def on_trial_result(
        self, iteration: int, trials: Sequence[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Note a piece.

        Parameters
        ----------
        iteration, trials, info
            As Ray gives them.
        trial : ray.tune.experiment.Trial
        result : mapping
            Of `FitTrial.step`.
        """
        if result["idle"]:
            self._idle.add(trial.trial_id)
            self._at_rest.add(trial.trial_id)
            return
        row = self._row(trial)
        given = trial.config["trial"]
        if result["failed"]:
            self._note(replace(row, state="failed", cause=result["failed"]), now=True)
            return
        if result["origin"] in self._numbers:
            origin = Origin(int(result["began"]), self._numbers[result["origin"]])
            row = replace(row, origins=(*row.origins, origin))
        step = Step(int(result["epoch"]), float(result["score"]), self._seconds)
        row = replace(row, settings=dict(given["point"]), seed=given["seed"], steps=(*row.steps, step))
        if result["finished"]:
            row = replace(row, state="finished", cause=result["finished"])
        self._note(row, now=row.state != "running")

    def on_checkpoint(self, iteration: int, trials: Sequence[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """Bring a saved state home.

        Parameters
        ----------
        iteration, trials, info
            As Ray gives them.
        trial : ray.tune.experiment.Trial
        checkpoint : ray.tune.Checkpoint
        """
        if trial.trial_id in self._idle:
            # Perhaps the weights of another, with which it has not begun.
            return
        with checkpoint.as_directory() as saved:
            bring_home(Path(saved), self._run_dir / self._row(trial).folder)
        if self._deadline is not None:
            self._at_rest.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Note how a trial ended: by itself, or because it fell behind.

        Parameters
        ----------
        iteration, trials, info
            As Ray gives them.
        trial : ray.tune.experiment.Trial
        """
        row = self._row(trial)
        if row.state == "running":
            self._note(replace(row, state="stopped", cause=f"fell behind after {row.epoch} epochs"), now=True)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Note a trial that broke down; what Ray says of it is known at the end.

        Parameters
        ----------
        iteration, trials, info
            As Ray gives them.
        trial : ray.tune.experiment.Trial
        """
        self._note(replace(self._row(trial), state="failed", cause="its process or machine died"), now=True)

    def end(self, causes: Mapping[int, str]) -> None:
        """Note why trials broke down.

        Parameters
        ----------
        causes : mapping of number to str
        """
        for number, cause in causes.items():
            if number in self.record.rows:
                self._note(replace(self.record.rows[number], state="failed", cause=cause))

    def close(self) -> None:
        """Write the record, and end the display."""
        self._save()
        self._display.stop()

    @property
    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def _row(self, trial: Any) -> TrialRow:
        return self.record.rows[self._numbers[trial.trial_id]]

    def _note(self, row: TrialRow, *, now: bool = False) -> None:
        self.record = self.record.with_row(row)
        if now or time.monotonic() - self._saved > _BETWEEN_SAVES:
            self._save()
        self._display.show(self.record, row, self._left())

    def _save(self) -> None:
        self.record = replace(self.record, seconds=self._seconds)
        self.record.save(self._run_dir)
        self._saved = time.monotonic()

    def _left(self) -> float | None:
        """Seconds that the search still takes, if trials to come are as long as those that ended."""
        rows, epochs = self.record.rows.values(), self.record.fit.train.epochs or 0
        done = sum(row.epoch for row in rows) - self._epochs_before
        if done <= 0:
            return None
        ended = [row.epoch for row in rows if row.state in ("finished", "stopped")]
        expected = sum(ended) / len(ended) if ended else epochs
        to_do = (self.record.search.trials - len(rows)) * expected
        to_do += sum(max(expected - row.epoch, 0) for row in rows if row.state == "running")
        return (time.monotonic() - self._began) * to_do / done if math.isfinite(to_do) else None
