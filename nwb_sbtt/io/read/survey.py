"""What parts of a recording show of it: electrodes that are bad, and line noise in the band that is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.recording import Piece, Recording
from nwb_sbtt.signals.notch import harmonics_in
from nwb_sbtt.signals.quality import LINES, Spectrum, Traits, bad_electrodes, line_noise, spectrum, traits

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
                first = int(piece.edges(np.array([middle - half]))[0])
                # All as long as each other, whatever the rate, or their spectra could not be added up.
                extents.append((piece, first, min(first + round(2 * half * piece.rate), piece.stop)))
    return extents


@dataclass(frozen=True)
class Survey:
    """What parts of a recording show of it.

    Parameters
    ----------
    bad : dict of str to bool array (column)
        Bad electrodes, by what is wrong with them.
    recording : Recording
        Without those that shall not be read.
    notes : tuple of str
        On line noise, if there is much.
    """

    bad: dict[str, NDArray[np.bool_]]
    recording: Recording
    notes: tuple[str, ...]


def survey(
    recording: Recording, config: ElectricalConfig, extents: Extents, *, path: str, band: tuple[float, float] | None
) -> Survey:
    """Find, or look up, bad electrodes, and look for line noise in the others.

    Parameters
    ----------
    recording : Recording
    config : ElectricalConfig
        With `bad_channels`.
    extents : sequence
        Parts that are looked at. Electrodes that shall be left out are judged by parts of the whole recording instead, as what
        is unobserved must not follow from the windows.
    path : str
        Of the series.
    band : (float, float) or None
        Edges in Hz of the band in which lines are looked for; None where they are not.

    Raises
    ------
    SelectionError
        If the settings name all electrodes.
    """
    # Where no line can be, nothing is read.
    if band is not None and not any(len(harmonics_in(line, band)) for line in LINES):
        band = None
    if config.bad_channels == "note":
        traits_of_parts, spectra = _look(recording, extents, judged=True, band=band)
        return Survey(
            _found(recording, traits_of_parts), recording, _note_on_lines(recording, path, spectra, band=band)
        )
    bad: dict[str, NDArray[np.bool_]] = {}
    if config.bad_channels == "auto":
        parts = list(recording.parts(int(SECONDS * recording.pieces[0].rate)))
        bad = _found(recording, _look(recording, parts, judged=True, band=None)[0])
    elif config.bad_channels != "off":
        bad = {"named in read.electrical.bad_channels": _named(recording, config.bad_channels)}
    left_out = np.any([np.zeros(len(recording.ids), dtype=bool), *bad.values()], axis=0)
    if left_out.any():
        recording = recording.without(left_out)
    _, spectra = _look(recording, extents, judged=False, band=band)
    return Survey(bad, recording, _note_on_lines(recording, path, spectra, band=band))


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


def _named(recording: Recording, electrodes: Sequence[int | str]) -> NDArray[np.bool_]:
    """Columns (column) of electrodes that are given by their ids."""
    named = np.isin(recording.ids.astype(str), [str(each) for each in electrodes])
    if named.all():
        raise SelectionError("read.electrical.bad_channels contains all electrodes that are read; keep at least one")
    return named


def _found(recording: Recording, parts: Sequence[Traits]) -> dict[str, NDArray[np.bool_]]:
    """Columns (column) of bad electrodes, by what is wrong with them."""
    groups = np.zeros(len(recording.ids), dtype=np.intp) if recording.montage is None else recording.montage.groups
    return bad_electrodes(parts, groups) if parts else {}


def _look(
    recording: Recording, extents: Extents, *, judged: bool, band: tuple[float, float] | None
) -> tuple[list[Traits], list[Spectrum]]:
    """Measure traits of electrodes as they are stored, where these are judged, and spectra of what is read of them.

    Each part is read from the file once.
    """
    of_parts: list[Traits] = []
    spectra: list[Spectrum] = []
    volts = np.abs(recording.volts).astype(recording.dtype)
    as_stored = recording.montage is None and recording.notch is None
    for piece, first, stop in extents if judged or band is not None else ():
        # What is measured against a reference needs samples on either side, so it comes first.
        block = (
            recording.stored(piece, first, stop) if band is None or as_stored else recording.block(piece, first, stop)
        )
        if band is not None:
            observed = block.observed_entries()
            spectra.append(spectrum(block.values, observed, rate=piece.rate, highest=band[1]))
        if judged:
            block = block if band is None or as_stored else recording.stored(piece, first, stop)
            of_parts.append(traits(block.values * volts, block.observed_entries()))
    return of_parts, spectra


def _note_on_lines(
    recording: Recording, path: str, spectra: Sequence[Spectrum], *, band: tuple[float, float] | None
) -> tuple[str, ...]:
    """Say how much of a band is line noise, where that is much."""
    if band is None or not spectra:
        return ()
    line, shares, harmonics = line_noise(spectra, rate=recording.pieces[0].rate, band=band)
    much = shares >= LEAST_SHARE
    if not much.any():
        return ()
    listed = ", ".join(f"{each:g}" for each in harmonics[:4]) + (", …" if len(harmonics) > 4 else "")
    reference = (
        "" if recording.montage is not None else ", or try read.electrical.reference=median if electrodes share it"
    )
    return (
        f"{path!r}: line noise at {listed} Hz is {shares[much].mean():.0%} of the variance in the band of {band[0]:g} "
        f"to {band[1]:g} Hz on {int(much.sum())} of {len(much)} electrodes; remove it with "
        f"read.electrical.notch={line:g}{reference}",
    )
