"""In-file paths: the names under which a person finds an object in the file."""

from __future__ import annotations

from typing import Any

PLACES = (
    "acquisition",
    "processing",
    "stimulus",
    "stimulus_template",
    "analysis",
    "scratch",
    "lab_meta_data",
    "intervals",
)
NAMED_OTHERWISE = {"stimulus": "stimulus/presentation", "stimulus_template": "stimulus/templates"}


def in_file_path(nwbfile: Any, item: Any) -> str:
    """Path of an object from the root of its file, for example "processing/ecephys/LFP/LFP" or "units"."""
    names: list[str] = []
    top = item
    while item is not None and item is not nwbfile:
        names.append(item.name)
        top, item = item, item.parent
    for place in PLACES:
        held = getattr(nwbfile, place, None)
        if held is not None and any(each is top for each in held.values()):
            names.append(NAMED_OTHERWISE.get(place, place))
            break
    return "/".join(reversed(names))
