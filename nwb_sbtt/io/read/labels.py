"""Names and columns that channels and trials carry from the tables of the file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pynwb.epoch import TimeIntervals

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Source
from nwb_sbtt.data.joining import Joined
from nwb_sbtt.data.trials import Windows
from nwb_sbtt.errors import ConfigError, SelectionError
from nwb_sbtt.io.read.tables import plain_column

HELD_OUT = ("heldout", "held_out")
"""Columns of flags that mark the units kept for co-smoothing."""

TAKEN = frozenset(
    {"time", "trial", "channel", "trial_start", "channel_id", "values", "observed", "exposure"}
    | {"series", "table", "channel_row", "trial_id"}
)
"""Names that a Dataset uses itself and that no column can have."""
Labels = dict[str, tuple[str, NDArray[np.generic]]]


def all_labels(channels: Labels, trials: Labels, config: ReadConfig) -> Labels:
    """Put the coordinates of channels and trials together.

    Raises
    ------
    ConfigError
        If a column that was asked for has a name that is taken.
    """
    asked = [*config.channel_columns, *config.trial_columns]
    taken = sorted({name for name in asked if name in TAKEN or asked.count(name) > 1})
    if taken:
        raise ConfigError(f"columns {taken} cannot come along under names that are taken: leave them out")
    return {**channels, **trials}


def channel_labels(joined: Joined, sources: Sequence[Source], config: ReadConfig) -> Labels:
    """Coordinates of the channels: ids, where each comes from, its sampling offset, and the columns asked for."""

    def gather(values: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        flat = np.concatenate(values)
        offsets = np.concatenate([[0], np.cumsum([len(each) for each in values])])
        return np.asarray(flat[offsets[joined.source] + joined.source_channel])

    n = [len(each.channel_id) for each in sources]
    labels: Labels = {
        "channel_id": ("channel", gather([each.channel_id for each in sources])),
        "series": ("channel", gather([np.full(k, each.path) for k, each in zip(n, sources, strict=True)])),
        "table": ("channel", gather([np.full(k, each.table) for k, each in zip(n, sources, strict=True)])),
        "channel_row": ("channel", gather([np.asarray(each.channel_row, dtype=np.int64) for each in sources])),
    }
    for name in config.channel_columns:
        labels[name] = ("channel", gather([_channel_column(each, name) for each in sources]))
    found = [sampling_offsets(each) for each in sources]
    if any(each is not None for each in found):
        given = [np.zeros(k) if each is None else each for k, each in zip(n, found, strict=True)]
        labels["sampling_offset"] = ("channel", gather(given))
    for name in HELD_OUT:
        if all(name in each.channel_columns and each.channel_columns[name].dtype == bool for each in sources):
            held_out = gather([each.channel_columns[name] for each in sources])
            if np.any(held_out):
                labels["held_out"] = ("channel", held_out)
    return labels


def sampling_offsets(source: Source) -> NDArray[np.float64] | None:
    """Seconds from each frame's time to the moment each ROI was sampled; None where all are sampled at once."""
    offsets = source.channel_columns.get("sampling_offset")
    return None if offsets is None or source.kind != "rois" else offsets.astype(np.float64)


def _channel_column(source: Source, name: str) -> NDArray[np.generic]:
    if name == "id":
        return source.channel_id
    if name not in source.channel_columns:
        known = f"its columns with one value a channel are {sorted(source.channel_columns)}"
        raise SelectionError(f"the channels of {source.path!r} have no column {name!r}; {known}")
    return source.channel_columns[name]


def kept_channels(sources: Sequence[Source], config: ReadConfig) -> list[NDArray[np.bool_]]:
    """Channels of each source that `where` lets through.

    Raises
    ------
    SelectionError
        If a column is not there, or no channel of any source is left.
    """
    kept = [np.ones(len(each.channel_id), dtype=bool) for each in sources]
    for name, allowed in config.where.items():
        for keep, each in zip(kept, sources, strict=True):
            keep &= _matches(_channel_column(each, name), allowed)
        if not any(keep.any() for keep in kept):
            there = sorted({str(value) for each in sources for value in _channel_column(each, name)})[:20]
            raise SelectionError(f"no channel is left by where {name!r} in {list(allowed)}; the column holds {there}")
    return kept


def _matches(values: NDArray[np.generic], allowed: Sequence[str | float | bool]) -> NDArray[np.bool_]:
    if values.dtype.kind in "US":
        return np.isin(values.astype(str), [str(each) for each in allowed])
    numbers = [float(each) for each in allowed if not isinstance(each, str)]
    return np.isin(values.astype(float), numbers)


def trial_labels(table: TimeIntervals | None, windows: Windows, config: ReadConfig) -> Labels:
    """Coordinates of the trials: id of each row, its split where there is such a column, and the columns asked for."""
    if table is None or windows.rows is None:
        if config.trial_columns:
            raise ConfigError(f"trial_columns {list(config.trial_columns)} need trials cut from a table, not a window")
        return {}
    labels: Labels = {"trial_id": ("trial", np.asarray(table.id.data[:])[windows.rows])}
    names = list(config.trial_columns)
    if "split" in table.colnames and "split" not in names and plain_column(table, "split").dtype.kind == "U":
        names.append("split")
    for name in names:
        labels[name] = ("trial", plain_column(table, name)[windows.rows])
    return labels
