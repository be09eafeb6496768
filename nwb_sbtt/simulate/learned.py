"""Trials of the system that a fit has learned, or of its hidden Markov model, written as a recording with its truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig, Trials, build
from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.fitting.forward import simulators
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.fitting.recorded import fitted_data, source_file
from nwb_sbtt.fitting.signature import SessionSignature
from nwb_sbtt.io.write.simulation import TrialTable, check_simulation_path, repeated_ids, write_simulation
from nwb_sbtt.io.write.writer import is_recording

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

UNITS = "units"
"""Name of the table of units in the file."""
IN_PYTHON = "get its trials as a Dataset in Python: sb.load(run_dir).simulate({})"
"""What to try where there is no file; with the arguments of the call."""


def write_learned(
    path: Path | str,
    run_dir: Path | str,
    *,
    trials: int | None = None,
    masked: bool = True,
    by: Literal["system", "markov"] = "system",
    session: str | None = None,
    file: Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Simulate trials as `Fitted.simulate` does, and write them to an NWB file as `write_simulation` does.

    The trials of the file are cut as those of the recording: around the same event, which its table of trials has, or, of a
    recording that was chopped, from ``start_time`` on. Bins and truth that are read so are those of `Fitted.simulate`; of a
    recording that was cut around events there are pauses between trials.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    run_dir : path
        Of a fit to counts of units that has learned a system.
    trials : int, optional
        Number of trials. Default: as many as the fitted recording has.
    masked : bool
        Whether trials are sampled as those of the recording; else all entries are observed.
    by : {"system", "markov"}
        The system or the hidden Markov model.
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
        If the fit has learned no system, or no hidden Markov model.
    DataError
        If it was fitted to anything but counts of units, bins of the recording are partly observed and `masked`, known inputs
        are missing, or the simulated trials cannot be stored as spikes.
    FileError, MismatchError
        If the file exists or cannot be written, is the recording itself, or the fitted recording cannot be read.
    """
    fitted = load(run_dir)
    _refuse_recordings(path_of(path, "the path of the simulation").absolute(), fitted, file)
    target = check_simulation_path(path, overwrite=overwrite)
    simulators(fitted, by)  # raises, before a recording is read, where there are none
    name = fitted.session_name(session)
    signature = fitted.signature.sessions[name]
    _check_has_units(fitted, signature)
    cut = build(ReadConfig, signature.read_config or {}).cut
    if isinstance(cut, Trials):
        _check_cut(cut)
    like = prepare(fitted_data(fitted, source_file(fitted, name, moved=file), name), fitted.config)
    _check_is_one_table(like)
    if masked and "exposure" in like:
        raise DataError(
            "some bins of the recording are partly observed, and simulated spikes have no place in them; simulate trials that "
            "are observed in full (masked=False, --full)"
        )
    ds = _with_true_inputs(fitted.simulate(like, trials=trials, masked=masked, by=by, session=name, seed=seed))
    _check_observed(ds, like)
    ds = ds.assign_attrs(system="learned" if by == "system" else by)
    table = None
    if isinstance(cut, Trials):
        ds, table = _around_events(ds, cut)
    return write_simulation(target, ds, table=table, seed=seed, overwrite=overwrite)


def _refuse_recordings(target: Path, fitted: Fitted, moved: Path | None) -> None:
    """Refuse to replace any recording that the model was fitted to."""
    sources = [signature.source or {} for signature in fitted.signature.sessions.values()]
    recordings = [Path(source["path"]) for source in sources if "path" in source]
    if moved is not None:
        recordings.append(path_of(moved, "the recording"))
    if any(is_recording(target, recording) for recording in recordings):
        raise FileError(f"{str(target)!r} is the recording itself; pass another path")


def _check_has_units(fitted: Fitted, signature: SessionSignature) -> None:
    source = signature.source
    is_stored = source is not None and "sha256" in source
    data = "" if is_stored else "like=data"
    if signature.kind != "units" or not fitted.expects_counts:
        what = "counts" if fitted.expects_counts else "signals"
        raise DataError(
            f"the file of a simulation holds the spikes of sorted units, and this fit is one of {what} of kind "
            f"{signature.kind!r}; {IN_PYTHON.format(data)}"
        )
    if not is_stored:
        raise FileError(
            "the data of this fit did not come from a file, and a run folder does not store them; "
            f"{IN_PYTHON.format(data)}, and write these by sb.simulate.write_simulation"
        )


def _check_is_one_table(like: xr.Dataset) -> None:
    """Refuse units that could not be told apart in the file, or not be recognised there by the fit."""
    repeated, tables = repeated_ids(like), sorted(set(like["table"].values.tolist()))
    if repeated or tables != [UNITS]:
        what = f"the ids {repeated[:5]} of the fitted units repeat" if repeated else f"the fitted units are of {tables}"
        raise DataError(
            f"{what}, and the file of a simulation holds one table {UNITS!r}, whose ids tell them apart; {IN_PYTHON.format('')}"
        )


def _check_cut(cut: Trials) -> None:
    if "/" in _table_name(cut) or "/" in cut.event:
        raise DataError(
            f"the recording was cut around {cut.event!r} of {cut.table!r}, and the file of a simulation holds only a table of "
            f"intervals with a column of events; {IN_PYTHON.format('')}"
        )


def _check_observed(ds: xr.Dataset, like: xr.Dataset) -> None:
    """Refuse units without an observed bin, which a file of spikes cannot tell from those that are always observed."""
    missing = ds["channel_id"].values[~ds["observed"].values.any((0, 1))].tolist()
    if not missing:
        return
    full = "every entry observed (masked=False, --full)"
    if set(missing) & set(like["channel_id"].values[~like["observed"].values.any((0, 1))].tolist()):
        raise DataError(f"channels {missing[:5]} are not observed in any trial of the recording; simulate {full}")
    n_trials = ds.sizes["trial"]
    raise DataError(
        f"channels {missing[:5]} are not observed in {n_trials} trials that are sampled as the first {n_trials} of the "
        f"recording; simulate more (trials=, --trials), up to {like.sizes['trial']}, or {full}"
    )


def _around_events(ds: xr.Dataset, cut: Trials) -> tuple[xr.Dataset, TrialTable]:
    """Lay trials on the session clock, and their events in a table, so that this cut finds their bins there.

    Pauses are as long as trials with their events, so that other cuts find little of a neighbour.
    """
    width = float(ds.attrs["bin_width"])
    # Of each trial, in seconds from its event; a trial is no shorter than a bin.
    begin, end = {
        "start_time": (0.0, max(cut.stop, width)),
        "stop_time": (min(cut.start, -width), 0.0),
    }.get(cut.event, (min(cut.start, 0.0), max(cut.stop, 0.0)))
    first, last = min(begin, cut.start), max(end, cut.stop)
    events: NDArray[np.float64] = 2 * (last - first) * np.arange(ds.sizes["trial"], dtype=float) - first
    columns = {
        "start_time": ("Start of the trial.", np.asarray(events + begin)),
        "stop_time": ("End of the trial.", np.asarray(events + end)),
    }
    bins = f"bins from {cut.start:g} to {cut.stop:g} s around"
    if cut.event not in columns:
        clock = ", in seconds from the start of the trial" if cut.relative else ""
        times = np.full(len(events), -begin) if cut.relative else events
        columns[cut.event] = (f"Event of the trial{clock}; {bins} it were simulated.", times)
    table = TrialTable(_table_name(cut), f"Simulated trials, with pauses between them: {bins} {cut.event!r}.", columns)
    return ds.assign_coords(trial_start=("trial", events + cut.start)), table


def _table_name(cut: Trials) -> str:
    return cut.table.strip("/").removeprefix("intervals/")


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
