"""The command line, and scripts as a reader runs them, each in a process of its own that need not load anything again."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import runpy
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nwb_sbtt.cli import main as cli
from tests.support.shortcuts import shorten_for_good

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LOADED = [
    "nwb_sbtt.pipeline",
    "torch._dynamo",  # The optimiser loads it when it is made, which takes longer than all the rest.
    "ndx_sbtt",
    "matplotlib.backends.backend_agg",
    "nwb_sbtt.evaluate.baselines",
]
SECONDS = 250


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or the signal as a negative number, and what it printed."""

    code: int
    out: str
    err: str


def process(*words: object, before: Callable[[], None] | None = None) -> Ended:
    """Run the command line in a process of its own, in which `before` was called first, without what `shortcuts` leave out."""
    return run(_command_line, *words, before=before)


def script(
    path: Path,
    *words: object,
    subject: str = "report/",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a file as a reader would, ``python FILE WORD ...``, short of what `shortcuts` leave out for the subject."""
    return run(_script, path, *words, before=partial(shorten_for_good, subject), cwd=cwd, environment=environment)


def run(
    action: Callable[[list[str]], None],
    *words: object,
    before: Callable[[], None] | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Do something in a process of its own.

    All come from one process that has loaded the packages and done nothing else: loading takes longer than a small fit.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    (out, told), (err, complained) = (context.Pipe(duplex=False) for _ in range(2))
    place = {"cwd": str(cwd or Path.cwd()), "environment": {**os.environ, **(environment or {})}}
    words = [str(word) for word in words]
    child = context.Process(target=_run, args=(action, words, before), kwargs={"ends": (told, complained), **place})
    child.start()
    told.close()
    complained.close()
    with ThreadPoolExecutor(2) as readers:
        printed = [readers.submit(_read, end) for end in (out, err)]
        child.join(SECONDS)
        if child.exitcode is None:
            child.kill()
            child.join()
    return Ended(child.exitcode, *(each.result() for each in printed))


def fill_the_disk(n_bytes: int) -> None:
    """Let no file of this process grow beyond so many bytes: to a program that is what a full disk is.

    Python takes half of a module's bytecode for all of it, so none is written from here on.
    """
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def _read(end: Connection) -> str:
    with end, open(end.fileno(), encoding="utf-8", closefd=False) as file:
        return file.read()


def rows_of(
    folder: Path, name: str, *words: object, drawn: bool = True, subject: str = "report/"
) -> list[dict[str, Any]]:
    """Rows of the table of a benchmark, which names its machine, and has a picture where there is one to draw."""
    table, picture = folder / "table.json", folder / "picture.png"
    ended = script(
        BENCHMARKS / name, *words, "--json", table, *(["--figure", picture] if drawn else []), subject=subject
    )
    assert ended.code == 0, ended.out + ended.err
    content = json.loads(table.read_text())
    assert content["machine"]["processor"]
    assert picture.exists() == drawn and (not drawn or picture.read_bytes().startswith(b"\x89PNG"))
    return content["rows"]


def _run(
    action: Callable[[list[str]], None],
    words: list[str],
    before: Callable[[], None] | None,
    *,
    ends: tuple[Connection, Connection],
    cwd: str,
    environment: Mapping[str, str],
) -> None:
    for descriptor, end in enumerate(ends, start=1):
        os.dup2(end.fileno(), descriptor)
        end.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if before is not None:
        before()
    action(words)


def _command_line(words: list[str]) -> None:
    shorten_for_good()
    sys.argv = ["nwb-sbtt", *words]
    cli.main()


def _script(words: list[str]) -> None:
    sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")
