"""Imaging read as events: the fluorescence of each ROI, over the whole session, deconvolved before it is cut into trials."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb.ophys import RoiResponseSeries

from nwb_sbtt.calcium.deconvolution import Deconvolved, deconvolve, known_indicator
from nwb_sbtt.calcium.events import BELOW
from nwb_sbtt.calcium.indicators import UNKNOWN, Indicator
from nwb_sbtt.config import EventsConfig, ReadConfig
from nwb_sbtt.data.grid import Binned, Grid, Source
from nwb_sbtt.data.joining import Joined, join
from nwb_sbtt.data.schema import Kind
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.fluorescence import Held, Signal
from nwb_sbtt.io.read.rois import BYTES_PER_SAMPLE, RoiSource, Samples, roi_source
from nwb_sbtt.io.read.selection import find_series, select

PARAMETERS = ("decay", "rise", "noise", "baseline", "decay_log_sd")
"""Of each ROI: [s], [s], [unit of the series], the same, and the sd of the decay's logarithm."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EventSource:
    """Events found in a RoiResponseSeries, ready to be put on any grid.

    ``sizes`` (frame, ROI) are those of the events and ``denoised`` the fluorescence that they make, baseline included; NaN
    where there was no sample and, of events, at the first sample of each run.
    """

    of: RoiSource
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
        return self.of.path

    @property
    def table(self) -> str:
        """In-file path of the table of ROIs."""
        return self.of.table

    @property
    def unit(self) -> str:
        """Unit of the fluorescence, which the sizes have too."""
        return self.of.unit

    @property
    def channel_id(self) -> NDArray[np.generic]:
        """Ids of the ROIs."""
        return self.of.channel_id

    @property
    def channel_row(self) -> NDArray[np.intp]:
        """Row of each ROI in the table."""
        return self.of.channel_row

    @property
    def span(self) -> tuple[float, float]:
        """First and last moment of the series."""
        return self.of.span

    @property
    def sampling_period(self) -> float | None:
        """Seconds."""
        return self.of.sampling_period

    @property
    def indicator(self) -> str:
        """What the file says of the indicator."""
        return self.of.indicator

    def only(self, keep: NDArray[np.bool_]) -> EventSource:
        """The same with some of the ROIs."""
        return replace(
            self,
            of=self.of.only(keep),
            sizes=self.sizes[:, keep],
            denoised=self.denoised[:, keep],
            channel_columns={name: values[keep] for name, values in self.channel_columns.items()},
        )

    def bin(self, grid: Grid) -> Binned:
        """Put the events into the bins of the grid, as samples of the series would be."""
        return self.of.place(grid, _rows(self.sizes))


def event_source(of: RoiSource, config: EventsConfig, *, around: RoiSource | None) -> EventSource:
    """Find the events of every ROI of a series, in all of it.

    ROIs are read and deconvolved in groups, so that no more of the samples is held at once than the reader's settings allow,
    beside sizes and fluorescence of the whole series.

    Parameters
    ----------
    of : RoiSource
        Of fluorescence or ΔF/F.
    config : EventsConfig
    around : RoiSource or None
        Fluorescence around each ROI, of the same ROIs and frames; see `neuropil_of`.

    Raises
    ------
    DataError
        If the series holds events already, no event is found, or an ROI has no run of samples long enough.
    ConfigError
        If oasis-deconv is not installed, or the settings name an indicator that is not known.
    """
    if of.signal == "events":
        raise DataError(
            f"{of.path!r} holds events already: {of.signal_reason}; leave `events` out (--set read.events=null)"
        )
    indicator = known_indicator(config, of.indicator)
    n_frames, n_rois = of.clock.n_samples, len(of.columns)
    sizes, denoised = (np.full((n_frames, n_rois), np.nan, dtype=np.float32) for _ in range(2))
    found: list[Deconvolved | None] = []
    width = max(int(of.config.memory_limit / (2 * BYTES_PER_SAMPLE * max(n_frames, 1))), 1)
    for first in range(0, n_rois, width):
        group = np.zeros(n_rois, dtype=bool)
        group[first : first + width] = True
        part = of.only(group)
        samples = part.samples()(0, n_frames)
        beside = None if around is None else around.only(group).samples()(0, n_frames)
        moments = part.moments(0, n_frames)
        for i in range(samples.shape[1]):
            one = _Trace.of(moments[:, i], samples[:, i], None if beside is None else beside[:, i])
            try:
                events = None if one is None else one.events(config, indicator)
            except DataError as error:
                raise DataError(f"ROI {part.channel_id[i]} of {of.path!r}: {error}") from None
            found.append(events)
            if one is not None and events is not None:
                sizes[one.frames, first + i] = np.where(events.known, events.sizes, np.nan)
                denoised[one.frames, first + i] = events.baseline + events.calcium
    if not (sizes > 0).any():
        raise DataError(
            f"no event in {of.path!r} stands out of the noise, in any of {n_rois} ROIs; take the {of.signal} as it is "
            "(--likelihood gaussian), or set the decay (--set read.events.decay_time=SECONDS)"
        )
    return EventSource(
        of=of,
        sizes=sizes,
        denoised=denoised,
        channel_columns={**of.channel_columns, **_parameters(found)},
        thresholded=config.threshold > 0,
        notes=(*of.notes, _note(of, found, indicator, around)),
        signal_reason=f"found by OASIS in the {of.signal} that the series holds ({of.signal_reason})",
    )


def neuropil_of(of: RoiSource) -> RoiResponseSeries | None:
    """Find the series, in the same container, of the fluorescence around the ROIs of raw fluorescence.

    It is the one series there whose name says "neuropil", of the same ROIs and the same number of frames. None where there is
    none, and for ΔF/F or a series whose name says that it is corrected already.
    """
    if of.signal != "fluorescence" or re.search("corr", of.series.name, re.IGNORECASE):
        return None
    beside = getattr(of.series.parent, "roi_response_series", {})
    named = [
        each for each in beside.values() if each is not of.series and re.search("neuropil", each.name, re.IGNORECASE)
    ]
    if len(named) != 1 or re.search("neuropil", of.series.name, re.IGNORECASE):
        return None
    other = named[0]
    alike = np.array_equal(other.rois.data[:], of.series.rois.data[:]) and other.rois.table is of.series.rois.table
    return other if alike and np.shape(other.data) == np.shape(of.series.data) else None


def denoised_values(sources: Sequence[Source], grid: Grid) -> Floats | None:
    """Fluorescence that the events make (trial, time, channel), 0 where there is no sample; None where none were found."""
    found = [each for each in sources if isinstance(each, EventSource)]
    if not found:
        return None
    return join([replace(each, sizes=each.denoised) for each in found], grid).binned.values


def event_labels(joined: Joined, sources: Sequence[Source]) -> dict[str, tuple[str, NDArray[np.generic]]]:
    """Coordinates of channels whose events were found: `PARAMETERS` and, with a threshold, what all events exceed."""
    if not all(isinstance(each, EventSource) for each in sources):
        return {}
    first = (
        np.concatenate([[0], np.cumsum([len(each.channel_id) for each in sources])])[joined.source]
        + joined.source_channel
    )
    labels: dict[str, tuple[str, NDArray[np.generic]]] = {
        name: ("channel", np.concatenate([each.channel_columns[name] for each in sources])[first])
        for name in PARAMETERS
    }
    if all(isinstance(each, EventSource) and each.thresholded for each in sources):
        sizes = joined.binned.values
        least = np.where(sizes > 0, sizes, np.inf).min(axis=(0, 1))
        labels["smallest_event"] = ("channel", np.where(np.isfinite(least), BELOW * least, 0.0).astype(float))
    return labels


def held_signals(path: Path, config: ReadConfig) -> dict[str, Held]:
    """What the series of ROIs hold that would be read, by in-file path; none where other things would be.

    Raises
    ------
    FileError, SelectionError, DataError
        As `nwb_sbtt.read_nwb`.
    """
    with open_nwb(path) as nwbfile:
        chosen = select(find_series(nwbfile), config.series)
        sources = [roi_source(nwbfile, each.nwb_object, config) for each in chosen if each.kind == "rois"]
        return {each.path: Held(each.signal, each.signal_reason) for each in sources}


@dataclass(frozen=True)
class _Trace:
    """Samples of one ROI in the order of time, and the frames that they are of."""

    frames: NDArray[np.intp]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    around: NDArray[np.float64] | None

    @classmethod
    def of(cls, times: NDArray[Any], values: NDArray[Any], around: NDArray[Any] | None) -> _Trace | None:
        seen = np.isfinite(times) & np.isfinite(values)
        seen &= True if around is None else np.isfinite(around)
        frames = np.flatnonzero(seen)
        frames = frames[np.argsort(times[frames], kind="stable")]
        frames = frames[np.diff(times[frames], prepend=-np.inf) > 0]
        if not len(frames):
            return None
        return cls(frames, times[frames], values[frames], None if around is None else around[frames])

    def events(self, config: EventsConfig, indicator: Indicator) -> Deconvolved:
        return deconvolve(self.values, self.times, config=config, indicator=indicator, neuropil=self.around)


def _rows(values: Floats) -> Samples:
    return lambda first, stop: values[first:stop]


def _parameters(found: Sequence[Deconvolved | None]) -> dict[str, NDArray[np.generic]]:
    """What was found of each ROI; 0 where nothing was observed of it."""
    rows = [
        (0.0,) * len(PARAMETERS)
        if each is None
        else (
            each.kinetics.decay,
            each.kinetics.rise,
            each.kinetics.noise_sd,
            float(each.baseline.mean()),
            each.kinetics.decay_log_sd,
        )
        for each in found
    ]
    return dict(zip(PARAMETERS, np.array(rows, dtype=float).T, strict=True))


def _note(of: RoiSource, found: Sequence[Deconvolved | None], indicator: Indicator, around: RoiSource | None) -> str:
    decays = [each.kinetics.decay for each in found if each is not None]
    prior = "no known indicator" if indicator is UNKNOWN else f"{indicator.name} ({indicator.decay:g} s)"
    told = f", decay {np.median(decays):.2g} s in the median with the prior of {prior}" if decays else ""
    taken = f", {around.path!r} taken off" if around is not None else ""
    silent = sum(each is not None and not each.sizes.any() for each in found)
    none = f"; none in {silent} of {len(found)} ROIs" if silent else ""
    return f"{of.path!r} holds {of.signal} ({of.signal_reason}); events found in it by OASIS{told}{taken}{none}"
