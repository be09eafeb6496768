"""What the fluorescence of each channel says of its kinetics: before a model is trained, and again when it infers rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise, product

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.decay import fit_decay
from nwb_sbtt.calcium.indicators import UNKNOWN, Indicator, indicator_of
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.spiking import infer_spikes, log_evidence
from nwb_sbtt.errors import ConfigError

TOGETHER = 1.0
"""Seconds of fluorescence that are hidden together."""
FEW, TRIALS = 16, 64
"""Trials, evenly spread, on which kinetics are first sought and then refined."""
GAINS = np.geomspace(0.7, 20.0, 25)
NOISES = (1.0, 0.6)
DECAYS = (1.0, 0.5)
BASELINES = ((0.02, 0.0), (0.02, 0.5), (0.02, 1.0), (0.1, 0.0), (0.1, 0.7), (0.1, 1.3))
"""All combinations are tried, as the evidence has several sharp maxima: gains in sds of the noise, noise and decay in
multiples of what spectrum and autocovariance say, which take slow changes of the rate for calcium, and baselines in
quantiles of the samples and sds of the noise above them."""
MULTIPLES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
LIFTS = (0.0, 0.5, 1.0, 1.5)
FACTORS = (0.7, 0.8, 0.9, 1.1, 1.25, 1.4)
SHIFTS = (-1.0, -0.5, -0.2, 0.2, 0.5, 1.0)
"""Of the baseline, in sds of the noise."""
SPREADS = (4.0, 2.0, 1.0)
"""By how much coarser than `FACTORS` the steps are, round after round, in which the spread of rates by chance is sought."""
ROUNDS, FINER = 3, 0.5
AGAIN, AGAIN_FINER = 6, 0.6
"""Rounds of the first search and of those with rates, and by how much finer each one's steps are."""
DONORS = (0.5, 0.9)
"""Ranks of the gain of channels whose kinetics are tried for all."""
MOST_LEFT = 1.2
"""Mean square of what the spikes found may leave of the fluorescence, in variances of the noise."""
ROWS = 1024
"""Channels of trials, each way to try counted for itself, that are scored in one go; fewer keep a processor less busy."""


@dataclass(frozen=True)
class Measured:
    """Kinetics of a session's channels, and what they make of its fluorescence.

    Parameters
    ----------
    kinetics : Kinetics
    spikes : Float[Tensor, "trial time channel"]
        Posterior mean of the count of each bin, in some of the trials.
    mean : Float[Tensor, "channel"]
        Spikes a bin.
    """

    kinetics: Kinetics
    spikes: Float[Tensor, "trial time channel"]
    mean: Float[Tensor, "channel"]


def hidden_together(bin_width: float) -> int:
    """Bins of fluorescence that are hidden together, so that spikes are not told from the samples after them.

    Parameters
    ----------
    bin_width : float
        Seconds.
    """
    return max(1, round(TOGETHER / bin_width))


def known_indicator(name: str | None, rise: float | None) -> Indicator:
    """Give what is known of an indicator, with another rise [s] where one is given.

    Raises
    ------
    ConfigError
        If the indicator is not known.
    """
    indicator = indicator_of(name or "")
    if name and indicator is UNKNOWN:
        raise ConfigError(f"indicator {name!r} is not known; set the decay in seconds (--set model.decay_time=0.4)")
    return indicator if rise is None else replace(indicator, rise=rise)


def measure_kinetics(batch: Batch, *, bin_width: float, indicator: Indicator, decay: float | None) -> Measured:
    """Measure how the fluorescence of each channel follows spikes, before rates are known.

    Decay and noise are first taken from autocovariance and spectrum (`nwb_sbtt.calcium.decay.fit_decay`). Then gain,
    baseline, noise and decay are searched, one after the other and all channels at once, for the greatest evidence of
    the fluorescence under counts of constant rate; the decay's prior counts in it.

    Parameters
    ----------
    batch : Batch
        Trials of one session.
    bin_width : float
        Seconds.
    indicator : Indicator
        What is known before.
    decay : float or None
        Seconds, where it is known and not to be measured.
    """
    values, seen = _some(batch, TRIALS)
    measured = [
        _decay_and_noise(values[..., i], seen[..., i], bin_width, indicator, decay) for i in range(values.shape[2])
    ]
    decays, noise = torch.tensor(measured, dtype=torch.float32, device=batch.device).unbind(1)
    prior_sd = indicator.log_sd if decay is None else None
    few = _Search(*_some(batch, FEW), bin_width, indicator=indicator, decay=decays, prior_sd=prior_sd)
    search = _Search(values, seen, bin_width, indicator=indicator, decay=decays, prior_sd=prior_sd)
    at = search.checked(
        search.refine(few.wide(noise)), lambda: search.refine(few.wide(noise, fitting=True), fitting=True)
    )
    (kinetics, rate), shape = search.kinetics(at), at["shape"]
    spikes = infer_spikes(values, seen, rate, kinetics, shape=shape)
    return Measured(kinetics, spikes.mean, spikes.mean.mean((0, 1)) + 1e-4)


def refit_kinetics(
    batch: Batch,
    rates: Float[Tensor, "trial time channel"],
    before: Kinetics,
    *,
    bin_width: float,
    indicator: Indicator,
    decay: float | None,
) -> Measured:
    """Measure kinetics again, given the rates [spikes a bin] that a model infers from what is shown.

    Before rates are known, slow changes of them pass for larger spikes and slower decays. Given rates, counts are as variable
    as Poisson counts, which tells their size. Channels whose fluorescence is likelier where rates spread by chance, as those
    of a cell that bursts and that no other one foretells, keep what they had.

    Parameters
    ----------
    batch : Batch
        Trials of one session, as `some_trials` gives them.
    before : Kinetics
        As measured last.
    """
    values, seen = batch.dense(batch.values), batch.dense(batch.observed)
    start = -bin_width / before.decay_per_bin.log()
    prior = torch.full_like(start, indicator.decay) if decay is None else start
    prior_sd = indicator.log_sd if decay is None else None
    course = rates / rates.mean((0, 1))
    search = _Search(values, seen, bin_width, indicator=indicator, decay=prior, prior_sd=prior_sd, course=course)
    at = {"decay": start, "baseline": before.baseline, "noise": before.noise_sd, "gain": before.amplitude}
    result = search.checked(search.again(at), lambda: search.again(at, fitting=True))
    by_chance = _Search(values, seen, bin_width, indicator=indicator, decay=prior, prior_sd=prior_sd).by_chance(at)
    better = search.score(result) > by_chance
    kinetics, rate = search.kinetics({name: torch.where(better, result[name], value) for name, value in at.items()})
    mean = rate.mean((0, 1))
    return Measured(kinetics, infer_spikes(values, batch.dense(batch.shown), mean, kinetics).mean, mean)


def some_trials(batch: Batch) -> Batch:
    """Give trials enough to measure kinetics on, evenly spread."""
    return batch.select(_spread(batch, TRIALS))


def _some(batch: Batch, n: int) -> tuple[Tensor, Tensor]:
    """Values of some trials, and where they were observed."""
    part = batch.select(_spread(batch, n))
    return part.dense(part.values), part.dense(part.observed)


def _spread(batch: Batch, n: int) -> Tensor:
    """Rows of n trials, evenly spread."""
    return torch.linspace(0, len(batch.trials) - 1, min(n, len(batch.trials)), device=batch.device).round().long()


def _decay_and_noise(
    values: Tensor, seen: Tensor, bin_width: float, indicator: Indicator, decay: float | None
) -> tuple[float, float]:
    """Seconds, and the sd in the data's unit, of one channel; what the trials say of it, one after another."""
    places = [row.nonzero(as_tuple=True)[0].cpu().numpy() for row in seen]
    steps = np.concatenate([np.diff(each) for each in places])
    usual = int(np.bincount(steps).argmax()) if len(steps) else 1
    trace: list[NDArray[np.float64]] = []
    runs, total = [], 0
    for row, at in zip(values.cpu().numpy(), places, strict=True):
        cuts = [0, *(np.flatnonzero(np.diff(at) != usual) + 1).tolist(), len(at)]
        runs += [(total + a, total + b) for a, b in pairwise(cuts) if b > a]
        trace.append(row[at].astype(float))
        total += len(at)
    joined = np.concatenate(trace)
    if total < 2:
        return decay or indicator.decay, 1.0
    result = fit_decay(joined, runs, rate=1 / (bin_width * usual), indicator=indicator, decay=decay)
    least = 1e-3 * float(joined.std()) + 1e-12
    return result.decay, max(result.noise_sd, least)


class _Search:
    """Coordinate ascent of the evidence, each channel for itself.

    The mean rate follows from the mean fluorescence; `course` is what it is multiplied with in each bin, where that is known.
    """

    def __init__(
        self,
        values: Tensor,
        seen: Tensor,
        bin_width: float,
        *,
        indicator: Indicator,
        decay: Tensor,
        prior_sd: float | None,
        course: Tensor | None = None,
    ):
        self.values, self.seen, self.bin_width, self.decay, self.prior_sd = values, seen, bin_width, decay, prior_sd
        self.rise_time, self.course = torch.full_like(decay, indicator.rise / bin_width), course
        amount = seen.sum((0, 1)).clamp(min=1)
        self.mean = torch.where(seen, values, 0.0).sum((0, 1)) / amount
        ranks = torch.where(seen, values, torch.inf).flatten(0, 1).sort(0).values
        self.lows = [ranks.gather(0, (q * (amount - 1)).long()[None])[0] for q, _ in BASELINES]

    def wide(self, noise: Tensor, *, fitting: bool = False) -> dict[str, Tensor]:
        """The best of all combinations, for each channel; where they have to fit, the best of those that are best of a gain."""
        at = {
            "decay": self.decay,
            "baseline": self.lows[0],
            "noise": noise,
            "gain": noise,
            "shape": torch.ones_like(noise),
        }
        none = torch.full_like(noise, -torch.inf)
        of_gains = [
            [
                {"noise": sd, "decay": of_decay * self.decay, "baseline": low + lift * sd, "gain": gain * sd}
                for sd, of_decay in product([each * noise for each in NOISES], DECAYS if self.prior_sd else (1.0,))
                for low, (_, lift) in zip(self.lows, BASELINES, strict=True)
            ]
            for gain in GAINS
        ]
        best = [self._best(none, at, changes)[1] for changes in of_gains]
        return self._best(none, at, best, fitting=fitting)[1]

    def refine(self, at: dict[str, Tensor], *, fitting: bool = False) -> dict[str, Tensor]:
        """Climb from there, and again from where other channels came to: they share an indicator and a microscope."""
        score, at = self._multiplied(self._score(at, fitting=fitting), at, fitting)
        score, at = self._climb(score, at, fitting)
        by_gain = at["gain"].argsort()
        for rank in DONORS:
            donor = by_gain[round(rank * (len(by_gain) - 1))]
            start = {name: each[donor].expand_as(each) for name, each in at.items()}
            new, result = self._climb(self._score(start, fitting=fitting), start, fitting)
            better = new > score
            score, at = torch.where(better, new, score), {n: torch.where(better, result[n], at[n]) for n in at}
        return at

    def _multiplied(self, score: Tensor, at: dict[str, Tensor], fitting: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Try spikes of several times the size: those of a half or a third explain nearly as much, and are often met first."""
        bases = (at["baseline"], self.lows[0], self.lows[-1])
        changes = [
            {"gain": times * at["gain"], "baseline": low + lift * at["noise"]}
            for times, low, lift in product(MULTIPLES, bases, LIFTS)
        ]
        return self._best(score, at, changes, fitting=fitting)

    def again(self, at: dict[str, Tensor], *, fitting: bool = False) -> dict[str, Tensor]:
        """Climb from where an earlier search came to, given the course of the rates; also along the ridge where a lower
        baseline makes up for a slower decay."""
        score = self._score(at, fitting=fitting)
        for i in range(AGAIN):
            fine = AGAIN_FINER**i
            score, at = self._round(score, at, ["gain", "baseline", "noise"], fine=fine, fitting=fitting)
            if self.prior_sd:
                score, at = self._round(score, at, ["decay"], fine=fine, fitting=fitting)
                changes = []
                for step in SHIFTS:
                    baseline = at["baseline"] + fine * step * at["noise"]
                    times = ((self.mean - baseline) / (self.mean - at["baseline"])).clamp(0.5, 2.0)
                    changes.append({"baseline": baseline, "decay": at["decay"] * times})
                score, at = self._best(score, at, changes, fitting=fitting)
        return at

    def by_chance(self, at: dict[str, Tensor]) -> Float[Tensor, "channel"]:
        """Score of rates that spread about their mean as those of a gamma distribution, of the best shape."""
        at = {**at, "shape": torch.ones_like(at["gain"])}
        score = self.score(at)
        for fine in SPREADS:
            score, at = self._round(score, at, ["shape"], fine=fine, fitting=True)
        return score

    def score(self, at: dict[str, Tensor]) -> Float[Tensor, "channel"]:
        """Evidence, less what spikes leave too much."""
        return self._score(at, fitting=True)

    def checked(self, at: dict[str, Tensor], fitting: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What was found, or what is found where spikes have to fit, in channels of which they leave too much.

        The evidence follows from beliefs forward in time, which may hold half a spike. Where the indicator does not do as
        the model says, large spikes of which nothing is decided pass for likely there; what they leave afterwards tells.
        """
        (kinetics, rate), shape = self.kinetics(at), at.get("shape")
        spikes = infer_spikes(self.values, self.seen, rate, kinetics, shape=shape)
        wrong = self._excess(spikes.calcium, self.values, self.seen, kinetics) > 0
        if not wrong.any():
            return at
        other = fitting()
        return {name: torch.where(wrong, other[name], each) for name, each in at.items()}

    def _climb(self, score: Tensor, at: dict[str, Tensor], fitting: bool) -> tuple[Tensor, dict[str, Tensor]]:
        names = ["shape", "baseline", "gain", "noise", *(["decay"] if self.prior_sd else [])]
        for i in range(ROUNDS):
            score, at = self._round(score, at, names, fine=FINER**i, fitting=fitting)
        return score, at

    def _round(
        self, score: Tensor, at: dict[str, Tensor], names: list[str], *, fine: float, fitting: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        for name in names:
            if name == "baseline":
                changes = [{name: at[name] + fine * step * at["noise"]} for step in SHIFTS]
            else:
                changes = [{name: at[name] * step**fine} for step in FACTORS]
            score, at = self._best(score, at, changes, fitting=fitting)
        return score, at

    def _best(
        self, score: Tensor, at: dict[str, Tensor], changes: list[dict[str, Tensor]], *, fitting: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """For each channel the best of where it is, with its score, and some changes; as many at once as `ROWS` allows."""
        size = max(1, ROWS // self.seen[:, 0].numel())
        for start in range(0, len(changes), size):
            tried = [{**at, **each} for each in changes[start : start + size]]
            for one, new in zip(tried, self._scores(tried, fitting=fitting), strict=True):
                better = new > score
                score, at = torch.where(better, new, score), {n: torch.where(better, one[n], at[n]) for n in at}
        return score, at

    def _score(self, at: dict[str, Tensor], *, fitting: bool) -> Float[Tensor, "channel"]:
        return self._scores([at], fitting=fitting)[0]

    def _scores(self, tried: list[dict[str, Tensor]], *, fitting: bool) -> Sequence[Float[Tensor, "channel"]]:
        """Evidence, less what the prior of the decay takes off and, where spikes have to fit, what they leave too much.

        Each way to try is laid out as channels of its own.
        """
        result = [self.kinetics(at) for at in tried]
        kinetics = Kinetics(
            **{field.name: torch.cat([getattr(each, field.name) for each, _ in result]) for field in fields(Kinetics)}
        )
        rate = torch.cat([each for _, each in result], -1)
        shape = torch.cat([at["shape"] for at in tried]) if "shape" in tried[0] else None
        values, seen = (each.repeat(1, 1, len(tried)) for each in (self.values, self.seen))
        if fitting:
            spikes = infer_spikes(values, seen, rate, kinetics, shape=shape)
            evidence = spikes.evidence.sum(0) - 0.5 * self._excess(spikes.calcium, values, seen, kinetics)
        else:
            evidence = log_evidence(values, seen, rate, kinetics, shape=shape).sum(0)
        if self.prior_sd:
            decay = torch.cat([at["decay"] for at in tried])
            evidence = evidence - 0.5 * ((decay / self.decay.repeat(len(tried))).log() / self.prior_sd) ** 2
        return torch.where(evidence.isfinite(), evidence, -torch.inf).chunk(len(tried))

    @staticmethod
    def _excess(calcium: Tensor, values: Tensor, seen: Tensor, kinetics: Kinetics) -> Float[Tensor, "channel"]:
        """What calcium leaves of the values, in squared sds of the noise, above what it may."""
        left = (values - kinetics.amplitude * calcium - kinetics.baseline) / kinetics.noise_sd
        return torch.where(seen, left.square() - MOST_LEFT, 0.0).sum((0, 1)).clamp(min=0)

    def kinetics(self, at: dict[str, Tensor]) -> tuple[Kinetics, Tensor]:
        """Kinetics, and the rates in spikes per bin: one a channel, or of each bin where their course is known."""
        kept = torch.exp(-self.bin_width / at["decay"])
        level = (self.values - at["baseline"]) / at["gain"]
        spread = at["noise"] / at["gain"]
        rate = ((self.mean - at["baseline"]) / at["gain"] * (1 - kept)).clamp(min=1e-4)
        first = self.seen.int().argmax(1, keepdim=True)
        begin = level.gather(1, first)[:, 0]
        first_mean = begin.mean(0).clamp(min=0)
        first_sd = ((begin - first_mean).square().mean(0) - spread**2).clamp(min=0.01).sqrt()
        per_channel = (kept, at["gain"], at["baseline"], at["noise"], first_mean, first_sd)
        kinetics = Kinetics(*per_channel, rise_time=self.rise_time)
        return kinetics, rate if self.course is None else rate * self.course
