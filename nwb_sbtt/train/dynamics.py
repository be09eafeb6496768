"""Learn a system from what was observed, decide how much it is worth, and simulate trials of it that train a model further.

A system of few dimensions is learned by Monte Carlo expectation maximisation (Wei and Tanner 1990,
doi:10.1080/01621459.1990.10474930). Where trials begin is represented by a bank of states. Each round lets courses begin in
the bank, weighs them by the likelihood of what each trial has observed, and draws a few for each trial by these weights
(expectation); then gradient steps make what was observed more likely along these (maximisation). Their starts are the next
bank. Nothing is assumed of the posterior of starts, which has many shapes where few samples are observed: a normal posterior
in its place, or single starts, lead to systems that explain much less.

Beside it, a hidden Markov model is learned (`nwb_sbtt.train.markov`). How much both are worth beside the model is decided on
hidden entries of the validation trials (`nwb_sbtt.train.shares`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt import stopping
from nwb_sbtt.batch import Batch
from nwb_sbtt.config import DynamicsConfig
from nwb_sbtt.data.sampling import sampling_lags
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.models.base import Model, noise
from nwb_sbtt.models.courses import (
    evidence_of_kinds,
    log_likelihoods,
    n_courses,
    run_courses,
)
from nwb_sbtt.models.dynamics import BOUND, DIMENSIONS, Dynamics
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.models.windows import windows
from nwb_sbtt.nn.inputs import InputStatistics, KnownInputs
from nwb_sbtt.train.checkpoint import load_record, load_weights, save_record
from nwb_sbtt.train.markov import ROUNDS, learn_markov
from nwb_sbtt.train.rotations import FOUND, Inferred, infer_rotations, search_steps
from nwb_sbtt.train.schedules import annealed
from nwb_sbtt.train.trackers import Tracker

STEPS = 1200
"""Gradient steps, where the settings do not say."""
STEPS_OF_ROUND, LEAST_ROUNDS = 20, 3
"""Gradient steps between two draws of courses, fewer where there are many sessions, and least rounds of each session."""
PRODUCTS, OWN_ENTRIES = 10**10, 5 * 10**7
"""Products of entries of courses and of trials in a round, or entries where trials have their own; they limit the trials."""
LEAST_TRIALS, LEAST_WIDTH = 64, 16
"""Least trials in a round, and channels that a bin of a course counts for at least."""
DRAWS = 4
"""Courses that are drawn for each trial by their weights."""
KEPT = 4096
"""Largest number of states that are kept of each bank."""
JITTER = 0.02
"""Sd by which states of the bank are displaced when courses are drawn. Where much is observed, .05 is too coarse."""
LEAST_EFFECTIVE, OF_BANK = 16.0, 0.05
"""Courses that must carry the weight in the median window, or this share of few, or else windows are made shorter."""
LEAST_WINDOW, TRIED_AGAIN = 8, 0.5
"""Bins of the shortest windows, and the share of the steps after which longer ones are tried again."""
BINS_AT_ONCE, ENTRIES_AT_ONCE, LEAST_ROWS = 15_600, 2_000_000, 32
"""Of a gradient step: most bins and entries, and least windows."""
PULLED, RUN, RUNS = 0.25, 10, 512
"""First the system learns short runs of what the model infers: steps, as a share of all; bins of a run; runs in a step."""
OF_PULL, LEARNING_RATE, OF_READ_OUTS = 6e-3, 2e-3, 7e-4
"""Of the network at first and later, and of the read-outs of its state."""
WARM_UP = 0.1
CLIP = 50.0
"""Largest norm of the gradient of network and read-outs."""
LEAST_VARIANCE, MOST_VARIANCE = 0.02, 1.0
"""Of what a model infers: a model may be too sure of itself."""
LEAST_SHARE = 1e-4
"""Added to the metric of factors, as a share of its mean, so that it can be inverted."""
INFERRED_AT_ONCE = 256
"""Trials of a pass through the model (`Batch.pieces`)."""
OF_ROUND = 30
"""Steps that a round of the hidden Markov model counts for, in what is told of the progress."""
STEPS_TRIED = 120
"""Of the system that is learned from each of several beginnings, before the likeliest one learns for good."""


def learn(
    model: Model,
    batches: Sequence[Batch],
    config: DynamicsConfig,
    generator: torch.Generator,
    *,
    with_markov: bool,
    tracker: Tracker,
) -> Dynamics:
    """Learn a system from the training trials, and beside it a hidden Markov model.

    None is where sampling is regular, as hidden entries cannot decide what it is worth, or where there are known inputs.

    Parameters
    ----------
    model : Model
        Trained, in evaluation mode; its likelihood can draw (`Likelihood.draws`).
    batches : sequence of Batch
        Training trials of each session.
    config : DynamicsConfig
    generator : torch.Generator
        On the device of the batches.
    with_markov : bool
        Whether a hidden Markov model may be learned too.
    tracker : Tracker
        Receives how many steps are done.

    Returns
    -------
    Dynamics

    Raises
    ------
    Stopped
        If that was requested (`nwb_sbtt.stopping`).
    """
    steps = config.steps or STEPS
    of_system = _all_steps(steps)
    recorded, batches = batches, [model.evidence(batch, hidden=True) for batch in batches]
    if not is_regular(model, batches):
        inferred = [_inferred(model, batch) for batch in recorded]
        with_markov = with_markov and all(batch.inputs is None for batch in batches)
        tell = partial(_tell, tracker, before=0, steps=of_system + OF_ROUND * ROUNDS * with_markov)
        dynamics = _learned(model, batches, inferred, config, generator, steps=steps, tell=tell)
        if with_markov:
            dynamics.markov = learn_markov(
                dynamics.likelihood,
                batches,
                inferred,
                _points([batch.session for batch in batches], inferred),
                config.markov_states,
                generator,
                tell=lambda turn: tell(of_system + OF_ROUND * turn),
            )
        return dynamics
    tried = min(STEPS_TRIED, steps)
    of_search, of_trial = search_steps(), _all_steps(tried)
    tell = partial(_tell, tracker, before=0, steps=of_search + FOUND * of_trial + of_system)
    # The search takes long in many dimensions, and knows no inputs, which need these.
    n = config.dimensions or DIMENSIONS
    n = n if batches[0].inputs is None else min(n, DIMENSIONS)
    beginnings = infer_rotations(batches[0], model.likelihood, n, generator, tell=tell)
    until_best = of_search + len(beginnings) * of_trial
    part = _first_trials(batches[0])
    likelihoods = list[float]()
    for i, beginning in enumerate(beginnings):
        tell = partial(_tell, tracker, before=of_search + i * of_trial, steps=until_best + of_system)
        try:
            dynamics = _learned(model, batches, [beginning], config, generator, steps=tried, tell=tell)
            likelihoods.append(float(evidence_of_kinds(dynamics, part)[:, 0].mean()) / int(dynamics.window))
        except TrainingError:  # of this one; if all fail, so does what follows
            likelihoods.append(-math.inf)
    best = beginnings[likelihoods.index(max(likelihoods))]
    tell = partial(_tell, tracker, before=until_best, steps=until_best + of_system)
    return _learned(model, batches, [best], config, generator, steps=steps, tell=tell)


def is_regular(model: Model, batches: Sequence[Batch]) -> bool:
    """Tell whether samples of a channel are never near in time, so that a network says nothing of what lies between.

    Never of fluorescence that spikes are inferred from: a sample tells of all bins since the one before.

    Parameters
    ----------
    model : Model
    batches : sequence of Batch
        Training trials of each session. Of several sessions others may tell it.
    """
    if len(batches) > 1 or model.infers_spikes:
        return False
    lags = sampling_lags(batches[0].dense(batches[0].observed).cpu().numpy())
    return lags is not None and lags.are_long


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
    if start is None:
        start = dynamics.draw_starts(batch.session, len(batch.trials), generator)
    with torch.no_grad():
        states = dynamics.run(start, batch.shape[1], dynamics.features(batch))
        drawn, target = dynamics.likelihood.draw(dynamics.likelihood.expected_at(states, batch), batch, generator)
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


def save_dynamics(dynamics: Dynamics, path: Path, *, of: str = "") -> None:
    """Write a system by an atomic write.

    Parameters
    ----------
    dynamics : Dynamics
    path : Path
    of : str
        Digest of the weights of the model beside which its share was decided; empty before that.

    Raises
    ------
    FileError
        If the disk is full or not writable.
    """
    states = {
        session: [len(table[session]) for table in (dynamics.starts, dynamics.later, dynamics.visited)]
        for session in dynamics.sessions
    }
    known = 0 if dynamics.known is None else len(dynamics.known.mean)
    record = {"states": states, "inputs": known, "of": of}
    if dynamics.markov is not None:
        record["markov"], record["factors"] = dynamics.markov.factors.shape
    save_record(path, dynamics.state_dict(), record)


def load_dynamics(path: Path, model: Model, config: DynamicsConfig, *, of: str | None = None) -> Dynamics:
    """Read what `save_dynamics` wrote.

    Parameters
    ----------
    path : Path
    model : Model
        That the system was learned from.
    config : DynamicsConfig
        It was learned with.
    of : str, optional
        Digest of the model's weights, of a finished fit.

    Returns
    -------
    Dynamics
        On the device of the model.

    Raises
    ------
    FileError
        If the file is missing or damaged, or belongs to other weights.
    TrainingError
        If it is that of another system.
    """
    tensors, record = load_record(path)
    if of is not None and record["of"] != of:
        raise FileError(
            f"{str(path)!r} was learned beside other weights than those in the run folder, so files of two fits are mixed; "
            "restore the folder from a copy, or fit again in a new folder"
        )
    known = KnownInputs([InputStatistics.blank(record["inputs"])]) if record["inputs"] else None
    states = {session: (starts, later, visited) for session, (starts, later, visited) in record["states"].items()}
    dynamics = Dynamics(config, model.likelihood, states, known)
    if n_states := record.get("markov", 0):
        channels = {name: len(dynamics.likelihood.read_outs(name)[0][1]) for name in dynamics.sessions}
        dynamics.markov = HiddenMarkov(n_states, channels, record.get("factors", 0))
    load_weights(dynamics, tensors, path)
    return dynamics.to(next(model.parameters()).device).eval().requires_grad_(False)


def _tell(tracker: Tracker, step: int, *, before: int, steps: int) -> None:
    """Tell how much is done of all steps, given the step of a part and the number of steps before it."""
    tracker.learning(before + step, steps)


_Begin = Callable[[int], Tensor]
"""Gives starts (trial, draw, dimension) of windows that begin in a bin."""


@dataclass
class _Windows:
    """Windows of the training trials of a session, all first or all later ones, and the starts that were drawn for each.

    `firsts` are the bins in which they begin, `rows` the windows of the last round.
    """

    batch: Batch
    features: Tensor | None
    starts: Tensor
    firsts: list[int]
    rows: Tensor

    @classmethod
    def of(cls, dynamics: Dynamics, batch: Batch, begin: _Begin, *, window: int) -> list[_Windows]:
        """Cut trials into windows."""
        n_bins = batch.shape[1]
        later = sorted({*range(window, n_bins - window + 1, window), n_bins - window} - {0})
        sets = []
        for firsts in ([0], later):
            if firsts:
                of_windows = windows(batch, firsts, window)
                starts = torch.cat([begin(first) for first in firsts])
                none = torch.zeros(0, dtype=torch.int64, device=batch.device)
                sets.append(cls(of_windows, dynamics.features(of_windows), starts, firsts, none))
        return sets

    def draw(self, dynamics: Dynamics, generator: torch.Generator, *, every: bool = False) -> None:
        """Draw starts for windows, by how well the courses from there explain what was observed."""
        n_windows, n_bins, n_channels = self.batch.shape
        n = n_courses(dynamics.config.courses, n_bins * n_channels, own=self.features is not None)
        most = PRODUCTS if self.features is None else OWN_ENTRIES
        at_once = min(n_windows, max(LEAST_TRIALS, most // (n * n_bins * max(n_channels, LEAST_WIDTH))))
        self.rows = torch.randperm(n_windows, generator=generator, device=self.batch.device)
        if not every:
            self.rows = self.rows[:at_once]
        for rows in torch.split(self.rows, at_once):
            self.starts[rows] = self._drawn(dynamics, rows, n, generator)

    def _drawn(self, dynamics: Dynamics, rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
        bank, part = self.starts.flatten(0, 1), self.batch.select(rows)
        chosen = torch.randint(len(bank), (n,), generator=generator, device=bank.device)
        with torch.no_grad():
            if self.features is None:
                starts = bank[chosen]
            else:
                # Half of the candidates are near those that the window has drawn before.
                own = self.starts[rows].repeat(1, -(-n // (2 * DRAWS)), 1)[:, : n // 2]
                starts = torch.cat([own, bank[chosen[n // 2 :]].expand(len(rows), -1, -1)], 1)
            starts = starts + JITTER * noise(tuple(starts.shape), generator, starts)
            features = None if self.features is None else self.features[rows]
            states = run_courses(dynamics, starts, part.shape[1], features)
            weights = log_likelihoods(dynamics, states, part, part.observed).softmax(1)
        if not weights.isfinite().all():
            raise TrainingError(
                "no system was learned, since it grew without bounds: check the data for outliers, or lower dynamics.dimensions"
            )
        drawn = torch.multinomial(weights, DRAWS, replacement=True, generator=generator)
        if self.features is None:
            return starts[drawn]
        return starts.gather(1, drawn[..., None].expand(-1, -1, starts.shape[2]))

    def loss(self, dynamics: Dynamics, generator: torch.Generator) -> Float[Tensor, ""]:
        """Negative log-likelihood of some windows of the round along courses from drawn starts, in nats per window."""
        _, n_bins, n_channels = self.batch.shape
        most = max(LEAST_ROWS, min(BINS_AT_ONCE // n_bins, ENTRIES_AT_ONCE // (n_bins * n_channels)))
        device = self.batch.device
        rows = self.rows[torch.randperm(len(self.rows), generator=generator, device=device)[:most]]
        starts = self.starts[rows, torch.randint(DRAWS, (len(rows),), generator=generator, device=device)]
        states = dynamics.run(starts, n_bins, None if self.features is None else self.features[rows])
        return dynamics.likelihood.total(states, self.batch.select(rows)) / len(rows)

    def keep(self, dynamics: Dynamics, generator: torch.Generator) -> None:
        """Keep the drawn starts, and of the courses from there states of any bin, as banks of the system."""
        session, bank = self.batch.session, self.starts.flatten(0, 1).clamp(-BOUND, BOUND)
        order = torch.randperm(len(bank), generator=generator, device=bank.device)[:KEPT]
        (dynamics.later if self.firsts[0] else dynamics.starts)[session] = bank[order]
        features = None if self.features is None else self.features[order // DRAWS]
        states = dynamics.run(bank[order], self.batch.shape[1], features)
        bins = torch.randint(states.shape[1], (len(states),), generator=generator, device=bank.device)
        visited = states[torch.arange(len(states), device=bank.device), bins]
        dynamics.visited[session] = torch.cat([dynamics.visited[session], visited])


def _learned(
    model: Model,
    batches: Sequence[Batch],
    inferred: Sequence[Inferred],
    config: DynamicsConfig,
    generator: torch.Generator,
    *,
    steps: int,
    tell: Callable[[int], None],
) -> Dynamics:
    """Learn a system that begins in what was inferred of each session."""
    inputs = [found for batch in batches if (found := InputStatistics.measured(batch)) is not None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        dynamics = Dynamics(
            config,
            model.likelihood,
            {batch.session: (0, 0, 0) for batch in batches},
            KnownInputs(inputs) if inputs else None,
        ).to(batches[0].device)
    _begin_with_components(dynamics, [batch.session for batch in batches], inferred)
    states = [_in_states(dynamics, batch.session, of) for batch, of in zip(batches, inferred, strict=True)]
    pulled = _steps_of_pull(steps)
    _pull(dynamics, batches, states, generator, steps=pulled, tell=tell)
    begin: list[_Begin] = [partial(_near, *known, generator) for known in states]
    window = _window(dynamics, batches, begin, generator, least=0)
    of_sessions = _cut(dynamics, batches, begin, window)
    sets = [*chain(*of_sessions)]
    read_outs = [p for batch in batches for p in dynamics.likelihood.read_outs(batch.session)[0]]
    for parameter in read_outs:
        parameter.requires_grad_(True)
    groups: list[tuple[list[Tensor], float]] = [
        ([*dynamics.field.parameters()], LEARNING_RATE),
        (read_outs, OF_READ_OUTS),
    ]
    optimizer = torch.optim.Adam([{"params": p, "lr": rate} for p, rate in groups], betas=(0.9, 0.98))
    trained = [*groups[0][0], *read_outs]
    turn = max(1, min(STEPS_OF_ROUND, steps // (LEAST_ROUNDS * len(sets))))
    for step in range(steps):
        stopping.check()
        if step == round(TRIED_AGAIN * steps):
            begin = [partial(_along, dynamics, sets) for sets in of_sessions]
            longer = _window(dynamics, batches, begin, generator, least=window)
            if longer > window:
                window, of_sessions = longer, _cut(dynamics, batches, begin, longer)
                sets = [*chain(*of_sessions)]
        each = sets[step // turn % len(sets)]
        if step % turn == 0 or not len(each.rows):
            each.draw(dynamics, generator)
        done = step / steps
        share = min(1.0, (done + 1 / steps) / WARM_UP) * annealed(done)
        for parameters, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
            parameters["lr"] = rate * share
        optimizer.zero_grad()
        each.loss(dynamics, generator).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        tell(pulled + step + 1)
    dynamics.window.fill_(window)
    dynamics.requires_grad_(False)
    for each in sets:
        each.draw(dynamics, generator, every=True)
        each.keep(dynamics, generator)
    return dynamics.eval()


def _inferred(model: Model, batch: Batch) -> Inferred:
    """Factors of all trials and their variance, if the model has one."""
    factors, variances = list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for rows in batch.pieces(INFERRED_AT_ONCE):
            inference = model(batch.select(rows))
            factors.append(inference.factors)
            if inference.factor_variance is not None:
                variances.append(inference.factor_variance)
    return Inferred(model.likelihood, torch.cat(factors), torch.cat(variances) if variances else None)


def _in_states(dynamics: Dynamics, session: str, of: Inferred) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        states, spread = dynamics.states_of(of.likelihood, of.factors, of.variance, session)
    return states, spread.clamp(LEAST_VARIANCE, MOST_VARIANCE)


def _begin_with_components(dynamics: Dynamics, sessions: Sequence[str], inferred: Sequence[Inferred]) -> None:
    """Let states be the first principal components of what channels read out, with unit variance, over all sessions.

    Where there are fewer factors, nothing is read out of the other dimensions.
    """
    tables = [of.likelihood.read_outs(session)[0] for session, of in zip(sessions, inferred, strict=True)]
    root = _metric_root([table.detach() for table, _ in tables])
    pooled = torch.cat([of.factors.flatten(0, 1) for of in inferred])
    middle = pooled.mean(0)
    scaled = (pooled - middle) @ root
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
    n = min(dynamics.dimensions, len(values))
    sds = values.flip(0)[:n].clamp(min=1e-12).sqrt()
    to_factors = torch.linalg.solve_triangular(root.T, vectors.flip(1)[:, :n] * sds, upper=True)
    with torch.no_grad():
        for session, (table, bias) in zip(sessions, tables, strict=True):
            own, own_bias = dynamics.likelihood.read_outs(session)[0]
            own.zero_()
            own[:, :n] = table @ to_factors
            own_bias.copy_(bias + table @ middle)


def _points(sessions: Sequence[str], inferred: Sequence[Inferred]) -> list[Float[Tensor, "trial time factor"]]:
    """Inferred factors, such that distances are those of what channels read out, on average over them."""
    root = _metric_root(
        [of.likelihood.read_outs(name)[0][0].detach() for name, of in zip(sessions, inferred, strict=True)]
    )
    return [of.factors @ root for of in inferred]


def _metric_root(tables: Sequence[Float[Tensor, "channel factor"]]) -> Float[Tensor, "factor factor"]:
    metric = torch.stack([(table.T @ table) / len(table) for table in tables]).mean(0)
    metric = metric + LEAST_SHARE * metric.diagonal().mean() * torch.eye(len(metric), device=metric.device)
    root: Tensor = torch.linalg.cholesky(metric)
    return root


def _steps_of_pull(steps: int) -> int:
    return max(1, round(PULLED * steps))


def _all_steps(steps: int) -> int:
    """Of a system that is learned by so many."""
    return _steps_of_pull(steps) + steps


def _pull(
    dynamics: Dynamics,
    batches: Sequence[Batch],
    states: Sequence[tuple[Tensor, Tensor]],
    generator: torch.Generator,
    *,
    steps: int,
    tell: Callable[[int], None],
) -> None:
    """Let the system begin near the data: it learns short runs of what the model infers."""
    optimizer = torch.optim.Adam(dynamics.field.parameters(), OF_PULL, betas=(0.9, 0.98))
    features = [dynamics.features(batch) for batch in batches]
    for step in range(steps):
        stopping.check()
        optimizer.param_groups[0]["lr"] = OF_PULL * annealed(step / steps)
        (mean, variance), of_bins = states[step % len(states)], features[step % len(states)]
        n_trials, n_bins, _ = mean.shape
        run = min(RUN, n_bins)
        trial, first = (
            torch.randint(n, (RUNS, 1), generator=generator, device=mean.device) for n in (n_trials, n_bins - run + 1)
        )
        bins = first + torch.arange(run, device=mean.device)
        course = dynamics.run(mean[trial[:, 0], first[:, 0]], run, None if of_bins is None else of_bins[trial, bins])
        loss = ((course - mean[trial, bins]) ** 2 / (2 * variance[trial, bins])).sum() / RUNS
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(dynamics.field.parameters(), CLIP)
        optimizer.step()
        tell(step + 1)


def _cut(dynamics: Dynamics, batches: Sequence[Batch], begin: Sequence[_Begin], window: int) -> list[list[_Windows]]:
    """Windows of each session."""
    return [_Windows.of(dynamics, *pair, window=window) for pair in zip(batches, begin, strict=True)]


def _near(mean: Tensor, variance: Tensor, generator: torch.Generator, first: int) -> Tensor:
    """Starts near what the model infers in a bin."""
    drawn = noise((len(mean), DRAWS, mean.shape[2]), generator, mean)
    return mean[:, first, None] + 0.5 * variance[:, first, None].sqrt() * drawn


def _along(dynamics: Dynamics, sets: Sequence[_Windows], first: int) -> Tensor:
    """Starts on the courses that were drawn for earlier windows."""
    places = {begun: (each, i) for each in sets for i, begun in enumerate(each.firsts) if begun <= first}
    begun = max(places)
    each, i = places[begun]
    n = len(each.starts) // len(each.firsts)
    rows, n_bins = slice(i * n, (i + 1) * n), first - begun + 1
    features = None if each.features is None else each.features[rows, None].expand(-1, DRAWS, -1, -1)
    with torch.no_grad():
        return dynamics.run(each.starts[rows], n_bins, features)[..., -1, :]


def _window(
    dynamics: Dynamics, batches: Sequence[Batch], begin: Sequence[_Begin], generator: torch.Generator, *, least: int
) -> int:
    """Find how long windows may be: where much is observed, no course from the bank explains all of a long one."""
    window = min(dynamics.config.window, *(batch.shape[1] for batch in batches))
    while window > max(least, LEAST_WINDOW):
        if all(_suits(dynamics, *pair, window, generator) for pair in zip(batches, begin, strict=True)):
            break
        window = max(LEAST_WINDOW, window // 2)
    return window


def _suits(dynamics: Dynamics, batch: Batch, begin: _Begin, window: int, generator: torch.Generator) -> bool:
    """Whether enough courses carry the weight (Kish's effective number) in the median of some first windows."""
    bank = begin(0).flatten(0, 1)
    part = windows(_first_trials(batch), [0], window)
    features = dynamics.features(part)
    n = n_courses(dynamics.config.courses, window * batch.shape[2], own=features is not None)
    bank = bank[torch.randperm(len(bank), generator=generator, device=bank.device)[:n]]
    with torch.no_grad():
        courses = run_courses(dynamics, bank, window, features)
        weights = log_likelihoods(dynamics, courses, part, part.observed).softmax(1)
    effective = float((1 / (weights**2).sum(1)).median())
    return effective >= min(LEAST_EFFECTIVE, OF_BANK * weights.shape[1])


def _first_trials(batch: Batch) -> Batch:
    """As many trials as are inferred at once."""
    return batch.select(torch.arange(min(len(batch.trials), INFERRED_AT_ONCE)))
