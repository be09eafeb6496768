"""Kinetics of each channel by maximum evidence of its fluorescence: before a model is trained, and refitted with its rates.

What is maximised, for each channel by itself, is the score

    log p(x | θ, λ) − ½ (log(τ / τ₀) / σ)² [− ½ excess]

of its fluorescence x. The first term is the evidence: the sum of one-step predictive log-likelihoods of the samples, with the
spike counts summed over (`nwb_sbtt.calcium.spiking.log_evidence`). The second is a log-normal prior of the decay time τ around
that of the indicator, left out where the decay is known. The third is applied only where spikes do not explain the
fluorescence: the squared residuals, in variances of the noise, beyond `MAX_RESIDUAL` per sample.

The coordinates θ are decay time, baseline, noise sd and gain (the amplitude of a spike), and where rates are unknown the shape
of the gamma distribution that they have. The mean rate is no coordinate: it follows from the mean fluorescence m, as
``(m − baseline) / gain · (1 − decay_per_bin)``.

The evidence has several sharp maxima. Spikes of half the amplitude at twice the rate have the same mean, and a lower baseline
makes up for a slower decay. Gradients of it would end in the nearest maximum. So a grid comes first, on few trials; then each
coordinate is changed in turn by ever smaller steps; then the same starts from spikes of several times the amplitude, and from
the kinetics of other channels. All channels are scored at once, as their searches are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.decay import APART, fit_decay, resolution_of
from nwb_sbtt.calcium.indicators import UNKNOWN, Indicator, indicator_of
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.spiking import infer_spikes, log_evidence
from nwb_sbtt.errors import ConfigError

MASK_SECONDS = 1.0
"""Seconds of fluorescence that are hidden together."""
FEW, TRIALS = 16, 64
"""Numbers of trials, evenly spaced, of the grid and of the refinement."""
GAINS = np.geomspace(0.7, 20.0, 25)
"""Gains of the grid, in sds of the noise."""
NOISES = (1.0, 0.6)
DECAYS = (1.0, 0.5)
"""Noise sds and decay times of the grid, as multiples of first estimates, in which slow changes of the rate may pass for
calcium."""
BASELINES = ((0.02, 0.0), (0.02, 0.5), (0.02, 1.0), (0.1, 0.0), (0.1, 0.7), (0.1, 1.3))
"""Baselines of the grid: a quantile of the samples, and the distance above it in sds of the noise."""
GAIN_MULTIPLES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
BASELINE_LIFTS = (0.0, 0.5, 1.0, 1.5)
"""Multiples of the gain, each with baselines so many sds of the noise higher, from which the search starts again."""
STEPS = (0.7, 0.8, 0.9, 1.1, 1.25, 1.4)
"""Steps of gain, noise, decay and shape, as factors."""
BASELINE_STEPS = (-1.0, -0.5, -0.2, 0.2, 0.5, 1.0)
"""Steps of the baseline, in sds of the noise."""
SHAPE_EXPONENTS = (4.0, 2.0, 1.0)
"""Exponents of `STEPS`, round after round, in the search for the shape alone."""
ROUNDS, FINER = 3, 0.5
REFIT_ROUNDS, REFIT_FINER = 6, 0.6
"""Rounds of the first search and of those with rates, and the factor by which the steps shrink from round to round."""
DONORS = (0.5, 0.9)
"""Ranks, by gain, of the channels from whose kinetics all channels start again."""
MAX_RESIDUAL = 1.2
"""Largest mean squared residual of the fluorescence given the inferred spikes, in variances of the noise."""
ROWS = 1024
"""Trials × channels × candidates that are scored at once. Fewer would leave a processor idle."""

Point = dict[str, Tensor]
"""Coordinates of the search, one value per channel: decay [s]; baseline, noise and gain in the data's unit; shape."""


@dataclass(frozen=True)
class Measured:
    """Kinetics of a session's channels, and the spikes inferred with them.

    Parameters
    ----------
    kinetics : Kinetics
    spikes : Float[Tensor, "trial time channel"]
        Posterior mean of the count of each bin, in some of the trials.
    mean : Float[Tensor, "channel"]
        Spikes per bin.
    """

    kinetics: Kinetics
    spikes: Float[Tensor, "trial time channel"]
    mean: Float[Tensor, "channel"]


def fluorescence_mask_length(bin_width: float) -> int:
    """Return the bins of fluorescence that are hidden together, so that later samples of the same calcium are hidden too.

    Parameters
    ----------
    bin_width : float
        Seconds.

    Returns
    -------
    int
        Bins of a second, at least 1.
    """
    return max(1, round(MASK_SECONDS / bin_width))


def resolve_indicator(name: str | None, rise_time: float | None) -> Indicator:
    """Look up the published kinetics of an indicator.

    Parameters
    ----------
    name : str or None
        None for an unknown indicator.
    rise_time : float or None
        Seconds; replaces the published one.

    Returns
    -------
    Indicator

    Raises
    ------
    ConfigError
        If there is no indicator of that name.
    """
    indicator = indicator_of(name or "")
    if name and indicator is UNKNOWN:
        raise ConfigError(f"indicator {name!r} is unknown; set the decay time in seconds instead (`decay_time`)")
    return indicator if rise_time is None else replace(indicator, rise=rise_time)


def measure_kinetics(batch: Batch, *, bin_width: float, indicator: Indicator, decay: float | None) -> Measured:
    """Measure how the fluorescence of each channel follows spikes, before rates are inferred.

    Decay and noise are first estimated by non-negative deconvolution (`nwb_sbtt.calcium.decay.fit_decay`). Then gain,
    baseline, noise and decay maximise the score of this module, under counts whose rates are gamma-distributed around a
    constant mean.

    Parameters
    ----------
    batch : Batch
        Trials of one session.
    bin_width : float
        Seconds.
    indicator : Indicator
        Prior of decay and rise.
    decay : float or None
        Decay time in seconds, where it is known and not to be measured.

    Returns
    -------
    Measured
    """
    values, observed = _subset(batch, TRIALS)
    estimates = [
        _decay_and_noise(values[..., i], observed[..., i], bin_width, indicator, decay) for i in range(values.shape[2])
    ]
    decays, noise = torch.tensor(estimates, dtype=torch.float32, device=batch.device).unbind(1)
    prior_sd = indicator.log_sd if decay is None else None
    coarse = _Search(*_subset(batch, FEW), bin_width, indicator=indicator, decay=decays, prior_sd=prior_sd)
    search = _Search(values, observed, bin_width, indicator=indicator, decay=decays, prior_sd=prior_sd)
    point = search.replace_misfits(
        search.refine(coarse.grid(noise)), lambda: search.refine(coarse.grid(noise, penalised=True), penalised=True)
    )
    (kinetics, rate), shape = search.kinetics(point), point["shape"]
    spikes = infer_spikes(values, observed, rate, kinetics, shape=shape)
    return Measured(kinetics, spikes.mean, spikes.mean.mean((0, 1)) + 1e-4)


def refit_kinetics(
    batch: Batch,
    rates: Float[Tensor, "trial time channel"],
    previous: Kinetics,
    *,
    bin_width: float,
    indicator: Indicator,
    decay: float | None,
) -> Measured:
    """Refit the kinetics, given the rates that a model infers from the shown samples.

    Without rates, slow changes of them pass for larger spikes and slower decays. Given rates, the counts have the variance of
    Poisson counts, which determines the amplitude of a spike. A channel keeps its previous kinetics where gamma-distributed
    rates explain its fluorescence better than the inferred ones, as for a cell whose bursts no other cell predicts.

    Parameters
    ----------
    batch : Batch
        Trials of one session, as returned by `some_trials`.
    rates : Float[Tensor, "trial time channel"]
        Spikes per bin.
    previous : Kinetics
        As last measured.
    bin_width : float
        Seconds.
    indicator : Indicator
        Prior of decay and rise.
    decay : float or None
        Decay time in seconds, where it is known and not to be measured.

    Returns
    -------
    Measured
    """
    values, observed = batch.dense(batch.values), batch.dense(batch.observed)
    start = -bin_width / previous.decay_per_bin.log()
    prior = torch.full_like(start, indicator.decay) if decay is None else start
    prior_sd = indicator.log_sd if decay is None else None
    profile = rates / rates.mean((0, 1))
    search = _Search(
        values, observed, bin_width, indicator=indicator, decay=prior, prior_sd=prior_sd, rate_profile=profile
    )
    point = {"decay": start, "baseline": previous.baseline, "noise": previous.noise_sd, "gain": previous.amplitude}
    result = search.replace_misfits(search.refit(point), lambda: search.refit(point, penalised=True))
    without_rates = _Search(values, observed, bin_width, indicator=indicator, decay=prior, prior_sd=prior_sd)
    better = search.score(result) > without_rates.best_shape_score(point)
    kinetics, rate = search.kinetics({name: torch.where(better, result[name], value) for name, value in point.items()})
    mean = rate.mean((0, 1))
    return Measured(kinetics, infer_spikes(values, batch.dense(batch.shown), mean, kinetics).mean, mean)


def some_trials(batch: Batch) -> Batch:
    """Select the trials that kinetics are measured on.

    Parameters
    ----------
    batch : Batch

    Returns
    -------
    Batch
        At most `TRIALS` trials, evenly spaced.
    """
    return batch.select(_spaced(batch, TRIALS))


def _subset(batch: Batch, n: int) -> tuple[Tensor, Tensor]:
    """Values of n evenly spaced trials, and where they are observed."""
    subset = batch.select(_spaced(batch, n))
    return subset.dense(subset.values), subset.dense(subset.observed)


def _spaced(batch: Batch, n: int) -> Tensor:
    """Rows of n evenly spaced trials."""
    return torch.linspace(0, len(batch.trials) - 1, min(n, len(batch.trials)), device=batch.device).round().long()


def _decay_and_noise(
    values: Tensor, observed: Tensor, bin_width: float, indicator: Indicator, decay: float | None
) -> tuple[float, float]:
    """Decay time [s] and noise sd of one channel, from its trials one after another."""
    bins = [row.nonzero(as_tuple=True)[0].cpu().numpy() for row in observed]
    samples = np.concatenate(
        [row[trial_bins] for row, trial_bins in zip(values.cpu().numpy(), bins, strict=True)]
    ).astype(float)
    steps = np.concatenate([np.diff(trial_bins, prepend=-APART) for trial_bins in bins])
    within = steps[steps < APART]
    if len(within) == 0:
        return decay or indicator.decay, 1.0
    # Frames are the most frequent step apart.
    step = int(np.bincount(within).argmax())
    elapsed = np.maximum(np.rint(steps / step), 1.0)
    result = fit_decay(
        samples,
        elapsed,
        rate=1 / (bin_width * step),
        indicator=indicator,
        decay=decay,
        resolution=resolution_of(samples),
    )
    return result.decay, max(result.noise_sd, 1e-12)


class _Search:
    """Coordinate ascent of the score, each channel by itself; `rate_profile` is the rate over its mean, where it is known."""

    def __init__(
        self,
        values: Tensor,
        observed: Tensor,
        bin_width: float,
        *,
        indicator: Indicator,
        decay: Tensor,
        prior_sd: float | None,
        rate_profile: Tensor | None = None,
    ):
        self.values, self.observed, self.bin_width = values, observed, bin_width
        self.decay, self.prior_sd, self.rate_profile = decay, prior_sd, rate_profile
        self.rise_time = torch.full_like(decay, indicator.rise / bin_width)
        n_samples = observed.sum((0, 1)).clamp(min=1)
        self.mean = torch.where(observed, values, 0.0).sum((0, 1)) / n_samples
        # A channel that was never observed has no quantiles; any finite baseline will do.
        unknown = torch.where(observed.any(1).any(0), torch.inf, 0.0)
        ranked = torch.where(observed, values, unknown).flatten(0, 1).sort(0).values
        self.quantiles = [ranked.gather(0, (q * (n_samples - 1)).long()[None])[0] for q, _ in BASELINES]

    def grid(self, noise: Tensor, *, penalised: bool = False) -> Point:
        """Find the best of all combinations.

        The penalty needs inferred spikes, twice the work of the evidence: with it, only the best point of each gain by the
        evidence is compared.
        """
        point = {
            "decay": self.decay,
            "baseline": self.quantiles[0],
            "noise": noise,
            "gain": noise,
            "shape": torch.ones_like(noise),
        }
        lowest = torch.full_like(noise, -torch.inf)
        combinations = [
            [
                {"noise": sd, "decay": multiple * self.decay, "baseline": quantile + lift * sd, "gain": gain * sd}
                for sd, multiple in product([share * noise for share in NOISES], DECAYS if self.prior_sd else (1.0,))
                for quantile, (_, lift) in zip(self.quantiles, BASELINES, strict=True)
            ]
            for gain in GAINS
        ]
        best = [self._best(lowest, point, changes)[1] for changes in combinations]
        return self._best(lowest, point, best, penalised=penalised)[1]

    def refine(self, point: Point, *, penalised: bool = False) -> Point:
        """Ascend from a point, then from where other channels ended: they share an indicator and a microscope."""
        score, point = self._try_gain_multiples(self._score(point, penalised=penalised), point, penalised)
        score, point = self._ascend(score, point, penalised)
        by_gain = point["gain"].argsort()
        for rank in DONORS:
            donor = by_gain[round(rank * (len(by_gain) - 1))]
            start = {name: value[donor].expand_as(value) for name, value in point.items()}
            new_score, result = self._ascend(self._score(start, penalised=penalised), start, penalised)
            better = new_score > score
            score = torch.where(better, new_score, score)
            point = {name: torch.where(better, result[name], value) for name, value in point.items()}
        return point

    def _try_gain_multiples(self, score: Tensor, point: Point, penalised: bool) -> tuple[Tensor, Point]:
        """Try larger spikes: those of half or a third of the amplitude explain nearly as much, and are often met first."""
        bases = (point["baseline"], self.quantiles[0], self.quantiles[-1])
        changes = [
            {"gain": multiple * point["gain"], "baseline": base + lift * point["noise"]}
            for multiple, base, lift in product(GAIN_MULTIPLES, bases, BASELINE_LIFTS)
        ]
        return self._best(score, point, changes, penalised=penalised)

    def refit(self, point: Point, *, penalised: bool = False) -> Point:
        """Ascend from previous kinetics, given the profile of the rates.

        Decay and baseline also change together, along the ridge on which the mean rate stays the same: the mean fluorescence
        above the baseline is ``gain · rate / (1 − decay_per_bin)``, about ``gain · rate · τ`` for τ in bins.
        """
        score = self._score(point, penalised=penalised)
        for i in range(REFIT_ROUNDS):
            fine = REFIT_FINER**i
            score, point = self._round(score, point, ["gain", "baseline", "noise"], fine=fine, penalised=penalised)
            if self.prior_sd:
                score, point = self._round(score, point, ["decay"], fine=fine, penalised=penalised)
                changes = []
                for step in BASELINE_STEPS:
                    baseline = point["baseline"] + fine * step * point["noise"]
                    factor = ((self.mean - baseline) / (self.mean - point["baseline"])).clamp(0.5, 2.0)
                    changes.append({"baseline": baseline, "decay": point["decay"] * factor})
                score, point = self._best(score, point, changes, penalised=penalised)
        return point

    def best_shape_score(self, point: Point) -> Float[Tensor, "channel"]:
        """Score of gamma-distributed rates around a constant mean, at their best shape."""
        point = {**point, "shape": torch.ones_like(point["gain"])}
        score = self.score(point)
        for exponent in SHAPE_EXPONENTS:
            score, point = self._round(score, point, ["shape"], fine=exponent, penalised=True)
        return score

    def score(self, point: Point) -> Float[Tensor, "channel"]:
        """Penalised score."""
        return self._score(point, penalised=True)

    def replace_misfits(self, point: Point, penalised_search: Callable[[], Point]) -> Point:
        """Replace the result of channels whose spikes leave too large residuals by that of a penalised search.

        The evidence predicts each sample from earlier ones, and these predictions may hold half a spike. Where the response of
        the indicator is not that of the model, large undecided spikes are then likely. Residuals given all samples reveal them.
        """
        (kinetics, rate), shape = self.kinetics(point), point.get("shape")
        spikes = infer_spikes(self.values, self.observed, rate, kinetics, shape=shape)
        misfit = self._excess(spikes.calcium, self.values, self.observed, kinetics) > 0
        if not misfit.any():
            return point
        replacement = penalised_search()
        return {name: torch.where(misfit, replacement[name], value) for name, value in point.items()}

    def _ascend(self, score: Tensor, point: Point, penalised: bool) -> tuple[Tensor, Point]:
        names = ["shape", "baseline", "gain", "noise", *(["decay"] if self.prior_sd else [])]
        for i in range(ROUNDS):
            score, point = self._round(score, point, names, fine=FINER**i, penalised=penalised)
        return score, point

    def _round(
        self, score: Tensor, point: Point, names: list[str], *, fine: float, penalised: bool
    ) -> tuple[Tensor, Point]:
        """Change one coordinate after another; `fine` scales the steps."""
        for name in names:
            if name == "baseline":
                changes = [{name: point[name] + fine * step * point["noise"]} for step in BASELINE_STEPS]
            else:
                changes = [{name: point[name] * step**fine} for step in STEPS]
            score, point = self._best(score, point, changes, penalised=penalised)
        return score, point

    def _best(
        self, score: Tensor, point: Point, changes: list[Point], *, penalised: bool = False
    ) -> tuple[Tensor, Point]:
        """Best of a point and its changes for each channel, with its score; as many at once as `ROWS` allows."""
        size = max(1, ROWS // self.observed[:, 0].numel())
        for start in range(0, len(changes), size):
            candidates = [{**point, **change} for change in changes[start : start + size]]
            for candidate, new_score in zip(candidates, self._scores(candidates, penalised=penalised), strict=True):
                better = new_score > score
                score = torch.where(better, new_score, score)
                point = {name: torch.where(better, candidate[name], value) for name, value in point.items()}
        return score, point

    def _score(self, point: Point, *, penalised: bool) -> Float[Tensor, "channel"]:
        return self._scores([point], penalised=penalised)[0]

    def _scores(self, points: list[Point], *, penalised: bool) -> Sequence[Float[Tensor, "channel"]]:
        """Score of each point; each is laid out as further channels."""
        results = [self.kinetics(point) for point in points]
        kinetics = Kinetics(
            **{field.name: torch.cat([getattr(part, field.name) for part, _ in results]) for field in fields(Kinetics)}
        )
        rate = torch.cat([part for _, part in results], -1)
        shape = torch.cat([point["shape"] for point in points]) if "shape" in points[0] else None
        values, observed = (tensor.repeat(1, 1, len(points)) for tensor in (self.values, self.observed))
        if penalised:
            spikes = infer_spikes(values, observed, rate, kinetics, shape=shape)
            score = spikes.evidence.sum(0) - 0.5 * self._excess(spikes.calcium, values, observed, kinetics)
        else:
            score = log_evidence(values, observed, rate, kinetics, shape=shape).sum(0)
        if self.prior_sd:
            decay = torch.cat([point["decay"] for point in points])
            score = score - 0.5 * ((decay / self.decay.repeat(len(points))).log() / self.prior_sd) ** 2
        return torch.where(score.isfinite(), score, -torch.inf).chunk(len(points))

    @staticmethod
    def _excess(calcium: Tensor, values: Tensor, observed: Tensor, kinetics: Kinetics) -> Float[Tensor, "channel"]:
        """Sum of squared residuals in variances of the noise, beyond `MAX_RESIDUAL` per sample."""
        residual = (values - kinetics.amplitude * calcium - kinetics.baseline) / kinetics.noise_sd
        return torch.where(observed, residual.square() - MAX_RESIDUAL, 0.0).sum((0, 1)).clamp(min=0)

    def kinetics(self, point: Point) -> tuple[Kinetics, Tensor]:
        """Kinetics of a point, and its rates in spikes per bin: of each channel, or of each bin where a profile is known."""
        decay_per_bin = torch.exp(-self.bin_width / point["decay"])
        level = (self.values - point["baseline"]) / point["gain"]
        relative_noise = point["noise"] / point["gain"]
        # At a constant rate calcium has the mean rate / (1 − decay_per_bin).
        rate = ((self.mean - point["baseline"]) / point["gain"] * (1 - decay_per_bin)).clamp(min=1e-4)
        # Calcium before a trial: mean of the first samples over trials, and their variance beyond that of the noise.
        first = self.observed.int().argmax(1, keepdim=True)
        first_level = level.gather(1, first)[:, 0]
        initial = first_level.mean(0).clamp(min=0)
        initial_sd = ((first_level - initial).square().mean(0) - relative_noise**2).clamp(min=0.01).sqrt()
        per_channel = (decay_per_bin, point["gain"], point["baseline"], point["noise"], initial, initial_sd)
        kinetics = Kinetics(*per_channel, rise_time=self.rise_time)
        return kinetics, rate if self.rate_profile is None else rate * self.rate_profile
