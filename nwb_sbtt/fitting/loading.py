"""Fits that are read from their run folders."""

from __future__ import annotations

from pathlib import Path

from nwb_sbtt.errors import FileError
from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.fitting.fitted import Fitted
from nwb_sbtt.fitting.member import load_member
from nwb_sbtt.fitting.runfolder import CONFIG, ENVIRONMENT, member_folders, read_config, read_json, read_signature
from nwb_sbtt.train.checkpoint import BEST


def load(run_dir: Path | str) -> Fitted:
    """Load the best checkpoint of a run folder, or those of all members of an ensemble.

    Parameters
    ----------
    run_dir : path
        Run folder of a fit.

    Returns
    -------
    Fitted

    Raises
    ------
    FileError
        If the folder has no fit, or a fit without a checkpoint; or if the digest of weights, settings, calibration or
        another file is different from the stored one.
    TrainingError
        If the folder was written in the format of another version.
    """
    run_dir = path_of(run_dir, "the run folder")
    if not (run_dir / CONFIG).exists():
        raise _no_fit(run_dir)
    config = read_config(run_dir)
    folders = member_folders(run_dir, config.seeds)
    if absent := [folder.name for folder in folders if not (folder / BEST).exists()]:
        if len(folders) == 1:
            raise _no_fit(run_dir)
        raise FileError(
            f"the ensemble in {str(run_dir)!r} is not complete: {', '.join(absent)} of {len(folders)} members have no "
            "fitted model yet; run the same fit again to resume it"
        )
    signature = read_signature(run_dir)
    read_json(run_dir / ENVIRONMENT)  # Results tell of it, and it is noticed now if it is damaged.
    fitted = Fitted(tuple(load_member(folder, signature) for folder in folders), config, run_dir, signature)
    return fitted.calibrated().aligned()


def _no_fit(run_dir: Path) -> FileError:
    return FileError(
        f"{str(run_dir)!r} has no fitted model; expected the files {CONFIG} and {BEST}. Fit a model with `nwb-sbtt fit`"
    )
