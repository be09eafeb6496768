"""Coordinates of a Dataset: columns of the tables of a file that describe its channels and trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hdmf.common import DynamicTable
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.grid import Source, band_of
from nwb_sbtt.data.joining import Joined
from nwb_sbtt.data.trials import Windows
from nwb_sbtt.errors import ConfigError, SelectionError
from nwb_sbtt.io.read.tables import plain_column

HELD_OUT = ("heldout", "held_out")
"""Columns of flags that mark the units held out for co-smoothing."""
REFERENCE_ID = "reference_id"
"""Coordinate with the id of the electrode that was subtracted from each, where pairs of electrodes are read."""
BAND = "frequency_band"
"""Coordinate with the name of the band that a channel is read in, where there are several."""
RESERVED = frozenset(
    {"time", "trial", "channel", "trial_start", "channel_id", "values", "observed", "exposure"}
    | {"series", "table", "channel_row", "trial_id", REFERENCE_ID, BAND}
)
"""Names that a Dataset uses itself, so that no column can have them."""
VALUES_LISTED = 20
"""Most values of a column that an error lists."""
Labels = dict[str, tuple[str, NDArray[np.generic]]]
"""Coordinates: name to (dimension, array)."""


def all_labels(channels: Labels, trials: Labels, config: ReadConfig) -> Labels:
    """Put the coordinates of channels and trials together.

    Parameters
    ----------
    channels, trials : dict of name to (dimension, array)
    config : ReadConfig

    Raises
    ------
    ConfigError
        If a column that was asked for has a name that is reserved, or two have the same name.
    """
    names = [*config.channel_columns, *config.trial_columns]
    clashing = sorted({name for name in names if name in RESERVED or names.count(name) > 1})
    if clashing:
        raise ConfigError(
            f"columns {clashing} cannot become coordinates, because coordinates of these names exist; remove them "
            "from the list"
        )
    return {**channels, **trials}


def channel_labels(joined: Joined, sources: Sequence[Source], config: ReadConfig) -> Labels:
    """Collect the coordinates of the channels.

    Parameters
    ----------
    joined : Joined
        The channels of all sources, each once.
    sources : sequence of Source
    config : ReadConfig

    Returns
    -------
    dict of name to ("channel", array (channel))
        ``channel_id``, ``series``, ``table``, ``channel_row``, the columns asked for and, where there are any,
        ``sampling_offset`` [s], ``reference_id``, ``frequency_band`` and ``held_out``.

    Raises
    ------
    SelectionError
        If a column that was asked for is not there.
    """
    n_channels = [len(source.channel_id) for source in sources]
    firsts = np.concatenate([[0], np.cumsum(n_channels)])
    channels = firsts[joined.source] + joined.source_channel

    def gather(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        """From one array per source, (channel of the source), to one array (channel)."""
        return np.asarray(np.concatenate(arrays)[channels])

    def repeat(texts: Sequence[str]) -> list[NDArray[np.generic]]:
        return [np.full(n, text) for n, text in zip(n_channels, texts, strict=True)]

    labels: Labels = {
        "channel_id": ("channel", gather([source.channel_id for source in sources])),
        "series": ("channel", gather(repeat([source.path for source in sources]))),
        "table": ("channel", gather(repeat([source.table for source in sources]))),
        "channel_row": ("channel", gather([np.asarray(source.channel_row, dtype=np.int64) for source in sources])),
    }
    for name in config.channel_columns:
        labels[name] = ("channel", gather([_channel_column(source, name) for source in sources]))
    offsets = [sampling_offsets(source) for source in sources]
    if any(seconds is not None for seconds in offsets):
        seconds_of = [
            np.zeros(n) if seconds is None else seconds for n, seconds in zip(n_channels, offsets, strict=True)
        ]
        labels["sampling_offset"] = ("channel", gather(seconds_of))
    partners = [source.channel_columns.get(REFERENCE_ID) for source in sources if source.kind == "electrodes"]
    if len(partners) == len(sources) and all(ids is not None for ids in partners):
        labels[REFERENCE_ID] = ("channel", gather([ids for ids in partners if ids is not None]))
    bands = [band_of(source) for source in sources]
    if any(bands):
        labels[BAND] = ("channel", gather(repeat(bands)))
    for name in HELD_OUT:
        columns = [source.channel_columns.get(name) for source in sources]
        flags = [column for column in columns if column is not None and column.dtype == bool]
        if len(flags) == len(sources) and np.any(held_out := gather(flags)):
            labels["held_out"] = ("channel", held_out)
    return labels


def sampling_offsets(source: Source) -> NDArray[np.float64] | None:
    """Return when, within a frame, each channel of a source was sampled.

    Parameters
    ----------
    source : Source

    Returns
    -------
    array (ROI) or None
        Seconds from the time of a frame; None where the source has no offsets.
    """
    offsets = source.channel_columns.get("sampling_offset")
    return None if offsets is None or source.kind != "rois" else offsets.astype(np.float64)


def channels_to_keep(sources: Sequence[Source], config: ReadConfig) -> list[NDArray[np.bool_]]:
    """Tell which channels of each source the setting `where` keeps.

    Parameters
    ----------
    sources : sequence of Source
    config : ReadConfig

    Returns
    -------
    list of bool arrays (channel)
        One for each source.

    Raises
    ------
    SelectionError
        If a column is not there, or no channel of any source is kept.
    """
    keep = [np.ones(len(source.channel_id), dtype=bool) for source in sources]
    for name, allowed in config.where.items():
        for mask, source in zip(keep, sources, strict=True):
            mask &= _matches(_channel_column(source, name), allowed)
        if not any(mask.any() for mask in keep):
            values = sorted({str(value) for source in sources for value in _channel_column(source, name)})
            raise SelectionError(
                f"read.where keeps no channel: {name!r} must be in {list(allowed)}; the column has "
                f"{values[:VALUES_LISTED]}"
            )
    return keep


def trial_labels(table: DynamicTable | None, windows: Windows, config: ReadConfig) -> Labels:
    """Collect the coordinates of the trials.

    Parameters
    ----------
    table : pynwb.epoch.TimeIntervals, EventsTable or None
        The table that trials were cut from.
    windows : Windows
    config : ReadConfig

    Returns
    -------
    dict of name to ("trial", array (trial))
        ``trial_id``, the columns asked for and, where the table has it, ``split``; empty without a table.

    Raises
    ------
    ConfigError
        If columns are asked for, but trials are not cut from a table.
    SelectionError
        If a column that was asked for is not there.
    """
    if table is None or windows.rows is None:
        if config.trial_columns:
            raise ConfigError(
                f"read.trial_columns {list(config.trial_columns)} need trials cut from a table (--trials), not a window"
            )
        return {}
    labels: Labels = {"trial_id": ("trial", plain_column(table, "id")[windows.rows])}
    names = list(config.trial_columns)
    if "split" in table.colnames and "split" not in names and plain_column(table, "split").dtype.kind == "U":
        names.append("split")
    for name in names:
        labels[name] = ("trial", plain_column(table, name)[windows.rows])
    return labels


def _channel_column(source: Source, name: str) -> NDArray[np.generic]:
    if name == "id":
        return source.channel_id
    if name not in source.channel_columns:
        raise SelectionError(
            f"the channels of {source.path!r} have no column {name!r}; choose one of {sorted(source.channel_columns)}"
        )
    return source.channel_columns[name]


def _matches(values: NDArray[np.generic], allowed: Sequence[str | float | bool]) -> NDArray[np.bool_]:
    if values.dtype.kind in "US":
        return np.isin(values.astype(str), [str(value) for value in allowed])
    numbers = [float(value) for value in allowed if not isinstance(value, str)]
    return np.isin(values.astype(float), numbers)
