"""Which samples of a series were observed: invalid times, `control` values and stored observation masks.

A stored mask is an `ObservationMaskSeries` (extension ndx-sbtt). It is recognised by the name of its type, so that a file
reads the same where the extension is not installed. A TimeSeries of 0 and 1 (or NaN) that has the name of a series with
"_mask" or "_observed", in whatever case, is one too, and a note says so; one that does not fit is an error, and one that holds
anything else is noted. What lies outside of a mask, in time or because it names no such channel, counts as observed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from hdmf.common import VectorIndex
from numpy.typing import NDArray
from pynwb.misc import Units

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.binning import bin_index, tolerance
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.data.intervals import Intervals, inside, union
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.clock import SampleClock, sample_clock
from nwb_sbtt.io.read.indices import Ragged, check_real, interval_bounds, ragged_column, region_rows
from nwb_sbtt.io.read.layout import data_shape, not_samples, sample_layout
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.results import MASK_TYPE, is_result
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.io.read.tables import table_region

PLAIN_SUFFIXES = ("_mask", "_observed")
"""Ends of the names of plain TimeSeries that mask the series of the same name without them."""
ENTRIES_AT_ONCE = 4_000_000
"""Entries of a mask that are read at once."""
SAME_RATE = 0.01
"""Relative difference of two sampling periods from which on they are different."""
EDGE = 1.5
"""Sampling periods of a mask that it may miss at the ends of its series without a remark."""


def invalid_intervals(nwbfile: Any, config: ReadConfig, series: Any = None) -> Intervals:
    """Read the invalid times of a file.

    A row that names series (column `timeseries`) holds for those alone, and every other row for all that the file has.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    config : ReadConfig
    series : pynwb.TimeSeries or pynwb.misc.Units, optional
        For which the rows must hold. Default: all rows.

    Returns
    -------
    array (interval, 2)
        Seconds on the session clock, as `nwb_sbtt.data.intervals.union` returns them; empty where the settings say to
        ignore the table.

    Raises
    ------
    DataError
        If a bound is no real number, or a row has no start or stop or ends before it starts.
    """
    table = nwbfile.invalid_times
    if table is None or not config.invalid_times or len(table) == 0:
        return np.empty((0, 2))
    remedy = "pass invalid_times=False (--set read.invalid_times=false) to ignore the table"
    rows = interval_bounds(table, path="invalid_times", remedy=remedy)
    check_intervals(rows, name="invalid_times", remedy=remedy)
    return union(rows if series is None else rows[_holds_for(table, series, remedy=remedy)])


def _holds_for(table: Any, series: Any, *, remedy: str) -> NDArray[np.bool_]:
    """Which rows (row) of a table of intervals name no series, or this one."""
    if "timeseries" not in table.colnames:
        return np.ones(len(table), dtype=bool)
    bounds = ragged_column(table, "timeseries", path="invalid_times", remedy=remedy).bounds
    return np.array(
        [
            stop == first or any(reference.timeseries is series for reference in table["timeseries"][row])
            for row, (first, stop) in enumerate(pairwise(bounds))
        ],
        dtype=bool,
    )


def check_intervals(intervals: NDArray[np.float64], *, name: str, remedy: str) -> None:
    """Refuse intervals without a bound, and intervals that end before they start.

    Parameters
    ----------
    intervals : array (interval, 2)
        Seconds on the session clock.
    name, remedy : str
        What the error calls the intervals, and what it proposes.

    Raises
    ------
    DataError
        If there is such an interval.
    """
    wrong = np.flatnonzero(~(intervals[:, 1] >= intervals[:, 0]))
    if len(wrong):
        start, stop = intervals[wrong[0]]
        raise DataError(
            f"row {int(wrong[0])} of {name} runs from {start:g} to {stop:g} s; expected a start and a later stop "
            f"({len(wrong)} such rows); {remedy}"
        )


def control_allows(series: Any, config: ReadConfig, *, first: int, stop: int) -> NDArray[np.bool_]:
    """Tell which samples the `control` values of a series let count as observed.

    Parameters
    ----------
    series : pynwb.TimeSeries
    config : ReadConfig
    first, stop : int
        Samples `first` to `stop` − 1.

    Returns
    -------
    bool array (sample)
        All True where the settings or the series have no `control`.

    Raises
    ------
    DataError
        If `control` does not have one value per sample.
    """
    if config.control is None or series.control is None:
        return np.ones(stop - first, dtype=bool)
    values = np.asarray(series.control[first:stop])
    if values.shape != (stop - first,):
        raise DataError(
            f"`control` of {series.name!r} has shape {np.shape(series.control)}; expected one value per sample; to "
            "ignore it, do not set read.control"
        )
    return np.isin(values, config.control)


def obs_intervals(table: Any, path: str) -> tuple[Intervals, ...] | None:
    """Read when each channel was observed: for units as NWB defines it, for electrodes where a multiplexed device stores it so.

    Parameters
    ----------
    table : pynwb.misc.Units or another table of channels
    path : str
        In-file path of the table, for errors.

    Returns
    -------
    tuple of arrays (interval, 2), or None
        Seconds on the session clock. Channels of the same intervals share an array; that of a channel without any is empty:
        it was never observed. A column (channel, 2) without an index holds one interval a channel. None where the table has
        no such column, or the column is empty for all channels.

    Raises
    ------
    DataError
        If an interval has no start or no later stop, is no pair of real numbers, or it cannot be told which channel it
        belongs to.
    """
    if "obs_intervals" not in table.colnames:
        return None
    remedy = "pass obs_intervals=False (--set read.obs_intervals=false) to ignore them"
    if one_interval_each(table):
        column = Ragged(table["obs_intervals"].data, np.arange(len(table) + 1))
    else:
        column = ragged_column(table, "obs_intervals", path=path, remedy=remedy)
    shape = np.shape(column.values)
    if int(column.bounds[-1]) == 0:
        return None
    if len(shape) != 2 or shape[1] != 2:
        raise DataError(f"column 'obs_intervals' of {path!r} has shape {shape}; expected (interval, 2); {remedy}")
    check_real(column.values, f"column 'obs_intervals' of {path!r}", remedy=remedy)
    stored = np.asarray(column.values[:], dtype=np.float64)
    check_intervals(stored, name=f"the obs_intervals of {path!r}", remedy=remedy)
    shared: dict[bytes, Intervals] = {}
    intervals = []
    for first, stop in pairwise(column.bounds):
        key = stored[first:stop].tobytes()
        if key not in shared:
            shared[key] = union(stored[first:stop])
        intervals.append(shared[key])
    return tuple(intervals)


def one_interval_each(table: Any) -> bool:
    """Tell whether `obs_intervals` have no index, and are as many as the rows.

    Parameters
    ----------
    table : pynwb.misc.Units or another table of channels
        With that column.
    """
    column = table["obs_intervals"]
    return not isinstance(column, VectorIndex) and np.shape(column.data) == (len(table), 2)


@dataclass(frozen=True)
class ObservedTimes:
    """Times of the samples of a series that invalid times and `control` leave observed.

    Parameters
    ----------
    clock : SampleClock
        Times of the samples.
    series : pynwb.TimeSeries
        Whose `control` is read.
    config : ReadConfig
    invalid : array (interval, 2)
        Invalid times, in seconds on the session clock.
    """

    clock: SampleClock
    series: Any = field(repr=False)
    config: ReadConfig = field(repr=False)
    invalid: Intervals = field(repr=False)

    def read(self, first: int, stop: int) -> NDArray[np.float64]:
        """Read the times of some samples.

        Parameters
        ----------
        first, stop : int
            Samples `first` to `stop` − 1.

        Returns
        -------
        array (sample)
            Seconds on the session clock, NaN where a sample was not observed.

        Raises
        ------
        DataError
            If `control` does not have one value per sample.
        """
        times = self.clock.times(first, stop)
        allowed = control_allows(self.series, self.config, first=first, stop=stop)
        return np.where(inside(times, self.invalid) | ~allowed, np.nan, times)


def observed_times(nwbfile: Any, series: Any, config: ReadConfig, *, n_samples: int) -> ObservedTimes:
    """Prepare the times of a series, with invalid times, `control` and bad timestamps taken into account.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    series : pynwb.TimeSeries
    config : ReadConfig
    n_samples : int
        Length of the series' time axis.

    Raises
    ------
    DataError
        As `sample_clock`, or if the table of invalid times cannot be used.
    """
    clock = sample_clock(series, n_samples=n_samples, missing_value=config.missing_value)
    return ObservedTimes(clock, series, config, invalid_intervals(nwbfile, config, series))


@dataclass(frozen=True)
class StoredMask:
    """An observation mask of some rows of a table of channels.

    A mask sample holds for the sampling period that begins at its time. Where the mask has no sample, and for channels that
    it does not name, it hides nothing.

    Parameters
    ----------
    path : str
        In-file path.
    rows : int array (column)
        Row of the table that each column of the mask stands for; of a mask with one column, all that it stands for.
    clock : SampleClock
        Times of the mask's samples.
    slabs : Slabs
        The mask itself, (sample, column): 0 or NaN where nothing was observed.
    """

    path: str
    rows: NDArray[np.intp]
    clock: SampleClock = field(repr=False)
    slabs: Slabs = field(repr=False)

    def seconds_in(self, span: tuple[float, float]) -> float:
        """Seconds of a span, on the session clock, for which the mask can have samples: between its ends, less its gaps.

        Parameters
        ----------
        span : (float, float)
            First and last moment.
        """
        first, last = self.clock.span
        overlap = min(last, span[1]) - max(first, span[0])
        return max(min(overlap, last - first - self.clock.missing_time), 0.0)

    def bin(self, grid: Grid, channel_rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which bins the mask leaves observed: those that no hidden mask sample touches.

        Parameters
        ----------
        grid : Grid
        channel_rows : int array (channel)
            Row of the table for each channel.

        Returns
        -------
        bool array (trial, time, channel)
        """
        period = self.clock.period or 0.0
        channels, columns = self._named_channels(channel_rows)
        observed = np.ones((*grid.shape, len(channel_rows)), dtype=bool)
        firsts, _ = self.clock.ranges(replace(grid, starts=grid.starts - period))
        _, stops = self.clock.ranges(grid)
        length = max(ENTRIES_AT_ONCE // self.slabs.n_columns, 1)
        for trial in np.argsort(firsts, kind="stable"):
            # +1 where a hidden sample begins, −1 after its end: the running sum counts the hidden samples that touch a bin.
            changes = np.zeros((grid.n_bins + 1, len(columns)), dtype=np.int32)
            for first in range(int(firsts[trial]), int(stops[trial]), length):
                stop = min(first + length, int(stops[trial]))
                times = self.clock.times(first, stop)
                timed = np.isfinite(times)
                hidden = ~leaves(self.slabs.read(first, stop)[:, columns])[timed]
                times = times[timed]
                begins = bin_index(times, grid.starts[trial], grid.bin_width)
                # A period that ends on an edge does not touch the bin after it.
                ends = bin_index(times + period - 2 * tolerance(times), grid.starts[trial], grid.bin_width) + 1
                np.add.at(changes, np.clip(begins, 0, grid.n_bins), hidden)
                np.subtract.at(changes, np.clip(np.maximum(ends, begins + 1), 0, grid.n_bins), hidden)
            observed[trial][:, channels] = np.cumsum(changes, axis=0)[:-1] == 0
        return observed

    def hidden(self, times: NDArray[np.float64], channel_rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which samples of a recording the mask hides.

        Parameters
        ----------
        times : array (sample)
            Rising, in seconds on the session clock.
        channel_rows : int array (channel)
            Row of the table for each channel.

        Returns
        -------
        bool array (sample, channel)
        """
        channels, columns = self._named_channels(channel_rows)
        hidden = np.zeros((len(times), len(channel_rows)), dtype=bool)
        if len(times) == 0:
            return hidden
        period = self.clock.period or 0.0
        width = float(times[-1] - times[0]) + 2 * period
        firsts, stops = self.clock.ranges(Grid(np.array([times[0] - period]), width, 1))
        first, stop = int(firsts[0]), int(stops[0])
        mask_times = self.clock.times(first, stop)
        timed = np.flatnonzero(np.isfinite(mask_times))
        if len(timed) == 0:
            return hidden
        moments = times + tolerance(times)
        latest = np.searchsorted(mask_times[timed], moments, side="right") - 1
        covered = (latest >= 0) & (moments < mask_times[timed][latest] + period)
        mask_hides = ~leaves(self.slabs.read(first, stop)[:, columns])
        hidden[np.ix_(covered, channels)] = mask_hides[timed[latest[covered]]]
        return hidden

    def _named_channels(self, channel_rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Channels that the mask names, and its column for each of them."""
        shared = self.slabs.n_columns == 1
        column_of_row = {int(row): 0 if shared else column for column, row in enumerate(self.rows)}
        channels = [channel for channel, row in enumerate(channel_rows) if int(row) in column_of_row]
        columns = [column_of_row[int(channel_rows[channel])] for channel in channels]
        return np.asarray(channels, dtype=np.intp), np.asarray(columns, dtype=np.intp)


def stored_masks(
    nwbfile: Any,
    series: Any,
    config: ReadConfig,
    *,
    span: tuple[float, float] | None = None,
    period: float | None = None,
    missing_time: float = 0.0,
) -> tuple[tuple[StoredMask, ...], tuple[str, ...]]:
    """Find the observation masks of a series or a units table.

    A mask belongs to the series that its `source_timeseries` links to, and a plain TimeSeries to that of its name. Without a
    link a mask belongs to the units table whose rows it names, and to each series on the same table that has as many samples.
    Masks beside a LatentVariableModel are ignored: they are part of a result and tell what that model was shown.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    series : pynwb.TimeSeries or pynwb.misc.Units
    config : ReadConfig
    span : (float, float), optional
        First and last moment of the series, in seconds on the session clock.
    period : float, optional
        Sampling period of the series, in seconds.
    missing_time : float
        Sum of the gaps between samples of the series, in seconds.

    Returns
    -------
    masks : tuple of StoredMask
        Sorted by path.
    remarks : tuple of str
        What each is used for, how much of the series it covers, and what has the name of a mask and is not used.

    Raises
    ------
    DataError
        If a mask names rows that its table does not have, does not have one column for each, or has no usable times; or a
        plain one of 0 and 1 does not fit its series.
    """
    if not config.stored_masks:
        return (), ()
    path = in_file_path(nwbfile, series)
    masks, remarks = [], []
    for mask in nwbfile.objects.values():
        if _has_type(mask, MASK_TYPE) and _belongs(mask, series) and not is_result(mask):
            masks.append(_stored_mask(nwbfile, mask))
            remarks.append(f"{masks[-1].path!r} is used as mask of {path!r}: samples with 0 are missing")
    for plain in _plain_series(nwbfile, series):
        flags, about = _plain_mask(nwbfile, plain, series, path=path, period=period)
        masks += [] if flags is None else [flags]
        remarks.append(about)
    masks.sort(key=lambda mask: mask.path)
    if span is not None:
        remarks += [remark for mask in masks if (remark := _on_coverage(mask, path, span, missing_time)) is not None]
    return tuple(masks), tuple(remarks)


def leaves(entries: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which entries of a stored mask say that a sample was observed: those that are not 0, and not NaN.

    Parameters
    ----------
    entries : array
        As stored.
    """
    return np.asarray((entries != 0) & (entries == entries))


def _on_coverage(mask: StoredMask, path: str, span: tuple[float, float], missing_time: float) -> str | None:
    """A remark on a mask that does not cover all of its series, but for a sampling period."""
    (first, last), (start, stop) = mask.clock.span, span
    recorded = stop - start - missing_time
    covered = min(mask.seconds_in(span), recorded)
    if recorded - covered <= EDGE * (mask.clock.period or 0.0):
        return None
    share = f"{covered / recorded:.1%}" if covered > 0 else "none"
    n_gaps = mask.clock.gaps
    gaps = f" with {n_gaps} gap{'s' * (n_gaps > 1)}" if n_gaps else ""
    reason = "" if covered > 0 else "; check its starting time and rate, or its timestamps"
    return (
        f"the mask {mask.path!r} covers {share} of {path!r}: it runs from {first:g} to {last:g} s{gaps}, {path!r} from "
        f"{start:g} to {stop:g} s; samples outside of a mask count as observed{reason}"
    )


def _plain_series(nwbfile: Any, series: Any) -> list[Any]:
    """TimeSeries that have the name of a mask of a series, in whatever case."""
    names = {f"{series.name}{suffix}".casefold() for suffix in PLAIN_SUFFIXES}
    return [
        each
        for each in ([] if is_result(series) else nwbfile.objects.values())
        if _has_type(each, "TimeSeries") and each.name.casefold() in names and not is_result(each)
    ]


def _plain_mask(
    nwbfile: Any, plain: Any, series: Any, *, path: str, period: float | None
) -> tuple[StoredMask | None, str]:
    """The mask that a TimeSeries of such a name is, or None if it holds something else; and a remark on either."""
    mask_path = in_file_path(nwbfile, plain)
    reason = _why_no_flags(plain)
    if reason is not None:
        return None, (
            f"{mask_path!r} is not used as mask of {path!r}, although it has the name of one: {reason}; a mask contains 1 "
            "where a sample was measured and 0 or NaN where it was not"
        )
    n_samples, n_channels, rows = _extent(series)
    shape = data_shape(plain)
    n_times = n_samples if plain.timestamps is None else len(plain.timestamps)
    transposed = len(shape) == 2 and shape[0] == n_channels and shape[1] == n_times and shape[1] != shape[0]
    slabs = Slabs(plain.data, transposed=transposed)
    clock = sample_clock(plain, n_samples=slabs.n_rows)
    other_rate = None not in (period, clock.period) and abs(clock.period / period - 1) > SAME_RATE  # type: ignore[operator]
    same_length = n_samples is None or slabs.n_rows == n_samples
    if slabs.n_columns not in (1, n_channels) or (n_samples is not None and same_length == other_rate):
        clock_of = f" at {1 / clock.period:g} Hz" if clock.period else ""
        rate = f" at {1 / period:g} Hz" if period else ""
        raise DataError(
            f"{mask_path!r} has the name and the values of a mask of {path!r}, but has shape {shape}{clock_of}; expected "
            f"({n_samples or 'time'}, {n_channels}){rate}, one column for all channels, or flags at a different rate with "
            "separate times; correct it, rename it if it is not a mask, or ignore stored masks (--set read.stored_masks=false)"
        )
    how = [f"{mask_path!r}, a TimeSeries of 0 and 1, is used as mask of {path!r}: samples with 0 are missing"]
    how += ["so are samples with NaN"] if slabs.dtype.kind == "f" else []
    how += ["its one column is used for all channels"] if slabs.n_columns < n_channels else []
    how += [f"it is stored (channel, time) {shape} and is transposed"] if transposed else []
    how += ["its rate is different, so the latest flag is used for each sample"] if other_rate else []
    return StoredMask(mask_path, rows, clock, slabs), "; ".join(how)


def _extent(series: Any) -> tuple[int | None, int, NDArray[np.intp]]:
    """Number of samples, which units do not have, number of channels, and the row of each in their table."""
    if isinstance(series, Units):
        return None, len(series), np.arange(len(series))
    layout, region = sample_layout(series), table_region(series)
    rows = np.arange(layout.n_channels) if region is None else region_rows(region, path=series.name)
    return layout.n_samples, layout.n_channels, np.asarray(rows, dtype=np.intp)


def _why_no_flags(plain: Any) -> str | None:
    """Why the data of a TimeSeries cannot be flags; None where all of them are 0, 1 or NaN."""
    if (reason := not_samples(plain)) is not None:
        return f"its data {reason}"
    slabs = Slabs(plain.data)
    if slabs.n_rows * slabs.n_columns == 0:
        return "it has no data"
    length = max(ENTRIES_AT_ONCE // slabs.n_columns, 1)
    for first in range(0, slabs.n_rows, length):
        entries = slabs.read(first, min(first + length, slabs.n_rows))
        others = entries[~np.isin(entries, (0, 1)) & (entries == entries)]
        if len(others):
            return f"it contains {others[0]:g}"
    return None


def _stored_mask(nwbfile: Any, mask: Any) -> StoredMask:
    path = in_file_path(nwbfile, mask)
    slabs = Slabs(mask.data)
    rows = region_rows(mask.channels, path=path)
    if slabs.n_columns != len(rows):
        raise DataError(
            f"observation mask {path!r} has shape {np.shape(mask.data)}, but its `channels` refer to {len(rows)}; "
            f"expected (time, {len(rows)})"
        )
    return StoredMask(path=path, rows=rows, clock=sample_clock(mask, n_samples=slabs.n_rows), slabs=slabs)


def _belongs(mask: Any, series: Any) -> bool:
    linked = getattr(mask, "source_timeseries", None)
    if linked is not None:
        return linked is series
    if mask.channels.table is series:
        return True
    region = table_region(series)
    if region is None or region.table is not mask.channels.table:
        return False
    return bool(np.shape(mask.data)[0] == sample_layout(series).n_samples)


def _has_type(nwb_object: Any, neurodata_type: str) -> bool:
    return getattr(nwb_object, "neurodata_type", None) == neurodata_type
