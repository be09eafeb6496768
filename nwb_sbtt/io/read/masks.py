"""Stored observation masks: an `ObservationMaskSeries` (extension ndx-sbtt) says where a recording was measured.

They are recognised by the name of their type, so that a file reads the same where the extension is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.binning import bin_index, tolerance
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.clock import SampleClock, sample_clock
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.slabs import Slabs

TYPE = "ObservationMaskSeries"
RESULT = "LatentVariableModel"
ENTRIES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class StoredMask:
    """A mask for some rows of a table of channels.

    A mask sample stands for the sampling period that begins at its time. Where the mask has no sample, and for channels
    that it does not name, it says nothing, and nothing is taken away.
    """

    path: str
    rows: NDArray[np.intp]
    clock: SampleClock = field(repr=False)
    slabs: Slabs = field(repr=False)

    def bin(self, grid: Grid, channel_rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which bins the mask leaves: a bin is left where no mask sample that touches it is 0.

        Parameters
        ----------
        grid : Grid
        channel_rows : array (channel)
            Rows of the table that the channels stand for.

        Returns
        -------
        bool array (trial, time, channel)
        """
        period = self.clock.period or 0.0
        masked, columns = self._columns(channel_rows)
        left = np.ones((*grid.shape, len(channel_rows)), dtype=bool)
        firsts, _ = self.clock.ranges(replace(grid, starts=grid.starts - period))
        _, stops = self.clock.ranges(grid)
        length = max(ENTRIES_AT_ONCE // self.slabs.n_columns, 1)
        for trial in np.argsort(firsts, kind="stable"):
            changes = np.zeros((grid.n_bins + 1, len(columns)), dtype=np.int32)
            for first in range(int(firsts[trial]), int(stops[trial]), length):
                stop = min(first + length, int(stops[trial]))
                times = self.clock.times(first, stop)
                known = np.isfinite(times)
                hidden = (self.slabs.read(first, stop)[:, columns] == 0)[known]
                times = times[known]
                begins = bin_index(times, grid.starts[trial], grid.bin_width)
                # A period that ends on an edge does not touch the bin after it.
                ends = bin_index(times + period - 2 * tolerance(times), grid.starts[trial], grid.bin_width) + 1
                np.add.at(changes, np.clip(begins, 0, grid.n_bins), hidden)
                np.subtract.at(changes, np.clip(np.maximum(ends, begins + 1), 0, grid.n_bins), hidden)
            left[trial][:, masked] = np.cumsum(changes, axis=0)[:-1] == 0
        return left

    def hidden(self, times: NDArray[np.float64], channel_rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which samples (time, channel) of a recording, at rising times in seconds, the mask takes away."""
        masked, columns = self._columns(channel_rows)
        hidden = np.zeros((len(times), len(channel_rows)), dtype=bool)
        if len(times) == 0:
            return hidden
        period = self.clock.period or 0.0
        width = float(times[-1] - times[0]) + 2 * period
        first, stop = self.clock.ranges(Grid(np.array([times[0] - period]), width, 1))
        known = self.clock.times(int(first[0]), int(stop[0]))
        places = np.flatnonzero(np.isfinite(known))
        if len(places) == 0:
            return hidden
        moments = times + tolerance(times)
        nearest = np.searchsorted(known[places], moments, side="right") - 1
        covered = (nearest >= 0) & (moments < known[places][nearest] + period)
        stored = self.slabs.read(int(first[0]), int(stop[0]))[:, columns] == 0
        hidden[np.ix_(covered, masked)] = stored[places[nearest[covered]]]
        return hidden

    def _columns(self, channel_rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Channels that the mask names, and its column for each of them."""
        place = {int(row): column for column, row in enumerate(self.rows)}
        masked = [channel for channel, row in enumerate(channel_rows) if int(row) in place]
        columns = [place[int(channel_rows[channel])] for channel in masked]
        return np.asarray(masked, dtype=np.intp), np.asarray(columns, dtype=np.intp)


def stored_masks(nwbfile: Any, series: Any) -> tuple[StoredMask, ...]:
    """Masks of the file that speak about a series or a units table.

    A mask belongs to the series that its `source_timeseries` links to. One without a link belongs to a units table whose
    rows it names, and to a series on the same table with the same number of samples. Masks beside a LatentVariableModel
    are part of a result: they say what that model was shown, and are left alone.

    Raises
    ------
    DataError
        If a mask does not have one column for each channel it names, or has no usable times.
    """
    found = [item for item in nwbfile.objects.values() if getattr(item, "neurodata_type", None) == TYPE]
    masks = [_stored_mask(nwbfile, mask) for mask in found if _belongs(mask, series) and not _is_result(mask)]
    return tuple(sorted(masks, key=lambda mask: mask.path))


def _stored_mask(nwbfile: Any, mask: Any) -> StoredMask:
    path = in_file_path(nwbfile, mask)
    slabs = Slabs(mask.data)
    rows = np.asarray(mask.channels.data[:], dtype=np.intp)
    if slabs.n_columns != len(rows):
        raise DataError(
            f"observation mask {path!r} has shape {np.shape(mask.data)}, but its `channels` name {len(rows)}; expected "
            f"(time, {len(rows)})"
        )
    return StoredMask(path=path, rows=rows, clock=sample_clock(mask, n_samples=slabs.n_rows), slabs=slabs)


def _belongs(mask: Any, series: Any) -> bool:
    linked = getattr(mask, "source_timeseries", None)
    if linked is not None:
        return linked is series
    table = mask.channels.table
    if table is series:
        return True
    region = getattr(series, "electrodes", None) or getattr(series, "rois", None)
    if region is None or region.table is not table:
        return False
    shape = np.shape(series.data)
    return bool(np.shape(mask.data)[0] == shape[0])


def _is_result(mask: Any) -> bool:
    beside = getattr(mask.parent, "data_interfaces", {})
    return any(getattr(item, "neurodata_type", None) == RESULT for item in beside.values())
