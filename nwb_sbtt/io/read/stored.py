"""Where the objects of an open file are stored: in which file, at which path, and under which object id.

A file may link to objects of other files, and files before NWB 2.1 store no object ids: the library then makes up a new one at
each opening, which identifies nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
from hdmf.common import DynamicTable
from pynwb import NWBFile

from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.files import file_facts, open_nwb
from nwb_sbtt.io.read.outside import is_outside
from nwb_sbtt.io.read.paths import builder_of, in_file_path, stored_path
from nwb_sbtt.io.read.tables import table_region


def stored_object_id(nwbfile: NWBFile, nwb_object: Any) -> str | None:
    """Return the object id that is stored with an object of an open file.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    nwb_object : pynwb.NWBContainer or pynwb.NWBFile
        Of this file, or of one that it links to.

    Returns
    -------
    str or None
        None where none is stored.
    """
    stored = builder_of(nwbfile, nwb_object).attributes.get("object_id")
    return None if stored is None else str(stored)


def find_stored(nwbfile: NWBFile, path: str) -> Any:
    """Return the object of an open file that is stored at a path, as `stored_path` gives it.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    path : str

    Raises
    ------
    SelectionError
        If there is none.
    """
    for nwb_object in nwbfile.objects.values():
        if stored_path(nwbfile, nwb_object) == path:
            return nwb_object
    raise SelectionError(
        f"{str(nwbfile.container_source)!r} has no object at {path!r}; list its contents with `nwb-sbtt inspect`"
    )


def object_ids(nwbfile: NWBFile) -> dict[str, str]:
    """Return what identifies a file by itself: its object id, where one is stored, as an entry of ``attrs["source"]``.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    """
    stored = stored_object_id(nwbfile, nwbfile)
    return {} if stored is None else {"object_id": stored}


def tables_of(nwbfile: NWBFile, read: Iterable[Any]) -> dict[str, Any]:
    """Find the tables of the channels of series, by the in-file path under which their channels are labelled.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    read : iterable of NWB objects
        Series and tables of units.

    Returns
    -------
    dict of path to hdmf.common.DynamicTable

    Raises
    ------
    SelectionError
        If two tables have one path, because one of them lies in another file.
    """
    tables: dict[str, Any] = {}
    for nwb_object in read:
        region = table_region(nwb_object)
        table = nwb_object if region is None else region.table
        if isinstance(table, DynamicTable):
            path = in_file_path(nwbfile, table)
            if tables.setdefault(path, table) is not table:
                files = [Path(each.container_source).name for each in (tables[path], table)]
                raise SelectionError(
                    f"the series belong to two different tables {path!r}, one in {files[0]!r} and one in "
                    f"{files[1]!r}; fit them separately, or as two sessions"
                )
    return tables


def linked_files(nwbfile: NWBFile, read: Iterable[Any]) -> list[dict[str, Any]]:
    """Describe the files that an open file links to, as far as they hold something of the series that are read.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    read : iterable of NWB objects
        Series and tables of units.

    Returns
    -------
    list of dict
        Of each file ``path``, ``name`` and ``sha256``, ``identifier``, ``object_id`` where one is stored, and ``parts``: the
        paths in it of what is read, each with its object id, or an empty text.

    Raises
    ------
    FileError
        If one of them cannot be read.
    """
    parts: dict[str, dict[str, str]] = {}
    for nwb_object in read:
        table = table_region(nwb_object)
        for item in (nwb_object, *(() if table is None else (table.table,))):
            for each in (item, *getattr(item, "columns", ())):
                if is_outside(each, nwbfile):
                    held = parts.setdefault(str(each.container_source), {})
                    held[stored_path(nwbfile, each)] = stored_object_id(nwbfile, each) or ""
        for data in (getattr(nwb_object, "data", None), nwb_object.fields.get("timestamps")):
            if isinstance(data, h5py.Dataset) and (file := _file_name(data)) not in _file_names(nwbfile, nwb_object):
                parts.setdefault(file, {})[str(data.name).strip("/")] = ""
    return [_linked_file(Path(file), held) for file, held in parts.items()]


def _linked_file(path: Path, held: dict[str, str]) -> dict[str, Any]:
    with open_nwb(path) as nwbfile:
        identity = {**object_ids(nwbfile), "identifier": str(nwbfile.identifier)}
    # What belongs to a part that is named is named with it.
    whole = {part: object_id for part, object_id in held.items() if not any(_is_in(part, other) for other in held)}
    return {**file_facts(path), **identity, "parts": whole}


def _is_in(part: str, other: str) -> bool:
    return part.startswith(f"{other}/")


def _file_name(data: h5py.Dataset) -> str:
    return str(Path(data.file.filename).absolute())


def _file_names(nwbfile: NWBFile, nwb_object: Any) -> tuple[str, ...]:
    """Files whose data sets need no word: this one, and that of the object, which is named itself where it is another."""
    return tuple(str(Path(each.container_source).absolute()) for each in (nwbfile, nwb_object))
