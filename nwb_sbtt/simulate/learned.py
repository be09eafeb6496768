"""Trials of the system that a fit has learned, written as a recording with its truth."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.forward import systems_of
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.fitting.recorded import fitted_data, source_file
from nwb_sbtt.io.write.simulation import check_simulation_path, write_simulation


def write_learned(
    path: Path | str,
    run_dir: Path | str,
    *,
    trials: int | None = None,
    masked: bool = True,
    session: str | None = None,
    file: Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Simulate trials as `Fitted.simulate` does, and write them to an NWB file as `write_simulation` does.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    run_dir : path
        Of a fit to counts that has learned a system.
    trials : int, optional
        Number of trials. Default: as many as the fitted recording has.
    masked : bool
        Whether trials are sampled as those of the recording; else all entries are observed.
    session : str, optional
        May be omitted if the model was fitted to one session.
    file : Path, optional
        New path of the recording, if it was moved after the fit.
    seed : int
        Of the trials, and of the spike times within their bins.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    ConfigError
        If the fit has learned no system.
    DataError
        If it was fitted to signals, bins of the recording are partly observed and `masked`, known inputs are missing, or the
        simulated trials cannot be stored as spikes.
    FileError, MismatchError
        If the file exists or cannot be written, or the fitted recording cannot be read.
    """
    target = check_simulation_path(path, overwrite=overwrite)
    fitted = load(run_dir)
    systems_of(fitted)  # raises, before a recording is read, where there is none
    if not fitted.expects_counts:
        raise DataError(
            "the file of a simulation holds spikes, and this fit is one of signals; get its trials as a Dataset in Python: "
            "sb.load(run_dir).simulate()"
        )
    name = fitted.session_name(session)
    like = prepare(fitted_data(fitted, source_file(fitted, name, moved=file), name), fitted.config)
    if masked and "exposure" in like:
        raise DataError(
            "some bins of the recording are partly observed, and simulated spikes have no place in them; simulate trials that "
            "are observed in full (masked=False, --full)"
        )
    ds = _with_true_inputs(fitted.simulate(like, trials=trials, masked=masked, session=name, seed=seed))
    return write_simulation(target, ds.assign_attrs(system="learned"), seed=seed, overwrite=overwrite)


def _with_true_inputs(ds: xr.Dataset) -> xr.Dataset:
    """Let known inputs be part of the truth, where a file of a simulation holds them."""
    if "inputs" not in ds:
        return ds
    if not ds["inputs_observed"].all():
        raise DataError(
            "some known inputs of the recording are missing, and the truth in a file has no gaps; get the trials as a Dataset "
            "in Python: sb.load(run_dir).simulate()"
        )
    return ds.assign(true_inputs=(("trial", "time", "true_input"), ds["inputs"].values))
