"""Non-negative deconvolution of a trace in which samples are missing.

The weighted problem, in which missing samples have no weight, is solved exactly by `solve`.

Between two samples that lie n frames apart, calcium ages by n frames. Where events are shown at once, those of the n − 1
missing frames and of the second sample's own cannot be told apart, so all n have the same size. With a rise, two numbers
describe what is left after a gap, and events have two sizes: that of the own frame, and one for all missing frames. What is
minimised over all sizes s ≥ 0 is

    ½ Σ w (y − c)² + penalty · Σ n s,    c the response to all events, n the frames of each size.

In n each frame counts as the share of its events that is left at the next sample. With no frame missing and every weight w = 1
this is the problem of OASIS (Friedrich, Zhou and Paninski 2017). OASIS finds its optimum where events are shown at once. With a
rise it goes through the samples greedily and ends elsewhere, so that the same trace, complete and without one frame, would have
other events from end to end: such traces are solved here, whether or not samples are missing.

The light c is the unknown, and each s is a difference of few neighbours. If it is known which s are 0, the rest follows from
one banded system of linear equations. Which they are is found by block principal pivoting (Portugal, Júdice and Vicente 1994;
Kim and Park 2011): all events that came out negative are set to 0, all zeros whose multiplier came out negative are set
free, until there are none. Ten to twenty systems are solved, whatever the length of the trace; each takes a time linear in it.

What is found in the first frames after a gap is not of the kind that is found elsewhere: a penalised solution depends on the
noise of every sample, and where samples and their noise are missing its events are fewer, larger, and at other places. So
`solve_across_gaps` repeats the fit with samples put in for those that are missing, which hold the light of the weighted problem
and noise as it is in the others, and averages the events over several draws of the noise (multiple imputation, Rubin 1987).
These samples add nothing to the light, but events after a gap are then those that the same spikes have anywhere else.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STIFFNESS = 1e7
"""Weight of the squares of events that are to be 0, in units of the weight of a sample."""
TOLERANCE = 1e-9
"""Of events and multipliers, in units of the largest value."""
ROUGH = 0.01
"""Signs that may stay wrong where only a mean over draws is wanted, in units of the missing frames."""
GUESS_SMOOTHING, GUESS_LEAST = 3.0, 0.75
"""Where a solution begins: the sd of a Gaussian [samples], and the least event in units of the median of absolute events."""
PATIENCE = 3
"""Exchanges of all wrong signs, without fewer of them, before every second one, and at last one at a time, is exchanged."""
FEW = 40
"""Where one in so many unknowns has another weight, or fewer have, only their part of the matrix is written anew."""
NEGLIGIBLE = 1e-4
"""Weight of a clipped sample whose light exceeds what is stored."""
CLIPPED_ROUNDS = 20
"""Most solutions that are tried for which clipped samples have too little light."""
DRAWS = 4
"""Draws of the noise of missing samples; each second one is the one before with its sign changed."""


@dataclass(frozen=True)
class Response:
    """How an event of size 1 is shown by its own and later frames.

    After m frames it shows ``(d^(m+1) − r^(m+1)) / (d − r)``, which is 1 in its own frame.

    Parameters
    ----------
    decay_per_frame : float
        Share d of the light that is left after a frame.
    rise_per_frame : float
        Share r of the rising component that is left after a frame; 0 where an event is shown at once.
    """

    decay_per_frame: float
    rise_per_frame: float

    @classmethod
    def of_times(cls, decay: float, rise: float) -> Response:
        """Response of some time constants.

        Parameters
        ----------
        decay, rise : float
            Frames; a rise of 0 means none.
        """
        return cls(float(np.exp(-1 / decay)), float(np.exp(-1 / rise)) if rise > 0 else 0.0)

    @property
    def norm(self) -> float:
        """Root of the summed squares of the response."""
        d, r = self.decay_per_frame, self.rise_per_frame
        return float(np.sqrt((1 + d * r) / ((1 - d * r) * (1 - d**2) * (1 - r**2))))

    def after(self, frames: Floats) -> Floats:
        """What an event of size 1 shows after some frames.

        Parameters
        ----------
        frames : array
            Their number.
        """
        d, r = self.decay_per_frame, self.rise_per_frame
        return np.asarray(d**frames if r == 0 else (d ** (frames + 1) - r ** (frames + 1)) / (d - r))

    def left(self, n: Floats) -> Floats:
        """What is left, in the last of some frames, of events of size 1 in each of them.

        Parameters
        ----------
        n : array
            Number of frames.
        """
        d = self.decay_per_frame
        return np.asarray((1 - d**n) / (1 - d))

    def summed(self, n: Floats) -> Floats:
        """What events of size 1 in each of some frames show in the last one.

        Parameters
        ----------
        n : array
            Number of frames.
        """
        d, r = self.decay_per_frame, self.rise_per_frame
        return np.asarray(self.left(n) if r == 0 else (d * self.left(n) - r * (1 - r**n) / (1 - r)) / (d - r))


@dataclass(frozen=True)
class Solution:
    """Events and light of the samples.

    Parameters
    ----------
    sizes : array (sample)
        Event of the frame of each sample, and of each of the missing frames before it. That of the first is its light.
    light : array (sample)
    penalised : float
        Sum of all events, as it is penalised.
    """

    sizes: Floats
    light: Floats
    penalised: float


def solve(
    values: Floats,
    elapsed: Floats,
    response: Response,
    *,
    penalty: float,
    clipped: Bools | None = None,
    start: Solution | None = None,
) -> Solution:
    """Find the events that fit the samples best.

    Parameters
    ----------
    values : array (sample)
        Light and noise, without baseline.
    elapsed : array (sample)
        Frames since the sample before, 1 where none is missing; that of the first plays no part.
    response : Response
    penalty : float
        On the sum of the sizes, against half the sum of squared residuals.
    clipped : bool array (sample), optional
        Samples of which it is known only that the light is at least their value.
    start : Solution, optional
        Of a similar problem of the same samples; saves time.

    Returns
    -------
    Solution
    """
    lattice = _Lattice.of(elapsed, response)
    zero = lattice.guess(values) if start is None else start.sizes == 0
    return lattice.solve(values, penalty, clipped, zero)


def solve_above(
    values: Floats,
    elapsed: Floats,
    response: Response,
    *,
    smallest: float,
    clipped: Bools | None = None,
) -> Solution:
    """Find events without a penalty, each of which shows at least so much in its frame.

    From the events without a least size those that are too small, and smaller than their neighbours, are left out, and the
    sizes of the rest are found again, until none is too small. No event comes back: so ten to twenty rounds are enough,
    however many events there are.

    Parameters
    ----------
    values, elapsed, response, clipped
        As in `solve`.
    smallest : float
        What events must show: those of missing frames together, in the last of these.

    Returns
    -------
    Solution
    """
    lattice = _Lattice.of(elapsed, response)
    solution = lattice.solve(values, 0.0, clipped, np.zeros(len(values), dtype=bool))
    while True:
        places = np.flatnonzero(solution.sizes[1:]) + 1
        shown = solution.sizes[places] * response.summed(lattice.n_frames[places])
        padded = np.concatenate([[np.inf], shown, [np.inf]])
        remove = (shown < smallest) & (shown <= padded[:-2]) & (shown < padded[2:])
        if not remove.any():
            return solution
        forbidden = solution.sizes == 0
        forbidden[0], forbidden[places[remove]] = False, True
        solution = lattice.solve(values, 0.0, clipped, forbidden, forbidden=forbidden)


def solve_across_gaps(
    values: Floats,
    elapsed: Floats,
    response: Response,
    *,
    penalty: float,
    longest: float,
    clipped: Bools | None = None,
) -> Solution:
    """Find the events of samples that were observed as if none had been missing between them.

    Parameters
    ----------
    values, elapsed, response, penalty, clipped
        As in `solve`.
    longest : float
        Frames; across more than these nothing is put in for those that are missing, and `solve` has the last word.

    Returns
    -------
    Solution
        Means over draws of the noise of missing samples, which depend on nothing but what is given here.
    """
    n_missing = np.where(elapsed <= longest, elapsed - 1, 0).astype(int)
    n_missing[0] = 0
    if not n_missing.any():
        return solve(values, elapsed, response, penalty=penalty, clipped=clipped)
    rough = int(ROUGH * n_missing.sum())
    lattice = _Lattice.of(elapsed, response)
    weighted = lattice.solve(values, penalty, clipped, lattice.guess(values), wrong_signs=rough)
    noise_sd = float((values - weighted.light).std())
    places = np.arange(len(values)) + np.cumsum(n_missing)
    frames = np.arange(places[-1] + 1)
    following = np.searchsorted(places, frames)
    missing = places[following] != frames
    light = np.interp(frames, places, weighted.light)
    lattice = _Lattice.of(np.where(missing | (n_missing > 0)[following], 1.0, elapsed[following]), response)
    ceiling = None if clipped is None else clipped[following] & ~missing
    zero = (weighted.sizes == 0)[following]
    # Of the samples: draws are the same for the same samples, and others in every ROI.
    generator = np.random.default_rng(zlib.crc32(values.tobytes()))
    draws, noise = [], np.zeros(0)
    for draw in range(DRAWS):
        noise = -noise if draw % 2 else generator.normal(0, noise_sd, int(missing.sum()))
        filled = values[following]
        filled[missing] = light[missing] + noise
        draws.append(lattice.solve(filled, penalty, ceiling, zero, wrong_signs=rough))
    return Solution(
        np.mean([draw.sizes[places] for draw in draws], axis=0),
        np.mean([draw.light[places] for draw in draws], axis=0),
        float(np.mean([draw.penalised for draw in draws])),
    )


@dataclass(frozen=True)
class _Lattice:
    """Light as the unknown, and events as differences of it.

    With a rise, two neighbours determine how light goes on. So the light of the frame before a sample is an unknown too where
    that frame is missing, and it has an event of its own, which is tied to be as large as the sample's.

    Parameters
    ----------
    n_frames : array (sample)
        In each of which there is an event of the sample's size.
    counted : array (sample)
        Of these, as many as are penalised: those whose events are left.
    places : int array (sample)
        Of the samples among the unknowns.
    sample : int array (unknown)
        Whose event is that of the unknown.
    factors, ties : array (lag, unknown)
        Of the unknown so many places before, in each event, and in the difference of two that are to be equal.
    """

    n_frames: Floats
    counted: Floats
    places: NDArray[np.intp]
    sample: NDArray[np.intp]
    factors: Floats
    ties: Floats

    @classmethod
    def of(cls, elapsed: Floats, response: Response) -> _Lattice:
        d, r = response.decay_per_frame, response.rise_per_frame
        n = np.array(elapsed, dtype=float)
        n[0] = 1.0
        own = np.arange(len(n))
        if r == 0:
            factors = np.stack([np.ones_like(n), -(d**n)]) / response.summed(n)
            factors[1, 0] = 0.0
            return cls(n, response.left(n), own, own, factors, factors[:0])
        after_gap = n > 1
        places = own + np.cumsum(after_gap)
        n_unknowns = int(places[-1]) + 1
        factors = np.repeat([[1.0], [-(d + r)], [d * r], [0.0]], n_unknowns, axis=1)
        missing, ends = n[after_gap] - 1, places[after_gap] - 1

        def ahead(m: Floats) -> tuple[Floats, Floats, Floats]:
            """Factors of two neighbours, the later one first, and of the events since, in the light m frames later."""
            return response.after(m), -d * r * response.after(m - 1), response.summed(m)

        last, earlier, whole = ahead(missing)
        factors[:3, ends] = np.stack([np.ones_like(missing), -last, -earlier]) / whole
        # The sample after the gap follows two missing frames, of which the first is no unknown.
        before_last, before_earlier, before_whole = ahead(missing - 1)
        share = before_whole / whole
        factors[1:, ends + 1] = np.stack(
            [-(d + r) + d * r * share, d * r * (before_last - share * last), d * r * (before_earlier - share * earlier)]
        )
        # Nothing rises yet in the first sample: a frame earlier its light was 1 / d times as much.
        factors[1:, 0] = 0.0
        for place in range(1, min(3, n_unknowns)):
            factors[place, place] += factors[place + 1, place] / d
            factors[place + 1 :, place] = 0.0
        if not after_gap.any():
            return cls(n, response.left(n), own, own, factors[:3], factors[:0])
        ties = np.zeros_like(factors)
        ties[:, ends + 1] = factors[:, ends + 1]
        ties[1:, ends + 1] -= factors[:-1, ends]
        return cls(n, response.left(n), places, np.searchsorted(places, np.arange(n_unknowns)), factors, ties)

    def guess(self, values: Floats) -> Bools:
        """Guess which events are 0: those that are small in smoothed samples. It halves the systems of equations."""
        events = _combined(self.factors, gaussian_filter1d(values, GUESS_SMOOTHING)[self.sample])[self.places]
        zero = events < GUESS_LEAST * float(np.median(np.abs(events)))
        zero[0] = False
        return zero

    def solve(
        self,
        values: Floats,
        penalty: float,
        clipped: Bools | None,
        zero: Bools,
        *,
        forbidden: Bools | None = None,
        wrong_signs: int = 0,
    ) -> Solution:
        """Find the events, starting from a guess of which are 0; the forbidden ones remain so."""
        weights = np.ones(len(values))
        for _ in range(CLIPPED_ROUNDS):
            light, sizes = self._solve(values, weights, penalty, zero, forbidden, wrong_signs)
            if clipped is None:
                break
            needed = np.where(clipped & (light > values), NEGLIGIBLE, 1.0)
            if np.array_equal(needed, weights):
                break
            weights, zero = needed, sizes == 0
        return Solution(sizes, light, float(self.counted @ sizes))

    def _solve(
        self,
        values: Floats,
        weights: Floats,
        penalty: float,
        zero: Bools,
        forbidden: Bools | None,
        wrong_signs: int,
    ) -> tuple[Floats, Floats]:
        """Light and events of the samples."""
        per_event = penalty * self.counted / np.bincount(self.sample)
        target = -_adjoint(self.factors, per_event[self.sample])
        target[self.places] += weights * values
        diagonal = np.zeros(len(target))
        diagonal[self.places] = weights
        least = TOLERANCE * float(np.abs(values).max())
        fewest, patience = len(zero) + 1, PATIENCE
        banded = np.zeros((len(self.factors), len(target)))
        before: Floats | None = None
        while True:
            stiffness = np.where(zero, STIFFNESS, 0.0)
            stiffness = stiffness[self.sample] if len(self.ties) else stiffness
            self._weigh(banded, stiffness, before, diagonal)
            before = stiffness
            light = solveh_banded(banded, target, lower=True, check_finite=False)
            events = _combined(self.factors, light)
            sums = np.bincount(self.sample, events) if len(self.ties) else events
            wrong = sums * np.where(zero, STIFFNESS, -1.0) > least
            wrong = wrong if forbidden is None else wrong & ~forbidden
            n_wrong = int(wrong.sum())
            if n_wrong <= wrong_signs:
                break
            patience = PATIENCE if n_wrong < fewest else patience - 1
            fewest = min(fewest, n_wrong)
            if patience < 0:
                # Fewer at a time break a circle; one at a time always comes to an end.
                places = np.flatnonzero(wrong)
                wrong[places[1::2] if patience >= -PATIENCE else places[:-1]] = False
            zero = zero ^ wrong
        # Once more with the multipliers, which makes zeros and ties exact.
        target -= _adjoint(self.factors, stiffness * events)
        if len(self.ties):
            target -= _adjoint(self.ties, (STIFFNESS - stiffness) * _combined(self.ties, light))
        light = solveh_banded(banded, target, lower=True, check_finite=False)
        sizes = np.maximum(_combined(self.factors, light)[self.places], 0.0)
        sizes[zero] = 0.0
        return light[self.places], sizes

    @cached_property
    def _products(self) -> tuple[_Products, _Products]:
        """Of events, and of ties."""
        return _products(self.factors), _products(self.ties)

    def _weigh(self, banded: Floats, stiffness: Floats, before: Floats | None, diagonal: Floats) -> None:
        """Write the matrix of the linear equations in lower banded form, or only where the stiffness has changed."""
        n_lags, size = banded.shape
        of_events, of_ties = self._products
        changed = None if before is None else np.flatnonzero(stiffness != before)
        if changed is None or len(changed) * FEW > size:
            banded[:] = 0.0
            columns = None
        else:
            columns = np.unique(np.maximum(changed[:, None] - np.arange(n_lags), 0))
            banded[:, columns] = 0.0
        _add_squares(banded, of_events, stiffness, columns)
        if of_ties:
            _add_squares(banded, of_ties, STIFFNESS - stiffness, columns)
        if columns is None:
            banded[0] += diagonal
        else:
            banded[0, columns] += diagonal[columns]


_Products = list[tuple[int, int, Floats]]
"""Of two factors of each combination: the lags between the two and of the earlier one, and their product."""


def _combined(rows: Floats, unknowns: Floats) -> Floats:
    """Combinations of unknowns; rows are the factors of those so many places before each."""
    result = rows[0] * unknowns
    for lag in range(1, len(rows)):
        result[lag:] += rows[lag, lag:] * unknowns[:-lag]
    return np.asarray(result)


def _adjoint(rows: Floats, values: Floats) -> Floats:
    """Gradient, in the unknowns, of the values times their combinations."""
    result = rows[0] * values
    for lag in range(1, len(rows)):
        result[:-lag] += rows[lag, lag:] * values[lag:]
    return np.asarray(result)


def _products(rows: Floats) -> _Products:
    n_lags = len(rows)
    pairs = [(late, early) for late in range(n_lags) for early in range(late, n_lags)]
    return [(early - late, early, rows[late] * rows[early]) for late, early in pairs]


def _add_squares(banded: Floats, products: _Products, weights: Floats, columns: NDArray[np.intp] | None) -> None:
    """Add the weighted squares of combinations to a symmetric matrix in lower banded form, or to some of its columns."""
    size = banded.shape[1]
    weighted = np.empty(size)
    for lag, early, product in products:
        if columns is None:
            np.multiply(weights, product, out=weighted)
            banded[lag, : size - early] += weighted[early:]
        else:
            within = columns[: np.searchsorted(columns, size - early)]
            banded[lag, within] += weights[within + early] * product[within + early]
