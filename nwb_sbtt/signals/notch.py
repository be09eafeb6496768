"""Line noise taken out of voltages: sinusoids of the line and its harmonics, fitted anew from half a second to the next."""

from __future__ import annotations

from functools import cached_property
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nwb_sbtt.data.threads import in_threads
from nwb_sbtt.signals.blocks import SampleBlock
from nwb_sbtt.signals.filters import COLUMNS_AT_ONCE, Floats

SECONDS = 1.0
"""Length of a window in which the sinusoids are fitted; it sets the width of the notch, ±1 / `SECONDS` Hz."""
SAMPLES_PER_TERM = 10
"""Observed samples of a window for each number that is fitted, at least."""
MOST_POWERS, SERIES_ERROR = 4, 1e-5
"""Most terms of the series by which the phases of harmonics drift from one period to the next, and its largest error."""


class Notch:
    """Subtracts the line and its harmonics, as fitted by least squares in overlapping windows.

    Windows begin at multiples of half their length in the recording, and are added up with the weights of a raised cosine; so
    nothing depends on where a block begins, and missing samples have no weight. What is subtracted follows amplitude and phase
    of the line over a second.

    All harmonics repeat themselves after one or some cycles of the line, so weighted samples are added up period by period
    before they are compared with sinusoids: a hundredth of the work at 30 kHz. Where no whole number of samples is a period,
    phases drift a little from one to the next, and sums weighted with powers of its number (a Taylor series) account for that.

    Parameters
    ----------
    harmonics : array (harmonic)
        Hz; rising multiples of the line.
    rate : float
        Sampling rate in Hz.
    dtype : dtype
        Of the arithmetic.

    Attributes
    ----------
    margin : int
        Samples needed on either side of those that are wanted.
    """

    def __init__(self, harmonics: NDArray[np.float64], *, rate: float, dtype: DTypeLike) -> None:
        self._hop = max(int(SECONDS * rate / 2), 1)
        self.margin = 2 * self._hop
        self._dtype = np.dtype(dtype)
        self._weights = np.sin(np.pi * (np.arange(self.margin) + 0.5) / self.margin) ** 2
        cycles = np.asarray(harmonics, dtype=np.float64) / rate
        self._period, n_powers = _period(cycles, self.margin)
        n_periods = -(-self.margin // self._period)
        drift = 2 * np.pi * (cycles * self._period - np.rint(cycles * self._period))
        # Periods are numbered from the middle of the window, -1 to 1.
        reach = max((n_periods - 1) / 2, 1.0)
        numbers = (np.arange(n_periods) - (n_periods - 1) / 2) / reach
        self._powers = numbers[:, None] ** np.arange(2 * n_powers - 1)
        # The phase is counted from the start of each window, so that all windows share their sinusoids.
        phases = 2 * np.pi * cycles * np.arange(self._period)[:, None] + drift * (n_periods - 1) / 2
        terms = []
        for power in range(n_powers):
            rotated = np.exp(1j * phases) * (1j * drift * reach) ** power / factorial(power)
            constant = np.full((self._period, 1), float(power == 0))
            terms.append(np.concatenate([rotated.real, rotated.imag, constant], axis=1))
        self._terms = np.array(terms)

    def apply(self, block: SampleBlock) -> SampleBlock:
        """Subtract the line from the samples of a block.

        Parameters
        ----------
        block : SampleBlock
            With `margin` samples on either side; is overwritten.

        Returns
        -------
        SampleBlock
            Without the margin.
        """
        n_times, n_channels = block.values.shape
        kept = block.part(self.margin, n_times - self.margin)
        observed = kept.observed_entries()

        def subtract(columns: slice) -> None:
            before = None
            for start in range(-block.first % self._hop, n_times - self.margin + 1, self._hop):
                coefficients = self._fit(block, start, columns)
                # No later window is fitted to these samples.
                rows = slice(max(start - self.margin, 0), max(start + self._hop - self.margin, 0))
                if before is not None and len(kept.values[rows]):
                    line = self._line(before, second_half=True) + self._line(coefficients, second_half=False)
                    line = line[max(self.margin - start, 0) :][: len(kept.values[rows])]
                    kept.values[rows, columns] -= line if observed is None else line * observed[rows, columns]
                before = coefficients

        in_threads(subtract, [slice(c, c + COLUMNS_AT_ONCE) for c in range(0, n_channels, COLUMNS_AT_ONCE)])
        return kept

    def _line(self, coefficients: NDArray[Any], *, second_half: bool) -> Floats:
        """Sinusoids (time, channel) of one half of a window, with its weights; the constant is left out."""
        of_powers = self._sinusoids @ coefficients[:-1].astype(self._dtype)
        begin = self._hop if second_half else 0
        line = np.empty((self._hop, coefficients.shape[1]), dtype=self._dtype)
        weights = self._weights[begin : begin + self._hop].astype(self._dtype)[:, None]
        first = begin
        while first < begin + self._hop:
            number, within = divmod(first, self._period)
            stop = min((number + 1) * self._period, begin + self._hop)
            part = slice(within, within + stop - first)
            wave = of_powers[0, part]
            for power in range(1, len(of_powers)):
                wave = wave + self._dtype.type(self._powers[number, power]) * of_powers[power, part]
            rows = slice(first - begin, stop - begin)
            np.multiply(weights[rows], wave, out=line[rows])
            first = stop
        return line

    def _fit(self, block: SampleBlock, start: int, columns: slice) -> NDArray[Any]:
        """Coefficients (term, channel) of one window."""
        rows = slice(start, start + self.margin)
        values, observed = block.values[rows, columns], block.observed[rows]
        if observed.all():
            sums = self._sums(self._weights.astype(self._dtype), values)
            coefficients = np.asarray(
                sum(of_power @ each for of_power, each in zip(self._projection, sums, strict=True))
            )
        else:
            coefficients = self._solve(values, observed)
        first, stop, _ = columns.indices(block.values.shape[1])
        low, high = np.searchsorted(block.gap_channels, [first, stop])
        for i in range(int(low), int(high)):
            there, channel = block.gap_observed[rows, i], block.gap_channels[i] - first
            if not there.all():
                coefficients[:, channel] = self._solve(values[:, channel : channel + 1], there)[:, 0]
        return coefficients

    def _solve(self, values: Floats, observed: NDArray[np.bool_]) -> NDArray[Any]:
        n_terms = self._terms.shape[2]
        if observed.sum() < SAMPLES_PER_TERM * n_terms:
            return np.zeros((n_terms, values.shape[1]))
        weights = self._weights * observed
        sums = self._sums(weights, values.astype(np.float64))
        products = np.einsum("jst,jsc->tc", self._terms, sums)
        return np.asarray(np.linalg.lstsq(self._gram(weights), products, rcond=1e-9)[0])

    def _sums(self, weights: NDArray[Any], values: Floats) -> Floats:
        """Weighted samples added up over periods: array (power, time within a period, channel)."""
        n_powers = len(self._terms)
        sums = np.zeros((n_powers, self._period, values.shape[1]), dtype=values.dtype)
        for number, first in enumerate(range(0, self.margin, self._period)):
            rows = slice(first, min(first + self._period, self.margin))
            weighted = weights[rows, None] * values[rows]
            sums[0, : len(weighted)] += weighted
            for power in range(1, n_powers):
                sums[power, : len(weighted)] += values.dtype.type(self._powers[number, power]) * weighted
        return sums

    def _gram(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted products (term, term) of the sinusoids."""
        padded = np.zeros(len(self._powers) * self._period)
        padded[: self.margin] = weights
        sums = self._powers.T @ padded.reshape(-1, self._period)
        n_powers, n_terms = len(self._terms), self._terms.shape[2]
        gram = np.zeros((n_terms, n_terms))
        for i in range(n_powers):
            for j in range(n_powers):
                gram += self._terms[i].T @ (sums[i + j][:, None] * self._terms[j])
        return gram

    @cached_property
    def _sinusoids(self) -> NDArray[Any]:
        """Terms (power, time within a period, term) but the constant."""
        return self._terms[:, :, :-1].astype(self._dtype)

    @cached_property
    def _projection(self) -> NDArray[Any]:
        """What makes coefficients of the sums of a window (power, term, time within a period)."""
        inverse = np.linalg.inv(self._gram(self._weights))
        return np.asarray(inverse @ self._terms.transpose(0, 2, 1)).astype(self._dtype)


def harmonics_in(line: float, band: tuple[float, float]) -> NDArray[np.float64]:
    """List the line and its harmonics that lie in a band.

    Parameters
    ----------
    line : float
        Hz.
    band : (float, float)
        Hz; edges beyond which nothing passes.

    Returns
    -------
    array (harmonic)
        Hz.
    """
    multiples = line * np.arange(1.0, int(band[1] / line) + 1)
    return np.asarray(multiples[multiples >= band[0]])


def _period(cycles: NDArray[np.float64], longest: int) -> tuple[int, int]:
    """Samples after which all harmonics repeat themselves nearly enough, and the powers that account for what is left.

    Parameters
    ----------
    cycles : array (harmonic)
        Cycles per sample.
    longest : int
        Samples of a window; that many are a period of nothing but themselves.
    """
    line = np.diff(cycles, prepend=0).min()
    for n_cycles in range(1, int(longest * line) + 1):
        period = round(n_cycles / line)
        n_periods = -(-longest // period)
        drift = np.abs(cycles * period - np.rint(cycles * period)).max() * 2 * np.pi * (n_periods - 1) / 2
        for n_powers in range(1, MOST_POWERS + 1):
            if drift**n_powers / factorial(n_powers) < SERIES_ERROR:
                return period, n_powers
    return longest, 1
