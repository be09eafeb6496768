"""Imaging read as events: the fluorescence of each ROI is deconvolved over the whole session, before trials are cut.

Baseline, noise and decay need the whole session, and the first sample of a trial would hide an event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.calcium.deconvolution import (
    Deconvolved,
    Remarkable,
    deconvolve,
    known_indicator,
    remarks,
    why_unusable,
)
from nwb_sbtt.calcium.events import BELOW
from nwb_sbtt.calcium.indicators import UNKNOWN, Indicator
from nwb_sbtt.config import EventsConfig
from nwb_sbtt.data.grid import Binned, Grid, Kind, Source
from nwb_sbtt.data.joining import Joined, join
from nwb_sbtt.data.threads import in_threads
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.progress import show_progress
from nwb_sbtt.io.read.fluorescence import Signal
from nwb_sbtt.io.read.rois import BYTES_PER_SAMPLE, ReadSamples, RoiSource

PARAMETERS = ("decay", "rise", "noise", "baseline", "decay_log_sd")
"""Coordinates of each ROI: decay and rise time [s], noise sd and baseline [unit of the series], sd of the decay's logarithm."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EventSource:
    """Events inferred from the fluorescence of a RoiResponseSeries, ready to be put on any grid.

    Parameters
    ----------
    fluorescence : RoiSource
        What the events were inferred from; path, channels and times are the same.
    sizes : array (frame, ROI)
        Of the events, in the unit of the series; NaN where there is no sample, or the event cannot be known (`Deconvolved`).
    denoised : array (frame, ROI)
        The fluorescence that the events make, baseline included; NaN where there is no sample.
    channel_columns : mapping of name to array (ROI)
        Columns of the table of ROIs, and `PARAMETERS`.
    notes : tuple of str
        One-line remarks for the user.
    signal_reason : str
        What the events were inferred from.
    thresholded : bool
        Whether smaller events than a threshold were ruled out.
    signal : "events"
        What the series holds.
    kind : "rois"
        What a channel is.
    """

    fluorescence: RoiSource
    sizes: Floats = field(repr=False)
    denoised: Floats = field(repr=False)
    channel_columns: Mapping[str, NDArray[np.generic]]
    notes: tuple[str, ...]
    signal_reason: str
    thresholded: bool
    signal: Signal = "events"
    kind: Kind = "rois"

    @property
    def path(self) -> str:
        """In-file path of the fluorescence."""
        return self.fluorescence.path

    @property
    def table(self) -> str:
        """In-file path of the table of ROIs."""
        return self.fluorescence.table

    @property
    def unit(self) -> str:
        """Unit of the fluorescence, and so of the sizes."""
        return self.fluorescence.unit

    @property
    def channel_id(self) -> NDArray[np.generic]:
        """Ids of the ROIs."""
        return self.fluorescence.channel_id

    @property
    def channel_row(self) -> NDArray[np.intp]:
        """Row of each ROI in the table."""
        return self.fluorescence.channel_row

    @property
    def span(self) -> tuple[float, float]:
        """First and last moment of the series, in seconds on the session clock."""
        return self.fluorescence.span

    @property
    def sampling_period(self) -> float | None:
        """Seconds from one frame to the next."""
        return self.fluorescence.sampling_period

    @property
    def indicator(self) -> str:
        """The indicator, as the file names it."""
        return self.fluorescence.indicator

    @property
    def subtracted(self) -> str:
        """What was subtracted from the fluorescence, in words; empty where nothing was."""
        return self.fluorescence.subtracted

    def only(self, keep: NDArray[np.bool_]) -> EventSource:
        """Return the same events of some of the ROIs."""
        return replace(
            self,
            fluorescence=self.fluorescence.only(keep),
            sizes=self.sizes[:, keep],
            denoised=self.denoised[:, keep],
            channel_columns={name: values[keep] for name, values in self.channel_columns.items()},
        )

    def bin(self, grid: Grid) -> Binned:
        """Put the sizes of the events into the bins of a grid, as samples of the series would be."""
        return self.fluorescence.bin_samples(grid, _read_rows(self.sizes))


def event_source(fluorescence: RoiSource, config: EventsConfig) -> EventSource:
    """Infer the events of every ROI of a series, over its whole length.

    ROIs are read and deconvolved in groups, so that the samples in memory stay within the reader's limit; sizes and denoised
    fluorescence of the whole series come on top of it.

    Parameters
    ----------
    fluorescence : RoiSource
        Of fluorescence or ΔF/F.
    config : EventsConfig

    Raises
    ------
    DataError
        If the series holds events already, no ROI can be used, or no event is found.
    ConfigError
        If oasis-deconv is needed and not installed, or the settings name an indicator that is not known.
    """
    path, signal = fluorescence.path, fluorescence.signal
    if signal == "events":
        raise DataError(
            f"{path!r} already contains events: {fluorescence.signal_reason}; omit `events` (--set read.events=null)"
        )
    indicator = known_indicator(config, fluorescence.indicator)
    n_frames, n_rois = fluorescence.clock.n_samples, len(fluorescence.columns)
    sizes, denoised = (np.full((n_frames, n_rois), np.nan, dtype=np.float32) for _ in range(2))
    summaries: list[_Summary] = []
    group_size = max(int(fluorescence.config.memory_limit / (2 * BYTES_PER_SAMPLE * max(n_frames, 1))), 1)
    with show_progress(n_rois, label=f"events of {path}", of="ROIs") as advance:
        for first in range(0, n_rois, group_size):
            in_group = np.zeros(n_rois, dtype=bool)
            in_group[first : first + group_size] = True
            group = fluorescence.only(in_group)
            values, read_neuropil = group.stored_samples()(0, n_frames), group.neuropil_samples()
            neuropil_values = None if read_neuropil is None else read_neuropil(0, n_frames)
            times = group.sample_times(0, n_frames)

            def infer(
                i: int,
                *,
                first: int = first,
                values: NDArray[np.floating[Any]] = values,
                around: NDArray[np.floating[Any]] | None = neuropil_values,
                times: NDArray[np.float64] = times,
            ) -> _Summary:
                trace = _Trace.observed(times[:, i], values[:, i], None if around is None else around[:, i])
                advance(1)
                if reason := why_unusable(trace.corrected):
                    return _Summary(Remarkable(reason))
                events = deconvolve(
                    trace.values, trace.times, config=config, indicator=indicator, neuropil=trace.neuropil
                )
                sizes[trace.frames, first + i] = np.where(events.observed, events.sizes, np.nan)
                denoised[trace.frames, first + i] = events.baseline + events.calcium
                return _Summary.of(events, trace.times)

            # Arithmetic on long arrays happens outside of Python's lock.
            summaries += in_threads(infer, range(values.shape[1]))
    found = {str(name): summary.remarkable for name, summary in zip(fluorescence.channel_id, summaries, strict=True)}
    notes = remarks(found)
    if all(roi.unusable for roi in found.values()):
        raise DataError(f"no events can be found in {path!r}: {notes[0]}")
    if not (sizes > 0).any():
        raise DataError(
            f"no event in {path!r} exceeds the noise in any of {n_rois} ROIs; fit the {signal} directly (--likelihood "
            "gaussian), or set the decay time (--set read.events.decay_time=SECONDS)"
        )
    return EventSource(
        fluorescence=fluorescence,
        sizes=sizes,
        denoised=denoised,
        channel_columns={**fluorescence.channel_columns, **_parameters(summaries)},
        thresholded=config.threshold > 0,
        notes=(*fluorescence.notes, _note(fluorescence, summaries, indicator), *notes),
        signal_reason=f"inferred by deconvolution from the {signal} in the series ({fluorescence.signal_reason})",
    )


def bin_denoised(sources: Sequence[Source], grid: Grid) -> Floats | None:
    """Put the fluorescence that the events make into the bins of a grid.

    Parameters
    ----------
    sources : sequence of Source
    grid : Grid

    Returns
    -------
    array (trial, time, channel) or None
        NaN where there is no sample; None where no source is of events.
    """
    denoised = [replace(source, sizes=source.denoised) for source in sources if isinstance(source, EventSource)]
    if not denoised:
        return None
    binned = join(denoised, grid).binned
    return np.where(binned.observed, binned.values, np.float32(np.nan))


def event_labels(joined: Joined, sources: Sequence[Source]) -> dict[str, tuple[str, NDArray[np.generic]]]:
    """Collect the coordinates of channels of events.

    Parameters
    ----------
    joined : Joined
        The channels of all sources.
    sources : sequence of Source

    Returns
    -------
    dict of name to ("channel", array (channel))
        `PARAMETERS` and, with a threshold, ``smallest_event``, a size that all events of the channel exceed; empty unless
        all sources are of events.
    """
    if not all(isinstance(source, EventSource) for source in sources):
        return {}
    firsts = np.concatenate([[0], np.cumsum([len(source.channel_id) for source in sources])])
    channels = firsts[joined.source] + joined.source_channel
    labels: dict[str, tuple[str, NDArray[np.generic]]] = {
        name: ("channel", np.concatenate([source.channel_columns[name] for source in sources])[channels])
        for name in PARAMETERS
    }
    if all(isinstance(source, EventSource) and source.thresholded for source in sources):
        sizes = joined.binned.values
        smallest = np.where(sizes > 0, sizes, np.inf).min(axis=(0, 1))
        labels["smallest_event"] = (
            "channel",
            np.where(np.isfinite(smallest), BELOW * smallest, 0.0).astype(float),
        )
    return labels


@dataclass(frozen=True)
class _Trace:
    """Observed samples of one ROI in the order of time, and their frames; arrays (sample)."""

    frames: NDArray[np.intp]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    neuropil: NDArray[np.float64] | None

    @classmethod
    def observed(cls, times: NDArray[Any], values: NDArray[Any], neuropil: NDArray[Any] | None) -> _Trace:
        """The trace without missing samples and repeated times. Arrays (frame)."""
        is_observed = np.isfinite(times) & np.isfinite(values)
        is_observed &= True if neuropil is None else np.isfinite(neuropil)
        frames = np.flatnonzero(is_observed)
        frames = frames[np.argsort(times[frames], kind="stable")]
        frames = frames[np.diff(times[frames], prepend=-np.inf) > 0]
        return cls(frames, times[frames], values[frames], None if neuropil is None else neuropil[frames])

    @property
    def corrected(self) -> NDArray[np.float64]:
        return self.values if self.neuropil is None else self.values - self.neuropil


@dataclass(frozen=True)
class _Summary:
    """What is kept of the events of one ROI beside their sizes; `parameters` are those of `PARAMETERS`."""

    remarkable: Remarkable
    parameters: tuple[float, ...] = (0.0,) * len(PARAMETERS)
    silent: bool = False

    @classmethod
    def of(cls, events: Deconvolved, times: NDArray[np.float64]) -> _Summary:
        kinetics = events.kinetics
        baseline = float(np.nanmean(events.baseline))
        return cls(
            Remarkable(None, times[events.artefact], int(events.clipped.sum())),
            (kinetics.decay, events.rise, kinetics.noise_sd, baseline, kinetics.decay_log_sd),
            not events.sizes.any(),
        )


def _read_rows(values: Floats) -> ReadSamples:
    return lambda first, stop: values[first:stop]


def _parameters(summaries: Sequence[_Summary]) -> dict[str, NDArray[np.generic]]:
    """`PARAMETERS` of each ROI; 0 for an ROI that cannot be used."""
    rows = [summary.parameters for summary in summaries]
    return dict(zip(PARAMETERS, np.array(rows, dtype=float).T, strict=True))


def _note(
    fluorescence: RoiSource,
    summaries: Sequence[_Summary],
    indicator: Indicator,
) -> str:
    decays = [summary.parameters[0] for summary in summaries if summary.remarkable.unusable is None]
    prior = "an unknown indicator" if indicator.name == UNKNOWN.name else f"{indicator.name} ({indicator.decay:g} s)"
    decay = f", median decay time {np.median(decays):.2g} s with the prior of {prior}" if decays else ""
    n_silent = sum(summary.silent for summary in summaries)
    silent = f"; no event in {n_silent} of {len(summaries)} ROIs" if n_silent else ""
    return (
        f"{fluorescence.path!r} contains {fluorescence.signal} ({fluorescence.signal_reason}); events inferred by "
        f"deconvolution{decay}{silent}"
    )
