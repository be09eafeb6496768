"""Small text files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from nwb_sbtt.errors import FileError


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name beside it and rename it; a reader sees the old text or the new one.

    Raises
    ------
    FileError
        If the disk is full or not writable; nothing half written stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {str(path)!r}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
