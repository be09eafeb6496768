"""Files of a dandiset, fetched into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import Literal, get_args

from nwb_sbtt.errors import ArchiveError, ConfigError, FileError, SbttError
from nwb_sbtt.io.dandi.address import Address, narrow, parse_address
from nwb_sbtt.io.dandi.assets import Asset, Selection, find_assets
from nwb_sbtt.io.dandi.digests import digests_of
from nwb_sbtt.io.dandi.fetching import fetch, left_to_fetch, need_space, refusals
from nwb_sbtt.io.dandi.progress import Advance, shown
from nwb_sbtt.io.dandi.targets import check_together, target_of
from nwb_sbtt.io.dandi.transfer import Source

Existing = Literal["error", "skip", "refresh", "overwrite"]
JOBS = 4


def download(
    address: str,
    to: Path | str = ".",
    *,
    glob: str | None = None,
    instance: str | None = None,
    existing: Existing = "error",
    jobs: int = JOBS,
) -> list[Path]:
    """Fetch files of a dandiset; each is checked against the archive's digests before it gets its name.

    An interrupted download goes on with the same call. Beside each file a small ``.dandi.json`` says what it is, and
    `read_nwb` takes that into the data's ``source``.

    Parameters
    ----------
    address : str
        "DANDI:000140", "DANDI:000140/0.220113.0408", with or without the path of a file or folder, or an address in the
        archive's web pages or API. Without a version the newest published one is taken; ``/draft`` asks for the draft.
    to : path
        Files lie below it as ``000140/sub-X/…``.
    glob : str, optional
        Only files whose path matches; ``*`` crosses folders.
    instance : str, optional
        Name or URL of the archive; None takes ``DANDI_INSTANCE``, or the public one.
    existing : "error", "skip", "refresh" or "overwrite"
        What to do where a file is already there: stop if it is another one, leave it whatever it is, fetch it again if
        it is another one, or fetch it again. A file is known by its digest.
    jobs : int
        Files at once.

    Returns
    -------
    list of Path
        Of all files asked for, sorted by their path in the dandiset.

    Raises
    ------
    ConfigError
        If the address or a setting is not valid.
    SelectionError
        If no file matches.
    ArchiveError
        If the archive cannot be reached, refuses, or sends other bytes than it has digests of; no such file is there then.
    FileError
        If a file is there, cannot be written, or would lie outside the folder.

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
    """Fetch files that were found; `download` says how, and what may be raised.

    All that can be refused is refused before the first byte comes. Where one file fails the others are still fetched.
    """
    folder = to / selection.dandiset
    check_together([asset.path for asset in selection.assets], folder)
    targets = [target_of(folder, asset.path) for asset in selection.assets]
    both = list(zip(selection.assets, targets, strict=True))
    wanted = [(asset, target) for asset, target in both if _is_wanted(asset, target, existing)]
    with refusals(folder):
        need_space(folder, sum(left_to_fetch(asset, target) for asset, target in wanted))
    with shown(sum(asset.size for asset, _ in wanted), label=_label(selection, len(wanted))) as told:
        _fetch_all(selection, wanted, jobs=jobs, told=told)
    return targets


def resolve(address: str | Path | Address) -> Source:
    """The one file that an address means.

    Raises
    ------
    ArchiveError, SelectionError
        If there is none, or several.
    """
    selection = find_assets(address if isinstance(address, Address) else parse_address(address))
    if len(selection.assets) > 1:
        names = ", ".join(repr(str(asset)) for asset in selection.assets[:5])
        raise ConfigError(f"{str(address)!r} means {len(selection.assets)} files; give one of them: {names}")
    return Source(selection.client, selection.assets[0])


def _fetch_all(selection: Selection, wanted: Sequence[tuple[Asset, Path]], *, jobs: int, told: Advance) -> None:
    failed: list[SbttError] = []
    stopped = Event()

    def advance(n_bytes: int) -> None:
        if stopped.is_set():
            raise ArchiveError("stopped")
        told(n_bytes)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        tasks: list[Future[object]] = [
            pool.submit(fetch, Source(selection.client, asset), target, told=advance) for asset, target in wanted
        ]
        try:
            for task in as_completed(tasks):
                error = task.exception()
                if isinstance(error, SbttError):
                    failed.append(error)
                elif error is not None:
                    raise error
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise ArchiveError(f"{len(failed)} of {len(wanted)} files could not be fetched; the first: {failed[0]}")


def _is_wanted(asset: Asset, target: Path, existing: Existing) -> bool:
    if existing == "overwrite" or not target.exists():
        return True
    if existing == "skip":
        return False
    problem = asset.unlike(digests_of(target))
    if problem is not None and existing == "error":
        raise FileError(
            f"{str(target)!r} is there and is not {asset}: {problem}; fetch into another folder, or pass existing as "
            "'skip' to keep it or 'refresh' to replace it"
        )
    return problem is not None


def _label(selection: Selection, n_files: int) -> str:
    return f"{n_files} {'file' if n_files == 1 else 'files'} of {selection}"
