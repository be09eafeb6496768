"""A search on a cluster of two nodes that loses a node, and then the process that drives it; and what a search costs.

`kills`: two nodes of Ray on loopback, a CPU each; a population on the demo's data (the Lorenz task of `accuracy.py` with 5 of
29 neurons observed per bin). A node is killed (`kill -9`) once all members have done a generation, the driver once they have
done half; the same command is given again. Every member has to do every generation once, as far as it was saved. The folder
is kept with --runs: look at `search.html` in it.

`overhead`: the same trials on Ray on this machine, and one after the other in this process, in CPU-seconds, since other
programs may run. `CPU-s of start` is what the driver, Ray and the two processes that train use before the first trial begins:
some 25 s, whatever the length of the search. `of services` is what the driver and Ray use from then on, until all trials have
ended. A trial that is trained in pieces reads its state, checks its data and writes its state each time: that is `more on Ray`,
for a piece. `overhead at 60 s` is extrapolated to pieces of a minute: that time does not grow with a piece's length, and
services grow with it.

    python benchmarks/search_cluster.py --runs FOLDER --json search_cluster.json
    python benchmarks/search_cluster.py --small
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from fits import timed_fit
from machine import apart, options, save, show
from processes import TRIAL, descendants

import nwb_sbtt as sb
from nwb_sbtt.config import FitConfig, ReadConfig, Trials, override
from nwb_sbtt.searching.record import RECORD
from nwb_sbtt.searching.space import settings_with
from nwb_sbtt.simulate.tasks import Task, write_task

OBSERVED, NODES = 5, 2
READ = ReadConfig(series=("units",), cut=Trials(event="start_time", start=0.0, stop=1.0))
PROGRAMS = Path(sys.executable).parent
PATIENCE = 3600.0
"""Seconds after which a search that does not go on is given up."""


def main() -> None:
    """Do both parts and print their rows."""
    parser = options(__doc__, small="few data and epochs", figure=False)
    parser.add_argument("--parts", nargs="+", default=["kills", "overhead"], choices=["kills", "overhead"])
    parser.add_argument(
        "--members", type=int, default=8, help="of the population; trials of `overhead` are half as many"
    )
    parser.add_argument("--conditions", type=int, default=13, help="of the simulated recording, of 24 trials each")
    parser.add_argument("--epochs", type=int, default=16, help="of each fit")
    parser.add_argument("--pieces", type=int, default=8, help="generations, and pieces of each trial")
    parser.add_argument("--runs", type=Path, help="where the folders of the searches are kept; must be empty")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.members, arguments.conditions, arguments.epochs, arguments.pieces = 4, 3, 12, 6
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        task = Task("lorenz", None, arguments.conditions, None, 1.0, "trial", 0)
        file = write_task(folder / "lorenz.nwb", task, observed_per_bin=OBSERVED, overwrite=True)
        parts: dict[str, Callable[..., dict[str, Any]]] = {"kills": kills, "overhead": overhead}
        rows = []
        for part in arguments.parts:
            rows.append({"part": part, **parts[part](file, folder / part, arguments)})
            show(rows[-1:])
    save(arguments.json, vars(arguments), rows)


def kills(file: Path, run_dir: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Search by a population, kill a node and then the driver, and give the command again."""
    generations, said = [1, max(2, arguments.pieces // 2)], run_dir.with_suffix(".txt")
    piece = -(-arguments.epochs // arguments.pieces)
    started = time.monotonic()
    with cluster() as (address, nodes, environment):
        command = _command(file, run_dir, arguments, "pbt", arguments.members, "--address", address)
        with said.open("a") as log:
            driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _wait(driver, lambda: min(_epochs(run_dir, arguments.members)) >= generations[0] * piece)
        _kill(nodes[1])
        node_lost = _epochs(run_dir, arguments.members)
        _wait(driver, lambda: min(_epochs(run_dir, arguments.members)) >= generations[1] * piece)
        driver.kill()
        driver.wait()
        driver_lost = _epochs(run_dir, arguments.members)
        time.sleep(5)  # in which Ray ends what the driver has left
        with said.open("a") as log:
            again = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    rows = _record(run_dir)["trials"]
    epochs = [[step[0] for step in row["steps"]] for row in rows]
    return {
        "members": len(rows),
        "nodes": NODES,
        "epochs when the node was lost": sum(node_lost),
        "when the driver was": sum(driver_lost),
        "in the end": sum(_epochs(run_dir, arguments.members)),
        "of": arguments.members * arguments.epochs,
        "trained twice, once saved": sum(len(each) - len(set(each)) for each in epochs),
        "weights taken over": sum(len(row.get("origins", ())) for row in rows),
        "exit code": again.returncode,
        "seconds": time.monotonic() - started,
    }


def overhead(file: Path, run_dir: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run random trials on Ray, and then the same trials one after the other in a process of their own."""
    trials = max(2, arguments.members // 2)
    command = _command(file, run_dir, arguments, "random", trials, "--at-once", "2")
    started, seconds = time.monotonic(), 0.0
    with run_dir.with_suffix(".txt").open("a") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
    used: dict[int, float] = {}
    start: dict[int, float] = {}
    at_start: dict[int, float] = {}
    while driver.poll() is None:
        if not seconds:
            for each in descendants():
                used[each.pid] = each.cpu_seconds
                if each.name.startswith(TRIAL):
                    start.setdefault(each.pid, each.cpu_seconds)
            if start and not at_start:
                at_start = dict(used)
            if all(row["state"] != "running" for row in _rows(run_dir, trials)):
                seconds = time.monotonic() - started
        time.sleep(0.2)
    if driver.returncode:
        raise RuntimeError(f"the search ended with {driver.returncode}: see {run_dir.with_suffix('.txt')}")
    alone, took = apart(_alone, file, run_dir)
    n = sum(len(row["steps"]) for row in _record(run_dir)["trials"])
    of_trials = sum(used[pid] for pid in start)
    before = sum(cpu for pid, cpu in at_start.items() if pid not in start)
    services = sum(used.values()) - of_trials - before
    a_piece = (of_trials - sum(start.values()) - alone) / n
    return {
        "trials": trials,
        "pieces": n,
        "CPU-s of start": before + sum(start.values()),
        "of trials": of_trials - sum(start.values()),
        "of services": services,
        "one after the other": alone,
        "CPU-s of a piece": alone / n,
        "more on Ray": a_piece,
        "overhead": (a_piece * n + services) / alone,
        "overhead at 60 s": a_piece / 60 + services / of_trials,
        "seconds, two at once": seconds,
        "seconds one after the other": took,
    }


def _alone(file: Path, run_dir: Path) -> tuple[float, float]:
    """Fit what a search has fitted, each trial in one piece; give CPU-seconds and seconds, without the first start."""
    content = _record(run_dir)
    ds = sb.read_nwb(file, READ)
    config = FitConfig.model_validate(content["fit"])
    with tempfile.TemporaryDirectory() as folder:
        timed_fit(ds, override(config, ["train.epochs=1", "train.patience=1"]), Path(folder) / "first")
        started, seconds = time.monotonic(), 0.0
        for row in content["trials"]:
            chosen = {} if row["seed"] is None else {"train.seed": row["seed"]}
            each = settings_with(config, {**chosen, **row["settings"]})
            seconds += timed_fit(ds, each, Path(folder) / str(row["trial"]))[1]
        return seconds, time.monotonic() - started


@contextmanager
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]], dict[str, str]]]:
    """Start nodes of Ray on loopback; give the address, the processes that started them, and the environment of a driver."""
    with socket.socket() as server, tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        server.close()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        # As where `nwb-sbtt` starts Ray itself.
        environment = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        start = [str(PROGRAMS / "ray"), "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
        head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={folder}"]
        nodes = []
        try:
            for words in (head, [f"--address={address}"]):
                with (Path(folder) / "nodes.txt").open("a") as log:
                    nodes.append(subprocess.Popen([*start, *words], env=environment, stdout=log, stderr=log))
                _wait_for_nodes(address, len(nodes), nodes[-1], environment)
            yield address, nodes, environment
        finally:
            for node in nodes:
                _kill(node)


def _wait_for_nodes(address: str, n: int, node: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
    """Wait until so many nodes belong to the cluster."""
    alive = "import ray,sys; ray.init(sys.argv[1], log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    for _ in range(60):
        if node.poll() is not None:
            raise RuntimeError(f"a node of Ray ended with {node.returncode}")
        told = subprocess.run(
            [sys.executable, "-c", alive, address], env=environment, capture_output=True, text=True, check=False
        )
        if told.returncode == 0 and int(told.stdout.split()[-1]) >= n:
            return
        time.sleep(1)
    raise RuntimeError(f"the cluster at {address} did not get {n} nodes: {told.stderr[-500:]}")


def _kill(node: subprocess.Popen[bytes]) -> None:
    """End all processes of a node at once, as a loss of its machine does."""
    for each in descendants(node.pid):
        try:
            os.kill(each.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    node.kill()
    node.wait()


def _command(
    file: Path, run_dir: Path, arguments: argparse.Namespace, strategy: str, trials: int, *words: str
) -> Sequence[str]:
    settings = {"train.epochs": arguments.epochs, "train.batch_size": 32, "search.pieces": arguments.pieces}
    return [
        str(PROGRAMS / "nwb-sbtt"),
        *("search", str(file), "--run-dir", str(run_dir), "--strategy", strategy, "--n-trials", str(trials)),
        *("--series", "units", "--trials", "start_time:0:1", *words),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
    ]


def _record(run_dir: Path) -> dict[str, Any]:
    path = run_dir / RECORD
    content: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {"trials": []}
    return content


def _rows(run_dir: Path, n: int) -> list[dict[str, Any]]:
    """Rows of all trials, those that have not begun among them."""
    rows = _record(run_dir)["trials"]
    return [*rows, *({"state": "running", "epoch": 0} for _ in range(n - len(rows)))]


def _epochs(run_dir: Path, n: int) -> list[int]:
    return [row.get("epoch", 0) for row in _rows(run_dir, n)]


def _wait(driver: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        if driver.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the search ended, or did not go on: exit code {driver.poll()}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
