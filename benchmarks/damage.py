"""What becomes of damaged files: each case damages one copy of a small file in a drawn way, and runs the command line on it.

Every command must succeed with finite and consistent output, or end with exit code 2 and one line ``error: …``; within 1 GB
and 10 CPU-seconds, with nothing half written and its sources as they were. A case follows from the seed and its number, so
that ``--only NUMBER`` repeats one and shows what it printed. Each runs in a process of its own, forked from one that has loaded
everything. Linux only.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from damage_subjects import Subject, make_subjects
from machine import canvas, options, report

BYTES, SECONDS, WALL = 1 << 30, 10, 300
"""Memory, and CPU-seconds and seconds of a clock, that a command may take."""
WELL = ("read", "clean error")
OUTCOMES = (*WELL, "traceback", "over limits", "half written", "wrong output")
SMALL = 150
LOADED = (
    *("matplotlib.backends.backend_agg", "ndx_sbtt", "torch._dynamo", "hdmf_zarr"),
    *(f"nwb_sbtt.{name}" for name in ("cli.main", "pipeline", "evaluate.baselines", "nlb.modelling", "nlb.scoring")),
)
"""Modules that the commands import."""


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    case: int
    subject: str
    damage: str
    command: str
    outcome: str
    seconds: float
    told: str


def main() -> None:
    parser = options(__doc__, small=f"{SMALL} cases")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat one case, and show what it printed")
    parser.add_argument("--recorded", type=Path, default=Path(__file__).parents[2] / "shared" / "realdata")
    parser.add_argument("--failures", type=Path, help="where to add what failed, one case a line")
    arguments = parser.parse_args()
    _load()
    with tempfile.TemporaryDirectory() as folder:
        subjects = make_subjects(Path(folder) / "subjects", arguments.recorded, in_process=_in_process)
        gc.freeze()  # so that a collection in a child does not copy what it shares with this process
        if arguments.only is not None:
            for result in run_case(subjects, arguments.seed, arguments.only, Path(folder)):
                print(result.command, result.damage, result.outcome, result.told, sep="\n  ")
            return
        n_cases = SMALL if arguments.small else arguments.cases
        results: list[Result] = []
        for case in range(n_cases):
            for result in run_case(subjects, arguments.seed, case, Path(folder)):
                results.append(result)
                if result.outcome not in WELL:
                    _tell(result, arguments.failures)
    report(arguments, summary(results), lambda: _figure(results))
    sys.exit(any(result.outcome not in WELL for result in results))


def _tell(failure: Result, path: Path | None) -> None:
    last = failure.told.strip().splitlines()[-1:]
    print(f"case {failure.case}: {failure.command}: {failure.damage}: {failure.outcome}: {last}", flush=True)
    if path:
        with path.open("a") as file:
            file.write(json.dumps(asdict(failure)) + "\n")


def summary(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Count outcomes by subject, with all subjects in the last row."""
    rows = []
    for name in [*dict.fromkeys(result.subject for result in results), "all"]:
        some = [result for result in results if name in (result.subject, "all")]
        counts = Counter(result.outcome for result in some)
        rows.append({"file": name, "commands": len(some), **{outcome: counts[outcome] for outcome in OUTCOMES}})
    return rows


def run_case(subjects: Sequence[Subject], seed: int, case: int, folder: Path) -> list[Result]:
    """Damage a copy of one subject, and run its commands in a process of its own; all of a case if it is well."""
    import numpy as np

    random = np.random.default_rng([seed, case])
    weights = np.array([subject.weight for subject in subjects])
    subject = subjects[int(random.choice(len(subjects), p=weights / weights.sum()))]
    work = Path(tempfile.mkdtemp(dir=folder, prefix=f"case-{case}-"))
    told = work / "told"
    try:
        ended = _in_process(lambda: _run_commands(subject, random, work, told), out=work / "out", err=work / "err")
        lines = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
        results = [Result(case, subject.name, **line) for line in lines if "outcome" in line]
        if ended != 0:
            begun = lines[-1] if lines else {"damage": "?", "command": "?"}
            outcome = "over limits" if ended in (-signal.SIGXCPU, -signal.SIGKILL) else "traceback"
            printed = (work / "err").read_text(errors="replace")
            results.append(
                Result(
                    case,
                    subject.name,
                    begun["damage"],
                    begun["command"],
                    outcome,
                    0.0,
                    f"ended with {ended}\n{printed}",
                )
            )
        return results
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run_commands(subject: Subject, random: Any, work: Path, told: Path) -> None:
    """Run the commands of a case; each is announced before it starts, and its outcome told after it."""
    files = work / "files"
    shutil.copytree(subject.folder, files)
    os.chdir(files)
    damage = subject.damage(files, random)
    sources = _digests(files, subject.kept)
    for command in subject.commands(damage, random):
        results = work / "results"
        results.mkdir()
        with told.open("a") as file:
            file.write(json.dumps({"damage": damage, "command": command.text}) + "\n")
        used = resource.getrusage(resource.RUSAGE_SELF)
        before = used.ru_utime + used.ru_stime
        resource.setrlimit(resource.RLIMIT_CPU, (int(before) + SECONDS + 1, resource.RLIM_INFINITY))
        for stream in (1, 2):
            os.ftruncate(stream, 0)
            os.lseek(stream, 0, os.SEEK_SET)
        outcome, reason = "read", ""
        try:
            code = command.run(results)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = used.ru_utime + used.ru_stime - before
        printed = (work / "err").read_text(errors="replace")
        if used.ru_maxrss * 1024 > BYTES or seconds > SECONDS:
            outcome, reason = "over limits", f"{used.ru_maxrss / 1024:.0f} MB, {seconds:.1f} s"
        elif code == 2:
            outcome, reason = "clean error", printed
            errors = [line for line in printed.splitlines() if line.startswith("error: ")]
            if len(errors) != 1 or printed.splitlines()[-1] != errors[0] or "Traceback" in printed:
                outcome = "traceback"
            elif errors[0].startswith("error: not enough memory"):
                outcome = "over limits"
            elif list(results.iterdir()):
                outcome, reason = "half written", f"left {[path.name for path in results.iterdir()]} after {errors[0]}"
        elif code:
            outcome, reason = "traceback", f"exit code {code}\n{printed}"
        elif problem := command.check((work / "out").read_text(errors="replace"), results):
            outcome, reason = "wrong output", problem
        if outcome != "traceback" and _digests(files, subject.kept) != sources:
            outcome, reason = "half written", "the sources changed"
        result = {"damage": damage, "command": command.text, "outcome": outcome, "seconds": seconds, "told": reason}
        with told.open("a") as file:
            file.write(json.dumps(result) + "\n")
        if code and command.decides:
            break
        shutil.rmtree(results)


def _digests(folder: Path, kept: str) -> dict[str, str]:
    """Content of the files of a folder that no command may change."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(kept))
        if path.is_file()
    }


def _in_process(action: Callable[[], None], *, out: Path | None = None, err: Path | None = None) -> int:
    """Do something in a forked process within the limits; returns its exit code, or the signal as a negative number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for descriptor, path in ((1, out), (2, err)):
                if path is not None:
                    os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            action()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    descriptor = os.pidfd_open(child)
    try:
        if not select.select([descriptor], [], [], WALL)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _load() -> None:
    """Load what the commands need, so that no case has to, with one thread: a fork inherits no others."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in LOADED:
        importlib.import_module(name)
    import torch

    from tests.support.shortcuts import shorten_for_good

    torch.set_num_threads(1)
    # Results are validated; reports have no figures, and baselines few iterations: no damage reaches these.
    shorten_for_good("io/")


def _figure(results: Sequence[Result]) -> Any:
    rows = summary(results)[:-1]
    figure = canvas(7, 0.4 * len(rows) + 1.5)
    axes = figure.add_subplot()
    left = [0] * len(rows)
    for outcome in OUTCOMES:
        counts = [row[outcome] for row in rows]
        axes.barh([row["file"] for row in rows], counts, left=left, label=outcome)
        left = [start + count for start, count in zip(left, counts, strict=True)]
    axes.set_xlabel("commands")
    axes.legend(frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    main()
