"""In-file paths: the names under which a user finds an object in a file."""

from __future__ import annotations

from typing import Any

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
        names.append(current.name)
        top, current = current, current.parent
    for group in GROUPS:
        members = getattr(nwbfile, group, None)
        if members is not None and any(member is top for member in members.values()):
            names.append(STORED_NAMES.get(group, group))
            break
    return "/".join(reversed(names))
