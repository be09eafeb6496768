"""Things added to a copy of a recording, and what makes a file no valid NWB file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import pynwb
from hdmf.build import BuildError, ConstructError, ContainerConfigurationError
from pynwb import NWBHDF5IO, NWBFile, validation

from nwb_sbtt.errors import FileError
from nwb_sbtt.fileerrors import library_of, reason_of
from nwb_sbtt.io.read.extensions import manager_of
from nwb_sbtt.io.read.outside import Outside, without_outside
from nwb_sbtt.io.write.packing import is_zarr

UNWRITABLE = (BuildError, ConstructError, ContainerConfigurationError)
"""What hdmf raises for objects that it cannot write,"""
_REFUSED = (*UNWRITABLE, AttributeError, KeyError, TypeError, ValueError)
"""and what libraries raise for parts of a recording that they read and cannot write again."""


def add_to_copy(
    file: h5py.File, add: Callable[[NWBFile], None], outside: tuple[Outside, ...], *, name: str, instead: str
) -> None:
    """Add objects to a copy of a recording.

    Parameters
    ----------
    file : h5py.File
        The copy, open for writing.
    add : callable
        Takes the recording as read, and adds objects to it.
    outside : tuple of Outside
        What the recording stores outside itself: it stays a link in the copy, whose content is neither read nor written.
    name, instead : str
        Of the recording, and what to do if it cannot be written; for the error.

    Raises
    ------
    FileError
        If a part of the recording can be read, but not written again.
    """
    with without_outside(NWBHDF5IO, outside)(file=file, mode="a", manager=manager_of(file)) as io:
        nwb = io.read()
        add(nwb)
        try:
            io.write(nwb)
        except _REFUSED as error:
            if library_of(error) is None:
                raise
            raise FileError(
                f"cannot add to a copy of {name!r}: a part of it can be read but not written ({reason_of(error)}); "
                f"{instead}"
            ) from error
        _drop_old_specifications(file)


def _drop_old_specifications(file: h5py.File) -> None:
    """Keep one version of each cached namespace: the one that the file was just written with.

    Readers take the last version in alphabetical order, in which 2.4.0 comes after 2.11.0: they would read the new
    objects by the old rules, and call them invalid.
    """
    catalog = pynwb.get_type_map(copy=False).namespace_catalog
    for name, versions in file["specifications"].items():
        current = catalog.get_namespace(name).version if name in catalog.namespaces else None
        for other in [each for each in versions if current in versions and each != current]:
            del versions[other]


def problems_of(path: Path, recording: Path | None, *, core_only: bool = False) -> list[str]:
    """Find what breaks the schema in an HDF5 file; problems that the recording already had do not count.

    Parameters
    ----------
    path : Path
        A Zarr store is not validated.
    recording : Path or None
        That the file is a copy of.
    core_only : bool
        What comes from the recording is of core types; to check these alone takes a sixth of the time.
    """
    if is_zarr(path):
        return []
    return _new_problems(_validate(path=str(path), cached=not core_only), recording)


def problems_of_open(io: NWBHDF5IO, recording: Path) -> list[str]:
    """Find what breaks the schema in an open file that is a copy of a recording, as `problems_of` does.

    Parameters
    ----------
    io : pynwb.NWBHDF5IO
    recording : Path
    """
    return _new_problems(_validate(io=io), recording)


def _validate(*, cached: bool = True, **source: Any) -> set[str]:
    """Problems that pynwb's validator finds in a file (`path` or `io`), by the schemas in it or by core alone.

    pynwb can validate against no extension that includes single types of core, as many do: the type of a whole file is then
    missing in it. Such extensions are left out; if no other is there, the file is validated against core.
    """
    try:
        return {str(problem) for problem in pynwb.validate(use_cached_namespaces=cached, **source)}
    except ValueError:
        if not cached:
            raise
    names, _, _ = validation.get_cached_namespaces_to_validate(**source)
    problems: set[str] = set()
    validated = False
    for name in names:
        with suppress(ValueError):
            problems |= {str(problem) for problem in pynwb.validate(namespace=name, **source)}
            validated = True
    return problems if validated else _validate(cached=False, **source)


def _new_problems(problems: set[str], recording: Path | None) -> list[str]:
    if problems and recording is not None:
        for cached in (True, False):
            problems = problems - _validate(path=str(recording), cached=cached)
    return sorted(problems)


def refuse_invalid(problems: Sequence[str]) -> None:
    """Raise if there is a problem.

    Parameters
    ----------
    problems : sequence of str

    Raises
    ------
    FileError
    """
    if problems:
        raise FileError(f"the file would not be valid NWB, so it was removed: {'; '.join(problems[:3])}")
