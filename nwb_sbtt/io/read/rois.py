"""Imaging: a RoiResponseSeries put into bins, each sample at the time at which its ROI was scanned."""

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
from nwb_sbtt.data.grid import Binned, Grid, Kind
from nwb_sbtt.data.intervals import Intervals, inside
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.read.clock import SampleClock, sample_clock
from nwb_sbtt.io.read.description import describe_samples
from nwb_sbtt.io.read.fluorescence import Signal, classify_signal, holds_neuropil, says_corrected
from nwb_sbtt.io.read.indices import region_rows, row_ids
from nwb_sbtt.io.read.layout import sample_layout
from nwb_sbtt.io.read.masks import StoredMask, control_allows, invalid_intervals, stored_masks
from nwb_sbtt.io.read.neurodata import holds_numbers, reader
from nwb_sbtt.io.read.neuropil import Neuropil, Search, find_neuropil
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.scanning import SamplingOffsets, centroid_offsets, check_offsets, column_offsets
from nwb_sbtt.io.read.slabs import Slabs, in_unit
from nwb_sbtt.io.read.tables import note_on_ids, plain_columns, table_region

BYTES_PER_SAMPLE = 64
"""Memory that binning takes for one sample: stored value, value, bin, weight and their temporaries."""
SAME_PERIOD = 1 + 1e-6
"""Sampling periods up to which a bin counts as one frame wide."""
USUAL_COEFFICIENT = 0.7
"""Share of the neuropil's fluorescence that an ROI shows, as suite2p's neucoeff (Chen et al. 2013)."""
ReadSamples = Callable[[int, int], NDArray[np.floating[Any]]]
"""Function that reads the samples (frame, ROI) of frames `first` to `stop` − 1, NaN where one is missing."""


@dataclass(frozen=True)
class RoiSource:
    """A RoiResponseSeries ready to be put on any grid.

    A sample lies in the bin that contains its frame's time plus its ROI's sampling offset; every other bin is unobserved.
    Several frames in one bin give their mean or, if the settings say so, their sum (then a bin in which a frame is missing
    is unobserved).

    Parameters
    ----------
    path, table : str
        In-file paths of the series and of the table of ROIs.
    unit : str
    channel_id : array (ROI)
    channel_row : int array (ROI)
        Row of each ROI in the table.
    channel_columns : mapping of name to array (ROI)
    span : (float, float)
        First and last moment, in seconds on the session clock.
    sampling_period : float or None
        Seconds; None for a single frame without a rate.
    notes : tuple of str
        One-line remarks for the user.
    offsets : array (ROI)
        Seconds from the time of a frame to the moment each ROI was sampled.
    columns : int array (ROI)
        Column of each ROI in the series.
    transposed : bool
        Whether the data are stored (ROI, time).
    clock : SampleClock
        Times of the frames.
    invalid : array (interval, 2)
        Invalid times, in seconds on the session clock.
    series : pynwb.ophys.RoiResponseSeries
    config : ReadConfig
    signal, signal_reason : str
        What the series holds, and why that is concluded.
    indicator : str
        As the file names it; empty where it does not.
    masks : tuple of StoredMask
    neuropil : Neuropil or None
        What is subtracted from the fluorescence, where anything is.
    rounding : float
        Size below which a negative event is an error of rounding.
    kind : "rois"
        What a channel is.
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
    neuropil: Neuropil | None = None
    rounding: float = 0.0
    kind: Kind = "rois"

    @property
    def subtracted(self) -> str:
        """What was subtracted, in words; empty where nothing was."""
        return "" if self.neuropil is None else f"{self.neuropil.coefficient:g} of {self.neuropil.path!r}"

    def only(self, keep: NDArray[np.bool_]) -> RoiSource:
        """Return the same series with some of its ROIs."""
        return replace(
            self,
            channel_id=self.channel_id[keep],
            channel_row=self.channel_row[keep],
            channel_columns={name: values[keep] for name, values in self.channel_columns.items()},
            offsets=self.offsets[keep],
            columns=self.columns[keep],
            neuropil=None if self.neuropil is None else self.neuropil.only(keep),
        )

    def bin(self, grid: Grid) -> Binned:
        """Put the samples into the bins of a grid; memory beside the result is limited by the settings.

        An ROI that is constant stays so, whatever its neuropil: it was not measured. Events cannot be negative: errors of
        rounding become 0, other negative values are unobserved.
        """
        if self.signal == "events":
            sizes = _EventSizes(self.samples(), self.rounding)
            binned = self.bin_samples(grid, sizes)
            return replace(binned, notes=(*binned.notes, *sizes.notes(self.path)))
        read_neuropil = self.neuropil_samples()
        if read_neuropil is None:
            return self.bin_samples(grid, self.samples())
        stored = _Extremes(self.stored_samples(), len(self.columns))
        binned = self.bin_samples(grid, lambda first, stop: stored(first, stop) - read_neuropil(first, stop))
        constant = stored.least == stored.greatest
        if not constant.any():
            return binned
        return replace(
            binned, values=np.where(constant & binned.observed, stored.least, binned.values).astype(np.float32)
        )

    def samples(self) -> ReadSamples:
        """Return a function that reads the samples of a range of frames, less their neuropil, in the series' unit.

        Ranges should rise, or parts of the file are read again.
        """
        read, read_neuropil = self.stored_samples(), self.neuropil_samples()
        if read_neuropil is None:
            return read
        return lambda first, stop: read(first, stop) - read_neuropil(first, stop)

    def neuropil_samples(self) -> ReadSamples | None:
        """Return a function that reads what is subtracted from the samples of a range of frames; None where nothing is."""
        return None if self.neuropil is None else self.neuropil.share(missing_value=self.config.missing_value)

    def stored_samples(self) -> ReadSamples:
        """Return a function that reads the samples of a range of frames with their neuropil, in the series' unit."""
        slabs = self._slabs()

        def read(first: int, stop: int) -> NDArray[np.float64]:
            frame_times = self.clock.times(first, stop)
            samples = in_unit(slabs.read(first, stop), self.series, missing_value=self.config.missing_value)
            samples[~control_allows(self.series, self.config, first=first, stop=stop)] = np.nan
            samples[inside(self.sample_times(first, stop), self.invalid)] = np.nan
            timed = np.flatnonzero(np.isfinite(frame_times))
            for mask in self.masks:
                hidden = mask.hidden(frame_times[timed], self.channel_row)
                samples[timed] = np.where(hidden, np.nan, samples[timed])
            return samples

        return read

    def sample_times(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return when each ROI was sampled.

        Parameters
        ----------
        first, stop : int
            Frames `first` to `stop` − 1.

        Returns
        -------
        array (frame, ROI)
            Seconds on the session clock, NaN where a frame has no valid time.
        """
        return np.asarray(self.clock.times(first, stop)[:, None] + self.offsets)

    def bin_samples(self, grid: Grid, read_samples: ReadSamples) -> Binned:
        """Put samples of the series' frames, such as its events, into the bins of a grid.

        Parameters
        ----------
        grid : Grid
        read_samples : callable (first, stop) -> array (frame, ROI)
            Samples of frames `first` to `stop` − 1, NaN where one is missing.
        """
        n_trials, n_bins = grid.shape
        n_rois = len(self.columns)
        values = np.zeros((n_trials, n_bins, n_rois), dtype=np.float32)
        observed = np.zeros(values.shape, dtype=bool)
        length = max(int(self.config.memory_limit / (BYTES_PER_SAMPLE * n_rois)), self._slabs().chunk_rows)
        firsts, _ = self.clock.ranges(replace(grid, starts=grid.starts - self.offsets.max()))
        _, stops = self.clock.ranges(grid)
        for trial in np.argsort(firsts, kind="stable"):
            totals = _BinTotals.zeros(n_bins, n_rois)
            for first in range(int(firsts[trial]), int(stops[trial]), length):
                stop = min(first + length, int(stops[trial]))
                times = self.sample_times(first, stop)
                times[inside(times, self.invalid)] = np.nan
                totals.add(read_samples(first, stop), bin_index(times, grid.starts[trial], grid.bin_width))
            values[trial], observed[trial] = totals.result(self.config.rois.aggregate)
        return Binned(values, observed)

    def _slabs(self) -> Slabs:
        return Slabs(self.series.data, transposed=self.transposed, columns=self.columns)


def _is_default(series: Any) -> bool:
    return not holds_neuropil(series)


@reader("RoiResponseSeries", kind="rois", default=_is_default, readable=holds_numbers, describe=describe_samples)
def roi_source(
    nwbfile: Any,
    series: RoiResponseSeries,
    config: ReadConfig,
    *,
    offsets: ArrayLike | None = None,
    rois: DynamicTableRegion | None = None,
) -> RoiSource:
    """Prepare a RoiResponseSeries, or a MicroscopyResponseSeries of ndx-microscopy, for reading.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    series : pynwb.ophys.RoiResponseSeries or MicroscopyResponseSeries
        Data (time, ROI), (time,) or, recognised by the number of ROIs, (ROI, time).
    config : ReadConfig
    offsets : array (ROI), optional
        Seconds from the time of each frame to the moment each ROI was sampled, one for each ROI of the series (also those
        that are not accepted), in the series' order; used instead of `config.rois.offset`.
    rois : hdmf.common.DynamicTableRegion, optional
        The rows of the table of ROIs that the series is about, for types that do not call them ``rois``.

    Raises
    ------
    DataError
        If `rois` names rows that the table does not have, the shape fits neither orientation, the times are not usable, or
        the offsets do not fit.
    SelectionError
        If a column or the scan-line rate is missing, or no ROI is accepted.
    """
    path = in_file_path(nwbfile, series)
    region = table_region(series) if rois is None else rois
    if region is None:
        raise DataError(f"{path!r} does not refer to rows of an ROI table; expected the field `rois`")
    table = region.table
    all_rows = region_rows(region, path=path)
    layout = sample_layout(series, region)
    notes = list(layout.notes)
    clock = sample_clock(series, n_samples=layout.n_samples, missing_value=config.missing_value)
    period = clock.period
    sampling = _sampling_offsets(nwbfile, table, all_rows, config=config.rois, period=period, offsets=offsets)
    keep = _accepted(table, all_rows) if config.rois.cells == "accepted" else np.ones(len(all_rows), dtype=bool)
    if not keep.all():
        notes.append(
            f"{int((~keep).sum())} of {len(keep)} ROIs of {series.name!r} are not marked as cells and are left out"
        )
    if not keep.any():
        raise SelectionError(
            f"none of the {len(keep)} ROIs of {series.name!r} is marked as a cell; to read all, use read.rois.cells=all"
        )
    if period is not None and config.bin_width is not None and config.bin_width > period * SAME_PERIOD:
        notes.append(
            f"bins are wider than a frame of {series.name!r}: each bin has the {config.rois.aggregate} of its frames"
        )
    columns = np.flatnonzero(keep)
    rows, seconds = all_rows[columns], sampling.seconds[columns]
    around = find_neuropil(nwbfile, series, region=region, rows=all_rows, clock=clock, named=config.rois.neuropil)
    beside = None if around.found is None else (around.found.series, around.found.columns, around.found.transposed)
    signal = classify_signal(
        series,
        columns=columns,
        transposed=layout.transposed,
        missing_value=config.missing_value,
        holds=config.rois.holds,
        kinetics=(_indicator(series, table), period),
        neuropil=beside,
    )
    neuropil, remarks = _subtracted(
        around, series, signal.signal, path=path, coefficient=config.rois.neuropil_coefficient
    )
    masks, about_masks = stored_masks(
        nwbfile, series, config, span=clock.span, period=period, missing_time=clock.missing_time
    )
    ids = row_ids(table, path=table.name)
    channel_columns = {name: values[rows] for name, values in plain_columns(table).items()}
    if sampling.notes:
        channel_columns["sampling_offset"] = seconds
    return RoiSource(
        path=path,
        table=in_file_path(nwbfile, table),
        unit=str(series.unit),
        channel_id=ids[rows],
        channel_row=rows,
        channel_columns=channel_columns,
        span=clock.span,
        sampling_period=period,
        notes=(
            *notes,
            *clock.notes,
            *sampling.notes,
            *note_on_ids(ids[np.unique(rows)], table.name),
            *remarks,
            *about_masks,
            *([signal.remark] if signal.remark else []),
        ),
        offsets=seconds,
        columns=columns,
        transposed=layout.transposed,
        clock=clock,
        invalid=invalid_intervals(nwbfile, config, series),
        series=series,
        config=config,
        signal=signal.signal,
        signal_reason=signal.reason,
        indicator=_indicator(series, table),
        masks=masks,
        neuropil=None if neuropil is None else neuropil.only(keep),
        rounding=signal.rounding,
    )


def _subtracted(
    around: Search, series: Any, signal: Signal, *, path: str, coefficient: float | None
) -> tuple[Neuropil | None, list[str]]:
    """The neuropil that is subtracted from a series, and a remark on it; or why none is, where the file has any."""
    found = around.found
    if found is None and not around.unused:
        none = coefficient and signal == "fluorescence" and not holds_neuropil(series)
        remarks = [f"the file has no neuropil of the ROIs of {path!r}, so none is subtracted"] if none else []
        if around.possible and signal == "fluorescence" and not says_corrected(series) and coefficient != 0:
            could = " or ".join(map(repr, around.possible))
            remarks = [
                f"no series is named neuropil of {path!r}, so none is subtracted. If {could} (same ROIs and frames) "
                "is its neuropil, set read.rois.neuropil to it"
            ]
        return None, remarks
    if signal == "events" or found is None:
        return None, [f"neuropil is not subtracted from {path!r}: {around.unused}"] if signal == "fluorescence" else []
    if signal == "dF/F":
        reason = "the series is ΔF/F (if it is raw fluorescence, set read.rois.holds=fluorescence)"
    elif coefficient is None and says_corrected(series):
        reason = "its name shows that this was already done (if not, set read.rois.neuropil_coefficient=0.7)"
    elif coefficient == 0:
        reason = "read.rois.neuropil_coefficient is 0"
    else:
        found = replace(found, coefficient=USUAL_COEFFICIENT if coefficient is None else coefficient)
        return found, [f"{found.coefficient:g} of the neuropil {found.path!r} is subtracted from {path!r}"]
    return None, [f"neuropil {found.path!r} is not subtracted from {path!r}: {reason}"]


def _indicator(series: Any, table: Any) -> str:
    """The indicator as the file names it, in the imaging plane or in the channel of ndx-microscopy; empty where it does not."""
    named = getattr(getattr(table, "imaging_plane", None), "indicator", None)
    channel = getattr(getattr(series, "microscopy_series", None), "microscopy_channel", None)
    return str(named or getattr(getattr(channel, "indicator", None), "label", None) or "")


class _EventSizes:
    """Reads samples (frame, ROI) of events, none of them negative, and counts those that were."""

    def __init__(self, read: ReadSamples, rounding: float) -> None:
        self._read, self._rounding = read, rounding
        self._counted = self._rounded = self._negative = 0

    def __call__(self, first: int, stop: int) -> NDArray[np.floating[Any]]:
        sizes = np.array(self._read(first, stop))
        rounded, negative = (sizes < 0) & (sizes >= -self._rounding), sizes < -self._rounding
        # Frames that trials share are counted once; they are read in rising order.
        new = max(self._counted - first, 0)
        self._rounded += int(rounded[new:].sum())
        self._negative += int(negative[new:].sum())
        self._counted = max(self._counted, stop)
        sizes[rounded], sizes[negative] = 0.0, np.nan
        return sizes

    def notes(self, path: str) -> list[str]:
        kinds = (
            (self._rounded, "negative because of rounding, and are read as 0"),
            (self._negative, "negative, which events cannot be, and are treated as missing"),
        )
        return [f"{number} values of {path!r} are {what}" for number, what in kinds if number]


class _Extremes:
    """Reads samples (frame, ROI), and keeps the least and the greatest of each ROI."""

    def __init__(self, read: ReadSamples, n_rois: int) -> None:
        self._read = read
        self.least, self.greatest = np.full(n_rois, np.inf), np.full(n_rois, -np.inf)

    def __call__(self, first: int, stop: int) -> NDArray[np.floating[Any]]:
        samples = self._read(first, stop)
        self.least = np.fmin(self.least, np.fmin.reduce(samples, axis=0, initial=np.inf))
        self.greatest = np.fmax(self.greatest, np.fmax.reduce(samples, axis=0, initial=-np.inf))
        return samples


@dataclass(frozen=True)
class _BinTotals:
    """Sum, number and number of missing samples in every bin of one trial; arrays (bin, ROI)."""

    sums: NDArray[np.float64]
    counts: NDArray[np.intp]
    missing: NDArray[np.intp]

    @classmethod
    def zeros(cls, n_bins: int, n_rois: int) -> _BinTotals:
        shape = (n_bins, n_rois)
        return cls(np.zeros(shape), np.zeros(shape, dtype=np.intp), np.zeros(shape, dtype=np.intp))

    def add(self, samples: NDArray[np.floating[Any]], bins: NDArray[np.intp]) -> None:
        """Add samples (frame, ROI) to their bins (frame, ROI); bins outside the trial are left out."""
        n_bins, n_rois = self.sums.shape
        bins = np.broadcast_to(bins, samples.shape)
        in_trial = (bins >= 0) & (bins < n_bins)
        flat_bins = (bins * n_rois + np.arange(n_rois))[in_trial]
        values = samples[in_trial]
        present = np.isfinite(values)
        for total, counted, weights in (
            (self.sums, present, values[present]),
            (self.counts, present, None),
            (self.missing, ~present, None),
        ):
            total += np.bincount(flat_bins[counted], weights=weights, minlength=total.size).reshape(total.shape)

    def result(self, aggregate: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values and observed bins, both (bin, ROI)."""
        observed = self.counts > 0
        if aggregate == "sum":
            observed &= self.missing == 0
            return np.where(observed, self.sums, 0).astype(np.float32), observed
        return (self.sums / np.maximum(self.counts, 1)).astype(np.float32), observed


def _sampling_offsets(
    nwbfile: Any,
    table: PlaneSegmentation,
    rows: NDArray[np.intp],
    *,
    config: RoiConfig,
    period: float | None,
    offsets: ArrayLike | None,
) -> SamplingOffsets:
    if offsets is not None:
        return check_offsets(offsets, n_rois=len(rows), period=period)
    if config.offset == "column":
        return column_offsets(table, rows, name=config.offset_column, period=period)
    if config.offset == "centroid":
        return centroid_offsets(nwbfile, table, rows, config=config, period=period)
    return SamplingOffsets(np.zeros(len(rows)))


def _accepted(table: Any, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which ROIs a column accepted, iscell (in suite2p of shape (ROI, 2)) or rejected accepts, however it is spelled."""
    columns = {name.lower().replace("_", "").removeprefix("is"): name for name in table.colnames}
    verdicts = []
    for name, meaning in (("accepted", True), ("cell", True), ("rejected", False)):
        if name in columns:
            flags = np.asarray(table[columns[name]].data[:])
            if flags.dtype.kind not in "biuf" or flags.shape[:1] != (len(table),):
                raise DataError(
                    f"column {columns[name]!r} of {table.name!r} has {flags.dtype} values of shape {flags.shape}; "
                    f"expected one flag for each of {len(table)} ROIs; use read.rois.cells=all, or read.where with "
                    "another column"
                )
            verdicts.append((flags.reshape(len(flags), -1)[:, 0][rows].astype(float) > 0) == meaning)
    if not verdicts:
        raise SelectionError(
            f"read.rois.cells=accepted needs a column accepted, iscell or rejected; {table.name!r} has "
            f"{list(table.colnames)}; use read.rois.cells=all, or read.where with another column"
        )
    accepted: NDArray[np.bool_] = np.logical_and.reduce(verdicts)
    return accepted
