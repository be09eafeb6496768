"""Memory that runs out, on the CPU or a GPU, as one error with what to make smaller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nwb_sbtt.errors import SbttError

_SAID = re.compile(r"can't allocate memory|not enough memory|out of memory|ALLOC_FAILED", re.IGNORECASE)
"""What torch says of it: of most devices, an allocation that failed is a RuntimeError like any other."""
_SIZE = re.compile(r"tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", re.IGNORECASE)


@contextmanager
def memory_errors(kind: type[SbttError], *, device: str, advice: str) -> Iterator[None]:
    """Turn allocations that failed into errors for users.

    Parameters
    ----------
    kind : type of SbttError
        Class of the error.
    device : str
        As torch names it.
    advice : str
        What to make smaller.

    Raises
    ------
    SbttError
        Of that class, if memory runs out in the block.
    """
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise kind(_message(error, device, advice)) from error
    except RuntimeError as error:
        if not _SAID.search(str(error)):
            raise
        raise kind(_message(error, device, advice)) from error


def _message(error: BaseException, device: str, advice: str) -> str:
    where = "this machine" if device == "cpu" else f"the device {device!r}"
    asked = _SIZE.search(str(error))
    size = f" ({_readable(asked[1], asked[2])} more were needed)" if asked else ""
    return f"{where} has not enough memory{size}: {advice}"


def _readable(number: str, unit: str) -> str:
    return f"{float(number) / 1e9:.3g} GB" if unit.lower() == "bytes" else f"{number} {unit}"
