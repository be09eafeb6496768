"""Timestamps that are rounded as coarsely as samples follow each other, and the even clock behind them.

Times in single precision are 30.5 µs apart beyond 256 s, and 0.98 ms beyond 2.3 h; others were rounded to milliseconds when
they were written. Where that is about a sampling period, steps of 0, 1 and 2 quanta take turns: gaps seem to be everywhere,
samples repeat, and the median step is a quantum instead of the sampling period. A line through each run of samples, which no
timestamp misses by more than half a quantum, tells when the samples were taken. Where no such lines exist the timestamps stay
as they are.

Where the sampling period is one or two quanta, and samples fall on the edge of a quantum, errors of arithmetic decide to which
side some go: few timestamps slip by a quantum, so that they repeat the one before, and the next step makes up for it. The line
goes through the others then. From a sample that was stored twice, and the next one lost, this cannot be told; but two samples
are never taken at once. A repeat that the next step does not make up for is no such slip, and one beside a gap stays as it is,
because a sample could have been lost there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_SHARE = 1e-3
"""Rounding to less than this share of the sampling period leaves a clock regular."""
LEAST_RUN = 64
"""Samples on a line, on average; of fewer any line could be made."""
MOST_STEPS = 1000
"""Most different steps of timestamps that are still thought to be multiples of one quantum."""
NEAR = 8.0
"""Steps up to this many times the median are looked at for a quantum."""
SAME_LENGTH = 0.9
"""Share of the runs of equal timestamps that have one length where devices stamped blocks of samples."""
FINE = 64
"""A line may be shorter than the longest possible one by this part of its length."""
FEW = 3
"""Up to so many longer steps in a run are lost samples rather than rounding that adds up."""
AT_ONCE = 1 << 21
"""Timestamps through which lines are laid at once."""
CLOCK = 1e-9
"""Seconds; differences below this are errors of arithmetic."""
SLACK = 1 + 1e-6
SHORT = 256
"""Samples of a run, from which its own period is better than the common one."""
MOST_EXCHANGES = 50
COARSE = 1e-3
"""Seconds; a coarser step between two stored times than this, or than a bin, is noted."""
Read = Callable[[int, int], NDArray[np.float64]]
"""Function that reads the timestamps of samples `first` to `stop` − 1, NaN where one is not valid."""


@dataclass(frozen=True)
class Quantum:
    """What timestamps are rounded to.

    Parameters
    ----------
    size : float
        Seconds, where timestamps are largest.
    step : float
        Quantum of all of them [s]; 0 where only the type of the numbers limits them.
    single : bool
        Whether the numbers have single precision or less, so that the quantum grows with them.
    period : float
        Sampling period [s]: the mean of the steps that are not gaps.
    slips : bool
        Whether single timestamps slip by half a sampling period or a whole one, and the others are exact; `size` is what those
        may miss a line by, twice.
    """

    size: float
    step: float
    single: bool
    period: float
    slips: bool = False

    def half(self, times: NDArray[np.float64]) -> float:
        """Largest error of rounding of some timestamps [s].

        Parameters
        ----------
        times : array (sample)
            Seconds.

        Returns
        -------
        float
        """
        largest = float(np.abs(times).max(initial=0.0))
        spacing = np.spacing(np.float32(largest)) if self.single else np.spacing(largest)
        return max(self.step, float(spacing)) / 2

    def __str__(self) -> str:
        """What to call it in a note or an error."""
        return f"{self.size:.3g} s" + " (float32)" * self.single


@dataclass(frozen=True)
class Lines:
    """Evenly spaced runs of samples.

    Parameters
    ----------
    firsts : int array (line)
        First sample of each, rising; a line reaches up to the next.
    starts : array (line)
        Time of the first sample [s].
    periods : array (line)
        Seconds from one sample to the next.
    stop : int
        Sample after the last.
    block : int
        Samples of a block that were stored with the time of its first; 1 where times were rounded one by one.
    slipped : int
        Number of single timestamps that lie half a sampling period or a whole one beside the line.
    """

    firsts: NDArray[np.intp]
    starts: NDArray[np.float64]
    periods: NDArray[np.float64]
    stop: int
    block: int = 1
    slipped: int = 0

    @property
    def period(self) -> float:
        """Sampling period [s]: the median over samples."""
        weights = np.diff(self.firsts, append=self.stop)
        order = np.argsort(self.periods)
        middle = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
        return float(self.periods[order][middle])

    def times(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the times of samples `first` to `stop` − 1 [s]; before the first line they continue it backwards.

        Parameters
        ----------
        first, stop : int
            First sample, and the one after the last.

        Returns
        -------
        array (sample)
            Seconds.
        """
        low = max(int(np.searchsorted(self.firsts, first, side="right")) - 1, 0)
        high = max(int(np.searchsorted(self.firsts, stop, side="left")), low + 1)
        edges = np.clip(np.append(self.firsts[low:high], stop), first, stop)
        edges[0] = first
        line = np.repeat(np.arange(low, high), np.diff(edges))
        return np.asarray(self.starts[line] + (np.arange(first, stop) - self.firsts[line]) * self.periods[line])


def note_on_spacing(stored: Any, times: ArrayLike, what: str, *, bin_width: float | None = None) -> tuple[str, ...]:
    """Note times whose type tells them apart by no less than a millisecond, or a bin: single precision, whole numbers.

    Parameters
    ----------
    stored : array-like
        As the file holds them; only its type is looked at.
    times : array
        Some of them, with the largest [s].
    what : str
        What they are, for the note.
    bin_width : float, optional
        Seconds.

    Returns
    -------
    tuple of str
        Empty where the times are fine enough, or are no numbers.
    """
    dtype = np.dtype(getattr(stored, "dtype", None) or np.asarray(stored).dtype)
    known = np.abs(np.asarray(times, dtype=np.float64))
    largest = float(known[np.isfinite(known)].max(initial=0.0))
    if dtype.kind not in "iuf" or largest == 0:
        return ()
    step = 1.0 if dtype.kind in "iu" else float(np.spacing(dtype.type(largest)))
    if not step > min(COARSE, bin_width or COARSE):
        return ()
    return (
        f"{what} are stored as {dtype} with a resolution of {step:.3g} s at {largest:g} s, so some may be counted in "
        "a neighbouring bin",
    )


def find_quantum(parts: Sequence[NDArray[np.float64]], dtype: np.dtype[np.generic]) -> Quantum | None:
    """Find out whether timestamps are rounded so coarsely that it shows between two samples.

    Parameters
    ----------
    parts : sequence of arrays (sample)
        Some of the timestamps [s], in runs; NaN where one is not valid.
    dtype : dtype
        Of the stored timestamps.

    Returns
    -------
    Quantum or None
        None where steps are no multiples of anything, or the quantum is too small to matter, or there is nothing to
        explain: all steps are the same, but for gaps.
    """
    steps = np.concatenate([np.diff(part) for part in parts] or [np.empty(0)])
    steps = steps[np.isfinite(steps)]
    largest = max((float(np.nanmax(np.abs(part))) for part in parts if np.isfinite(part).any()), default=0.0)
    positive = steps[steps > 0]
    if len(positive) == 0:
        return None
    median = float(np.median(positive))
    timed = np.concatenate([part[np.isfinite(part)] for part in parts])
    # Also where numbers of single precision were converted before they were written.
    single = (dtype.kind == "f" and dtype.itemsize < 8) or bool((timed == timed.astype(np.float32)).all())
    spacing = float(np.spacing(np.float32(largest)) if single else np.spacing(largest))
    near = steps[steps <= NEAR * median]
    uneven = np.abs(near - median) > LEAST_SHARE * median
    is_run = len(near) > LEAST_RUN * max(int(uneven.sum()), 1)
    if is_run and not (steps == 0).any() and not (uneven & (near < 1.5 * median)).any():
        return None
    if is_run and _are_single_slips(steps, median):
        # Less than half a period off is jitter, and where the type of the numbers is coarse the others are not exact.
        far = steps[steps < (1 - LEAST_SHARE) * median] <= (0.5 + LEAST_SHARE) * median
        exact = max(2 * CLOCK, spacing)
        if not far.all() or exact >= LEAST_SHARE * median:
            return None
        period = float(steps[np.abs(steps - median) <= LEAST_SHARE * median].mean())
        return Quantum(exact, exact, single, period, slips=True)
    step = _common_divisor(near[near > 0], resolution=max(CLOCK, 8 * float(np.spacing(largest))))
    size = max(step, spacing)
    single = single and spacing > step / 2
    if size < LEAST_SHARE * median:
        return None
    return Quantum(size, step, single, mean_step(steps, size))


def _are_single_slips(steps: NDArray[np.float64], period: float) -> bool:
    """Whether each short step has a long one beside it that makes up for it: one timestamp is wrong, and the clock is even."""
    short = np.flatnonzero(steps < (1 - LEAST_SHARE) * period)
    padded = np.concatenate([[np.inf], steps, [np.inf]])
    both = np.stack([padded[short] + steps[short], steps[short] + padded[short + 2]])
    return bool(len(short)) and bool((np.abs(both - 2 * period).min(axis=0) <= LEAST_SHARE * period).all())


def find_slips(times: NDArray[np.float64], period: float) -> NDArray[np.bool_]:
    """Find timestamps half a sampling period or more off, while those before and after are two periods apart.

    Parameters
    ----------
    times : array (sample)
        Seconds; NaN where one is not valid.
    period : float
        Sampling period [s].

    Returns
    -------
    bool array (sample)
        Never true of the first and last, which have one neighbour only.
    """
    steps = np.diff(times, prepend=np.nan, append=np.nan)
    before, after = steps[:-1], steps[1:]
    is_far = np.minimum(before, after) <= (0.5 + LEAST_SHARE) * period
    return np.asarray(is_far & (np.abs(before + after - 2 * period) <= LEAST_SHARE * period))


def mean_step(steps: NDArray[np.float64], quantum: float) -> float:
    """Mean of the steps that rounding makes of one sampling period: the median one and its neighbours.

    Parameters
    ----------
    steps : array (step)
        Seconds.
    quantum : float
        Seconds.
    """
    return float(steps[np.abs(steps - np.median(steps)) <= SLACK * quantum].mean())


def lay_lines(read: Read, n_samples: int, quantum: Quantum) -> Lines | None:
    """Lay lines through timestamps that miss none of them by more than half a quantum.

    Lines meet where no sample is missing between them. Where blocks of samples share a timestamp it is that of the first.

    Parameters
    ----------
    read : callable (first, stop) -> array (sample)
    n_samples : int
    quantum : Quantum

    Returns
    -------
    Lines or None
        None where the lines would be too short to mean anything, or say nothing that the timestamps do not.
    """
    lines: list[_Line] = []
    n_timed, n_slipped, deviation = 0, 0, 0.0
    for start in range(0, n_samples, AT_ONCE):
        stop = min(start + AT_ONCE, n_samples)
        times = read(start, stop)
        if quantum.slips:
            # Neighbours in other parts tell whether the first and the last one slip.
            before = max(start - 1, 0)
            slipped = find_slips(read(before, min(stop + 1, n_samples)), quantum.period)[start - before : stop - before]
            times = np.where(slipped, np.nan, times)
            n_slipped += int(slipped.sum())
        timed = np.flatnonzero(np.isfinite(times))
        n_timed += len(timed)
        samples, times = start + timed, times[timed]
        # A run that began before goes on.
        n_joined = lines[-1].reaches(samples, times, quantum) if lines else 0
        if n_joined:
            lines[-1] = lines[-1].extended(int(samples[n_joined - 1]))
        found = _lines_through(
            samples[n_joined:], times[n_joined:], quantum, most=n_timed // LEAST_RUN + 1 - len(lines)
        )
        if found is None:
            return None
        lines += found
        deviation = max([deviation, *(line.deviation for line in found)])
    says_more = n_slipped > 0 or deviation > LEAST_SHARE * quantum.period
    if not lines or len(lines) * LEAST_RUN > n_timed or not says_more:
        return None
    joined = _joined(lines, quantum.period)
    lasts = np.array([line.last for line in lines])
    ends = joined.starts + joined.periods * (lasts - joined.firsts)
    # Samples that repeat are not evenly spaced, and lines through them would go back.
    if not (joined.starts[1:] >= ends[:-1]).all():
        return None
    block = 1 if quantum.single or quantum.slips else _block_length(read(0, min(n_samples, AT_ONCE)))
    return replace(joined, starts=joined.starts + joined.periods * (block - 1) / 2, block=block, slipped=n_slipped)


def _block_length(times: NDArray[np.float64]) -> int:
    """Samples that share a timestamp, if these are as many each time; 1 otherwise, and where times were rounded.

    Rounding to the nearest leaves half a block at the beginning, where a recording begins.
    """
    lengths = np.diff(np.flatnonzero(np.diff(times, prepend=np.nan) != 0))
    if len(lengths) < 2 or (lengths == lengths[0]).mean() < SAME_LENGTH:
        return 1
    return int(lengths[0])


@dataclass(frozen=True)
class _Line:
    """Samples `first` to `last` at `start` + `period` · (sample − first), and by how much a timestamp misses it most [s]."""

    first: int
    last: int
    start: float
    period: float
    deviation: float

    def at(self, samples: NDArray[np.intp] | int) -> NDArray[np.float64]:
        return np.asarray(self.start + self.period * (np.asarray(samples) - self.first))

    def reaches(self, samples: NDArray[np.intp], times: NDArray[np.float64], quantum: Quantum) -> int:
        """Number of samples, from the first on, that lie on this line too."""
        missed = np.abs(times - self.at(samples)) > quantum.half(times) * SLACK
        return int(np.argmax(missed)) if missed.any() else len(samples)

    def extended(self, last: int) -> _Line:
        return _Line(self.first, last, self.start, self.period, self.deviation)


def _lines_through(
    samples: NDArray[np.intp], times: NDArray[np.float64], quantum: Quantum, *, most: int
) -> list[_Line] | None:
    """Lines through some timestamps; None if there would be more than `most`."""
    if len(samples) == 0:
        return []
    counts, steps = np.diff(samples), np.diff(times)
    # What no rounding explains is a gap. The others show when no line fits.
    unexplained = (
        np.abs(steps - counts * quantum.period)
        > 2 * quantum.half(times) * SLACK + LEAST_SHARE * quantum.period * counts
    )
    bounds = np.concatenate([[0], np.flatnonzero(unexplained) + 1, [len(samples)]])
    lines: list[_Line] = []
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        guess = high - low
        while low < high:
            stop, line = _longest(samples[low:high], times[low:high], quantum, guess=guess)
            guess = stop
            cuts = low + _lost_samples(samples[low : low + stop], times[low : low + stop], quantum)
            if len(cuts):
                stop = int(cuts[0]) - low
                line = _fit(samples[low : low + stop], times[low : low + stop], quantum)
            if line is None or len(lines) >= most:
                return None
            lines.append(line)
            low += stop
    return lines


def _longest(
    samples: NDArray[np.intp], times: NDArray[np.float64], quantum: Quantum, *, guess: int
) -> tuple[int, _Line | None]:
    """Number of samples, from the first on, through which one line goes, nearly as many as possible, and that line.

    Parameters
    ----------
    samples, times
        One run.
    quantum : Quantum
    guess : int
        Number that is tried first.
    """
    fitting, failing = 0, len(samples) + 1
    line: _Line | None = None
    length = min(guess, len(samples))
    while failing - fitting > 1 + fitting // FINE:
        attempt = _fit(samples[:length], times[:length], quantum)
        if attempt is None:
            failing = length
        else:
            fitting = max(length, attempt.reaches(samples[: failing - 1], times[: failing - 1], quantum))
            line = attempt.extended(int(samples[fitting - 1]))
        length = (fitting + failing) // 2 if failing <= len(samples) else min(2 * fitting, len(samples))
        length = max(length, 1)
    return fitting, line


def _lost_samples(samples: NDArray[np.intp], times: NDArray[np.float64], quantum: Quantum) -> NDArray[np.intp]:
    """Where a run should be cut after all: at a few longer steps among equal ones, which rounding would have made many.

    A line through one lost sample misses no timestamp by more than half a quantum if the period is a whole quantum.
    """
    steps = np.diff(times)[np.diff(samples) == 1]
    if len(steps) < 2:
        return np.empty(0, dtype=np.intp)
    multiples = np.round((np.diff(times) / np.diff(samples) - np.median(steps)) / (2 * quantum.half(times))).astype(int)
    deviating = np.flatnonzero(multiples)
    if not 0 < len(deviating) <= FEW or multiples.sum() <= 0:
        return np.empty(0, dtype=np.intp)
    return np.asarray(deviating[multiples[deviating] > 0] + 1, dtype=np.intp)


def _fit(samples: NDArray[np.intp], times: NDArray[np.float64], quantum: Quantum) -> _Line | None:
    """A line that misses no timestamp by more than half a quantum; None where there is none."""
    limit = quantum.half(times) * SLACK + CLOCK
    x, y = (samples - samples[0]).astype(np.float64), times - times[0]
    if len(x) == 1:
        return _Line(int(samples[0]), int(samples[0]), float(times[0]), quantum.period, 0.0)
    # With the common period, where that will do; then with the one that fits best; then with any.
    ahead = y - quantum.period * x
    if float(np.ptp(ahead)) <= 2 * limit and len(x) < SHORT:
        slope, offset = quantum.period, float(ahead.max() + ahead.min()) / 2
    else:
        centred = x - x.mean()
        slope = float(centred @ y / (centred @ centred))
        offset = float(y.mean() - slope * x.mean())
        if np.abs(y - offset - slope * x).max() > limit:
            best = _within(x, y, limit)
            if best is None:
                return None
            slope, offset = best
    if slope <= 0:
        return None
    deviation = float(np.abs(y - offset - slope * x).max())
    return _Line(int(samples[0]), int(samples[-1]), float(times[0] + offset), slope, deviation)


def _within(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> tuple[float, float] | None:
    """Slope and offset of a line that misses no point by more than a limit; None where there is none.

    The exchange algorithm of minimax approximation: of three points the line that misses them by the same, in turns of sign,
    tells how much any line must miss; the point that it misses most takes the place of one of them.
    """
    points = [0, len(x) // 2, len(x) - 1]
    if len(x) < 3:
        return float((y[-1] - y[0]) / (x[-1] - x[0])), float(y[0])
    for _ in range(MOST_EXCHANGES):
        first, middle, last = points
        slope = (y[last] - y[first]) / (x[last] - x[first])
        error = (y[first] + slope * (x[middle] - x[first]) - y[middle]) / 2
        if abs(error) > limit:
            return None
        offset = y[first] - error - slope * x[first]
        missed = y - offset - slope * x
        worst = int(np.argmax(np.abs(missed)))
        if abs(missed[worst]) <= limit:
            return float(slope), float(offset)
        same = (missed[worst] > 0) == (error > 0)
        if worst < first:
            points = [worst, middle, last] if same else [worst, first, middle]
        elif worst < middle:
            points = [worst, middle, last] if same else [first, worst, last]
        elif worst < last:
            points = [first, middle, worst] if same else [first, worst, last]
        else:
            points = [first, middle, worst] if same else [middle, last, worst]
    return None


def _joined(lines: Sequence[_Line], period: float) -> Lines:
    """Lines that meet half way where one goes on as the next, within half a period; others have a gap between them."""
    firsts = np.array([line.first for line in lines], dtype=np.intp)
    starts = np.array([line.start for line in lines])
    periods = np.array([line.period for line in lines])
    spans = firsts[1:] - firsts[:-1]
    arrivals = starts[:-1] + periods[:-1] * spans
    jumps = starts[1:] - arrivals
    meets = np.abs(jumps) <= period / 2
    begins = starts.copy()
    begins[1:][meets] -= jumps[meets] / 2
    ends = np.where(meets, begins[1:], arrivals)
    slopes = periods.copy()
    slopes[:-1] = (ends - begins[:-1]) / spans
    return Lines(firsts, begins, slopes, lines[-1].last + 1)


def _common_divisor(steps: NDArray[np.float64], *, resolution: float) -> float:
    """Largest quantum of which all steps are multiples [s]; 0 where there is none."""
    different = np.unique(np.round(steps / resolution)) * resolution
    if not 0 < len(different) <= MOST_STEPS:
        return 0.0
    divisor = float(different[0])
    for step in different[1:].tolist():
        larger, smaller = max(step, divisor), min(step, divisor)
        while smaller > 4 * resolution:
            larger, smaller = smaller, abs(larger - round(larger / smaller) * smaller)
        divisor = larger
    if divisor < 16 * resolution:
        return 0.0
    off = np.abs(different - np.round(different / divisor) * divisor)
    return divisor if float(off.max()) <= 4 * resolution + LEAST_SHARE * divisor else 0.0
