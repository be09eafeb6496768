"""Learn a hidden Markov model that begins in what a model infers: its states are points among the inferred factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nwb_sbtt import stopping
from nwb_sbtt.batch import Batch
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.models.windows import counted
from nwb_sbtt.nn.likelihoods import Likelihood
from nwb_sbtt.train.rotations import Inferred

BINS_OF_STATE = 10
"""Bins of the training trials for each state at least."""
ROUNDS = 3
"""Of expectation and maximisation. With more, states follow the noise of the training trials."""
OF_BINS = 20.0
"""Bins that the expectation which a model infers counts for."""
OF_NEIGHBOURS, NEIGHBOURS = 2.0, 5
"""Transitions from each state that those of states near it count for, and how many are near."""
LEAST_PROBABILITY = 1e-6
"""Of going anywhere, shared by all states."""
OF_STARTS = 0.05
"""Trials that begin in a state, beside those that are found to."""
CLUSTERED = 200_000
"""Most bins that states are placed by."""
BINS_AT_ONCE = 16_384


def learn_markov(
    likelihood: Likelihood,
    batches: Sequence[Batch],
    inferred: Sequence[Inferred],
    points: Sequence[Float[Tensor, "trial time dimension"]],
    n_states: int,
    generator: torch.Generator,
    *,
    tell: Callable[[int], None],
) -> HiddenMarkov | None:
    """Learn a hidden Markov model from the training trials.

    States begin as clusters of what a model infers (k-means), with the expectations of their middles, and go from one to
    another as often as the inferred trials do. Then the model is improved by expectation maximisation of what was observed
    (Rabiner 1989, doi:10.1109/5.18626). Where little was, expectations stay those of the beginning, and states follow each
    other as states near them do.

    Parameters
    ----------
    likelihood : Likelihood
        That it is used with (`HiddenMarkov.infer`).
    batches : sequence of Batch
        Training trials of each session.
    inferred : sequence of Inferred
        What a model infers of each.
    points : sequence of Float[Tensor, "trial time dimension"]
        The inferred factors of each, in coordinates whose distances are those of what channels read out.
    n_states : int
        Largest number of states.
    generator : torch.Generator
    tell : callable
        Receives how many rounds are done, and at last that all are.

    Returns
    -------
    HiddenMarkov or None
        None of so few bins, or so few states wanted, that there would be a single state.
    """
    pooled = torch.cat([each.flatten(0, 1) for each in points])
    n_states = min(n_states, len(pooled) // BINS_OF_STATE)
    if n_states < 2:
        tell(ROUNDS)
        return None
    middles = _middles(pooled, n_states, generator)
    channels, n_factors = {batch.session: batch.shape[2] for batch in batches}, inferred[0].factors.shape[2]
    markov = HiddenMarkov(n_states, channels, n_factors).to(pooled.device)
    near = _nearness(middles)
    labels = [_nearest(each, middles) for each in points]
    factors = _averages(
        torch.cat([of.factors.flatten(0, 1) for of in inferred]), torch.cat([*map(torch.flatten, labels)]), n_states
    )
    begun = {
        batch.session: of.likelihood.expected(factors[None], batch.session)[0]
        for batch, of in zip(batches, inferred, strict=True)
    }
    transitions = torch.stack([_transitions(each, n_states) for each in labels]).sum(0)
    markov.transitions.copy_(_probabilities(transitions, near))
    markov.factors.copy_(factors)
    for batch, each in zip(batches, labels, strict=True):
        markov.expected[batch.session].copy_(begun[batch.session])
        markov.starts[batch.session].copy_(_start_probabilities(torch.bincount(each[:, 0], minlength=n_states)))
    for turn in range(ROUNDS):
        found, bins = torch.zeros_like(markov.transitions), torch.full_like(markov.factors[:, :1], OF_BINS)
        summed, renewed = OF_BINS * factors, list[tuple[Tensor, Tensor]]()
        for batch, of in zip(batches, inferred, strict=True):
            turned = _expectations(markov, likelihood, batch, of.factors, begun[batch.session])
            renewed.append((turned.expected, turned.starts))
            found += turned.transitions
            summed, bins = summed + turned.factors, bins + turned.bins
        markov.transitions.copy_(_probabilities(found, near))
        markov.factors.copy_(summed / bins)
        for batch, (expected, starts) in zip(batches, renewed, strict=True):
            markov.expected[batch.session].copy_(expected)
            markov.starts[batch.session].copy_(starts)
        tell(turn + 1)
    return markov


def _middles(
    points: Float[Tensor, "bin dimension"], n: int, generator: torch.Generator
) -> Float[Tensor, "state dimension"]:
    """Middles of clusters (scikit-learn's k-means)."""
    from sklearn.cluster import MiniBatchKMeans

    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    chosen = torch.randperm(len(points), generator=generator, device=points.device)[:CLUSTERED]
    found = MiniBatchKMeans(n, random_state=seed, n_init=1, batch_size=4096, max_iter=30).fit(
        points[chosen].cpu().numpy()
    )
    return torch.as_tensor(found.cluster_centers_, dtype=points.dtype, device=points.device)


def _nearness(middles: Tensor) -> Float[Tensor, "state state"]:
    """Weights of the states near each one (row), itself among them; they fall off as a Gaussian and sum to one."""
    apart = torch.cdist(middles, middles, compute_mode="donot_use_mm_for_euclid_dist")
    width = apart.topk(min(NEIGHBOURS + 1, len(apart)), largest=False).values[:, -1:].clamp(min=1e-12)
    return (-0.5 * (apart / width) ** 2).softmax(1)


def _nearest(points: Float[Tensor, "trial time dimension"], middles: Tensor) -> Int[Tensor, "trial time"]:
    pieces = torch.split(points.flatten(0, 1), BINS_AT_ONCE)
    return torch.cat([torch.cdist(piece, middles).argmin(1) for piece in pieces]).reshape(points.shape[:2])


def _averages(values: Float[Tensor, "bin factor"], labels: Int[Tensor, "bin"], n: int) -> Float[Tensor, "state factor"]:
    """Mean of the values with each label; 0 of a label that none has."""
    sums, count = values.new_zeros(n, values.shape[1]), torch.bincount(labels, minlength=n)
    for some, of in zip(torch.split(values, BINS_AT_ONCE), torch.split(labels, BINS_AT_ONCE), strict=True):
        # As a product: sums by index have no fixed order on GPUs.
        sums += torch.nn.functional.one_hot(of, n).to(values.dtype).T @ some
    return sums / count.clamp(min=1)[:, None]


def _transitions(labels: Int[Tensor, "trial time"], n: int) -> Float[Tensor, "state state"]:
    """Numbers of transitions from each label (row) to each (column)."""
    pairs = (labels[:, :-1] * n + labels[:, 1:]).flatten()
    return torch.bincount(pairs, minlength=n * n).reshape(n, n).float()


def _probabilities(counts: Float[Tensor, "state state"], near: Tensor) -> Float[Tensor, "state state"]:
    """Probabilities of transitions that were counted, of which those of states nearby count for some."""
    nearby = near.T @ counts @ near + 1e-3 * near
    counts = counts + OF_NEIGHBOURS * nearby / nearby.sum(1, keepdim=True)
    return (counts / counts.sum(1, keepdim=True) + LEAST_PROBABILITY / len(counts)) / (1 + LEAST_PROBABILITY)


def _start_probabilities(trials: Tensor) -> Float[Tensor, "_"]:
    weighed = trials + OF_STARTS
    return weighed / weighed.sum()


@dataclass(frozen=True)
class _Round:
    """What all trials of a session say of the states, given a hidden Markov model.

    Parameters
    ----------
    expected : Float[Tensor, "state channel"]
        Renewed expectations of channels.
    starts : Float[Tensor, "state"]
        Renewed probabilities of the first bin.
    transitions : Float[Tensor, "state state"]
        Numbers of them.
    factors : Float[Tensor, "state factor"]
        Sums over bins.
    bins : Float[Tensor, "state 1"]
        Numbers of them.
    """

    expected: Tensor
    starts: Tensor
    transitions: Tensor
    factors: Tensor
    bins: Tensor


def _expectations(
    markov: HiddenMarkov,
    likelihood: Likelihood,
    batch: Batch,
    factors: Float[Tensor, "trial time factor"],
    begun: Float[Tensor, "state channel"],
) -> _Round:
    """Run one round of expectation over all trials of a session, and renew what is its own."""
    reference = likelihood.reference(batch.session)
    sums, weights = torch.zeros_like(begun), torch.zeros_like(begun)
    starts, transitions = torch.zeros_like(markov.starts[batch.session]), torch.zeros_like(markov.transitions)
    of_factors, bins, before = torch.zeros_like(markov.factors), torch.zeros_like(markov.factors[:, :1]), 0
    for part in markov.pieces(batch):
        stopping.check()
        posterior, counts = markov.expectations(likelihood, part, part.observed)
        starts += posterior[:, 0].sum(0)
        transitions += counts
        by_state = posterior.flatten(0, 1).T
        values, shares = counted(likelihood, part, part.observed)
        sums += by_state @ values.flatten(0, 1)
        weights += by_state @ shares.flatten(0, 1)
        of_factors += by_state @ factors[before : before + len(posterior)].flatten(0, 1)
        bins += by_state.sum(1, keepdim=True)
        before += len(posterior)
    # Of each channel as it is observed on average: weights of all states add up to what was observed of it.
    own = OF_BINS * weights.sum(0).clamp(min=1.0) / (batch.shape[0] * batch.shape[1])
    expected = reference + (sums + own * (begun - reference)) / (weights + own)
    return _Round(expected, _start_probabilities(starts), transitions, of_factors, bins)
