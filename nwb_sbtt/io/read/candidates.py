"""What a file holds that can be fitted: every series with its shape, times, and how much of it was observed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.observed import Intervals, difference, total, union
from nwb_sbtt.data.schema import Kind
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.dandi.transfer import Source
from nwb_sbtt.io.read.clock import BLOCK, GAP, REGULAR, sample_clock
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.masks import stored_masks
from nwb_sbtt.io.read.selection import RESULTS, Found, find_series
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.io.read.spikes import LAST_SPIKE, stored_spikes
from nwb_sbtt.io.read.units import ALWAYS, obs_intervals
from nwb_sbtt.io.read.validity import invalid_intervals

WHOLE = 10_000_000
"""Timestamps, spikes or entries of data up to which everything is looked at; of more, a spread of parts."""
PARTS = 64
ENTRIES = 1 << 17
"""Entries of data looked at in each part."""


@dataclass(frozen=True)
class Candidate:
    """One series that `read_nwb` can read.

    Parameters
    ----------
    path : str
        In-file path, to be given as `series`.
    type : str
        Neurodata type.
    kind : "units", "electrodes", "rois" or "series"
    default : bool
        Whether it is taken without being named, if it is the only such.
    shape : tuple of int
        Of the stored data; for units (units, spikes).
    channels : int
    unit : str
    rate : float or None
        Samples per second, from the median step where there are timestamps; None for spikes.
    regular : bool or None
        Whether all samples are evenly spaced.
    start, stop : float or None
        First and last moment, in seconds on the session clock.
    observed : float or None
        Share of the time from start to stop that was observed, mean over channels.
    estimated : bool
        Whether `observed` and the gaps were found by looking at parts only.
    gaps : int or None
    longest_gap : float or None
        Seconds without a sample; between intervals for units.
    notes : tuple of str
    """

    path: str
    type: str
    kind: Kind
    default: bool
    shape: tuple[int, ...] = ()
    channels: int = 0
    unit: str = ""
    rate: float | None = None
    regular: bool | None = None
    start: float | None = None
    stop: float | None = None
    observed: float | None = None
    estimated: bool = False
    gaps: int | None = None
    longest_gap: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float | None:
        """Seconds from start to stop."""
        return None if self.start is None or self.stop is None else self.stop - self.start

    def as_dict(self) -> dict[str, object]:
        """Plain values that JSON can hold, the duration among them."""
        values = {**asdict(self), "duration": self.duration}
        return {name: list(each) if isinstance(each, tuple) else each for name, each in values.items()}


def inspect(path: Path | str | Source) -> list[Candidate]:
    """List every series of a file that can be fitted, wherever it lies.

    Of very large series parts are looked at, and the numbers are marked as estimates. A series whose times cannot be
    used is listed too, with the reason among its notes.

    Parameters
    ----------
    path : Path, str or Source
        NWB file, HDF5 or Zarr, or the address of one on DANDI.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    with open_nwb(path) as nwbfile:
        return [_describe(nwbfile, found) for found in find_series(nwbfile)]


def _describe(nwbfile: Any, found: Found) -> Candidate:
    notes = []
    if found.item.namespace == RESULTS:
        notes.append("result of a model, not a recording")
    bare = Candidate(found.path, found.type, found.kind, found.default)
    try:
        invalid = invalid_intervals(nwbfile, ReadConfig())
        if stored_masks(nwbfile, found.item):
            notes.append("a stored observation mask says which samples count")
        describe = _units if found.kind == "units" else _samples
        described = describe(bare, found.item, invalid)
    except DataError as error:
        described = replace(bare, default=False, notes=(f"cannot be read: {error}",))
    return replace(described, notes=(*described.notes, *notes))


def _units(bare: Candidate, units: Any, invalid: Intervals) -> Candidate:
    stored, bounds = stored_spikes(units, bare.path)
    own = obs_intervals(units, bare.path)
    seen = replace(bare, shape=(len(units), int(bounds[-1])), channels=len(units), unit="counts")
    start, stop = _ends(stored, bounds, own)
    if not stop > start:
        return replace(seen, notes=("no spikes and no observation intervals",))
    session = np.array([[start, stop]])
    intervals = [session if each is ALWAYS else each for each in own] if own is not None else [session] * len(units)
    watched = {id(each): difference(np.clip(each, start, stop), invalid) for each in intervals}
    share = np.mean([total(watched[id(each)]) for each in intervals]) / (stop - start)
    anyone = union(np.concatenate(list(watched.values())))
    between = anyone[1:, 0] - anyone[:-1, 1]
    return replace(
        seen,
        start=start,
        stop=stop,
        observed=float(share),
        gaps=len(between),
        longest_gap=float(between.max(initial=0.0)),
        notes=() if own is not None else ("no obs_intervals: every unit counts as observed throughout",),
    )


def _ends(stored: Any, bounds: NDArray[np.int64], own: tuple[Intervals, ...] | None) -> tuple[float, float]:
    """First and last moment of the intervals; where a unit has none, of its spikes too, which are read for that only."""
    given = [each.reshape(-1) for each in own or () if each is not ALWAYS]
    limits = np.concatenate(given) if given else np.empty(0)
    limits = limits[np.isfinite(limits)]
    if own is None or any(each is ALWAYS for each in own) or len(limits) == 0:
        spikes = _moments(stored, bounds)
        limits = np.append(limits, [spikes.min(), spikes.max() + LAST_SPIKE] if len(spikes) else [])
    return (float(limits.min()), float(limits.max())) if len(limits) else (0.0, 0.0)


def _moments(stored: Any, bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """All spikes; of very many, the first and the last of each train."""
    if bounds[-1] <= WHOLE:
        moments = np.asarray(stored[: bounds[-1]], dtype=np.float64)
    else:
        busy = np.flatnonzero(np.diff(bounds))
        places = np.unique(np.concatenate([bounds[busy], bounds[busy + 1] - 1]))
        moments = np.array([stored[int(place)] for place in places], dtype=np.float64)
    return moments[np.isfinite(moments)]


@dataclass(frozen=True)
class _Times:
    """When a series was sampled, as far as it was looked at."""

    start: float
    stop: float
    period: float | None
    regular: bool
    gaps: int
    longest_gap: float
    missing_time: float
    estimated: bool
    notes: tuple[str, ...] = ()


def _samples(bare: Candidate, series: Any, invalid: Intervals) -> Candidate:
    shape = tuple(int(size) for size in np.shape(series.data))
    region = getattr(series, "electrodes", None) or getattr(series, "rois", None)
    channels = len(region.data) if region is not None else shape[1] if len(shape) == 2 else 1
    turned = len(shape) == 2 and shape[1] != channels and shape[0] == channels
    seen = replace(bare, shape=shape, channels=channels, unit=str(series.unit))
    slabs = Slabs(series.data, transposed=turned)
    times = _times(series, n_samples=slabs.n_rows)
    finite, sampled = _finite_share(slabs)
    lost = _overlap(invalid, times)
    notes = list(times.notes)
    if turned:
        notes.append("stored (channel, time); read transposed")
    if series.control is not None:
        notes.append("has `control`; say in `control` which of its values count")
    duration = times.stop - times.start
    kept = 1.0 if duration <= 0 else max(0.0, 1 - times.missing_time / duration) * (1 - lost / duration)
    return replace(
        seen,
        rate=None if times.period is None else 1 / times.period,
        regular=times.regular,
        start=times.start,
        stop=times.stop,
        observed=finite * kept,
        estimated=times.estimated or sampled or (lost > 0 and (times.missing_time > 0 or finite < 1)),
        gaps=times.gaps,
        longest_gap=times.longest_gap,
        notes=tuple(notes),
    )


def _times(series: Any, *, n_samples: int) -> _Times:
    if series.timestamps is None or n_samples <= WHOLE:
        clock = sample_clock(series, n_samples=n_samples)
        return _Times(
            *clock.span,
            clock.period,
            clock.regular,
            clock.gaps,
            clock.longest_gap,
            clock.missing_time,
            estimated=False,
            notes=clock.notes,
        )
    return _sketch(series, n_samples=n_samples)


def _sketch(series: Any, *, n_samples: int) -> _Times:
    """Times from a spread of parts; what happens between two parts shows in how much time lies between them."""
    stamps = Slabs(series.timestamps)
    places, moments = [], []
    for first in np.linspace(0, n_samples - BLOCK, PARTS).astype(int):
        times = stamps.read(int(first), int(first) + BLOCK)[:, 0].astype(np.float64)
        valid = np.flatnonzero(np.isfinite(times))
        places.append(first + valid)
        moments.append(times[valid])
    place, moment = np.concatenate(places), np.concatenate(moments)
    if len(moment) < 2:
        raise DataError(f"hardly any timestamp of {series.name!r} is valid; expected seconds on the session clock")
    steps, apart = np.diff(moment), np.diff(place)
    period = float(np.median(steps[apart == 1]))
    excess = steps - apart * period
    # Between two parts small deviations add up; a gap shows as at least half a period and a thousandth of the stretch.
    wide = excess > np.maximum((GAP - 1) * period, np.where(apart > 1, REGULAR * steps, 0))
    return _Times(
        start=float(moment[0]),
        stop=float(moment[-1]) + period,
        period=period,
        regular=bool((np.abs(excess[apart == 1]) <= REGULAR * period).all() and not wide.any()),
        gaps=int(wide.sum()),
        longest_gap=float((excess[wide] + period).max(initial=0.0)),
        missing_time=float(excess[wide].sum()),
        estimated=True,
        notes=("timestamps go back somewhere",) if (steps < 0).any() else (),
    )


def _finite_share(slabs: Slabs) -> tuple[float, bool]:
    """Share of entries that are finite, and whether only parts were looked at; whole numbers always are."""
    if slabs.dtype.kind != "f" or slabs.n_rows == 0:
        return 1.0, False
    if slabs.n_rows * slabs.n_columns <= WHOLE:
        return float(np.isfinite(slabs.read(0, slabs.n_rows)).mean()), False
    length = max(ENTRIES // slabs.n_columns, 1)
    firsts = np.unique(np.linspace(0, max(slabs.n_rows - length, 0), PARTS).astype(int))
    return float(np.mean([np.isfinite(slabs.read(int(f), int(f) + length)).mean() for f in firsts])), True


def _overlap(invalid: Intervals, times: _Times) -> float:
    """Seconds of invalid times between the first and the last sample."""
    return total(np.clip(invalid, times.start, times.stop))
