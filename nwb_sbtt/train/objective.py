"""The loss: reconstruction of the scored entries, KL divergence from the priors, and L2 penalty of recurrent weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch, precise_dtype
from nwb_sbtt.models.base import Model

INTERMEDIATE_WEIGHT = 0.5
"""Weight of the mean loss of the intermediate factors."""
VARIANCE_WEIGHT = 0.1
"""Weight of the variance loss. Its gradient reaches the predicted variance only, but counts in the clipped norm."""
VERY_MANY = 2_000_000
"""Scored entries of a batch above which the variance loss uses an eighth of the trials; usual batches have some 10,000."""


@dataclass(frozen=True)
class Loss:
    """Terms of the loss, in nats per scored entry.

    Parameters
    ----------
    total : Float[Tensor, ""]
        The differentiable sum.
    reconstruction, kl : Float[Tensor, ""]
        Detached; `kl` is per observed entry.
    """

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    kl: Float[Tensor, ""]


@dataclass(frozen=True)
class Weights:
    """Weights of the terms at one step of training.

    Parameters
    ----------
    kl, l2 : float
        Of the KL divergence and of the L2 penalty.
    """

    kl: float
    l2: float


def objective(
    model: Model, batch: Batch, generator: torch.Generator, weights: Weights, *, target: Batch | None = None
) -> Loss:
    """Compute the loss of one random pass.

    ``mean NLL over scored entries + w_kl · KL / n + w_l2 · mean(W²)``, with KL in nats per trial and the mean number `n` of
    observed entries per trial. With ``w_kl = 1`` this is the negative evidence lower bound per observed entry, whatever share
    of the entries is missing and whatever share of the observed ones is scored.

    Three terms are added where a model has them: the prior of the likelihood's scales; half the mean NLL of its intermediate
    factors, so that each layer learns to improve on the one before; a tenth of its variance loss, where it is trained on data.

    Parameters
    ----------
    model : Model
    batch : Batch
        Masked for this step.
    generator : torch.Generator
        Source of dropout, noise and posterior samples.
    weights : Weights
    target : Batch, optional
        What the likelihood is taken of, of simulated trials. Default: what the model is trained on (`Model.target`).

    Returns
    -------
    Loss
    """
    inference = model(batch, generator)
    has_variance = inference.factor_variance is not None and target is None
    if target is None:
        target = model.target(inference, batch)
    # A model that is trained on what it encodes knows these totals already.
    totals = inference.intermediate_totals if target is batch else ()
    batch = target
    scored = torch.count_nonzero(batch.scored).clamp(min=1)
    reconstruction = model.likelihood.total(inference.factors, batch) / scored
    prior = model.likelihood.prior(batch.session)
    if not totals:
        totals = tuple(model.likelihood.total(factors, batch) for factors in inference.intermediate_factors)
    observed = torch.count_nonzero(batch.observed) / len(batch.trials)
    kl = inference.kl.mean() / observed.clamp(min=1)
    total = reconstruction + weights.kl * kl + prior
    if totals:
        total = total + INTERMEDIATE_WEIGHT * torch.stack(totals).mean() / scored
    if has_variance and inference.factor_variance is not None:
        total = total + VARIANCE_WEIGHT * _variance_loss(model, inference.factors, inference.factor_variance, batch)
    if weights.l2:
        recurrent = model.recurrent_weights()
        total = total + weights.l2 * torch.stack([(w**2).mean() for w in recurrent]).sum()
    return Loss(total, reconstruction.detach(), kl.detach())


def _variance_loss(model: Model, factors: Tensor, variance: Tensor, batch: Batch) -> Float[Tensor, ""]:
    """Mean variance loss per scored entry; of very large batches on an eighth of the trials, to save memory."""
    subset = batch
    # On a GPU the step would wait for the number of scored entries; that of all entries is known.
    n_entries = int(torch.count_nonzero(batch.scored)) if batch.scored.is_cpu else batch.scored.numel()
    if n_entries > VERY_MANY:
        n = max(1, len(batch.trials) // 8)
        subset, factors, variance = batch.select(torch.arange(n, device=batch.device)), factors[:n], variance[:n]
    total = model.likelihood.variance_loss(factors, variance, subset)
    return total / torch.count_nonzero(subset.scored).clamp(min=1)


def validation_score(model: Model, batch: Batch) -> tuple[Float[Tensor, ""], int]:
    """Sum the held-out negative log-likelihood of the deterministic pass, and count the scored entries.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    batch : Batch
        Validation trials.

    Returns
    -------
    total : Float[Tensor, ""]
        Nats.
    n : int
        Number of scored entries.
    """
    total = model.held_out_nll(model(batch), batch, dtype=precise_dtype(batch.device))
    return total, int(torch.count_nonzero(batch.scored))
