"""Estimates of a model, of its learned system and of the hidden Markov model beside that, as one."""

from __future__ import annotations

import torch
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.models.courses import weigh
from nwb_sbtt.models.dynamics import Dynamics

LEAST_SHARE = 1e-6
"""Of the model, where shares in single precision leave one. It is no share but their rounding, and can be negative."""


def mixed(dynamics: Dynamics, batch: Batch, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Let a system take part in what a model infers, by the shares that it and its hidden Markov model were found to be worth.

    Estimates are means of a mixture of posteriors, with its sd.

    Parameters
    ----------
    dynamics : Dynamics
    batch : Batch
    arrays : dict of name to tensor
        As returned by `nwb_sbtt.models.posterior.posterior`.

    Returns
    -------
    dict of name to tensor
        With other ``expected`` and ``expected_sd``.
    """
    session, markov = batch.session, dynamics.markov
    parts = list[tuple[float, Tensor, Tensor]]()
    with torch.no_grad():
        if share := float(dynamics.shares[session]):
            found = weigh(dynamics, batch)
            parts.append((share, found.expected, found.variance))
        if markov is not None and (share := float(markov.shares[session])):
            parts.append((share, *markov.infer(dynamics.likelihood, batch)))
    if not parts:
        return arrays
    if (of_model := 1 - sum(share for share, _, _ in parts)) > LEAST_SHARE:
        parts.append((of_model, arrays["expected"], arrays.get("expected_sd", torch.zeros(())) ** 2))
    *others, (_, base, _) = parts
    expected = base + sum(share * (other - base) for share, other, _ in others)
    arrays = {**arrays, "expected": expected}
    if "expected_sd" in arrays:
        variance = sum(share * (variance + (mean - expected) ** 2) for share, mean, variance in parts)
        arrays["expected_sd"] = torch.as_tensor(variance).sqrt()
    return arrays
