"""Results into NWB files: a small derived file by default, or a copy of the recording with the results in it."""

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
from nwb_sbtt.io.dandi.places import local_file, recorded_file
from nwb_sbtt.io.read.files import open_nwb, sha256
from nwb_sbtt.io.write.layout import PARTS, check_latents, check_name, tables_of
from nwb_sbtt.io.write.packing import HDF5, ZARR, addition, is_zarr, save
from nwb_sbtt.io.write.provenance import known_model, model_record, recorded_source, sources_table
from nwb_sbtt.io.write.series import add_estimates, channel_rows, column_names
from nwb_sbtt.io.write.session import TableCarrier, derived_file, find, lookup

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
    """Write inferred rates and latents to an NWB file, on the session clock, with the model and where they came from.

    By default the file is small and derived: it carries the session's metadata, the subject and the tables of the
    channels (all rows, the same ids), and the recording is only read. Pieces of a chopped session are merged first.
    The file appears under its name when it is complete and valid, or not at all.

    Parameters
    ----------
    latents : Dataset
        As `Fitted.infer` gives it: ``rates`` [Hz] or ``mean`` (trial, time, channel), ``factors``, ``inputs``,
        ``initial_condition``, each with or without ``_sd``, and ``observed``; ``attrs["model"]`` says what made them.
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
        Start of the name of everything that is added; tells several results in one file apart.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError
        If the file exists, its folder does not, the recording is missing, the disk is full, or the result is not valid.
    DataError
        If the Dataset is not as above.
    MismatchError
        If the recording is not the one that the results were inferred from, or has other channels.

    Examples
    --------
    >>> write_nwb(latents, "maze_latents.nwb", source="maze.nwb")  # doctest: +SKIP
    """
    target = Path(path).absolute()
    target = target.resolve() if target.parent.is_dir() else target
    recording = _recording(latents, source)
    _check_target(target, recording, append=append, overwrite=overwrite)
    check_name(name)
    known_model(latents)
    latents = check_latents(_merged(latents))
    place = _Place(module or _MODULES[str(latents.attrs["kind"])][0], name, is_zarr(target))
    with atomic_write(target, suffix=target.suffix) as temporary:
        if recording is None:
            _write_bare(latents, temporary, place)
        elif append:
            _write_appended(latents, temporary, place, recording)
        else:
            _write_derived(latents, temporary, place, recording)
        if not place.zarr:
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
    """Raise what `write_nwb` would raise of its arguments alone, so that hours of work need not end in it.

    Raises
    ------
    FileError
        If the file exists, its folder does not, or its format is not known.
    DataError
        If the name cannot be one.
    """
    recording = None if source is None else Path(source).absolute()
    _check_target(Path(path).absolute(), recording, append=append, overwrite=overwrite)
    check_name(name)


@dataclass(frozen=True)
class _Place:
    """Processing module, start of the names in it, and whether the file is Zarr."""

    module: str
    name: str
    zarr: bool


def _recording(latents: xr.Dataset, source: Path | str | None) -> Path | None:
    known = recorded_source(latents)
    if source is None and known.get("path") is None:
        return None
    recording = (local_file(source) if source is not None else recorded_file(known)).absolute()
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
            f"{str(target)!r} is the recording itself; give another path, or append=True to add the results"
        )
    if target.exists() and not same and not overwrite:
        raise FileError(f"{str(target)!r} exists; give another path, or overwrite=True to replace it")
    if target.is_dir() and not zarr:
        raise FileError(f"{str(target)!r} is a folder; give the path of a file")
    if append and recording is None:
        raise FileError("append=True needs the recording: pass source=PATH")
    if append and (zarr or (recording is not None and recording.is_dir())):
        raise FileError(
            "append=True works on HDF5 files only; leave it out to write a derived file beside the recording"
        )


def _merged(latents: xr.Dataset) -> xr.Dataset:
    """Put the pieces of a chopped session back together; trials and windows stay as they are.

    Bins that lie in no piece are left out: nothing was inferred there, and a zero would be read as an estimate.
    """
    cut = json.loads(latents.attrs.get("cut", "null"))
    if not cut or cut.get("by") != "chop" or latents.sizes["trial"] == 1:
        return latents
    merged = merge(latents)
    if "covered" not in merged.coords:
        return merged
    return merged.isel(time=np.flatnonzero(merged["covered"].values)).drop_vars("covered")


def _write_derived(latents: xr.Dataset, path: Path, place: _Place, recording: Path) -> None:
    with open_nwb(recording) as nwb:
        _check_recording(latents, nwb, recording)
        derived = derived_file(nwb)
        carrier = TableCarrier(nwb, derived)
        tables = {key: carrier.table(table) for key, table in _tables(latents, nwb).items()}
        sources = _sources(latents, nwb, recording)
    # Everything that is carried over is in memory by now; an error from here on is not the recording's.
    derived.was_generated_by = _programs(latents)
    _add(latents, derived, place, tables, sources)
    save(derived, path)


def _write_appended(latents: xr.Dataset, path: Path, place: _Place, recording: Path) -> None:
    with open_nwb(recording) as nwb:
        _check_recording(latents, nwb, recording)
        _tables(latents, nwb)
        _check_free(nwb, place)
        sources = _sources(latents, nwb, recording)
    shutil.copyfile(recording, path)
    reserve_space(path, addition(latents))
    with NWBHDF5IO(path, mode="a") as io:
        nwb = io.read()
        if nwb.was_generated_by is None:
            nwb.was_generated_by = _programs(latents)
        _add(latents, nwb, place, _tables(latents, nwb), sources)
        io.write(nwb)
    _drop_old_specifications(path)


def _drop_old_specifications(path: Path) -> None:
    """Keep one version of each cached namespace: the one that the file was just written with.

    Readers take the last version in alphabetical order, for which 2.4.0 comes after 2.11.0: they would read the new
    objects by the old rules, and find them wrong.
    """
    catalog = pynwb.get_manager().namespace_catalog
    with h5py.File(path, mode="a") as file:
        for name, versions in file["specifications"].items():
            current = catalog.get_namespace(name).version if name in catalog.namespaces else None
            for other in [version for version in versions if current in versions and version != current]:
                del versions[other]


def _write_bare(latents: xr.Dataset, path: Path, place: _Place) -> None:
    """Data that were never in a file: no subject, and the channels' only table is the one written with the results."""
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
    _add(latents, nwb, place, {}, None)
    save(nwb, path)


def _add(
    latents: xr.Dataset,
    nwb: NWBFile,
    place: _Place,
    tables: dict[str, DynamicTable],
    sources: DynamicTable | None,
) -> None:
    text = _MODULES[str(latents.attrs["kind"])][1]
    module = nwb.processing.get(place.module) or nwb.create_processing_module(name=place.module, description=text)
    backend = ZARR if place.zarr else HDF5
    record = model_record(latents, name=f"{place.name}_model", columns=column_names(latents), pack=backend.pack)
    if sources is not None:
        record.sources = sources
    recorded = _recorded_series(latents, nwb)
    add_estimates(module, latents, name=place.name, tables=tables, record=record, backend=backend, recorded=recorded)


def _check_recording(latents: xr.Dataset, nwb: NWBFile, recording: Path) -> None:
    expected = recorded_source(latents).get("object_id")
    if expected is not None and expected != nwb.object_id:
        raise MismatchError(
            f"the results were inferred from another file: {recorded_source(latents).get('name')!r} with object id "
            f"{expected}, but {recording.name!r} has {nwb.object_id}"
        )


def _check_free(nwb: NWBFile, place: _Place) -> None:
    module = nwb.processing.get(place.module)
    start = f"{place.name}_"
    present = [] if module is None else [key for key in module.data_interfaces if key.startswith(start)]
    taken = [key for key in present if key.removeprefix(start).split("_")[0] in PARTS]
    if taken:
        raise FileError(
            f"the module {place.module!r} of the recording already holds {', '.join(map(repr, sorted(taken)))}; "
            f"give another name=, for example name={place.name + '2'!r}"
        )


def _tables(latents: xr.Dataset, nwb: NWBFile) -> dict[str, DynamicTable]:
    """The tables behind the channels, by path; a series without a table is not among them.

    Raises
    ------
    MismatchError
        If a row of the table has another id than the channel.
    """
    paths = np.array(tables_of(latents))
    ids = latents["channel_id"].values
    tables = {}
    for path in dict.fromkeys(paths.tolist()):
        table = find(nwb, path) if path else None
        if not isinstance(table, DynamicTable):
            continue
        columns = np.flatnonzero(paths == path)
        rows = channel_rows(latents, table)[columns]
        known = np.asarray(table.id[:])
        inside = (rows >= 0) & (rows < len(known))
        wrong = ids[columns][~inside].tolist()
        wrong += ids[columns][inside][known[rows[inside]] != ids[columns][inside]].tolist()
        if wrong:
            raise MismatchError(
                f"{len(wrong)} of {len(columns)} channels are not where they were in the table {path!r} of the "
                f"recording, for example id {wrong[0]}; is it the file that the results were inferred from?"
            )
        tables[path] = table
    return tables


def _recorded_series(latents: xr.Dataset, nwb: NWBFile) -> TimeSeries | None:
    """The one series that all channels come from, where this file holds it."""
    series = {str(path) for path in latents["series"].values} if "series" in latents.coords else set()
    if len(series) != 1:
        return None
    found = lookup(nwb, series.pop())
    return found if isinstance(found, TimeSeries) else None


def _sources(latents: xr.Dataset, nwb: NWBFile, recording: Path) -> DynamicTable:
    known = recorded_source(latents)
    series = known.get("series") or (list(dict.fromkeys(map(str, latents.get("series", xr.DataArray([])).values))))
    source = {
        **{"name": recording.name, "object_id": nwb.object_id, "identifier": nwb.identifier},
        **known,
        "series": series,
        "sha256": known.get("sha256") or sha256(recording),
    }
    return sources_table(source, {path: find(nwb, path).object_id for path in series})


def _programs(latents: xr.Dataset) -> list[list[str]]:
    environment = known_model(latents).get("environment")
    torch = environment.get("torch") if isinstance(environment, dict) else None
    return [["nwb_sbtt", version("nwb_sbtt")], *([["torch", str(torch)]] if torch else [])]


def _validate(path: Path, recording: Path | None) -> None:
    """Check the file against the schema; what was already wrong with the recording is not held against the copy."""
    problems = {str(problem) for problem in pynwb.validate(path=str(path))}
    if problems and recording is not None:
        for cached in (True, False):
            found = pynwb.validate(path=str(recording), use_cached_namespaces=cached)
            problems -= {str(problem) for problem in found}
    if problems:
        listed = "; ".join(sorted(problems)[:3])
        raise FileError(f"the file would not be valid NWB, so it was not kept: {listed}")
