"""Zero-phase filters that are evaluated only where a value is wanted.

A symmetric filter needs the samples within its half-length and no others, so a recording filtered piece by piece equals
the recording filtered whole, and a value is computed once per bin rather than once per sample. Positions are in samples
and need not be whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nwb_sbtt.data.threads import in_threads, shares, single_blas

ATTENUATION = 50.0
"""Decibels by which the stop band lies below the pass band."""
FINEST = 256
TABLE = 2**16
"""Positions are rounded to this fraction of a sample, or a coarser one where a filter is so long that its table of weights
would hold more than twice this many."""
CACHE_BYTES = 2**24
LARGEST_GROUP = 96
"""Positions computed by one product. Its matrix is a band, mostly zeros where the group is larger than the filter is long;
smaller groups keep the processor waiting. Measured best for 400 to 3000 weights."""

Floats = NDArray[np.floating[Any]]


class Kernel(Protocol):
    """A symmetric weighting of samples by their lag; no weight lies beyond `half` samples."""

    @property
    def half(self) -> float: ...  # noqa: D102
    def weights(self, lags: Floats) -> Floats:
        """Weights for rows of lags (position, sample), each row a whole kernel."""
        ...


@dataclass(frozen=True)
class LowPass:
    """Windowed sinc (Kaiser): passes below ``cut - width / 2``, stops above ``cut + width / 2``, cycles per sample."""

    cut: float
    width: float

    @property
    def half(self) -> float:
        """Samples to either side."""
        return (ATTENUATION - 7.95) / (14.36 * self.width) / 2

    def weights(self, lags: Floats) -> Floats:
        """Weights that sum to one in each row."""
        beta = 0.1102 * (ATTENUATION - 8.7)
        window = np.i0(beta * np.sqrt(np.clip(1 - (lags / self.half) ** 2, 0, None))) * (np.abs(lags) <= self.half)
        weights = np.sinc(2 * self.cut * lags) * window
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class BandPass:
    """Difference of two low passes; a constant gives exactly zero."""

    low: LowPass
    high: LowPass

    @property
    def half(self) -> float:
        """Samples to either side."""
        return max(self.low.half, self.high.half)

    def weights(self, lags: Floats) -> Floats:
        """Weights that sum to zero in each row."""
        return self.high.weights(lags) - self.low.weights(lags)


@dataclass(frozen=True)
class Gaussian:
    """Bell of standard deviation `sd` samples, cut at four; for weighted means."""

    sd: float

    @property
    def half(self) -> float:
        """Samples to either side."""
        return 4 * self.sd

    def weights(self, lags: Floats) -> Floats:
        """Weights, one at lag zero."""
        return np.asarray(np.exp(-0.5 * (lags / self.sd) ** 2) * (np.abs(lags) <= self.half))


class Filter:
    """A kernel made ready to be applied to blocks of samples.

    Parameters
    ----------
    kernel : Kernel
    dtype : dtype
        Of the weights, and so of the arithmetic.
    """

    def __init__(self, kernel: Kernel, *, dtype: DTypeLike = np.float32) -> None:
        self.margin = int(np.ceil(kernel.half)) + 1
        """Samples that a block must hold on either side of every position."""
        # A power of two, so that halves of a sample, where the centres of bins often lie, are exact.
        self._phases = 2 ** int(np.clip(np.log2(TABLE / self.margin), 1, np.log2(FINEST)))
        lags = np.arange(self._phases)[:, None] / self._phases - np.arange(1 - self.margin, self.margin + 1)
        table = kernel.weights(lags)
        self._table = table.astype(dtype)
        self._leaning = (np.abs(table) / np.abs(table).sum(axis=1, keepdims=True)).astype(np.float32)
        self._cache: dict[tuple[bool, bytes], Floats] = {}
        self._cached = 0
        self._lock = Lock()

    def apply(self, samples: Floats, *, first: int, positions: NDArray[np.float64]) -> Floats:
        """Filtered values at rising positions.

        Parameters
        ----------
        samples : array (time, channel)
            Finite; `margin` samples more than the positions on either side.
        first : int
            Position of the first sample.
        positions : array (position)
            Rising, in samples.

        Returns
        -------
        array (position, channel)
        """
        return self._evaluate(samples, first, positions, leaning=False)

    def support(self, observed: Floats, *, first: int, positions: NDArray[np.float64]) -> Floats:
        """Share of the filter's absolute weight that lies on observed samples (1 or 0), array (position, channel)."""
        return self._evaluate(observed, first, positions, leaning=True)

    def _evaluate(self, samples: Floats, first: int, positions: NDArray[np.float64], *, leaning: bool) -> Floats:
        ticks = np.rint(np.asarray(positions) * self._phases).astype(np.int64)
        whole = ticks // self._phases
        result = np.empty((len(ticks), samples.shape[1]), dtype=np.result_type(samples, self._table))
        ends = np.searchsorted(whole, whole + 2 * self.margin, side="right")
        groups, start = [], 0
        while start < len(ticks):
            stop = min(start + LARGEST_GROUP, int(ends[start]))
            groups.append((start, stop))
            start = stop

        def evaluate(some: range) -> None:
            for start, stop in groups[some.start : some.stop]:
                matrix = self._matrix(ticks[start:stop] - whole[start] * self._phases, leaning=leaning)
                begin = int(whole[start]) - self.margin + 1 - first
                np.matmul(matrix, samples[begin : begin + matrix.shape[1]], out=result[start:stop])

        with single_blas():
            in_threads(evaluate, shares(0, len(groups)))
        return result

    def _matrix(self, ticks: NDArray[np.int64], *, leaning: bool) -> Floats:
        """Weights (position, sample) of one group; most groups of a recording share theirs."""
        key = (leaning, ticks.tobytes())
        with self._lock:
            matrix = self._cache.get(key)
            if matrix is None:
                table = self._leaning if leaning else self._table
                length = table.shape[1]
                matrix = np.zeros((len(ticks), int(ticks[-1]) // self._phases + length), dtype=table.dtype)
                for row, tick in enumerate(ticks):
                    whole, phase = divmod(int(tick), self._phases)
                    matrix[row, whole : whole + length] = table[phase]
                while self._cache and self._cached + matrix.nbytes > CACHE_BYTES:
                    self._cached -= self._cache.pop(next(iter(self._cache))).nbytes
                self._cache[key] = matrix
                self._cached += matrix.nbytes
        return matrix
