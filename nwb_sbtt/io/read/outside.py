"""What a file stores outside itself: external storage, links to other files, virtual data sets.

HDF5 reads any file of the machine as if its bytes were the data of the file that names it, so that a file from elsewhere could
have a private key read as a column, and carried into a result that is then shared. Therefore

* what lies outside is found before anything is read, and a file that was fetched from an archive is refused if it has any;
* of a file of the user's own, measurements (samples, timestamps, spike times) and whole series and tables in other NWB files
  are read and named in a note; everything else is left out, as if it were not there;
* nothing that lies outside is ever copied into a result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import h5py
from pynwb import NWBFile

from nwb_sbtt.errors import FileError

NAMED = 3
"""Objects that a message names."""
DEEPEST = 16
"""Virtual data sets of virtual data sets that are followed; deeper ones count as outside."""
DATA_FOLDERS = ("acquisition", "analysis", "intervals", "processing", "scratch", "stimulus", "units")
"""Groups of the root in which a series or a table may lie in another file."""
MEASUREMENTS = ("data", "timestamps", "spike_times")
"""Data sets of a series or of units that may lie outside."""
NEEDED = ("id", "obs_intervals", "control", "starting_time", "electrodes", "rois")
"""Data sets that say which channel, when, and whether observed: without them a file is another. Indices too."""
_METADATA = (".zattrs", ".zmetadata", "zarr.json")
_found: WeakKeyDictionary[NWBFile, tuple[Outside, ...]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Outside:
    """An object of a file whose content lies outside the file.

    Parameters
    ----------
    path : str
        In-file path.
    how : str
        "external storage", "virtual data set", "external link", "symbolic link" or "a link through another".
    where : str
        The file that holds the content.
    is_group : bool
        Whether it is a whole group of another file.
    """

    path: str
    how: str
    where: str
    is_group: bool = False

    def is_read(self) -> bool:
        """Whether it is measurements, which are read and named, rather than what is left out."""
        folder, _, name = self.path.partition("/")
        if folder not in DATA_FOLDERS:
            return False
        return self.is_group or name.rpartition("/")[2] in MEASUREMENTS

    def is_needed(self) -> bool:
        """Whether a file without it would be read as another one."""
        folder, name = self.path.partition("/")[0], self.path.rpartition("/")[2]
        return folder == "specifications" or (not self.is_group and (name in NEEDED or name.endswith("_index")))

    def is_device(self) -> bool:
        """Whether what it names is a pipe, a device or the like."""
        where = Path(self.where)
        return where.exists() and not where.is_file() and not where.is_dir()

    def __str__(self) -> str:
        return f"{self.path!r} (in {self.where!r}, by {self.how})"


def scan_hdf5(file: h5py.File) -> tuple[Outside, ...]:
    """Find what an HDF5 file stores outside itself.

    Parameters
    ----------
    file : h5py.File

    Returns
    -------
    tuple of Outside
        Sorted by path.
    """
    return tuple(sorted(_of_file(file), key=lambda each: each.path))


def scan_zarr(store: Path) -> tuple[Outside, ...]:
    """Find what a Zarr store keeps outside itself: symbolic links that lead out, and links and references to other stores.

    Parameters
    ----------
    store : Path
        Its folder.

    Returns
    -------
    tuple of Outside
        Sorted by path; one for each array or group.
    """
    root, found = store.resolve(), dict[str, Outside]()
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        for name in (*folders, *files):
            path = here / name
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                inside = _array_of(path, root)
                found.setdefault(inside, Outside(inside, "symbolic link", str(path.resolve()), path.is_dir()))
        for name in set(_METADATA) & set(files):
            for inside, where, is_group in _zarr_links(here / name, root):
                found.setdefault(inside, Outside(inside, "external link", where, is_group))
    return tuple(sorted(found.values(), key=lambda each: each.path))


def is_outside(item: Any, nwbfile: NWBFile | None = None) -> bool:
    """Tell whether the content of an object lies outside the file that was opened.

    Parameters
    ----------
    item : object
        A stored array, or an object of the file; anything else lies in memory.
    nwbfile : NWBFile, optional
        The file, to compare an object's with.
    """
    if isinstance(item, h5py.Dataset):
        return _of_dataset(item, 0) is not None or (nwbfile is not None and _is_elsewhere(item, nwbfile))
    source, own = getattr(item, "container_source", None), getattr(nwbfile, "container_source", None)
    return source is not None and own is not None and Path(source).resolve() != Path(own).resolve()


def remember_outside(nwbfile: NWBFile, found: tuple[Outside, ...]) -> None:
    """Note what an opened file stores outside itself, for `outside_of`.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        Opened.
    found : tuple of Outside
    """
    _found[nwbfile] = found


def outside_of(nwbfile: NWBFile) -> tuple[Outside, ...]:
    """Return what an opened file stores outside itself.

    Parameters
    ----------
    nwbfile : NWBFile
        As `open_nwb` yields it.
    """
    return _found.get(nwbfile, ())


def notes_on(found: Iterable[Outside]) -> list[str]:
    """Say what was read from other files, and what was left out; at most a line for each.

    Parameters
    ----------
    found : iterable of Outside
    """
    parts = {read: [each for each in found if each.is_read() == read] for read in (True, False)}
    texts = {True: "read from outside the file", False: "left out, because it is outside the file"}
    return [f"{texts[read]}: {listed(parts[read])}" for read in (True, False) if parts[read]]


def listed(found: Iterable[Outside]) -> str:
    """Name the first few.

    Parameters
    ----------
    found : iterable of Outside
    """
    names = [str(each) for each in found]
    return "; ".join(names[:NAMED]) + (f"; and {len(names) - NAMED} more" if len(names) > NAMED else "")


def refuse_outside(path: object, found: Iterable[Outside], *, why: str, remedy: str) -> None:
    """Raise if there is anything outside.

    Parameters
    ----------
    path : object
        Of the file, for the message.
    found : iterable of Outside
    why, remedy : str
        Why it is refused, and what to do.

    Raises
    ------
    FileError
    """
    if names := listed(found):
        raise FileError(f"{str(path)!r} refers to data outside the file: {names}. {why}; {remedy}")


def without_outside(io_type: type, found: tuple[Outside, ...]) -> type:
    """Make a type of IO object that leaves out, when it reads, what lies outside and is no measurement.

    Parameters
    ----------
    io_type : type
        `NWBHDF5IO` or `NWBZarrIO`.
    found : tuple of Outside

    Returns
    -------
    type
        `io_type` itself where there is nothing to leave out.
    """
    left_out = frozenset(each.path for each in found if not each.is_read())
    if not left_out:
        return io_type

    def read_builder(self: Any) -> Any:
        builder = io_type.read_builder(self)  # type: ignore[attr-defined]
        _prune(builder, "", left_out)
        return builder

    return type(io_type.__name__, (io_type,), {"read_builder": read_builder})


def _prune(group: Any, path: str, left_out: frozenset[str]) -> None:
    columns = group.attributes.get("colnames")
    # A column whose file cannot be opened is listed alone: the library has left it out already.
    names = [*group.datasets, *group.links, *group.groups, *(() if columns is None else map(str, columns))]
    gone = {name for name in names if f"{path}{name}" in left_out}
    # The index of a ragged column goes with the column.
    for name in list(group.datasets):
        if name.removesuffix("_index") in gone:
            gone.add(name)
    for members in (group.datasets, group.links, group.groups):
        for name in gone & set(members):
            del members[name]
            group.obj_type.pop(name, None)
    if gone and columns is not None:
        group.attributes["colnames"] = [name for name in columns if name not in gone]
    for name, member in group.groups.items():
        _prune(member, f"{path}{name}/", left_out)


def _of_file(file: h5py.File) -> Iterator[Outside]:
    """What lies outside, of all links of a file; each group is visited once, however many links lead to it."""
    stack, seen, soft, opened = [(file["/"], "")], set(), list[tuple[h5py.Group, str, str]](), True
    folder = Path(str(file.filename)).absolute().parent
    while stack:
        current, path = stack.pop()
        info = h5py.h5o.get_info(current.id)
        if info.addr in seen:
            continue
        seen.add(info.addr)
        for name in current:
            inside = f"{path}{name}"
            try:
                link = current.get(name, getlink=True)
            except (TypeError, KeyError, OSError):
                yield Outside(inside, "external link", "a link of an unknown kind")
                continue
            if isinstance(link, h5py.ExternalLink):
                where = folder / link.filename
                # Nothing but a file is opened: a pipe would wait for its other end for ever.
                opened &= where.is_file() or not where.exists()
                is_group = opened and isinstance(_item(current, name), h5py.Group)
                yield Outside(inside, "external link", str(where), is_group)
            elif isinstance(link, h5py.SoftLink):
                soft.append((current, name, inside))
            else:
                item = _item(current, name)
                if isinstance(item, h5py.Group):
                    stack.append((item, f"{inside}/"))
                elif isinstance(item, h5py.Dataset) and (stored := _of_dataset(item, 0)) is not None:
                    yield Outside(inside, *stored)
    own = h5py.h5o.get_info(file["/"].id).fileno
    for current, name, inside in soft if opened else ():
        item = _item(current, name)
        if item is not None and h5py.h5o.get_info(item.id).fileno != own:
            yield Outside(inside, "a link through another", str(item.file.filename), isinstance(item, h5py.Group))
        elif isinstance(item, h5py.Dataset) and (stored := _of_dataset(item, 0)) is not None:
            yield Outside(inside, *stored)


def _item(group: h5py.Group, name: str) -> Any:
    """An object; None where the link leads nowhere or the object is damaged: whoever reads it will say so."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError):
        return None


def _of_dataset(data: h5py.Dataset, depth: int) -> tuple[str, str] | None:
    """How and where an array is stored outside its file; None where it is in it."""
    layout = data.id.get_create_plist()
    if layout.get_external_count():
        name = layout.get_external(0)[0]
        return "external storage", name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    if layout.get_layout() != h5py.h5d.VIRTUAL:
        return None
    for i in range(layout.get_virtual_count()):
        name, inside = layout.get_virtual_filename(i), layout.get_virtual_dsetname(i)
        own = name == "." or Path(name).absolute() == Path(str(data.file.filename)).absolute()
        if not own or "%" in inside or depth >= DEEPEST:
            return "virtual data set", name if name != "." else inside
        source = data.file.get(inside)
        if isinstance(source, h5py.Dataset):
            if h5py.h5o.get_info(source.id).fileno != h5py.h5o.get_info(data.id).fileno:
                return "virtual data set", str(source.file.filename)
            if (stored := _of_dataset(source, depth + 1)) is not None:
                return "virtual data set", stored[1]
    return None


def _is_elsewhere(data: h5py.Dataset, nwbfile: NWBFile) -> bool:
    source = nwbfile.container_source
    return source is not None and Path(str(data.file.filename)).resolve() != Path(source).resolve()


def _array_of(path: Path, root: Path) -> str:
    """Array or group of a Zarr store that a file of it belongs to."""
    place = path
    while place != root and not any((place / name).is_file() for name in (".zarray", ".zgroup", "zarr.json")):
        place = place.parent
    inside = place.relative_to(root).as_posix()
    return "" if inside == "." else inside


def _zarr_links(path: Path, root: Path) -> Iterator[tuple[str, str, bool]]:
    """In-file path, store and kind of what metadata say is in another store."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # zarr reports it.
    base = path.parent.relative_to(root).as_posix().removeprefix(".")
    parts = {base: content}
    if path.name == ".zmetadata" and isinstance(content, dict) and isinstance(content.get("metadata"), dict):
        parts = {key.rpartition("/")[0]: value for key, value in content["metadata"].items()}
    for inside, part in parts.items():
        for record in _records(part):
            source, target = record.get("source"), str(record.get("path") or "")
            store = root if source in (None, ".", "") else Path(os.path.normpath(root / str(source)))
            if store != root or ".." in Path(target).parts:
                name = str(record.get("name") or "")
                yield "/".join(filter(None, (inside, name))), str(store), True


def _records(content: Any) -> Iterator[dict[str, Any]]:
    """Links and references in JSON: whatever names a source and a path."""
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "path" in item and "source" in item:
                yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
