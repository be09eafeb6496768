"""`read_nwb`: an NWB file becomes a labelled, masked Dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable
from numpy.typing import ArrayLike, NDArray
from pynwb import NWBFile

from nwb_sbtt.config import Chop, EventsConfig, ReadConfig, Trials, Window, build, check_cut, config_of
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.binning import bin_index, simplest
from nwb_sbtt.data.grid import Binned, Source, edge_between
from nwb_sbtt.data.inputs import with_inputs
from nwb_sbtt.data.joining import Joined, join
from nwb_sbtt.data.memory import READING, READING_PARTIAL, check_memory, check_rows
from nwb_sbtt.data.schema import DIMS, make_dataset, with_notes
from nwb_sbtt.data.trials import Windows, chop_windows, single_window, trial_windows
from nwb_sbtt.errors import ConfigError, DataError, SelectionError
from nwb_sbtt.io.dandi.locations import can_be_streamed, local_file, locate
from nwb_sbtt.io.dandi.origin import address_of
from nwb_sbtt.io.dandi.transfer import RemoteFile
from nwb_sbtt.io.read.electrical import ElectricalSource
from nwb_sbtt.io.read.events import EventSource, bin_denoised, event_labels, event_source
from nwb_sbtt.io.read.files import file_facts, made_nwb, open_nwb
from nwb_sbtt.io.read.fluorescence import signal_attributes, without_unusable
from nwb_sbtt.io.read.inputs import read_inputs
from nwb_sbtt.io.read.labels import all_labels, channel_labels, channels_to_keep, sampling_offsets, trial_labels
from nwb_sbtt.io.read.outside import notes_on, outside_of
from nwb_sbtt.io.read.plausibility import other_unit
from nwb_sbtt.io.read.rois import RoiSource
from nwb_sbtt.io.read.selection import StoredSeries, find_series, select, unreadable_series
from nwb_sbtt.io.read.stored import linked_files, object_ids, tables_of
from nwb_sbtt.io.read.trials import session_times, trial_table

SMALLER = "use wider bins, a shorter part, fewer trials, or fewer channels (read.where)"
"""What to try where data do not fit into memory."""
DEFAULT_BIN_WIDTH = 0.02
"""Seconds; bins of counts and of band power, which have no sampling period to follow."""
IGNORING_MASKS = (
    "compare the times listed by `nwb-sbtt inspect`, or ignore the masks (--set read.obs_intervals=false, --set "
    "read.invalid_times=false)"
)
"""What to try where nothing is observed of a file."""
OF_MEMORY = "expected at least one measurement; check the time support of the data"
"""The same where the data are not in a file."""
IN_SECONDS = "both must be in seconds on the session clock; check whether one is in milliseconds or samples"
LAST_SAMPLE = 1e-6
"""Seconds by which a session outlasts its last sample, so that this sample lies in a bin."""
DRIFT, MOST_PER_BIN = 1e-3, 20
"""Difference of the ratio of bin width and sampling period from a whole number from which on no phase is kept; samples in a bin
from which on it does not matter."""
OF_A_FILE = ("source", "read_config", "session_start_time")
"""Attributes that data which are not in a file do not have."""
Offsets = ArrayLike | Mapping[str, ArrayLike]


def read_nwb(
    path: Path | str,
    config: ReadConfig | Mapping[str, object] | None = None,
    *,
    series: str | Sequence[str] | None = None,
    bin_width: float | None = None,
    trials: Trials | Window | Chop | None = None,
    offsets: Offsets | None = None,
) -> xr.Dataset:
    """Read one recording into bins and trials, with a mask of what was observed.

    Parameters
    ----------
    path : Path or str
        NWB file, HDF5 or Zarr; or the address of one on DANDI, such as "DANDI:000140/0.220113.0408/sub-Jenkins/FILE.nwb".
        Small parts of it are streamed; if much of it is needed, all of it is downloaded into the cache.
    config : ReadConfig, or mapping of its settings, optional
        All settings; the keywords below override it.
    series : str or sequence of str, optional
        In-file paths or globs; several series are combined in the same bins, as more channels.
    bin_width : float, optional
        Seconds.
    trials : Trials, Window or Chop, optional
        How the session is cut. Default: chopped with overlap.
    offsets : float, array (ROI), or mapping of in-file path or glob to these, optional
        Seconds from the time of each frame to the time each ROI was sampled; one number applies to all ROIs of a plane.

    Returns
    -------
    Dataset
        As described in `nwb_sbtt.data.schema`. ``attrs["notes"]`` is a JSON list of notes about decisions made in reading.

    Raises
    ------
    ConfigError
        If a setting is not valid, or a window is not a whole number of bins.
    FileError
        If the file cannot be read.
    SelectionError
        If a series, table or column does not exist, or the file has several series and none is chosen.
    DataError
        If the data cannot be used, or nothing in them was observed.

    Examples
    --------
    >>> from nwb_sbtt import Trials, read_nwb
    >>> around_onset = Trials(event="move_onset_time", start=-0.25, stop=0.45)
    >>> maze = read_nwb("maze.nwb", bin_width=0.005, trials=around_onset)  # doctest: +SKIP
    """
    check_cut(trials)
    config = _with_keywords(config, series=series, bin_width=bin_width, cut=trials)
    location = locate(path)
    with open_nwb(location, external_data=config.external_data) as nwbfile:
        selected = _selected(nwbfile, config)
        if isinstance(location, RemoteFile) and not can_be_streamed(
            location, [stored.nwb_object for stored in selected]
        ):
            return read_nwb(local_file(location), config, offsets=offsets)
        ds = _read(nwbfile, selected, config, offsets, name=repr(str(location)), facts=partial(file_facts, location))
        if isinstance(location, RemoteFile):
            # After all of it is read.
            ds = with_notes(
                ds, [f"streamed {location.received} of {location.asset.size} bytes, without a check of their digest"]
            )
        return ds


def read_made(nwbfile: NWBFile, config: ReadConfig) -> xr.Dataset:
    """Read a recording that is not in a file, as `read_nwb` reads one that is: it is written in memory and read from there.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        As made; it cannot be written to another file afterwards.
    config : ReadConfig

    Returns
    -------
    Dataset
        Without ``source``, ``read_config`` and ``session_start_time``: there is no file to read again.

    Raises
    ------
    ConfigError, SelectionError, DataError
        As of `read_nwb`.
    """
    with made_nwb(nwbfile) as stored:
        ds = _read(stored, _selected(stored, config), config, None, name="these data", facts=dict)
    ds.attrs = {name: value for name, value in ds.attrs.items() if name not in OF_A_FILE}
    return ds


def _selected(nwbfile: NWBFile, config: ReadConfig) -> list[StoredSeries]:
    unreadable = {path: reason for path, (_, reason) in unreadable_series(nwbfile).items()}
    return select(find_series(nwbfile), config.series, unreadable=unreadable)


def _read(
    nwbfile: NWBFile,
    selected: Sequence[StoredSeries],
    config: ReadConfig,
    offsets: Offsets | None,
    *,
    name: str,
    facts: Callable[[], Mapping[str, str]],
) -> xr.Dataset:
    """Read series of an open file; `facts` tells where it is from, and `name` names it in errors."""
    tables_of(nwbfile, [stored.nwb_object for stored in selected])
    offsets = _offsets_by_path(offsets, [stored.path for stored in selected])
    sources = _sources(nwbfile, selected, config, offsets)
    width = config.bin_width or _default_bin_width(sources)
    keep = channels_to_keep(sources, config)
    # Windows follow from all channels, so that `where` moves none.
    n_channels = sum(int(mask.sum()) for mask in keep)
    table, windows = _windows(nwbfile, config, width, sources, n_channels=n_channels)
    _check_windows_fit(windows, sources, n_channels=n_channels)
    differing = [] if table is None else _other_units(windows.grid.starts - windows.start, sources)
    _check_recorded(windows, sources, differing)
    sources, where_notes = _with_channels(sources, keep)
    sources, event_notes = _as_events(sources, config)
    with ThreadPoolExecutor(1) as thread, _asking(differing):
        # The digest of a large file takes as long as reading it.
        of_file = thread.submit(facts)
        joined, windows = _without_empty_chops(join(sources, windows.grid), windows, config)
        denoised = bin_denoised(sources, windows.grid)
    channels = {**channel_labels(joined, sources, config), **event_labels(joined, sources)}
    labels = all_labels(channels, trial_labels(table, windows, config), config)
    origin = of_file.result()
    linked = linked_files(nwbfile, [stored.nwb_object for stored in selected])
    attrs = _attributes(nwbfile, origin, config, sources, linked=linked)
    if offsets is not None:
        attrs["offsets"] = _as_json(offsets)
    notes = [_what_was_read(sources, origin), *_notes(sources, joined, windows)]
    binned, unusable_notes = without_unusable(joined.binned, labels["channel_id"][1], sources)
    # Several bands of a series share what is said of it.
    outside = notes_on(outside_of(nwbfile))
    notes = list(dict.fromkeys([*notes, *event_notes, *where_notes, *unusable_notes, *outside, *differing]))
    if "held_out" in labels:
        held_out = np.asarray(labels["held_out"][1])
        notes.append(
            f"{int(held_out.sum())} of {len(held_out)} channels are held out according to their table: never shown to "
            "the encoder of a model, but scored"
        )
    if not binned.observed.any():
        source = sources[0]
        helps = source.what_helps(notes) if isinstance(source, ElectricalSource) else ""
        # What was chosen is known; what was met on reading is news.
        said = f" ({'; '.join(dict.fromkeys([*joined.notes, *windows.notes]) or notes)})" if origin else ""
        raise DataError(
            f"nothing is observed in {name}: all {binned.observed.size} entries are masked{said}; "
            f"{helps or (IGNORING_MASKS if origin else OF_MEMORY)}"
        )
    if sources[0].kind == "units" and not binned.values.any():
        raise DataError(_no_spike(windows, sources, differing))
    channel_id = labels.pop("channel_id")[1]
    ds = make_dataset(
        binned.values,
        binned.observed,
        bin_width=width,
        kind=sources[0].kind,
        channel_id=channel_id,
        exposure=binned.exposure,
        start=windows.start,
        trial_start=windows.grid.starts,
        coords=labels,
        attrs={**attrs, "notes": json.dumps(notes)},
    )
    if denoised is not None:
        ds = ds.assign(denoised=(DIMS, denoised))
    if config.inputs:
        inputs, input_notes = read_inputs(nwbfile, config, windows.grid)
        ds = with_notes(with_inputs(ds, inputs), input_notes)
    return ds if config.bandwidth is None else limit_bandwidth(ds, config.bandwidth)


def _with_keywords(config: ReadConfig | Mapping[str, object] | None, **keywords: object) -> ReadConfig:
    """The settings, overridden by the keywords that are not None."""
    config = config_of(ReadConfig, config)
    overrides = {name: value for name, value in keywords.items() if value is not None}
    if isinstance(overrides.get("series"), str):
        overrides["series"] = (overrides["series"],)
    return build(ReadConfig, {**{name: getattr(config, name) for name in ReadConfig.model_fields}, **overrides})


def _sources(
    nwbfile: Any, selected: Sequence[StoredSeries], config: ReadConfig, offsets: Offsets | None
) -> list[Source]:
    paths = [stored.path for stored in selected]
    kinds = {stored.kind for stored in selected}
    if len(kinds) > 1:
        named = ", ".join(f"{stored.path!r} ({stored.kind})" for stored in selected)
        raise SelectionError(f"series of different kinds cannot be combined: {named}; choose series of one kind")
    if offsets is not None and kinds != {"rois"}:
        raise ConfigError(f"`offsets` are only for ROIs, but {paths[0]!r} is of kind {selected[0].kind!r}; omit them")
    if offsets is not None and not isinstance(offsets, Mapping) and len(selected) > 1:
        raise ConfigError(
            f"{len(selected)} series are selected; pass `offsets` as a mapping of in-file path to array or number "
            f"(--offsets SERIES=FILE.npy or SERIES=SECONDS for each), of {paths}"
        )
    sources = [_source(nwbfile, stored, config, offsets) for stored in selected]
    return [each for s in sources for each in (s.by_band() if isinstance(s, ElectricalSource) else [s])]


def _offsets_by_path(offsets: Offsets | None, paths: Sequence[str]) -> Offsets | None:
    """Offsets with the in-file paths of the series that are read in place of patterns."""
    if not isinstance(offsets, Mapping):
        return offsets
    resolved: dict[str, ArrayLike] = {}
    for pattern, seconds in offsets.items():
        glob = pattern.strip("/")
        matches = [path for path in paths if path == glob] or [path for path in paths if fnmatchcase(path, glob)]
        if not matches:
            raise SelectionError(f"`offsets` (--offsets) name {pattern!r}; the series read are {paths}")
        if repeated := [path for path in matches if path in resolved]:
            raise SelectionError(f"`offsets` (--offsets) name {repeated[0]!r} twice")
        resolved |= dict.fromkeys(matches, seconds)
    return resolved


def _source(nwbfile: Any, stored: StoredSeries, config: ReadConfig, offsets: Offsets | None) -> Source:
    if stored.kind != "rois":
        return stored.reader(nwbfile, stored.nwb_object, config)
    series_offsets = offsets.get(stored.path) if isinstance(offsets, Mapping) else offsets
    return stored.reader(nwbfile, stored.nwb_object, config, offsets=series_offsets)


def _with_channels(sources: Sequence[Source], keep: Sequence[NDArray[np.bool_]]) -> tuple[list[Source], list[str]]:
    """Sources with the channels to keep, without those that keep none; and a note on the others."""
    if all(mask.all() for mask in keep):
        return list(sources), []
    smaller = [
        source if mask.all() else source.only(mask) for source, mask in zip(sources, keep, strict=True) if mask.any()
    ]
    n_channels, n_kept = (
        len({(source.table, int(row)) for source in some for row in source.channel_row}) for some in (sources, smaller)
    )
    return smaller, [f"{n_channels - n_kept} of {n_channels} channels excluded by `where`"]


def _as_events(sources: list[Source], config: ReadConfig) -> tuple[list[Source], list[str]]:
    """Sources of events instead of fluorescence, where settings or what the ROIs hold say so; and why not, for the user."""
    if config.events is not None:
        return [_event_source(source, config.events) for source in sources], []
    rois = [source for source in sources if isinstance(source, RoiSource)]
    notes = [f"{source.path!r} contains {source.signal} ({source.signal_reason}): read unchanged" for source in rois]
    if config.rois.deconvolve == "never" or not rois or any(source.signal == "events" for source in rois):
        return sources, notes
    try:
        return [_event_source(source, EventsConfig()) for source in rois], []
    except ConfigError as error:
        raise ConfigError(
            f"{error}; or read fluorescence without deconvolution (--set read.rois.deconvolve=never)"
        ) from None
    except DataError as error:
        return sources, [*notes, f"deconvolution found no events: {error}"]


def _event_source(source: Source, config: EventsConfig) -> EventSource:
    if not isinstance(source, RoiSource):
        raise ConfigError(
            f"events can only be inferred from ROIs, but {source.path!r} is of kind {source.kind!r}; omit `events` "
            "(--set read.events=null)"
        )
    return event_source(source, config)


def _default_bin_width(sources: Sequence[Source]) -> float:
    if any(source.unit in ("counts", "log(V^2)") for source in sources):
        return max([DEFAULT_BIN_WIDTH, *(s.default_bin_width for s in sources if isinstance(s, ElectricalSource))])
    if all(isinstance(source, ElectricalSource) for source in sources):
        # Of several bands of the LFP the highest needs the shortest bins.
        finest: dict[str, float] = {}
        for source in sources:
            if isinstance(source, ElectricalSource):
                finest[source.path] = min(source.default_bin_width, finest.get(source.path, np.inf))
        return max(finest.values())
    periods = [source.sampling_period for source in sources if source.sampling_period]
    if not periods:
        raise ConfigError(
            f"{sources[0].path!r} has no sampling rate to derive a bin width from; set bin_width in seconds (--bin-width)"
        )
    return simplest(max(periods))


def _windows(
    nwbfile: Any, config: ReadConfig, bin_width: float, sources: Sequence[Source], *, n_channels: int
) -> tuple[DynamicTable | None, Windows]:
    """The table that trials are cut from, if there is one, and where they lie."""
    cut = config.cut or Chop()
    if isinstance(cut, Trials):
        table, cut = trial_table(nwbfile, cut)
        check_rows(len(table), table.name)
        times, notes = session_times(table, cut, bin_width=bin_width)
        with _asking(_other_units(times, sources)):
            windows = trial_windows(times, cut, bin_width)
        return table, replace(windows, notes=(*windows.notes, *notes))
    _check_session_fits(cut, bin_width, sources, n_channels=n_channels)
    if isinstance(cut, Window):
        return None, single_window(cut, bin_width)
    slowest = max((source.three_cycles for source in sources if isinstance(source, ElectricalSource)), default=0.0)
    return None, chop_windows(cut, bin_width, _session(sources, bin_width), least_length=slowest)


def _other_units(events: NDArray[np.float64], sources: Sequence[Source]) -> list[str]:
    """What tells that events of trials and series have times in different units."""
    found = [other_unit(events, source.path, span=source.span, period=source.sampling_period) for source in sources]
    return [each for each in found if each is not None]


@contextmanager
def _asking(differing: Sequence[str]) -> Iterator[None]:
    """Let errors of what is read tell, too, that units of time seem to differ."""
    try:
        yield
    except (ConfigError, DataError) as error:
        if not differing:
            raise
        raise type(error)("; ".join([str(error), *differing])) from error


def _check_recorded(windows: Windows, sources: Sequence[Source], differing: Sequence[str]) -> None:
    """Refuse windows none of which lies, even in part, in the recording."""
    starts, stops = windows.grid.starts, windows.grid.stops
    if any(((stops > source.span[0]) & (starts < source.span[1])).any() for source in sources):
        return
    spans = ", ".join(f"{source.path!r} covers {source.span[0]:g} to {source.span[1]:g} s" for source in sources)
    raise DataError(
        f"none of the {len(starts)} windows is inside the recording: they cover {starts.min():g} to {stops.max():g} "
        f"s, {spans}; {'; '.join(differing) or IN_SECONDS}"
    )


def _no_spike(windows: Windows, sources: Sequence[Source], differing: Sequence[str]) -> str:
    starts, stops = windows.grid.starts, windows.grid.stops
    spans = ", ".join(f"{source.path!r} covers {source.span[0]:g} to {source.span[1]:g} s" for source in sources)
    return (
        f"none of the {len(starts)} windows contains a spike: they cover {starts.min():g} to {stops.max():g} s, "
        f"{spans}; {'; '.join(differing) or IN_SECONDS}"
    )


def _check_session_fits(cut: Window | Chop, bin_width: float, sources: Sequence[Source], *, n_channels: int) -> None:
    """Refuse more bins than the machine can hold, before windows are laid over them."""
    session = (min(source.span[0] for source in sources), max(source.span[1] for source in sources))
    start = session[0] if cut.start is None else cut.start
    stop = session[1] if cut.stop is None else cut.stop
    n_bins = (stop - start) / bin_width
    check_memory(
        n_bins * n_channels,
        _bytes_per_entry(sources),
        what=f"{n_bins:.3g} bins of {bin_width:g} s of {n_channels} channels from {start:g} to {stop:g} s",
        remedy=SMALLER,
    )


def _check_windows_fit(windows: Windows, sources: Sequence[Source], *, n_channels: int) -> None:
    """Refuse more windows than the machine can hold; they may overlap, and then take more than the session."""
    n_windows, n_bins = windows.grid.shape
    check_memory(
        n_windows * n_bins * n_channels,
        _bytes_per_entry(sources),
        what=f"{n_windows} trials of {n_bins} bins of {n_channels} channels",
        remedy=SMALLER,
    )


def _bytes_per_entry(sources: Sequence[Source]) -> float:
    """Of units with intervals of their own, bins may be observed in part."""
    partial = any(getattr(source, "obs_intervals", None) is not None for source in sources)
    return READING_PARTIAL if partial else READING


def _session(sources: Sequence[Source], bin_width: float) -> tuple[float, float]:
    """Span to chop. Bins of counts lie on whole multiples of their width; samples lie in the middle of theirs."""
    if all(source.sampling_period is None for source in sources):
        first = min(source.span[0] for source in sources)
        return float(bin_index([first], 0.0, bin_width)[0]) * bin_width, max(source.span[1] for source in sources)
    first = min(source.span[0] - (source.sampling_period or 0.0) / 2 for source in sources)
    if all(source.kind in ("rois", "series") for source in sources):
        moments = [_moments(source, bin_width) for source in sources]
        first = edge_between(np.concatenate(moments), bin_width, usual=first) if all(map(len, moments)) else first
    # Up to the last sample, not to the end of its period: with jitter that may reach a little into one bin more.
    last = max(source.span[1] - (source.sampling_period or 0.0) + _latest_offset(source) for source in sources)
    return first, last + LAST_SAMPLE


def _moments(source: Source, bin_width: float) -> NDArray[np.float64]:
    """Moments [s] whose samples repeat with the bins; none where samples and bins drift past each other."""
    period = source.sampling_period or bin_width
    ratio, per_bin = max(bin_width / period, period / bin_width), max(round(bin_width / period), 1)
    if abs(ratio - round(ratio)) > DRIFT or per_bin > MOST_PER_BIN:
        return np.empty(0)
    offsets = sampling_offsets(source)
    within = np.arange(per_bin) * period
    starts = source.span[0] + (np.zeros(1) if offsets is None else np.unique(offsets))
    return np.asarray((starts[:, None] + within).ravel())


def _latest_offset(source: Source) -> float:
    offsets = sampling_offsets(source)
    return 0.0 if offsets is None else float(offsets.max())


def _without_empty_chops(joined: Joined, windows: Windows, config: ReadConfig) -> tuple[Joined, Windows]:
    """Leave out chops in which nothing was observed; trials and windows that were asked for stay."""
    binned = joined.binned
    any_observed = np.asarray(binned.observed.any(axis=(1, 2)))
    if any_observed.all() or not any_observed.any():
        return joined, windows
    n_empty, n_windows = int((~any_observed).sum()), len(any_observed)
    if not isinstance(config.cut or Chop(), Chop):
        note = f"{n_empty} of {n_windows} trials have no observed entry"
        return joined, replace(windows, notes=(*windows.notes, note))
    exposure = None if binned.exposure is None else binned.exposure[any_observed]
    smaller = Binned(binned.values[any_observed], binned.observed[any_observed], exposure)
    note = f"{n_empty} of {n_windows} chops have no observed entry and are left out"
    grid = replace(windows.grid, starts=windows.grid.starts[any_observed])
    return replace(joined, binned=smaller), Windows(grid, windows.start, None, (note,))


def _attributes(
    nwbfile: Any,
    facts: Mapping[str, str],
    config: ReadConfig,
    sources: Sequence[Source],
    *,
    linked: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    source = {
        **facts,
        **object_ids(nwbfile),
        "identifier": nwbfile.identifier,
        "series": list(dict.fromkeys(source.path for source in sources)),
        **({"linked": linked} if linked else {}),
    }
    return {
        "unit": sources[0].unit,
        **signal_attributes(sources),
        "session_id": str(nwbfile.session_id or ""),
        "session_start_time": nwbfile.session_start_time.isoformat(),
        "bin_reference": "center",
        "source": json.dumps(source),
        "cut": json.dumps((config.cut or Chop()).model_dump(mode="json")),
        "read_config": json.dumps(config.model_dump(mode="json")),
    }


def _as_json(offsets: Offsets) -> str:
    if isinstance(offsets, Mapping):
        return json.dumps({path: np.asarray(seconds).tolist() for path, seconds in offsets.items()})
    return json.dumps(np.asarray(offsets).tolist())


def _what_was_read(sources: Sequence[Source], origin: Mapping[str, str]) -> str:
    archive = f" of {address_of(origin)}" if "asset_path" in origin else ""
    return f"read {', '.join(dict.fromkeys(repr(source.path) for source in sources))}{archive}"


def _notes(sources: Sequence[Source], joined: Joined, windows: Windows) -> list[str]:
    notes = [note for source in sources for note in source.notes]
    width = windows.grid.bin_width
    notes += [source.note_on_band(width) for source in sources if isinstance(source, ElectricalSource)]
    periods = sorted({source.sampling_period for source in sources if source.sampling_period is not None})
    if len(periods) > 1:
        listed = ", ".join(f"{period:g} s" for period in periods)
        notes.append(f"the series have different sampling periods: {listed}")
    notes += _note_on_planes(sources)
    for source in sources:
        start, stop = source.span
        outside = (windows.grid.stops <= start) | (windows.grid.starts >= stop)
        if outside.any():
            notes.append(
                f"{int(outside.sum())} of {len(outside)} windows are entirely outside {source.path!r}, which covers "
                f"{start:g} to {stop:g} s"
            )
    return [*notes, *joined.notes, *windows.notes]


def _note_on_planes(sources: Sequence[Source]) -> list[str]:
    """Say that planes lack their own times where different ROIs start at the same time, as in suite2p's export of volumes."""
    first, n_planes = sources[0], len(sources)
    rows = {(source.table, int(row)) for source in sources for row in source.channel_row}
    alike = all(
        source.kind == "rois"
        and source.span[0] == first.span[0]
        and source.sampling_period == first.sampling_period
        and sampling_offsets(source) is None
        for source in sources
    )
    if n_planes < 2 or not alike or len(rows) < sum(len(source.channel_row) for source in sources):
        return []
    delay = f" ({first.sampling_period / n_planes:.3g} s more for each plane)" if first.sampling_period else ""
    return [
        f"{n_planes} series of different ROIs all start at {first.span[0]:g} s. If one scanner recorded these planes "
        f"one after the other, the file lacks their true times; pass the delay of each plane{delay}, such as "
        f"--offsets '{sources[1].path}=SECONDS'"
    ]
