"""The plain files of a run folder that identify its fit."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nwb_sbtt.atomic import make_folder, temporary_files, write_text
from nwb_sbtt.config import LIKELIHOODS, MODELS, FitConfig, build
from nwb_sbtt.config.base import load_settings, save_settings
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.fileerrors import FileErrors, check_is_file
from nwb_sbtt.fitting.signature import SIGNATURE, Signature, check_format, session_differences
from nwb_sbtt.locking import hold
from nwb_sbtt.registry import THIS_PROGRAM
from nwb_sbtt.train.checkpoint import BEST, DYNAMICS, LAST, LOG
from nwb_sbtt.train.trackers import EpochRecord, Tracker

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
CALIBRATION, FORECAST = "calibration.json", "forecast.json"
ALIGNMENT = "alignment.safetensors"
CHANGES = "changes.json"
"""Settings that were changed in the course of training, with the epoch; of members of a population."""
FAILED = "failed.txt"
"""Present after a breakdown; a fit with other settings may then use the folder."""
LOCK = "lock"
"""Present while a process fits, and after one that was killed."""
HELD = (ALIGNMENT, CALIBRATION, FORECAST, LAST, BEST, DYNAMICS, LOG, CHANGES, SIGNATURE, CONFIG, ENVIRONMENT, FAILED)
"""Files that the holder of the lock alone writes; in the order in which a fit is removed, what allows its removal last."""
MEMBER = "member-"
"""Prefix of the folders of an ensemble's members."""
MACHINE = ("device", "threads")
"""Settings that another machine may need otherwise."""
_SEAL, _OF_CONFIG = "sha256", "config_sha256"
"""Names of digests in the JSON files: of the file's other content, and of the settings."""


@contextmanager
def hold_run_folder(run_dir: Path) -> Iterator[None]:
    """Let no other process fit in a run folder during the block; it is created if it does not exist.

    Parameters
    ----------
    run_dir : Path

    Raises
    ------
    TrainingError
        If it exists and is no run folder.
    FileError
        If another process holds it, naming that process, or if it cannot be written.
    """
    is_new = not run_dir.exists()
    if not is_new and not _is_run_folder(run_dir):
        raise TrainingError(f"{str(run_dir)!r} exists and is not a run folder; use a new folder for the fit")
    make_folder(run_dir)
    try:
        with hold(run_dir / LOCK, what=f"the run folder {str(run_dir)!r}"):
            yield
    finally:
        if is_new:
            # Nothing was written: an error came first.
            with suppress(OSError):
                run_dir.rmdir()


def open_run_folder(run_dir: Path, config: FitConfig, *, signature: Signature, device: str) -> None:
    """Make a folder the run folder of a fit, or check that it is; temporary files of killed processes are removed.

    The folder of a fit that broke down is emptied for other settings or data. The signature is written last, so a folder
    without one belongs to no fit yet.

    Parameters
    ----------
    run_dir : Path
        Held by this process (`hold_run_folder`).
    config : FitConfig
    signature : Signature
    device : str
        Recorded in ``environment.json``.

    Raises
    ------
    TrainingError
        If the folder belongs to another fit, naming the differences.
    FileError
        If it cannot be written, or is damaged.
    """
    if (run_dir / SIGNATURE).exists():
        changes = settings_differences(config, run_dir)
        changes += _differences_of_data(signature, read_signature(run_dir))
        if changes and (run_dir / FAILED).exists():
            _empty(run_dir)
        elif changes:
            raise TrainingError(
                f"{str(run_dir)!r} has a fit of different data or settings: {'; '.join(changes[:5])}. Use another run "
                f"folder for this fit{_going_on(changes, run_dir)}. To use the fit that it has: sb.load({str(run_dir)!r}), or "
                f"`nwb-sbtt infer {run_dir} FILE --out RESULT`."
            )
    try:
        _remove_leftovers(run_dir)
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
        sealed = {**signature.as_dict(), _OF_CONFIG: _config_digest(load_settings(run_dir / CONFIG))}
        write_json(run_dir / SIGNATURE, sealed)


def change_settings(run_dir: Path, config: FitConfig, *, epoch: int, note: str = "") -> None:
    """Change the settings of an unfinished fit, such as its learning rate, and record when and how; training goes on with them.

    Settings are replaced before the signature that holds their digest: a kill in between leaves a folder that is refused, so
    this is for copies of a run folder.

    Parameters
    ----------
    run_dir : Path
        Run folder of one model.
    config : FitConfig
        With the names and shapes of weights of the present settings, whose number of epochs it shares.
    epoch : int
        Epochs done so far.
    note : str
        Recorded too, such as where the weights came from.

    Raises
    ------
    FileError
        If the folder is damaged or cannot be written.
    """
    before = read_config(run_dir)
    changes = differences(_identity(config), _identity(before))
    stored = read_changes(run_dir)
    settings = load_settings(run_dir / CONFIG)
    read = {"read": settings["read"]} if "read" in settings else {}
    save_settings({**config.model_dump(mode="json"), **read}, run_dir / CONFIG)
    sealed = read_json(run_dir / SIGNATURE) | {_OF_CONFIG: _config_digest(load_settings(run_dir / CONFIG))}
    write_json(run_dir / SIGNATURE, sealed)
    write_json(run_dir / CHANGES, {"changes": [*stored, {"epoch": epoch, "note": note, "settings": changes}]})


def read_changes(run_dir: Path) -> list[dict[str, Any]]:
    """Read what `change_settings` recorded.

    Parameters
    ----------
    run_dir : Path

    Returns
    -------
    list of dict
        ``epoch``, ``note`` and ``settings`` (texts such as "train.learning_rate is 0.004, before 0.002") of each change; empty
        where there was none.

    Raises
    ------
    FileError
        If the file is damaged.
    """
    path = run_dir / CHANGES
    return list(read_json(path)["changes"]) if path.exists() else []


@dataclass(frozen=True)
class Watched:
    """A tracker that looks after the run folder too: a folder that was removed ends training, not the loading after it.

    Parameters
    ----------
    tracker : Tracker
        Receives the numbers of each epoch.
    folders : tuple of Path
        Run folders that the fit needs: its own, and that of the ensemble.
    """

    tracker: Tracker
    folders: tuple[Path, ...]

    def start(self, epochs: int, done: int) -> None:
        """Begin."""
        self.tracker.start(epochs, done)

    def epoch(self, record: EpochRecord) -> None:
        """Check the folders, and pass the numbers on.

        Raises
        ------
        FileError
            If a folder lost its settings, signature or record of the environment, or may not be written any more.
        """
        self.tracker.epoch(record)
        for folder in self.folders:
            for name in (CONFIG, ENVIRONMENT, SIGNATURE):
                if not (folder / name).exists():
                    raise FileError(
                        f"{str(folder / name)!r} was removed while the fit was running, so its results could not be "
                        f"loaded; training ends after epoch {record.epoch}. Run the fit again in a folder that is not "
                        "removed"
                    )
            if not os.access(folder, os.W_OK):
                raise FileError(
                    f"the run folder {str(folder)!r} became read-only; training ends after epoch {record.epoch}. Make "
                    "the folder writable, and run the same command to resume"
                )

    def learning(self, step: int, steps: int) -> None:
        """Pass on how far a system is learned."""
        self.tracker.learning(step, steps)

    def stop(self) -> None:
        """End."""
        self.tracker.stop()


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

    The same file holds the settings of the reader, under ``read``, so that ``--config`` can use it. Once the folder belongs to
    a fit, the settings must have the digest in its signature, but for `device` and `threads`, which another machine may need
    otherwise.

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
    FileError
        If the settings were changed after the fit began.
    """
    settings = load_settings(run_dir / CONFIG)
    if (run_dir / SIGNATURE).exists() and _config_digest(settings) != _read_sealed_signature(run_dir).get(_OF_CONFIG):
        raise FileError(
            f"{str(run_dir / CONFIG)!r} of the run folder was changed after the fit began, or is damaged (its digest "
            "differs from the one in the signature); restore it from a copy, or fit again in a new folder (device "
            "and threads may be changed)"
        )
    return build(FitConfig, {name: value for name, value in settings.items() if name != "read"})


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
    content = _read_sealed_signature(run_dir)
    return Signature.from_dict({k: v for k, v in content.items() if k != _OF_CONFIG}, path=run_dir / SIGNATURE)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run folder that `write_json` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    FileError
        If it is missing or damaged: not what was written, by its digest.
    """
    content = _parse_json(path)
    if content.pop(_SEAL, None) != _digest(content):
        raise _damaged(path, "its digest is different from the one stored with it")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file by an atomic write, with the digest of its content.

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
    write_text(path, json.dumps({**content, _SEAL: _digest(content)}, indent=2, allow_nan=False) + "\n")


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
    return [] if new == old else [f"{name} is {_short(new)} instead of {_short(old)}"]


def settings_differences(config: FitConfig, run_dir: Path) -> list[str]:
    """Compare settings with those of a run folder, as far as they identify a fit.

    Parameters
    ----------
    config : FitConfig
    run_dir : Path
        Run folder of a fit.

    Returns
    -------
    list of str
        One text per setting that differs, with both values.

    Raises
    ------
    ConfigError, FileError
        If the settings of the run folder are damaged.
    """
    return differences(_identity(config), _identity(read_config(run_dir)))


def _differences_of_data(new: Signature, old: Signature) -> list[str]:
    """Compare what a fit is of; sessions that only one of two joint fits has are named, whatever they hold."""
    missing, extra = sorted(set(old.sessions) - set(new.sessions)), sorted(set(new.sessions) - set(old.sessions))
    if not (missing or extra):
        texts = differences(new.likelihood, old.likelihood, "likelihood")
        texts += [
            text for name in new.sessions for text in session_differences(name, new.sessions[name], old.sessions[name])
        ]
        if not texts and new.origins != old.origins:
            texts.append("the channels taken from the initial fit are different")
        return texts or differences(new.identity(), old.identity())
    parts = [f"without session {name!r}" for name in missing] + [f"with session {name!r}" for name in extra]
    return [f"the sessions are those of the fit in the folder, but {' and '.join(parts)}"]


def _going_on(changes: Sequence[str], run_dir: Path) -> str:
    """How to train on from the weights of a fit, if only the training is to be another."""
    if not all(change.startswith("train.") for change in changes):
        return ""
    return f"; to start from its weights: --init {run_dir} --set init.channels=same"


def _is_run_folder(path: Path) -> bool:
    """Whether a folder is one of a fit, is to become one, or is empty."""
    if not path.is_dir():
        return False
    if (path / SIGNATURE).exists():
        return True
    temporary = {each.path.name for each in temporary_files(path) if each.target in HELD}
    return all(each.name in (CONFIG, ENVIRONMENT, FAILED, LOCK) or each.name in temporary for each in path.iterdir())


def _remove_leftovers(run_dir: Path) -> None:
    """Remove temporary files of dead processes: of files that the holder of the lock alone writes, all are."""
    for leftover in temporary_files(run_dir):
        if leftover.target in HELD or leftover.is_dead():
            leftover.path.unlink(missing_ok=True)


def _empty(run_dir: Path) -> None:
    """Remove a fit; the files that allow its removal go last."""
    try:
        for member in run_dir.glob(f"{MEMBER}*"):
            _empty(member)
            member.rmdir()
        _remove_leftovers(run_dir)
        for name in HELD:
            (run_dir / name).unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot empty the run folder {str(run_dir)!r}: {error.strerror}") from None


def _read_sealed_signature(run_dir: Path) -> dict[str, Any]:
    """The content of the signature's file; another version's is refused before its digest is looked at."""
    path = run_dir / SIGNATURE
    check_format(_parse_json(path), path=path)
    return read_json(path)


def _parse_json(path: Path) -> dict[str, Any]:
    with FileErrors(path, what="the file of the run folder", hint="fit again in a new folder"):
        check_is_file(path)
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise _damaged(path, f"it contains a {type(content).__name__} instead of names and values")
    return content


def _damaged(path: Path, reason: str) -> FileError:
    return FileError(f"{str(path)!r} of the run folder is damaged: {reason}; fit again in a new folder")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _config_digest(settings: dict[str, Any]) -> str:
    return _digest({name: value for name, value in settings.items() if name not in MACHINE})


def _identity(config: FitConfig) -> dict[str, Any]:
    """Settings that identify a fit; initial weights are identified by their digest, not by their folder."""
    settings = config.model_dump(mode="json")
    if settings["init"] is not None:
        del settings["init"]["run_dir"]
    return settings


def _short(value: Any) -> str:
    """A value as YAML has it; of a group of settings only that there is one."""
    if isinstance(value, dict):
        return "set"
    text = value if isinstance(value, str) else json.dumps(value)
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
