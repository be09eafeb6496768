"""Non-negative deconvolution of a trace in which samples are missing: one weighted problem, solved exactly.

Between two samples that lie n frames apart, calcium ages by n frames. Where events are shown at once, those of the n − 1
missing frames and of the second sample's own cannot be told apart, so all n have the same size. With a rise, two numbers
describe what is left after a gap, and events have two sizes: that of the own frame, and one for all missing frames. What is
minimised over all sizes s ≥ 0 is

    ½ Σ w (y − c)² + penalty · Σ n s,    c the response to all events, n the frames of each size.

Of n, not more than a decay time is counted: events before it leave nothing. With no frame missing and every weight w = 1 this
is the problem of OASIS (Friedrich, Zhou and Paninski 2017).

The light c is the unknown, and each s is a difference of few neighbours. If it is known which s are 0, the rest follows from
one banded system of linear equations. Which they are is found by block principal pivoting (Portugal, Júdice and Vicente 1994;
Kim and Park 2011): all events that came out negative are set to 0, all zeros whose multiplier came out negative are set
free, until there are none. About ten systems are solved, whatever the length of the trace; each takes a time linear in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STIFFNESS = 1e7
"""Weight of the squares of events that are to be 0, in units of the weight of a sample."""
TOLERANCE = 1e-9
"""Of events and multipliers, in units of the largest value."""
PATIENCE = 10
"""Exchanges of all wrong signs, without fewer of them, before every second one, and at last one at a time, is exchanged."""
BALANCE = 0.3
"""Where the penalty of events in missing frames lies between that of what is left of them and that of all."""
NEGLIGIBLE = 1e-4
"""Weight of a clipped sample whose light exceeds what is stored."""
CLIPPED_ROUNDS = 20
"""Most solutions that are tried for which clipped samples have too little light."""


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

    def summed(self, n: Floats) -> Floats:
        """What events of size 1 in each of some frames show in the last one.

        Parameters
        ----------
        n : array
            Number of frames.
        """
        d, r = self.decay_per_frame, self.rise_per_frame
        decaying = (1 - d**n) / (1 - d)
        return np.asarray(decaying if r == 0 else (d * decaying - r * (1 - r**n) / (1 - r)) / (d - r))

    def counted(self, n: Floats) -> Floats:
        """Events that are penalised where there is one of size 1 in each of n frames, of which only the last has a sample.

        Counting all n moves what was found to the sample after; counting each by the share that is left of it in the last frame
        moves it from the sample before into the gap. This is between the two.

        Parameters
        ----------
        n : array
            Number of frames.
        """
        d = self.decay_per_frame
        left = (1 - d**n) / (1 - d)
        return np.asarray(left + BALANCE * (np.minimum(n, 1 / (1 - d)) - left))


@dataclass(frozen=True)
class Solution:
    """Events and light of the samples.

    Parameters
    ----------
    sizes : array (sample)
        Event of the frame of each sample; about a gap, the mean of all frames from the sample before it to the second after it.
        That of the first is its light.
    light : array (sample)
    penalised : float
        Sum of all events, as it is penalised.
    events : array (sample)
        The sizes that solve the problem, before those about a gap were shared.
    """

    sizes: Floats
    light: Floats
    penalised: float
    events: Floats = field(repr=False)


def solve(
    values: Floats,
    elapsed: Floats,
    response: Response,
    *,
    penalty: float,
    clipped: Bools | None = None,
    doubtful: float = 0.0,
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
    doubtful : float
        Size up to which the frame of an event about a gap is in doubt.
    start : Solution, optional
        Of a similar problem of the same samples; saves time.

    Returns
    -------
    Solution
    """
    lattice = _Lattice.of(elapsed, response)
    zero = np.zeros(len(values), dtype=bool) if start is None else start.events == 0
    return lattice.solve(values, penalty, clipped, zero, doubtful=doubtful)


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
    rest are found again, until none is too small.

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
    forbidden = np.zeros(len(values), dtype=bool)
    solution = lattice.solve(values, 0.0, clipped, forbidden, forbidden=forbidden)
    while True:
        places = np.flatnonzero(solution.events[1:]) + 1
        shown = solution.events[places] * response.summed(lattice.n_frames[places])
        padded = np.concatenate([[np.inf], shown, [np.inf]])
        remove = (shown < smallest) & (shown <= padded[:-2]) & (shown < padded[2:])
        if not remove.any():
            return solution
        forbidden = forbidden.copy()
        forbidden[places[remove]] = True
        solution = lattice.solve(values, 0.0, clipped, (solution.events == 0) | forbidden, forbidden=forbidden)


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
        Of these, as many as are penalised.
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
            return cls(n, response.counted(n), own, own, factors, factors[:0])
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
            return cls(n, response.counted(n), own, own, factors[:3], factors[:0])
        ties = np.zeros_like(factors)
        ties[:, ends + 1] = factors[:, ends + 1]
        ties[1:, ends + 1] -= factors[:-1, ends]
        return cls(n, response.counted(n), places, np.searchsorted(places, np.arange(n_unknowns)), factors, ties)

    def solve(
        self,
        values: Floats,
        penalty: float,
        clipped: Bools | None,
        zero: Bools,
        *,
        forbidden: Bools | None = None,
        doubtful: float = 0.0,
    ) -> Solution:
        """Find the events, starting from a guess of which are 0; the forbidden ones remain so."""
        weights = np.ones(len(values))
        for _ in range(CLIPPED_ROUNDS):
            light, events = self._solve(values, weights, penalty, zero, forbidden)
            if clipped is None:
                break
            needed = np.where(clipped & (light > values), NEGLIGIBLE, 1.0)
            if np.array_equal(needed, weights):
                break
            weights, zero = needed, events == 0
        return Solution(self._shared(events, doubtful), light, float(self.counted @ events), events)

    def _solve(
        self, values: Floats, weights: Floats, penalty: float, zero: Bools, forbidden: Bools | None
    ) -> tuple[Floats, Floats]:
        """Light and events of the samples."""
        per_event = penalty * self.counted / np.bincount(self.sample)
        target = -_adjoint(self.factors, per_event[self.sample])
        target[self.places] += weights * values
        scale = float(np.abs(values).max())
        fewest, patience = len(zero) + 1, PATIENCE
        while True:
            stiffness = np.where(zero, STIFFNESS, 0.0)[self.sample]
            banded = _squares(self.factors, stiffness)
            if len(self.ties):
                banded += _squares(self.ties, STIFFNESS - stiffness)
            banded[0, self.places] += weights
            light = solveh_banded(banded, target, lower=True, check_finite=False)
            events = _combined(self.factors, light)
            sums = np.bincount(self.sample, events)
            wrong = np.where(zero, STIFFNESS * sums > TOLERANCE * scale, sums < -TOLERANCE * scale)
            wrong = wrong if forbidden is None else wrong & ~forbidden
            n_wrong = int(wrong.sum())
            if n_wrong == 0:
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

    def _shared(self, events: Floats, doubtful: float) -> Floats:
        """Events, shared by all frames from the sample before a gap to the second after it, as far as their frame is in doubt.

        In which of these an event of about the noise lies is decided by the noise of few samples, and by the penalty.
        """
        gaps = np.flatnonzero(self.n_frames > 1)
        if len(gaps) == 0:
            return events
        n_before = (gaps > 1).astype(float)
        following = np.minimum(gaps + 1, len(events) - 1)
        n_following = ((following > gaps) & (self.n_frames[following] == 1)).astype(float)
        small = np.minimum(events, doubtful)
        totals = n_before * small[gaps - 1] + self.n_frames[gaps] * small[gaps] + n_following * small[following]
        means = totals / (n_before + self.n_frames[gaps] + n_following)
        sums, counts = np.zeros(len(events)), np.zeros(len(events))
        for members, weight in ((gaps - 1, n_before), (gaps, np.ones(len(gaps))), (following, n_following)):
            np.add.at(sums, members, weight * means)
            np.add.at(counts, members, weight)
        return np.where(counts > 0, events - small + sums / np.maximum(counts, 1), events)


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


def _squares(rows: Floats, weights: Floats) -> Floats:
    """Sum of the weighted squares of combinations, as a symmetric matrix in lower banded form."""
    n_lags, size = rows.shape
    banded = np.zeros((n_lags, size))
    for late in range(n_lags):
        weighted = weights * rows[late]
        for early in range(late, n_lags):
            banded[early - late, : size - early] += (weighted * rows[early])[early:]
    return banded
