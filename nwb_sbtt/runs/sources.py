"""Recordings that are fitted one by one: files, folders and dandisets, each under a name of its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath

from nwb_sbtt.errors import ConfigError, FileError, SelectionError
from nwb_sbtt.fileerrors import FileErrors
from nwb_sbtt.io.dandi.address import Address, is_address, narrow, parse_address
from nwb_sbtt.io.dandi.assets import find_assets
from nwb_sbtt.io.dandi.locations import local_file
from nwb_sbtt.io.dandi.targets import LONGEST
from nwb_sbtt.io.dandi.transfer import find_remote_file

ENDINGS = (".nwb", ".nwb.zarr")
"""Names of the files, or folders of Zarr, that a folder or a dandiset is searched for."""


@dataclass(frozen=True)
class Recording:
    """A recording.

    Parameters
    ----------
    name : str
        What its run folder and result are named after: its path with "/", without the ending of the file.
    place : Path or Address
        Where it is; a path is absolute.
    sha256 : str or None
        Of a file in an archive, as far as the archive knows it.
    """

    name: str
    place: Path | Address
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return self.place.name if isinstance(self.place, Path) else PurePosixPath(self.place.path or "").name

    def fetch(self) -> Path:
        """Return the path of the file on this machine; one in an archive is fetched into the cache if it is missing there.

        Raises
        ------
        ArchiveError, FileError
            If it cannot be fetched.
        """
        return self.place if isinstance(self.place, Path) else local_file(find_remote_file(self.place))


def find_sources(places: Sequence[Path | str], *, glob: str | None = None, but: Path | None = None) -> list[Recording]:
    """Find the recordings that files, folders and addresses name.

    A file keeps the path as it was given, a file of a folder its path in that folder, and one of a dandiset
    ``000140/sub-X/…``.

    Parameters
    ----------
    places : sequence of path or address
    glob : str, optional
        Only files of folders and dandisets whose path in these matches; ``*`` crosses folders.
    but : Path, optional
        A folder that is not searched: the one of the results.

    Returns
    -------
    list of Recording
        In the order of `places`, each recording once; of a folder or dandiset sorted by path.

    Raises
    ------
    FileError
        If a file is not there, or two recordings would have one name.
    SelectionError
        If a folder or dandiset has no file that matches.
    ConfigError, ArchiveError
        If an address is wrong, or the archive refuses; or if there is nothing to which `glob` applies.
    """
    found: list[Recording] = []
    globbed = False
    for place in places:
        if is_address(place):
            globbed = True
            found += _of_archive(str(place), glob)
        elif Path(place).is_dir() and not _is_zarr(Path(place)):
            globbed = True
            found += _of_folder(Path(place), glob, but)
        else:
            with FileErrors(place):
                Path(place).stat()
            found.append(Recording(_stem(_typed(Path(place))), Path(os.path.realpath(place))))
    if glob is not None and not globbed:
        raise ConfigError(f"--glob {glob!r} applies only to folders and dandisets, but you passed files; omit it")
    unique: dict[Path | Address, Recording] = {}
    for source in found:
        unique.setdefault(source.place, source)
    return _named_apart(list(unique.values()))


def _of_archive(address: str, glob: str | None) -> Iterator[Recording]:
    selection = find_assets(narrow(parse_address(address), glob=glob))
    assets = [asset for asset in selection.assets if asset.path.endswith(ENDINGS)]
    if not assets:
        raise SelectionError(f"{address} has no NWB file among its {len(selection.assets)} matching files")
    for asset in assets:
        place = Address(asset.archive, asset.dandiset or None, asset.version or None, asset.path)
        if not asset.dandiset:
            place = Address(asset.archive, asset_id=asset.asset_id, path=asset.path)
        yield Recording(_stem(f"{asset.dandiset}/{asset.path}".strip("/")), place, asset.sha256)


def _of_folder(folder: Path, glob: str | None, but: Path | None) -> Iterator[Recording]:
    left_out = None if but is None else os.path.realpath(but)
    paths = []
    for place, folders, files in os.walk(folder):
        stores = [name for name in folders if _is_zarr(Path(place, name))]
        folders[:] = [
            name
            for name in folders
            if name not in stores and not name.startswith(".") and os.path.realpath(Path(place, name)) != left_out
        ]
        names = [name for name in (*stores, *files) if name.endswith(ENDINGS) and not name.startswith(".")]
        paths += [Path(place, name).relative_to(folder).as_posix() for name in names]
    matching = sorted(path for path in paths if glob is None or fnmatchcase(path, glob))
    if not matching:
        what = f"no file that matches {glob!r}" if glob is not None else f"no file that ends in {' or '.join(ENDINGS)}"
        raise SelectionError(f"{str(folder)!r} has {what}; it has {len(paths)} NWB files")
    for path in matching:
        yield Recording(_stem(path), Path(os.path.realpath(folder / path)))


def _typed(path: Path) -> str:
    """A path as it was given, below some folder: without a root, and without steps up."""
    parts = PurePath(os.path.normpath(path)).parts
    return "/".join(part for part in parts if part not in ("..", path.anchor))


def _stem(path: str) -> str:
    return path.removesuffix(".zarr").removesuffix(".nwb")


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and (
        path.name.endswith(".zarr") or any((path / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata"))
    )


def _named_apart(sources: Sequence[Recording]) -> list[Recording]:
    """Refuse names that two recordings share, or of which one would be a folder of the other's run folder."""
    counts = Counter(source.name for source in sources)
    for source in sources:
        if counts[source.name] > 1:
            places = [str(each.place) for each in sources if each.name == source.name]
            raise FileError(
                f"{' and '.join(map(repr, places[:2]))} would both be named {source.name!r}; pass a folder that "
                "contains both, or separate results folders (--out)"
            )
        above = [str(each) for each in PurePosixPath(source.name).parents if str(each) in counts]
        if above:
            raise FileError(
                f"{above[0]!r} and {source.name!r} cannot both be run folders, because one would be inside the other; "
                "rename one"
            )
        if long := [part for part in source.name.split("/") if len(part.encode()) > LONGEST]:
            raise FileError(
                f"the name {long[0]!r} is too long for a run folder: {len(long[0].encode())} bytes; rename the file"
            )
    return list(sources)


def safe_name(text: str) -> str:
    """Make a value of the metadata the name of a folder.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        With "_" in place of what a path cannot have, or would read otherwise.
    """
    kept = "".join(letter if letter.isalnum() or letter in "-_.+=@," else "_" for letter in text)
    return (kept.lstrip(".") or "_")[:LONGEST]


def grouped(named: Iterable[tuple[Recording, str]]) -> dict[str, list[Recording]]:
    """Group recordings by a value of their metadata.

    Parameters
    ----------
    named : iterable of (Recording, str)
        Each with its value.

    Returns
    -------
    dict of str to list of Recording
        By the name of the group's folder.

    Raises
    ------
    FileError
        If two values would have one folder.
    """
    groups: dict[str, list[Recording]] = {}
    values: dict[str, str] = {}
    for source, value in named:
        name = safe_name(value)
        if values.setdefault(name, value) != value:
            raise FileError(f"the groups {values[name]!r} and {value!r} would both be named {name!r}; rename one")
        groups.setdefault(name, []).append(source)
    return groups
