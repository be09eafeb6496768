"""`inspect`: every series of a file that can be fitted, and why others cannot; the tables of trials, and what masks leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from pynwb.misc import Units

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.binning import simplest
from nwb_sbtt.data.intervals import total_duration
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.dandi.transfer import RemoteFile
from nwb_sbtt.io.read.conditions import TrialTable, describe_table
from nwb_sbtt.io.read.description import Candidate, share_of_entries
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.filters import unreadable
from nwb_sbtt.io.read.indices import region_rows
from nwb_sbtt.io.read.listing import listing_of_contents, page_of_contents
from nwb_sbtt.io.read.masks import StoredMask, invalid_intervals, leaves, obs_intervals, stored_masks
from nwb_sbtt.io.read.outside import notes_on, outside_of
from nwb_sbtt.io.read.periods import PERIODS_TYPE, UnitPeriods, stored_periods
from nwb_sbtt.io.read.plausibility import other_unit
from nwb_sbtt.io.read.results import Provenance, is_result, provenance_of, role_of
from nwb_sbtt.io.read.selection import StoredSeries, default_series, find_series, unreadable_series
from nwb_sbtt.io.read.tables import table_region
from nwb_sbtt.io.read.trials import trial_tables


@dataclass(frozen=True)
class Mask:
    """Something in a file that tells what was observed, beside the series themselves.

    Parameters
    ----------
    path : str
        In-file path.
    type : str
        Neurodata type.
    series : tuple of str
        In-file paths of the series that it is about.
    observed : float or None
        Share that it leaves observed of what it is about, mean over channels; None where that cannot be told.
    estimated : bool
        Whether that is estimated from parts of the mask.
    notes : tuple of str
        One-line remarks for the user.
    """

    path: str
    type: str
    series: tuple[str, ...]
    observed: float | None = None
    estimated: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Contents(Sequence[Candidate]):
    """What `inspect` lists of a file; as a sequence, its series. Printed, and in a notebook, it is a table of all.

    Parameters
    ----------
    series : tuple of Candidate
        Sorted by path.
    tables : tuple of TrialTable
        Tables that trials can be cut from, sorted by path.
    masks : tuple of Mask
        What tells which samples were observed, sorted by path.
    provenance : Provenance
        Results that the file holds, and where they come from.
    name : str
        Of the file.
    """

    series: tuple[Candidate, ...] = ()
    tables: tuple[TrialTable, ...] = ()
    masks: tuple[Mask, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    name: str = ""

    def __repr__(self) -> str:
        return listing_of_contents(self.name, self.as_dict())

    def _repr_html_(self) -> str:
        return page_of_contents(self.name, self.as_dict())

    @property
    def default(self) -> Candidate | None:
        """The series that `read_nwb` and `fit` read where none is named; None where one has to be."""
        return default_series(self.series)

    def as_dict(self) -> dict[str, object]:
        """Return everything as values that JSON can hold."""
        return {
            "default": None if self.default is None else self.default.path,
            "series": [candidate.as_dict() for candidate in self.series],
            "tables": [asdict(table) for table in self.tables],
            "masks": [asdict(mask) for mask in self.masks],
            "results": asdict(self.provenance),
        }

    def __len__(self) -> int:
        return len(self.series)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        return self.series[index]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.series)


def inspect(path: Path | str | RemoteFile, *, external_data: bool = False) -> Contents:
    """List all series of a file that can be fitted, and the tables that define trials.

    Very long series are read only in parts, and their numbers are marked as estimates. Series that cannot be read, or that
    are in a damaged part of the file, are listed with the reason in their notes.

    Parameters
    ----------
    path : Path, str or RemoteFile
        NWB file, HDF5 or Zarr, or the address of one on DANDI.
    external_data : bool
        Whether a file from an archive, or a Zarr store, may refer to data outside the file.

    Returns
    -------
    Contents
        A sequence of `Candidate`, sorted by path, with the `tables` of trials and the stored `masks`.

    Raises
    ------
    FileError
        If the file cannot be read.
    ConfigError
        If the reader of a neurodata type is in a package that cannot be imported.

    Examples
    --------
    >>> from nwb_sbtt import inspect
    >>> [(series.path, series.channels) for series in inspect("maze.nwb")]  # doctest: +SKIP
    [('units', 182)]
    """
    with open_nwb(path, external_data=external_data) as nwbfile:
        provenance = provenance_of(nwbfile)
        shares: dict[str, Mask] = {}
        series = [_candidate(nwbfile, stored, shares) for stored in find_series(nwbfile)]
        series += _unreadable(nwbfile, provenance)
        masks = [*shares.values(), *_invalid_times(nwbfile, series)]
        tables = [describe_table(path, table) for path, table in trial_tables(nwbfile).items() if not is_result(table)]
    series = [_beside_trials(candidate, tables) for candidate in series]
    return Contents(
        tuple(sorted(series, key=lambda candidate: candidate.path)),
        tuple(tables),
        tuple(sorted(masks, key=lambda mask: mask.path)),
        provenance,
        path.name if isinstance(path, RemoteFile) else Path(path).name,
    )


def _candidate(nwbfile: Any, series: StoredSeries, shares: dict[str, Mask]) -> Candidate:
    """What is listed of a series; the masks that are about it are added to `shares`, by path."""
    candidate = Candidate(series.path, series.type, series.kind, series.default, series.role)
    try:
        if series.reader.describe is None:
            candidate = _described_by_source(candidate, nwbfile, series)
        else:
            invalid = invalid_intervals(nwbfile, ReadConfig(), series.nwb_object)
            candidate = series.reader.describe(candidate, series.nwb_object, invalid)
        candidate = _within_obs_intervals(candidate, series.nwb_object)
        masks, remarks = _masks(nwbfile, series.nwb_object, candidate)
        candidate = replace(candidate, notes=tuple(dict.fromkeys([*candidate.notes, *remarks])))
        for mask in masks:
            candidate = _masked(candidate, mask, shares)
        if isinstance(series.nwb_object, Units):
            candidate = _valid(candidate, stored_periods(nwbfile, series.nwb_object), shares)
    except (DataError, SelectionError) as error:
        candidate = _without_data(candidate, str(error))
    except OSError as error:
        candidate = _without_data(candidate, str(unreadable(getattr(series.nwb_object, "data", None), error)))
    own = (each for each in outside_of(nwbfile) if f"{each.path}/".startswith(f"{series.path}/"))
    return replace(candidate, notes=(*candidate.notes, *notes_on(own)))


def _beside_trials(candidate: Candidate, tables: Sequence[TrialTable]) -> Candidate:
    """The candidate with a remark where its times seem to be in another unit than those of the trials."""
    if candidate.start is None or candidate.stop is None:
        return candidate
    span, period = (candidate.start, candidate.stop), None if not candidate.rate else 1 / candidate.rate
    spans = [np.array([table.start, table.stop]) for table in tables if table.start is not None]
    found = [other_unit(starts, candidate.path, span=span, period=period) for starts in spans]
    remarks = [each for each in found if each is not None][:1]
    return replace(candidate, notes=(*candidate.notes, *remarks))


def _without_data(candidate: Candidate, reason: str) -> Candidate:
    return Candidate(
        candidate.path,
        candidate.type,
        candidate.kind,
        candidate.default,
        candidate.role,
        readable=False,
        notes=(reason,),
    )


def _unreadable(nwbfile: Any, provenance: Provenance) -> list[Candidate]:
    """Series that nothing reads, with the reason."""
    return [
        Candidate(
            path,
            str(nwb_object.neurodata_type),
            "series",
            default=False,
            role=role_of(nwbfile, nwb_object, provenance),
            readable=False,
            notes=(reason,),
        )
        for path, (nwb_object, reason) in unreadable_series(nwbfile).items()
    ]


def _within_obs_intervals(candidate: Candidate, series: Any) -> Candidate:
    """The candidate less what lies outside the `obs_intervals` of its electrodes."""
    region = table_region(series) if candidate.kind == "electrodes" else None
    intervals = None if region is None else obs_intervals(region.table, region.table.name)
    if region is None or intervals is None or candidate.start is None or not candidate.duration:
        return candidate
    rows = region_rows(region, path=candidate.path)
    span = candidate.start, candidate.start + candidate.duration
    share = float(np.mean([total_duration(np.clip(intervals[row], *span)) for row in rows])) / candidate.duration
    note = f"the obs_intervals of {region.table.name!r} mark {share:.1%} of the time as observed"
    observed = None if candidate.observed is None else candidate.observed * share
    # Missing samples may lie within the intervals, or between them.
    return replace(
        candidate,
        observed=observed,
        estimated=candidate.estimated or (candidate.observed or 0.0) < 1,
        notes=(*candidate.notes, note),
    )


def _masks(nwbfile: Any, series: Any, candidate: Candidate) -> tuple[tuple[StoredMask, ...], tuple[str, ...]]:
    span = None if candidate.start is None or candidate.stop is None else (candidate.start, candidate.stop)
    period = 1 / candidate.rate if candidate.rate else None
    return stored_masks(nwbfile, series, ReadConfig(), span=span, period=period, missing_time=candidate.missing_time)


def _masked(candidate: Candidate, mask: StoredMask, shares: dict[str, Mask]) -> Candidate:
    """The candidate less what a mask hides."""
    known = shares.get(mask.path)
    if known is None:
        share, partly_read = share_of_entries(mask.slabs, leaves)
        known = Mask(mask.path, "ObservationMaskSeries", (), share, partly_read)
    shares[mask.path] = known = replace(known, series=(*known.series, candidate.path))
    if candidate.observed is None or not candidate.duration or not candidate.channels or known.observed is None:
        return candidate
    # The mask is supposed to lie, as far as it reaches, where samples were observed.
    seconds = mask.slabs.n_rows * (mask.clock.period or 0.0)
    if candidate.start is not None and candidate.stop is not None:
        seconds = min(seconds, mask.seconds_in((candidate.start, candidate.stop)))
    covered = min(len(mask.rows) / candidate.channels, 1.0)
    covered *= min(seconds / max(candidate.observed * candidate.duration, seconds), 1.0) if seconds else 0.0
    note = f"the mask {mask.path!r} marks {known.observed:.1%} of its channels and samples as observed"
    return replace(
        candidate,
        observed=candidate.observed * (1 - covered * (1 - known.observed)),
        estimated=True,
        notes=(*candidate.notes, note),
    )


def _valid(candidate: Candidate, found: Sequence[UnitPeriods], shares: dict[str, Mask]) -> Candidate:
    """The candidate less the times in which its units were not valid; of several tables one has to be chosen."""
    if candidate.observed is None or candidate.start is None or candidate.stop is None:
        return candidate
    span = candidate.start, candidate.stop
    for periods in found:
        shares[periods.path] = Mask(periods.path, PERIODS_TYPE, (candidate.path,), periods.share(*span))
    if len(found) > 1:
        note = f"{len(found)} tables of ValidUnitPeriods; choose one with --set read.valid_unit_periods=PATH"
        return replace(candidate, notes=(*candidate.notes, note))
    for periods in found:
        candidate = replace(
            candidate,
            observed=(candidate.observed or 0.0) * periods.share(*span),
            estimated=candidate.estimated or candidate.observed != 1.0,
            notes=(*candidate.notes, periods.note(span)),
        )
    return candidate


def _invalid_times(nwbfile: Any, series: Sequence[Candidate]) -> list[Mask]:
    """What the file's table of invalid times leaves of the time from the first to the last sample."""
    if nwbfile.invalid_times is None or len(nwbfile.invalid_times) == 0:
        return []
    recorded = [candidate for candidate in series if candidate.duration and candidate.role == "recording"]
    mask = Mask("invalid_times", "TimeIntervals", tuple(candidate.path for candidate in recorded))
    try:
        invalid = invalid_intervals(nwbfile, ReadConfig())
    except (DataError, OSError) as error:
        return [replace(mask, notes=(f"cannot be read: {error}",))]
    spans = [(candidate.start, candidate.stop) for candidate in recorded]
    if not spans:
        return [mask]
    start, stop = min(start or 0.0 for start, _ in spans), max(stop or 0.0 for _, stop in spans)
    return [replace(mask, observed=1 - total_duration(np.clip(invalid, start, stop)) / (stop - start))]


def _described_by_source(candidate: Candidate, nwbfile: Any, series: StoredSeries) -> Candidate:
    """What the source of a series tells without reading its samples."""
    source = series.reader(nwbfile, series.nwb_object, ReadConfig())
    start, stop = source.span
    return replace(
        candidate,
        shape=tuple(int(size) for size in np.shape(getattr(series.nwb_object, "data", ()))),
        channels=len(source.channel_id),
        unit=source.unit,
        rate=None if source.sampling_period is None else simplest(1 / source.sampling_period),
        start=start,
        stop=stop,
        notes=source.notes,
    )
