"""Checkpoints: tensors and progress of training in one safetensors file, replaced by an atomic write.

Progress is stored in the header of that file, not in a second file, so that a kill cannot leave two that disagree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from nwb_sbtt.errors import FileError, TrainingError

FORMAT = 2
"""Version of the format of run folders; others are refused."""
LAST, BEST, LOG = "last.safetensors", "best.safetensors", "log.jsonl"
"""Files of training in a run folder: state of the last saved epoch, weights of the best epoch, numbers of every epoch."""


@dataclass(frozen=True)
class Progress:
    """Progress of training.

    Parameters
    ----------
    epoch, step : int
        Epochs and optimiser steps done.
    best_epoch : int
    best_score : float
        Validation loss of the best epoch, in nats per scored entry.
    seconds : float
        Time spent, over all processes.
    finished : str
        Why training ended; empty while it is unfinished.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: float = float("inf")
    seconds: float = 0.0
    finished: str = ""


def save(path: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Write a checkpoint by an atomic write.

    Parameters
    ----------
    path : Path
    tensors : dict of name to tensor
        On any device.
    progress : Progress

    Raises
    ------
    FileError
        If the disk is full or not writable; no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"format": str(FORMAT), "progress": json.dumps(asdict(progress))}
    try:
        with temporary.open("wb") as handle:
            handle.write(serialise(stored, metadata=header))
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FileError(f"cannot write the training state {str(path)!r}: {error}") from None


def load(path: Path) -> tuple[dict[str, Tensor], Progress]:
    """Read a checkpoint.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tensors : dict of name to tensor
        On the CPU.
    progress : Progress

    Raises
    ------
    TrainingError
        If the file is damaged or of another format.
    """
    with _opened(path) as handle:
        # Cloned: slices of a mapped file are not aligned, and the last bits of the optimiser's results depend on alignment.
        tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
        return tensors, _progress(handle.metadata() or {}, path)


def read_progress(path: Path) -> Progress:
    """Read the progress of a checkpoint, without its tensors.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Progress

    Raises
    ------
    TrainingError
        If the file is damaged or of another format.
    """
    with _opened(path) as handle:
        return _progress(handle.metadata() or {}, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as handle:
            yield handle
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"cannot read the training state {str(path)!r}: {error}") from None


def pack_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Flatten the state of an optimiser.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    names : list of str
        Names of its parameters, in its order.

    Returns
    -------
    dict of name to tensor
        Under ``optimizer.KEY.PARAMETER``.
    """
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{key}.{names[i]}": t for i, entry in state.items() for key, t in entry.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """Load the state of an optimiser from the tensors that `pack_optimizer` returned.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Changed in place.
    names : list of str
        Names of its parameters, in its order.
    tensors : dict of name to tensor
        Others are ignored.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, key, parameter = name.split(".", 2)
            state.setdefault(names.index(parameter), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _progress(header: dict[str, str], path: Path) -> Progress:
    if header.get("format") != str(FORMAT):
        raise TrainingError(f"{str(path)!r} has format {header.get('format')}, this version reads {FORMAT}")
    return Progress(**json.loads(header["progress"]))
