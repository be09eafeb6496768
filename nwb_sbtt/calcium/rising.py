"""Message passing as in `nwb_sbtt.calcium.spiking` where spikes are not seen at once: a belief of two numbers instead of one.

The numbers are the light l, ``c − m`` of `Kinetics`, and m, what calcium has still to show. After a bin without spikes they are
``kept · l + (kept − lagging) · m`` and ``lagging · m``; a spike adds ``1 − late`` and ``late``. Samples are of l alone. Pairs
are kept as two tensors, and symmetric matrices as three, and no matrix is inverted that may be singular: before the first
spike nothing is in doubt of m.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nwb_sbtt.calcium.samples import LEAST_VARIANCE, Rows

Pair = tuple[Tensor, Tensor]
Symmetric = tuple[Tensor, Tensor, Tensor]
"""Of l, of l and m, and of m."""


@dataclass(frozen=True)
class Belief:
    """What earlier samples say of a bin: of what is left of what was there at the last sample, and of spikes since.

    `pending` are the spikes expected since, this bin's included, and `size` what one of them is now, on average.
    """

    mean: Pair
    covariance: Symmetric
    pending: Tensor
    size: Pair


def forward(rows: Rows) -> tuple[list[Belief], Tensor]:
    """Beliefs of all bins, and the logarithm of the density of each sample, in spikes, given those before it."""
    none = torch.zeros_like(rows.first)
    mean, covariance = (rows.first, none), (rows.first_sd**2, none, none)
    pending, decayed = none, (none, none)
    beliefs, densities = [], []
    for level, there, precision, rate in zip(rows.level, rows.there, rows.precision, rows.rate, strict=True):
        mean, covariance = _onward(rows, mean), _spread_onward(rows, covariance)
        light, late = _onward(rows, decayed)
        pending, decayed = pending + rate, (light + (1 - rows.late) * rate, late + rows.late * rate)
        size = (decayed[0] / pending, decayed[1] / pending)
        beliefs.append(Belief(mean, covariance, pending, size))
        surprise = precision / (1 + covariance[0] * precision)
        error = level - mean[0]
        count, spread, total = rows.weigh(pending, surprise * error * size[0], -0.5 * surprise * size[0] ** 2)
        density = total - 0.5 * surprise * error**2 + 0.5 * torch.where(there, surprise, 1.0).log()
        densities.append(torch.where(there, density, 0.0))
        # Without a sample, precision and with it the pull of the sample is 0.
        pull = (covariance[0] * surprise, covariance[1] * surprise)
        left = (size[0] - pull[0] * size[0], size[1] - pull[1] * size[0])
        mean = (
            mean[0] + torch.where(there, pull[0] * error + left[0] * count, 0.0),
            mean[1] + torch.where(there, pull[1] * error + left[1] * count, 0.0),
        )
        spread = spread * there
        covariance = (
            covariance[0] / (1 + covariance[0] * precision) + left[0] ** 2 * spread,
            covariance[1] / (1 + covariance[0] * precision) + left[0] * left[1] * spread,
            (covariance[2] - pull[1] * covariance[1]).clamp(min=0) + left[1] ** 2 * spread,
        )
        pending, decayed = pending * ~there, (decayed[0] * ~there, decayed[1] * ~there)
    return beliefs, torch.stack(densities)


@dataclass(frozen=True)
class _Told:
    """What a bin's sample and all later ones say, in units of the belief's inverse covariance.

    `pull` is how far they move the mean, `sure` by how much they reduce the covariance were the bin's count known, `felt` and
    `by_one` how a spike more moves what they say and the mean; `mean` and `spread` are of the count.
    """

    pull: Pair
    sure: Symmetric
    felt: Pair
    by_one: Pair
    square: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, rows: Rows, now: Belief, weight: Symmetric, after: Pair) -> _Told:
        """Weigh the counts by them."""
        felt = _times(weight, now.size)
        shrunk = _Shrunk.of(weight, now.covariance)
        by_one = shrunk.of_pair(felt)
        known = shrunk.of_pair(_less(after, _times(weight, now.mean)))
        square = _dot(now.size, by_one)
        mean, spread, _ = rows.weigh(now.pending, _dot(now.size, known), -0.5 * square)
        pull = _less(known, (by_one[0] * mean, by_one[1] * mean))
        column, other = shrunk.of_pair(weight[:2]), shrunk.of_pair(weight[1:])
        return cls(pull, (column[0], column[1], other[1]), felt, by_one, square, mean, spread)

    def message(self, now: Belief, weight: Symmetric, after: Pair) -> tuple[Symmetric, Pair]:
        """What is told to the bin before: the count is summed over, with the mean and variance that it has.

        A count more uncertain than a normal one would be tells nothing of calcium in its own direction.
        """
        known = self.spread * self.square < 1
        along = _dot(now.size, self.felt)
        factor = torch.where(known, self.spread / (1 + self.spread * (along - self.square)), 1 / along)
        reduced = _minus_square(weight, self.felt, factor)
        agreed = _plus(_times(reduced, _plus(now.mean, _times(now.covariance, self.pull))), self.pull)
        flat = _dot(now.size, after) / along
        blind = _less(after, (self.felt[0] * flat, self.felt[1] * flat))
        return reduced, _where(known, agreed, blind)


@dataclass(frozen=True)
class _Shrunk:
    """Inverse of ``1 + W P`` of two symmetric matrices."""

    rows: tuple[Pair, Pair]

    @classmethod
    def of(cls, weight: Symmetric, covariance: Symmetric) -> _Shrunk:
        """Work it out."""
        of_light = _times(weight, covariance[:2])
        of_late = _times(weight, covariance[1:])
        a, b, c, d = 1 + of_light[0], of_late[0], of_light[1], 1 + of_late[1]
        size = a * d - b * c
        return cls(((d / size, -b / size), (-c / size, a / size)))

    def of_pair(self, pair: Pair) -> Pair:
        """Its product with a pair."""
        return _dot(self.rows[0], pair), _dot(self.rows[1], pair)


def backward(rows: Rows, beliefs: list[Belief]) -> list[Tensor]:
    """Mean and variance of counts and of light, (time, row) each."""
    none = torch.zeros_like(rows.kept)
    weight, after = (none, none, none), (none, none)
    pull, surer = (none, none), (none, none, none)
    count = spread = over = beliefs[-1].pending
    found = []
    for t in reversed(range(len(beliefs))):
        now, there = beliefs[t], rows.there[t]
        weight = (weight[0] + rows.precision[t], weight[1], weight[2])
        after = (after[0] + rows.precision[t] * rows.level[t], after[1])
        told = _Told.of(rows, now, weight, after)
        count, spread = torch.where(there, told.mean, count), torch.where(there, told.spread, spread)
        over = torch.where(there, now.pending, over)
        # Bins without a sample have their own belief, pulled as that of the next sample is.
        pull = _where(there, told.pull, pull)
        surer = _matrix_where(there, _minus_square(told.sure, told.by_one, told.spread), surer)
        share, since, size = rows.rate[t] / over, now.pending / over, now.size[0]
        drawn = (now.covariance[0] - _reduction(now.covariance, surer)).clamp(min=0)
        drawn = drawn + size**2 * (since * (1 - since) * count + since**2 * spread)
        # A spike more is mostly taken off what was there before; only at a sample is it known how much.
        net = size - _times(now.covariance, told.by_one)[0]
        at_sample = (now.covariance[0] - _reduction(now.covariance, told.sure)).clamp(min=0) + net**2 * spread
        found.append(
            (
                share * count,
                share * (1 - share) * count + share**2 * spread,
                now.mean[0] + _times(now.covariance, pull)[0] + since * size * count,
                torch.where(there, at_sample, drawn),
            )
        )
        new = told.message(now, weight, after)
        weight, after = (
            _spread_back(rows, _matrix_where(there, new[0], weight)),
            _back(rows, _where(there, new[1], after)),
        )
        pull, surer = _back(rows, pull), _spread_back(rows, surer)
    return [torch.stack(each[::-1]) for each in zip(*found, strict=True)]


def _onward(rows: Rows, pair: Pair) -> Pair:
    """A bin later, without spikes."""
    return rows.kept * pair[0] + (rows.kept - rows.lagging) * pair[1], rows.lagging * pair[1]


def _spread_onward(rows: Rows, of: Symmetric) -> Symmetric:
    first, second = _onward(rows, of[:2]), _onward(rows, of[1:])
    light = _onward(rows, (first[0], second[0]))
    return light[0] + LEAST_VARIANCE, light[1], rows.lagging * second[1]


def _back(rows: Rows, pair: Pair) -> Pair:
    """What is told of a bin's pair, as told of that of the bin before."""
    return rows.kept * pair[0], (rows.kept - rows.lagging) * pair[0] + rows.lagging * pair[1]


def _spread_back(rows: Rows, of: Symmetric) -> Symmetric:
    first, second = _back(rows, of[:2]), _back(rows, of[1:])
    light = _back(rows, (first[0], second[0]))
    return light[0], light[1], _back(rows, (first[1], second[1]))[1]


def _times(of: Symmetric, pair: Pair) -> Pair:
    return of[0] * pair[0] + of[1] * pair[1], of[1] * pair[0] + of[2] * pair[1]


def _dot(one: Pair, other: Pair) -> Tensor:
    return one[0] * other[0] + one[1] * other[1]


def _plus(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


def _less(one: Pair, other: Pair) -> Pair:
    return one[0] - other[0], one[1] - other[1]


def _minus_square(of: Symmetric, pair: Pair, factor: Tensor) -> Symmetric:
    return of[0] - factor * pair[0] ** 2, of[1] - factor * pair[0] * pair[1], of[2] - factor * pair[1] ** 2


def _reduction(covariance: Symmetric, surer: Symmetric) -> Tensor:
    """By how much the variance of the light becomes smaller."""
    return _dot(covariance[:2], _times(surer, covariance[:2]))


def _where(there: Tensor, one: Pair, other: Pair) -> Pair:
    return torch.where(there, one[0], other[0]), torch.where(there, one[1], other[1])


def _matrix_where(there: Tensor, one: Symmetric, other: Symmetric) -> Symmetric:
    return *_where(there, one[:2], other[:2]), torch.where(there, one[2], other[2])
