"""Batch scripts for Slurm: what they ask for, what they do at the time limit, and a real job where Slurm is installed."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest

from nwb_sbtt.errors import ClusterError, ConfigError
from nwb_sbtt.runs import slurm
from nwb_sbtt.runs.comparison import compare_runs
from nwb_sbtt.runs.slurm import Allocation, batch_script, submit
from tests.support.commands import SMALL, call, recording

COMMAND = ["fit-all", "my recordings", "--out", "fits"]


def executable(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_script_asks_for_what_was_said_and_quotes_the_command(tmp_path):
    allocation = Allocation(
        "2-00:00:00", 4, 8, None, "64G", "mine", "gpu", "lab", ("--constraint=a100",), ("module load cuda",)
    )
    lines = batch_script(COMMAND, allocation, folder=tmp_path).splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert asked == {
        "--job-name=mine",
        "--output=mine-%j.log",
        f"--chdir={tmp_path}",
        "--partition=gpu",
        "--account=lab",
        "--nodes=4",
        "--time=2-00:00:00",
        "--mem=64G",
        "--ntasks-per-node=1",
        "--exclusive",
        "--gpus-per-node=8",
        "--signal=B:USR1@120",
        "--requeue",
        "--open-mode=append",
        "--constraint=a100",
    }
    assert "module load cuda" in lines
    assert "    nwb-sbtt fit-all 'my recordings' --out fits --address \"$first:$port\" &" in lines
    few = batch_script(COMMAND, Allocation("30", cpus=4), folder=tmp_path)
    assert "--cpus-per-task=4" in few and "--exclusive" not in few and "gpu" not in few and "#SBATCH --mem" not in few


def test_a_script_is_shell_that_bash_understands(tmp_path):
    script = batch_script(COMMAND, Allocation("30"), folder=tmp_path)
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert checked.returncode == 0 and not checked.stderr


@pytest.mark.parametrize("time_limit", ["12 hours", "1:2:3:4", "", "12:0:0"])
def test_a_time_that_slurm_does_not_take_is_refused(time_limit, tmp_path):
    with pytest.raises(ConfigError, match="expected a time in the format of Slurm"):
        batch_script(COMMAND, Allocation(time_limit), folder=tmp_path)


def test_what_would_fail_in_the_queue_is_refused_before(monkeypatch, capsys):
    def refused(*words):
        assert call(monkeypatch, "slurm", "--time", "30", *words) == 2
        return capsys.readouterr().err

    assert "omit --jobs" in refused("--", *COMMAND, "--jobs", "3")
    assert "omit --address" in refused("--", *COMMAND, "--address=auto")
    assert "No such option: --outt" in refused("--", "fit-all", "recordings", "--outt", "fits")
    assert "'fit' cannot be spread over nodes" in refused("--", "fit", "a.nwb", "--run-dir", "run")
    assert "expected an option of sbatch" in refused("--sbatch", "a100", "--", *COMMAND)


def test_the_command_prints_the_script_or_hands_it_to_slurm(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "slurm", "--time", "30", "--gpus", "2", "--", *COMMAND) == 0
    printed = capsys.readouterr()
    assert (
        printed.out.startswith("#!/bin/bash\n#SBATCH --job-name=nwb-sbtt\n") and f"--chdir={tmp_path}\n" in printed.out
    )
    assert "--gpus-per-fit 1" in printed.err
    executable(tmp_path / "sbatch", "cat > given.sh; echo Submitted batch job 7")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert call(monkeypatch, "slurm", "--time", "30", "--submit", "--", *COMMAND) == 0
    assert capsys.readouterr().out == "Submitted batch job 7\n"
    assert (tmp_path / "given.sh").read_text() == batch_script(COMMAND, Allocation("30"), folder=tmp_path)
    executable(tmp_path / "sbatch", "echo 'no such partition' >&2; exit 1")
    with pytest.raises(ClusterError, match="sbatch rejected the job: no such partition"):
        submit("#!/bin/bash")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ClusterError, match="Slurm is not on this machine"):
        submit("#!/bin/bash")


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Start a script whose Slurm and Ray only note what they are asked for, and whose command is `body`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    executable(programs / "scontrol", f'if [ "$1" = show ]; then echo node-1; else echo "$@" >> {tmp_path}/asked; fi')
    executable(
        programs / "srun", f'echo "$@" > {tmp_path}/step; while [ "$1" != -- ]; do shift; done; shift; exec "$@"'
    )

    def start(body, srun=None):
        if srun is not None:
            executable(programs / "srun", srun)
        executable(programs / "nwb-sbtt", body)
        allocation = Allocation("30", gpus=2, setup=(f"export PATH={programs}:$PATH",))
        script = tmp_path / "job.sh"
        script.write_text(batch_script(COMMAND, allocation, folder=tmp_path))
        names = {
            "SLURM_JOB_ID": "12",
            "SLURM_JOB_NODELIST": "node-1",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_ON_NODE": "8",
        }
        return subprocess.Popen(["bash", script], env={**os.environ, **names, "TMPDIR": str(tmp_path)}, cwd=tmp_path)

    return start


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


def test_at_the_time_limit_the_command_is_asked_to_save_and_the_job_is_queued_again(run_script, tmp_path):
    job = run_script("trap 'touch saved; exit 75' USR1; touch begun; while true; do sleep 0.05; done")
    wait_for(tmp_path / "begun")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 75
    assert (tmp_path / "saved").exists() and (tmp_path / "asked").read_text() == "requeue 12\n"
    step = (tmp_path / "step").read_text()
    assert "ray symmetric-run --address node-1:20120 --min-nodes 1 --num-cpus=8 --num-gpus=2 -- bash -c" in step
    assert step.endswith("nwb-sbtt fit-all my recordings --out fits --address node-1:20120\n")
    assert not list(tmp_path.glob("tmp.*"))


def test_a_command_that_does_not_end_in_time_is_queued_again_without_it(run_script, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.2)
    job = run_script("trap '' USR1; touch begun; while [ ! -e asked ]; do sleep 0.05; done; exit 137")
    wait_for(tmp_path / "begun")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 137
    assert set((tmp_path / "asked").read_text().splitlines()) == {"requeue 12"}


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_ends_by_itself_is_not_queued_again(run_script, tmp_path, code):
    assert run_script(f"exit {code}").wait(60) == code
    assert not (tmp_path / "asked").exists()


def test_a_ray_that_did_not_start_is_no_success(run_script, tmp_path, capfd):
    assert run_script("touch begun", srun="exit 0").wait(60) == 1
    assert not (tmp_path / "begun").exists()
    assert "the command was not run" in capfd.readouterr().err


def test_a_command_that_is_done_when_it_is_asked_to_save_is_not_queued_again(run_script, tmp_path):
    job = run_script("trap 'exit 0' USR1; touch begun; while true; do sleep 0.05; done")
    wait_for(tmp_path / "begun")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0 and not (tmp_path / "asked").exists()


CLUSTER = """
dd if=/dev/urandom of=munge.key bs=1024 count=1 status=none
chmod 400 munge.key
munged --key-file=$PWD/munge.key --socket=$PWD/munge.socket --pid-file=$PWD/munge.pid --log-file=$PWD/munge.log \\
    --seed-file=$PWD/munge.seed --force
cat > slurm.conf <<END
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
AuthInfo=socket=$PWD/munge.socket
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
StateSaveLocation=$PWD/state
SlurmdSpoolDir=$PWD/spool
SlurmctldPidFile=$PWD/slurmctld.pid
SlurmdPidFile=$PWD/slurmd.pid
SlurmctldLogFile=$PWD/slurmctld.log
SlurmdLogFile=$PWD/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
MpiDefault=none
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=all Nodes=ALL Default=YES
END
mkdir -p state spool
export SLURM_CONF=$PWD/slurm.conf
slurmctld -f slurm.conf
slurmd -f slurm.conf
until sinfo -h -o %T | grep -q idle; do sleep 0.5; done
sbatch job.sh
until ls fits/runs/*/last.safetensors >/dev/null 2>&1; do squeue -h | grep -q .; sleep 0.5; done
tail -n 1 fits/runs/a/log.jsonl > before.json
scancel --signal=USR1 --batch 1
until squeue -h -o %T | grep -q PENDING; do squeue -h | grep -q .; sleep 0.5; done
scontrol update JobId=1 StartTime=now
while squeue -h | grep -q .; do sleep 0.5; done
scontrol show job 1 > job.txt
"""
"""A Slurm of one node, a job whose time is said to be over once a state is saved, and its end after the restart."""
ISOLATED = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""Processes of their own: a job ends with `ray stop`, which ends all of Ray that it sees."""


@pytest.fixture
def isolated():
    """Skip where Slurm is not installed, or cannot have processes of its own."""
    if missing := [name for name in ("slurmctld", "slurmd", "munged", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)")
    if os.getuid() != 0 or subprocess.run([*ISOLATED, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a Slurm of its own needs root and a namespace of processes (unshare --pid)")


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("isolated")
def test_a_job_of_slurm_is_saved_queued_again_and_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "recordings").mkdir()
    recording(tmp_path / "recordings" / "a.nwb")
    monkeypatch.chdir(tmp_path)
    settings = [*SMALL, "--set", "train.epochs=200"]
    setup = f"export PYTHONPATH={':'.join(path for path in sys.path if path)} OMP_NUM_THREADS=1"
    words = ["slurm", "--time", "30", "--cpus", "1", "--setup", setup]
    assert call(monkeypatch, *words, "--", "fit-all", "recordings", "--out", "fits", *settings) == 0
    (tmp_path / "job.sh").write_text(capsys.readouterr().out)
    done = subprocess.run(
        [*ISOLATED, "bash", "-euc", CLUSTER], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    log = "".join(path.read_text() for path in tmp_path.glob("nwb-sbtt-*.log"))
    assert done.returncode == 0, done.stderr + log
    job = (tmp_path / "job.txt").read_text()
    assert "JobState=COMPLETED" in job and "Restarts=1" in job, job + log
    assert "stopped by SIGUSR1 after saving the state" in log
    (row,) = compare_runs([tmp_path / "fits"]).rows
    assert row.state == "finished" and row.fit["epochs"] == 200 and (tmp_path / "before.json").read_text()
