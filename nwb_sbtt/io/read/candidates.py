"""`inspect`: every series of a file that can be fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.dandi.transfer import RemoteFile
from nwb_sbtt.io.read.description import Candidate
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.masks import invalid_intervals, stored_masks
from nwb_sbtt.io.read.outside import notes_on, outside_of
from nwb_sbtt.io.read.selection import RESULTS, StoredSeries, find_series


def inspect(path: Path | str | RemoteFile, *, external_data: bool = False) -> list[Candidate]:
    """List every series of a file that can be fitted, wherever it lies.

    Only parts of very long series are read, and their numbers are marked as estimates. A series whose times cannot be used
    is listed with the reason among its notes.

    Parameters
    ----------
    path : Path, str or RemoteFile
        NWB file, HDF5 or Zarr, or the address of one on DANDI.
    external_data : bool
        Whether a file that was fetched from an archive, or a Zarr store, may store data outside itself.

    Returns
    -------
    list of Candidate
        Sorted by path.

    Raises
    ------
    FileError
        If the file cannot be read.
    ConfigError
        If the reader of a type is one of a package that cannot be imported.

    Examples
    --------
    >>> from nwb_sbtt import inspect
    >>> [(series.path, series.channels) for series in inspect("maze.nwb")]  # doctest: +SKIP
    [('units', 182)]
    """
    with open_nwb(path, external_data=external_data) as nwbfile:
        return [_candidate(nwbfile, series) for series in find_series(nwbfile)]


def _candidate(nwbfile: Any, series: StoredSeries) -> Candidate:
    candidate = Candidate(series.path, series.type, series.kind, series.default)
    own = (each for each in outside_of(nwbfile) if f"{each.path}/".startswith(f"{series.path}/"))
    notes = notes_on(own)
    if series.nwb_object.namespace == RESULTS:
        notes.append("result of a model, not a recording")
    try:
        invalid_times = invalid_intervals(nwbfile, ReadConfig())
        if stored_masks(nwbfile, series.nwb_object):
            notes.append("a stored observation mask tells which samples were observed")
        if series.reader.describe is None:
            candidate = _described_by_source(candidate, nwbfile, series)
        else:
            candidate = series.reader.describe(candidate, series.nwb_object, invalid_times)
    except DataError as error:
        candidate = replace(candidate, default=False, notes=(f"cannot be read: {error}",))
    return replace(candidate, notes=(*candidate.notes, *notes))


def _described_by_source(candidate: Candidate, nwbfile: Any, series: StoredSeries) -> Candidate:
    """What the source of a series tells without reading its samples."""
    source = series.reader(nwbfile, series.nwb_object, ReadConfig())
    start, stop = source.span
    return replace(
        candidate,
        shape=tuple(int(size) for size in np.shape(getattr(series.nwb_object, "data", ()))),
        channels=len(source.channel_id),
        unit=source.unit,
        rate=None if source.sampling_period is None else 1 / source.sampling_period,
        start=start,
        stop=stop,
        notes=source.notes,
    )
