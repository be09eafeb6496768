"""Where the states of trials are on their way: a place that all nodes reach, of which nothing is left when a search ends."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nwb_sbtt.errors import ClusterError
from nwb_sbtt.searching.record import Record

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_STATES = ".states"
"""In the folder of a search, where no other place is named."""


@dataclass(frozen=True)
class Storage:
    """A place for states.

    Parameters
    ----------
    place : str
        Absolute path or address, as Ray's ``RunConfig(storage_path=…)`` takes it.
    name : str
        Of the folder in it that is this search's own.
    """

    place: str
    name: str


@contextmanager
def storage_of(record: Record, run_dir: Path) -> Iterator[Storage]:
    """Have a place for states during the block; what a killed process has left there is removed first.

    Parameters
    ----------
    record : Record
        Its setting ``storage`` names the place; by default it is in the folder of the search.
    run_dir : Path

    Yields
    ------
    Storage

    Raises
    ------
    ClusterError
        If the place cannot be reached.
    """
    named, folder = record.search.storage, run_dir.resolve()
    if named is None:
        states = folder / _STATES
        shutil.rmtree(states, ignore_errors=True)
        try:
            yield Storage(str(states), "search")
        finally:
            shutil.rmtree(states, ignore_errors=True)
        return
    # Of several searches that use one place each has a folder of its own, and finds it again.
    identity = json.dumps([str(folder), dict(record.data), record.search.strategy, record.search.seed])
    storage = Storage(
        named if "://" in named else str(Path(named).resolve()),
        f"{folder.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}",
    )
    filesystem, path = _opened(storage)
    _remove(filesystem, path)
    try:
        yield storage
    finally:
        _remove(filesystem, path)


def _opened(storage: Storage) -> tuple[FileSystem, str]:
    """Return the file system of a place and the path of the search's own folder, once something was written there."""
    from pyarrow.fs import FileSystem

    try:
        filesystem, path = FileSystem.from_uri(storage.place)
        path = f"{path.rstrip('/')}/{storage.name}"
        filesystem.create_dir(path)
    except (OSError, ValueError) as error:  # what pyarrow raises for addresses is one of these
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ClusterError(
            f"cannot use the storage {storage.place!r}: {reason}; pass a path that all nodes can access, or an "
            "address such as s3://bucket/path, with its credentials in the environment (AWS_ACCESS_KEY_ID, …)"
        ) from None
    return filesystem, path


def _remove(filesystem: FileSystem, path: str) -> None:
    from pyarrow.fs import FileType

    if filesystem.get_file_info(path).type == FileType.Directory:
        filesystem.delete_dir(path)
