"""An NWB file becomes a labelled, masked Dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from pynwb.epoch import TimeIntervals

from nwb_sbtt.config import Chop, ReadConfig, Trials, Window, build
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.binning import bin_index
from nwb_sbtt.data.grid import Binned, Grid, Source
from nwb_sbtt.data.joining import Joined, join
from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.data.trials import Windows, chop_windows, single_window, trial_windows
from nwb_sbtt.errors import ConfigError, DataError, SelectionError
from nwb_sbtt.io.dandi.origin import address_of
from nwb_sbtt.io.dandi.places import can_be_streamed, local_file, locate
from nwb_sbtt.io.dandi.transfer import Source as Remote
from nwb_sbtt.io.read.events import denoised_values, event_labels, event_source, neuropil_of
from nwb_sbtt.io.read.files import open_nwb, place_facts
from nwb_sbtt.io.read.fluorescence import signal_attributes
from nwb_sbtt.io.read.labels import all_labels, channel_labels, kept_channels, sampling_offsets, trial_labels
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.rois import RoiSource
from nwb_sbtt.io.read.selection import StoredSeries, find_series, select
from nwb_sbtt.io.read.tables import as_times, plain_column, plain_columns

ENTRY_BYTES = 5
"""What one channel takes in one bin: its value, and whether it was observed."""
USUAL_BIN_WIDTH = 0.02
"""Seconds; bins of spike counts and of band power, which have no width of their own, where none is given."""
LAST_MOMENT = 1e-6
"""Seconds by which a session outlasts its last sample, so that this sample lies in a bin."""
Offsets = ArrayLike | Mapping[str, ArrayLike]


def read_nwb(
    path: Path | str,
    config: ReadConfig | None = None,
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
        Of that only what is needed is streamed, or the whole is fetched into the cache where much of it is needed.
    config : ReadConfig, optional
        All settings; the keywords below go before it.
    series : str or sequence of str, optional
        In-file paths or globs; several are put on one clock and side by side.
    bin_width : float, optional
        Seconds.
    trials : Trials, Window or Chop, optional
        How to cut; the whole session is chopped where nothing is said.
    offsets : array (ROI) or mapping of in-file path to such arrays, optional
        Seconds from each frame's time to the moment each ROI was sampled.

    Returns
    -------
    Dataset
        As described in `nwb_sbtt.data.schema`. ``attrs["notes"]`` is a JSON list of what a person should know.

    Raises
    ------
    ConfigError
        If a setting is not valid, or a window is not a whole number of bins.
    FileError
        If the file cannot be read.
    SelectionError
        If a series, table or column is not there, or several series could be meant.
    DataError
        If what is there cannot be used, or nothing in it was observed.

    Examples
    --------
    >>> from nwb_sbtt import Trials, read_nwb
    >>> maze = read_nwb("maze.nwb", bin_width=0.005, trials=Trials(event="move_onset_time", start=-0.25, stop=0.45))
    """
    config = _settled(config, series=series, bin_width=bin_width, cut=trials)
    place = locate(path)
    with open_nwb(place) as nwbfile:
        chosen = select(find_series(nwbfile), config.series)
        if isinstance(place, Remote) and not can_be_streamed(place, [each.nwb_object for each in chosen]):
            return read_nwb(local_file(place), config, offsets=offsets)
        sources = _sources(nwbfile, chosen, config, offsets)
        width = config.bin_width or _usual_bin_width(sources)
        kept = kept_channels(sources, config)
        # Times follow from all channels, so that a choice among them moves no window.
        table, windows = _windows(nwbfile, config, width, sources, n_channels=sum(int(keep.sum()) for keep in kept))
        sources, left_out = _chosen(sources, kept)
        sources = _as_events(nwbfile, sources, config)
        with ThreadPoolExecutor(1) as aside:
            # The digest of a large file takes as long as reading it.
            facts = aside.submit(place_facts, place)
            joined, windows = _drop_empty(join(sources, windows.grid), windows, config)
            denoised = denoised_values(sources, windows.grid)
        channels = {**channel_labels(joined, sources, config), **event_labels(joined, sources)}
        labels = all_labels(channels, trial_labels(table, windows, config), config)
        origin = facts.result()
        attrs = _attributes(nwbfile, origin, config, sources)
        if offsets is not None:
            attrs["offsets"] = _as_json(offsets)
    of_archive = f" of {address_of(origin)}" if "asset_path" in origin else ""
    notes = [f"read {', '.join(repr(each.path) for each in sources)}{of_archive}"]
    notes += _all_notes(sources, joined, windows)
    if isinstance(place, Remote):
        notes.append(f"streamed {place.received} of {place.asset.size} bytes, which no digest covers")
    notes += left_out
    part = joined.binned
    if not part.observed.any():
        raise DataError(
            f"nothing is observed in {str(place)!r}: all {part.observed.size} entries are masked ({'; '.join(notes)}); look "
            "at the times that `nwb-sbtt inspect` lists, or set obs_intervals=False or invalid_times=False to ignore the masks"
        )
    channel_id = labels.pop("channel_id")[1]
    ds = make_dataset(
        part.values,
        part.observed,
        bin_width=width,
        kind=sources[0].kind,
        channel_id=channel_id,
        exposure=part.exposure,
        start=windows.start,
        trial_start=windows.grid.starts,
        coords=labels,
        attrs={**attrs, "notes": json.dumps(notes)},
    )
    if denoised is not None:
        ds = ds.assign(denoised=(DIMS, denoised))
    return ds if config.bandwidth is None else limit_bandwidth(ds, config.bandwidth)


def _settled(config: ReadConfig | None, **given: object) -> ReadConfig:
    """The config with the keywords that were given in their places."""
    config = config or ReadConfig()
    changed = {name: value for name, value in given.items() if value is not None}
    if isinstance(changed.get("series"), str):
        changed["series"] = (changed["series"],)
    return build(ReadConfig, {**{name: getattr(config, name) for name in ReadConfig.model_fields}, **changed})


def _sources(nwbfile: Any, chosen: Sequence[StoredSeries], config: ReadConfig, offsets: Offsets | None) -> list[Source]:
    kinds = {each.kind for each in chosen}
    if len(kinds) > 1:
        named = ", ".join(f"{each.path!r} ({each.kind})" for each in chosen)
        raise SelectionError(f"series of different kinds cannot be one data set: {named}; choose series of one kind")
    if offsets is not None and kinds != {"rois"}:
        raise ConfigError(f"`offsets` are for ROIs; {chosen[0].path!r} is of kind {chosen[0].kind!r}: leave them out")
    if isinstance(offsets, Mapping):
        if unknown := sorted(set(offsets) - {each.path for each in chosen}):
            raise SelectionError(f"`offsets` name {unknown}; the series read are {[each.path for each in chosen]}")
    elif offsets is not None and len(chosen) > 1:
        raise ConfigError(
            f"{len(chosen)} series are read; give `offsets` as a mapping of in-file path to array, of "
            f"{[each.path for each in chosen]}"
        )
    return [_source(nwbfile, each, config, offsets) for each in chosen]


def _source(nwbfile: Any, found: StoredSeries, config: ReadConfig, offsets: Offsets | None) -> Source:
    if found.kind == "rois":
        own = offsets.get(found.path) if isinstance(offsets, Mapping) else offsets
        return found.reader(nwbfile, found.nwb_object, config, offsets=own)
    return found.reader(nwbfile, found.nwb_object, config)


def _as_events(nwbfile: Any, sources: list[Source], config: ReadConfig) -> list[Source]:
    """Events instead of fluorescence, where the settings ask for them."""
    if config.events is None:
        return sources
    found: list[Source] = []
    for each in sources:
        if not isinstance(each, RoiSource):
            raise ConfigError(f"events are found in ROIs; {each.path!r} is of kind {each.kind!r}: leave `events` out")
        series = neuropil_of(each) if config.events.neuropil_coefficient else None
        around = None if series is None else replace(each, series=series, path=in_file_path(nwbfile, series))
        found.append(event_source(each, config.events, around=around))
    return found


def _chosen(sources: Sequence[Source], kept: Sequence[NDArray[np.bool_]]) -> tuple[list[Source], list[str]]:
    """Sources with the channels that are kept, those that keep any; and a note on the others."""
    if all(keep.all() for keep in kept):
        return list(sources), []
    chosen = [each if keep.all() else each.only(keep) for each, keep in zip(sources, kept, strict=True) if keep.any()]
    everyone = {(each.table, int(row)) for each in sources for row in each.channel_row}
    left = {(each.table, int(row)) for each in chosen for row in each.channel_row}
    return chosen, [f"{len(everyone) - len(left)} of {len(everyone)} channels left out by `where`"]


def _usual_bin_width(sources: Sequence[Source]) -> float:
    if any(each.unit in ("counts", "log(V^2)") for each in sources):
        return USUAL_BIN_WIDTH
    periods = [each.sampling_period for each in sources if each.sampling_period]
    if not periods:
        raise ConfigError(
            f"{sources[0].path!r} has no sampling rate to take a bin width from; give bin_width in seconds"
        )
    return min(periods)


def _windows(
    nwbfile: Any, config: ReadConfig, bin_width: float, sources: Sequence[Source], *, n_channels: int
) -> tuple[TimeIntervals | None, Windows]:
    cut = config.cut or Chop()
    _refuse_huge(cut, bin_width, sources, n_channels=n_channels)
    if isinstance(cut, Trials):
        table = interval_table(nwbfile, cut.table)
        return table, trial_windows(_events(table, cut), cut, bin_width)
    if isinstance(cut, Window):
        return None, single_window(cut, bin_width)
    return None, chop_windows(cut, bin_width, _session(sources, bin_width))


def _refuse_huge(cut: Trials | Window | Chop, bin_width: float, sources: Sequence[Source], *, n_channels: int) -> None:
    """Refuse more bins than the machine can hold, before it tries."""
    session = (min(each.span[0] for each in sources), max(each.span[1] for each in sources))
    start = session[0] if cut.start is None else cut.start
    stop = session[1] if cut.stop is None else cut.stop
    n_bins = (stop - start) / bin_width
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if n_bins * n_channels * ENTRY_BYTES > memory:
            raise ConfigError(
                f"{n_bins:.3g} bins of {bin_width:g} s of {n_channels} channels from {start:g} to {stop:g} s are more than "
                f"this machine can hold ({memory / 1e9:.0f} GB); take wider bins, a shorter part, or fewer channels"
            )


def _session(sources: Sequence[Source], bin_width: float) -> tuple[float, float]:
    """Span to chop. Bins of counts lie on whole multiples of their width; samples lie in the middle of theirs."""
    if all(each.sampling_period is None for each in sources):
        first = min(each.span[0] for each in sources)
        return float(bin_index([first], 0.0, bin_width)[0]) * bin_width, max(each.span[1] for each in sources)
    first = min(each.span[0] - (each.sampling_period or 0.0) / 2 for each in sources)
    # Up to the last sample, not to the end of its period: with jitter that may be a hair into one bin more.
    last = max(each.span[1] - (each.sampling_period or 0.0) + _latest_offset(each) for each in sources)
    return first, last + LAST_MOMENT


def _latest_offset(source: Source) -> float:
    offsets = sampling_offsets(source)
    return 0.0 if offsets is None else float(offsets.max())


def interval_table(nwbfile: Any, name: str) -> TimeIntervals:
    """Table of intervals by name ("trials", "epochs", "presentations") or in-file path.

    Raises
    ------
    SelectionError
        Naming the tables there are.
    """
    tables = {in_file_path(nwbfile, each): each for each in nwbfile.objects.values() if isinstance(each, TimeIntervals)}
    wanted = name.strip("/")
    for path in (wanted, f"intervals/{wanted}", wanted.removeprefix("intervals/")):
        if path in tables:
            return tables[path]
    known = f"it has {sorted(tables)}" if tables else "it has none; use Window or Chop"
    raise SelectionError(f"the file has no table of intervals {name!r}; {known}")


def _events(table: TimeIntervals, cut: Trials) -> NDArray[np.float64]:
    column = plain_column(table, cut.event)
    times = as_times(column)
    if times is None or column.dtype.kind == "b":
        columns = {name: as_times(values) for name, values in plain_columns(table).items() if values.dtype.kind == "f"}
        usable = sorted(name for name, values in columns.items() if values is not None and np.isfinite(values).any())
        raise SelectionError(
            f"column {cut.event!r} of {cut.table!r} holds {column.dtype.type.__name__.rstrip('_')} such as "
            f"{str(column[0])!r}, not times; columns of numbers are {usable}"
        )
    return times


def _drop_empty(joined: Joined, windows: Windows, config: ReadConfig) -> tuple[Joined, Windows]:
    """Leave out chops in which nothing was observed; trials and windows that were asked for stay."""
    binned = joined.binned
    full = np.asarray(binned.observed.any(axis=(1, 2)))
    if full.all() or not full.any():
        return joined, windows
    n_empty = int((~full).sum())
    if not isinstance(config.cut or Chop(), Chop):
        note = f"{n_empty} of {len(full)} trials hold nothing observed"
        return joined, Windows(windows.grid, windows.start, windows.rows, (*windows.notes, note))
    exposure = None if binned.exposure is None else binned.exposure[full]
    part = Binned(binned.values[full], binned.observed[full], exposure)
    grid = Grid(windows.grid.starts[full], windows.grid.bin_width, windows.grid.n_bins)
    note = f"{n_empty} of {len(full)} chops hold nothing observed and are left out"
    return Joined(part, joined.source, joined.source_channel, joined.notes), Windows(grid, windows.start, None, (note,))


def _attributes(
    nwbfile: Any, facts: Mapping[str, str], config: ReadConfig, sources: Sequence[Source]
) -> dict[str, str]:
    source = {
        **facts,
        "object_id": nwbfile.object_id,
        "identifier": nwbfile.identifier,
        "series": [each.path for each in sources],
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
        return json.dumps({path: np.asarray(each).tolist() for path, each in offsets.items()})
    return json.dumps(np.asarray(offsets).tolist())


def _all_notes(sources: Sequence[Source], joined: Joined, windows: Windows) -> list[str]:
    notes = [note for each in sources for note in each.notes]
    periods = sorted({each.sampling_period for each in sources if each.sampling_period is not None})
    if len(periods) > 1:
        notes.append(f"the series have different sampling periods: {', '.join(f'{each:g} s' for each in periods)}")
    for each in sources:
        outside = (windows.grid.stops <= each.span[0]) | (windows.grid.starts >= each.span[1])
        if outside.any():
            notes.append(
                f"{int(outside.sum())} of {len(outside)} windows lie wholly outside {each.path!r}, which runs from "
                f"{each.span[0]:g} to {each.span[1]:g} s"
            )
    return [*notes, *joined.notes, *windows.notes]
