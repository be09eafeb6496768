"""Device and threads of torch, as a fit's settings ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nwb_sbtt.config import FitConfig
from nwb_sbtt.errors import ConfigError


def device_of(config: FitConfig) -> str:
    """Resolve the device of the settings.

    Parameters
    ----------
    config : FitConfig

    Returns
    -------
    str
        As torch names it: "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    ConfigError
        If this machine does not have the device.
    """
    kind, _, number = config.device.partition(":")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if n_gpus else "cpu"
    if (kind == "cuda" and not n_gpus) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise ConfigError(
            f"device is {config.device!r}, but this machine has no GPU that torch can use; leave it at 'auto', or install the "
            "torch build for your GPU"
        )
    if number and int(number) >= n_gpus:
        raise ConfigError(
            f"device is {config.device!r}, but this machine has {n_gpus} GPU{'s'[: n_gpus != 1]}, counted from cuda:0"
        )
    return config.device


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads during the block, and as many as before after it.

    Parameters
    ----------
    number : int
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
