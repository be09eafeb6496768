"""Download files of a dandiset: resumed after an interruption, checked by digest, and only then renamed to their names."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Literal, get_args

from nwb_sbtt.errors import ArchiveError, ConfigError, FileError, SbttError
from nwb_sbtt.io.dandi.address import narrow, parse_address
from nwb_sbtt.io.dandi.assets import Asset, Digests, Selection, digests_of, find_assets
from nwb_sbtt.io.dandi.origin import record_path, write_record
from nwb_sbtt.io.dandi.targets import check_compatible, target_path
from nwb_sbtt.io.dandi.transfer import RemoteFile, Retries, TruncatedError, response_bytes
from nwb_sbtt.io.progress import Advance, show_progress

Existing = Literal["error", "skip", "refresh", "overwrite"]
JOBS = 4
"""Files at once."""
TRIES = 2
"""Times that a file is fetched from its beginning before the archive's copy counts as wrong."""


def download(
    address: str,
    to: Path | str = ".",
    *,
    glob: str | None = None,
    instance: str | None = None,
    existing: Existing = "error",
    jobs: int = JOBS,
) -> list[Path]:
    """Download files of a dandiset; each is checked against the archive's digests before it gets its name.

    The same call resumes an interrupted download. Beside each file a small ``.dandi.json`` records its asset, which
    `read_nwb` adds to the data's ``source``.

    Parameters
    ----------
    address : str
        "DANDI:000140", "DANDI:000140/0.220113.0408", with or without the path of a file or folder, or an address in the
        archive's web pages or API. Without a version the newest published one is taken; ``/draft`` names the draft.
    to : path
        Files lie below it as ``000140/sub-X/…``.
    glob : str, optional
        Only files whose path matches; ``*`` crosses folders.
    instance : str, optional
        Name or URL of the archive; None takes ``DANDI_INSTANCE``, or the public one.
    existing : "error", "skip", "refresh" or "overwrite"
        What to do with an existing file: "error" raises if its digest is another, "skip" leaves it, "refresh" replaces it
        if its digest is another, "overwrite" replaces it.
    jobs : int
        Files at once, at least 1.

    Returns
    -------
    list of Path
        Of all files that the address names, sorted by their path in the dandiset.

    Raises
    ------
    ConfigError
        If the address or a setting is not valid.
    SelectionError
        If no file matches.
    ArchiveError
        If the archive cannot be reached or refuses, or a file does not have the archive's digest; it is then removed.
    FileError
        If another file exists, or one cannot be written or would lie outside the folder.

    Examples
    --------
    >>> download("DANDI:000140/0.220113.0408", "data", glob="*test*.nwb")  # doctest: +SKIP
    """
    if existing not in get_args(Existing):
        raise ConfigError(f"existing is {existing!r}; expected one of {', '.join(get_args(Existing))}")
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected at least 1")
    selection = find_assets(narrow(parse_address(address, instance=instance), glob=glob))
    return fetch_selection(selection, Path(to), existing=existing, jobs=jobs)


def fetch_selection(selection: Selection, to: Path, *, existing: Existing = "error", jobs: int = JOBS) -> list[Path]:
    """Download the files of a selection.

    Errors that do not need the files are raised before the first request. If one file fails, the others are still fetched.

    Parameters
    ----------
    selection : Selection
    to, existing, jobs
        As for `download`.

    Returns
    -------
    list of Path
        In the order of the selection.

    Raises
    ------
    ArchiveError, FileError
        As `download`.
    """
    folder = to / selection.dandiset
    check_compatible([asset.path for asset in selection.assets], folder)
    targets = [target_path(folder, asset.path) for asset in selection.assets]
    pairs = zip(selection.assets, targets, strict=True)
    missing = [(asset, target) for asset, target in pairs if _is_missing(asset, target, existing)]
    with _disk_errors(folder):
        _require_space(folder, sum(_bytes_left(asset, target) for asset, target in missing))
    with show_progress(sum(asset.size for asset, _ in missing), label=_label(selection, len(missing))) as advance:
        _fetch_all(selection, missing, jobs=jobs, advance=advance)
    return targets


def fetch(remote: RemoteFile, target: Path, *, advance: Advance = lambda n_bytes: None) -> Digests:
    """Fetch one file, check it, and rename it to `target`, with a record of its origin.

    Until then its bytes lie in a hidden file beside the target, which the next call resumes. A file with another digest
    than the archive's is removed. An existing target is replaced in one step.

    Parameters
    ----------
    remote : RemoteFile
    target : Path
        Its folder is created.
    advance : callable
        Called with the number of bytes of each block; negative where wrong bytes are removed.

    Returns
    -------
    Digests
        Of the file.

    Raises
    ------
    ArchiveError
        If the bytes cannot be fetched, or do not have the archive's digest.
    FileError
        If the disk is full or not writable, or another process is fetching the same file.
    """
    asset = remote.asset
    if asset.zarr:
        raise FileError(f"{asset} is a Zarr folder, which cannot be downloaded here; use `dandi download`")
    part = _part(asset, target)
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part):
            _require_space(part.parent, _bytes_left(asset, target))
            for _ in range(TRIES):
                problem, digests = _attempt(remote, part, advance)
                if problem is None and digests is not None:
                    _move(part, target, asset, digests)
                    return digests
                advance(-part.stat().st_size)
                part.unlink()
            raise ArchiveError(f"the bytes received for {asset} are wrong: {problem}; they were removed")


def _bytes_left(asset: Asset, target: Path) -> int:
    """Bytes that `fetch` will request; none of an asset that it refuses."""
    if asset.zarr or not (asset.sha256 or asset.etag):
        return 0
    part = _part(asset, target)
    return asset.size - (part.stat().st_size if part.exists() else 0)


def _require_space(folder: Path, n_bytes: int) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if n_bytes > free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {n_bytes} bytes needed, {free} free")


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """Raise errors of the disk as a FileError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(
            f"cannot write {str(target)!r}: {reason}; the bytes downloaded so far are kept, and the same command "
            "resumes"
        ) from None


def _fetch_all(selection: Selection, files: Sequence[tuple[Asset, Path]], *, jobs: int, advance: Advance) -> None:
    errors: list[SbttError] = []
    stopped = Event()

    def advance_or_stop(n_bytes: int) -> None:
        if stopped.is_set():
            raise ArchiveError("stopped")
        advance(n_bytes)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        tasks: list[Future[object]] = [
            pool.submit(fetch, RemoteFile(selection.client, asset), target, advance=advance_or_stop)
            for asset, target in files
        ]
        try:
            for task in as_completed(tasks):
                error = task.exception()
                if isinstance(error, SbttError):
                    errors.append(error)
                elif error is not None:
                    raise error
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ArchiveError(f"{len(errors)} of {len(files)} files could not be downloaded; the first error: {errors[0]}")


def _is_missing(asset: Asset, target: Path, existing: Existing) -> bool:
    if existing == "overwrite" or not target.exists():
        return True
    if existing == "skip":
        return False
    problem = asset.difference(digests_of(target))
    if problem is not None and existing == "error":
        raise FileError(
            f"{str(target)!r} exists and is not {asset}: {problem}; choose another folder, or pass existing as "
            "'skip' (--existing skip) to keep it or 'refresh' to replace it"
        )
    return problem is not None


def _label(selection: Selection, n_files: int) -> str:
    return f"{n_files} {'file' if n_files == 1 else 'files'} of {selection}"


def _part(asset: Asset, target: Path) -> Path:
    """Hidden file of the bytes fetched so far; assets of another content have another one."""
    return target.with_name(f".{target.name}.{asset.digest[:8]}.part")


def _attempt(remote: RemoteFile, part: Path, advance: Advance) -> tuple[str | None, Digests | None]:
    """Fetch the missing bytes; what is wrong with the file, in words, and its digests."""
    try:
        _complete(remote, part, advance)
    except TruncatedError as error:
        return str(error), None
    digests = digests_of(part)
    return remote.asset.difference(digests), digests


def _complete(remote: RemoteFile, part: Path, advance: Advance) -> None:
    """Append to the file until it has the archive's size."""
    retries = Retries(f"cannot download {remote.asset}")
    with part.open("ab") as file:
        advance(file.tell())
        while (start := file.tell()) < remote.asset.size:
            with closing(remote.open(start)) as response:
                for block in response_bytes(response):
                    file.write(block)
                    advance(len(block))
            remote.received += file.tell() - start
            if file.tell() > start:
                retries.progress()
            if file.tell() < remote.asset.size:
                retries.failed(f"the connection ended after {file.tell()} of {remote.asset.size} bytes")
        file.flush()
        os.fsync(file.fileno())


def _move(part: Path, target: Path, asset: Asset, digests: Digests) -> None:
    """Write the record, which is ignored beside a file of another digest, then rename the file."""
    record_path(target).unlink(missing_ok=True)
    write_record(target, asset, digests)
    part.replace(target)


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Keep other processes from writing the same file; the lock ends with its process, even a killed one."""
    with part.open("ab") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileError(
                    f"another process is downloading into {str(part.parent)!r}; wait until it has finished"
                ) from None
        yield
