"""Single values of a file's metadata, such as the id of the subject."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
from pynwb import NWBFile

from nwb_sbtt.errors import SelectionError

SUBJECT = "subject"
"""Stands for the subject's id."""


def metadata_value(nwbfile: NWBFile, name: str) -> str:
    """Return a value of a file's metadata, as text.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    name : str
        "subject" (its id), "subject.species" or another field of the subject, or a field of the file, such as "lab" or
        "session_id".

    Raises
    ------
    SelectionError
        If there is no such field, naming those that there are, or it is empty.
    """
    part, _, field = name.rpartition(".")
    if name == SUBJECT:
        part, field = SUBJECT, "subject_id"
    if part not in ("", SUBJECT):
        raise SelectionError(f"{name!r} is not a metadata field; expected subject, subject.FIELD or FIELD")
    holder = nwbfile.subject if part else nwbfile
    texts = {} if holder is None else {each: text for each, value in holder.fields.items() if (text := _text(value))}
    if field in texts:
        return texts[field]
    prefix = f"{part}." if part else ""
    there = ", ".join(f"{prefix}{each}" for each in sorted(texts)) or "none"
    raise SelectionError(f"the file has no {prefix}{field}; it has {there}")


def _text(value: Any) -> str:
    """A text, number or day, or several of them; empty for anything else."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    if isinstance(value, str | int | float):
        return str(value).strip()
    # Several are stored as an array, which is read here.
    several = np.asarray(value[:]).tolist() if getattr(value, "ndim", 0) == 1 else value
    if isinstance(several, list | tuple):
        parts = [_text(each) for each in several]
        return ", ".join(parts) if all(parts) else ""
    return ""
