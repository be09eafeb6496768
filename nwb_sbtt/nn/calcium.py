"""Calcium that follows events: exact linear recurrences, all bins at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MOST_DECAY = 40.0
"""Time constants that are added up at once; e to this power and its inverse are far from the limits of a float."""


def calcium(
    events: Float[Tensor, "trial time channel"],
    steps: Float[Tensor, "*trial time"],
    *,
    decay: Float[Tensor, "channel"],
    rise: Float[Tensor, "channel"] | None = None,
    initial: Float[Tensor, "trial channel"] | None = None,
) -> Float[Tensor, "trial time channel"]:
    """Let each event raise calcium by its size, from where it decays exponentially.

    Without `rise` that is AR(1), ``y_t = exp(−Δ_t / τ_d) y_{t−1} + s_t``; with it AR(2), the same recurrence with τ_d over one
    with τ_r. For even steps, ``y_t = (d + r) y_{t−1} − d r y_{t−2} + s_t`` with ``d = exp(−Δ / τ_d)``, ``r = exp(−Δ / τ_r)``.

    Parameters
    ----------
    events : Float[Tensor, "trial time channel"]
        Of any sign.
    steps : Float[Tensor, "time"] or Float[Tensor, "trial time"]
        Seconds from the bin before to each bin; of the first bin, from the moment of `initial`.
    decay, rise : Float[Tensor, "channel"]
        Time constants in seconds, positive.
    initial : Float[Tensor, "trial channel"], optional
        Calcium before the first bin; 0 where nothing is said.

    Returns
    -------
    Float[Tensor, "trial time channel"]
        Differentiable by all of them. Work and memory are those of a few passes over the events.
    """
    rates = steps.expand(len(events), -1) if steps.dim() == 1 else steps
    if rise is not None:
        events = _decaying(events, rates[..., None] / rise, None)
    return _decaying(events, rates[..., None] / decay, initial)


def _decaying(
    events: Float[Tensor, "trial time channel"],
    decays: Float[Tensor, "trial time channel"],
    initial: Float[Tensor, "trial channel"] | None,
) -> Float[Tensor, "trial time channel"]:
    """``y_t = exp(−decays_t) y_{t−1} + s_t``: sums of events that are scaled up by what they will have decayed.

    Cut into stretches in which nothing decays by more than `MOST_DECAY`, with the last value of each carried over.
    """
    stretches, state = [], initial
    for first, stop in _stretches(decays):
        part, faded = events[:, first:stop], decays[:, first:stop]
        if state is not None:
            carried = part[:, :1] + (torch.exp(-faded[:, :1]) * state[:, None])
            part = torch.cat([carried, part[:, 1:]], 1)
        faded = torch.cat([torch.zeros_like(faded[:, :1]), faded[:, 1:]], 1).cumsum(1)
        stretches.append(torch.exp(-faded) * (torch.exp(faded) * part).cumsum(1))
        state = stretches[-1][:, -1]
    return torch.cat(stretches, 1)


def _stretches(decays: Float[Tensor, "trial time channel"]) -> list[tuple[int, int]]:
    """First and last bins, of which the first counts nothing, as what was before is carried to it by itself."""
    fastest = decays.detach().amax((0, 2)).tolist()
    bounds, total = [0], 0.0
    for i, each in enumerate(fastest):
        total += each
        if i > bounds[-1] and total > MOST_DECAY:
            bounds.append(i)
        if i == bounds[-1]:
            total = 0.0
    return list(zip(bounds, [*bounds[1:], len(fastest)], strict=True))
