"""Estimates of a model, of its learned system and of the hidden Markov model beside that, as one."""

from __future__ import annotations

import torch
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.models.base import Model
from nwb_sbtt.models.courses import weigh
from nwb_sbtt.models.dynamics import Dynamics

LEAST_SHARE = 1e-6
"""Of the model, where shares in single precision leave one. It is no share but their rounding, and can be negative."""


def mixed(model: Model, dynamics: Dynamics, batch: Batch, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Let a system take part in what a model infers, by the shares that it and its hidden Markov model were found to be worth.

    Estimates are means of a mixture of posteriors, with its sd.

    Parameters
    ----------
    model : Model
    dynamics : Dynamics
    batch : Batch
    arrays : dict of name to tensor
        As returned by `nwb_sbtt.models.posterior.posterior`.

    Returns
    -------
    dict of name to tensor
        With other ``expected`` and ``expected_sd``; of a model that infers spikes other ``rates``, and what follows from these.
    """
    session, markov = batch.session, dynamics.markov
    shares = float(dynamics.shares[session]), 0.0 if markov is None else float(markov.shares[session])
    if not any(shares):
        return arrays
    name = "rates" if model.infers_spikes else "expected"
    parts = list[tuple[float, Tensor, Tensor]]()
    with torch.no_grad():
        told = model.evidence(batch)
        if shares[0]:
            found = weigh(dynamics, told)
            parts.append((shares[0], found.expected, found.variance))
        if markov is not None and shares[1]:
            parts.append((shares[1], *markov.infer(dynamics.likelihood, told)))
    if (of_model := 1 - sum(shares)) > LEAST_SHARE:
        parts.append((of_model, arrays[name], arrays.get(f"{name}_sd", torch.zeros(())) ** 2))
    *others, (_, base, _) = parts
    expected = base + sum(share * (other - base) for share, other, _ in others)
    arrays = {**arrays, **(model.given_rates(expected, batch) if model.infers_spikes else {name: expected})}
    if f"{name}_sd" in arrays:
        variance = sum(share * (variance + (mean - expected) ** 2) for share, mean, variance in parts)
        arrays[f"{name}_sd"] = torch.as_tensor(variance).sqrt()
    return arrays
