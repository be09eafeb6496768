"""Voltages: an ElectricalSeries as local field potential, band power or threshold crossings, one value per bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Binned, Grid, Kind
from nwb_sbtt.data.intervals import padded
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.bands import check_notch, note_on_band, passed
from nwb_sbtt.io.read.batches import batches, distinct_bins, samples_needed
from nwb_sbtt.io.read.masks import StoredMask
from nwb_sbtt.io.read.recording import PART_SECONDS, Piece, Recording
from nwb_sbtt.io.read.survey import note_on_electrodes, parts_of, survey
from nwb_sbtt.signals.blocks import MARGINS_READ, Bins, Reduction, SampleBlock
from nwb_sbtt.signals.crossings import FEWEST_ARTEFACTS, Crossings, residual_length, robust_noise
from nwb_sbtt.signals.filters import Filter, analytic_filters, band_filter, band_kernel, choose_band, transitions
from nwb_sbtt.signals.lfp import (
    SHORT_GAP,
    BandPower,
    Decimated,
    decimating_filter,
    effective_lower_edge,
    gaussian_slow_part,
    low_pass,
    sharp_slow_part,
)
from nwb_sbtt.signals.notch import Notch, harmonics_in

PART_BINS = 8
"""Least number of bins in a part by which it is judged whether samples are missing all the time."""
POWER_OVERSAMPLING = 2
"""Least number of values, per period of what the envelope of a band is made of, from which its power is computed."""
LFP_BINS, COUNTING_BINS = 0.01, 0.02
"""Seconds of a bin of the LFP, and of counts and band power, where neither the band nor the bins are set."""
DECIMATION = 0.4
"""Upper edge of the LFP's band as a share of the bin rate, where the bins follow from the band."""
ROUND_WIDTHS = tuple(float(f"{digit}e{power}") for power in range(-7, 7) for digit in (1, 2, 5))
"""Seconds; widths of bins that are chosen by a band."""
MICROVOLT = 1e-6
RESIDUAL_SECONDS, QUIET_SECONDS = 0.05, 0.001
"""Time after invalid times in which what is left of an artefact is looked for, and time without it after which it is over."""
MOST_ARTEFACTS = 60
"""Most invalid times after which it is looked for."""
SIMULTANEOUS_SECONDS, SHARED = 0.0005, 0.05
"""Time within which crossings are simultaneous, and share of them that half of the electrodes have together worth a note."""
LARGEST_LOSS = 0.1
"""Share of what a channel stores that its filter may lose before a note says so, or means of bins take the filter's place."""
RAISED = 1.5
"""By how much the lower edge of the LFP may be raised by gaps between samples before a note says so."""
HIGHEST_RATE = 200.0
"""Threshold crossings per second of an electrode, as a mean over all, above which a note doubts the threshold."""
HIGHEST_USUAL = 10.0
"""Noise sds of a threshold above which it is doubted that nothing crosses it."""
OWN_SHARE = 0.2
"""Share of each electrode's own voltage that a common reference may hold before a note says so."""
FINEST_BINS = 0.25
"""Least product of the band's upper edge and the bin width at which the mean of a bin keeps to the band."""
LOST_TO_FILTER = "read.electrical.min_observed"
"""Setting that a note on what a filter loses names."""
KEPT_BAD = ", but are kept (read.electrical.bad_channels=auto treats them as missing)"
T = TypeVar("T", bound=np.generic)
UNITS = {"lfp": "volts", "power": "log(V^2)", "spikes": "counts"}
"""Unit of the values of each feature."""
ROUNDING = 1e-6
"""Share of a sampling period by which a bin may differ from a whole number of them through rounding."""


@dataclass(frozen=True)
class ElectricalSource:
    """An ElectricalSeries ready to be put on any grid.

    * lfp: the signal up to the band's upper edge, at the centre of each bin, less a Gaussian mean of the observed samples
      around it (half power at the band's lower edge); volts. Of a channel whose samples are missing all the time, so that
      the filter would lose more than a tenth of its bins, each bin is the mean of its own observed samples instead.
    * power: natural logarithm of the mean squared band signal in each bin. A bin in which less than
      `config.electrical.min_observed` of the band signal is observed is unobserved, and so is a flat signal.
    * spikes: threshold crossings in each bin, with the exposure of bins that were observed in part. An electrode without any
      noise is unobserved.

    Missing samples (gaps, NaN, missing values, invalid times, `control`, stored masks) never reach a filter; see
    `nwb_sbtt.signals.blocks`. The `offset` of the series, in volts, drops out of every band.

    Parameters
    ----------
    path : str
        In-file path of the series.
    unit : str
    channel_id : array (channel)
    channel_row : int array (channel)
        Row of each channel in the table of electrodes.
    channel_columns : mapping of name to array (channel)
    span : (float, float)
        First and last moment, in seconds on the session clock.
    sampling_period : float
        Seconds.
    notes : tuple of str
        One-line remarks for the user.
    scale : array (channel)
        Volts per stored unit.
    recording : Recording
    config : ReadConfig
    band : str
        Name of the band, where several are read; empty otherwise.
    table : str
        Name of the table of channels.
    kind : "electrodes"
        What a channel is.
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
    band: str = ""
    table: str = "electrodes"
    kind: Kind = "electrodes"

    @property
    def masks(self) -> tuple[StoredMask, ...]:
        """Stored masks of the series."""
        return self.recording.masks

    def only(self, keep: NDArray[np.bool_]) -> ElectricalSource:
        """Return the same series with some of its electrodes; chunks of the file without any of them are not read."""
        return replace(self._of_channels(keep), recording=self.recording.only(keep))

    def by_band(self) -> list[ElectricalSource]:
        """Return the same series once for each band that the settings name; itself where they name none."""
        if (bands := self.config.electrical.bands) is None:
            return [self]
        return [
            replace(
                self,
                band=name,
                config=self.config.model_copy(
                    update={"electrical": self.config.electrical.model_copy(update={"band": band, "bands": None})}
                ),
            )
            for name, band in bands.items()
        ]

    def _of_channels(self, keep: NDArray[np.bool_]) -> ElectricalSource:
        return replace(
            self,
            channel_id=self.channel_id[keep],
            channel_row=self.channel_row[keep],
            channel_columns={name: values[keep] for name, values in self.channel_columns.items()},
            scale=self.scale[keep],
        )

    @property
    def default_bin_width(self) -> float:
        """Seconds of a bin, where none are set: 10 ms for the LFP, 20 ms otherwise, unless a band that is set asks for others.

        Bins of the LFP are short enough for the band's upper edge, those of band power hold a cycle of its lower edge. They
        are 1, 2 or 5 times a power of ten, so that windows around events are whole numbers of them.
        """
        config, period = self.config.electrical, self.sampling_period
        if config.feature != "lfp":
            if config.band is None or config.feature == "spikes":
                return COUNTING_BINS
            return max(COUNTING_BINS, min(width for width in ROUND_WIDTHS if width >= (1 - ROUNDING) / config.band[0]))
        widest = LFP_BINS if config.band is None else DECIMATION / config.band[1]
        return max(period, max(width for width in ROUND_WIDTHS if width <= (1 + ROUNDING) * widest))

    @property
    def three_cycles(self) -> float:
        """Seconds of three cycles of the band's lower edge, which a trial of a chopped session should hold."""
        if self.config.electrical.feature == "spikes":
            return 0.0
        low, _ = choose_band(self.config.electrical, rate=1 / self.sampling_period, bin_width=self.sampling_period)
        return 3 / low

    def what_helps(self, notes: Sequence[str]) -> str:
        """Say what to try where nothing is observed.

        Parameters
        ----------
        notes : sequence of str
            Of all that was read.
        """
        config = self.config.electrical
        if any(LOST_TO_FILTER in note for note in notes):
            whole = config.feature != "lfp" or config.band is not None
            voltage = ", or read the voltage itself (--set read.electrical.feature=lfp, without read.electrical.band)"
            return f"lower {LOST_TO_FILTER}, use a band or bins with a shorter filter{voltage if whole else ''}"
        if config.pad:
            return (
                f"read.electrical.pad={config.pad:g} s around all invalid times leaves no observed sample; use a "
                "smaller pad"
            )
        if config.reference != "none":
            return (
                "a reference needs at least two electrodes of a group at each time; read without a reference "
                "(read.electrical.reference=none)"
            )
        return ""

    def note_on_band(self, bin_width: float) -> str:
        """Say what is computed from which frequencies.

        Parameters
        ----------
        bin_width : float
            Seconds.
        """
        config, rate = self.config.electrical, 1 / self.sampling_period
        return note_on_band(config, self.path, rate=rate, bin_width=bin_width, name=self.band)

    def bin(self, grid: Grid) -> Binned:
        """Put the signal into the bins of a grid.

        Only the samples that the bins and the filters need are read, chunk by chunk, within `config.memory_limit`.

        Raises
        ------
        DataError
            If a bin is shorter than the sampling period, the sampling rate is too low for the band, or the memory limit is
            too small for the filter's length or one chunk of the file.
        """
        config, recording = self.config.electrical, self.recording
        rate, width = 1 / self.sampling_period, grid.bin_width
        chosen = choose_band(config, rate=rate, bin_width=width)
        band = chosen if config.notch is None else None
        if config.notch and len(harmonics := harmonics_in(config.notch, passed(config, rate=rate, bin_width=width))):
            check_notch(config.notch, harmonics, chosen)
            recording = replace(recording, notch=Notch(harmonics, rate=rate, dtype=recording.dtype))
        if config.feature == "spikes" and config.threshold_unit != "uV" and config.bad_channels in ("note", "off"):
            reach = band_kernel(chosen, rate=rate).half_length
            recording.keep_parts(MARGINS_READ * (int(reach) + 2))
        seen = survey(recording, config, parts_of(recording, grid), path=self.path, band=band)
        notes: list[str] = []
        kept = config.bad_channels == "note"
        bad = np.zeros(len(recording.ids), dtype=bool)
        for what, electrodes in seen.bad.items():
            remark = f"are {what}{KEPT_BAD if kept else ', and are treated as missing'}"
            notes += note_on_electrodes(self.path, recording.ids, electrodes, remark)
            bad |= electrodes & (not kept)
        notes += seen.notes
        good = ~recording.of_outputs(bad)
        source = replace(self if good.all() else self._of_channels(good), recording=seen.recording)
        binned = source._bin(grid)
        notes += source._note_on_reference()
        if not good.all():
            exposure = None if binned.exposure is None else _spread(binned.exposure, good)
            binned = Binned(_spread(binned.values, good), _spread(binned.observed, good), exposure, binned.notes)
        return replace(binned, notes=(*notes, *binned.notes))

    def _bin(self, grid: Grid) -> Binned:
        """Put the signal of electrodes that are not left out into bins."""
        reduction = self._reduction(grid.bin_width)
        if isinstance(reduction, Decimated):
            with suppress(_SampleMissingError):
                return self._binned(self._reduced(grid, reduction), grid)
            reduction = replace(reduction, scattered=self._scattered(reduction, grid.bin_width))
        if isinstance(reduction, Crossings) and self.config.electrical.pad is None:
            after = self._residual(reduction)
            if after > 0:
                recording = replace(self.recording, invalid=padded(self.recording.invalid, 0.0, after))
                binned = self._binned(replace(self, recording=recording)._reduced(grid, reduction), grid)
                note = (
                    f"{self.path!r}: after invalid times the rest of the artefact exceeds the noise for "
                    f"{1e3 * after:.3g} ms; this time is treated as invalid too (read.electrical.pad)"
                )
                return replace(binned, notes=(*binned.notes, note))
        return self._binned(self._reduced(grid, reduction), grid)

    def _reduced(self, grid: Grid, reduction: Reduction) -> _Totals:
        """Reduce what the grid needs.

        Raises
        ------
        _SampleMissingError
            If a sample is missing, and the reduction was not told which channels miss samples all the time.
        """
        values = np.zeros((grid.shape[0] * grid.n_bins, len(self.scale)), dtype=np.float32)
        weights = np.zeros(values.shape, dtype=np.float32)
        stored, flat, n_samples = np.zeros(len(self.scale)), np.zeros(len(self.scale), dtype=np.intp), 0
        events = shared = 0
        undecided = isinstance(reduction, Decimated) and reduction.scattered is None
        # Windows may overlap; a bin that several windows share is computed once and copied to each.
        starts, distinct = distinct_bins(grid)
        order = np.argsort(distinct, kind="stable")
        bounds = np.searchsorted(distinct[order], np.arange(len(starts) + 1))
        for piece in self.recording.pieces:
            begin, end = piece.span
            low, high = np.searchsorted(starts, [begin - grid.bin_width, end])
            bins = piece.bins(starts[low:high], grid.bin_width)
            counted = piece.first
            for start, stop in batches(bins, self.recording, reduction, limit=self.config.memory_limit):
                batch = bins.part(start, stop)
                block = self.recording.block(piece, *samples_needed(batch, reduction))
                # Bins of windows with edges of their own may overlap.
                counted, stop_of_batch = max(counted, int(batch.starts.min())), int(batch.stops.max())
                flat += block.flat_samples(counted, stop_of_batch)
                n_samples += max(stop_of_batch - counted, 0)
                counted = max(counted, stop_of_batch)
                if undecided and _any_missing(block, piece):
                    raise _SampleMissingError
                reduced = reduction.reduce(block, batch)
                events, shared = events + reduced.events, shared + reduced.shared
                batch_weights = reduced.weights
                if self.config.electrical.feature == "lfp":
                    batch_weights = batch_weights * _centre_inside(batch, piece)[:, None]
                per_bin = None if self.config.electrical.feature == "spikes" else 1
                batch_stored = np.clip(reduced.stored, 0, per_bin)
                copies = order[bounds[low + start] : bounds[low + stop]]
                rows = distinct[copies] - (low + start)
                values[copies] += np.where(batch_weights > 0, reduced.values, 0)[rows]
                weights[copies] += batch_weights[rows]
                stored += batch_stored[rows].sum(axis=0)
                # Two blocks would not fit into memory.
                del block, reduced
        shape = (*grid.shape, len(self.scale))
        scattered = reduction.scattered if isinstance(reduction, Decimated) else None
        notes = self._note_on_flat(flat, n_samples) + self._note_on_shared(events, shared)
        if isinstance(reduction, Crossings):
            notes += self._note_on_threshold(
                reduction, float(values.sum()), float(weights.sum()) * self.sampling_period
            )
        reach = _reach(reduction) * self.sampling_period
        return _Totals(values.reshape(shape), weights.reshape(shape), stored, scattered, flat, reach, notes)

    def _reduction(self, bin_width: float) -> Reduction:
        config, rate, dtype = self.config.electrical, 1 / self.sampling_period, self.recording.dtype
        if bin_width < self.sampling_period * (1 - ROUNDING):
            raise DataError(
                f"bins of {bin_width:g} s are shorter than the sampling period of {self.path!r}, "
                f"{self.sampling_period:g} s; set bin_width (--bin-width) to {self.sampling_period:g} or more"
            )
        low, high = choose_band(config, rate=rate, bin_width=bin_width)
        if config.feature == "lfp":
            if config.band is None:
                smooth = decimating_filter(high, rate=rate, bin_width=bin_width, dtype=dtype)
                return Decimated(smooth, gaussian_slow_part(low, rate=rate, dtype=dtype), support=config.min_observed)
            return Decimated(
                low_pass((low, high), rate=rate, bin_width=bin_width, dtype=dtype),
                sharp_slow_part((low, high), rate=rate, dtype=dtype),
                support=config.min_observed,
                short_gap=int(SHORT_GAP * rate / high),
            )
        if config.feature == "power":
            step = _power_step((low, high), rate=rate, bin_width=bin_width)
            cosine, sine = analytic_filters((low, high), rate=rate, dtype=dtype)
            return BandPower(
                cosine, sine, step=step, support=config.min_observed, short_gap=int(SHORT_GAP * rate / high)
            )
        band = band_filter((low, high), rate=rate, dtype=dtype)
        if config.threshold_unit == "uV":
            threshold = config.threshold * MICROVOLT / self.scale
        else:
            threshold = config.threshold * self._noise(band) * np.sign(self.scale)
            self.recording.forget_parts()
        return Crossings(
            band,
            threshold,
            dead_samples=int(np.ceil(round(config.dead_time * rate, 6))),
            slot_samples=max(int(SIMULTANEOUS_SECONDS * rate), 1),
            support=config.min_observed,
            both_polarities=config.both_polarities,
        )

    def _residual(self, reduction: Crossings) -> float:
        """Seconds after invalid times in which what is left of an artefact exceeds the noise; the longest of all channels."""
        band, recording = reduction.band, self.recording
        length, margin = int(RESIDUAL_SECONDS / self.sampling_period), MARGINS_READ * reduction.band.margin
        ends = [
            (piece, int(stop))
            for piece in recording.pieces
            for stop in piece.edges(recording.invalid[:, 1])
            if piece.first < stop < piece.stop - length
        ]
        if len(ends) < FEWEST_ARTEFACTS:
            return 0.0
        sizes = []
        for piece, stop in [ends[i] for i in np.linspace(0, len(ends) - 1, min(len(ends), MOST_ARTEFACTS)).astype(int)]:
            positions = np.arange(stop, stop + length, dtype=float)
            block = recording.block(piece, stop - margin, stop + length + margin)
            block.fill(band)
            filtered = band.stretch(block.values, first=block.first, start=stop, stop=stop + length)
            observed = block.supported(band, positions, reduction.support)
            sizes.append(np.where(observed, np.abs(filtered), np.nan))
        quiet = max(int(QUIET_SECONDS / self.sampling_period), 1)
        return residual_length(np.array(sizes), quiet=quiet) * self.sampling_period

    def _noise(self, band: Filter) -> NDArray[np.float64]:
        """Robust noise sd (channel) in stored units; NaN where nothing was observed or the signal is flat."""
        margin = MARGINS_READ * band.margin
        part_noise = []
        for piece, first, stop in self.recording.parts(max(int(PART_SECONDS / self.sampling_period), 1)):
            positions = np.arange(first, stop, dtype=float)
            block = self.recording.block(piece, first - margin, stop + margin)
            block.fill(band)
            filtered = band.stretch(block.values, first=block.first, start=first, stop=stop)
            observed = block.supported(band, positions, self.config.electrical.min_observed)
            largest = np.maximum(block.values.max(axis=0), -block.values.min(axis=0))
            part_noise.append(robust_noise(filtered, observed, largest=largest))
        noise = np.nanmedian(np.where(np.isnan(part_noise).all(axis=0), 0, part_noise), axis=0)
        return np.where(noise > 0, noise, np.nan)

    def _scattered(self, reduction: Decimated, bin_width: float) -> NDArray[np.bool_]:
        """Channels (channel) whose filter would lose much, in parts of the whole recording: so it is the same for any windows.

        Parameters
        ----------
        reduction : Decimated
        bin_width : float
            Seconds.
        """
        lost = np.zeros(len(self.scale), dtype=bool)
        config, period = self.config.electrical, self.sampling_period
        _, high = choose_band(config, rate=1 / period, bin_width=bin_width)
        if high * bin_width < FINEST_BINS:
            return lost
        margin = reduction.smooth.margin
        fitting = int(self.config.memory_limit / (self.recording.bytes_per_sample * len(self.scale))) - 2 * margin
        length = max(min(int(max(PART_SECONDS, PART_BINS * bin_width) / period), fitting), int(bin_width / period) + 1)
        kept, stored = np.zeros(len(self.scale)), np.zeros(len(self.scale))
        for piece, first, stop in self.recording.parts(length):
            # From sample to sample: of bins of one sample, the centres lie between two, and a filter needs both.
            start, end = piece.sample_times(first, first + 1)[0], (stop - first) * period
            bins = piece.bins(start + np.arange(max(int(end / bin_width + ROUNDING), 1)) * bin_width, bin_width)
            block = self.recording.block(piece, first - margin, stop + margin)
            amounts = block.amounts(bins)
            stored += (amounts > 0).sum(axis=0)
            kept += (reduction.observed(block, bins, amounts) & (amounts > 0)).sum(axis=0)
        return kept < (1 - LARGEST_LOSS) * stored

    def _binned(self, totals: _Totals, grid: Grid) -> Binned:
        """Reduced values in their unit, and which bins were observed; arrays (trial, time, channel)."""
        values, weights = totals.values, totals.weights
        if self.config.electrical.feature == "spikes":
            return self._binned_spikes(totals, grid.bin_width)
        any_observed = np.asarray((weights > 0).any(axis=(0, 1)))
        # A constant is exactly 0 after the recording's level is subtracted.
        flat = np.asarray(any_observed & ~values.any(axis=(0, 1)))
        if self.config.electrical.feature == "power":
            return self._binned_power(totals, grid.bin_width, flat)
        # Where pieces overlap in time a bin has a value from each.
        observed = weights > 0
        volts = values
        for trial, divisor in enumerate(weights):
            volts[trial] = values[trial] / np.maximum(divisor, 1) * self.scale
        notes = totals.notes + self._note_on(flat, "are constant in everything that was read (0 V)")
        notes += self._note_on_slow(observed, grid.bin_width)
        notes += self._note_on_loss(totals, observed, "bins")
        if totals.scattered is not None:
            gain = np.sinc(
                choose_band(self.config.electrical, rate=1 / self.sampling_period, bin_width=grid.bin_width)[1]
                * grid.bin_width
            )
            notes += self._note_on(
                totals.scattered,
                "have missing samples in all parts, so each bin is the mean of its own observed samples, without the "
                f"low-pass filter (gain {gain:.2f} at the upper edge of the band)",
            )
        return Binned(volts, observed, notes=notes)

    def _note_on_slow(self, observed: NDArray[np.bool_], bin_width: float) -> tuple[str, ...]:
        """A note where stretches are so short that the Gaussian mean that is taken off holds more than what is slow."""
        config = self.config.electrical
        gaps = np.flatnonzero(observed.mean(axis=(0, 1)) < 1 - LARGEST_LOSS)
        if config.band is not None or not len(gaps):
            return ()
        low, high = choose_band(config, rate=1 / self.sampling_period, bin_width=bin_width)
        edges = np.full(observed.shape[2], low)
        edges[gaps] = np.minimum(effective_lower_edge(observed[:, :, gaps], low, bin_width=bin_width), high)
        raised = edges > RAISED * low
        if not raised.any():
            return ()
        return self._note_on(
            raised,
            "are sampled in short runs, so the running mean that is subtracted removes frequencies below about "
            f"{np.median(edges[raised]):.2g} Hz instead of {low:g} Hz",
        )

    def _binned_spikes(self, totals: _Totals, bin_width: float) -> Binned:
        weights = totals.weights
        samples_per_bin = max(np.floor(bin_width / self.sampling_period + ROUNDING), 1)
        exposure = np.minimum(weights / np.float32(samples_per_bin), 1)
        unobserved = np.asarray(~(weights > 0).any(axis=(0, 1)))
        notes = totals.notes + self._note_on(
            unobserved & ((totals.stored > 0) | (totals.flat == 0)),
            "have no noise to derive a threshold from, or no run of samples that is long enough for the filter "
            "(read.electrical.min_observed), and are treated as missing",
        )
        notes += self._note_on_loss(replace(totals, stored=np.where(unobserved, 0, totals.stored)), weights, "samples")
        return Binned(totals.values, exposure > 0, exposure, notes)

    def _note_on_loss(self, totals: _Totals, kept: NDArray[Any], what: str) -> tuple[str, ...]:
        """A note on electrodes of which more than a tenth of what they store is lost to the filter.

        Parameters
        ----------
        totals : _Totals
        kept : array (trial, time, channel)
            Bins that are observed, or the number of observed filtered samples in each.
        what : str
            Whose number `totals.stored` is.
        """
        lost = totals.stored - kept.sum(axis=(0, 1), dtype=np.float64)
        much = lost > LARGEST_LOSS * totals.stored
        if not much.any():
            return ()
        share = lost[much].sum() / totals.stored[much].sum()
        return self._note_on(
            much,
            f"lose {share:.0%} of their stored {what}: at least {self.config.electrical.min_observed:g} of the weight "
            f"of the filter, which extends {totals.reach:.3g} s to each side, must lie on observed samples "
            f"({LOST_TO_FILTER}; a lower value keeps more)",
        )

    def _binned_power(self, totals: _Totals, bin_width: float, flat: NDArray[np.bool_]) -> Binned:
        squares, weights = totals.values, totals.weights
        config, rate = self.config.electrical, 1 / self.sampling_period
        step = _power_step(choose_band(config, rate=rate, bin_width=bin_width), rate=rate, bin_width=bin_width)
        squares_per_bin = max(np.floor(bin_width / (step * self.sampling_period) + ROUNDING), 1)
        observed = (weights >= config.min_observed * squares_per_bin) & (squares > 0)
        mean = np.divide(squares, weights, out=np.ones_like(squares), where=observed)
        power = (np.log(mean) + 2 * np.log(np.abs(self.scale))).astype(np.float32) * observed
        notes = totals.notes + self._note_on(
            flat, "are constant in everything that was read; their power is undefined, and they are treated as missing"
        )
        notes += self._note_on_loss(replace(totals, stored=np.where(flat, 0, totals.stored)), observed, "bins")
        return Binned(power, observed, notes=notes)

    def _note_on_reference(self) -> tuple[str, ...]:
        """A note where a common reference is taken over so few electrodes that it holds much of each one's own voltage."""
        montage = self.recording.montage
        if montage is None or montage.how == "bipolar":
            return ()
        sizes = self.recording.electrodes_in_references
        fewest = sizes[sizes > 0].min(initial=np.inf)
        if 1 / fewest < OWN_SHARE:
            return ()
        wider = (
            ""
            if self.config.electrical.reference_by == "all"
            else "use larger groups (read.electrical.reference_by), or "
        )
        return (
            f"{self.path!r}: the common reference is computed from only {fewest:.2g} electrodes at a time, so about "
            f"{1 / fewest:.0%} of each electrode's own signal is subtracted with it; {wider}read without a reference",
        )

    def _note_on_shared(self, events: int, shared: int) -> tuple[str, ...]:
        """A note where many threshold crossings come in most electrodes together."""
        if shared <= SHARED * events or self.recording.montage is not None:
            return ()
        return (
            f"{self.path!r}: {shared / events:.0%} of the threshold crossings occur in at least half of the "
            f"electrodes within {1e3 * SIMULTANEOUS_SECONDS:g} ms, which is typical for artefacts; "
            "read.electrical.reference=median subtracts what electrodes share",
        )

    def _note_on_threshold(self, reduction: Crossings, crossings: float, seconds: float) -> tuple[str, ...]:
        """A note where nothing crosses the threshold, or noise does all the time.

        Parameters
        ----------
        reduction : Crossings
        crossings, seconds : float
            Their number, and how long electrodes were observed for it, over all electrodes.
        """
        config = self.config.electrical
        # Where no electrode has spikes none crosses a usual multiple of the noise.
        quiet = not crossings and config.threshold_unit == "sd" and abs(config.threshold) <= HIGHEST_USUAL
        rate = crossings / seconds if seconds else 1.0
        if quiet or 0 < rate <= HIGHEST_RATE:
            return ()
        microvolts = float(np.nanmedian(reduction.threshold * self.scale)) / MICROVOLT
        threshold = f"threshold of {config.threshold:g} {config.threshold_unit}"
        if config.threshold_unit == "sd":
            threshold += f" ({microvolts:.3g} uV, median of the electrodes)"
        other = "uV" if config.threshold_unit == "sd" else "sd"
        if not crossings:
            said = f"no electrode crosses the {threshold}"
        else:
            said = f"electrodes cross the {threshold} {rate:.0f} times per second, which is typical for noise"
        return (
            f"{self.path!r}: {said}; choose another threshold (read.electrical.threshold) or one in {other} "
            f"(read.electrical.threshold_unit={other}), or check the unit of the data",
        )

    def _note_on_flat(self, flat: NDArray[np.intp], n_samples: int) -> tuple[str, ...]:
        """Notes on electrodes of which samples were stored but not measured.

        Parameters
        ----------
        flat : int array (channel)
            Number of such samples.
        n_samples : int
            That were looked at.
        """
        throughout = (flat == n_samples) & (n_samples > 0)
        two_valued = self.recording.two_valued & throughout
        kept = "; these samples are treated as missing (read.electrical.mask_flat=false keeps them)"
        return (
            *self._note_on(
                two_valued,
                "have at most two different values, which is typical for dead or saturated electrodes, and are "
                "treated as missing",
            ),
            *self._note_on(
                throughout & ~two_valued,
                "are constant in everything that was read (identical samples, or the limits of the analog-to-digital "
                "converter), and are treated as missing",
            ),
            *note_on_electrodes(
                self.path,
                self.channel_id,
                (flat > 0) & ~throughout,
                "have runs of identical samples or of two values, or samples at the limits of the analog-to-digital "
                f"converter{kept}",
                seconds=flat * self.sampling_period,
            ),
        )

    def _note_on(self, electrodes: NDArray[np.bool_], remark: str) -> tuple[str, ...]:
        return note_on_electrodes(self.path, self.channel_id, electrodes, remark)


class _SampleMissingError(Exception):
    """A sample is missing before it is known which channels miss samples all the time."""


@dataclass(frozen=True)
class _Totals:
    """What a grid was reduced to.

    Parameters
    ----------
    values, weights : array (trial, time, channel)
        Sums of what reductions give.
    stored : array (channel)
        Number of bins with an observed sample, or of observed samples where crossings are counted.
    scattered : bool array (channel), optional
        Channels whose bins are means of their own samples.
    flat : int array (channel)
        Number of samples that were stored but not measured.
    reach : float
        Seconds to either side in which the filter needs samples.
    notes : tuple of str
        On flat samples and shared crossings.
    """

    values: NDArray[np.float32]
    weights: NDArray[np.float32]
    stored: NDArray[np.float64]
    scattered: NDArray[np.bool_] | None
    flat: NDArray[np.intp]
    reach: float
    notes: tuple[str, ...]


def _power_step(band: tuple[float, float], *, rate: float, bin_width: float) -> int:
    """Samples from one value of the power to the next; at least two values in a bin, where samples allow it."""
    highest = band[1] - band[0] + min(transitions(band, rate=rate))
    return max(1, int(min(rate / (POWER_OVERSAMPLING * highest), bin_width * rate / 2) + ROUNDING))


def _spread(values: NDArray[T], channels: NDArray[np.bool_]) -> NDArray[T]:
    """Values (trial, time, channel) of some of the channels as values of all; 0 of the others."""
    spread = np.zeros((*values.shape[:2], len(channels)), dtype=values.dtype)
    spread[:, :, channels] = values
    return spread


def _reach(reduction: Reduction) -> int:
    """Samples to either side that a filter needs, beside those by which gaps are bridged."""
    if isinstance(reduction, Decimated):
        return max(reduction.smooth.margin, reduction.slow.margin if reduction.slow.sharp else 0)
    if isinstance(reduction, BandPower):
        return reduction.cosine.margin
    return reduction.band.margin if isinstance(reduction, Crossings) else reduction.margin


def _any_missing(block: SampleBlock, piece: Piece) -> bool:
    """Whether a sample of the block is missing that lies in the piece."""
    inside = block.observed[max(piece.first - block.first, 0) : max(piece.stop - block.first, 0)]
    return bool(len(block.gap_channels)) or not inside.all()


def _centre_inside(bins: Bins, piece: Piece) -> NDArray[np.bool_]:
    return (bins.centres >= piece.first - 0.5) & (bins.centres <= piece.stop - 0.5)
