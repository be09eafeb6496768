"""Line noise taken out of voltages: sinusoids of the line and its harmonics, fitted anew from half a second to the next."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nwb_sbtt.signals.blocks import SampleBlock
from nwb_sbtt.signals.filters import Floats

SECONDS = 1.0
"""Length of a window in which the sinusoids are fitted; it sets the width of the notch, ±1 / `SECONDS` Hz."""
SAMPLES_PER_TERM = 10
"""Observed samples of a window for each number that is fitted, at least."""


class Notch:
    """Subtracts the line and its harmonics, as fitted by least squares in overlapping windows.

    Windows begin at multiples of half their length in the recording, and are added up with the weights of a raised cosine; so
    nothing depends on where a block begins, and missing samples have no weight. What is subtracted follows amplitude and phase
    of the line over a second.

    Parameters
    ----------
    harmonics : array (harmonic)
        Hz.
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
        times = np.arange(self.margin) / rate
        # The phase is counted from the start of each window, so that all windows share their sinusoids.
        phases = 2 * np.pi * np.asarray(harmonics) * times[:, None]
        self._terms = np.concatenate([np.cos(phases), np.sin(phases), np.ones((len(times), 1))], axis=1)
        self._weights = np.sin(np.pi * (np.arange(self.margin) + 0.5) / self.margin) ** 2
        self._dtype = np.dtype(dtype)

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
        n_times = len(block.observed)
        line = np.zeros_like(block.values)
        weights, terms = self._weights.astype(self._dtype), self._terms[:, :-1].astype(self._dtype)
        for start in range(-block.first % self._hop, n_times - self.margin + 1, self._hop):
            rows = slice(start, start + self.margin)
            coefficients = self._fit(block, rows).astype(self._dtype)
            line[rows] += weights[:, None] * (terms @ coefficients)
        kept = block.part(self.margin, n_times - self.margin)
        observed = kept.observed_entries()
        line = line[self.margin : n_times - self.margin]
        np.subtract(kept.values, line if observed is None else line * observed, out=kept.values)
        return kept

    def _fit(self, block: SampleBlock, rows: slice) -> NDArray[Any]:
        """Coefficients (term, channel) of the sinusoids in one window; a constant is fitted too, but not returned."""
        values, observed = block.values[rows], block.observed[rows]
        coefficients = self._projection @ values if observed.all() else self._solve(values, observed)
        for i, channel in enumerate(block.gap_channels):
            there = block.gap_observed[rows, i]
            if not there.all():
                coefficients[:, channel] = self._solve(values[:, [channel]], there)[:, 0]
        return np.asarray(coefficients[:-1])

    def _solve(self, values: Floats, observed: NDArray[np.bool_]) -> NDArray[Any]:
        n_terms = self._terms.shape[1]
        if observed.sum() < SAMPLES_PER_TERM * n_terms:
            return np.zeros((n_terms, values.shape[1]))
        terms = self._terms[observed]
        weighted = terms * self._weights[observed, None]
        return np.asarray(np.linalg.lstsq(weighted.T @ terms, weighted.T @ values[observed], rcond=1e-9)[0])

    @cached_property
    def _projection(self) -> NDArray[Any]:
        weighted = self._terms * self._weights[:, None]
        projection: NDArray[Any] = np.linalg.solve(weighted.T @ self._terms, weighted.T)
        return projection.astype(self._dtype)


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
