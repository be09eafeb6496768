"""Decide on hidden entries how much a learned system, and the hidden Markov model beside it, have to say in estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch, as_numbers, precise_dtype
from nwb_sbtt.models.base import Model
from nwb_sbtt.models.courses import evidence_of_kinds, weigh
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.models.windows import exposures
from nwb_sbtt.nn.likelihoods import Likelihood

KIND_STEPS = 20
"""Steps that fit the shares of kinds of candidates."""
STEPS, LEAST_SHARE = 12, 0.01
"""Parts of the whole of which shares are made where they are compared, and the least mean share that is not 0."""
INFERRED_AT_ONCE = 256
"""Trials of a pass through the model (`Batch.pieces`)."""
LEAST_SCORED = 20
"""Entries of a channel from which on it counts as much as others."""
ENOUGH = 0.8
"""Of what the network explains of hidden entries that do not stand for all: a system that explains as much is believed."""


def weigh_against(dynamics: Dynamics, model: Model, batches: Sequence[Batch], *, biased: bool) -> None:
    """Decide how much a system is worth beside the model, by hidden entries of the validation trials.

    Shares of the kinds of candidates (`Dynamics.kinds`) make the shown entries likely (expectation maximisation of a mixture);
    the shares of the system and of its hidden Markov model in estimates (`Dynamics.shares`, `HiddenMarkov.shares`) are the
    mean of their posterior given the hidden ones. These are no measure of the network elsewhere where sampling is regular,
    since they are as regular as those that train it, or where channels were chosen by earlier values, since masks tell it of
    hidden ones: the system says all there if it explains about as much of them (`ENOUGH`).

    Parameters
    ----------
    dynamics : Dynamics
        Changed in place.
    model : Model
        With its final weights, in evaluation mode.
    batches : sequence of Batch
        Validation trials of each session.
    biased : bool
        Whether sampling is regular (`nwb_sbtt.train.dynamics.is_regular`), or channels were chosen by earlier values.
    """
    for batch in batches:
        session = batch.session
        with torch.no_grad():
            told = model.evidence(batch)
            _find_kinds(dynamics, told)
            score = partial(model.cost_of_hidden, batch=batch, weights=_weights(batch))
            estimates = [
                torch.cat(
                    [
                        model.likelihood.expected(model(batch.select(rows)).factors, session)
                        for rows in batch.pieces(INFERRED_AT_ONCE)
                    ]
                ),
                weigh(dynamics, told).expected,
            ]
            if biased:
                average = score(_averages(dynamics.likelihood, told))
                of_network, of_system = (float(average - score(each)) for each in estimates)
                if of_system > 0 and of_system >= ENOUGH * of_network:
                    shares = [0.0, 1.0]
                elif of_system <= 0:
                    shares = [1.0, 0.0]
                else:
                    shares = _shares(estimates, score)
            else:
                if dynamics.markov is not None:
                    estimates.append(dynamics.markov.infer(dynamics.likelihood, told)[0])
                shares = _shares(estimates, score)
        dynamics.shares[session].fill_(shares[1])
        if dynamics.markov is not None:
            dynamics.markov.shares[session].fill_(shares[2] if len(shares) > 2 else 0.0)


def _find_kinds(dynamics: Dynamics, batch: Batch) -> None:
    evidence = evidence_of_kinds(dynamics, batch).to(precise_dtype(batch.device))
    kinds = torch.full_like(evidence[0], 1 / evidence.shape[1])
    for _ in range(KIND_STEPS):
        kinds = (evidence + kinds.clamp(min=1e-12).log()).softmax(1).mean(0)
    dynamics.kinds[batch.session].copy_(kinds)


def _shares(estimates: Sequence[Tensor], score: Callable[[Tensor], Tensor]) -> list[float]:
    """Posterior mean of the shares of estimates in a mixture, all shares being as likely before.

    Many entries decide; few leave the shares nearly equal, since those that are best on few are often 0 and 1 by chance.
    """
    places = [torch.tensor(each) / STEPS for each in _divided(STEPS, len(estimates))]
    scores = torch.stack([score(_mixture(estimates, shares.tolist())) for shares in places])
    mean = (scores.min() - scores).softmax(0) @ torch.stack(places).to(scores)
    mean = torch.where(mean < LEAST_SHARE, 0.0, mean)
    shares: list[float] = (mean / mean.sum()).tolist()
    return shares


def _divided(n: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to divide a whole number into so many, of which any can be 0."""
    if parts == 1:
        yield (n,)
    else:
        yield from ((first, *rest) for first in range(n + 1) for rest in _divided(n - first, parts - 1))


def _mixture(estimates: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    base, *others = estimates
    mixture = base.clone()
    for share, other in zip(shares[1:], others, strict=True):
        if share:
            mixture += share * (other - base)
    return mixture


def _averages(likelihood: Likelihood, batch: Batch) -> Float[Tensor, "trial time channel"]:
    """The mean of what is shown of each channel, for every entry."""
    shown = batch.dense(batch.shown)
    values = batch.dense(batch.values) * as_numbers(shown, batch.values.dtype)
    mean = values.sum((0, 1)) / exposures(likelihood, batch, shown).sum((0, 1)).clamp(min=1)
    return mean.expand(batch.shape)


def _weights(batch: Batch) -> Float[Tensor, "channel"]:
    """What a scored entry of each channel counts for, on average over all of them 1.

    It is as if each channel had as many: every channel counts alike, however often it is sampled, since all of its entries are
    inferred; but for one of which very few entries are scored (`LEAST_SCORED`), or none.
    """
    n_scored = batch.dense(batch.scored).sum((0, 1)).to(precise_dtype(batch.device))
    counted = n_scored.clamp(min=LEAST_SCORED)
    n_alike = (n_scored / counted).sum().clamp(min=1 / LEAST_SCORED)
    return (n_scored.sum() / n_alike / counted).to(batch.values.dtype)
