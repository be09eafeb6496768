"""What a system begins with where a network has learned nothing between samples: a few rotations, from covariances at lags.

Where each channel is sampled at long and regular intervals, a network can fit the samples by a rule of its own for each place
in the scheme of sampling, and says nothing of what lies between. Covariances cannot: pairs of channels, sampled at different
times, show all lags. They are fitted by a stationary Gaussian process of low rank, whose parts each rotate at one frequency
and lose their phase after some time,

``C_ij(τ) = Σ_p exp(−τ² / 2 w_p²) · (cos(ω_p τ) (a_ip a_jp + b_ip b_jp) + sin(ω_p τ) (a_ip b_jp − b_ip a_jp))``,

a mixture of spectral components with phases between channels (Ulrich et al. 2015, "GP kernels for cross-spectrum analysis").
Regular samples leave many local minima, since frequencies can hide behind that of the scheme; so many beginnings are tried,
and the best ones go on.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt import stopping
from nwb_sbtt.batch import Batch
from nwb_sbtt.errors import TrainingError
from nwb_sbtt.models.base import noise
from nwb_sbtt.models.courses import exposures
from nwb_sbtt.nn.likelihoods import Likelihood
from nwb_sbtt.train.schedules import annealed

ROTATIONS, LAGS = 3, 40
"""Parts of the process, and lags in bins at which covariances are compared."""
BEGINNINGS, KEPT, LEAST_KEPT, STAGES = 128, 0.25, 8, 4
"""Beginnings of the search, the share of them that a stage keeps, the least number kept, and stages."""
STEPS, LEARNING_RATE = 150, 0.03
"""Of each stage."""
SIZE, HIGHEST, WIDTH = 0.3, 1.2, 6.0
"""Of beginnings: sd of loadings, highest frequency in radians per bin, and typical width in bins."""
MOST_CHANNELS = 48
"""Channels, drawn at random, whose covariances are fitted."""
WINDOW = 100
"""Bins over which factors are inferred at a time."""
SOLVED_AT_ONCE, COMPARED = 32, 256
"""Windows whose equations are solved at a time (and of which the mean posterior variance is taken), and trials whose first
windows decide among the last processes."""
OF_READ_OUTS, READ_OUT_STEPS, READ_OUT_TRIALS = 0.02, 300, 128
"""Learning rate, steps and trials in a step of the read-outs of all channels."""
LEAST_MEAN, LEAST_SD = 1e-6, 1e-9
"""Of a channel, relative to which its values are counted: of counts, and of signals as a share of their mean. A channel that
varies by less is constant."""


@dataclass(frozen=True)
class Inferred:
    """Factors of the trials of a session, and the likelihood that reads them out.

    Parameters
    ----------
    likelihood : Likelihood
    factors : Float[Tensor, "trial time factor"]
    variance : Float[Tensor, "trial time factor"] or None
        Posterior variance, of a model that has one.
    """

    likelihood: Likelihood
    factors: Float[Tensor, "trial time factor"]
    variance: Float[Tensor, "trial time factor"] | None


@dataclass(frozen=True)
class _Process:
    """Loadings (channel, part) a and b, frequencies (part) in radians per bin, and widths (part) in bins."""

    a: Tensor
    b: Tensor
    frequency: Tensor
    width: Tensor

    @property
    def loadings(self) -> Tensor:
        """Both loadings, one after the other (*rest, channel, factor)."""
        return torch.cat([self.a, self.b], -1)

    def kernels(self, lags: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd part of each part's covariance at lags."""
        decay = torch.exp(-(lags**2) / (2 * self.width[..., None] ** 2))
        turned = self.frequency[..., None] * lags
        return decay * turned.cos(), decay * turned.sin()

    def covariances(self, lags: Tensor) -> Tensor:
        """Covariances (*rest, lag, channel, channel) of the first channel later by a lag than the second."""
        even, odd = self.kernels(lags)
        along = torch.einsum("...pl,...cp->...lcp", even, self.a) - torch.einsum("...pl,...cp->...lcp", odd, self.b)
        across = torch.einsum("...pl,...cp->...lcp", even, self.b) + torch.einsum("...pl,...cp->...lcp", odd, self.a)
        return torch.cat([along, across], -1) @ self.loadings.transpose(-1, -2)[..., None, :, :]


def infer_rotations(batch: Batch, likelihood: Likelihood, generator: torch.Generator) -> Inferred:
    """Fit a process of few rotations to the observed entries of training trials, and infer its state.

    Parameters
    ----------
    batch : Batch
        Training trials of a session.
    likelihood : Likelihood
        Of a trained model: copied, with read-outs of their own.
    generator : torch.Generator
        On the device of the batch.

    Returns
    -------
    Inferred
        With two factors for each rotation.

    Raises
    ------
    Stopped
        If that was requested (`nwb_sbtt.stopping`).
    TrainingError
        If nothing varies.
    """
    observed = batch.dense(batch.observed)
    values = torch.where(observed, batch.dense(batch.values), 0.0).double()
    weights = exposures(likelihood, batch, observed).double()
    n_channels = values.shape[2]
    order = torch.randperm(n_channels, generator=generator, device=values.device)[:MOST_CHANNELS]
    values, weights = values[..., order], weights[..., order]
    mean = values.sum((0, 1)) / weights.sum((0, 1)).clamp(min=1)
    away = values - weights * mean
    if likelihood.expects_counts:
        unit, spread = mean.clamp(min=LEAST_MEAN), 1 / mean.clamp(min=LEAST_MEAN)
    else:
        sd = (away.square().sum((0, 1)) / weights.sum((0, 1)).clamp(min=1)).sqrt()
        unit = torch.where(sd > LEAST_SD * mean.abs(), sd, torch.inf)
        spread = torch.ones_like(unit)
    away = away / unit
    process = min(_fitted(away, weights, spread, generator), key=lambda found: _cost(found, away, weights, spread))
    if not likelihood.expects_counts:
        spread = (1 - (process.a**2 + process.b**2).sum(1)).clamp(min=0.05)
    factors, variance = _states(process, away, weights, spread)
    return Inferred(_with_read_outs(likelihood, batch, factors, generator), factors, variance)


def _fitted(away: Tensor, weights: Tensor, spread: Tensor, generator: torch.Generator) -> list[_Process]:
    """Find processes whose covariances are near the measured ones, weighted by how well these are known."""
    n_bins, n_channels = away.shape[1:]
    lags = torch.arange(min(LAGS, n_bins), device=away.device, dtype=torch.float32)
    measured, known = list[Tensor](), list[Tensor]()
    for lag in range(len(lags)):
        pairs = [(box[:, lag:].flatten(0, 1), box[:, : n_bins - lag].flatten(0, 1)) for box in (away, weights)]
        total, n = (later.T @ earlier for later, earlier in pairs)
        measured.append(total / n.clamp(min=1))
        known.append(n)
    target = torch.stack(measured).float()
    # What noise a product of two values has, a channel's own at lag 0 left out; the others are there twice.
    trust = (torch.stack(known) / torch.outer(spread, spread)).float()
    trust[0] *= 0.5 * (1 - torch.eye(n_channels, device=away.device))
    if not (total := (trust * target**2).sum()) > 0:
        raise TrainingError("no system was learned, since no two channels vary together in the training trials")
    trust = trust / total

    def drawn(*shape: int) -> Tensor:
        return noise((BEGINNINGS, *shape), generator, target)

    turns = torch.rand((BEGINNINGS, ROTATIONS), generator=generator, device=target.device)
    found = [
        SIZE * drawn(n_channels, ROTATIONS),
        SIZE * drawn(n_channels, ROTATIONS),
        HIGHEST * turns,
        math.log(WIDTH) + SIZE * drawn(ROTATIONS),
    ]
    for stage in range(STAGES):
        found, misses = _descended(found, target, trust, lags)
        n_kept = max(LEAST_KEPT, round(BEGINNINGS * KEPT ** (stage + 1)))
        found = [each[misses.argsort()[:n_kept]] for each in found]
    doubles = [each.double() for each in found]
    return [_Process(a, b, frequency, width.exp()) for a, b, frequency, width in zip(*doubles, strict=True)]


def _descended(found: list[Tensor], target: Tensor, trust: Tensor, lags: Tensor) -> tuple[list[Tensor], Tensor]:
    """Go down from each beginning; give where that led, and what is missed there."""
    found = [each.detach().requires_grad_(True) for each in found]
    optimizer = torch.optim.Adam(found, LEARNING_RATE)

    def misses() -> Tensor:
        a, b, frequency, width = found
        away = _Process(a, b, frequency, width.exp()).covariances(lags) - target
        return (trust * away**2).sum((1, 2, 3))

    for step in range(STEPS):
        stopping.check()
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * annealed(step / STEPS)
        optimizer.zero_grad()
        misses().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return [each.detach() for each in found], misses()


def _states(process: _Process, away: Tensor, weights: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean (trial, time, factor) of the process, and its variance, the mean over some windows.

    Windows overlap by half, and bins are taken from the window in whose middle they are.
    """
    n_trials, n_bins, _ = away.shape
    length = min(WINDOW, n_bins)
    firsts = sorted({*range(0, n_bins - length, max(1, length // 2)), n_bins - length})
    n_factors = process.loadings.shape[1]
    prior = _prior(process, length)
    result = away.new_zeros(n_trials, n_bins, n_factors)
    variance = away.new_zeros(n_bins, n_factors)
    for i, first in enumerate(firsts):
        begin = 0 if not i else (firsts[i - 1] + length + first) // 2
        taken = slice(begin, first + length)
        window, within = slice(first, first + length), slice(begin - first, length)
        for rows in torch.split(torch.arange(n_trials, device=away.device), SOLVED_AT_ONCE):
            stopping.check()
            parts = away[rows, window], weights[rows, window]
            equations, _, means = _solved(prior, process.loadings, *parts, spread)
            result[rows, taken] = means.reshape(len(rows), length, n_factors)[:, within]
            if int(rows[0]) == 0:
                each = (
                    torch.linalg.solve(equations, prior.expand(len(rows), -1, -1))
                    .diagonal(dim1=1, dim2=2)
                    .mean(0)
                    .reshape(length, n_factors)
                )
                variance[taken] = each[within]
    return result.float(), variance.float().expand(n_trials, -1, -1)


def _cost(process: _Process, away: Tensor, weights: Tensor, spread: Tensor) -> float:
    """Negative log-likelihood of the first windows of some trials, but for terms of the data alone.

    Covariances at lags, which found the process, do not know how lags hang together in a trial.
    """
    length, cost = min(WINDOW, away.shape[1]), 0.0
    prior = _prior(process, length)
    for rows in torch.split(torch.arange(min(len(away), COMPARED), device=away.device), SOLVED_AT_ONCE):
        parts = away[rows, :length], weights[rows, :length]
        equations, linear, means = _solved(prior, process.loadings, *parts, spread)
        cost += float((torch.linalg.slogdet(equations)[1] - (linear * means).sum(1)).sum()) / 2
    return cost


def _solved(
    prior: Tensor, loadings: Tensor, away: Tensor, weights: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior means of windows, after what is solved for them: one more than prior times precision, and the linear terms."""
    precision = torch.einsum("btc,cf,cg->btfg", weights / spread, loadings, loadings)
    linear = torch.einsum("btc,cf->btf", away / spread, loadings).flatten(1)
    equations = _times(prior, precision) + torch.eye(len(prior), dtype=prior.dtype, device=prior.device)
    return equations, linear, torch.linalg.solve(equations, (linear @ prior)[..., None])[..., 0]


def _prior(process: _Process, length: int) -> Tensor:
    """Prior covariance (time and factor, time and factor) of a window."""
    bins = torch.arange(length, device=process.a.device, dtype=process.a.dtype)
    even, odd = process.kernels((bins[:, None] - bins).flatten())
    even, odd = (each.reshape(-1, length, length) for each in (even, odd))
    n = len(even)
    prior = even.new_zeros(length, 2 * n, length, 2 * n)
    for part in range(n):
        prior[:, part, :, part] = prior[:, n + part, :, n + part] = even[part]
        prior[:, part, :, n + part], prior[:, n + part, :, part] = odd[part], -odd[part]
    return prior.flatten(0, 1).flatten(1)


def _times(prior: Tensor, precision: Tensor) -> Tensor:
    """Product of a prior covariance with precisions (window, time, factor, factor), which are block-diagonal."""
    n_windows, length, n_factors, _ = precision.shape
    product = torch.einsum("rtf,btfg->brtg", prior.reshape(-1, length, n_factors), precision)
    return product.reshape(n_windows, len(prior), len(prior))


def _with_read_outs(likelihood: Likelihood, batch: Batch, factors: Tensor, generator: torch.Generator) -> Likelihood:
    """Copy a likelihood and let all channels read out other factors."""
    session = batch.session
    likelihood = copy.deepcopy(likelihood).requires_grad_(False)
    likelihood.weights[session] = nn.Parameter(factors.new_zeros(batch.shape[2], factors.shape[2]))
    parameters = likelihood.read_outs(session)[0]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, OF_READ_OUTS)
    batch = replace(batch, scored=batch.observed)
    for step in range(READ_OUT_STEPS):
        optimizer.param_groups[0]["lr"] = OF_READ_OUTS * annealed(step / READ_OUT_STEPS)
        rows = torch.randperm(len(factors), generator=generator, device=factors.device)[:READ_OUT_TRIALS]
        optimizer.zero_grad()
        likelihood.total(factors[rows], batch.select(rows)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return likelihood.requires_grad_(False)
