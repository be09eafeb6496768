"""An ensemble of finished fits, whatever settings each has."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.errors import TrainingError
from nwb_sbtt.fitting.calibrations import write_calibrations
from nwb_sbtt.fitting.fit import calibrate
from nwb_sbtt.fitting.fitted import Fitted
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.fitting.runfolder import (
    CHANGES,
    CONFIG,
    ENVIRONMENT,
    member_folders,
    open_run_folder,
    read_config,
    read_json,
    read_signature,
)
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.train.checkpoint import BEST, DYNAMICS, LAST, LOG

_OF_MEMBER = (CONFIG, SIGNATURE, ENVIRONMENT, LOG, LAST, BEST, DYNAMICS, CHANGES)


def assemble(run_dir: Path, members: Sequence[Path], data: Mapping[str, xr.Dataset]) -> Fitted:
    """Make the run folder of an ensemble of fits to the same data; they may differ in everything else.

    Averages need only what a model expects of the data, so models of different sizes may be averaged. The ensemble's own
    settings are those of the first member, with the number of members as ``seeds``.

    Parameters
    ----------
    run_dir : Path
        Replaced in one step, if it exists.
    members : sequence of Path
        Run folders of finished fits of one model each, the best first; they are copied.
    data : mapping of session to Dataset
        Of the fits.

    Returns
    -------
    Fitted
        Calibrated as a whole.

    Raises
    ------
    TrainingError
        If fewer than two are given, or one is of other data.
    FileError
        If a run folder is damaged, or the new one cannot be written.
    """
    if len(members) < 2:
        raise TrainingError(f"an ensemble needs at least two fits, not {len(members)}")
    config, signature = read_config(members[0]), read_signature(members[0])
    device = str(read_json(members[0] / ENVIRONMENT)["device"])
    of_ensemble = config.model_copy(update={"seeds": len(members)})
    with atomic_write(run_dir, suffix="") as temporary:
        temporary.mkdir()
        open_run_folder(temporary, of_ensemble, signature=signature, device=device)
        for source, target in zip(members, member_folders(temporary, len(members)), strict=True):
            if read_signature(source).identity() != signature.identity():
                raise TrainingError(f"{str(source)!r} is a fit of different data than {str(members[0])!r}")
            copy_run(source, target)
        fitted = load(temporary)
        prepared = {name: prepare(ds, config) for name, ds in data.items()}
        write_calibrations(calibrate(fitted, prepared), temporary, checkpoint=fitted.checkpoint_sha256)
    return load(run_dir)


def copy_run(source: Path, target: Path) -> None:
    """Copy what a fit of one model goes on from: settings, signature, states and log.

    Parameters
    ----------
    source, target : Path
        Run folder, and a folder that is made.
    """
    target.mkdir()
    for name in _OF_MEMBER:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
