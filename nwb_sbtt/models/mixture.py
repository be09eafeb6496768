"""Estimates of a model, of its learned system and of the hidden Markov model beside that, as one."""

from __future__ import annotations

import torch
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.models.courses import weigh
from nwb_sbtt.models.dynamics import Dynamics


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
    of_model, own = 1 - sum(share for share, _, _ in parts), arrays["expected"]
    expected = own + sum(share * (other - own) for share, other, _ in parts)
    arrays = {**arrays, "expected": expected}
    if "expected_sd" in arrays:
        parts.append((of_model, own, arrays["expected_sd"] ** 2))
        variance = sum(share * (variance + (mean - expected) ** 2) for share, mean, variance in parts)
        arrays["expected_sd"] = torch.as_tensor(variance).sqrt()
    return arrays
