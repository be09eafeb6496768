"""Checkpoints: tensors and progress of training in one safetensors file, replaced by an atomic write.

Progress is stored in the header of that file, not in a second file, so that a kill cannot leave two that disagree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.fileerrors import FileErrors, check_is_file

FORMAT = 3
"""Version of the format of run folders; others are refused."""
LAST, BEST, LOG = "last.safetensors", "best.safetensors", "log.jsonl"
"""Files of training in a run folder: state of the last saved epoch, weights of the best epoch, numbers of every epoch."""
DYNAMICS = "dynamics.safetensors"
"""File of the system that was learned in training (`FitConfig.dynamics`)."""


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
    log_sha256 : str
        Digest of the numbers of all epochs so far, see `nwb_sbtt.train.loop.log_digest`.
    first_epochs : int
        Epochs after which a system was learned, and simulated trials were mixed in; 0 before that.
    """

    epoch: Annotated[int, Field(ge=0)] = 0
    step: Annotated[int, Field(ge=0)] = 0
    best_epoch: Annotated[int, Field(ge=0)] = 0
    best_score: float = float("inf")
    seconds: Annotated[float, Field(ge=0)] = 0.0
    finished: str = ""
    log_sha256: str = ""
    first_epochs: Annotated[int, Field(ge=0)] = 0


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
    _write(path, tensors, {"progress": json.dumps(asdict(progress))})


def save_record(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors with a record of what they are, by an atomic write.

    Parameters
    ----------
    path : Path
    tensors : mapping of name to tensor
    record : mapping
        JSON-safe.

    Raises
    ------
    FileError
        If the disk is full or not writable; no temporary file is left.
    """
    _write(path, tensors, {"record": json.dumps(record, allow_nan=False)})


def load_record(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_record` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tensors : dict of name to tensor
    record : dict

    Raises
    ------
    FileError
        If the file is missing or damaged.
    TrainingError
        If it is of another format.
    """
    tensors, header = _verified(path, content="record")
    return tensors, dict(json.loads(header["record"]))


def _write(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, str]) -> None:
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"format": str(FORMAT), **content, "tensors_sha256": digest(stored)}
    with atomic_write(path, suffix="") as temporary, temporary.open("wb") as handle:
        handle.write(serialise(stored, metadata={**header, "header_sha256": _header_digest(header)}))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of tensors: of their names, types, shapes and bytes, in the order of the names.

    Parameters
    ----------
    tensors : mapping of name to tensor

    Returns
    -------
    str
        Hexadecimal digest; the same for equal tensors, whatever file they are in.
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


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
    FileError
        If the file is missing or damaged.
    TrainingError
        If it is of another format.
    """
    tensors, header = _verified(path)
    return tensors, _progress(header, path)


def read_digest(path: Path) -> str:
    """Return the digest of the tensors of a checkpoint, after comparing it with them.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        As `digest` returns it.

    Raises
    ------
    FileError
        If the file is missing or damaged.
    TrainingError
        If it is of another format.
    """
    _, header = _verified(path)
    return header["tensors_sha256"]


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a model.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place.
    tensors : mapping of name to tensor
    path : Path
        Their file, for the error.

    Raises
    ------
    TrainingError
        If names or shapes are not those of the model.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if different := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = different[0]
        raise TrainingError(
            f"{str(path)!r} has the weights of another version of the model: {len(different)} tensors differ, the "
            f"first is {name!r}, of shape {found.get(name)} in the file and {expected.get(name)} in the model; fit "
            "again in a new folder"
        )
    module.load_state_dict(dict(tensors))


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
    FileError
        If the file is missing or damaged.
    TrainingError
        If it is of another format.
    """
    with _opened(path) as handle:
        return _progress(_header(handle, path), path)


def _verified(path: Path, *, content: str = "progress") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, on the CPU, and header of a file whose digest is that of the tensors."""
    with _opened(path) as handle:
        header = _header(handle, path, content=content)
        # Cloned: slices of a mapped file are not aligned, and the last bits of the optimiser's results depend on alignment.
        tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
    if digest(tensors) != header["tensors_sha256"]:
        raise _damaged(path, "the digest of its tensors is different from the one stored with them")
    return tensors, header


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    damaged = FileErrors(
        path, what="the training state", hint="restore the run folder from a copy, or fit again in a new one"
    )
    with damaged:
        check_is_file(path)
        with safe_open(path, framework="pt") as handle:
            yield handle


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


def _header(handle: Any, path: Path, *, content: str = "progress") -> dict[str, str]:
    header: dict[str, str] = dict(handle.metadata() or {})
    if header.get("format") != str(FORMAT):
        raise TrainingError(
            f"{str(path)!r} has format {header.get('format')}, but this version reads format {FORMAT}; fit again in a "
            "new folder"
        )
    seal = header.pop("header_sha256", "")
    if set(header) != {"format", content, "tensors_sha256"} or _header_digest(header) != seal:
        raise _damaged(path, "the digest of its header is different from the one stored with it")
    return header


def _header_digest(header: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _progress(header: Mapping[str, str], path: Path) -> Progress:
    try:
        return TypeAdapter(Progress).validate_json(header["progress"])
    except ValidationError as error:
        raise _damaged(path, f"its record of the progress is not valid: {error.errors()[0]['msg']}") from None


def _damaged(path: Path, reason: str) -> FileError:
    return FileError(
        f"the training state {str(path)!r} is damaged: {reason}; restore the run folder from a copy, or fit again in a new one"
    )
