"""Voltages: an ElectricalSeries as band-limited signal, band power or threshold crossings, one value a bin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb.ecephys import ElectricalSeries

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.binning import RESOLUTION
from nwb_sbtt.data.grid import Binned, Grid
from nwb_sbtt.data.schema import Kind
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.candidates import describe_samples
from nwb_sbtt.io.read.clock import sample_clock
from nwb_sbtt.io.read.masks import invalid_intervals, stored_masks
from nwb_sbtt.io.read.neurodata import holds_numbers, reader
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.recording import Recording, find_pieces
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.io.read.tables import plain_columns
from nwb_sbtt.signals.blocks import MARGINS_READ, Bins, Reduction
from nwb_sbtt.signals.crossings import Crossings, robust_noise
from nwb_sbtt.signals.filters import Filter, band_filter, choose_band
from nwb_sbtt.signals.lfp import BandPower, Decimated, decimating_filter, slow_filter, slow_sum_length

NOISE_PARTS = 20
NOISE_SECONDS = 0.25
"""The noise of each electrode is the median of its noise in this many parts of this length, spread over the recording."""
STEEPNESS = {"power": 0.25, "spikes": 0.5}
"""Width of the lower edge of the band as a share of its frequency."""
POWER_OVERSAMPLING = 4
"""Band power is taken from this many values per period of the band's upper edge, at least."""
WORKING_BYTES = 24 * 2**20
"""Values of one block, where neither the reach of the filter nor the chunks ask for more. The memory of larger arrays goes back
to the system each time, and is slow to come again."""
NAMED = 20
"""Most electrodes that a note names."""
UNITS = {"lfp": "volts", "power": "log(V^2)", "spikes": "counts"}


@dataclass(frozen=True)
class ElectricalSource:
    """An ElectricalSeries ready to be put on any grid.

    * lfp: the signal up to the band's upper edge, at the centre of each bin, less a Gaussian mean over the observed
      samples around it (half power at the band's lower edge); volts.
    * power: natural logarithm of the mean squared band signal in each bin; a bin in which less than
      `config.electrical.min_observed` of the band signal is observed is unobserved, and so is a flat signal.
    * spikes: threshold crossings in each bin, with `exposure` where a bin was watched in part; an electrode without any
      noise is unobserved.

    What was not observed (gaps, NaN, sentinels, invalid times, `control`, stored masks) never reaches a filter; see
    ``nwb_sbtt.signals.blocks``. `scale` is volts per stored unit; the series' `offset` in volts drops out of every band.
    """

    path: str
    unit: str
    channel_id: NDArray[np.generic]
    channel_row: NDArray[np.intp]
    channel_columns: Mapping[str, NDArray[np.generic]]
    span: tuple[float, float]
    sampling_period: float
    notes: tuple[str, ...]
    scale: NDArray[np.float64]
    recording: Recording = field(repr=False)
    config: ReadConfig = field(repr=False)
    table: str = "electrodes"
    kind: Kind = "electrodes"

    def only(self, keep: NDArray[np.bool_]) -> ElectricalSource:
        """The same series with some of its electrodes; chunks of the file with none of them are not read."""
        return replace(
            self,
            channel_id=self.channel_id[keep],
            channel_row=self.channel_row[keep],
            channel_columns={name: values[keep] for name, values in self.channel_columns.items()},
            scale=self.scale[keep],
            recording=self.recording.only(keep),
        )

    def bin(self, grid: Grid) -> Binned:
        """Put the signal into the bins of the grid.

        Only the samples that the bins and the filters need are read, chunk by chunk, within `config.memory_limit`.

        Raises
        ------
        DataError
            If a bin is shorter than the sampling period, the sampling rate cannot carry the band, or the memory limit is
            too small for the filter's length or one chunk of the file.
        """
        use = self.config.electrical.feature
        reduction = self._reduction(grid.bin_width)
        shape = (*grid.shape, len(self.scale))
        values = np.zeros((grid.shape[0] * grid.n_bins, len(self.scale)), dtype=np.float32)
        weights = np.zeros(values.shape, dtype=np.float32)
        edges = (grid.starts[:, None] + np.arange(grid.n_bins) * grid.bin_width).ravel()
        # Windows may overlap; a bin that several windows share is computed once.
        ticks, unique = np.unique(np.round(edges / RESOLUTION).astype(np.int64), return_inverse=True)
        starts = np.asarray(ticks * RESOLUTION, dtype=np.float64)
        order = np.argsort(unique, kind="stable")
        bounds = np.searchsorted(unique[order], np.arange(len(starts) + 1))
        for piece in self.recording.pieces:
            begin, end = piece.span
            low, high = np.searchsorted(starts, [begin - grid.bin_width, end])
            bins = piece.bins(starts[low:high], grid.bin_width)
            for start, stop in _batches(bins, self.recording, reduction, limit=self.config.memory_limit):
                part = bins.part(start, stop)
                block = self.recording.block(piece, *_reach(part, reduction))
                found, amounts = reduction.reduce(block, part)
                if use == "lfp":
                    within = (part.centres >= piece.first - 0.5) & (part.centres <= piece.stop - 0.5)
                    amounts = amounts * within[:, None]
                places = order[bounds[low + start] : bounds[low + stop]]
                rows = unique[places] - (low + start)
                values[places] += np.where(amounts > 0, found, 0)[rows]
                weights[places] += amounts[rows]
                # Two blocks would not fit into memory.
                del block, found
        return self._finished(values.reshape(shape), weights.reshape(shape), grid.bin_width)

    def _reduction(self, bin_width: float) -> Reduction:
        config, rate, dtype = self.config.electrical, 1 / self.sampling_period, self.recording.dtype
        if bin_width < self.sampling_period * (1 - 1e-6):
            raise DataError(
                f"bins of {bin_width:g} s are shorter than the sampling period of {self.path!r}, "
                f"{self.sampling_period:g} s; set bin_width to {self.sampling_period:g} or more"
            )
        band = choose_band(config, rate=rate, bin_width=bin_width)
        if config.feature == "lfp":
            return Decimated(
                smooth=decimating_filter(band[1], rate=rate, bin_width=bin_width, dtype=dtype),
                slow=slow_filter(band[0], rate=rate, dtype=dtype),
                slow_length=slow_sum_length(band[0], rate=rate),
                support=config.min_observed,
            )
        weights = band_filter(band, rate=rate, steepness=STEEPNESS[config.feature], dtype=dtype)
        if config.feature == "power":
            return BandPower(
                weights, step=_power_step(band[1], rate=rate, bin_width=bin_width), support=config.min_observed
            )
        threshold = config.threshold * self._noise(weights) * np.sign(self.scale)
        dead = int(np.ceil(round(config.dead_time * rate, 6)))
        return Crossings(weights, threshold, dead_samples=dead, support=config.min_observed)

    def _noise(self, weights: Filter) -> NDArray[np.float64]:
        """Robust noise of each channel in stored units; NaN where nothing was observed or the signal is flat."""
        share, margin = self.config.electrical.min_observed, MARGINS_READ * weights.margin
        pieces = self.recording.pieces
        length = max(int(NOISE_SECONDS / self.sampling_period), 1)
        lengths = np.array([piece.stop - piece.first for piece in pieces])
        ends = np.cumsum(lengths)
        found = []
        for share_done in (np.arange(NOISE_PARTS) + 0.5) / NOISE_PARTS:
            at = int(share_done * ends[-1])
            which = int(np.searchsorted(ends, at, side="right"))
            piece = pieces[which]
            middle = piece.first + at - int(ends[which] - lengths[which])
            first = int(np.clip(middle - length // 2, piece.first, max(piece.stop - length, piece.first)))
            positions = np.arange(first, min(first + length, piece.stop), dtype=float)
            block = self.recording.block(piece, first - margin, first + len(positions) + margin)
            block.fill()
            filtered = weights.apply(block.values, first=block.first, positions=positions)
            found.append(robust_noise(filtered, block.supported(weights, positions, share)))
        noise = np.nanmedian(np.where(np.isnan(found).all(axis=0), 0, found), axis=0)
        return np.where(noise > 0, noise, np.nan)

    def _finished(self, values: NDArray[np.float32], weights: NDArray[np.float32], bin_width: float) -> Binned:
        use, support = self.config.electrical.feature, self.config.electrical.min_observed
        period = self.sampling_period
        reached = np.asarray((weights > 0).any(axis=(0, 1)))
        if use == "spikes":
            expected = max(np.floor(bin_width / period + 1e-6), 1)
            exposure = np.minimum(weights / np.float32(expected), 1)
            notes = self._named(~reached, "have no noise to set a threshold by, or no sample, and are unobserved")
            return Binned(values, exposure > 0, exposure, notes)
        # A constant is exactly 0 once the recording's level is off.
        flat = np.asarray(reached & ~values.any(axis=(0, 1)))
        if use == "lfp":
            # Where pieces overlap in time a bin has a value from each.
            volts = values / np.maximum(weights, 1) * self.scale
            return Binned(
                volts.astype(np.float32), weights > 0, notes=self._named(flat, "are flat in all that was read: 0 V")
            )
        band = choose_band(self.config.electrical, rate=1 / period, bin_width=bin_width)
        step = _power_step(band[1], rate=1 / period, bin_width=bin_width)
        expected = max(np.floor(bin_width / (step * period) + 1e-6), 1)
        observed = (weights >= support * expected) & (values > 0)
        mean = np.divide(values, weights, out=np.ones_like(values), where=observed)
        power = (np.log(mean) + 2 * np.log(np.abs(self.scale))).astype(np.float32) * observed
        return Binned(
            power, observed, notes=self._named(flat, "are flat in all that was read, and unobserved, having no power")
        )

    def _named(self, some: NDArray[np.bool_], what: str) -> tuple[str, ...]:
        """A note that names some of the electrodes; none where there are none."""
        ids = self.channel_id[some].tolist()
        if not ids:
            return ()
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        return (f"{len(ids)} of {len(some)} electrodes of {self.path!r} {what}: {ids[:NAMED]}{more}",)


@reader("ElectricalSeries", kind="electrodes", readable=holds_numbers, describe=describe_samples)
def electrical_source(nwbfile: Any, series: ElectricalSeries, config: ReadConfig) -> ElectricalSource:
    """Prepare an ElectricalSeries for reading.

    Channel c is row ``series.electrodes.data[c]`` of the electrodes table, in that order.

    Raises
    ------
    DataError
        If the data do not have one column for each electrode, their scale is not finite, or their times are not usable.
    """
    rows = np.asarray(series.electrodes.data[:], dtype=np.intp)
    slabs = Slabs(series.data)
    shape = tuple(int(size) for size in np.shape(series.data))
    if slabs.n_columns != len(rows):
        turned = len(shape) == 2 and shape[0] == len(rows)
        raise DataError(
            f"data of {series.name!r} have shape {shape}, but its `electrodes` name {len(rows)} electrodes; expected "
            f"(time, {len(rows)}){'; the data look transposed: rewrite the series as (time, electrode)' if turned else ''}"
        )
    factors = np.ones(len(rows)) if series.channel_conversion is None else np.asarray(series.channel_conversion[:])
    if factors.shape != (len(rows),):
        raise DataError(
            f"channel_conversion of {series.name!r} has shape {factors.shape}; expected one for each of {len(rows)} electrodes"
        )
    scale = float(series.conversion) * factors.astype(np.float64)
    if not (np.isfinite(scale) & (scale != 0)).all():
        raise DataError(
            f"conversion and channel_conversion of {series.name!r} must be finite and not 0 for every electrode"
        )
    clock = sample_clock(series, n_samples=slabs.n_rows, sentinel=config.sentinel)
    pieces = find_pieces(clock)
    table = series.electrodes.table
    notes = list(clock.notes)
    if len(pieces) > 1:
        notes.append(f"{series.name!r}: {len(pieces) - 1} gaps in the timestamps; each piece is filtered by itself")
    narrow = (slabs.dtype.kind in "iu" and slabs.dtype.itemsize <= 2) or slabs.dtype in (np.float16, np.float32)
    return ElectricalSource(
        path=in_file_path(nwbfile, series),
        unit=UNITS[config.electrical.feature],
        channel_id=np.asarray(table.id.data[:])[rows],
        channel_row=rows,
        channel_columns={name: values[rows] for name, values in plain_columns(table).items()},
        span=clock.span,
        sampling_period=clock.period or 0.0,
        notes=tuple(notes),
        scale=scale,
        recording=Recording(
            series=series,
            config=config,
            slabs=slabs,
            pieces=pieces,
            channel_rows=rows,
            dtype=np.dtype(np.float32 if narrow else np.float64),
            invalid=invalid_intervals(nwbfile, config),
            masks=stored_masks(nwbfile, series),
        ),
        config=config,
    )


def _power_step(high: float, *, rate: float, bin_width: float) -> int:
    return max(1, int(min(rate / (POWER_OVERSAMPLING * high), bin_width * rate / 2)))


def _reach(bins: Bins, reduction: Reduction) -> tuple[int, int]:
    """First sample that some bins need, and the one after the last."""
    first = min(int(bins.starts.min()), int(np.floor(bins.centres.min())))
    stop = max(int(bins.stops.max()), int(np.ceil(bins.centres.max())) + 1)
    return first - reduction.margin, stop + reduction.margin


def _batches(bins: Bins, recording: Recording, reduction: Reduction, *, limit: float) -> Iterator[tuple[int, int]]:
    """Cut rising bins into runs whose samples fit into memory, leaving out stretches that no bin needs."""
    slabs = recording.slabs
    per_sample = 3 * slabs.dtype.itemsize + recording.dtype.itemsize + reduction.bytes_per_sample
    per_sample += 10 if slabs.dtype.kind == "f" or recording.config.sentinel is not None or recording.masks else 0
    rows = int(limit / (per_sample * slabs.n_columns)) - slabs.chunk_rows
    usual = max(
        WORKING_BYTES // (recording.dtype.itemsize * slabs.n_columns), 16 * reduction.margin, 4 * slabs.chunk_rows
    )
    rows = min(rows, usual)
    n_bins = len(bins.centres)
    start = 0
    while start < n_bins:
        first, stop = _reach(bins.part(start, start + 1), reduction)
        if stop - first > rows:
            needed = per_sample * slabs.n_columns * (stop - first + slabs.chunk_rows)
            raise DataError(
                f"memory_limit of {limit:g} bytes is too small: one bin with the reach of its filter, or one chunk of the "
                f"file, takes {needed:g}; raise memory_limit, take shorter bins or a higher lower edge of the band"
            )
        highs = np.maximum(bins.stops[start:], np.ceil(bins.centres[start:]) + 1) + reduction.margin
        fits = int(np.searchsorted(highs, first + rows, side="right"))
        lows = bins.starts[start : start + fits]
        jumps = np.flatnonzero(np.diff(lows) > 2 * reduction.margin + slabs.chunk_rows)
        length = max(1, min(fits, int(jumps[0]) + 1 if len(jumps) else fits))
        yield start, start + length
        start += length
