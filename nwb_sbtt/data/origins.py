"""Which file data come from, as recorded in ``attrs["source"]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KNOWN_BY = ("object_id", "sha256")


def is_same_recording(source: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two records of a source name one recording: by its object id, or by the SHA-256 of its file.

    A recording keeps its object id when something is added to its file. Files before NWB 2.1 have none, and are known by
    their digest alone.

    Parameters
    ----------
    source, other : mapping
        With ``object_id`` and ``sha256``, as far as they are known.
    """
    return any(source.get(key) is not None and source.get(key) == other.get(key) for key in _KNOWN_BY)


def is_recorded(source: Mapping[str, Any]) -> bool:
    """Tell whether a record names a recording at all; that of data which never were in a file does not.

    Parameters
    ----------
    source : mapping
    """
    return any(source.get(key) is not None for key in _KNOWN_BY)
