"""Write results to NWB files: a small derived file by default, or a copy of the recording with the results added."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import h5py
import numpy as np
import pynwb
import xarray as xr
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

from nwb_sbtt.atomic import atomic_write, reserve_space
from nwb_sbtt.data.trials import merge
from nwb_sbtt.errors import FileError, MismatchError
from nwb_sbtt.fileerrors import follow_links
from nwb_sbtt.io.dandi.locations import local_file, recorded_file
from nwb_sbtt.io.read.files import open_nwb, sha256
from nwb_sbtt.io.read.outside import is_outside
from nwb_sbtt.io.write.layout import RESULT_PARTS, channel_tables, check_latents, check_name
from nwb_sbtt.io.write.packing import HDF5, ZARR, is_zarr, max_added_bytes, save_nwb
from nwb_sbtt.io.write.provenance import model_of, model_record, source_of, sources_table
from nwb_sbtt.io.write.series import add_results, channel_rows, column_names
from nwb_sbtt.io.write.session import TableCopier, derived_file, find_object, get_object

_MODULES = {
    "units": ("ecephys", "Results from extracellular electrophysiology."),
    "electrodes": ("ecephys", "Results from extracellular electrophysiology."),
    "rois": ("ophys", "Results from optical physiology."),
    "series": ("misc", "Results from other time series."),
}


def write_nwb(
    latents: xr.Dataset,
    path: Path | str,
    *,
    source: Path | str | None = None,
    append: bool = False,
    module: str | None = None,
    name: str = "sbtt",
    overwrite: bool = False,
) -> Path:
    """Write inferred rates and latents to an NWB file, on the session clock, with their model and sources.

    By default the file is small and derived: it holds the session's metadata, the subject and the tables of the
    channels (all rows, the same ids), and the recording is only read. Segments of a chopped session are merged first.
    The write is atomic: the file gets its name once it is complete and valid.

    Parameters
    ----------
    latents : Dataset
        As `Fitted.infer` returns it: ``rates`` [Hz] or ``mean``, ``events``, ``denoised`` (trial, time, channel),
        ``factors``, ``inputs`` (trial, time, *), ``initial_condition`` (trial, *), each with or without ``_sd``, and
        ``observed``; ``attrs["model"]`` describes the model.
    path : path
        Ends in ``.nwb`` (HDF5), or in ``.nwb.zarr`` or ``.zarr`` (Zarr, needs hdmf-zarr; not validated).
    source : path, optional
        The recording. None takes the file named in ``attrs["source"]``.
    append : bool
        Write a copy of the whole recording with the results added. `path` may then be the recording itself, which is
        replaced by the enlarged copy in one step.
    module : str, optional
        Processing module; None takes "ecephys" for units and electrodes, "ophys" for ROIs and "misc" for other series.
    name : str
        Start of the name of everything that is added; distinguishes several results in one file.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError
        If the file exists, its folder does not, the recording is missing, the disk is full, or the result is not valid.
    ConfigError
        If names in a file cannot begin with `name`.
    DataError
        If the Dataset is not as above.
    MismatchError
        If the recording is not the one that the results were inferred from, or has other channels.

    Examples
    --------
    >>> write_nwb(latents, "maze_latents.nwb", source="maze.nwb")  # doctest: +SKIP
    """
    target = Path(path).absolute()
    target = follow_links(target) if target.parent.is_dir() else target
    recording = _recording(latents, source)
    _check_target(target, recording, append=append, overwrite=overwrite)
    check_name(name)
    model_of(latents)
    latents = check_latents(_merge_chop(latents))
    destination = _Destination(module or _MODULES[str(latents.attrs["kind"])][0], name, is_zarr(target))
    with atomic_write(target, suffix=target.suffix) as temporary:
        if recording is None:
            _write_bare(latents, temporary, destination)
        elif append:
            _write_appended(latents, temporary, destination, recording)
        else:
            _write_derived(latents, temporary, destination, recording)
        if not destination.zarr:
            _validate(temporary, recording if append else None)
    return target


def check_target(
    path: Path | str,
    *,
    source: Path | str | None = None,
    append: bool = False,
    name: str = "sbtt",
    overwrite: bool = False,
) -> None:
    """Raise what `write_nwb` would raise for these arguments, before hours of fitting.

    Parameters
    ----------
    path, source, append, name, overwrite
        As for `write_nwb`.

    Raises
    ------
    FileError
        If the file exists, its folder does not, or its format is unknown.
    ConfigError
        If names in a file cannot begin with `name`.
    """
    recording = None if source is None else Path(source).absolute()
    _check_target(Path(path).absolute(), recording, append=append, overwrite=overwrite)
    check_name(name)


@dataclass(frozen=True)
class _Destination:
    """Processing module, start of the names in it, and whether the file is Zarr."""

    module: str
    name: str
    zarr: bool


def _recording(latents: xr.Dataset, source: Path | str | None) -> Path | None:
    recorded = source_of(latents)
    if source is None and recorded.get("path") is None:
        return None
    recording = (local_file(source) if source is not None else recorded_file(recorded)).absolute()
    if not recording.exists():
        hint = "" if source is not None else "; it may have moved: pass source=PATH"
        raise FileError(f"the recording {str(recording)!r} does not exist{hint}")
    return recording


def _check_target(target: Path, recording: Path | None, *, append: bool, overwrite: bool) -> None:
    zarr = is_zarr(target)
    if not target.parent.is_dir():
        raise FileError(
            f"cannot write {str(target)!r}: the folder {str(target.parent)!r} does not exist; create it first"
        )
    same = recording is not None and target.exists() and recording.exists() and target.samefile(recording)
    if same and not append:
        raise FileError(
            f"{str(target)!r} is the recording itself; pass another path, or append=True (--append) to add the results"
        )
    if target.exists() and not same and not overwrite:
        raise FileError(f"{str(target)!r} exists; pass another path, or overwrite=True (--overwrite) to replace it")
    if target.is_dir() and not zarr:
        raise FileError(f"{str(target)!r} is a folder; pass the path of a file")
    if append and recording is None:
        raise FileError("append=True (--append) needs the recording: pass source=PATH")
    if append and (zarr or (recording is not None and recording.is_dir())):
        raise FileError(
            "append=True (--append) works on HDF5 files only; leave it out to write a derived file beside the recording"
        )


def _merge_chop(latents: xr.Dataset) -> xr.Dataset:
    """Merge the segments of a chopped session; trials and windows stay as they are.

    Bins that lie in no segment are left out: nothing was inferred there, and a zero would be read as a rate.
    """
    cut = json.loads(latents.attrs.get("cut", "null"))
    if not cut or cut.get("by") != "chop" or latents.sizes["trial"] == 1:
        return latents
    merged = merge(latents)
    if "covered" not in merged.coords:
        return merged
    return merged.isel(time=np.flatnonzero(merged["covered"].values)).drop_vars("covered")


def _write_derived(latents: xr.Dataset, path: Path, destination: _Destination, recording: Path) -> None:
    with open_nwb(recording, external_data=True) as nwb:
        _check_recording(latents, nwb, recording)
        derived = derived_file(nwb)
        copier = TableCopier(nwb, derived)
        tables = {
            key: copier.table(table) for key, table in _tables(latents, nwb).items() if not is_outside(table, nwb)
        }
        sources = _sources(latents, nwb, recording)
    # The copies are in memory by now; an error from here on is not the recording's.
    derived.was_generated_by = _programs(latents)
    _add(latents, derived, destination, tables, sources)
    save_nwb(derived, path)


def _write_appended(latents: xr.Dataset, path: Path, destination: _Destination, recording: Path) -> None:
    with open_nwb(recording, external_data=True) as nwb:
        _check_recording(latents, nwb, recording)
        _tables(latents, nwb)
        _check_names_are_free(nwb, destination)
        sources = _sources(latents, nwb, recording)
    shutil.copyfile(recording, path)
    reserve_space(path, max_added_bytes(latents))
    with NWBHDF5IO(path, mode="a") as io:
        nwb = io.read()
        if nwb.was_generated_by is None:
            nwb.was_generated_by = _programs(latents)
        _add(latents, nwb, destination, _tables(latents, nwb), sources)
        io.write(nwb)
    _drop_old_specifications(path)


def _drop_old_specifications(path: Path) -> None:
    """Keep one version of each cached namespace: the one that the file was just written with.

    Readers take the last version in alphabetical order, in which 2.4.0 comes after 2.11.0: they would read the new
    objects by the old rules, and call them invalid.
    """
    catalog = pynwb.get_manager().namespace_catalog
    with h5py.File(path, mode="a") as file:
        for name, versions in file["specifications"].items():
            current = catalog.get_namespace(name).version if name in catalog.namespaces else None
            for other in [version for version in versions if current in versions and version != current]:
                del versions[other]


def _write_bare(latents: xr.Dataset, path: Path, destination: _Destination) -> None:
    """Write results of data that were never in a file: no subject, and no table of channels but that of the results."""
    start = latents.attrs.get("session_start_time")
    if start is None:
        raise FileError(
            "the Dataset names no file that it was read from; pass source=PATH, or, for data that were never in a file, "
            "set attrs['session_start_time'] to an ISO date and time"
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
    backend = ZARR if destination.zarr else HDF5
    record = model_record(latents, name=f"{destination.name}_model", columns=column_names(latents), pack=backend.pack)
    if sources is not None:
        record.sources = sources
    recorded = _recorded_series(latents, nwb)
    add_results(
        module, latents, name=destination.name, tables=tables, record=record, backend=backend, recorded=recorded
    )


def _check_recording(latents: xr.Dataset, nwb: NWBFile, recording: Path) -> None:
    expected = source_of(latents).get("object_id")
    if expected is not None and expected != nwb.object_id:
        raise MismatchError(
            f"the results were inferred from another file: {source_of(latents).get('name')!r} with object id "
            f"{expected}, but {recording.name!r} has {nwb.object_id}"
        )


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
    for path in dict.fromkeys(paths.tolist()):
        table = get_object(nwb, path) if path else None
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
                f"{len(wrong)} of {len(columns)} channels are not where they were in the table {path!r} of the "
                f"recording, for example id {wrong[0]}; is this the file that the results were inferred from?"
            )
        tables[path] = table
    return tables


def _recorded_series(latents: xr.Dataset, nwb: NWBFile) -> TimeSeries | None:
    """The one series that all channels come from, where this file holds it."""
    paths = {str(path) for path in latents["series"].values} if "series" in latents.coords else set()
    if len(paths) != 1:
        return None
    series = find_object(nwb, paths.pop())
    return series if isinstance(series, TimeSeries) else None


def _sources(latents: xr.Dataset, nwb: NWBFile, recording: Path) -> DynamicTable:
    recorded = source_of(latents)
    series = recorded.get("series") or (list(dict.fromkeys(map(str, latents.get("series", xr.DataArray([])).values))))
    source = {
        **{"name": recording.name, "object_id": nwb.object_id, "identifier": nwb.identifier},
        **recorded,
        "series": series,
        "sha256": recorded.get("sha256") or sha256(recording),
    }
    return sources_table(source, {path: get_object(nwb, path).object_id for path in series})


def _programs(latents: xr.Dataset) -> list[list[str]]:
    environment = model_of(latents).get("environment")
    torch = environment.get("torch") if isinstance(environment, dict) else None
    return [["nwb_sbtt", version("nwb_sbtt")], *([["torch", str(torch)]] if torch else [])]


def _validate(path: Path, recording: Path | None) -> None:
    """Check the file against the schema; problems that the recording already had do not count."""
    problems = {str(problem) for problem in pynwb.validate(path=str(path))}
    if problems and recording is not None:
        for cached in (True, False):
            before = pynwb.validate(path=str(recording), use_cached_namespaces=cached)
            problems -= {str(problem) for problem in before}
    if problems:
        listed = "; ".join(sorted(problems)[:3])
        raise FileError(f"the file would not be valid NWB, so it was not kept: {listed}")
