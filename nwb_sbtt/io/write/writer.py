"""Write results to NWB files: a small derived file by default, or a copy of the recording with the results added."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np
import xarray as xr
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals

from nwb_sbtt.atomic import atomic_write, check_writable_name, make_folder, reserve_space, scratch_beside
from nwb_sbtt.config import WriteConfig, config_of
from nwb_sbtt.data.chops import merge_chops, without_uncovered
from nwb_sbtt.data.datasets import dataset_of, with_trials
from nwb_sbtt.data.origins import is_recorded, is_same_recording
from nwb_sbtt.data.schema import notes_of, with_notes
from nwb_sbtt.errors import DataError, FileError, MismatchError
from nwb_sbtt.fileerrors import FileErrors, follow_links, path_of
from nwb_sbtt.io.dandi.locations import local_file, recorded_file
from nwb_sbtt.io.read.extensions import manager_of
from nwb_sbtt.io.read.files import open_nwb, sha256
from nwb_sbtt.io.read.outside import Outside, is_outside, listed, outside_of
from nwb_sbtt.io.read.paths import stored_path
from nwb_sbtt.io.read.stored import (
    find_stored,
    linked_files,
    object_ids,
    stored_object_id,
    tables_of,
)
from nwb_sbtt.io.read.trials import trial_tables
from nwb_sbtt.io.write.appending import (
    UNWRITABLE,
    add_to_copy,
    problems_of,
    problems_of_open,
    refuse_invalid,
)
from nwb_sbtt.io.write.decoded import add_decoded, decoded_of
from nwb_sbtt.io.write.layout import RESULT_PARTS, channel_tables, check_latents, check_name, check_variables, only
from nwb_sbtt.io.write.overlay import Overlay
from nwb_sbtt.io.write.packing import Backend, backend_of, is_zarr, max_added_bytes, save_nwb
from nwb_sbtt.io.write.precision import rounded, rounded_names
from nwb_sbtt.io.write.provenance import model_of, model_record, source_of, sources_table
from nwb_sbtt.io.write.series import add_results, channel_rows, check_storable, column_names
from nwb_sbtt.io.write.session import TableCopier, derived_file, find_object, get_object
from nwb_sbtt.io.write.standin import stand_in

_MODULES = {
    "units": ("ecephys", "Results from extracellular electrophysiology."),
    "electrodes": ("ecephys", "Results from extracellular electrophysiology."),
    "rois": ("ophys", "Results from optical physiology."),
    "series": ("misc", "Results from other time series."),
}
_REHEARSED_VALUES = 1000
"""Most values of a ragged column of the recording that a rehearsal writes; all are read."""


def write_nwb(
    latents: xr.Dataset,
    path: Path | str,
    *,
    source: Path | str | None = None,
    append: bool = False,
    module: str | None = None,
    name: str = "sbtt",
    overwrite: bool = False,
    config: WriteConfig | Mapping[str, object] | None = None,
    decoded: xr.Dataset | Sequence[xr.Dataset] | None = None,
) -> Path:
    """Write inferred rates and latents to an NWB file, on the session clock, with their model and sources.

    By default the file is small: apart from the results it contains the session's metadata, the subject, the trials and the
    tables of the channels (all rows, the same ids). The recording is not changed. Segments of a chopped session are merged
    first. The write is atomic: the file gets its name only after it is complete and valid.

    Parameters
    ----------
    latents : Dataset
        From `Fitted.infer`: ``rates`` [Hz] or ``mean``, ``events``, ``denoised`` (trial, time, channel),
        ``factors``, ``inputs`` (trial, time, input), ``initial_condition`` (trial, state), each with or without ``_sd``, and
        ``observed``; ``attrs["model"]`` describes the model.
    path : path
        Ends in ``.nwb`` (HDF5), or in ``.nwb.zarr`` or ``.zarr`` (Zarr, needs hdmf-zarr; not validated).
    source : path, optional
        The recording. Default: the file named in ``attrs["source"]``.
    append : bool
        Write a copy of the whole recording with the results added. `path` may then be the recording itself, which is
        replaced by the enlarged copy in one step.
    module : str, optional
        Processing module. Default: "ecephys" for units and electrodes, "ophys" for ROIs and "misc" for other series.
    name : str
        Prefix of the names of everything that is added; distinguishes several results in one file.
    overwrite : bool
        Replace an existing file.
    config : WriteConfig, or mapping of its settings, optional
        Which variables are written, and how they are stored. By default all are written, and variables with a posterior sd
        are rounded to 1/16 of it.

    decoded : Dataset, or sequence of Dataset, optional
        Behaviour decoded from the latents (`nwb_sbtt.decode`). It is written into ``processing/behavior`` as core types, at the
        times of the behaviour: a TimeSeries or SpatialSeries of bins, or a TimeIntervals table of trials. Never into the
        recording itself.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    FileError
        If the file exists or cannot be written, the recording is missing, the disk is full, or the result is not valid.
    ConfigError
        If `name` has characters that are not allowed, a variable in `config` is unknown, or its compression is not installed.
    DataError
        If the Dataset is not as described above, or lacks a variable that `config` names.
    MismatchError
        If the recording is not the one that the results were inferred from, or has other channels.

    Examples
    --------
    >>> write_nwb(latents, "maze_latents.nwb", source="maze.nwb")  # doctest: +SKIP
    """
    latents = dataset_of(latents, of="latents")
    target = path_of(path).absolute()
    target = follow_links(target)
    recording = _recording(latents, source)
    _check_target(target, recording, append=append, overwrite=overwrite)
    check_name(name)
    model_of(latents)
    config = config_of(WriteConfig, config)
    check_variables(config.variables)
    latents = with_trials(latents)
    behaviour = decoded_of(decoded, latents)
    if behaviour and append and is_recording(target, recording):
        raise FileError(
            f"{str(target)!r} is the recording itself, into which decoded behaviour is never written; pass another path"
        )
    latents = check_latents(without_uncovered(merge_chops(latents)))
    to_round = tuple(rounded_names(latents)) if config.precision == "rounded" else ()
    module = module or _MODULES[str(latents.attrs["kind"])][0]
    destination = _Destination(module, name, target, config, to_round, behaviour)
    latents = only(rounded(latents, to_round), config.variables)
    with atomic_write(target, suffix=target.suffix, parents=True) as temporary:
        notes = _write(latents, temporary, destination, recording, append=append)
    for note in notes:
        if note not in notes_of(latents):
            warnings.warn(note, stacklevel=2)
    return target


def check_target(
    path: Path | str,
    *,
    source: Path | str | None = None,
    append: bool = False,
    name: str = "sbtt",
    overwrite: bool = False,
    config: WriteConfig | None = None,
) -> None:
    """Raise what `write_nwb` would raise for these arguments, before hours of fitting.

    Parameters
    ----------
    path, source, append, name, overwrite, config
        As for `write_nwb`.

    Raises
    ------
    FileError
        If the file exists, or its format is unknown.
    ConfigError
        If names in a file cannot begin with `name`, a variable is unknown, or the compression is not installed.
    """
    config = config or WriteConfig()
    recording = None if source is None else Path(source).absolute()
    target = Path(path).absolute()
    check_writable_name(target)
    _check_target(follow_links(target), recording, append=append, overwrite=overwrite)
    check_name(name)
    check_variables(config.variables)
    backend_of(follow_links(target), config.compression)


def is_recording(target: Path, recording: Path | None) -> bool:
    """Tell whether the file that is to be written is the recording, by whatever path or link.

    Parameters
    ----------
    target : Path
    recording : Path or None
        None where there is none.

    Returns
    -------
    bool
    """
    return recording is not None and target.exists() and recording.exists() and target.samefile(recording)


def rehearse(
    ds: xr.Dataset,
    path: Path | str,
    *,
    source: Path | str | None = None,
    append: bool = False,
    name: str = "sbtt",
    overwrite: bool = False,
    config: WriteConfig | None = None,
) -> list[str]:
    """Try to write results of data before there are any, so that whatever stands in the way is known before the fit.

    The folder of `path` is created. A file of the same session, tables and labels is written there, checked and removed; of
    a recording that results will be added to, no copy is made: what would change is kept in memory.

    Parameters
    ----------
    ds : Dataset
        The data that a model will be fitted to, or applied to.
    path, source, append, name, overwrite, config
        As for `write_nwb`.

    Returns
    -------
    list of str
        Remarks on what of the recording the result will be without.

    Raises
    ------
    FileError, ConfigError, DataError, MismatchError
        What `write_nwb` would raise.
    """
    check_target(path, source=source, append=append, name=name, overwrite=overwrite, config=config)
    check_storable(ds)
    latents = check_latents(without_uncovered(merge_chops(stand_in(ds))))
    recording, target = _recording(latents, source), follow_links(Path(path).absolute())
    destination = _Destination(_MODULES[str(latents.attrs["kind"])][0], name, target, config or WriteConfig())
    make_folder(target.parent)
    if append and recording is not None:
        return _rehearse_appended(latents, target, destination, recording)
    with scratch_beside(target, suffix=target.suffix) as scratch:
        return _write(latents, scratch, destination, recording, append=False, most_values=_REHEARSED_VALUES)


@dataclass(frozen=True)
class _Destination:
    """Processing module, start of the names in it, the file, how it is written, what was rounded, and decoded behaviour."""

    module: str
    name: str
    path: Path
    config: WriteConfig
    rounded: tuple[str, ...] = ()
    decoded: tuple[xr.Dataset, ...] = ()

    @property
    def backend(self) -> Backend:
        return backend_of(self.path, self.config.compression)


def _recording(latents: xr.Dataset, source: Path | str | None) -> Path | None:
    recorded = source_of(latents)
    if source is None and recorded.get("path") is None:
        return None
    recording = (local_file(source) if source is not None else recorded_file(recorded)).absolute()
    if not recording.exists():
        hint = "" if source is not None else "; if it was moved, pass source=PATH"
        raise FileError(f"the recording {str(recording)!r} does not exist{hint}")
    return recording


def _check_target(target: Path, recording: Path | None, *, append: bool, overwrite: bool) -> None:
    zarr = is_zarr(target)
    same = is_recording(target, recording)
    if same and not append:
        raise FileError(
            f"{str(target)!r} is the recording itself; pass another path, or append=True (--append) to add the results"
        )
    if target.exists() and not same and not overwrite:
        raise FileError(f"{str(target)!r} exists; pass another path, or overwrite=True (--overwrite) to replace it")
    if target.is_dir() and not zarr:
        raise FileError(f"{str(target)!r} is a folder; pass the path of a file")
    if append and recording is None:
        raise FileError("append=True (--append) needs the recording; pass source=PATH")
    if append and (zarr or (recording is not None and recording.is_dir())):
        raise FileError(
            "append=True (--append) works only on HDF5 files; without it, results are written into a separate file"
        )


def _write(
    latents: xr.Dataset,
    path: Path,
    destination: _Destination,
    recording: Path | None,
    *,
    append: bool,
    most_values: int | None = None,
) -> list[str]:
    """Write a valid file, and return remarks on what of the recording is left out.

    A table of channels whose copy would not be valid is left out as a whole: results are never lost to it.
    """
    if recording is None:
        _write_bare(latents, path, destination)
        refuse_invalid(problems_of(path, None))
        return []
    if append:
        notes = _write_appended(latents, path, destination, recording)
        refuse_invalid(problems_of(path, recording))
        return notes
    try:
        notes = _write_derived(latents, path, destination, recording, most_values=most_values)
        problems = problems_of(path, None, core_only=most_values is not None)
    except UNWRITABLE as error:
        notes, problems = [], [" ".join(str(error.args[-1] if error.args else error).split())]
    if not problems:
        return notes
    path.unlink(missing_ok=True)
    left_out = f"the result is without the tables of the recording: {problems[0]}"
    notes = _write_derived(latents, path, destination, recording, with_tables=False, notes=[left_out])
    refuse_invalid(problems_of(path, None))
    return notes


def _write_derived(
    latents: xr.Dataset,
    path: Path,
    destination: _Destination,
    recording: Path,
    *,
    with_tables: bool = True,
    notes: Sequence[str] = (),
    most_values: int | None = None,
) -> list[str]:
    remarks = list(notes)
    with open_nwb(recording, external_data=True) as nwb:
        _check_recording(latents, nwb, recording)
        found = _tables(latents, nwb)
        derived = derived_file(nwb, remarks)
        copier = partial(
            TableCopier,
            derived=derived,
            notes=remarks,
            backend=destination.backend,
            spikes=destination.config.spikes,
            most_values=most_values,
        )
        tables = _copies(found if with_tables else {}, nwb, copier, remarks)
        if with_tables:
            _copies(_trials(latents, nwb), nwb, copier, remarks)
        sources = _sources(latents, nwb, recording)
    # The copies are in memory by now; an error from here on is not the recording's.
    derived.was_generated_by = _programs(latents)
    _add(with_notes(latents, remarks), derived, destination, tables, sources)
    save_nwb(derived, path)
    return remarks


def _copies(
    tables: Mapping[str, DynamicTable], nwb: NWBFile, copier_of: Callable[[NWBFile], TableCopier], notes: list[str]
) -> dict[str, DynamicTable]:
    """Copy tables into a derived file, as far as they can be carried."""
    copies = {}
    copier = copier_of(nwb)
    for path, table in tables.items():
        try:
            with FileErrors(path, what="the table", hint="it stays in the recording", raising=DataError):
                if is_outside(table, nwb):
                    other_folder = Path(table.container_source).resolve().parent
                    if not other_folder.is_relative_to(Path(str(nwb.container_source)).resolve().parent):
                        raise DataError(
                            f"it is in {Path(table.container_source).name!r}, which is not in the folder of the "
                            "recording"
                        )
                    # References are resolved in the file that holds them, which must be an NWB file in its own right.
                    with open_nwb(table.container_source) as other:
                        its_own = find_stored(other, stored_path(nwb, table))
                        copies[path] = copier_of(other).table(its_own)
                else:
                    copies[path] = copier.table(table)
        except DataError as error:
            notes.append(f"the result is without the table {path!r} of the recording: {error}")
    return copies


def _write_appended(latents: xr.Dataset, path: Path, destination: _Destination, recording: Path) -> list[str]:
    sources, linked, outside = _check_appended(latents, path, destination, recording)
    shutil.copyfile(recording, path)
    reserve_space(path, max_added_bytes(latents))
    with h5py.File(path, "r+") as file:
        return _append(latents, file, destination, recording, sources, linked, outside)


def _rehearse_appended(latents: xr.Dataset, path: Path, destination: _Destination, recording: Path) -> list[str]:
    sources, linked, outside = _check_appended(latents, path, destination, recording)
    with Overlay(recording) as overlay:
        with h5py.File(overlay, "r+") as file:
            notes = _append(latents, file, destination, recording, sources, linked, outside)
        with h5py.File(overlay, "r") as file, NWBHDF5IO(file=file, mode="r", manager=manager_of(file)) as io:
            refuse_invalid(problems_of_open(io, recording))
    return notes


def _check_appended(
    latents: xr.Dataset, path: Path, destination: _Destination, recording: Path
) -> tuple[DynamicTable, set[str], tuple[Outside, ...]]:
    """The table of sources, the paths of tables that lie in other files, and all that does."""
    with open_nwb(recording, external_data=True) as nwb:
        _check_recording(latents, nwb, recording)
        _check_names_are_free(nwb, destination)
        linked = {table for table, item in _tables(latents, nwb).items() if is_outside(item, nwb)}
        sources, outside = _sources(latents, nwb, recording), outside_of(nwb)
    if source_of(latents).get("linked") and path.parent.resolve() != recording.parent.resolve():
        raise FileError(
            f"{recording.name!r} links to other files, which a copy in another folder would not find; write the copy "
            "into the folder of the recording, or omit append=True (--append), which writes results into a separate "
            "file"
        )
    return sources, linked, outside


def _append(
    latents: xr.Dataset,
    file: h5py.File,
    destination: _Destination,
    recording: Path,
    sources: DynamicTable,
    linked: set[str],
    outside: tuple[Outside, ...],
) -> list[str]:
    # What lies outside stays a link in the copy: its content is neither read nor written.
    notes = [f"the results are not linked to the table {table!r}, because it is in another file" for table in linked]
    if outside:
        notes.append(
            f"the copy refers to data in other files, as the recording does: {listed(outside)}; these data are not "
            "copied, so the copy is incomplete on machines without those files (without --append, results are "
            "written into a separate file)"
        )

    def add(nwb: NWBFile) -> None:
        if nwb.was_generated_by is None:
            nwb.was_generated_by = _programs(latents)
        tables = {name: table for name, table in _tables(latents, nwb).items() if name not in linked}
        _add(with_notes(latents, notes), nwb, destination, tables, sources)

    add_to_copy(
        file,
        add,
        outside,
        name=recording.name,
        instead="without append=True (--append), results are written into a separate file",
    )
    return notes


def _write_bare(latents: xr.Dataset, path: Path, destination: _Destination) -> None:
    """Write results of data that were never in a file: no subject, and no table of channels but that of the results."""
    start = latents.attrs.get("session_start_time")
    if start is None:
        raise FileError(
            "the Dataset has no record of the file that it was read from; pass source=PATH, or, if the data did not "
            "come from a file, set attrs['session_start_time'] to an ISO date and time"
        )
    nwb = NWBFile(
        session_description="Results of a model of data that were not read from an NWB file.",
        identifier=str(uuid4()),
        session_start_time=datetime.fromisoformat(str(start)),
        session_id=latents.attrs.get("session_id"),
        was_generated_by=_programs(latents),
    )
    _add(latents, nwb, destination, {}, None)
    save_nwb(nwb, path)


def _add(
    latents: xr.Dataset,
    nwb: NWBFile,
    destination: _Destination,
    tables: dict[str, DynamicTable],
    sources: DynamicTable | None,
) -> None:
    text = _MODULES[str(latents.attrs["kind"])][1]
    module = nwb.processing.get(destination.module) or nwb.create_processing_module(
        name=destination.module, description=text
    )
    backend = destination.backend
    record = model_record(latents, name=f"{destination.name}_model", columns=column_names(latents), pack=backend.pack)
    if sources is not None:
        record.sources = sources
    recorded = _recorded_series(latents, nwb)
    add_results(
        module,
        latents,
        name=destination.name,
        tables=tables,
        record=record,
        backend=backend,
        recorded=recorded,
        rounded=destination.rounded,
    )
    add_decoded(nwb, destination.decoded, name=destination.name, backend=backend)


def _check_recording(latents: xr.Dataset, nwb: NWBFile, recording: Path) -> None:
    """Compare the recording, and the files that it links to, with those that the results were inferred from."""
    recorded = source_of(latents)
    for now, then in ((_identity(nwb, recording, recorded), recorded), *_linked_pairs(latents, nwb, recording)):
        if is_recorded(then) and not is_same_recording(then, now):
            key = "object_id" if "object_id" in then and "object_id" in now else "sha256"
            words = {"object_id": "object id", "sha256": "the SHA-256"}
            raise MismatchError(
                f"the results were inferred from another file: {then.get('name')!r} with {words[key]} "
                f"{then.get(key)}, but {now['name']!r} has {now.get(key)}; pass the original recording as source=PATH"
            )


def _identity(nwb: NWBFile, path: Path, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Name and object id of an open file; its SHA-256 where the id does not tell that it is the recorded one."""
    known = {"name": path.name, **object_ids(nwb)}
    if is_same_recording(known, recorded) or not is_recorded(recorded):
        return known
    return {**known, "sha256": sha256(path)}


def _linked_pairs(
    latents: xr.Dataset, nwb: NWBFile, recording: Path
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The linked files as they are now and as they were when they were read, by their names."""
    linked = source_of(latents).get("linked", [])
    if not linked:
        return []
    read = [get_object(nwb, path) for path in source_of(latents)["series"]]
    now = {file["name"]: file for file in linked_files(nwb, read)}
    return [(now.get(then["name"], {"name": recording.name}), then) for then in linked]


def _check_names_are_free(nwb: NWBFile, destination: _Destination) -> None:
    module = nwb.processing.get(destination.module)
    start = f"{destination.name}_"
    present = [] if module is None else [key for key in module.data_interfaces if key.startswith(start)]
    taken = [key for key in present if key.removeprefix(start).split("_")[0] in RESULT_PARTS]
    if taken:
        raise FileError(
            f"the module {destination.module!r} of the recording already holds {', '.join(map(repr, sorted(taken)))}; "
            f"pass another name, for example name={destination.name + '2'!r} (--name {destination.name}2)"
        )


def _tables(latents: xr.Dataset, nwb: NWBFile) -> dict[str, DynamicTable]:
    """Tables of the channels by path, checked to have the channels' ids; a series without a table is not among them."""
    paths = np.array(channel_tables(latents))
    ids = latents["channel_id"].values
    tables = {}
    read = map(partial(find_object, nwb), dict.fromkeys(map(str, latents.get("series", xr.DataArray([])).values)))
    known = tables_of(nwb, [series for series in read if series is not None])
    for path in dict.fromkeys(paths.tolist()):
        table = known.get(path) or (get_object(nwb, path) if path else None)
        if not isinstance(table, DynamicTable):
            continue
        columns = np.flatnonzero(paths == path)
        rows = channel_rows(latents, table)[columns]
        table_ids = np.asarray(table.id[:])
        inside = (rows >= 0) & (rows < len(table_ids))
        wrong = ids[columns][~inside].tolist()
        wrong += ids[columns][inside][table_ids[rows[inside]] != ids[columns][inside]].tolist()
        if wrong:
            raise MismatchError(
                f"{len(wrong)} of {len(columns)} channels are in different rows of the table {path!r} than in the "
                f"recording, for example id {wrong[0]}; pass the file that the results were inferred from"
            )
        tables[path] = table
    return tables


def _trials(latents: xr.Dataset, nwb: NWBFile) -> dict[str, DynamicTable]:
    """The table of trials by its path, and the table of intervals that the data were cut by."""
    name = json.loads(latents.attrs.get("cut", "{}")).get("table")
    return {
        path: table
        for path, table in trial_tables(nwb).items()
        if isinstance(table, TimeIntervals)
        and path.startswith("intervals/")
        and (table is nwb.trials or name in (path, table.name))
    }


def _recorded_series(latents: xr.Dataset, nwb: NWBFile) -> TimeSeries | None:
    """The one series that all channels come from, where this file holds it."""
    paths = {str(path) for path in latents["series"].values} if "series" in latents.coords else set()
    if len(paths) != 1:
        return None
    series = find_object(nwb, paths.pop())
    return series if isinstance(series, TimeSeries) and not is_outside(series, nwb) else None


def _sources(latents: xr.Dataset, nwb: NWBFile, recording: Path) -> DynamicTable:
    recorded = source_of(latents)
    series = recorded.get("series") or (list(dict.fromkeys(map(str, latents.get("series", xr.DataArray([])).values))))
    kept = {key: value for key, value in recorded.items() if key != "object_id"}
    source = {
        **{"name": recording.name, "identifier": nwb.identifier},
        **kept,
        **object_ids(nwb),
        "series": series,
        "sha256": recorded.get("sha256") or sha256(recording),
    }
    return sources_table(source, {path: stored_object_id(nwb, get_object(nwb, path)) for path in series})


def _programs(latents: xr.Dataset) -> list[list[str]]:
    environment = model_of(latents).get("environment")
    torch = environment.get("torch") if isinstance(environment, dict) else None
    return [["nwb_sbtt", version("nwb_sbtt")], *([["torch", str(torch)]] if torch else [])]
