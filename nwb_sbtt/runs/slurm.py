"""Batch scripts for Slurm: one command on all nodes of a job, saved and queued again at the time limit."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nwb_sbtt.errors import ClusterError, ConfigError

BEFORE = 120
"""Seconds before the time limit at which the command is asked to save its state,"""
PATIENCE = 90
"""and seconds that it has for that, before the job is queued again without waiting for it."""
TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}")
"""Times as Slurm takes them: minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on."""


@dataclass(frozen=True)
class Allocation:
    """What a job asks Slurm for.

    Parameters
    ----------
    time : str
        Time limit, as Slurm takes it.
    nodes : int
    gpus : int
        On each node.
    cpus : int or None
        On each node; None asks for whole nodes.
    memory : str or None
        On each node, such as "64G".
    name : str
        Of the job, and of its log.
    partition, account : str or None
    others : tuple of str
        Further options of sbatch, such as "--constraint=a100".
    setup : tuple of str
        Lines of shell before the command, such as "module load cuda".
    """

    time: str
    nodes: int = 1
    gpus: int = 0
    cpus: int | None = None
    memory: str | None = None
    name: str = "nwb-sbtt"
    partition: str | None = None
    account: str | None = None
    others: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


def batch_script(command: Sequence[str], allocation: Allocation, *, folder: Path) -> str:
    """Write the batch script of a command that uses a Ray cluster.

    Parameters
    ----------
    command : sequence of str
        Words of `nwb-sbtt` without that name: "search" or "fit-all" with its arguments.
    allocation : Allocation
    folder : Path
        Where the command is run; relative paths in it start there.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If the time is not as Slurm takes it, an option is none of sbatch, or the command says itself where it runs.
    """
    _check(command, allocation)
    options = [
        f"--job-name={allocation.name}",
        f"--output={allocation.name}-%j.log",
        f"--chdir={folder}",
        *(f"--{name}={value}" for name, value in _named(allocation) if value is not None),
        "--ntasks-per-node=1",
        "--exclusive" if allocation.cpus is None else f"--cpus-per-task={allocation.cpus}",
        *([f"--gpus-per-node={allocation.gpus}"] if allocation.gpus else []),
        f"--signal=B:USR1@{BEFORE}",
        "--requeue",
        "--open-mode=append",
        *allocation.others,
    ]
    lines = "\n".join(f"#SBATCH {option}" for option in options)
    setup = "\n".join([f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH", *allocation.setup])
    gpus = f" --num-gpus={allocation.gpus}" if allocation.gpus else ""
    return f"""#!/bin/bash
{lines}

# Ray is started on all nodes, and the command is run on the first. {BEFORE} s before the time limit Slurm sends SIGUSR1: the
# command saves its state and ends, the job is queued again, and the same command resumes.

{setup}
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_worker_niceness=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_TOKEN

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Another port after each restart, because processes of the last one may still be ending.
port=$((20000 + (10 * SLURM_JOB_ID + ${{SLURM_RESTART_COUNT:-0}}) % 10000))
pid_file=$(mktemp)

srun --cpu-bind=none ray symmetric-run --address "$first:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \\
    --num-cpus="$SLURM_CPUS_ON_NODE"{gpus} -- \\
    bash -c 'echo $$ > "$0" && exec "$@"' "$pid_file" \\
    {shlex.join(["nwb-sbtt", *command])} --address "$first:$port" &
step=$!

requeue=no
save_and_requeue() {{
    requeue=yes
    kill -USR1 "$(cat "$pid_file")"
    (sleep {PATIENCE} && scontrol requeue "$SLURM_JOB_ID") &
    too_late=$!
}}
trap save_and_requeue USR1

# The signal ends `wait`, not the step.
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do
    wait "$step"
    code=$?
done
if [ ! -s "$pid_file" ]; then
    echo "Ray could not be started: the command was not run" >&2
    code=1
fi
rm -f "$pid_file"
if [ "$requeue" = yes ]; then
    kill "$too_late"
    [ "$code" -eq 0 ] || scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def submit(script: str) -> str:
    """Hand a batch script to Slurm.

    Parameters
    ----------
    script : str

    Returns
    -------
    str
        What sbatch answers: the number of the job.

    Raises
    ------
    ClusterError
        If there is no sbatch on this machine, or Slurm refuses.
    """
    try:
        answer = subprocess.run(["sbatch"], input=script, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClusterError(
            f"cannot run sbatch ({error.strerror}): Slurm is not on this machine; leave out --submit to print the script"
        ) from None
    if answer.returncode:
        raise ClusterError(f"sbatch rejected the job: {' '.join(answer.stderr.split())}")
    return answer.stdout.strip()


def _named(allocation: Allocation) -> list[tuple[str, str | int | None]]:
    return [
        ("partition", allocation.partition),
        ("account", allocation.account),
        ("nodes", allocation.nodes),
        ("time", allocation.time),
        ("mem", allocation.memory),
    ]


def _check(command: Sequence[str], allocation: Allocation) -> None:
    if not TIME.fullmatch(allocation.time):
        raise ConfigError(
            f"--time is {allocation.time!r}; expected a time in the format of Slurm, such as 12:00:00 or 2-00:00:00"
        )
    if wrong := [option for option in allocation.others if not option.startswith("-")]:
        raise ConfigError(f"--sbatch is {wrong[0]!r}; expected an option of sbatch, such as --constraint=a100")
    given = {word.partition("=")[0] for word in command}
    if own := sorted(given & {"--address", "--jobs"}):
        raise ConfigError(
            f"omit {own[0]}: the job starts its own cluster, and the number of fits follows from its nodes"
        )
