"""Any TimeSeries of numbers put into bins: a channel per column, the mean of the samples in each bin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.binning import add_samples, bin_index
from nwb_sbtt.data.grid import Binned, Grid, Kind
from nwb_sbtt.io.read.description import describe_samples
from nwb_sbtt.io.read.layout import sample_layout
from nwb_sbtt.io.read.masks import ObservedTimes, StoredMask, observed_times, stored_masks
from nwb_sbtt.io.read.neurodata import holds_numbers, reader
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.slabs import Slabs, in_unit

BYTES_PER_SAMPLE = 40
"""Memory that binning takes for one sample: stored value, value, and their temporaries."""


@dataclass(frozen=True)
class TimeSeriesSource:
    """A TimeSeries ready to be put on any grid; a bin without a sample is unobserved.

    Parameters
    ----------
    path : str
        In-file path.
    unit : str
    channel_id : int array (channel)
        Column of each channel.
    span : (float, float)
        First and last moment, in seconds on the session clock.
    sampling_period : float or None
        Seconds; None for a single sample without a rate.
    notes : tuple of str
        One-line remarks for the user.
    series : pynwb.TimeSeries
    transposed : bool
        Whether the data are stored (channel, time).
    times : ObservedTimes
    config : ReadConfig
    masks : tuple of StoredMask
    kind : "series"
        What a channel is.
    """

    path: str
    unit: str
    channel_id: NDArray[np.intp]
    span: tuple[float, float]
    sampling_period: float | None
    notes: tuple[str, ...]
    series: Any = field(repr=False)
    transposed: bool
    times: ObservedTimes = field(repr=False)
    config: ReadConfig = field(repr=False)
    masks: tuple[StoredMask, ...] = field(default=(), repr=False)
    kind: Kind = "series"

    @property
    def table(self) -> str:
        """In-file path of the series itself: no table describes its columns."""
        return self.path

    @property
    def channel_row(self) -> NDArray[np.intp]:
        """Column of each channel."""
        return self.channel_id

    @property
    def channel_columns(self) -> Mapping[str, NDArray[np.generic]]:
        """An empty mapping: no table describes the columns."""
        return {}

    def only(self, keep: NDArray[np.bool_]) -> TimeSeriesSource:
        """Return the same series with some of its columns."""
        return replace(self, channel_id=self.channel_id[keep])

    def bin(self, grid: Grid) -> Binned:
        """Put the samples into the bins of a grid; memory beside the result is limited by the settings."""
        values = np.zeros((*grid.shape, len(self.channel_id)), dtype=np.float32)
        observed = np.zeros(values.shape, dtype=bool)
        slabs = Slabs(self.series.data, transposed=self.transposed, columns=self.channel_id)
        length = max(int(self.config.memory_limit / (BYTES_PER_SAMPLE * slabs.n_columns)), 1)
        firsts, stops = self.times.clock.ranges(grid)
        for trial in np.argsort(firsts, kind="stable"):
            sums = np.zeros(values.shape[1:])
            counts = np.zeros(sums.shape, dtype=np.intp)
            for first in range(firsts[trial], stops[trial], length):
                stop = min(first + length, stops[trial])
                times = self.times.read(first, stop)
                is_observed = np.isfinite(times)
                times = times[is_observed]
                samples = in_unit(
                    slabs.read(first, stop)[is_observed], self.series, missing_value=self.config.missing_value
                )
                for mask in self.masks:
                    samples[mask.hidden(times, self.channel_row)] = np.nan
                bins = bin_index(times, float(grid.starts[trial]), grid.bin_width)
                part_sums, part_counts = add_samples(samples, bins, grid.n_bins)
                sums += part_sums
                counts += part_counts
            values[trial] = sums / np.maximum(counts, 1)
            observed[trial] = counts > 0
        return Binned(values, observed)


@reader("TimeSeries", kind="series", default=False, readable=holds_numbers, describe=describe_samples)
def timeseries_source(nwbfile: Any, series: Any, config: ReadConfig) -> TimeSeriesSource:
    """Prepare a TimeSeries for reading.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    series : pynwb.TimeSeries
        Numbers (time,), (time, channel) or, recognised by the number of timestamps, (channel, time).
    config : ReadConfig

    Raises
    ------
    DataError
        If the data are not numbers of that shape, or the sample times cannot be used.
    """
    layout = sample_layout(series)
    times = observed_times(nwbfile, series, config, n_samples=layout.n_samples)
    path = in_file_path(nwbfile, series)
    notes = [*layout.notes, *times.clock.notes]
    masks, remarks = stored_masks(
        nwbfile, series, config, span=times.clock.span, period=times.clock.period, missing_time=times.clock.missing_time
    )
    notes += remarks
    if config.control is not None and series.control is None:
        notes.append(f"{path!r} has no `control`, so all its samples count as observed")
    return TimeSeriesSource(
        path=path,
        unit=str(series.unit),
        channel_id=np.arange(layout.n_channels),
        span=times.clock.span,
        sampling_period=times.clock.period,
        notes=tuple(notes),
        series=series,
        transposed=layout.transposed,
        times=times,
        config=config,
        masks=masks,
    )
