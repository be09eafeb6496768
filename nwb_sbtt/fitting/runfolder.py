"""The plain files of a run folder that identify its fit."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nwb_sbtt.atomic import write_text
from nwb_sbtt.config import LIKELIHOODS, MODELS, FitConfig, build
from nwb_sbtt.config.base import load_settings, save_settings
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.fitting.signature import SIGNATURE, Signature
from nwb_sbtt.registry import THIS_PROGRAM
from nwb_sbtt.train.checkpoint import BEST, LAST, LOG

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
CALIBRATION = "calibration.json"
FAILED = "failed.txt"
"""Present after a breakdown; a fit with other settings may then use the folder."""
MEMBER = "member-"
"""Prefix of the folders of an ensemble's members."""


def open_run_folder(run_dir: Path, config: FitConfig, *, signature: Signature, device: str) -> None:
    """Create the run folder, or check that it belongs to this fit; temporary files of a killed process are removed.

    The folder of a fit that broke down is emptied for other settings or data. The signature is written last, so a folder
    without one belongs to no fit yet.

    Parameters
    ----------
    run_dir : Path
    config : FitConfig
    signature : Signature
    device : str
        Recorded in ``environment.json``.

    Raises
    ------
    TrainingError
        If the folder belongs to another fit, naming the differences, or is no run folder.
    FileError
        If it cannot be written.
    """
    if (run_dir / SIGNATURE).exists():
        changes = differences(_identity(config), _identity(read_config(run_dir)))
        changes += differences(signature.identity(), read_signature(run_dir).identity())
        if changes and (run_dir / FAILED).exists():
            _empty(run_dir)
        elif changes:
            raise TrainingError(
                f"{str(run_dir)!r} holds a fit of other data or settings: {'; '.join(changes[:5])}. "
                "Give this fit a run folder of its own."
            )
    elif run_dir.exists() and not (run_dir.is_dir() and all(_belongs(path) for path in run_dir.iterdir())):
        raise TrainingError(f"{str(run_dir)!r} exists and is not a run folder; give the fit a folder of its own")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for leftover in filter(_temporary, list(run_dir.iterdir())):
            leftover.unlink()
    except OSError as error:
        raise FileError(f"cannot write the run folder {str(run_dir)!r}: {error.strerror}") from None
    if not (run_dir / SIGNATURE).exists():
        clear_failure(run_dir)
        read = next(iter(signature.sessions.values())).read_config
        settings = config.model_dump(mode="json")
        save_settings(settings if read is None else {**settings, "read": read}, run_dir / CONFIG)
        write_json(
            run_dir / ENVIRONMENT,
            _environment(device, [MODELS.package(config.model.name), LIKELIHOODS.package(signature.likelihood)]),
        )
        write_json(run_dir / SIGNATURE, signature.as_dict())


def record_failure(run_dir: Path, reason: str) -> None:
    """Record in the run folder that its fit broke down, so that a fit with other settings may use it.

    Parameters
    ----------
    run_dir : Path
    reason : str
        The error.
    """
    write_text(run_dir / FAILED, reason + "\n")


def clear_failure(run_dir: Path) -> None:
    """Remove the record of a breakdown, if there is one.

    Parameters
    ----------
    run_dir : Path
    """
    (run_dir / FAILED).unlink(missing_ok=True)


def member_folders(run_dir: Path, n: int) -> list[Path]:
    """Return the folders that hold the checkpoints of a fit.

    Parameters
    ----------
    run_dir : Path
    n : int
        Number of members.

    Returns
    -------
    list of Path
        The run folder itself or, of an ensemble, one folder per member.
    """
    return [run_dir] if n == 1 else [run_dir / f"{MEMBER}{i}" for i in range(n)]


def read_config(run_dir: Path) -> FitConfig:
    """Read the settings of a fit.

    The same file holds the settings of the reader, under ``read``, so that ``--config`` can use it.

    Parameters
    ----------
    run_dir : Path

    Returns
    -------
    FitConfig

    Raises
    ------
    ConfigError
        If the file is missing or damaged.
    """
    return build(FitConfig, {name: value for name, value in load_settings(run_dir / CONFIG).items() if name != "read"})


def read_signature(run_dir: Path) -> Signature:
    """Read the signature of a run folder.

    Parameters
    ----------
    run_dir : Path

    Returns
    -------
    Signature

    Raises
    ------
    TrainingError
        If the folder has the format of another version.
    FileError
        If the file is missing or damaged.
    """
    return Signature.from_dict(read_json(run_dir / SIGNATURE), path=run_dir / SIGNATURE)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run folder.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    FileError
        If it is missing or damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r} of the run folder: {error.strerror}") from None
    except ValueError as error:
        raise FileError(f"{str(path)!r} of the run folder is damaged: {error}; fit again in a new folder") from None
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file by an atomic write.

    Parameters
    ----------
    path : Path
    content : dict
        JSON-safe; NaN is refused.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def differences(new: Any, old: Any, name: str = "") -> list[str]:
    """Compare nested settings.

    Parameters
    ----------
    new, old : dict, or JSON value
    name : str
        Prefix of the names.

    Returns
    -------
    list of str
        One text per setting that differs, with both values.
    """
    if isinstance(new, dict) and isinstance(old, dict):
        # A part of another name differs in all its settings; the name comes first.
        keys = sorted(set(new) | set(old), key=lambda key: (key != "name", key))
        return [text for key in keys for text in differences(new.get(key), old.get(key), f"{name}.{key}".strip("."))]
    return [] if new == old else [f"{name} is {_short(new)}, there {_short(old)}"]


def _belongs(path: Path) -> bool:
    return path.name in (CONFIG, ENVIRONMENT, FAILED) or _temporary(path)


def _empty(run_dir: Path) -> None:
    """Remove a fit; the files that allow its removal go last."""
    try:
        for member in run_dir.glob(f"{MEMBER}*"):
            _empty(member)
            member.rmdir()
        leftovers = filter(_temporary, list(run_dir.iterdir()))
        for path in (
            *leftovers,
            *(run_dir / name for name in (CALIBRATION, LAST, BEST, LOG, SIGNATURE, CONFIG, ENVIRONMENT, FAILED)),
        ):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot empty the run folder {str(run_dir)!r}: {error.strerror}") from None


def _temporary(path: Path) -> bool:
    """Whether this is a temporary file of an atomic write, `.NAME.PROCESS`."""
    return path.name.startswith(".") and path.suffix[1:].isdigit() and path.is_file()


def _identity(config: FitConfig) -> dict[str, Any]:
    """Settings that identify a fit; initial weights are identified by their digest, not by their folder."""
    settings = config.model_dump(mode="json")
    if settings["init"] is not None:
        del settings["init"]["run_dir"]
    return settings


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _environment(device: str, plugins: Sequence[str]) -> dict[str, str]:
    """Versions that a fit ran with, those of the packages that its model and likelihood come from among them."""
    packages = dict.fromkeys(["nwb_sbtt", "torch", "numpy", "xarray", "pynwb", "hdmf", *plugins])
    packages.pop(THIS_PROGRAM, None)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
