"""Kill fits at random moments, start them again, and compare with the fit that nobody disturbed; start two at once.

Single fits, ensembles, fits that start from another, fits of a benchmark's set and appended results are killed (SIGKILL) at
moments drawn uniformly from their time, and started again with the same command. Weights, training state, calibration and
results must then be the same numbers, and no file may be left over. Of two processes that start at once on one run folder, one
must end as if alone, and the other with exit code 2 and one line. Processes come from one that has loaded the packages, so that
moments fall into the work.

    python benchmarks/kills.py --json kills.json
    nice python benchmarks/kills.py --kills 200 --seed 1
    python benchmarks/kills.py --small
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from machine import options, save, show

from nwb_sbtt.cli import main as cli
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set
from nwb_sbtt.simulate.tasks import Task, write_task
from nwb_sbtt.train.checkpoint import read_digest

LOADED = [
    "nwb_sbtt.pipeline",
    "torch._dynamo",
    "ndx_sbtt",
    "matplotlib.backends.backend_agg",
    "nwb_sbtt.nlb.modelling",
]
SIZES = ("read_in", "encoder", "initial_condition", "controller", "generator")
SMALL = [
    *("--model", "lfads", "--set", "model.factors=2", "--set", "posterior_samples=2"),
    *(word for name in SIZES for word in ("--set", f"model.{name}=4")),
    *("--set", "train.epochs=12", "--set", "train.checkpoint_every=1"),
]
TRIALS = ["--series", "units", "--trials", "start_time:0:1"]
TIMES_DIFFER = ("log.jsonl", "report.html", "lock")
"""Files that hold times, or drawings of them."""


@dataclass(frozen=True)
class Kind:
    """A kind of fit: the words of its command below a folder, where it writes ``run`` and results."""

    name: str
    words: Sequence[str]


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Kill, compare and print the table."""
    parser = options(__doc__, small="one kill of a single fit, two processes at once", figure=False)
    parser.add_argument("--kills", type=int, default=40, help="over all kinds of fits")
    parser.add_argument("--pairs", type=int, default=20, help="times that two processes start at once")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args(argv)
    if arguments.small:
        arguments.kills, arguments.pairs = 1, 1
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        kinds = _kinds(Path(folder), one=arguments.small)
        rows = [
            _killed(
                kind, Path(folder) / kind.name, arguments.kills // len(kinds) + (i < arguments.kills % len(kinds)), draw
            )
            for i, kind in enumerate(kinds)
        ]
        rows.append(_at_once(kinds[0], Path(folder) / "at once", arguments.pairs))
    show(rows)
    save(arguments.json, vars(arguments), rows)
    return rows


def _kinds(folder: Path, *, one: bool) -> list[Kind]:
    source = str(write_task(folder / "lorenz.nwb", Task(n_channels=6, conditions=3, trials_per_condition=8)))
    fit = ["fit", source, *TRIALS, *SMALL, "--run-dir", "run"]
    kinds = [Kind("single", [*fit, "--out", "out.nwb"])]
    if one:
        return kinds
    (folder / "initial").mkdir()
    _run(fit, folder / "initial")
    initial = str(folder / "initial" / "run")
    files = [str(path) for path in write_set(simulate_set(SetSettings("mc_maze_small", 24, 8, 8, 8)), folder)]
    _run(["nlb", "prepare", "mc_maze_small", files[0], "--bin-width", "0.02", "--folder", "nlb"], folder)
    nlb = ["nlb", "fit", "mc_maze_small", "--bin-width", "0.02", "--folder", str(folder / "nlb"), "--run-dir", "run"]
    adapted = ["fit", source, *TRIALS, "--init", initial, "--run-dir", "run", "--out", "out.nwb"]
    epochs = ["--set", "train.epochs=12", "--set", "train.checkpoint_every=1", "--set", "init.channels=same"]
    return [
        *kinds,
        Kind("ensemble", [*fit, "--seeds", "2", "--out", "out.nwb"]),
        Kind("init", [*adapted, *epochs]),
        Kind("append", [*fit, "--out", "out.nwb", "--append"]),
        Kind("benchmark", [*nlb, *SMALL]),
    ]


def _start(words: Sequence[str], folder: Path, said: Path) -> BaseProcess:
    """Start the command line in a folder; what it prints goes into a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=_command, args=(list(words), str(folder), str(said)))
    process.start()
    return process


def _command(words: list[str], folder: str, said: str) -> None:
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(folder)
    sys.argv = ["nwb-sbtt", *words]
    cli.main()


def _run(words: Sequence[str], folder: Path) -> None:
    said = folder.with_name(f"{folder.name}.txt")
    process = _start(words, folder, said)
    process.join()
    if process.exitcode:
        raise SystemExit(said.read_text())


def _killed(kind: Kind, folder: Path, n: int, draw: random.Random) -> dict[str, Any]:
    """Kill a fit `n` times, each in a folder of its own."""
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir(parents=True)
    started = time.monotonic()
    _run(kind.words, undisturbed)
    seconds = time.monotonic() - started
    expected = _content(undisturbed)
    same, killed, problems = 0, 0, []
    for i in range(n):
        place = folder / str(i)
        place.mkdir()
        moment, said = draw.uniform(0.0, 1.0) * seconds, folder / f"{i}.txt"
        process = _start(kind.words, place, said)
        process.join(moment)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
        process = _start(kind.words, place, said)
        process.join()
        last = said.read_text().strip().splitlines()[-1]
        # A fit that had written its result when it was killed is refused, as any existing result is.
        problem = None if process.exitcode == 0 or (process.exitcode == 2 and "exists" in last) else last
        problem = problem or _difference(expected, _content(place))
        same += problem is None
        problems += [] if problem is None else [f"{moment:.2f} s: {problem}"]
        shutil.rmtree(place)
    for problem in problems:
        print(f"{kind.name}: {problem}", file=sys.stderr)
    return {
        "kind": kind.name,
        "n": n,
        "killed": killed,
        "same numbers": same,
        "failed": len(problems),
        "seconds": seconds,
    }


def _at_once(kind: Kind, folder: Path, n: int) -> dict[str, Any]:
    """Start two processes on one run folder at the same time."""
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir(parents=True)
    started = time.monotonic()
    _run(kind.words, undisturbed)
    seconds = time.monotonic() - started
    expected, same, problems = _content(undisturbed), 0, []
    for i in range(n):
        place = folder / str(i)
        place.mkdir()
        said = [folder / f"{i}.{j}.txt" for j in range(2)]
        pair = [_start(kind.words, place, each) for each in said]
        for process in pair:
            process.join()
        codes = [process.exitcode for process in pair]
        errors = [each.read_text().strip().splitlines() for each in said]
        problem = _difference(expected, _content(place))
        if set(codes) != {0, 2}:
            problem = f"exit codes {codes}"
        elif len(refused := [line for line in errors[codes.index(2)] if line.startswith("error: ")]) != 1:
            problem = f"the second says {errors[codes.index(2)]}"
        elif "is in use by process" not in refused[0] and "exists" not in refused[0]:
            problem = refused[0]
        same += problem is None
        problems += [] if problem is None else [problem]
        shutil.rmtree(place)
    for problem in problems:
        print(f"two at once: {problem}", file=sys.stderr)
    return {
        "kind": "two at once",
        "n": n,
        "killed": 0,
        "same numbers": same,
        "failed": len(problems),
        "seconds": seconds,
    }


def _content(folder: Path) -> dict[str, Any]:
    """Every file below a folder: numbers of what holds numbers, and of what holds times that it is there."""
    content: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            content[name] = "folder"
        elif path.suffix in (".nwb", ".h5"):
            content[name] = _arrays(path)
        elif path.suffix == ".safetensors":
            content[name] = read_digest(path)
        elif path.name in TIMES_DIFFER:
            content[name] = "there"
        else:
            content[name] = path.read_bytes().replace(str(folder).encode(), b"")
    return content


def _arrays(path: Path) -> dict[str, bytes]:
    """Numbers of an HDF5 file; its texts name ids and times."""
    arrays: dict[str, bytes] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
            arrays[name] = np.asarray(item[()]).tobytes()

    with h5py.File(path, "r") as file:
        file.visititems(keep)
    return arrays


def _difference(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    if names := sorted(expected.keys() ^ found.keys()):
        return f"files {names} are there once"
    changed = [name for name in expected if expected[name] != found[name]]
    return f"{changed} differ" if changed else None


if __name__ == "__main__":
    main()
