"""A small simulated recording, the settings of a small fit, and the command line run in this process or another."""

from __future__ import annotations

import io
import multiprocessing
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nwb_sbtt.cli import main as cli
from nwb_sbtt.report import page
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


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or the signal as a negative number, and what it printed."""

    code: int
    out: str = ""
    err: str = ""


def process(*words: object, before: Callable[[], None] | None = None) -> Ended:
    """Run the command line in a process of its own, in which `before` was called first.

    All come from one process that has loaded the packages and done nothing else: loading takes longer than a small fit.
    """
    context = multiprocessing.get_context("forkserver")
    # The optimiser loads torch._dynamo when it is made, which takes longer than all the rest.
    context.set_forkserver_preload(["nwb_sbtt.cli.pipeline", "torch._dynamo", "ndx_sbtt"])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(sender, [str(word) for word in words], before))
    child.start()
    sender.close()
    try:
        code, out, err = receiver.recv()
    except EOFError:
        child.join()
        return Ended(child.exitcode or 0)
    child.join()
    return Ended(code, out, err)


def _run(sender: Connection, words: list[str], before: Callable[[], None] | None) -> None:
    sys.argv = ["nwb-sbtt", *words]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        if before is not None:
            before()
        try:
            cli.main()
        except SystemExit as ended:
            sender.send((ended.code or 0, out.getvalue(), err.getvalue()))


def without_figures() -> None:
    """Let reports of this process have none: drawing them takes longer than a small fit."""
    page._panels = lambda *args, **options: iter(())


def tree(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
