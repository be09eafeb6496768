"""Runs of samples that are stored without a gap, laid out so that the samples lost between them have numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.io.read.slabs import Slabs


@dataclass(frozen=True)
class Runs:
    """Where runs of stored samples lie in a recording; arrays (run), all rising.

    Parameters
    ----------
    firsts : int array
        Sample of the recording at which each run begins.
    rows : int array
        Row of the stored array that this sample is.
    lengths : int array
        Samples in each run.
    """

    firsts: NDArray[np.intp]
    rows: NDArray[np.intp]
    lengths: NDArray[np.intp]

    @property
    def n_samples(self) -> int:
        """Samples of the recording, stored and lost."""
        return int(self.firsts[-1] + self.lengths[-1])

    def stored(self, first: int, stop: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Find the stored rows of samples `first` to `stop` − 1.

        Parameters
        ----------
        first, stop : int

        Returns
        -------
        rows : int array (stored sample)
            Rising.
        is_stored : bool array (sample)
            Which of the samples they are.
        """
        samples = np.arange(first, max(stop, first))
        run = np.searchsorted(self.firsts, samples, side="right") - 1
        within = samples - self.firsts[run]
        is_stored = (run >= 0) & (within < self.lengths[run])
        return (self.rows[run] + within)[is_stored], is_stored


class SpacedSlabs:
    """A stored array as `Slabs` reads it, with a row for every sample that was lost.

    These rows hold 0 and 1 in turn: whoever looks for runs of identical samples finds none to look at there.

    Parameters
    ----------
    slabs : Slabs
    runs : Runs

    Attributes
    ----------
    n_rows, n_columns : int
        `n_rows` counts lost samples.
    dtype : dtype
    chunk_rows : int
    """

    def __init__(self, slabs: Slabs, runs: Runs) -> None:
        self._slabs, self._runs = slabs, runs
        self.n_rows, self.n_columns = runs.n_samples, slabs.n_columns
        self.dtype, self.chunk_rows = slabs.dtype, slabs.chunk_rows

    def only(self, columns: NDArray[np.intp]) -> SpacedSlabs:
        """Return the same array with some of its columns.

        Parameters
        ----------
        columns : int array
        """
        return SpacedSlabs(self._slabs.only(columns), self._runs)

    @property
    def in_parts(self) -> bool:
        """Whether some ranges are to be read again and again, as `keep` was told."""
        return self._slabs.in_parts

    def keep(self, ranges: Sequence[tuple[int, int]], *, limit: float) -> None:
        """Keep some ranges in memory, as `Slabs` does.

        Parameters
        ----------
        ranges : sequence of (int, int)
            First sample of each and the one after its last.
        limit : float
            Bytes.
        """
        stored = [self._runs.stored(max(first, 0), min(stop, self.n_rows))[0] for first, stop in ranges]
        self._slabs.keep([(int(rows[0]), int(rows[-1]) + 1) for rows in stored if len(rows)], limit=limit)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Read some samples.

        Parameters
        ----------
        first, stop : int
            Samples `first` to `stop` − 1, or as many of them as there are.

        Returns
        -------
        array (sample, column)
            As it is stored; may be a view of memory that the next range replaces.
        """
        first, stop = max(first, 0), min(stop, self.n_rows)
        rows, is_stored = self._runs.stored(first, stop)
        if len(rows) == len(is_stored) > 0 and rows[-1] - rows[0] == len(rows) - 1:
            return self._slabs.read(int(rows[0]), int(rows[-1]) + 1)
        spaced = np.empty((len(is_stored), self.n_columns), dtype=self.dtype)
        spaced[~is_stored] = (np.flatnonzero(~is_stored) % 2)[:, None]
        if len(rows):
            spaced[is_stored] = self._slabs.read(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]]
        return spaced
