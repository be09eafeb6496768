"""Windows that are cut out of trials, and for how much of its bin each entry of them counts."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nwb_sbtt.batch import Batch, as_numbers
from nwb_sbtt.nn.likelihoods import Likelihood


def windows(batch: Batch, firsts: list[int], length: int) -> Batch:
    """Cut windows out of all trials, the first ones of all trials first.

    Parameters
    ----------
    batch : Batch
    firsts : list of int
        Bins in which windows begin.
    length : int
        Bins.

    Returns
    -------
    Batch
        Dense, with one row for each window and trial.
    """

    def cut(box: Tensor) -> Tensor:
        return torch.cat([box[:, first : first + length] for first in firsts])

    return replace(
        batch,
        values=cut(batch.dense(batch.values)),
        observed=cut(batch.dense(batch.observed)),
        shown=cut(batch.dense(batch.shown)),
        scored=cut(batch.dense(batch.scored)),
        trials=batch.trials.repeat(len(firsts)),
        exposure=None if batch.exposure is None else cut(batch.dense(batch.exposure)),
        entries=None,
        inputs=None if batch.inputs is None else cut(batch.inputs),
        inputs_observed=None if batch.inputs_observed is None else cut(batch.inputs_observed),
    )


def exposures(
    likelihood: Likelihood, batch: Batch, entries: Bool[Tensor, "trial time channel"]
) -> Float[Tensor, "trial time channel"]:
    """Give the share of its bin for which each entry counts: of counts the time observed, of signals all of it.

    Parameters
    ----------
    likelihood : Likelihood
    batch : Batch
    entries : Bool[Tensor, "trial time channel"]
        Which entries count; the share of the others is 0.

    Returns
    -------
    Float[Tensor, "trial time channel"]
    """
    shares = as_numbers(entries, batch.values.dtype)
    if batch.exposure is None or not likelihood.expects_counts:
        return shares
    return shares * batch.dense(batch.exposure)


def counted(
    likelihood: Likelihood, batch: Batch, entries: Bool[Tensor, "trial time channel"]
) -> tuple[Float[Tensor, "trial time channel"], Float[Tensor, "trial time channel"]]:
    """Give what a log-likelihood takes of entries (`Likelihood.natural`): values from their reference, and shares of bins.

    Parameters
    ----------
    likelihood : Likelihood
    batch : Batch
        Dense.
    entries : Bool[Tensor, "trial time channel"]
        Which entries count; both are 0 of the others.

    Returns
    -------
    values, shares : Float[Tensor, "trial time channel"]
        In the data's unit, and as of `exposures`.
    """
    values = batch.values - likelihood.reference(batch.session)
    return torch.where(entries, values, torch.zeros_like(values)), exposures(likelihood, batch, entries)
