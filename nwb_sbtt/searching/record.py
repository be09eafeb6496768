"""What a search has done so far: one file in its folder, by which it is taken up again."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from nwb_sbtt.config import FitConfig, SearchConfig
from nwb_sbtt.config.base import load_settings, save_settings
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.fitting.runfolder import differences
from nwb_sbtt.searching.space import Dimension

RECORD = "search.yaml"
TRIALS = "trials"
"""Folder of the run folders of all trials."""
FORMAT = 1
State = Literal["running", "finished", "stopped", "failed"]
IDENTITY = ("strategy", "seed", "pieces", "grace", "reduction", "quantile", "resample")
"""Settings of a search that decide what its trials are; all others may change when it is taken up again."""


@dataclass(frozen=True)
class Step:
    """A piece of a trial.

    Parameters
    ----------
    epoch : int
    score : float
        Held-out negative log-likelihood of the validation trials [nats per scored entry]: the best so far, or in a population
        the latest.
    seconds : float
        Since the search began, without pauses.
    """

    epoch: int
    score: float
    seconds: float


@dataclass(frozen=True)
class Origin:
    """A member of a population took over the weights of another.

    Parameters
    ----------
    epoch : int
        Epochs done when it did.
    trial : int
        Number of the other.
    """

    epoch: int
    trial: int


@dataclass(frozen=True)
class TrialRow:
    """One trial of a search.

    Parameters
    ----------
    number : int
        0 is the trial with the settings that the search started from.
    settings : mapping of dotted name to value
        What is searched.
    seed : int or None
        Of training; None for trial 0, which has that of the fit.
    state : "running", "finished", "stopped" or "failed"
        Running trials of a search that was interrupted go on with it. Stopped: it fell behind.
    cause : str
        Why training ended, or what went wrong.
    steps : tuple of Step
    origins : tuple of Origin
    """

    number: Annotated[int, Field(ge=0)]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    state: State = "running"
    cause: str = ""
    steps: tuple[Step, ...] = ()
    origins: tuple[Origin, ...] = ()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.steps[-1].epoch if self.steps else 0

    @property
    def score(self) -> float:
        """The last score; infinite where there is none."""
        return self.steps[-1].score if self.steps else math.inf

    @property
    def folder(self) -> str:
        """Its run folder, in the folder of the search."""
        return f"{TRIALS}/{self.number:04d}"


@dataclass(frozen=True)
class Record:
    """A search and its trials, as `RECORD` holds them.

    Parameters
    ----------
    search : SearchConfig
    fit : FitConfig
        What every trial starts from, with the number of epochs resolved.
    space : tuple of Dimension
    data : mapping of session to str
        Digests of the data.
    rows : mapping of number to TrialRow
    seconds : float
        Time spent, over all processes.
    result : mapping
        Scores of the winner and others; empty before the end.
    """

    search: SearchConfig
    fit: FitConfig
    space: tuple[Dimension, ...]
    data: Mapping[str, str]
    rows: Mapping[int, TrialRow] = field(default_factory=dict)
    seconds: float = 0.0
    result: Mapping[str, Any] = field(default_factory=dict)

    def with_row(self, row: TrialRow) -> Record:
        """Return the record with a row added or replaced.

        Parameters
        ----------
        row : TrialRow
        """
        return replace(self, rows={**self.rows, row.number: row})

    @property
    def piece(self) -> int:
        """Epochs between two saved states."""
        assert self.fit.train.epochs is not None
        return math.ceil(self.fit.train.epochs / self.search.pieces)

    @property
    def ranked(self) -> list[TrialRow]:
        """Trials with a score that did not fail, the best first; those that were trained to their end before all others."""
        scored = [row for row in self.rows.values() if row.steps and row.state != "failed"]
        return sorted(scored, key=lambda row: (row.state != "finished", row.score, row.number))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as the file holds them."""
        rows = []
        for row in sorted(self.rows.values(), key=lambda row: row.number):
            content: dict[str, Any] = {"trial": row.number, "state": row.state, "cause": row.cause}
            if row.steps:
                content |= {"epoch": row.epoch, "score": row.score}
            content |= {"folder": row.folder, "settings": dict(row.settings), "seed": row.seed}
            content["steps"] = [[step.epoch, step.score, round(step.seconds, 2)] for step in row.steps]
            if row.origins:
                content["origins"] = [asdict(origin) for origin in row.origins]
            rows.append(content)
        return {
            "format": FORMAT,
            "search": self.search.model_dump(mode="json"),
            "space": [str(dimension) for dimension in self.space],
            "fit": self.fit.model_dump(mode="json"),
            "data": dict(self.data),
            "software": _software(),
            "seconds": round(self.seconds, 2),
            "result": dict(self.result),
            "trials": rows,
        }

    def save(self, run_dir: Path) -> None:
        """Write the record by an atomic write.

        Parameters
        ----------
        run_dir : Path
            Folder of the search.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        save_settings(self.as_dict(), run_dir / RECORD)


def resumed(new: Record, run_dir: Path) -> Record:
    """Return the record of a folder, for a search that goes on there; the new one, where the folder holds none.

    Parameters
    ----------
    new : Record
        Of the search that is asked for.
    run_dir : Path

    Returns
    -------
    Record
        With the rows of the folder. A trial that was running has the state "running".

    Raises
    ------
    TrainingError
        If the folder holds a search of other data or settings, naming the differences.
    FileError
        If its record is damaged.
    """
    path = run_dir / RECORD
    if not path.exists():
        return new
    content = load_settings(path)
    if content.get("format") != FORMAT:
        raise TrainingError(
            f"{str(path)!r} has format {content.get('format')}, but this version reads format {FORMAT}; search in a "
            "new folder"
        )
    if new.search.strategy == "pbt" and content["search"]["trials"] != new.search.trials:
        raise TrainingError(
            f"the population in {str(run_dir)!r} has {content['search']['trials']} members, but this search has "
            f"{new.search.trials}; use another folder for this search"
        )
    wanted = _identity(new.search.model_dump(mode="json"), new.fit, [str(each) for each in new.space], new.data)
    try:
        rows = {row.number: row for row in map(_row, content["trials"])}
        fit = FitConfig.model_validate(content["fit"])
        found = _identity(content["search"], fit, content["space"], content["data"])
        seconds = float(content["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error.error_count()} values are wrong" if isinstance(error, ValidationError) else repr(error)
        raise FileError(
            f"the record of the search {str(path)!r} is damaged: {reason}; search in a new folder"
        ) from None
    if changes := differences(wanted, found):
        raise TrainingError(
            f"{str(run_dir)!r} has a search of different data or settings: {'; '.join(changes[:5])}. Use another "
            "folder for this search (only trials, resources, address, storage and ensemble may change)"
        )
    return replace(new, rows=rows, seconds=seconds, result=content.get("result") or {})


def _identity(
    search: Mapping[str, Any], fit: FitConfig, space: Sequence[str], data: Mapping[str, str]
) -> dict[str, Any]:
    settings = fit.model_dump(mode="json", exclude={"device", "threads"})
    return {
        **{name: search[name] for name in IDENTITY},
        "space": list(space),
        "fit": settings,
        "data": {name: digest[:12] for name, digest in data.items()},
    }


def _row(content: Mapping[str, Any]) -> TrialRow:
    steps = [Step(int(epoch), float(score), float(seconds)) for epoch, score, seconds in content["steps"]]
    values = {name: content[name] for name in ("settings", "seed", "state", "cause")}
    return TypeAdapter(TrialRow).validate_python(
        {"number": content["trial"], **values, "steps": steps, "origins": content.get("origins", ())}
    )


def _software() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("nwb_sbtt", "ray", "optuna", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
