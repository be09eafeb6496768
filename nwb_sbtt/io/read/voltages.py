"""Prepare an ElectricalSeries for reading: its electrodes, times, scale, references and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb.ecephys import ElectricalSeries

from nwb_sbtt.config import ElectricalConfig, ReadConfig
from nwb_sbtt.data.intervals import padded
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.bands import check_bands, doubts_on_feature
from nwb_sbtt.io.read.clock import sample_clock
from nwb_sbtt.io.read.description import describe_samples
from nwb_sbtt.io.read.electrical import UNITS, ElectricalSource
from nwb_sbtt.io.read.indices import region_rows, row_ids
from nwb_sbtt.io.read.labels import REFERENCE_ID
from nwb_sbtt.io.read.layout import sample_layout
from nwb_sbtt.io.read.masks import invalid_intervals, obs_intervals, stored_masks
from nwb_sbtt.io.read.montage import find_montage, note_on_montage
from nwb_sbtt.io.read.neurodata import holds_numbers, reader
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.recording import LONGEST_LOSS, Recording, find_pieces
from nwb_sbtt.io.read.runs import SpacedSlabs
from nwb_sbtt.io.read.slabs import Slabs
from nwb_sbtt.io.read.tables import note_on_ids, plain_columns


@reader("ElectricalSeries", kind="electrodes", readable=holds_numbers, describe=describe_samples)
def electrical_source(nwbfile: Any, series: ElectricalSeries, config: ReadConfig) -> ElectricalSource:
    """Prepare an ElectricalSeries for reading.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    series : pynwb.ecephys.ElectricalSeries
        Data (time, electrode) or, recognised by the number of electrodes, (electrode, time); column c is row
        ``series.electrodes.data[c]`` of the table of electrodes.
    config : ReadConfig

    Raises
    ------
    DataError
        If `electrodes` names rows that the table does not have, the shape fits neither orientation, the scale of the data is
        not finite, or their times are not usable.
    """
    path = in_file_path(nwbfile, series)
    rows = region_rows(series.electrodes, path=path)
    layout = sample_layout(series)
    slabs = Slabs(series.data, transposed=layout.transposed)
    scale = _scale(series, n_electrodes=len(rows))
    clock = sample_clock(series, n_samples=layout.n_samples, missing_value=config.missing_value)
    pieces, runs = find_pieces(clock, series.name)
    longest = max(piece.span[1] - piece.span[0] for piece in pieces)
    check_bands(config.electrical, path, rate=pieces[0].rate, longest=longest)
    table = series.electrodes.table
    ids = row_ids(table, path=table.name)
    notes = [*layout.notes, *clock.notes, *note_on_ids(ids[np.unique(rows)], table.name)]
    notes += doubts_on_feature(config.electrical, path, rate=1 / clock.period if clock.period else 0.0)
    masks, remarks = stored_masks(
        nwbfile, series, config, span=clock.span, period=clock.period, missing_time=clock.missing_time
    )
    notes += remarks
    obs = obs_intervals(table, table.name) if config.obs_intervals else None
    if obs is not None:
        notes.append(f"electrodes of {path!r} count as observed only within the obs_intervals of {table.name!r}")
    if len(pieces) > 1:
        plural = "s" if len(pieces) > 2 else ""
        notes.append(
            f"{series.name!r}: {len(pieces) - 1} gap{plural} in the timestamps; each part is filtered separately"
        )
    if runs is not None:
        n_short = len(runs.firsts) - len(pieces)
        notes.append(
            f"{series.name!r}: {n_short} gap{'s' if n_short > 1 else ''} of no more than {LONGEST_LOSS:g} s in the "
            f"timestamps; the {runs.n_samples - int(runs.lengths.sum())} lost samples are treated as missing"
        )
    pad = config.electrical.pad or 0.0
    # Float32 holds all digits of what is stored in two bytes, or in float32.
    narrow = (slabs.dtype.kind in "iu" and slabs.dtype.itemsize <= 2) or slabs.dtype in (np.float16, np.float32)
    dtype = np.dtype(np.float32 if narrow else np.float64)
    notes += _note_on_unknown(config.electrical, ids, table.name)
    montage = find_montage(config.electrical, table, rows, scale=scale, dtype=dtype)
    # Of pairs, the last electrode of each group has none to be measured against.
    of_channels = np.arange(len(rows)) if montage is None else montage.outputs
    columns = {name: values[rows[of_channels]] for name, values in plain_columns(table).items()}
    if montage is not None:
        notes.append(note_on_montage(config.electrical, montage, path))
        if montage.how == "bipolar":
            columns[REFERENCE_ID] = ids[rows[montage.partners]]
    return ElectricalSource(
        path=path,
        unit=UNITS[config.electrical.feature],
        channel_id=ids[rows[of_channels]],
        channel_row=rows[of_channels],
        channel_columns=columns,
        span=clock.span,
        sampling_period=clock.period or 0.0,
        notes=tuple(notes),
        scale=scale[of_channels],
        recording=Recording(
            series=series,
            config=config,
            slabs=slabs if runs is None else SpacedSlabs(slabs, runs),
            pieces=pieces,
            channel_rows=rows,
            ids=ids[rows],
            volts=scale,
            dtype=dtype,
            invalid=padded(invalid_intervals(nwbfile, config, series), pad, pad),
            masks=masks,
            observed_intervals=None if obs is None else tuple(obs[row] for row in rows),
            montage=montage,
            runs=runs,
        ),
        config=config,
    )


def _scale(series: ElectricalSeries, *, n_electrodes: int) -> NDArray[np.float64]:
    """Volts per stored unit, (electrode)."""
    factors = np.ones(n_electrodes) if series.channel_conversion is None else np.asarray(series.channel_conversion[:])
    if factors.shape != (n_electrodes,):
        raise DataError(
            f"channel_conversion of {series.name!r} has shape {factors.shape}; expected one for each of {n_electrodes} "
            "electrodes"
        )
    scale = float(series.conversion) * factors.astype(np.float64)
    if not (np.isfinite(scale) & (scale != 0)).all():
        raise DataError(
            f"conversion and channel_conversion of {series.name!r} must be finite and not 0 for every electrode"
        )
    return scale


def _note_on_unknown(config: ElectricalConfig, ids: NDArray[np.generic], table: str) -> tuple[str, ...]:
    """A note on bad electrodes that the settings name and the table of electrodes does not have."""
    if isinstance(config.bad_channels, str):
        return ()
    known = set(ids.astype(str).tolist())
    unknown = [str(each) for each in config.bad_channels if str(each) not in known]
    if not unknown:
        return ()
    return (
        f"read.electrical.bad_channels names {', '.join(unknown)}, which are not in {table!r}; its ids are {ids[0]} "
        f"to {ids[-1]}",
    )
