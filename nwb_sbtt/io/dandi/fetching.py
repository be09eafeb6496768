"""One file of an archive onto the disk: gone on with where it stopped, checked, and only then given its name."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nwb_sbtt.errors import ArchiveError, FileError
from nwb_sbtt.io.dandi.assets import Asset
from nwb_sbtt.io.dandi.digests import Digests, digests_of
from nwb_sbtt.io.dandi.origin import record_path, write_record
from nwb_sbtt.io.dandi.transfer import EndedEarlyError, Source, Trial, received

TRIES = 2
"""Times that a file is fetched from its beginning before what the archive has is held to be wrong."""
Told = Callable[[int], None]


def fetch(source: Source, target: Path, *, told: Told = lambda n_bytes: None) -> Digests:
    """Fetch a file, check it, and put it at `target` with a record of where it came from.

    What was fetched is kept under a hidden name beside the target until it is whole and right: the next call goes on
    there. What is not right is removed. A file at the target is replaced in one step.

    Parameters
    ----------
    source : Source
    target : Path
        Its folder is made.
    told : callable
        Given the number of bytes after each piece; negative where bytes turned out to be wrong.

    Raises
    ------
    ArchiveError
        If the bytes do not come, or are not those that the archive has a digest of.
    FileError
        If the disk is full or not writable, or another process is fetching the same file.
    """
    asset = source.asset
    if asset.zarr:
        raise FileError(f"{asset} is a Zarr folder; fetch it with `dandi download`, which knows how")
    part = _part(asset, target)
    with refusals(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part):
            need_space(part.parent, left_to_fetch(asset, target))
            for last in [False] * (TRIES - 1) + [True]:
                problem, found = _attempt(source, part, told)
                if problem is None and found is not None:
                    _place(part, target, asset, found)
                    return found
                told(-part.stat().st_size)
                part.unlink()
                if last:
                    raise ArchiveError(f"what came as {asset} is not what it should be: {problem}; nothing was kept")
    raise AssertionError


def left_to_fetch(asset: Asset, target: Path) -> int:
    """Bytes that `fetch` will ask for; none of what it refuses."""
    if asset.zarr or not (asset.sha256 or asset.etag):
        return 0
    part = _part(asset, target)
    return asset.size - (part.stat().st_size if part.exists() else 0)


def need_space(folder: Path, n_bytes: int) -> None:
    """See that the disk has room, before anything comes.

    Raises
    ------
    OSError
        If it has not.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if n_bytes > free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {n_bytes} bytes to come, {free} free")


@contextmanager
def refusals(target: Path) -> Iterator[None]:
    """Turn what the disk says into a FileError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise FileError(f"cannot write {str(target)!r}: {why}; what was fetched is kept for another try") from None


def _part(asset: Asset, target: Path) -> Path:
    """What was fetched so far of an asset: another content has another name."""
    return target.with_name(f".{target.name}.{asset.digest[:8]}.part")


def _attempt(source: Source, part: Path, told: Told) -> tuple[str | None, Digests | None]:
    """Fetch what is missing; say what is wrong with the whole, or its digests."""
    try:
        _complete(source, part, told)
    except EndedEarlyError as error:
        return str(error), None
    found = digests_of(part)
    return source.asset.unlike(found), found


def _complete(source: Source, part: Path, told: Told) -> None:
    """Add to what is there until it is as long as the archive says."""
    trial = Trial(f"cannot fetch {source.asset}")
    with part.open("ab") as file:
        told(file.tell())
        while (start := file.tell()) < source.asset.size:
            with closing(source.open(start)) as response:
                for piece in received(response):
                    file.write(piece)
                    told(len(piece))
            source.received += file.tell() - start
            if file.tell() > start:
                trial.progress()
            if file.tell() < source.asset.size:
                trial.failed(f"the connection ended after {file.tell()} of {source.asset.size} bytes")
        file.flush()
        os.fsync(file.fileno())


def _place(part: Path, target: Path, asset: Asset, found: Digests) -> None:
    """Give a file its name; its record is there first, and counts for nothing with another file."""
    record_path(target).unlink(missing_ok=True)
    write_record(target, asset, found)
    part.replace(target)


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Keep other processes from writing the same file; a lock goes with its process, however that ends."""
    with part.open("ab") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileError(f"another process is fetching {str(part.parent)!r} just now; wait for it") from None
        yield
