"""Imaging: a RoiResponseSeries put into bins, each sample at the moment its ROI was scanned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hdmf.common import DynamicTableRegion
from numpy.typing import ArrayLike, NDArray
from pynwb.ophys import PlaneSegmentation, RoiResponseSeries

from nwb_sbtt.config import ReadConfig, RoiConfig
from nwb_sbtt.data.binning import bin_index
from nwb_sbtt.data.grid import Binned, Grid
from nwb_sbtt.data.intervals import Intervals, inside
from nwb_sbtt.data.schema import Kind
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.read.candidates import describe_samples
from nwb_sbtt.io.read.clock import SampleClock, sample_clock
from nwb_sbtt.io.read.fluorescence import Signal, held_by
from nwb_sbtt.io.read.masks import StoredMask, control_allows, invalid_intervals, stored_masks
from nwb_sbtt.io.read.neurodata import holds_numbers, reader
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.scanning import SamplingOffsets, centroid_offsets, column_offsets, given_offsets
from nwb_sbtt.io.read.slabs import Slabs, in_unit
from nwb_sbtt.io.read.tables import plain_columns

BYTES_PER_SAMPLE = 64
"""What binning holds for one sample: stored value, value, place, weight and their temporaries."""
Samples = Callable[[int, int], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class RoiSource:
    """A RoiResponseSeries ready to be put on any grid.

    A sample lies in the bin that contains its frame's time plus its ROI's sampling offset; every other bin is unobserved.
    Several frames in one bin give their mean, or their sum where the config says so (then a bin with a missing frame
    among them is unobserved).
    """

    path: str
    table: str
    unit: str
    channel_id: NDArray[np.generic]
    channel_row: NDArray[np.intp]
    channel_columns: Mapping[str, NDArray[np.generic]]
    span: tuple[float, float]
    sampling_period: float | None
    notes: tuple[str, ...]
    offsets: NDArray[np.float64]
    columns: NDArray[np.intp]
    transposed: bool
    clock: SampleClock = field(repr=False)
    invalid: Intervals = field(repr=False)
    series: RoiResponseSeries = field(repr=False)
    config: ReadConfig = field(repr=False)
    signal: Signal
    signal_reason: str
    indicator: str
    masks: tuple[StoredMask, ...] = field(default=(), repr=False)
    kind: Kind = "rois"

    def only(self, keep: NDArray[np.bool_]) -> RoiSource:
        """The same series with some of its ROIs."""
        return replace(
            self,
            channel_id=self.channel_id[keep],
            channel_row=self.channel_row[keep],
            channel_columns={name: values[keep] for name, values in self.channel_columns.items()},
            offsets=self.offsets[keep],
            columns=self.columns[keep],
        )

    def bin(self, grid: Grid) -> Binned:
        """Put the samples into the bins of the grid; memory beside the result is limited by the config."""
        return self.place(grid, self.samples())

    def samples(self) -> Samples:
        """What gives the samples of a range of frames, (frame, ROI), in the series' unit: NaN where one is missing.

        Frames are asked for in rising order, or else parts of the file are read again.
        """
        slabs = Slabs(self.series.data, transposed=self.transposed, columns=self.columns)

        def read(first: int, stop: int) -> NDArray[np.float64]:
            times = self.clock.times(first, stop)
            samples = in_unit(slabs.read(first, stop), self.series, sentinel=self.config.sentinel)
            samples[~control_allows(self.series, self.config, first=first, stop=stop)] = np.nan
            samples[inside(self.moments(first, stop), self.invalid)] = np.nan
            timed = np.flatnonzero(np.isfinite(times))
            for mask in self.masks:
                hidden = mask.hidden(times[timed], self.channel_row)
                samples[timed] = np.where(hidden, np.nan, samples[timed])
            return samples

        return read

    def moments(self, first: int, stop: int) -> NDArray[np.float64]:
        """When each ROI was sampled, (frame, ROI), in seconds on the session clock; NaN where it is not known."""
        return np.asarray(self.clock.times(first, stop)[:, None] + self.offsets)

    def place(self, grid: Grid, samples: Samples) -> Binned:
        """Put samples of the frames, NaN where one is missing, into the bins of the grid."""
        n_trials, n_bins = grid.shape
        n_rois = len(self.columns)
        values = np.zeros((n_trials, n_bins, n_rois), dtype=np.float32)
        observed = np.zeros(values.shape, dtype=bool)
        chunk_rows = Slabs(self.series.data, transposed=self.transposed, columns=self.columns).chunk_rows
        length = max(int(self.config.memory_limit / (BYTES_PER_SAMPLE * n_rois)), chunk_rows)
        firsts, _ = self.clock.ranges(replace(grid, starts=grid.starts - self.offsets.max()))
        _, stops = self.clock.ranges(grid)
        for trial in np.argsort(firsts, kind="stable"):
            tally = _Tally.empty(n_bins, n_rois)
            for first in range(int(firsts[trial]), int(stops[trial]), length):
                stop = min(first + length, int(stops[trial]))
                moments = self.moments(first, stop)
                moments[inside(moments, self.invalid)] = np.nan
                tally.add(samples(first, stop), bin_index(moments, grid.starts[trial], grid.bin_width))
            values[trial], observed[trial] = tally.result(self.config.rois.aggregate)
        return Binned(values, observed)


@dataclass(frozen=True)
class _Tally:
    """Sum, number and number of missing samples in every bin of one window."""

    sums: NDArray[np.float64]
    counts: NDArray[np.intp]
    missing: NDArray[np.intp]

    @classmethod
    def empty(cls, n_bins: int, n_rois: int) -> _Tally:
        shape = (n_bins, n_rois)
        return cls(np.zeros(shape), np.zeros(shape, dtype=np.intp), np.zeros(shape, dtype=np.intp))

    def add(self, samples: NDArray[np.floating[Any]], bins: NDArray[np.intp]) -> None:
        """Count samples (frame, ROI) into bins (frame, ROI); bins outside the window are left out."""
        n_bins, n_rois = self.sums.shape
        bins = np.broadcast_to(bins, samples.shape)
        within = (bins >= 0) & (bins < n_bins)
        places = (bins * n_rois + np.arange(n_rois))[within]
        taken = samples[within]
        present = np.isfinite(taken)
        for tally, where, weights in (
            (self.sums, present, taken[present]),
            (self.counts, present, None),
            (self.missing, ~present, None),
        ):
            tally += np.bincount(places[where], weights=weights, minlength=self.sums.size).reshape(self.sums.shape)

    def result(self, aggregate: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        observed = self.counts > 0
        if aggregate == "sum":
            observed &= self.missing == 0
            return np.where(observed, self.sums, 0).astype(np.float32), observed
        return (self.sums / np.maximum(self.counts, 1)).astype(np.float32), observed


@reader("RoiResponseSeries", kind="rois", readable=holds_numbers, describe=describe_samples)
def roi_source(
    nwbfile: Any,
    series: RoiResponseSeries,
    config: ReadConfig,
    *,
    offsets: ArrayLike | None = None,
    rois: DynamicTableRegion | None = None,
) -> RoiSource:
    """Prepare a RoiResponseSeries for reading.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    series : pynwb.ophys.RoiResponseSeries
        Data (time, ROI), (time,) or, recognised by the number of ROIs, (ROI, time).
    config : ReadConfig
    offsets : array (ROI), optional
        Seconds from each frame's time to the moment the ROI was sampled, one for each ROI of the series (rejected ones
        too), in the series' order; used instead of `config.rois.offset`.
    rois : hdmf.common.DynamicTableRegion, optional
        Rows of the table of ROIs, one for each ROI of the series; default: ``series.rois``. For types that name it otherwise.

    Raises
    ------
    DataError
        If the shape fits neither orientation, the times are not usable, or the offsets do not fit.
    SelectionError
        If a column or the scan-line rate is missing, or no ROI is accepted.
    """
    rois = series.rois if rois is None else rois
    table = rois.table
    rows = np.asarray(rois.data[:], dtype=np.intp)
    transposed, notes = _orientation(series, n_rois=len(rows))
    n_frames = _shape(series)[-1 if transposed else 0]
    clock = sample_clock(series, n_samples=n_frames, sentinel=config.sentinel)
    period = clock.period
    sampling = _sampling_offsets(nwbfile, table, rows, config=config.rois, period=period, given=offsets)
    kept = _accepted(table, rows) if config.rois.cells == "accepted" else np.ones(len(rows), dtype=bool)
    if not kept.all():
        notes.append(f"{int((~kept).sum())} of {len(rows)} ROIs of {series.name!r} left out as not accepted")
    if not kept.any():
        raise SelectionError(f"none of the {len(rows)} ROIs of {series.name!r} is accepted; use rois.cells='all'")
    columns = np.flatnonzero(kept)
    if period is not None and config.bin_width is not None and config.bin_width > period * (1 + 1e-6):
        notes.append(
            f"bins are wider than a frame of {series.name!r}: each holds the {config.rois.aggregate} of its frames"
        )
    seconds = sampling.seconds[columns]
    held = held_by(series, columns=columns, transposed=transposed, sentinel=config.sentinel)
    table_columns = {name: values[rows[columns]] for name, values in plain_columns(table).items()}
    if sampling.notes:
        table_columns["sampling_offset"] = seconds
    return RoiSource(
        path=in_file_path(nwbfile, series),
        table=in_file_path(nwbfile, table),
        unit=str(series.unit),
        channel_id=np.asarray(table.id.data[:])[rows[columns]],
        channel_row=rows[columns],
        channel_columns=table_columns,
        span=clock.span,
        sampling_period=period,
        notes=(*notes, *clock.notes, *sampling.notes),
        offsets=seconds,
        columns=columns,
        transposed=transposed,
        clock=clock,
        invalid=invalid_intervals(nwbfile, config),
        series=series,
        config=config,
        signal=held.signal,
        signal_reason=held.reason,
        indicator=str(getattr(table.imaging_plane, "indicator", None) or ""),
        masks=stored_masks(nwbfile, series),
    )


def _shape(series: RoiResponseSeries) -> tuple[int, ...]:
    return tuple(int(size) for size in np.shape(series.data))


def _orientation(series: RoiResponseSeries, *, n_rois: int) -> tuple[bool, list[str]]:
    """Whether the data are stored (ROI, time), with a note where they are."""
    shape = _shape(series)
    if (len(shape) == 2 and shape[1] == n_rois) or (len(shape) == 1 and n_rois == 1):
        return False, []
    if len(shape) == 2 and shape[0] == n_rois:
        return True, [f"data of {series.name!r} are stored (ROI, time) {shape}; NWB says (time, ROI); read transposed"]
    raise DataError(
        f"data of {series.name!r} have shape {shape}, but its `rois` name {n_rois} ROIs; expected (time, {n_rois})"
    )


def _sampling_offsets(
    nwbfile: Any,
    table: PlaneSegmentation,
    rows: NDArray[np.intp],
    *,
    config: RoiConfig,
    period: float | None,
    given: ArrayLike | None,
) -> SamplingOffsets:
    if given is not None:
        return given_offsets(given, n_rois=len(rows), period=period)
    if config.offset == "column":
        return column_offsets(table, rows, name=config.offset_column, period=period)
    if config.offset == "centroid":
        return centroid_offsets(nwbfile, table, rows, config=config, period=period)
    return SamplingOffsets(np.zeros(len(rows)))


def _accepted(table: Any, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which ROIs the table accepts: a column accepted/iscell, or rejected, in any spelling; (ROI, 2) is suite2p's iscell."""
    spelled = {name.lower().replace("_", "").removeprefix("is"): name for name in table.colnames}
    verdicts = []
    for word, good in (("accepted", True), ("cell", True), ("rejected", False)):
        if word in spelled:
            flags = np.asarray(table[spelled[word]].data[:])
            verdicts.append((flags.reshape(len(flags), -1)[:, 0][rows].astype(float) > 0) == good)
    if not verdicts:
        raise SelectionError(
            f"rois.cells='accepted' needs a column accepted, iscell or rejected; {table.name!r} has "
            f"{list(table.colnames)}; use rois.cells='all', or `where` with a column of your own"
        )
    accepted: NDArray[np.bool_] = np.logical_and.reduce(verdicts)
    return accepted
