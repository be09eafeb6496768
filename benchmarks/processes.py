"""Processes that a benchmark has started, directly or not, as Linux describes them under /proc."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nwb_sbtt.atomic import write_text

TRIAL = "ray::ResourceTrainable"
"""What a process calls itself in which Ray runs the trials of a search."""
EVERY = 1.0
"""Seconds between two readings of the CPU time of processes."""


@dataclass(frozen=True)
class Running:
    """A process.

    Parameters
    ----------
    pid : int
    name : str
        What it calls itself.
    cpu_seconds : float
    """

    pid: int
    name: str
    cpu_seconds: float


def descendants(pid: int | None = None) -> list[Running]:
    """List what a process, by default this one, has started, directly or not."""
    parents: dict[int, int] = {}
    found: dict[int, Running] = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            name = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has ended
            continue
        number, ticks = int(place.name), int(fields[11]) + int(fields[12])
        parents[number] = int(fields[1])
        found[number] = Running(number, name, ticks / os.sysconf("SC_CLK_TCK"))
    below, level = [], {os.getpid() if pid is None else pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        below += [found[child] for child in level]
    return below


SPENT = "cpu_seconds.json"
"""Record of `metered`, in the folder of a search."""


@contextmanager
def metered(record: Path) -> Iterator[Callable[[], float]]:
    """Add up the CPU-seconds of the trials of searches, in a file by which a later process goes on.

    Yields a function that returns the CPU-seconds so far. What a process used in the second before its end is missed.
    """
    before = float(json.loads(record.read_text())) if record.exists() else 0.0
    seen: dict[int, float] = {}
    over = threading.Event()

    def read() -> float:
        for each in descendants():
            if each.name.startswith(TRIAL):
                seen[each.pid] = max(seen.get(each.pid, 0.0), each.cpu_seconds)
        spent = before + sum(seen.values())
        write_text(record, json.dumps(spent))
        return spent

    def watch() -> None:
        while not over.wait(EVERY):
            read()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: before + sum(seen.values())
    finally:
        over.set()
        thread.join()
        read()
