"""What a learned system says of trials: many of its courses are weighed by how well each explains what was observed.

The courses begin in states in which trials may begin (`Dynamics.candidates`), so their weights are those of importance
sampling from the prior, and weighted means are posterior means. This is exact, but for the number of courses, whatever shape
the posterior has; it can be done since the state has few dimensions. All trials share the courses, unless known inputs, which
differ from trial to trial, drive the system. Long trials are weighed in windows that overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nwb_sbtt.batch import Batch, generator_on
from nwb_sbtt.models.dynamics import STATES_AT_ONCE, Dynamics
from nwb_sbtt.models.windows import counted, windows

LEAST_COURSES, OWN = 256, 32
"""Least number of courses of each kind, and the part of them that can be computed for each trial, with known inputs."""
ENTRIES_OF_ALL = 24_000_000
"""Entries (bins times channels) of the shared courses of a kind, which limit their number."""
ENTRIES_AT_ONCE = 12_000_000
"""Of courses whose expectations are in memory at a time."""
TRIALS_AT_ONCE = 256
SEED = 0
"""Of the courses: a trial has the same estimates whatever trials are inferred with it."""


@dataclass(frozen=True)
class Weighed:
    """Posterior means over the courses of a system.

    Parameters
    ----------
    expected, variance : Float[Tensor, "trial time channel"]
        Of the expected value of each entry, over a whole bin, in the data's unit.
    states : Float[Tensor, "trial time dimension"]
    """

    expected: Tensor
    variance: Tensor
    states: Tensor


def weigh(dynamics: Dynamics, batch: Batch, *, ahead: Batch | None = None, bins: int = 0) -> Weighed:
    """Infer trials from their shown entries by the courses of a system.

    Parameters
    ----------
    dynamics : Dynamics
    batch : Batch
    ahead : Batch, optional
        Known inputs of the last bin and of those after it, where the system has known inputs and `bins` are foretold.
    bins : int
        Bins to foretell. Then these are what is returned, and only the last window is weighed.

    Returns
    -------
    Weighed
    """
    parts = [_weigh(dynamics, batch.select(rows), rows, ahead, bins) for rows in batch.pieces(TRIALS_AT_ONCE)]
    expected, *others = (torch.cat(each) for each in zip(*map(_fields, parts), strict=True))
    return Weighed(expected + dynamics.likelihood.reference(batch.session), *others)


def evidence_of_kinds(dynamics: Dynamics, batch: Batch) -> Float[Tensor, "trial kind"]:
    """Compute how likely the shown entries of the first window are given each kind of candidates (`Dynamics.candidates`).

    Parameters
    ----------
    dynamics : Dynamics
    batch : Batch

    Returns
    -------
    Float[Tensor, "trial kind"]
        Log-likelihood in nats, but for terms of the data alone.
    """
    found, length = list[Tensor](), min(int(dynamics.window), batch.shape[1])
    for rows in batch.pieces(TRIALS_AT_ONCE):
        part, generator = windows(batch.select(rows), [0], length), generator_on(batch.device, SEED)
        features = dynamics.features(part)
        n = n_courses(dynamics.config.courses, length * batch.shape[2], own=features is not None)
        starts, _ = dynamics.candidates(batch.session, n, generator, first=True, every=True)
        for some, states in _in_pieces(dynamics, starts, length, features, len(rows)):
            piece = part.select(some)
            log_weights = log_likelihoods(dynamics, states, piece, piece.shown)
            found.append(log_weights.reshape(len(some), -1, n).logsumexp(2) - math.log(n))
    return torch.cat(found)


def run_courses(
    dynamics: Dynamics,
    starts: Float[Tensor, "*trial course dimension"],
    n_bins: int,
    features: Float[Tensor, "trial time feature"] | None,
) -> Float[Tensor, "set course time dimension"]:
    """Run courses that all trials share or, where known inputs drive the system, those of each trial.

    Parameters
    ----------
    dynamics : Dynamics
    starts : Float[Tensor, "*trial course dimension"]
        The same for all trials, or with known inputs of each.
    n_bins : int
    features : Float[Tensor, "trial time feature"] or None
        As of `Dynamics.features`.

    Returns
    -------
    Float[Tensor, "set course time dimension"]
        One set, or one for each trial.
    """
    if features is None:
        return dynamics.run(starts, n_bins)[None]
    own = starts.expand(len(features), *starts.shape[-2:])
    return dynamics.run(own, n_bins, features[:, None].expand(-1, own.shape[1], -1, -1))


def log_likelihoods(
    dynamics: Dynamics,
    states: Float[Tensor, "set course time dimension"],
    batch: Batch,
    entries: Bool[Tensor, "trial time channel"],
) -> Float[Tensor, "trial course"]:
    """Compute how likely entries are given courses, but for terms of the data alone.

    Parameters
    ----------
    dynamics : Dynamics
    states : Float[Tensor, "set course time dimension"]
        One set of courses for all trials, or one for each.
    batch : Batch
        Dense.
    entries : Bool[Tensor, "trial time channel"]
        Which entries count.

    Returns
    -------
    Float[Tensor, "trial course"]
        Nats.
    """
    values, shares = counted(dynamics.likelihood, batch, entries)
    result = values.new_empty(len(values), states.shape[1])
    for sets, courses in _pieces(states, values.shape[2]):
        expected = _expected(dynamics, states[sets, courses], batch.session)
        slope, cost = dynamics.likelihood.natural(expected, batch.session)
        if len(states) == 1:
            product = values.flatten(1) @ slope[0].flatten(1).T
            result[:, courses] = product.addmm_(shares.flatten(1), cost[0].flatten(1).T, alpha=-1)
        else:
            result[sets, courses] = torch.einsum("btc,bmtc->bm", values[sets], slope) - torch.einsum(
                "btc,bmtc->bm", shares[sets], cost
            )
    return result


def n_courses(most: int, n_entries: int, *, own: bool) -> int:
    """Return how many courses are drawn.

    Parameters
    ----------
    most : int
        Their largest number.
    n_entries : int
        Entries (bins times channels) of a course, which limit the number.
    own : bool
        Whether each trial has its own.

    Returns
    -------
    int
    """
    n = min(most, max(LEAST_COURSES, ENTRIES_OF_ALL // n_entries))
    return max(1, n // OWN) if own else n


def _weigh(
    dynamics: Dynamics,
    batch: Batch,
    rows: Tensor,
    ahead: Batch | None,
    bins: int,
) -> Weighed:
    n_bins = batch.shape[1]
    length = min(int(dynamics.window), n_bins)
    last = n_bins - length
    firsts = [last] if bins else sorted({*range(0, last, length), *range(length // 2, last, length), last})
    sets = dict[tuple[bool, int], list[int]]()
    for first in firsts:
        # In training, windows of a trial followed each other without overlap.
        sets.setdefault((first < length, first % length), []).append(first)
    estimates, generator = dict[int, _Estimate](), generator_on(batch.device, SEED)
    for (of_trials, after), begun in sets.items():
        part = windows(batch, begun, length)
        features, before = dynamics.features(part), None
        n = n_courses(dynamics.config.courses, (length + bins) * batch.shape[2], own=features is not None)
        if features is not None and after:
            before = dynamics.features(windows(batch, [first - after for first in begun], after + 1))
        if features is not None and ahead is not None:
            later = dynamics.features(ahead.select(rows))
            assert later is not None
            features = torch.cat([features[:, :-1], later], 1)
        starts, log_prior = dynamics.candidates(
            batch.session, n, generator, first=of_trials, after=after, features=before
        )
        pieces = [
            _weighted_means(dynamics, part.select(some), states, log_prior)
            for some, states in _in_pieces(dynamics, starts, length + bins, features, len(part.trials))
        ]
        found = _Estimate(*(torch.cat(each) for each in zip(*map(_fields, pieces), strict=True)))
        estimates |= {first: found.part(i, len(batch.trials)) for i, first in enumerate(begun)}
    if len(estimates) == 1:
        return estimates[firsts[0]].weighed()
    return _joined([estimates[first] for first in firsts], firsts, n_bins)


@dataclass(frozen=True)
class _Estimate:
    """Posterior means of windows: of expectations, counted from the reference of each channel, their squares, and states."""

    expected: Tensor
    square: Tensor
    states: Tensor

    def part(self, i: int, n: int) -> _Estimate:
        rows = slice(i * n, (i + 1) * n)
        return _Estimate(self.expected[rows], self.square[rows], self.states[rows])

    def weighed(self) -> Weighed:
        variance = (self.square - self.expected**2).clamp(min=0)
        return Weighed(self.expected, variance, self.states)


def _in_pieces(
    dynamics: Dynamics, starts: Tensor, n_bins: int, features: Tensor | None, n_trials: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of trials and the courses for these: all at once where they share them, else as many as fit into memory."""
    most = n_trials if features is None else max(1, STATES_AT_ONCE // (starts.shape[-2] * n_bins))
    for rows in torch.split(torch.arange(n_trials, device=starts.device), most):
        begun = starts if starts.dim() == 2 else starts[rows]
        yield rows, run_courses(dynamics, begun, n_bins, None if features is None else features[rows])


def _weighted_means(dynamics: Dynamics, batch: Batch, states: Tensor, log_prior: Tensor) -> _Estimate:
    """Weigh courses by the bins of a batch; means are of the bins after these, if the courses go on beyond them."""
    n_trials, n_bins, n_channels = batch.shape
    weights = (log_likelihoods(dynamics, states[:, :, :n_bins], batch, batch.shown) + log_prior).softmax(1)
    wanted = states[:, :, n_bins:] if states.shape[2] > n_bins else states
    reference = dynamics.likelihood.reference(batch.session)
    expected = wanted.new_zeros(n_trials, wanted.shape[2], n_channels)
    square, mean = torch.zeros_like(expected), wanted.new_zeros(n_trials, *wanted.shape[2:])
    for sets, courses in _pieces(wanted, n_channels):
        of_courses = _expected(dynamics, wanted[sets, courses], batch.session) - reference
        piece = weights[:, courses]
        trials = slice(None) if len(wanted) == 1 else sets
        for target, values in ((expected, of_courses), (square, of_courses**2), (mean, wanted[sets, courses])):
            target[trials] += _averaged(piece[trials], values)
    return _Estimate(expected, square, mean)


def _averaged(weights: Tensor, values: Tensor) -> Tensor:
    """Sum values (set, course, …) of courses by the weights (trial, course) of trials."""
    if len(values) == 1:
        return (weights @ values[0].flatten(1)).reshape(len(weights), *values.shape[2:])
    return torch.einsum("bm,bmtc->btc", weights, values)


def _joined(estimates: list[_Estimate], firsts: list[int], n_bins: int) -> Weighed:
    """Average windows that overlap; bins near the end of a window count less, since less is known of them there."""
    length = estimates[0].expected.shape[1]
    place = torch.arange(length, device=estimates[0].expected.device, dtype=estimates[0].expected.dtype)
    share = torch.minimum(place + 1, length - place)[:, None]
    total = share.new_zeros(n_bins, 1)
    sums = [each.new_zeros(len(each), n_bins, each.shape[2]) for each in _fields(estimates[0])]
    for first, estimate in zip(firsts, estimates, strict=True):
        within = slice(first, first + length)
        total[within] += share
        for each, part in zip(sums, _fields(estimate), strict=True):
            each[:, within] += share * part
    expected, square, states = (each / total for each in sums)
    return _Estimate(expected, square, states).weighed()


def _fields(of: Weighed | _Estimate) -> tuple[Tensor, ...]:
    return tuple(vars(of).values())


def _expected(dynamics: Dynamics, states: Tensor, session: str) -> Tensor:
    """Expectations (set, course, time, channel) of states (set, course, time, dimension)."""
    expected = dynamics.likelihood.expected(states.flatten(0, 1), session)
    return expected.reshape(*states.shape[:3], expected.shape[2])


def _pieces(states: Tensor, n_channels: int) -> Iterator[tuple[slice, slice]]:
    """Sets and courses of pieces whose expectations fit into memory."""
    n_sets, n_courses, n_bins = states.shape[:3]
    most = max(1, ENTRIES_AT_ONCE // (n_bins * n_channels))
    if n_sets > 1:
        step = max(1, most // n_courses)
        yield from ((slice(i, i + step), slice(None)) for i in range(0, n_sets, step))
    else:
        yield from ((slice(None), slice(i, i + most)) for i in range(0, n_courses, most))
