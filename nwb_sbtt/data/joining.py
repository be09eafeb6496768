"""Several series on one grid, joined to one set of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.grid import Binned, Grid, Source, band_of
from nwb_sbtt.errors import DataError, SelectionError

EXPOSURE_TOLERANCE = 1e-6
"""Two observed shares of a bin that exceed 1 together by no more than this are disjoint parts of it."""


@dataclass(frozen=True)
class Joined:
    """Channels of all sources, each channel once.

    Parameters
    ----------
    binned : Binned
    source : int array (channel)
        Number of the first source that has the channel.
    source_channel : int array (channel)
        Which of that source's channels it is.
    notes : tuple of str
        One-line remarks for the user.
    """

    binned: Binned
    source: NDArray[np.intp]
    source_channel: NDArray[np.intp]
    notes: tuple[str, ...] = ()


def join(sources: Sequence[Source], grid: Grid) -> Joined:
    """Bin every source and put the channels side by side.

    The same row of the same table, and of voltages the same band, in several series (consecutive recordings, an electrode bank
    that is switched) is one channel: observed where any series observed it. Where two series share a bin, counts of disjoint
    parts of it add up, and the mean of two samples is taken if the series touch there, one ending and the other beginning.

    Parameters
    ----------
    sources : sequence of Source
        Of one kind, in one unit.
    grid : Grid

    Raises
    ------
    SelectionError
        If the sources are of different kinds, or in different units.
    DataError
        If two series have different values for one channel at the same time.
    """
    _check_alike(sources)
    columns = _columns(sources)
    source_number = np.concatenate([np.full(len(source.channel_id), i) for i, source in enumerate(sources)])
    source_channel = np.concatenate([np.arange(len(source.channel_id)) for source in sources])
    column_of_all = np.concatenate(columns)
    _, firsts = np.unique(column_of_all, return_index=True)
    if len(sources) == 1 and len(firsts) == len(column_of_all):
        binned = sources[0].bin(grid)
        return Joined(binned, source_number, source_channel, binned.notes)
    total = _Total.empty((*grid.shape, len(firsts)))
    owners: list[list[Source]] = [[] for _ in firsts]
    n_shared = len(column_of_all) - len(firsts)
    notes = (
        [f"{n_shared} channels are in several series; each becomes one channel, observed where any of them is"]
        if n_shared
        else []
    )
    for i, source in enumerate(sources):
        binned, averaged = source.bin(grid), 0
        notes += binned.notes
        for channel, column in enumerate(columns[i]):
            n_unequal = total.add(binned, channel, column, sums=source.unit == "counts")
            if n_unequal:
                nearest = max(owners[column], key=lambda owner: _common_time(owner, source))
                same_time = _common_time(nearest, source) >= grid.bin_width
                if nearest is source or source.unit == "counts" or same_time:
                    raise DataError(_conflict(nearest, source, channel=channel, n_bins=n_unequal))
                averaged += n_unequal
            owners[column].append(source)
        if averaged:
            notes.append(
                f"{averaged} entries lie in the bins in which {source.path!r} follows another series: the mean of "
                "both is used"
            )
    return Joined(total.binned(), source_number[firsts], source_channel[firsts], tuple(notes))


@dataclass(frozen=True)
class _Total:
    """Sum of the sources read so far; arrays (trial, time, channel)."""

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    exposure: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> _Total:
        return cls(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool), np.ones(shape, dtype=np.float32))

    def add(self, binned: Binned, channel: int, column: int, *, sums: bool) -> int:
        """Add one channel of a source to a column; returns the number of entries with two different values."""
        observed, values = binned.observed[:, :, channel], binned.values[:, :, channel]
        exposure = np.ones_like(values) if binned.exposure is None else binned.exposure[:, :, channel]
        both = observed & self.observed[:, :, column]
        new = observed & ~both
        self.values[new, column] = values[new]
        self.exposure[new, column] = exposure[new]
        self.observed[:, :, column] |= observed
        before, after = self.values[both, column], values[both]
        exposed = self.exposure[both, column] + exposure[both]
        adds = sums & (exposed <= 1 + EXPOSURE_TOLERANCE)
        mean = np.where(before == after, before, (before + after) / 2)
        self.values[both, column] = np.where(adds, before + after, mean)
        longest = np.maximum(self.exposure[both, column], exposure[both])
        self.exposure[both, column] = np.where(adds, np.minimum(exposed, 1), longest)
        return int((~adds & (before != after)).sum())

    def binned(self) -> Binned:
        partly = bool((self.exposure[self.observed] != 1).any())
        return Binned(self.values, self.observed, self.exposure if partly else None)


def _columns(sources: Sequence[Source]) -> list[NDArray[np.intp]]:
    """Column of each channel of each source: one for each (table, row, band), in order of appearance."""
    numbers: dict[tuple[str, int, str], int] = {}
    return [
        np.array(
            [numbers.setdefault((source.table, int(row), band_of(source)), len(numbers)) for row in source.channel_row],
            dtype=np.intp,
        )
        for source in sources
    ]


def _common_time(first: Source, second: Source) -> float:
    """Seconds that two series share; negative where there is time between them."""
    return min(first.span[1], second.span[1]) - max(first.span[0], second.span[0])


def _conflict(earlier: Source, later: Source, *, channel: int, n_bins: int) -> str:
    name = f"channel {later.channel_id[channel]} of {later.table!r}"
    if earlier is later:
        return (
            f"{name} is in {later.path!r} twice, with different values in {n_bins} bins; correct the rows that the "
            "series refers to"
        )
    return (
        f"{earlier.path!r} and {later.path!r} have different values for {name} in {n_bins} bins, so they are not "
        "parts of one recording; select one of them with `series` (--series)"
    )


def _check_alike(sources: Sequence[Source]) -> None:
    kinds = {source.kind for source in sources}
    units = {source.unit for source in sources}
    if len(kinds) > 1:
        named = ", ".join(f"{source.path!r} ({source.kind})" for source in sources)
        raise SelectionError(f"series of different kinds cannot be combined: {named}; choose series of one kind")
    if len(units) > 1:
        named = ", ".join(f"{source.path!r} [{source.unit}]" for source in sources)
        raise SelectionError(f"series in different units cannot be combined: {named}; choose series of one unit")
