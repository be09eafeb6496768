"""Training state on disk: tensors and the numbers beside them in one safetensors file, replaced in one rename.

The numbers ride in the file's own header rather than in a second file, so that no kill can leave two that disagree.
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
"""Version of run folders; another one is refused."""
LAST, BEST, LOG = "last.safetensors", "best.safetensors", "log.jsonl"
"""What training keeps in a run folder: state of the last epoch saved, weights of the best one, numbers of every epoch."""


@dataclass(frozen=True)
class Progress:
    """How far training is: epochs done, best score and its epoch, seconds spent, and why it ended, if it has."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: float = float("inf")
    seconds: float = 0.0
    finished: str = ""


def save(path: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Write a state; a reader sees the old one or the new one, never a part.

    Raises
    ------
    FileError
        If the disk is full or not writable; nothing half written stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    note = {"format": str(FORMAT), "progress": json.dumps(asdict(progress))}
    try:
        with temporary.open("wb") as handle:
            handle.write(serialise(whole, metadata=note))
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FileError(f"cannot write the training state {str(path)!r}: {error}") from None


def load(path: Path) -> tuple[dict[str, Tensor], Progress]:
    """Read a state.

    Raises
    ------
    TrainingError
        If the file is damaged or of another format.
    """
    with _opened(path) as handle:
        # Cloned, because slices of a mapped file are not aligned, and the optimiser's last bits depend on alignment.
        tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
        return tensors, _progress(handle.metadata() or {}, path)


def read_progress(path: Path) -> Progress:
    """Read how far training was when a state was written, and none of its tensors.

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
    """Optimiser state as flat named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{key}.{names[i]}": t for i, entry in state.items() for key, t in entry.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """Put flat named tensors back into an optimiser."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, key, parameter = name.split(".", 2)
            state.setdefault(names.index(parameter), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _progress(note: dict[str, str], path: Path) -> Progress:
    if note.get("format") != str(FORMAT):
        raise TrainingError(f"{str(path)!r} has format {note.get('format')}, this version reads {FORMAT}")
    return Progress(**json.loads(note["progress"]))
