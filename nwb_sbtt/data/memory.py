"""Memory: how much is available, compared with what data are going to take, before it is taken."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nwb_sbtt.errors import DataError

try:
    import resource
except ModuleNotFoundError:
    HAS_LIMITS = False
else:
    HAS_LIMITS = True

READING, READING_PARTIAL = 10.0, 21.0
"""Bytes that reading takes for one channel in one bin at its peak: value, mask, and a copy of both; with bins that were
observed in part the exposure too, and its share in double precision."""
FITTING, FITTING_OBSERVED = 12.0, 45.0
"""Bytes of a fit for each entry, and for each that was observed besides: tensors, masks, hidden entries, calibration."""
INFERENCE, ENSEMBLE = 40.0, 25.0
"""Bytes of inference for each entry, means and spreads of rates; and further ones where models are averaged."""
SCORING = 45.0
"""Bytes for each entry while a fit of one model is scored beside the baselines, one after the other, some trials at a time.

Measured as the rise of the resident set (VmHWM in /proc/self/status) over 400 trials × 250 bins × 100 units, model `conv`, on
Linux with torch 2.13 on the CPU: reading 5.4 where all was observed and 20.5 with obs_intervals that cut bins, fit 52,
inference 34 (of two models 53), scoring 42.5 (of two models 65). What a model needs for one minibatch, and some 200 MB of
a linear dynamical system, come on top and do not grow with the data."""
ENTRIES_AT_ONCE = 500_000
"""Entries from which anything in double precision is computed at once, so that it stays small beside the data."""
TABLE_ROW = 100.0
"""Bytes for each row of a table of trials."""
SPIKE = 8.0
"""Bytes of a spike time."""


def available_memory() -> int | None:
    """Return the bytes that this process can still take; None where the system does not tell.

    What the system can give without swapping, less where a container or a limit of the process allows less.
    """
    limits = [_of_system(), _of_container(), _of_process()]
    known = [limit for limit in limits if limit is not None]
    return max(0, min(known)) if known else None


def check_memory(n_entries: float, bytes_each: float, *, what: str, remedy: str) -> None:
    """Refuse what would take more memory than is available, before it is taken.

    Parameters
    ----------
    n_entries : float
    bytes_each : float
    what : str
        Of the error: "2.1e+09 entries (70000 trials × 750 bins × 40 units)".
    remedy : str
        What to try.

    Raises
    ------
    DataError
    """
    available, needed = available_memory(), n_entries * bytes_each
    if available is not None and needed > available:
        raise DataError(
            f"{what} need about {_gigabytes(needed)} of memory, but this machine has {_gigabytes(available)} "
            f"available; {remedy}"
        )


def check_rows(n_rows: int, table: str) -> None:
    """Refuse a table whose rows take more memory than is available, before a column of it is read.

    Parameters
    ----------
    n_rows : int
        As the file declares them.
    table : str
        Its name, for the error.

    Raises
    ------
    DataError
        If they do.
    """
    check_memory(n_rows, TABLE_ROW, what=f"{n_rows} rows of {table!r}", remedy="check whether the table is damaged")


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.3g} GB" if n_bytes < 1e12 else f"{n_bytes / 1e9:,.0f} GB"


def _of_system() -> int | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    if match is not None:
        return int(match[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_container() -> int | None:
    """What the process's control group leaves; its cache of files can be given back."""
    match = re.search(r"^0::(/.*)$", _text("/proc/self/cgroup"), re.MULTILINE)
    left: list[int] = []
    place = Path("/sys/fs/cgroup") / (match[1].lstrip("/") if match is not None else "")
    for folder in (place, *place.parents):
        most, used = _text(folder / "memory.max").strip(), _text(folder / "memory.current").strip()
        if most.isdigit() and used.isdigit():
            cached = re.search(r"^inactive_file (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
            left.append(int(most) - int(used) + (int(cached[1]) if cached is not None else 0))
        if folder == Path("/sys/fs/cgroup"):
            break
    return min(left, default=None)


def _of_process() -> int | None:
    if not HAS_LIMITS:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    match = re.search(r"^VmSize:\s+(\d+) kB", _text("/proc/self/status"), re.MULTILINE)
    return None if most == resource.RLIM_INFINITY else most - (int(match[1]) * 1024 if match is not None else 0)


def _text(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
