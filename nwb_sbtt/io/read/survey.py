"""What parts of a recording show of it: electrodes that are bad, and line noise in the band that is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.recording import Piece, Recording
from nwb_sbtt.signals.notch import harmonics_in
from nwb_sbtt.signals.quality import bad_electrodes, line_noise

N_PARTS, SECONDS = 8, 0.5
"""Parts that are looked at, and how long each is at most."""
LEAST_SHARE = 0.1
"""Share of the variance of a band from which on line noise is worth a note."""
MOST_NAMED = 20
"""Most electrodes that a note names."""

Extents = Sequence[tuple[Piece, int, int]]
"""Piece, first sample and the one after the last of each part."""


def parts_of(recording: Recording, grid: Grid) -> Extents:
    """Spread parts over the windows of a grid, so that little is read that is not needed anyway.

    Parameters
    ----------
    recording : Recording
    grid : Grid
    """
    length = grid.n_bins * grid.bin_width
    half = min(SECONDS, length * len(grid.starts) / N_PARTS) / 2
    extents = []
    for share in (np.arange(N_PARTS) + 0.5) / N_PARTS:
        window, within = divmod(share * len(grid.starts), 1.0)
        middle = grid.starts[int(window)] + within * length
        for piece in recording.pieces:
            start, stop = piece.span
            if start <= middle < stop:
                first, last = piece.edges(np.array([middle - half, middle + half]))
                extents.append((piece, int(first), int(last)))
    return extents


def electrodes_to_avoid(
    recording: Recording, config: ElectricalConfig, extents: Extents
) -> dict[str, NDArray[np.bool_]]:
    """Find or look up the electrodes that are bad.

    Parameters
    ----------
    recording : Recording
    config : ElectricalConfig
        With `bad_channels`.
    extents : sequence
        Parts by which electrodes are judged, unless settings want all of the recording to be looked at.

    Returns
    -------
    dict of str to bool array (column)
        What is wrong with them.

    Raises
    ------
    SelectionError
        If the settings name all electrodes.
    """
    if config.bad_channels == "off":
        return {}
    if not isinstance(config.bad_channels, str):
        named = np.isin(recording.ids.astype(str), [str(each) for each in config.bad_channels])
        if named.all():
            raise SelectionError("read.electrical.bad_channels names all electrodes that are read; leave some")
        return {"named in read.electrical.bad_channels": named}
    if config.bad_channels == "auto":
        # What is unobserved must not follow from the windows.
        extents = list(recording.parts(int(SECONDS * recording.pieces[0].rate)))
    groups = np.zeros(len(recording.ids), dtype=np.intp) if recording.montage is None else recording.montage.groups
    volts = np.abs(recording.volts).astype(recording.dtype)
    parts = []
    for piece, first, stop in extents:
        block = recording.stored(piece, first, stop)
        parts.append((block.values * volts, block.observed_entries()))
    return bad_electrodes(parts, groups) if parts else {}


def note_on_lines(
    recording: Recording, path: str, extents: Extents, *, rate: float, band: tuple[float, float]
) -> tuple[str, ...]:
    """Say how much of a band is line noise, where that is much.

    Parameters
    ----------
    recording : Recording
    path : str
        Of the series.
    extents : sequence
        Parts that are looked at.
    rate : float
        Sampling rate in Hz.
    band : (float, float)
        Edges in Hz.
    """
    # Where no line can be, nothing is read.
    if not len(harmonics_in(50.0, band)) and not len(harmonics_in(60.0, band)):
        return ()
    parts = []
    for piece, first, stop in extents:
        block = recording.block(piece, first, stop)
        parts.append((block.values.copy(), block.observed_entries()))
    line, shares, harmonics = line_noise(parts, rate=rate, band=band)
    much = shares >= LEAST_SHARE
    if not much.any():
        return ()
    listed = ", ".join(f"{each:g}" for each in harmonics[:4]) + (", …" if len(harmonics) > 4 else "")
    reference = (
        "" if recording.montage is not None else ", or read.electrical.reference=median where electrodes share them"
    )
    return (
        f"{path!r}: lines at {listed} Hz are {shares[much].mean():.0%} of the variance in the band of {band[0]:g} to "
        f"{band[1]:g} Hz on {int(much.sum())} of {len(much)} electrodes; read.electrical.notch={line:g} takes them "
        f"out{reference}",
    )


def note_on_electrodes(
    path: str,
    ids: NDArray[np.generic],
    electrodes: NDArray[np.bool_],
    remark: str,
    *,
    seconds: NDArray[np.floating] | None = None,
) -> tuple[str, ...]:
    """Note a remark on some electrodes of a series.

    Parameters
    ----------
    path : str
        Of the series.
    ids : array (electrode)
    electrodes : bool array (electrode)
        On which.
    remark : str
        With "electrodes" as its subject.
    seconds : array (electrode), optional
        How long it holds for each.

    Returns
    -------
    tuple of str
        Empty where there are none.
    """
    named = [str(each) for each in ids[electrodes].tolist()]
    if not named:
        return ()
    if seconds is not None:
        named = [f"{name} ({each:.3g} s)" for name, each in zip(named, seconds[electrodes], strict=True)]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return (
        f"{len(named)} of {len(electrodes)} electrodes of {path!r} {remark}: [{', '.join(named[:MOST_NAMED])}]{more}",
    )
