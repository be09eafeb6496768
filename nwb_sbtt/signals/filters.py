"""Zero-phase filters that are evaluated only where a value is wanted, and the bands they pass.

A symmetric filter needs the samples within its half-length and no others, so a recording filtered block by block equals
the recording filtered at once, and a value is computed once per bin rather than once per sample. Positions are in samples
and need not be whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.fft import irfft, rfft

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.data.threads import in_threads, single_blas, split_range
from nwb_sbtt.errors import DataError

ATTENUATION = 50.0
"""Decibels by which the stop band lies below the pass band."""
FINEST = 256
TABLE = 2**16
"""Positions are rounded to 1/`FINEST` of a sample, or coarser where a filter is so long that its table of weights would
have more than twice `TABLE` entries."""
CACHE_BYTES = 2**24
"""Memory for matrices of weights, per filter."""
LARGEST_GROUP = 96
"""Positions computed by one product. Its matrix is a band, mostly zeros where the group is larger than the filter is long;
smaller groups keep the processor waiting. Measured best for 400 to 3000 weights."""
TRANSFORM_LENGTHS = 5
"""Lengths of a filter in one Fourier transform, or up to half as many more, where every sample is filtered."""
COLUMNS_AT_ONCE = 64
"""Channels that are transformed at once, so that they stay in the cache; measured best of 16 to 256."""
HIGHEST = 0.45
"""Highest edge of a band as a share of the sampling rate, and of the bin rate for a decimated signal."""
LOWER_OF_BAND, UPPER_OF_BAND = 0.2, 0.28
"""Widest transition at the lower and upper edge of a band, as a share of its width."""
LOWER_EDGE, UPPER_EDGE = 0.5, 0.25
"""And as a share of the frequency itself."""
DEFAULT_BANDS = {"power": (70.0, 150.0), "spikes": (300.0, 3000.0)}
"""Hz."""

Floats = NDArray[np.floating[Any]]


class Kernel(Protocol):
    """A symmetric weighting of samples by their lag.

    Attributes
    ----------
    half_length : float
        Samples; weights at larger lags are 0.
    """

    @property
    def half_length(self) -> float: ...  # noqa: D102
    def weights(self, lags: Floats) -> Floats:
        """Compute weights.

        Parameters
        ----------
        lags : array (position, sample)
            In samples; each row a whole kernel.

        Returns
        -------
        array (position, sample)
            Weights.
        """
        ...


@dataclass(frozen=True)
class LowPass:
    """Windowed sinc, which passes below ``cut - width / 2`` and stops above ``cut + width / 2``.

    Length and shape of the window follow from `ATTENUATION` and `width` by Kaiser's formulas (Oppenheim and Schafer,
    Discrete-Time Signal Processing, 3rd ed., section 7.6).

    Parameters
    ----------
    cut, width : float
        Middle and width of the transition, in cycles per sample.
    """

    cut: float
    width: float

    @property
    def half_length(self) -> float:
        """Samples to either side; half a sample at least, so that a weight lies on one wherever it is evaluated."""
        return max((ATTENUATION - 7.95) / (14.36 * self.width) / 2, 0.5)

    def weights(self, lags: Floats) -> Floats:
        """Compute weights.

        Parameters
        ----------
        lags : array (position, sample)
            In samples; each row a whole kernel.

        Returns
        -------
        array (position, sample)
            Each row sums to one.
        """
        beta = 0.1102 * (ATTENUATION - 8.7)
        inside = np.abs(lags) <= self.half_length
        window = np.i0(beta * np.sqrt(np.clip(1 - (lags / self.half_length) ** 2, 0, None))) * inside
        weights = np.sinc(2 * self.cut * lags) * window
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class BandPass:
    """Difference of two low passes; of a constant nothing passes.

    Parameters
    ----------
    low, high : LowPass
        Transitions at the lower and the upper edge of the band.
    """

    low: LowPass
    high: LowPass

    @property
    def half_length(self) -> float:
        """Samples to either side."""
        return max(self.low.half_length, self.high.half_length)

    def weights(self, lags: Floats) -> Floats:
        """Compute weights.

        Parameters
        ----------
        lags : array (position, sample)
            In samples; each row a whole kernel.

        Returns
        -------
        array (position, sample)
            Each row sums to zero.
        """
        return self.high.weights(lags) - self.low.weights(lags)


@dataclass(frozen=True)
class Quadrature:
    """One of the two parts of an analytic signal: a low pass moved to the middle of a band; of a constant nothing passes.

    Parameters
    ----------
    low_pass : LowPass
        That cuts at half the width of the band.
    centre : float
        Middle of the band, in cycles per sample.
    sine : bool
        Whether this is the part a quarter of a cycle from the signal itself.
    """

    low_pass: LowPass
    centre: float
    sine: bool

    @property
    def half_length(self) -> float:
        """Samples to either side."""
        return self.low_pass.half_length

    def weights(self, lags: Floats) -> Floats:
        """Compute weights.

        Parameters
        ----------
        lags : array (position, sample)
            In samples; each row a whole kernel.

        Returns
        -------
        array (position, sample)
            Each row sums to zero.
        """
        phase = 2 * np.pi * self.centre * lags
        weights = 2 * self.low_pass.weights(lags) * (np.sin(phase) if self.sine else np.cos(phase))
        # What the stop band leaves of a constant is taken off by the window itself, which reaches no other part of the band.
        window = LowPass(0.0, self.low_pass.width).weights(lags)
        return np.asarray(weights - weights.sum(axis=1, keepdims=True) * window)


@dataclass(frozen=True)
class GaussianKernel:
    """Gaussian bell, cut at four standard deviations; for weighted means.

    Parameters
    ----------
    sd : float
        Standard deviation in samples.
    """

    sd: float

    @property
    def half_length(self) -> float:
        """Samples to either side."""
        return 4 * self.sd

    def weights(self, lags: Floats) -> Floats:
        """Compute weights.

        Parameters
        ----------
        lags : array (position, sample)
            In samples; each row a whole kernel.

        Returns
        -------
        array (position, sample)
            One at lag zero.
        """
        return np.asarray(np.exp(-0.5 * (lags / self.sd) ** 2) * (np.abs(lags) <= self.half_length))


class Filter:
    """A kernel made ready to be applied to blocks of samples; `apply` and `support` may be used by several threads.

    Parameters
    ----------
    kernel : Kernel
    dtype : dtype
        Of the weights, and so of the arithmetic.

    Attributes
    ----------
    margin : int
        Samples that a block must have on either side of every position.

    Examples
    --------
    >>> smooth = Filter(GaussianKernel(sd=2.0), dtype=float)
    >>> smooth.apply(np.ones((100, 3)), first=0, positions=np.array([30.0, 50.5])).shape
    (2, 3)
    """

    def __init__(self, kernel: Kernel, *, dtype: DTypeLike = np.float32) -> None:
        self.margin = int(np.ceil(kernel.half_length)) + 1
        # A power of two, so that halves of a sample, where the centres of bins often lie, are exact.
        self._phases = 2 ** int(np.clip(np.log2(TABLE / self.margin), 1, np.log2(FINEST)))
        # Row p has the weights for positions that lie p / phases of a sample after a whole one.
        lags = np.arange(self._phases)[:, None] / self._phases - np.arange(1 - self.margin, self.margin + 1)
        table = kernel.weights(lags)
        self._table = table.astype(dtype)
        self._absolute = (np.abs(table) / np.abs(table).sum(axis=1, keepdims=True)).astype(np.float32)
        self._cache: dict[tuple[bool, bytes], Floats] = {}
        self._cached_bytes = 0
        self._space: Floats = np.empty((0, 0), dtype=dtype)
        self._lock = Lock()

    def apply(self, samples: Floats, *, first: int, positions: NDArray[np.float64]) -> Floats:
        """Filter samples at rising positions.

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
        return self._evaluate(samples, first, positions, absolute=False)

    def stretch(self, samples: Floats, *, first: int, start: int, stop: int) -> Floats:
        """Filter every sample of a stretch, by Fourier transforms of parts that overlap (overlap-save).

        The kernel must be symmetric. For 400 to 600 weights this takes half the time of `apply`, and differs by rounding. A
        part without any signal can come out as rounding of what lies within `TRANSFORM_LENGTHS` lengths of the filter.

        Parameters
        ----------
        samples : array (time, channel)
            Finite; `margin` samples more than the stretch on either side.
        first : int
            Position of the first sample.
        start, stop : int
            Positions `start` to `stop` − 1 are filtered.

        Returns
        -------
        array (position, channel)
            The next stretch reuses its memory.
        """
        shape, dtype = (stop - start, samples.shape[1]), np.result_type(samples, self._table)
        weights, centre = self._table[0, :-1].astype(np.float64), self.margin - 1
        length = _transform_length(min(TRANSFORM_LENGTHS * len(weights), shape[0] + len(weights)))
        # Symmetric weights around the first sample have a real response, by which it takes half the time to multiply.
        response = rfft(np.roll(np.pad(weights, (0, length - len(weights))), -centre)).real.astype(dtype)[:, None]
        step, begin = length - len(weights) + 1, start - centre - first
        if len(self._space) < shape[0] or self._space.shape[1] != shape[1] or self._space.dtype != dtype:
            # Fresh pages for every stretch would cost as much as a tenth of the transforms; the old memory goes first.
            self._space = self._space[:0].copy()
            self._space = np.empty(shape, dtype=dtype)
        result = self._space[: shape[0]]

        def evaluate(part: tuple[int, slice]) -> None:
            low, columns = part
            high = min(low + step, len(result))
            spectrum = rfft(samples[begin + low : begin + low + length, columns], length, axis=0)
            parts = spectrum.view(dtype)
            parts *= response
            filtered = irfft(spectrum, length, axis=0, overwrite_x=True)
            result[low:high, columns] = filtered[centre : centre + high - low]

        groups = [slice(c, c + COLUMNS_AT_ONCE) for c in range(0, samples.shape[1], COLUMNS_AT_ONCE)]
        in_threads(evaluate, [(low, columns) for low in range(0, len(result), step) for columns in groups])
        return result

    def support(self, observed: Floats, *, first: int, positions: NDArray[np.float64]) -> Floats:
        """Compute the share of the filter's absolute weight that lies on observed samples.

        Parameters
        ----------
        observed : float array (time, channel)
            1 where a sample was observed, 0 elsewhere; as long as `apply` needs.
        first : int
            Position of the first sample.
        positions : array (position)
            Rising, in samples.

        Returns
        -------
        array (position, channel)
            Between 0 and 1, up to rounding.
        """
        return self._evaluate(observed, first, positions, absolute=True)

    def _evaluate(self, samples: Floats, first: int, positions: NDArray[np.float64], *, absolute: bool) -> Floats:
        ticks = np.rint(np.asarray(positions) * self._phases).astype(np.int64)
        whole = ticks // self._phases
        result = np.empty((len(ticks), samples.shape[1]), dtype=np.result_type(samples, self._table))
        # A group ends where its next position would lie more than a filter's length after its first: beyond that,
        # most of the product would be with zeros.
        ends = np.searchsorted(whole, whole + 2 * self.margin, side="right")
        groups, start = [], 0
        while start < len(ticks):
            stop = min(start + LARGEST_GROUP, int(ends[start]))
            groups.append((start, stop))
            start = stop

        def evaluate(part: range) -> None:
            for start, stop in groups[part.start : part.stop]:
                matrix = self._matrix(ticks[start:stop] - whole[start] * self._phases, absolute=absolute)
                begin = int(whole[start]) - self.margin + 1 - first
                np.matmul(matrix, samples[begin : begin + matrix.shape[1]], out=result[start:stop])

        with single_blas():
            in_threads(evaluate, split_range(0, len(groups)))
        return result

    def _matrix(self, ticks: NDArray[np.int64], *, absolute: bool) -> Floats:
        """Weights (position, sample) of one group; most groups of a recording share theirs."""
        key = (absolute, ticks.tobytes())
        with self._lock:
            matrix = self._cache.get(key)
            if matrix is None:
                table = self._absolute if absolute else self._table
                length = table.shape[1]
                matrix = np.zeros((len(ticks), int(ticks[-1]) // self._phases + length), dtype=table.dtype)
                for row, tick in enumerate(ticks):
                    whole, phase = divmod(int(tick), self._phases)
                    matrix[row, whole : whole + length] = table[phase]
                while self._cache and self._cached_bytes + matrix.nbytes > CACHE_BYTES:
                    self._cached_bytes -= self._cache.pop(next(iter(self._cache))).nbytes
                self._cache[key] = matrix
                self._cached_bytes += matrix.nbytes
        return matrix


def _transform_length(least: int) -> int:
    """Smallest power of two, or half more than one, that is at least so large: transforms of these take least per sample."""
    power = 1 << (max(least, 2) - 1).bit_length()
    return 3 * power // 4 if 3 * power // 4 >= least else power


def choose_band(config: ElectricalConfig, *, rate: float, bin_width: float) -> tuple[float, float]:
    """Take the band of the settings, or the default one of the use.

    Parameters
    ----------
    config : ElectricalConfig
    rate : float
        Sampling rate in Hz.
    bin_width : float
        Seconds.

    Returns
    -------
    low, high : float
        Edges in Hz.

    Raises
    ------
    DataError
        If the sampling rate, or for a decimated signal the bin rate, cannot carry the band; names the highest that it can.

    Examples
    --------
    >>> choose_band(ElectricalConfig(feature="power"), rate=300, bin_width=0.02)
    (70.0, 135.0)
    """
    highest = HIGHEST * (min(rate, 1 / bin_width) if config.feature == "lfp" else rate)
    if config.band is not None:
        low, high = config.band
        wanted, possible = high, high <= highest * (1 + 1e-9)
    elif config.feature == "lfp":
        low, high = 1.0, min(0.4 / bin_width, HIGHEST * rate)
        wanted, possible = high, low < high
    else:
        low, wanted = DEFAULT_BANDS[config.feature]
        high = min(wanted, highest)
        possible = high >= max(wanted / 2, 1.5 * low)
    if not possible:
        carrier = f"samples at {rate:g} Hz"
        if config.feature == "lfp" and 1 / bin_width < rate:
            carrier = f"bins of {bin_width:g} s"
        needed = f"a band of {low:g} to {wanted:g} Hz" if low < wanted else f"a band from {low:g} Hz on"
        other = "" if carrier.startswith("samples") else ", or use shorter bins"
        raise DataError(
            f"read.electrical.feature={config.feature} needs {needed}, but {carrier} carry at most {highest:g} Hz; set "
            "read.electrical.band to edges below that"
            + (other if config.feature == "lfp" else ", or read.electrical.feature=lfp")
        )
    return low, high


def transitions(band: tuple[float, float], *, rate: float) -> tuple[float, float]:
    """Choose how wide the edges of a band are, with half of the amplitude at the frequencies that are named.

    Of white, pink or brown noise at most 3 % of the variance that passes lies outside the band, as with a Butterworth filter of
    order 4 forward and backward, and the filter is no longer than that needs.

    Parameters
    ----------
    band : (float, float)
        Edges in Hz.
    rate : float
        Of samples, or of the values that are taken of the filtered signal, in Hz: what is above half of it is stopped.

    Returns
    -------
    lower, upper : float
        Width of each transition in Hz.
    """
    low, high = band
    width = high - low
    return (
        min(LOWER_OF_BAND * width, LOWER_EDGE * low),
        min(UPPER_OF_BAND * width, UPPER_EDGE * high, rate - 2 * high),
    )


def band_kernel(band: tuple[float, float], *, rate: float) -> BandPass:
    """Make the weights of a band pass.

    Parameters
    ----------
    band : (float, float)
        Edges in Hz.
    rate : float
        Sampling rate in Hz.
    """
    (low, high), (lower, upper) = band, transitions(band, rate=rate)
    return BandPass(LowPass(low / rate, lower / rate), LowPass(high / rate, upper / rate))


def band_filter(band: tuple[float, float], *, rate: float, dtype: DTypeLike) -> Filter:
    """Make a band pass.

    Parameters
    ----------
    band : (float, float)
        Edges in Hz.
    rate : float
        Sampling rate in Hz.
    dtype : dtype
        Of the arithmetic.
    """
    return Filter(band_kernel(band, rate=rate), dtype=dtype)


def analytic_filters(band: tuple[float, float], *, rate: float, dtype: DTypeLike) -> tuple[Filter, Filter]:
    """Make the two band passes of an analytic signal, a quarter of a cycle apart; half the sum of their squares is the power.

    Parameters
    ----------
    band : (float, float)
        Edges in Hz.
    rate : float
        Sampling rate in Hz.
    dtype : dtype
        Of the arithmetic.
    """
    (low, high), width = band, min(transitions(band, rate=rate))
    low_pass = LowPass((high - low) / 2 / rate, width / rate)
    centre = (low + high) / 2 / rate
    return (
        Filter(Quadrature(low_pass, centre, sine=False), dtype=dtype),
        Filter(Quadrature(low_pass, centre, sine=True), dtype=dtype),
    )
