"""Processes that train one model together: who they are, and what they add up.

`torchrun --nproc-per-node 2 --no-python nwb-sbtt fit …` starts them. Each holds all data and the same weights; the batches of a
step are shared out and their gradients added up, so that all take the same step. The first of them, the leader, writes.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.nn import Parameter

from nwb_sbtt.errors import ConfigError

STARTED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torchrun sets for each process."""
PATIENCE = timedelta(days=2)
"""For which processes wait for each other: the leader scores and writes alone."""


@dataclass(frozen=True)
class Group:
    """The processes that train one model together.

    Parameters
    ----------
    rank, size : int
        Number of this process, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, prints and scores."""
        return self.rank == 0

    def check_batches(self, batches_per_step: int) -> None:
        """Refuse more processes than batches in a step.

        Parameters
        ----------
        batches_per_step : int

        Raises
        ------
        ConfigError
        """
        if self.size > batches_per_step:
            plural = "es" if batches_per_step > 1 else ""
            raise ConfigError(
                f"{self.size} processes train together, but a step has {batches_per_step} batch{plural}; expected at "
                f"least one for each process: --set train.batches_per_step={self.size}"
            )

    def share(self, numbers: range) -> range:
        """Return those of some numbers that are this process's.

        Parameters
        ----------
        numbers : range
        """
        return numbers[self.rank :: self.size]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def add_up(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes.

        Parameters
        ----------
        values : Tensor
            Of the same shape in each.

        Returns
        -------
        Tensor
        """
        if self.size == 1:
            return values
        total = values.contiguous()
        distributed.all_reduce(total)
        return total

    def add_up_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Add up gradients over all processes, in place; what has none in any process is left without.

        Parameters
        ----------
        parameters : sequence of Parameter
            In the same order in each.
        """
        if self.size == 1:
            return
        device = parameters[0].device
        held = self.add_up(torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=device))
        reached = [p for p, number in zip(parameters, held.tolist(), strict=True) if number]
        for parameter in reached:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in reached if p.grad is not None]
        total = self.add_up(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(total, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def take_from_leader(self, tensors: Sequence[Tensor]) -> None:
        """Copy the leader's tensors into those of all processes.

        Parameters
        ----------
        tensors : sequence of Tensor
            In the same order and of the same shapes in each.
        """
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


def group() -> Group:
    """Return the group that this process is in; of one process, where it is in none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Group()
    return Group(distributed.get_rank(), distributed.get_world_size())


def join_group(*, gpu: bool) -> Group:
    """Join the processes that torchrun started together; this one stays in the group until it ends.

    Parameters
    ----------
    gpu : bool
        Whether they train on GPUs (nccl), or on CPUs (gloo).

    Returns
    -------
    Group
        Of one process, where torchrun started none or one.

    Raises
    ------
    ConfigError
        If this build of torch cannot join processes.
    """
    started = all(name in os.environ for name in STARTED_BY) and int(os.environ["WORLD_SIZE"]) > 1
    if not started or group().size > 1:
        return group()
    backend = "nccl" if gpu else "gloo"
    if not distributed.is_available() or not distributed.is_backend_available(backend):
        raise ConfigError(
            f"this build of torch has no {backend!r}, which is needed to train with several processes; install "
            "another build, or use one process"
        )
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group(backend, timeout=PATIENCE)
    # A group that was left cannot be joined again: its port may still be taken.
    atexit.register(distributed.destroy_process_group)
    return group()
