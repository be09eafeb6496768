"""Several series on one grid become one set of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.grid import Binned, Grid, Source
from nwb_sbtt.errors import DataError, SelectionError

SAME = 1e-6


@dataclass(frozen=True)
class Joined:
    """Channels of all sources, each channel once.

    `source` and `place` say, for each channel, the first source that has it and which of that source's channels it is.
    """

    binned: Binned
    source: NDArray[np.intp]
    place: NDArray[np.intp]
    notes: tuple[str, ...] = ()


def join(sources: Sequence[Source], grid: Grid) -> Joined:
    """Bin every source and put the channels side by side.

    The same row of the same table in several series (consecutive recordings, an electrode bank that is switched) is one
    channel: observed where any series observed it. Where two series share a bin, counts of disjoint parts of it add up,
    and the mean of two samples is taken if the series touch there, one ending and the other beginning.

    Raises
    ------
    SelectionError
        If the sources are of different kinds, or in different units.
    DataError
        If two series give different values for one channel at the same time.
    """
    _check_alike(sources)
    columns = _columns(sources)
    source = np.concatenate([np.full(len(each.channel_id), i) for i, each in enumerate(sources)])
    place = np.concatenate([np.arange(len(each.channel_id)) for each in sources])
    target = np.concatenate(columns)
    _, firsts = np.unique(target, return_index=True)
    if len(sources) == 1 and len(firsts) == len(target):
        only = sources[0].bin(grid)
        return Joined(only, source, place, only.notes)
    total = _Total.empty((*grid.shape, len(firsts)))
    owners: list[list[Source]] = [[] for _ in firsts]
    notes = [f"{len(target) - len(firsts)} channels are in several series; each is one channel, observed where any is"]
    notes = notes if len(target) > len(firsts) else []
    for i, each in enumerate(sources):
        binned, averaged = each.bin(grid), 0
        notes += binned.notes
        for channel, column in enumerate(columns[i]):
            n_unequal = total.add(binned, channel, column, sums=each.unit == "counts")
            if n_unequal:
                nearest = max(owners[column], key=lambda other: _common_time(other, each))
                if nearest is each or each.unit == "counts" or _common_time(nearest, each) >= grid.bin_width:
                    raise DataError(_conflict(nearest, each, channel=channel, n=n_unequal))
                averaged += n_unequal
            owners[column].append(each)
        if averaged:
            notes.append(
                f"{averaged} entries lie where {each.path!r} follows another series: the mean of both is taken"
            )
    return Joined(total.binned(), source[firsts], place[firsts], tuple(notes))


@dataclass(frozen=True)
class _Total:
    """What the sources read so far observed; arrays (trial, time, channel)."""

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    exposure: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> _Total:
        return cls(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool), np.ones(shape, dtype=np.float32))

    def add(self, binned: Binned, channel: int, column: int, *, sums: bool) -> int:
        """Add one channel of a source to a column; gives the number of entries where the two say different things."""
        there, values = binned.observed[:, :, channel], binned.values[:, :, channel]
        share = np.ones_like(values) if binned.exposure is None else binned.exposure[:, :, channel]
        both = there & self.observed[:, :, column]
        fresh = there & ~both
        self.values[fresh, column] = values[fresh]
        self.exposure[fresh, column] = share[fresh]
        self.observed[:, :, column] |= there
        old, new = self.values[both, column], values[both]
        watched = self.exposure[both, column] + share[both]
        adds = sums & (watched <= 1 + SAME)
        self.values[both, column] = np.where(adds, old + new, np.where(old == new, old, (old + new) / 2))
        longest = np.maximum(self.exposure[both, column], share[both])
        self.exposure[both, column] = np.where(adds, np.minimum(watched, 1), longest)
        return int((~adds & (old != new)).sum())

    def binned(self) -> Binned:
        partly = bool((self.exposure[self.observed] != 1).any())
        return Binned(self.values, self.observed, self.exposure if partly else None)


def _columns(sources: Sequence[Source]) -> list[NDArray[np.intp]]:
    """Column of each channel of each source: one for each (table, row), in order of appearance."""
    known: dict[tuple[str, int], int] = {}
    return [
        np.array([known.setdefault((each.table, int(row)), len(known)) for row in each.channel_row], dtype=np.intp)
        for each in sources
    ]


def _common_time(first: Source, second: Source) -> float:
    """Seconds that two series share; negative where there is time between them."""
    return min(first.span[1], second.span[1]) - max(first.span[0], second.span[0])


def _conflict(earlier: Source, later: Source, *, channel: int, n: int) -> str:
    name = f"channel {later.channel_id[channel]} of {later.table!r}"
    if earlier is later:
        return f"{name} is in {later.path!r} twice, with different values in {n} bins; repair the series' region"
    return (
        f"{earlier.path!r} and {later.path!r} give different values for {name} in {n} bins; they are not parts of one "
        "recording: name one of them in `series`"
    )


def _check_alike(sources: Sequence[Source]) -> None:
    kinds = {each.kind for each in sources}
    units = {each.unit for each in sources}
    if len(kinds) > 1:
        named = ", ".join(f"{each.path!r} ({each.kind})" for each in sources)
        raise SelectionError(f"series of different kinds cannot be one data set: {named}; choose series of one kind")
    if len(units) > 1:
        named = ", ".join(f"{each.path!r} [{each.unit}]" for each in sources)
        raise SelectionError(f"series in different units cannot be one data set: {named}; choose series of one unit")
