"""Processes that train one model together take the steps of one process that computes all batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import nwb_sbtt as sb
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.train.group import Group, join_group
from nwb_sbtt.train.trackers import Silent
from tests.support.commands import recording

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import nwb_sbtt as sb
from tests.train.test_group import config, days
fitted = sb.fit(days(), config(), run_dir=sys.argv[1], until=2)
fitted = sb.fit(days(), config(), run_dir=sys.argv[1])
print(fitted.checkpoint_sha256)
"""


COMMAND = """
from nwb_sbtt.cli.main import main
from tests.support.shortcuts import shorten_for_good
shorten_for_good()
main()
"""


def days():
    """Three days of the same dynamics, of other neurons each."""
    return {
        name: sb.simulate.lorenz(conditions=4, trials_per_condition=6, n_channels=6 + i, seed=i)
        for i, name in enumerate(("monday", "tuesday", "wednesday"))
    }


def config(**changes):
    settings = ["model.name=lfads", "train.epochs=4", "train.batch_size=5", "train.batches_per_step=2"]
    settings += ["model.factors=3", "model.generator=8", "model.encoder=8", "posterior_samples=2"]
    return sb.config.override(sb.FitConfig(), settings + [f"{name}={value}" for name, value in changes.items()])


def together(words, *, size=2):
    """Run a command in several processes, as torchrun starts them; gives their outputs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(size):
        env = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "MASTER_PORT": port}
        env |= {
            "MASTER_ADDR": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(words, env=env, cwd=ROOT, **pipes))
    outputs = [process.communicate(timeout=280) for process in processes]
    return [process.returncode for process in processes], outputs


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this build of torch has no gloo")
def test_two_processes_give_the_numbers_of_one_and_resume(tmp_path):
    codes, outputs = together([sys.executable, "-c", SCRIPT, str(tmp_path / "two")])
    assert codes == [0, 0], outputs
    assert len({output[0].splitlines()[-1] for output in outputs}) == 1
    one = sb.fit(days(), config(), run_dir=tmp_path / "one", tracker=Silent())
    two = load(tmp_path / "two")
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-5)
    for mine, other in zip(one.history, two.history, strict=True):
        np.testing.assert_allclose(
            [mine["train_loss"], mine["valid_loss"]], [other["train_loss"], other["valid_loss"]], rtol=1e-5
        )
    # Steps of two batches are others than steps of one.
    assert (
        two.history[0]["train_loss"]
        != sb.fit(
            days(), config(**{"train.batches_per_step": 1}), run_dir=tmp_path / "other", tracker=Silent()
        ).history[0]["train_loss"]
    )


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this build of torch has no gloo")
def test_the_command_writes_once_and_refuses_more_processes_than_batches(tmp_path):
    files = [str(recording(tmp_path / f"{name}.nwb", seed=i)) for i, name in enumerate(("a", "b"))]
    words = [sys.executable, "-c", COMMAND, "fit", *files, "--run-dir", str(tmp_path / "run")]
    words += ["--series", "units", "--trials", "start_time:0:1", "--set", "train.epochs=2", "--set", "model.factors=3"]
    codes, outputs = together([*words, "--out", str(tmp_path / "out")])
    assert codes == [2, 2] and "train.batches_per_step=2" in outputs[0][1]
    codes, outputs = together([*words, "--out", str(tmp_path / "out"), "--set", "train.batches_per_step=2"])
    assert codes == [0, 0], outputs
    assert outputs[1][0] == "" and "wrote" in outputs[0][0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_latents.nwb", "b_latents.nwb"]


def test_one_process_alone_is_a_group_of_one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    group = join_group(gpu=False)
    assert group == Group() and group.leads and list(group.share(range(5))) == [0, 1, 2, 3, 4]
    assert [list(Group(rank, 2).share(range(5))) for rank in (0, 1)] == [[0, 2, 4], [1, 3]]


def test_batches_of_a_step_are_averaged(tmp_path):
    """A step of all batches of an epoch goes down the gradient of all trials."""
    fitted = sb.fit(days(), config(**{"train.batches_per_step": 50}), run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.members[0].progress.step == 4
    with pytest.raises(ConfigError, match="batches_per_step"):
        config(**{"train.batches_per_step": 0})
