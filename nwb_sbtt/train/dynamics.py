"""Learn a system from what a model infers, and simulate trials of it that train the model further.

The system is fitted to the observed counts or signals themselves. Trials are cut into segments, the system is run from the
start of each to its end, and the starts have a normal posterior of their own (multiple shooting, Bock and Plitt 1984,
doi:10.1016/S1474-6670(17)61205-9, with a variational posterior, Kingma and Welling 2014, arXiv:1312.6114). Starts that are
single numbers fit few spikes too well, and the system with them. At first runs are drawn to what the model has inferred, which
keeps them near the data while the system is still wrong; from `GUIDED` of the steps on only the observed entries count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt import stopping
from nwb_sbtt.batch import Batch
from nwb_sbtt.config import DynamicsConfig
from nwb_sbtt.models.base import Model
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.nn.inputs import InputStatistics, KnownInputs
from nwb_sbtt.train.checkpoint import load_record, load_weights, save_record

GUIDED = 0.6
"""Share of the steps over which the pull towards what the model has inferred falls to zero."""
TRIALS_AT_ONCE, INFERRED_AT_ONCE = 312, 256
"""Of a step, and of a pass through the model before the first one (`Batch.pieces`)."""
LEARNING_RATE, OF_READ_OUTS, OF_STARTS, OF_PRIOR = 6e-3, 2e-3, 2e-2, 1e-2
"""Of the network, of the read-outs of its state, of the posterior of starts, and of their prior."""
CLIP = 50.0
"""Largest norm of the gradient of network and read-outs."""
FIRST_SD = 0.1
"""Of the posterior of starts, in units of the sd of each dimension."""
LEAST_VARIANCE, MOST_VARIANCE = 0.02, 1.0
"""Of what a model infers, where it weighs the pull: a model may be too sure of itself."""
LEAST_SHARE = 1e-4
"""Added to the metric of factors, as a share of its mean, so that it can be inverted."""


def learn(
    model: Model,
    batches: Sequence[Batch],
    config: DynamicsConfig,
    generator: torch.Generator,
) -> Dynamics:
    """Learn a system from the training trials.

    Parameters
    ----------
    model : Model
        Trained, in evaluation mode; its likelihood can draw (`Likelihood.draws`).
    batches : sequence of Batch
        Training trials of each session.
    config : DynamicsConfig
    generator : torch.Generator
        On the device of the batches.

    Returns
    -------
    Dynamics

    Raises
    ------
    Stopped
        If that was requested (`nwb_sbtt.stopping`).
    """
    inferred = [_inferred(model, batch) for batch in batches]
    inputs = [found for batch in batches if (found := InputStatistics.measured(batch)) is not None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        dynamics = Dynamics(
            config,
            model.likelihood,
            {batch.session: len(batch.trials) for batch in batches},
            KnownInputs(inputs) if inputs else None,
        ).to(batches[0].device)
    _begin_with_components(dynamics, model, [batch.session for batch in batches], [mean for mean, _ in inferred])
    sessions = [
        _Session.of(dynamics, model, batch, factors, variance, length=config.segment)
        for batch, (factors, variance) in zip(batches, inferred, strict=True)
    ]
    read_outs = [p for each in sessions for p in dynamics.likelihood.read_outs(each.batch.session)[0]]
    for parameter in read_outs:
        parameter.requires_grad_(True)
    groups: list[tuple[list[Tensor], float]] = [
        ([*dynamics.field.parameters()], LEARNING_RATE),
        (read_outs, OF_READ_OUTS),
        ([p for each in sessions for p in (each.mean, each.log_sd)], OF_STARTS),
        ([p for each in sessions for p in (each.prior_mean, each.prior_log_sd)], OF_PRIOR),
    ]
    optimizer = torch.optim.Adam([{"params": p, "lr": rate} for p, rate in groups], betas=(0.9, 0.98))
    clipped = [*groups[0][0], *read_outs]
    for step in range(config.steps):
        stopping.check()
        share = 0.5 * (1 + math.cos(math.pi * step / config.steps)) + 0.02
        for parameters, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
            parameters["lr"] = rate * share
        session = sessions[step % len(sessions)]
        rows = torch.randperm(len(session.batch.trials), generator=generator, device=generator.device)
        pull = max(0.0, 1 - step / (GUIDED * config.steps))
        optimizer.zero_grad()
        session.loss(dynamics, rows[:TRIALS_AT_ONCE], pull, generator).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(clipped, CLIP)
        optimizer.step()
    for each in sessions:
        dynamics.starts[each.batch.session].copy_(each.mean[:, 0].detach())
        dynamics.start_sds[each.batch.session].copy_(each.log_sd[:, 0].detach().exp())
    return dynamics.eval().requires_grad_(False)


def draw_trials(
    dynamics: Dynamics,
    batch: Batch,
    generator: torch.Generator,
    *,
    start: Float[Tensor, "trial dimension"] | None = None,
) -> tuple[Batch, Tensor, Float[Tensor, "trial time dimension"]]:
    """Simulate as many trials as a batch has, sampled as its trials were.

    Parameters
    ----------
    dynamics : Dynamics
    batch : Batch
        The simulated trials take its masks, exposure and known inputs.
    generator : torch.Generator
    start : Float[Tensor, "trial dimension"], optional
        States in the first bin. Default: drawn from what is known of the starts of training trials.

    Returns
    -------
    batch : Batch
        With drawn values, shown where those of the real trials are.
    target : Tensor
        Of all its entries, observed or not (`Likelihood.draw`).
    states : Float[Tensor, "trial time dimension"]
    """
    session, (_, n_bins, _) = batch.session, batch.shape
    if start is None:
        n_starts = len(dynamics.starts[session])
        rows = torch.randint(n_starts, (len(batch.trials),), generator=generator, device=batch.device)
        start = dynamics.draw_starts(session, rows, generator)
    with torch.no_grad():
        states = dynamics.run(start, n_bins, dynamics.features(batch))
        drawn, target = dynamics.likelihood.draw(states, batch, generator)
    values = torch.where(batch.observed, drawn, torch.zeros_like(drawn))
    return replace(batch, values=values, scored=batch.shown), target, states


def simulated(dynamics: Dynamics, batch: Batch, generator: torch.Generator) -> tuple[Batch, Batch]:
    """Simulate trials that a model is trained on.

    Parameters
    ----------
    dynamics : Dynamics
    batch : Batch
        Training trials.
    generator : torch.Generator

    Returns
    -------
    batch : Batch
        As of `draw_trials`.
    target : Batch
        What the model is trained on: all entries, observed or not. Counts are replaced by the expected ones, which have no
        noise.
    """
    drawn, target, _ = draw_trials(dynamics, batch, generator)
    every = torch.ones_like(batch.observed)
    return drawn, replace(batch, values=target, observed=every, scored=every)


def save_dynamics(dynamics: Dynamics, path: Path) -> None:
    """Write a system by an atomic write.

    Parameters
    ----------
    dynamics : Dynamics
    path : Path

    Raises
    ------
    FileError
        If the disk is full or not writable.
    """
    trials = {session: len(dynamics.starts[session]) for session in dynamics.sessions}
    known = 0 if dynamics.known is None else len(dynamics.known.mean)
    save_record(path, dynamics.state_dict(), {"trials": trials, "inputs": known})


def load_dynamics(path: Path, model: Model, config: DynamicsConfig) -> Dynamics:
    """Read what `save_dynamics` wrote.

    Parameters
    ----------
    path : Path
    model : Model
        That the system was learned from.
    config : DynamicsConfig
        It was learned with.

    Returns
    -------
    Dynamics
        On the device of the model.

    Raises
    ------
    FileError
        If the file is missing or damaged.
    TrainingError
        If it is that of another system.
    """
    tensors, record = load_record(path)
    known = KnownInputs([InputStatistics.blank(record["inputs"])]) if record["inputs"] else None
    dynamics = Dynamics(config, model.likelihood, record["trials"], known)
    load_weights(dynamics, tensors, path)
    return dynamics.to(next(model.parameters()).device).eval().requires_grad_(False)


@dataclass
class _Session:
    """Training trials of one session, what the model infers of them, and the posterior of the starts of segments."""

    batch: Batch
    length: int
    states: Tensor
    variance: Tensor
    features: Tensor | None
    mean: nn.Parameter
    log_sd: nn.Parameter
    prior_mean: nn.Parameter
    prior_log_sd: nn.Parameter

    @classmethod
    def of(
        cls, dynamics: Dynamics, model: Model, batch: Batch, factors: Tensor, variance: Tensor | None, *, length: int
    ) -> _Session:
        with torch.no_grad():
            states, spread = dynamics.states_of(model.likelihood, factors, variance, batch.session)
        length = min(length, states.shape[1])
        first = states[:, ::length].clone()
        return cls(
            batch,
            length,
            states,
            spread.clamp(LEAST_VARIANCE, MOST_VARIANCE),
            dynamics.features(batch),
            nn.Parameter(first),
            nn.Parameter(torch.full_like(first, math.log(FIRST_SD))),
            nn.Parameter(states.mean((0, 1))),
            nn.Parameter(states.flatten(0, 1).std(0).clamp(min=1e-3).log()),
        )

    def loss(self, dynamics: Dynamics, rows: Tensor, pull: float, generator: torch.Generator) -> Float[Tensor, ""]:
        """Negative evidence lower bound of some trials, and the pull towards what the model infers, in nats per trial."""
        mean, log_sd = self.mean[rows], self.log_sd[rows]
        starts = mean + log_sd.exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
        n_bins = self.states.shape[1]
        features = None if self.features is None else _in_segments(self.features[rows], self.length)
        states = dynamics.run(starts, self.length, features).flatten(1, 2)[:, :n_bins]
        batch = self.batch.select(rows.cpu())
        total = dynamics.likelihood.total(states, batch)
        prior_variance = (2 * self.prior_log_sd).exp()
        divergence = ((mean - self.prior_mean) ** 2 + (2 * log_sd).exp()) / (2 * prior_variance)
        total = total + (divergence + self.prior_log_sd - log_sd - 0.5).sum()
        if pull:
            total = total + pull * ((states - self.states[rows]) ** 2 / (2 * self.variance[rows])).sum()
        return total / len(rows)


def _inferred(model: Model, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Factors of all trials and their variance, if the model has one."""
    factors, variances = list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for rows in batch.pieces(INFERRED_AT_ONCE):
            inference = model(batch.select(rows))
            factors.append(inference.factors)
            if inference.factor_variance is not None:
                variances.append(inference.factor_variance)
    return torch.cat(factors), torch.cat(variances) if variances else None


def _begin_with_components(
    dynamics: Dynamics, model: Model, sessions: Sequence[str], factors: Sequence[Tensor]
) -> None:
    """Let states be the first principal components of what channels read out, with unit variance, over all sessions."""
    tables = [model.likelihood.read_outs(session)[0] for session in sessions]
    metric = torch.stack([(table.detach().T @ table.detach()) / len(table) for table, _ in tables]).mean(0)
    metric = metric + LEAST_SHARE * metric.diagonal().mean() * torch.eye(len(metric), device=metric.device)
    root = torch.linalg.cholesky(metric)
    pooled = torch.cat([each.flatten(0, 1) for each in factors])
    middle = pooled.mean(0)
    scaled = (pooled - middle) @ root
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
    n = dynamics.config.dimensions
    sds = values.flip(0)[:n].clamp(min=1e-12).sqrt()
    to_factors = torch.linalg.solve_triangular(root.T, vectors.flip(1)[:, :n] * sds, upper=True)
    with torch.no_grad():
        for session, (table, bias) in zip(sessions, tables, strict=True):
            own, own_bias = dynamics.likelihood.read_outs(session)[0]
            own.copy_(table @ to_factors)
            own_bias.copy_(bias + table @ middle)


def _in_segments(
    features: Float[Tensor, "trial time feature"], length: int
) -> Float[Tensor, "trial segment bin feature"]:
    """Cut into segments; the last one is filled with its last bin."""
    n_trials, n_bins, width = features.shape
    missing = -n_bins % length
    if missing:
        features = torch.cat([features, features[:, -1:].expand(n_trials, missing, width)], 1)
    return features.reshape(n_trials, -1, length, width)
