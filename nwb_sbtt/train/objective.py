"""The loss: reconstruction of what is scored, divergence from the priors, size of the recurrent weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch, precise_dtype
from nwb_sbtt.models.base import Model

GUESSES = 0.5
"""Weight of the mean loss of a model's earlier guesses."""
SPREAD = 0.1
"""Weight of the misfit of what a model says of its own errors. It moves nothing else, but shares the clipped gradient."""
VERY_MANY = 2_000_000
"""Scored entries of a batch; ordinary recordings have some ten thousand."""


@dataclass(frozen=True)
class Loss:
    """The terms in nats per scored entry; `total` is what is differentiated."""

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    kl: Float[Tensor, ""]


@dataclass(frozen=True)
class Weights:
    """Weights of the terms at one step of training."""

    kl: float
    l2: float


def objective(model: Model, batch: Batch, generator: torch.Generator, weights: Weights) -> Loss:
    """One random pass and its loss.

    ``mean NLL over scored entries + w_kl · KL / n + w_l2 · mean(W²)``, and the prior of the observation model's scales where
    it has any, where KL is in nats per trial and `n` the mean number
    of observed entries per trial; and half the mean NLL of the guesses that a model made on the way, where it makes any, so
    that each of its layers learns to improve on the one before. With ``w_kl = 1`` and no guesses that is the negative evidence
    lower bound per observed entry whatever share of the entries is missing, and whatever share of the observed ones is scored.
    """
    inference = model(batch, generator)
    batch = model.target(inference, batch)
    scored = batch.scored.sum().clamp(min=1)
    reconstruction = model.likelihood.total(inference.factors, batch) / scored
    prior = model.likelihood.prior(batch.session)
    guesses = [model.likelihood.total(guess, batch) / scored for guess in inference.guesses]
    entries = batch.observed.sum() / len(batch.trials)
    kl = inference.kl.mean() / entries.clamp(min=1)
    total = reconstruction + weights.kl * kl + prior
    if guesses:
        total = total + GUESSES * torch.stack(guesses).mean()
    if inference.factor_variance is not None:
        total = total + SPREAD * _misfit(model, inference.factors, inference.factor_variance, batch)
    if weights.l2:
        recurrent = model.recurrent_weights()
        total = total + weights.l2 * torch.stack([(w**2).mean() for w in recurrent]).sum()
    return Loss(total, reconstruction.detach(), kl.detach())


def _misfit(model: Model, factors: Tensor, variance: Tensor, batch: Batch) -> Float[Tensor, ""]:
    """Mean misfit of the spread per scored entry; where these are very many, in an eighth of the trials, to save memory."""
    part = batch
    # Elsewhere than on a CPU the number of scored entries would have to be waited for; that of all entries is known.
    n_entries = int(batch.scored.sum()) if batch.scored.is_cpu else batch.scored.numel()
    if n_entries > VERY_MANY:
        n = max(1, len(batch.trials) // 8)
        part, factors, variance = batch.select(torch.arange(n, device=batch.device)), factors[:n], variance[:n]
    total = model.likelihood.spread_total(factors, variance, part)
    return total / part.scored.sum().clamp(min=1)


def validation_score(model: Model, batch: Batch) -> tuple[Float[Tensor, ""], int]:
    """Sum of the deterministic pass's NLL over scored entries, and how many those are."""
    total = model.misfit(model(batch), batch, dtype=precise_dtype(batch.device))
    return total, int(batch.scored.sum())
