"""In-file paths: the names under which a user finds an object in a file."""

from __future__ import annotations

from typing import Any

from hdmf.container import AbstractContainer

GROUPS = (
    "acquisition",
    "processing",
    "stimulus",
    "stimulus_template",
    "analysis",
    "scratch",
    "lab_meta_data",
    "intervals",
    "events",
)
"""Fields of an `NWBFile` that hold objects by name."""
STORED_NAMES = {"stimulus": "stimulus/presentation", "stimulus_template": "stimulus/templates"}
"""Path in the file of the fields that are stored under another name."""


def in_file_path(nwbfile: Any, nwb_object: Any) -> str:
    """Return the path of an object from the root of its file.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    nwb_object : pynwb.NWBContainer or another object of the file

    Returns
    -------
    str
        For example "processing/ecephys/LFP/LFP" or "units".
    """
    names: list[str] = []
    top = current = nwb_object
    while current is not None and current is not nwbfile:
        if not isinstance(current, AbstractContainer):  # a placeholder: the group is no neurodata
            return stored_path(nwbfile, nwb_object)
        names.append(current.name)
        top, current = current, current.parent
    for group in GROUPS:
        members = getattr(nwbfile, group, None)
        if members is not None and any(member is top for member in members.values()):
            names.append(STORED_NAMES.get(group, group))
            break
    return "/".join(reversed(names))


def stored_path(nwbfile: Any, nwb_object: Any) -> str:
    """Return the path at which an object is stored in the file that holds it, without a slash at its start.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    nwb_object : pynwb.NWBContainer
        Of this file, or of one that it links to.
    """
    builder = builder_of(nwbfile, nwb_object)
    return f"{builder.location}/{builder.name}".strip("/")


def builder_of(nwbfile: Any, nwb_object: Any) -> Any:
    """Return what the library read for an object: its place in the file and its attributes.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    nwb_object : pynwb.NWBContainer or pynwb.NWBFile
        Of this file, or of one that it links to.

    Returns
    -------
    hdmf.build.Builder
    """
    return nwbfile.get_read_io().manager.get_builder(nwb_object)
