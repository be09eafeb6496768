"""Small text files that are there whole or not at all, and folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from nwb_sbtt.errors import ConfigError, FileError


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


def made_folder(path: Path | str) -> Path:
    """A folder that is there, made if it was not.

    Raises
    ------
    FileError
        If it cannot be made.
    """
    place = Path(path)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {str(place)!r}: {error.strerror}; give another place") from None
    return place


def load_settings(path: Path | str) -> dict[str, Any]:
    """Read the names and values of a YAML file.

    Raises
    ------
    ConfigError
        If the file is missing or is not YAML.
    """
    path = Path(path)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {str(path)!r}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict | None):
        raise ConfigError(f"{str(path)!r} should hold `name: value` lines, not a {type(settings).__name__}")
    return settings or {}


def save_settings(settings: dict[str, Any], path: Path | str) -> None:
    """Write names and values as YAML; `load_settings` gives them back."""
    write_text(Path(path), yaml.safe_dump(settings, sort_keys=False))
