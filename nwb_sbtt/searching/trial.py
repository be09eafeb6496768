"""One trial of a search, as Ray runs it: our own fit in a folder of its own, a piece at a time.

This module imports Ray; it is imported when a search begins."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import xarray as xr
from ray import tune

from nwb_sbtt import stopping
from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.config import FitConfig
from nwb_sbtt.errors import SbttError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.runfolder import CONFIG, LOCK, change_settings, read_config
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.searching.space import settings_with
from nwb_sbtt.train.checkpoint import LAST, read_progress
from nwb_sbtt.train.loop import read_log
from nwb_sbtt.train.trackers import EpochRecord, Silent

EVERY = 1.0
"""Seconds between two questions of a trial whether it is to end; and a pause of one that is, until its process ends."""
SAVER = "saver.json"
"""In a saved state: the trial that saved it."""
Files = Mapping[str, bytes]
"""A run folder, file by file."""


@dataclass(frozen=True)
class Task:
    """What all trials of a search share.

    Parameters
    ----------
    fit : FitConfig
        What every trial starts from.
    piece : int
        Epochs between two saved states.
    latest : bool
        Whether a trial's score is its latest one, as in a population, or its best one.
    """

    fit: FitConfig
    piece: int
    latest: bool


class FitTrial(tune.Trainable):
    """A fit that is trained in pieces; its state goes out, and comes in, as the files of a run folder."""

    _number: int
    _seed: dict[str, int]
    _point: dict[str, Any]
    _origin: str
    _folder: Path

    def setup(
        self,
        config: dict[str, Any],
        data: Mapping[str, xr.Dataset],
        task: Task,
        states: Mapping[int, Files],
        board: Any,
    ) -> None:
        """Begin a trial in a new process.

        Parameters
        ----------
        config : dict
            ``trial``: its ``number``, the ``seed`` of its training, and ``point``, the settings that are searched.
        data : mapping of session to Dataset
        task : Task
        states : mapping of number to Files
            Run folders of trials that go on from an earlier process.
        board : handle of a `nwb_sbtt.searching.tasks.Board`
            Answers whether trials are to save their state and end.
        """
        self._data, self._task, self._states, self._board = data, task, states, board
        self._place: Path | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process.

        Parameters
        ----------
        new_config : dict
            As for `setup`.
        """
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one piece, to its end or until trials are to end; not at all if that was asked for before.

        Returns
        -------
        dict
            ``epoch`` after it and when it ``began``, ``score`` [nats per scored entry], ``finished`` (why training ended),
            ``failed`` (what went wrong), ``origin`` (id of the trial whose weights were taken over), and whether it is
            ``idle``: nothing was trained.
        """
        if self._is_over():
            time.sleep(EVERY)
            return {"epoch": self._epoch, "score": math.inf, "idle": True, "done": False}
        origin, self._origin = self._origin, ""
        epoch = self._epoch
        until = (epoch // self._task.piece + 1) * self._task.piece
        try:
            chosen = {**self._seed, **self._point}
            config = settings_with(self._task.fit, chosen)
            if (self._folder / CONFIG).exists():
                # With what the fit has resolved, such as the digest of an initial fit.
                stored = read_config(self._folder)
                if (changed := settings_with(stored, chosen)) != stored:
                    note = "weights of another trial" if origin else ""
                    change_settings(self._folder, changed, epoch=epoch, note=note)
            with suppress(stopping.Stopped):
                fit(self._data, config, run_dir=self._folder, tracker=_Asking(self._is_over), until=until)
        except SbttError as error:
            return {
                "epoch": epoch,
                "began": epoch,
                "score": math.inf,
                "finished": "",
                "failed": str(error),
                "done": True,
                "idle": False,
            }
        finally:
            stopping.withdraw()
        progress = read_progress(self._folder / LAST)
        score = read_log(self._folder, progress)[-1].valid_loss if self._task.latest else progress.best_score
        return {
            "epoch": progress.epoch,
            "began": epoch,
            "score": score,
            "finished": progress.finished,
            "failed": "",
            "done": bool(progress.finished),
            "origin": origin,
            "idle": False,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the run folder into a folder of Ray's.

        Parameters
        ----------
        checkpoint_dir : str
        """
        if (self._folder / SIGNATURE).exists():
            shutil.copytree(self._folder, checkpoint_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK))
        (Path(checkpoint_dir) / SAVER).write_text(json.dumps(self.trial_id))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Take over a run folder, of this trial or of another.

        Parameters
        ----------
        checkpoint : str
            Folder of Ray's.
        """
        source = Path(checkpoint)
        shutil.rmtree(self._folder, ignore_errors=True)
        if (source / SIGNATURE).exists():
            bring_home(source, self._folder)
        saver = json.loads((source / SAVER).read_text())
        self._origin = saver if saver != self.trial_id else ""

    def cleanup(self) -> None:
        """Remove the run folder when the process ends."""
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

    def _begin(self, config: Mapping[str, Any]) -> None:
        trial = config["trial"]
        self._number, self._point, self._origin = trial["number"], trial["point"], ""
        self._seed = {} if trial["seed"] is None else {"train.seed": trial["seed"]}
        self.cleanup()
        # Of this process alone: another may go on with the trial before this one has ended, on the same machine.
        self._place = Path(tempfile.mkdtemp(prefix="run-", dir=self.logdir))
        self._folder = self._place / "run"
        if files := self._states.get(self._number):
            self._folder.mkdir(parents=True)
            for name, content in files.items():
                (self._folder / name).write_bytes(content)

    def _is_over(self) -> bool:
        return bool(ray.get(self._board.is_over.remote()))

    @property
    def _epoch(self) -> int:
        """Epochs done."""
        return read_progress(self._folder / LAST).epoch if (self._folder / LAST).exists() else 0


class _Asking(Silent):
    """Asks now and then whether training is to end, and requests it."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over, self._last = is_over, time.monotonic()

    def epoch(self, record: EpochRecord) -> None:
        """Ask, at most once in `EVERY` seconds."""
        self._ask()

    def learning(self, step: int, steps: int) -> None:
        """Ask, at most once in `EVERY` seconds."""
        self._ask()

    def _ask(self) -> None:
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            if self._is_over():
                stopping.request()


def bring_home(saved: Path, run_dir: Path) -> None:
    """Make what `FitTrial.save_checkpoint` saved the run folder of a trial.

    Parameters
    ----------
    saved : Path
        Folder of Ray's.
    run_dir : Path
        Replaced, if it exists.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    if not (saved / SIGNATURE).exists():
        return
    with atomic_write(run_dir, suffix="") as temporary:
        # Ray's own files begin with a dot.
        shutil.copytree(saved, temporary, ignore=shutil.ignore_patterns(SAVER, ".*"))


def read_files(run_dir: Path) -> Files:
    """Read a run folder into memory, file by file, for a trial that goes on from it.

    Parameters
    ----------
    run_dir : Path
    """
    return {path.name: path.read_bytes() for path in sorted(run_dir.iterdir()) if path.is_file() and path.name != LOCK}
