"""The loss: reconstruction of what is scored, divergence from the priors, size of the recurrent weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch, precise_dtype
from nwb_sbtt.models.base import Model

INTERMEDIATE_WEIGHT = 0.5
"""Of the mean loss of the factors that earlier layers of a model predict."""
VARIANCE_WEIGHT = 0.1
"""Of the loss of the predicted variance, whose gradient reaches nothing else but shares the clipped norm."""
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
    """Compute the loss of one random pass.

    ``mean NLL over scored entries + w_kl · KL / n + w_l2 · mean(W²)``, with KL in nats per trial and the mean number `n` of
    observed entries per trial. With ``w_kl = 1`` that is the negative evidence lower bound per observed entry, whatever share
    of the entries is missing and whatever share of the observed ones is scored.

    Three terms are added where a model has them: the prior of the likelihood's scales; half the mean NLL of its intermediate
    factors, so that each layer learns to improve on the one before; a tenth of the loss of its predicted variance.

    Parameters
    ----------
    batch : Batch
        Masked for this step.
    generator : torch.Generator
        Source of dropout, noise and posterior samples.
    """
    inference = model(batch, generator)
    batch = model.target(inference, batch)
    scored = batch.scored.sum().clamp(min=1)
    reconstruction = model.likelihood.total(inference.factors, batch) / scored
    prior = model.likelihood.prior(batch.session)
    intermediate = [model.likelihood.total(factors, batch) / scored for factors in inference.intermediate_factors]
    entries = batch.observed.sum() / len(batch.trials)
    kl = inference.kl.mean() / entries.clamp(min=1)
    total = reconstruction + weights.kl * kl + prior
    if intermediate:
        total = total + INTERMEDIATE_WEIGHT * torch.stack(intermediate).mean()
    if inference.factor_variance is not None:
        total = total + VARIANCE_WEIGHT * _variance_loss(model, inference.factors, inference.factor_variance, batch)
    if weights.l2:
        recurrent = model.recurrent_weights()
        total = total + weights.l2 * torch.stack([(w**2).mean() for w in recurrent]).sum()
    return Loss(total, reconstruction.detach(), kl.detach())


def _variance_loss(model: Model, factors: Tensor, variance: Tensor, batch: Batch) -> Float[Tensor, ""]:
    """Mean loss of the predicted variance per scored entry; very many are scored in an eighth of the trials, to save memory."""
    part = batch
    # Elsewhere than on a CPU the number of scored entries would have to be waited for; that of all entries is known.
    n_entries = int(batch.scored.sum()) if batch.scored.is_cpu else batch.scored.numel()
    if n_entries > VERY_MANY:
        n = max(1, len(batch.trials) // 8)
        part, factors, variance = batch.select(torch.arange(n, device=batch.device)), factors[:n], variance[:n]
    total = model.likelihood.variance_loss(factors, variance, part)
    return total / part.scored.sum().clamp(min=1)


def validation_score(model: Model, batch: Batch) -> tuple[Float[Tensor, ""], int]:
    """Sum the NLL of the deterministic pass over scored entries, and count these."""
    total = model.held_out_nll(model(batch), batch, dtype=precise_dtype(batch.device))
    return total, int(batch.scored.sum())
