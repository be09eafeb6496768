"""Neuropil: the fluorescence around each ROI, found by the rows of the table of ROIs that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from hdmf.common import DynamicTableRegion
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.read.clock import SampleClock, sample_clock
from nwb_sbtt.io.read.fluorescence import container_name, holds_neuropil, may_be_neuropil
from nwb_sbtt.io.read.indices import region_rows
from nwb_sbtt.io.read.layout import not_samples, sample_layout
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.slabs import Slabs, in_unit
from nwb_sbtt.io.read.tables import table_region

SAME_TIME = 0.5
"""Frame periods by which two series of the same frames may differ in time."""
CHANNEL = r"ch(?:an(?:nel)?)?[\s_-]*(\d+)"
COLOUR = r"(?<![a-z])(red|green)(?![a-z])"
FIRST_CHANNELS = (None, "0", "1", "green")
"""Names of an optical channel that a series without one may have."""


@dataclass(frozen=True)
class Neuropil:
    """Fluorescence around the ROIs of a series, at the same frames.

    Parameters
    ----------
    path : str
        In-file path of its series.
    series : pynwb.ophys.RoiResponseSeries
    columns : int array (ROI)
        Column of each ROI in that series.
    transposed : bool
        Whether the data are stored (ROI, time).
    coefficient : float
        Multiple of it that is subtracted from the fluorescence of the ROIs.
    """

    path: str
    series: Any = field(repr=False)
    columns: NDArray[np.intp]
    transposed: bool
    coefficient: float = 0.0

    def only(self, keep: NDArray[np.bool_]) -> Neuropil:
        """Return the neuropil around some of the ROIs.

        Parameters
        ----------
        keep : bool array (ROI)
        """
        return replace(self, columns=self.columns[keep])

    def share(self, *, missing_value: float | None) -> Callable[[int, int], NDArray[np.float64]]:
        """Return a function that reads what is subtracted from the fluorescence of a range of frames, in the series' unit.

        Parameters
        ----------
        missing_value : float or None
            Value that stands for a missing sample.
        """
        slabs = Slabs(self.series.data, transposed=self.transposed, columns=self.columns)

        def read(first: int, stop: int) -> NDArray[np.float64]:
            return self.coefficient * in_unit(slabs.read(first, stop), self.series, missing_value=missing_value)

        return read


@dataclass(frozen=True)
class Search:
    """What was found around the ROIs of a series.

    Parameters
    ----------
    found : Neuropil or None
    unused : str
        Why the neuropil of these ROIs that the file has cannot be used; empty where it can, or where there is none.
    possible : tuple of str
        Series of the same ROIs and frames that may be neuropil although no name says so; only where none was found.
    """

    found: Neuropil | None = None
    unused: str = ""
    possible: tuple[str, ...] = ()


def find_neuropil(
    nwbfile: Any,
    series: Any,
    *,
    region: DynamicTableRegion,
    rows: NDArray[np.intp],
    clock: SampleClock,
    named: str | None = None,
) -> Search:
    """Find the neuropil around ROIs, wherever in the file it lies, by the rows of the table of ROIs that it is about.

    Of the series that hold neuropil (`holds_neuropil`, or those that the settings name), it is the one about all these rows, at
    the same times and of the same optical channel.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    series : pynwb.ophys.RoiResponseSeries
        Of the ROIs.
    region : hdmf.common.DynamicTableRegion
        The rows of the table of ROIs that `series` is about.
    rows : int array (ROI)
        Of that region.
    clock : SampleClock
        Times of the frames of `series`.
    named : str, optional
        Path in the file, or glob, of the neuropil as the settings name it.

    Returns
    -------
    Search
        Nothing for a series that is neuropil itself.

    Raises
    ------
    SelectionError
        If the settings name neuropil, and none of that belongs to these ROIs.
    """
    if holds_neuropil(series) or (named is not None and _is_called(in_file_path(nwbfile, series), named)):
        return Search()
    found: list[Neuropil] = []
    reasons: list[str] = []
    possible: list[str] = []
    for other in nwbfile.objects.values():
        others = table_region(other)
        if other is series or others is None or others.table is not region.table or not_samples(other) is not None:
            continue
        path = in_file_path(nwbfile, other)
        is_neuropil = holds_neuropil(other) if named is None else _is_called(path, named)
        if not is_neuropil and (named is not None or not may_be_neuropil(other)):
            continue
        try:
            columns, reason = _columns(other, others, rows, path)
            if columns is not None:
                layout = sample_layout(other, others)
                reason = _difference(series, other, clock, n_samples=layout.n_samples)
                if not reason and is_neuropil:
                    found.append(Neuropil(path, other, columns, layout.transposed))
                elif not reason:
                    possible.append(path)
        except DataError as error:
            reason = str(error)
        if reason and is_neuropil:
            reasons.append(f"{path!r} {reason}")
    if len(found) > 1:
        same_container = [neuropil for neuropil in found if neuropil.series.parent is series.parent]
        found = same_container if len(same_container) == 1 else found
    if len(found) > 1:
        paths = " and ".join(repr(neuropil.path) for neuropil in found)
        return Search(unused=f"{paths} belong to the same ROIs; choose one with read.rois.neuropil")
    if named is not None and not found:
        raise SelectionError(
            f"read.rois.neuropil={named} is not neuropil of {in_file_path(nwbfile, series)!r}: "
            + ("; ".join(reasons) or "no series matching this path or glob has its ROIs")
        )
    return Search(found[0]) if found else Search(unused="; ".join(reasons), possible=tuple(possible))


def _is_called(path: str, named: str) -> bool:
    return path == named.strip("/") or fnmatchcase(path, named.strip("/"))


def _columns(
    other: Any, others: DynamicTableRegion, rows: NDArray[np.intp], path: str
) -> tuple[NDArray[np.intp] | None, str]:
    """Column of each row in another series of the same table; none, with or without a reason, where it does not have all."""
    other_rows = region_rows(others, path=path)
    if np.array_equal(other_rows, rows):
        return np.arange(len(rows)), ""
    column_of = {int(row): column for column, row in reversed(list(enumerate(other_rows)))}
    n_shared = sum(int(row) in column_of for row in rows)
    if n_shared < len(rows):
        return None, f"has only {n_shared} of the {len(rows)} ROIs" if n_shared else ""
    return np.array([column_of[int(row)] for row in rows], dtype=np.intp), ""


def _difference(series: Any, other: Any, clock: SampleClock, *, n_samples: int) -> str:
    """What tells that a series is not the neuropil of another; empty where nothing does."""
    if n_samples != clock.n_samples:
        return f"has {n_samples} frames, not {clock.n_samples}"
    if not _same_channel(series, other):
        return "has a different optical channel"
    other_clock = sample_clock(other, n_samples=n_samples)
    ends = [np.array([one.times(frame, frame + 1)[0] for frame in (0, n_samples - 1)]) for one in (clock, other_clock)]
    # A frame without a time differs from none.
    differs = np.abs(ends[0] - ends[1]) > SAME_TIME * (clock.period or np.inf)
    return "has different times" if differs.any() else ""


def _same_channel(series: Any, other: Any) -> bool:
    channels = [getattr(getattr(one, "microscopy_series", None), "microscopy_channel", None) for one in (series, other)]
    if None not in channels and channels[0] is not channels[1]:
        return False
    for pattern in (CHANNEL, COLOUR):
        named = []
        for one in (series, other):
            match = re.search(pattern, f"{container_name(one)} {one.name}", re.IGNORECASE)
            named.append(match.group(1).lower() if match else None)
        if named[0] != named[1] and not (None in named and all(name in FIRST_CHANNELS for name in named)):
            return False
    return True
