"""A small simulated recording, the settings of a small fit, and the command line run in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nwb_sbtt.cli import main as cli
from nwb_sbtt.simulate.tasks import Task, write_task

SETTINGS = {
    **{f"model.{name}": 4 for name in ("read_in", "encoder", "initial_condition", "controller", "generator")},
    **{"model.factors": 2, "train.epochs": 2, "train.checkpoint_every": 1, "posterior_samples": 2},
}
TRIALS = ["--series", "units", "--trials", "start_time:0:1"]
SMALL = [
    *TRIALS,
    "--model",
    "lfads",
    *(word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")),
]


def recording(path: Path, *, seed: int = 0) -> Path:
    """Twenty-four trials of six simulated units."""
    return write_task(path, Task(n_channels=6, conditions=3, trials_per_condition=8, seed=seed))


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line here; gives the exit code."""
    monkeypatch.setattr(sys, "argv", ["nwb-sbtt", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def tree(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
