"""Voltages relative to other electrodes: a common median or average, or the difference of two; and the converter's delays.

A reference at some moment is taken over the electrodes that were observed then. Where fewer than `FEWEST` were, there is none,
and what was stored is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.threads import in_threads, split_range
from nwb_sbtt.signals.blocks import MARGINS_READ, SampleBlock
from nwb_sbtt.signals.filters import Filter, Floats, LowPass

FEWEST = 2
"""Electrodes over which a common reference is taken, at least."""
PASSED = 0.4
"""Highest frequency, as a share of the sampling rate, that delays of the converter leave as it is."""
AT_ONCE = 1 << 17
"""Entries of which the reference is taken at once."""

How = Literal["median", "average", "bipolar"]


@dataclass(frozen=True)
class Montage:
    """What the voltage of each electrode is measured against.

    Parameters
    ----------
    how : "median", "average" or "bipolar"
    groups : int array (column)
        Number of the group of each electrode that is read; a common reference is that of its group.
    scale : array (column)
        Volts per stored unit.
    delay : array (column)
        By which part of a sampling period each electrode is sampled later than the first.
    outputs : int array (channel)
        Columns that are wanted.
    partners : int array (channel)
        Column that is subtracted from each of them, where pairs are; empty otherwise.
    dtype : dtype
        Of the arithmetic.
    """

    how: How
    groups: NDArray[np.intp]
    scale: NDArray[np.float64]
    delay: NDArray[np.float64]
    outputs: NDArray[np.intp]
    partners: NDArray[np.intp]
    dtype: np.dtype[Any]

    @property
    def needed(self) -> NDArray[np.bool_]:
        """Columns (column) that the outputs need."""
        needed = np.isin(self.groups, self.groups[self.outputs]) & (self.how != "bipolar")
        needed[self.outputs] = True
        needed[self.partners] = True
        return np.asarray(needed)

    def of(self, outputs: NDArray[np.intp], partners: NDArray[np.intp], columns: NDArray[np.bool_]) -> Montage:
        """Return the same montage of some columns, with other outputs.

        Parameters
        ----------
        outputs, partners : int array (channel)
            As of the montage, before columns are left out; all of them are kept.
        columns : bool array (column)
            To keep.
        """
        number = np.cumsum(columns) - 1
        return replace(
            self,
            groups=self.groups[columns],
            scale=self.scale[columns],
            delay=self.delay[columns],
            outputs=number[outputs],
            partners=number[partners],
        )

    @property
    def margin(self) -> int:
        """Samples needed on either side of those that are wanted."""
        return MARGINS_READ * self._shift.margin if self.delay.any() else 0

    def apply(self, block: SampleBlock, level: Floats) -> SampleBlock:
        """Measure the samples of a block against their references.

        Parameters
        ----------
        block : SampleBlock
            Of all columns, with `margin` samples on either side; is overwritten.
        level : array (column)
            Usual value of each electrode: a median is taken of what lies above it, or else constant offsets would decide it.

        Returns
        -------
        SampleBlock
            Of the outputs, without the margin.
        """
        if self.delay.any():
            block.fill(self._shift)
            values = self._at_one_moment(block)
            block = replace(block.part(self.margin, len(block.observed) - self.margin), values=values)
        observed = block.observed_entries()
        if self.how == "bipolar":
            ratio = (self.scale[self.partners] / self.scale[self.outputs]).astype(block.values.dtype)
            pairs = block.values[:, self.outputs] - block.values[:, self.partners] * ratio
            both = None if observed is None else observed[:, self.outputs] & observed[:, self.partners]
            return block.of(pairs if both is None else pairs * both, both, self.outputs)
        groups, sizes = np.unique(self.groups, return_counts=True)
        if observed is None and (sizes < FEWEST).any():
            observed = np.ones(block.values.shape, dtype=bool)
        for group in groups[np.isin(groups, self.groups[self.outputs])]:
            self._subtract(block.values, observed, np.flatnonzero(self.groups == group), level)
        return block.of(
            block.values[:, self.outputs], None if observed is None else observed[:, self.outputs], self.outputs
        )

    def _subtract(
        self, values: Floats, observed: NDArray[np.bool_] | None, columns: NDArray[np.intp], level: Floats
    ) -> None:
        """Subtract the reference of one group in place, and mark what has none as missing."""
        selected: slice | NDArray[np.intp] = columns
        if columns[-1] - columns[0] == len(columns) - 1:
            selected = slice(int(columns[0]), int(columns[-1]) + 1)
        scale = (self.scale[columns] / np.abs(self.scale[columns]).max()).astype(values.dtype)
        above = level[columns].astype(values.dtype)
        step = max(AT_ONCE // len(columns), 1)

        def subtract(rows: range) -> None:
            for first in range(rows.start, rows.stop, step):
                part = slice(first, min(first + step, rows.stop))
                samples = (values[part, selected] - above) * scale
                if observed is None or observed[part, selected].all():
                    middle = np.median(samples, axis=1) if self.how == "median" else samples.mean(axis=1)
                    values[part, selected] -= middle[:, None] / scale
                    continue
                counts = observed[part, selected].sum(axis=1)
                there = observed[part, selected] & (counts >= FEWEST)[:, None]
                if self.how == "median":
                    middle = _median(np.where(there, samples, np.inf), counts)
                else:
                    middle = np.where(there, samples, 0).sum(axis=1) / np.maximum(counts, 1)
                values[part, selected] = np.where(there, values[part, selected] - middle[:, None] / scale, 0)
                observed[part, selected] = there

        in_threads(subtract, split_range(0, len(values), size=step))

    @cached_property
    def _shift(self) -> Filter:
        return Filter(LowPass(cut=0.5, width=2 * (0.5 - PASSED)), dtype=self.dtype)

    def _at_one_moment(self, block: SampleBlock) -> Floats:
        """Values (time, column) of a bridged block, less its margin, when the first electrode was sampled."""
        first, n = block.first + self.margin, len(block.observed) - 2 * self.margin
        shifted = np.empty((n, block.values.shape[1]), dtype=block.values.dtype)
        for delay in np.unique(self.delay):
            columns = np.flatnonzero(self.delay == delay)
            if delay == 0:
                shifted[:, columns] = block.values[self.margin : self.margin + n, columns]
                continue
            positions = np.arange(first, first + n) - delay
            samples = np.ascontiguousarray(block.values[:, columns])
            shifted[:, columns] = self._shift.apply(samples, first=block.first, positions=positions)
        return shifted


def _median(samples: Floats, counts: NDArray[np.intp]) -> Floats:
    """Median (row) of the first `counts` of the rising values of each row; 0 where there are none."""
    ordered = np.sort(samples, axis=1)
    last = samples.shape[1] - 1
    middle = [
        np.take_along_axis(ordered, np.clip(which, 0, last)[:, None], axis=1)[:, 0]
        for which in ((counts - 1) // 2, counts // 2)
    ]
    mean = (middle[0] + middle[1]) / 2
    return np.asarray(np.where(np.isfinite(mean), mean, 0))
