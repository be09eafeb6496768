"""What a system begins with where a network has learned nothing between samples: rotations in few dimensions.

Where each channel is sampled at long and regular intervals, a network can fit the samples by a rule of its own for each place
in the scheme of sampling, and says nothing of what lies between. Likelihoods can: pairs of channels, sampled at different
times, show all lags. The values are taken for a stationary Gaussian process in few dimensions ``x``, read out by all channels,
whose parts each rotate at one frequency and lose their phase after some time,

``E[x_i(t + τ) x_j(t)] = Σ_p exp(−τ² / 2 w_p²) · (cos(ω_p τ) (a_ip a_jp + b_ip b_jp) + sin(ω_p τ) (a_ip b_jp − b_ip a_jp))``,

a mixture of spectral components with phases (Ulrich et al. 2015, "GP kernels for cross-spectrum analysis"), whose likelihood
is exact. Frequencies can hide behind that of the scheme: if each channel could have phases of its own for each part, another
frequency would explain the same samples. That all parts share few dimensions is what tells most of them apart. Local minima
remain, so many beginnings are tried, and the best ones go on. Of those left at the end a system that is learned from each tells
which is right, far better than the likelihood of a linear process.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice, product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt import stopping
from nwb_sbtt.batch import Batch
from nwb_sbtt.errors import TrainingError
from nwb_sbtt.models.base import noise
from nwb_sbtt.models.windows import exposures
from nwb_sbtt.nn.likelihoods import Likelihood
from nwb_sbtt.train.schedules import annealed

MORE_PARTS = 3
"""Parts of the process beyond its dimensions."""
STAGES = ((144, 60, 0.06), (48, 150, 0.04), (12, 250, 0.03))
"""Of the search: processes, steps, and learning rate."""
FOUND, ALIKE = 5, 0.98
"""Most processes that are taken, and the correlation of their covariances from which on two are one."""
LOADING, HIGHEST, WIDTH, SPREAD = 0.4, 1.2, 6.0, 0.3
"""Of beginnings: sd of loadings, highest frequency in radians per bin, typical width in bins, and sd of its logarithm."""
BETAS = (0.9, 0.98)
MOST_CHANNELS = 48
"""Channels, drawn at random, that the process is fitted to."""
ENTRIES, LEAST_BINS = 100, 8
"""Mean number of entries of a window in the search, and its least bins."""
MOST_WINDOWS, MOST_PATTERNS = 4096, 256
"""In the search, and patterns of sampling among them that are told apart."""
OF_STEP, WINDOWS_OF_STEP = (6, 12), 200
"""Least and most patterns in a step, and windows that they have, if so many are needed."""
PROCESSES_AT_ONCE = 8
"""Whose matrices fit into the cache of a core: all 144 together take 1.5 times as long."""
WINDOW = 100
"""Bins over which states are inferred at a time."""
NEWTON, LOG_RATES = 6, (-8.0, 3.0)
"""Steps that find states of counts, and the range of logarithms of rates, relative to their means, in these."""
SOLVED_AT_ONCE = 32
"""Windows whose equations are solved at a time, and of which the mean posterior variance is taken."""
READ_OUT_STEPS, READ_OUT_TRIALS = 100, 512
"""Most steps (L-BFGS) and trials that the read-outs of all channels are fitted by and to."""
LEAST_MEAN, LEAST_SD = 1e-6, 1e-9
"""Of a channel, relative to which its values are counted: of counts, and of signals as a share of their mean. A channel that
varies by less is constant."""
LEAST_VARIANCE = 1e-6
"""Of a dimension that does not vary, as a share of the mean over all."""
LEAST_NOISE = 0.02
"""Share that remains, at least, of the variance which values of a channel are expected to have of their own."""


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


def search_steps() -> int:
    """Return how many steps a search for processes takes."""
    return sum(steps for _, steps, _ in STAGES)


def infer_rotations(
    batch: Batch, likelihood: Likelihood, dimensions: int, generator: torch.Generator, *, tell: Callable[[int], None]
) -> list[Inferred]:
    """Fit processes of few dimensions to the observed entries of training trials, and infer their states.

    Parameters
    ----------
    batch : Batch
        Training trials of a session.
    likelihood : Likelihood
        Of a trained model: copied, with read-outs of their own.
    dimensions : int
        Of the process, at least 1.
    generator : torch.Generator
        On the device of the batch.
    tell : callable
        Receives how many steps of the search are done.

    Returns
    -------
    list of Inferred
        The likeliest first, of processes that differ; with a factor for each dimension.

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
    order = torch.randperm(values.shape[2], generator=generator, device=values.device)[:MOST_CHANNELS]
    values, weights = values[..., order], weights[..., order]
    mean = values.sum((0, 1)) / weights.sum((0, 1)).clamp(min=1)
    away = values - weights * mean
    if likelihood.expects_counts:
        unit, own = mean.clamp(min=LEAST_MEAN), 1 / mean.clamp(min=LEAST_MEAN)
    else:
        sd = (away.square().sum((0, 1)) / weights.sum((0, 1)).clamp(min=1)).sqrt()
        unit = torch.where(sd > LEAST_SD * mean.abs(), sd, torch.inf)
        own = torch.ones_like(unit)
    away = away / unit
    if not away.any():
        raise TrainingError("no system was learned, since no channel varies in the training trials")
    inferred = []
    for process in _found(_Patterns.of(away, weights), own, dimensions, generator, tell):
        factors, variance = _states(process, away, weights, counts=likelihood.expects_counts)
        read_out = _with_read_outs(likelihood, batch, factors, variance, generator)
        inferred.append(Inferred(read_out, factors, variance))
    return inferred


@dataclass(frozen=True)
class _Process:
    """One process, or several along the first axis.

    Loadings (channel, dimension), a and b (dimension, part), frequencies (part) in radians per bin, logarithms of widths
    (part) in bins, and of the variance (channel) that each value has of its own.
    """

    loadings: Tensor
    a: Tensor
    b: Tensor
    frequency: Tensor
    log_width: Tensor
    log_noise: Tensor

    @property
    def parameters(self) -> list[Tensor]:
        """All that is learned."""
        return [self.loadings, self.a, self.b, self.frequency, self.log_width, self.log_noise]

    def select(self, rows: Tensor | int) -> _Process:
        """Some of several."""
        return _Process(*(each[rows] for each in self.parameters))

    def pieces(self) -> Iterator[_Process]:
        """All of several, some at a time."""
        return map(self.select, torch.split(torch.arange(len(self.a), device=self.a.device), PROCESSES_AT_ONCE))

    def to(self, dtype: torch.dtype) -> _Process:
        """Convert all numbers."""
        return _Process(*(each.to(dtype) for each in self.parameters))

    def whitened(self) -> _Process:
        """Turn and scale the dimensions of one process, so that each has unit variance and no other varies with it."""
        now = self.covariances(1)[0]
        root = torch.linalg.cholesky(now + LEAST_VARIANCE * _diagonal(now).mean() * torch.eye(len(now)).to(now))
        a, b = (torch.linalg.solve_triangular(root, each, upper=False) for each in (self.a, self.b))
        return replace(self, loadings=self.loadings @ root, a=a, b=b)

    def covariances(self, n_lags: int) -> Tensor:
        """Covariances (*rest, lag, dimension, dimension) of the first dimension later by 0, 1, … bins than the second."""
        lags = torch.arange(n_lags, device=self.a.device, dtype=self.a.dtype)
        decay = torch.exp(-0.5 * (lags / self.log_width.exp()[..., None]) ** 2)
        turned = self.frequency[..., None] * lags
        even, odd = decay * turned.cos(), decay * turned.sin()
        a, b = self.a, self.b
        alike = torch.einsum("...ip,...jp->...pij", a, a) + torch.einsum("...ip,...jp->...pij", b, b)
        turning = torch.einsum("...ip,...jp->...pij", a, b) - torch.einsum("...ip,...jp->...pij", b, a)
        return torch.einsum("...pl,...pij->...lij", even, alike) + torch.einsum("...pl,...pij->...lij", odd, turning)

    def of_channels(self, n_lags: int) -> Tensor:
        """Covariances (*rest, lag, channel, channel) that channels have by it."""
        loadings = self.loadings[..., None, :, :]
        return loadings @ self.covariances(n_lags) @ loadings.transpose(-1, -2)


@dataclass(frozen=True)
class _Patterns:
    """Windows of trials, of which those that are sampled alike are put together.

    Bins and channels (pattern, entry) of what is observed, its weights, 0 where a pattern has fewer entries, mean products
    (pattern, entry, entry) of values over windows, and numbers (pattern) of windows.
    """

    bins: Tensor
    channels: Tensor
    weights: Tensor
    products: Tensor
    numbers: Tensor
    n_bins: int
    n_channels: int

    @classmethod
    def of(cls, away: Tensor, weights: Tensor) -> _Patterns:
        """Cut trials into windows."""
        n_trials, n_bins, n_channels = away.shape
        per_bin = float((weights > 0).sum()) / (n_trials * n_bins)
        length = min(n_bins, max(LEAST_BINS, round(ENTRIES / per_bin)))
        firsts = range(0, n_bins - length + 1, length)
        sampled = weights.cpu().numpy()
        alike: dict[bytes, list[tuple[int, int]]] = {}
        for trial, first in islice(product(range(n_trials), firsts), MOST_WINDOWS):
            alike.setdefault(sampled[trial, first : first + length].tobytes(), []).append((trial, first))
        places = sorted(alike.values(), key=len, reverse=True)[:MOST_PATTERNS]
        parts = []
        for trials, begins in (zip(*of_pattern, strict=True) for of_pattern in places):
            bins, channels = (weights[trials[0], begins[0] : begins[0] + length] > 0).nonzero(as_tuple=True)
            of_entries = weights[trials[0], begins[0] + bins, channels]
            at = torch.tensor(begins, device=away.device)[:, None] + bins
            values = away[torch.tensor(trials, device=away.device)[:, None], at, channels] / of_entries
            parts.append((bins, channels, of_entries, values.T @ values / len(trials)))
        size = max(len(bins) for bins, *_ in parts)
        padded = [[nn.functional.pad(each, (0, size - len(each)) * each.ndim) for each in part] for part in parts]
        numbers = torch.tensor([len(of_pattern) for of_pattern in places], device=away.device).to(away.dtype)
        bins, channels, of_entries, products = map(torch.stack, zip(*padded, strict=True))
        return cls(bins, channels, of_entries, products, numbers, length, n_channels)

    def to(self, dtype: torch.dtype) -> _Patterns:
        """Convert what is not a place."""
        weights, products, numbers = (each.to(dtype) for each in (self.weights, self.products, self.numbers))
        return replace(self, weights=weights, products=products, numbers=numbers)

    def costs(self, process: _Process, chosen: Tensor, *, learn: bool = False) -> Tensor:
        """Negative log-likelihood of some patterns for each of several processes, in nats per window, but for a constant.

        If these are to learn, its gradient is added to theirs. It is known without going back through the factorisation, of
        which that takes most of the time: of ``(log |K| + tr K⁻¹ S) / 2`` it is ``(K⁻¹ − K⁻¹ S K⁻¹) / 2``.
        """
        bins, channels, weights = self.bins[chosen], self.channels[chosen], self.weights[chosen]
        later, (first, second) = bins[:, :, None] - bins[:, None, :], (channels[:, :, None], channels[:, None, :])
        of_pair = torch.where(later >= 0, first * self.n_channels + second, second * self.n_channels + first)
        place = later.abs() * self.n_channels**2 + of_pair
        of_lags = process.of_channels(self.n_bins)
        there = weights > 0
        pairs = (there[:, :, None] & there[:, None, :]).to(weights.dtype)
        matrix = of_lags.flatten(1).index_select(1, place.flatten()).reshape(-1, *place.shape) * pairs
        own = process.log_noise.exp()[:, channels] / torch.where(there, weights, 1.0)
        matrix = matrix + torch.diag_embed(torch.where(there, own, 1.0))
        share = self.numbers[chosen] / self.numbers[chosen].sum()
        with torch.no_grad():
            root, failed = torch.linalg.cholesky_ex(matrix)
            inverse = torch.cholesky_inverse(root)
            explained = inverse @ self.products[chosen]
            costs = _diagonal(root).log().sum(-1) + _diagonal(explained).sum(-1) / 2
            costs = torch.where(failed > 0, torch.inf, costs)
        if learn:
            slope = share[:, None, None] * (inverse - explained @ inverse) / 2
            slope = torch.where(failed[..., None, None] > 0, 0.0, slope)
            (matrix * slope).sum().backward()  # type: ignore[no-untyped-call]
        return (costs * share).sum(1)

    def all_costs(self, process: _Process) -> Tensor:
        """Negative log-likelihood of each process, in nats per window."""
        groups = torch.split(torch.arange(len(self.numbers), device=self.numbers.device), OF_STEP[0])
        with torch.no_grad():
            costs = [
                torch.stack([self.costs(some, chosen) * self.numbers[chosen].sum() for chosen in groups]).sum(0)
                for some in process.pieces()
            ]
        return torch.cat(costs) / self.numbers.sum()


def _found(
    patterns: _Patterns, own: Tensor, dimensions: int, generator: torch.Generator, tell: Callable[[int], None]
) -> list[_Process]:
    """Go down from many beginnings, with the best ones further, and take the likeliest processes that differ.

    Single precision is enough for that, and twice as fast.
    """
    n_parts, (n, *_) = dimensions + MORE_PARTS, STAGES[0]

    def drawn(*shape: int) -> Tensor:
        return noise((n, *shape), generator, own)

    process = _Process(
        LOADING * drawn(len(own), dimensions),
        drawn(dimensions, n_parts) / math.sqrt(n_parts),
        drawn(dimensions, n_parts) / math.sqrt(n_parts),
        HIGHEST * torch.rand((n, n_parts), generator=generator, device=own.device),
        math.log(WIDTH) + SPREAD * drawn(n_parts),
        own.log().expand(n, -1),
    ).to(torch.float32)
    patterns, costs, step = patterns.to(torch.float32), own.new_zeros(n), count(1)
    for kept, steps, rate in STAGES:
        process = process.select(costs.argsort()[:kept])
        rates = [rate * annealed(i / steps) for i in range(steps)]
        process = _descended(process, patterns, own, generator, rates=rates, tell=lambda: tell(next(step)))
        costs = patterns.all_costs(process)
    tables = nn.functional.normalize(process.of_channels(patterns.n_bins).flatten(1))
    chosen = list[int]()
    for i in costs.argsort().tolist():
        if len(chosen) < FOUND and all(tables[i] @ tables[j] < ALIKE for j in chosen):
            chosen.append(i)
    return [process.select(i).to(torch.float64).whitened() for i in chosen]


def _descended(
    process: _Process,
    patterns: _Patterns,
    own: Tensor,
    generator: torch.Generator,
    *,
    rates: Sequence[float],
    tell: Callable[[], None],
) -> _Process:
    """Make what was observed likelier by a gradient step of each rate, for each of several processes by itself."""
    process = _Process(*(each.clone().requires_grad_(True) for each in process.parameters))
    optimizer = torch.optim.Adam(process.parameters, betas=BETAS)
    least, most = OF_STEP
    n = min(max(least, round(WINDOWS_OF_STEP / float(patterns.numbers.mean()))), most, len(patterns.numbers))
    for rate in rates:
        stopping.check()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        chosen = torch.multinomial(patterns.numbers, n, generator=generator)
        for some in process.pieces():
            patterns.costs(some, chosen, learn=True)
        optimizer.step()
        with torch.no_grad():
            process.log_noise.clamp_(min=(LEAST_NOISE * own).log().to(process.log_noise.dtype))
        tell()
    return _Process(*(each.detach() for each in process.parameters))


def _states(process: _Process, away: Tensor, weights: Tensor, *, counts: bool) -> tuple[Tensor, Tensor]:
    """Posterior mean (trial, time, dimension) of the process, and its variance, the mean over some windows.

    Windows overlap by half, and bins are taken from the window in whose middle they are.
    """
    n_trials, n_bins, _ = away.shape
    length = min(WINDOW, n_bins)
    firsts = sorted({*range(0, n_bins - length, max(1, length // 2)), n_bins - length})
    n_factors = process.loadings.shape[1]
    prior, solved = _prior(process, length), _of_counts if counts else _of_signals
    result = away.new_zeros(n_trials, n_bins, n_factors)
    variance = away.new_zeros(n_bins, n_factors)
    for i, first in enumerate(firsts):
        begin = 0 if not i else (firsts[i - 1] + length + first) // 2
        taken = slice(begin, first + length)
        window, within = slice(first, first + length), slice(begin - first, length)
        for rows in torch.split(torch.arange(n_trials, device=away.device), SOLVED_AT_ONCE):
            stopping.check()
            equations, means = solved(prior, process, away[rows, window], weights[rows, window])
            result[rows, taken] = means.reshape(len(rows), length, n_factors)[:, within]
            if int(rows[0]) == 0:
                each = _diagonal(torch.linalg.solve(equations, prior.expand(len(rows), -1, -1))).mean(0)
                variance[taken] = each.reshape(length, n_factors)[within]
    return result.float(), variance.float().expand(n_trials, -1, -1)


def _of_signals(prior: Tensor, process: _Process, away: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior means of windows of signals, after what is solved for them: one more than prior times precision."""
    own = process.log_noise.exp()
    return _solved(prior, process.loadings, weights / own, away / own)


def _of_counts(prior: Tensor, process: _Process, away: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """As `_of_signals`, where the posterior is highest (Newton's method): rates are exponentials of the states.

    They have the mean and, relative to its square, the variance of the process if their logarithms are normal.
    """
    own, variance = process.log_noise.exp(), process.loadings.square().sum(1)
    of_logs = torch.log1p(variance)
    loadings = process.loadings * (of_logs / variance.clamp(min=torch.finfo(variance.dtype).tiny)).sqrt()[:, None]
    logs = (-of_logs / 2).expand(away.shape)
    for _ in range(NEWTON):
        logs = logs.clamp(*LOG_RATES)
        rates = weights * logs.exp()
        pull = (away + weights - rates + rates * (logs + of_logs / 2)) / own
        equations, means = _solved(prior, loadings, rates / own, pull)
        logs = means.reshape(*away.shape[:2], -1) @ loadings.T - of_logs / 2
    return equations, means


def _solved(prior: Tensor, loadings: Tensor, precision: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Equations of windows and their solutions, given the precision of each value and its product with the value."""
    linear = torch.einsum("btc,cf->btf", pull, loadings).flatten(1)
    equations = _times(prior, torch.einsum("btc,cf,cg->btfg", precision, loadings, loadings))
    equations = equations + torch.eye(len(prior)).to(prior)
    return equations, torch.linalg.solve(equations, (linear @ prior)[..., None])[..., 0]


def _prior(process: _Process, length: int) -> Tensor:
    """Prior covariance (time and dimension, time and dimension) of a window."""
    of_lags = process.covariances(length)
    bins = torch.arange(length, device=of_lags.device)
    later = bins[:, None] - bins
    each = of_lags[later.abs()]
    each = torch.where((later >= 0)[..., None, None], each, each.transpose(-1, -2))
    return each.transpose(1, 2).flatten(0, 1).flatten(1)


def _times(prior: Tensor, precision: Tensor) -> Tensor:
    """Product of a prior covariance with precisions (window, time, factor, factor), which are block-diagonal."""
    n_windows, length, n_factors, _ = precision.shape
    product = torch.einsum("rtf,btfg->brtg", prior.reshape(-1, length, n_factors), precision)
    return product.reshape(n_windows, len(prior), len(prior))


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1)


def _with_read_outs(
    likelihood: Likelihood, batch: Batch, factors: Tensor, variance: Tensor, generator: torch.Generator
) -> Likelihood:
    """Copy a likelihood and let all channels read out other factors, drawn from their posterior.

    Means alone, which vary less, and each with the very samples that are to be explained, would be read out too strongly.
    """
    session = batch.session
    likelihood = copy.deepcopy(likelihood).requires_grad_(False)
    likelihood.weights[session] = nn.Parameter(factors.new_zeros(batch.shape[2], factors.shape[2]))
    parameters = likelihood.read_outs(session)[0]
    for parameter in parameters:
        parameter.requires_grad_(True)
    rows = torch.randperm(len(factors), generator=generator, device=factors.device)[:READ_OUT_TRIALS]
    drawn = factors[rows] + variance[rows].sqrt() * noise((len(rows), *factors.shape[1:]), generator, factors)
    chosen = replace(batch, scored=batch.observed).select(rows)
    n_observed = chosen.scored.sum()
    optimizer = torch.optim.LBFGS(parameters, max_iter=READ_OUT_STEPS, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        stopping.check()
        optimizer.zero_grad()
        loss: Tensor = likelihood.total(drawn, chosen) / n_observed
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(cost)  # type: ignore[no-untyped-call]
    return likelihood.requires_grad_(False)
