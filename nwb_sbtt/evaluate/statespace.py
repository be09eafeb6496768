"""Latent-variable models learned by EM from masked data: factor analysis, and a linear dynamical system.

Both have a state of few dimensions that all channels read: counts with log-linear Poisson rates, samples with Gaussian noise
(`readouts`). In a linear dynamical system the state moves linearly with noise and is estimated by Kalman smoothing
(`kalman`); factor analysis is the same with bins that know nothing of each other. What was not shown is left out of every
sum, exactly. Written here because no library serves: scikit-learn's FactorAnalysis and elephant's GPFA take no missing
values, pykalman drops a whole bin where one channel is missing, it and statsmodels learn from a single series, and dynamax
has no masks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nwb_sbtt.evaluate.baselines import TUNING_ENTRIES, Evidence, Floats, Prediction, floored, mean_rate, tuning
from nwb_sbtt.evaluate.components import Components, components
from nwb_sbtt.evaluate.emissions import GaussianReadout, PoissonReadout, Readout, Seen
from nwb_sbtt.evaluate.kalman import JITTER, Course, Dynamics, learned_dynamics, smooth
from nwb_sbtt.evaluate.windows import blended, windows

FACTORS = (1, 2, 3, 4, 6, 8, 12)
"""Factors to choose from, of factor analysis."""
MOVING = (1, 2, 3, 4, 6)
"""Components to choose from, of a linear dynamical system; each has a state of two dimensions, and can oscillate."""
FIRST_ROUNDS = 12
"""Rounds of EM after which sizes are compared."""
EVERY, FURTHER = 10, 5
"""Further rounds of the size that was best, and how often as many are added at most."""
LARGER, LONGER = 0.005, 0.003
"""Gain on hidden entries, relative to that over the mean, for which a larger state, or more rounds, are taken."""
LAST_ROUNDS = 10
"""Rounds on all training trials, with nothing hidden."""
TUNED_BINS, LEARNED_BINS = 15_000, 50_000
"""Bins of training trials that settings are chosen on at most, and that a model is learned from: the smoother's cost."""
LEARNED_ENTRIES = 2_000_000
"""Entries of training trials that a model is learned from at most: the readout's cost."""
PASSES = 8
"""Newton steps on the posterior of counts at most; one is exact for samples."""
CLOSE = 0.05
"""Change of any log rate below which no further step is taken."""
LARGEST_STEP = 2.0
"""Most that a log rate changes in one step."""
AT_ONCE = 500_000
"""Entries that are estimated together."""
DECAYS = 1 - np.geomspace(0.015, 1, 30)
"""Decays from bin to bin that learning may start from."""


def factor_analysis(evidence: Evidence) -> Prediction:
    """Estimate every entry from what was shown of other channels in the same bin.

    The number of factors and of rounds of EM are those that best predict hidden entries of the training trials.
    """
    return _predicted(evidence, FACTORS, moving=False)


def linear_dynamics(evidence: Evidence) -> Prediction:
    """Estimate every entry from all that was shown of its trial, by a linear dynamical system and its Kalman smoother.

    The number of states and of rounds of EM are those that best predict hidden entries of the training trials. Trials
    longer than `windows.WINDOW` bins are smoothed in overlapping windows.
    """
    return _predicted(evidence, MOVING, moving=True)


@dataclass(frozen=True)
class _Model:
    """A state, how channels read it, and the units: samples are deviations from `mean` in units of `scale`."""

    dynamics: Dynamics
    readout: Readout
    mean: Floats
    scale: Floats
    counts: bool
    moving: bool

    def readable(self, evidence: Evidence, trials: slice = slice(None)) -> Seen:
        """What states may be estimated from."""
        sums, weights, allowed = evidence.sums[trials], evidence.weights[trials], evidence.readable[trials]
        return self._seen(np.where(allowed, sums, 0), np.where(allowed, weights, 0))

    def everything(self, evidence: Evidence) -> Seen:
        """What readouts may be learned from."""
        return self._seen(evidence.sums, evidence.weights)

    def expected(self, course: Course, shape: tuple[int, ...]) -> Floats:
        """Expected values (trial, time, channel) of trials and bins of that shape."""
        found = self.readout.expected(course)
        whole = blended(found, shape) if self.moving else found.reshape(*shape, -1)
        return whole if self.counts else self.mean + self.scale * whole

    def _seen(self, sums: Floats, weights: Floats) -> Seen:
        values = sums if self.counts else (sums - self.mean * weights) / self.scale
        return Seen(self._cut(values), self._cut(weights))

    def _cut(self, array: Floats) -> Floats:
        return windows(array) if self.moving else array.reshape(-1, 1, array.shape[2])


def _predicted(evidence: Evidence, sizes: tuple[int, ...], *, moving: bool) -> Prediction:
    model = _chosen(evidence, sizes, moving=moving)
    if model is None:
        return Prediction(mean_rate(evidence).expected, "no state, because none predicted hidden entries (chosen)")
    lesson = evidence.learnable(min(LEARNED_ENTRIES, LEARNED_BINS * evidence.values.shape[2]))
    _, model = _taught(model, lesson, _unknown(model, model.readable(lesson)), rounds=LAST_ROUNDS)
    d = model.readout.loadings.shape[1]
    kind = f"state of {d} dimensions" if moving else f"{d} factor{'s' * (d != 1)}"
    expected = floored(evidence, _estimate(model, evidence))
    never = ~lesson.shown.any((0, 1))
    expected[:, :, never] = evidence.mean[never]
    return Prediction(expected, f"{kind} (chosen){_taken(evidence, lesson)}")


def _estimate(model: _Model, evidence: Evidence) -> Floats:
    """Expected values (trial, time, channel), some trials at a time."""
    n_trials, n_bins, n_channels = evidence.values.shape
    step = max(1, AT_ONCE // (n_bins * n_channels))
    parts = []
    for first in range(0, n_trials, step):
        readable = model.readable(evidence, slice(first, first + step))
        course = _posterior(model, readable, _unknown(model, readable), passes=PASSES)
        parts.append(model.expected(course, (min(step, n_trials - first), n_bins)))
    return np.concatenate(parts)


def _chosen(evidence: Evidence, sizes: tuple[int, ...], *, moving: bool) -> _Model | None:
    """A model of the size, and after the rounds of EM, that predict hidden entries of training trials best; or the mean."""
    task = tuning(evidence, min(TUNING_ENTRIES, TUNED_BINS * evidence.values.shape[2]))
    lesson = task.evidence

    def score(model: _Model, course: Course) -> float:
        return task.score(floored(lesson, model.expected(course, lesson.values.shape[:2])))

    found = components(lesson)
    mean = task.score(mean_rate(lesson).expected)
    best, chosen = mean, None
    for size in (each for each in sizes if each <= len(found.strength)):
        model = _initial(lesson, found, size, moving=moving)
        course, model = _taught(model, lesson, _unknown(model, model.readable(lesson)), rounds=FIRST_ROUNDS)
        reached = score(model, course)
        if reached > best - LARGER * (mean - best):
            break
        best, chosen = reached, (model, course)
    if chosen is None:
        return None
    model, course = chosen
    for _ in range(FURTHER):
        course, after = _taught(model, lesson, course, rounds=EVERY)
        reached = score(after, course)
        if reached > best:
            break
        model, gain, best = after, best - reached, reached
        if gain < LONGER * (mean - best):
            break
    return model


def _initial(evidence: Evidence, found: Components, size: int, *, moving: bool) -> _Model:
    """A model made of the strongest components."""
    course = [basis @ basis.T for basis in found.bases[:size]]
    power = np.array([np.trace(each) / len(each) for each in course])
    # What is `scale` for a count is `scale` / mean for the logarithm of its rate.
    unit = found.scale / evidence.mean if evidence.counts else 1.0
    loadings = found.loadings[:, :size] * np.sqrt(power)
    loadings = loadings * np.broadcast_to(unit, len(loadings))[:, None]
    if moving:
        dynamics = _oscillators([_decay(each) for each in course])
        loadings = np.column_stack([loadings, np.zeros(loadings.shape)])
    else:
        dynamics = _still(size)
    n_channels = len(loadings)
    readout: Readout
    if evidence.counts:
        readout = PoissonReadout(loadings, np.log(evidence.mean), (0.5, 0.5 / evidence.overall))
    else:
        readout = GaussianReadout(loadings, np.zeros(n_channels), np.ones(n_channels))
    return _Model(dynamics, readout, evidence.mean, found.scale, evidence.counts, moving)


def _still(size: int) -> Dynamics:
    return Dynamics(np.zeros((size, size)), np.eye(size), np.zeros(size), np.eye(size))


def _decay(autocovariance: Floats) -> float:
    """Decay per bin of the critically damped course whose autocovariance comes closest."""
    n_bins = len(autocovariance)
    lag, pairs = np.arange(n_bins), np.arange(n_bins, 0, -1)
    measured = np.array([np.diag(autocovariance, each).mean() for each in range(n_bins)])
    errors = []
    for rho in DECAYS:
        shape = rho**lag * (1 + lag * (1 - rho**2) / (1 + rho**2))
        power = (pairs * shape * measured).sum() / (pairs * shape**2).sum()
        errors.append((pairs * (measured - max(power, 0) * shape) ** 2).sum())
    return float(DECAYS[int(np.argmin(errors))])


def _oscillators(decays: list[float]) -> Dynamics:
    """For each component a course and what drives it, both of variance 1 and of the same decay: z' = ρ z + u, u' = ρ u + w.

    Critical damping lies between decay and oscillation, so EM can turn it into either.
    """
    rho = np.array(decays)
    # Stationary variances of u and z, and their covariance, for w of variance 1.
    drive = 1 / (1 - rho**2)
    shared = rho * drive / (1 - rho**2)
    power = (drive + 2 * rho * shared) / (1 - rho**2)
    transition = np.block(
        [[np.diag(rho), np.diag(np.sqrt(drive / power))], [np.zeros((len(rho), len(rho))), np.diag(rho)]]
    )
    noise = np.diag([*[10 * JITTER] * len(rho), *(1 / drive)])
    stationary = np.block(
        [
            [np.eye(len(rho)), np.diag(shared / np.sqrt(drive * power))],
            [np.diag(shared / np.sqrt(drive * power)), np.eye(len(rho))],
        ]
    )
    return Dynamics(transition, noise, np.zeros(2 * len(rho)), stationary + 10 * JITTER * np.eye(2 * len(rho)))


def _unknown(model: _Model, seen: Seen) -> Course:
    """States at 0 without doubt, where the first step of Newton's method starts."""
    d = model.readout.loadings.shape[1]
    shape = seen.values.shape[:2]
    return Course(np.zeros((*shape, d)), np.zeros((*shape, d, d)), np.zeros((shape[0], shape[1] - 1, d, d)))


def _posterior(model: _Model, seen: Seen, course: Course, *, passes: int) -> Course:
    """States given what was seen, from a first guess; of counts as close as that many steps come."""
    for _ in range(passes if model.counts else 1):
        found = smooth(model.dynamics, *model.readout.information(seen, course))
        if not model.counts:
            return found
        change = found.mean - course.mean
        largest = np.abs(change @ model.readout.loadings.T).max((1, 2))
        share = np.minimum(1, LARGEST_STEP / np.maximum(largest, 1e-12))
        course = replace(found, mean=course.mean + share[:, None, None] * change)
        if largest.max() < CLOSE:
            break
    return course


def _taught(model: _Model, lesson: Evidence, course: Course, *, rounds: int) -> tuple[Course, _Model]:
    """The model after some rounds of EM, and what it then makes of the lesson."""
    readable, everything = model.readable(lesson), model.everything(lesson)
    for _ in range(rounds):
        course = _posterior(model, readable, course, passes=1)
        readout = model.readout.learned(everything, course)
        dynamics = learned_dynamics(course) if model.moving and course.mean.shape[1] > 1 else model.dynamics
        model = replace(model, readout=readout, dynamics=dynamics)
    return _posterior(model, readable, course, passes=1), model


def _taken(evidence: Evidence, lesson: Evidence) -> str:
    """Which part of the training trials was learned from, where it was not all."""
    entries = int(evidence.shown[evidence.train].sum())
    taken = int(lesson.shown.sum())
    return "" if taken == entries else f", learned from {taken / entries:.0%} of the training entries"
