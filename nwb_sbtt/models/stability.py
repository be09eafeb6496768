"""Where a discrete-time system comes to rest, how it moves there, and how fast neighbouring runs part.

A system is any function of a state that differentiates by torch, such as `Dynamics.step` with its inputs held. Fixed points are
found from many starts at once by minimising the speed, ½ |F(z) − z|² (Sussillo and Barak 2013, doi:10.1162/NECO_a_00409), here
by Levenberg-Marquardt steps. Lyapunov exponents follow from QR decompositions along a run (Benettin, Galgani, Giorgilli and
Strelcyn 1980, doi:10.1007/BF02128236).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Step = Callable[[Tensor], Tensor]
"""From states (state, dimension) to those of the next bin, each by itself."""

SEARCH_STEPS, NEWTON_STEPS = 200, 5
FIRST_DAMPING, LESS, MORE, MOST_DAMPING = 1e-3, 0.3, 4.0, 1e9
"""Of Levenberg-Marquardt steps: at first; its change after a step that helped and one that did not; where a start ends."""
AT_REST = 1e-9
"""Largest |F(z) − z| of a fixed point, in units of the state."""
SAME = 1e-3
"""Largest distance at which two fixed points are one, in units of the state."""


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points of a system, those that most starts led to first.

    Parameters
    ----------
    states : Float[Tensor, "point dimension"]
    residuals : Float[Tensor, "point"]
        |F(z) − z|.
    jacobians : Float[Tensor, "point dimension dimension"]
        Of F.
    counts : Int[Tensor, "point"]
        Starts that led to each.
    at_edge : int
        Starts that led to a state outside the region.
    """

    states: Float[Tensor, "point dimension"]
    residuals: Float[Tensor, " point"]
    jacobians: Float[Tensor, "point dimension dimension"]
    counts: Int[Tensor, " point"]
    at_edge: int


def find_fixed_points(step: Step, starts: Float[Tensor, "start dimension"], *, within: float) -> FixedPoints:
    """Find the fixed points that many starts lead to.

    Local minima of the speed that are no fixed points are left out.

    Parameters
    ----------
    step : callable
    starts : Float[Tensor, "start dimension"]
        Double precision, in which the speed of a fixed point can be told from a small one.
    within : float
        Fixed points lie inside ± this in each dimension.

    Returns
    -------
    FixedPoints
    """
    one = torch.eye(starts.shape[1], dtype=starts.dtype, device=starts.device)
    states, damping = starts, starts.new_full((len(starts), 1, 1), FIRST_DAMPING)
    change = step(states) - states
    for _ in range(SEARCH_STEPS):
        slope = jacobians(step, states) - one
        toward = slope.mT @ change[..., None]
        tried = states - torch.linalg.solve(slope.mT @ slope + damping * one, toward)[..., 0]
        change_there = step(tried) - tried
        helped = change_there.norm(dim=1, keepdim=True) < change.norm(dim=1, keepdim=True)
        states, change = torch.where(helped, tried, states), torch.where(helped, change_there, change)
        damping = torch.where(helped[..., None], damping * LESS, damping * MORE).clamp(1e-15, MOST_DAMPING)
        if ((change.norm(dim=1) < AT_REST / 10) | (damping[:, 0, 0] >= MOST_DAMPING)).all():
            break
    for _ in range(NEWTON_STEPS):
        tried = states - (torch.linalg.pinv(jacobians(step, states) - one) @ (step(states) - states)[..., None])[..., 0]
        helped = (step(tried) - tried).norm(dim=1, keepdim=True) < (step(states) - states).norm(dim=1, keepdim=True)
        states = torch.where(helped, tried, states)
    residuals = (step(states) - states).norm(dim=1)
    inside = (states.abs() < within).all(1)
    found = torch.nonzero((residuals <= AT_REST) & inside)[:, 0]
    rows, counts = _merged(states[found], residuals[found])
    kept = found[rows]
    return FixedPoints(
        states[kept],
        residuals[kept],
        jacobians(step, states[kept]),
        counts,
        int(((residuals <= AT_REST) & ~inside).sum()),
    )


@dataclass(frozen=True)
class LyapunovExponents:
    """Exponents along several runs of a system.

    Parameters
    ----------
    exponents : Float[Tensor, "run dimension"]
        Per step, the largest first.
    left : Bool[Tensor, "run"]
        Runs that left the region, where the exponents are those of its edge.
    last : Float[Tensor, "run dimension"]
        Last state.
    """

    exponents: Float[Tensor, "run dimension"]
    left: Bool[Tensor, " run"]
    last: Float[Tensor, "run dimension"]


def lyapunov_exponents(
    step: Step, starts: Float[Tensor, "run dimension"], *, n_steps: int, settle: int, within: float
) -> LyapunovExponents:
    """Measure how fast small differences grow along runs.

    Parameters
    ----------
    step : callable
    starts : Float[Tensor, "run dimension"]
    n_steps : int
        Steps that are measured.
    settle : int
        Steps before these, in which a run comes near its attractor, and differences turn to the directions in which they grow.
    within : float
        A run that reaches ± this in any dimension has left.

    Returns
    -------
    LyapunovExponents
    """
    n_runs, n_dimensions = starts.shape
    axes = torch.eye(n_dimensions, dtype=starts.dtype, device=starts.device).expand(n_runs, -1, -1)
    states, total, left = starts, torch.zeros_like(starts), torch.zeros(n_runs, dtype=torch.bool, device=starts.device)
    for i in range(settle + n_steps):
        axes, growth = torch.linalg.qr(jacobians(step, states) @ axes)
        if i >= settle:
            total = total + growth.diagonal(dim1=-2, dim2=-1).abs().log()
        states = step(states)
        left |= (states.abs() >= within).any(1)
    return LyapunovExponents((total / n_steps).sort(1, descending=True).values, left, states)


def jacobians(step: Step, states: Float[Tensor, "state dimension"]) -> Float[Tensor, "state dimension dimension"]:
    """Differentiate a step at each state.

    Parameters
    ----------
    step : callable
    states : Float[Tensor, "state dimension"]

    Returns
    -------
    Float[Tensor, "state dimension dimension"]
        Of each dimension after the step (rows) by each before it.
    """
    with torch.enable_grad():
        before = states.detach().requires_grad_(True)
        after = step(before)
        rows = [torch.autograd.grad(after[:, i].sum(), before, retain_graph=True)[0] for i in range(after.shape[1])]
    return torch.stack(rows, 1)


def _merged(
    states: Float[Tensor, "state dimension"], residuals: Float[Tensor, " state"]
) -> tuple[Int[Tensor, " point"], Int[Tensor, " point"]]:
    """Of states that are alike, the one with the smallest residual; and how many are like it."""
    apart = torch.cdist(states, states)
    rows, counts, free = list[int](), list[int](), torch.ones(len(states), dtype=torch.bool, device=states.device)
    for row in residuals.argsort().tolist():
        if free[row]:
            like = free & (apart[row] <= SAME)
            rows.append(row)
            counts.append(int(like.sum()))
            free &= ~like
    order = sorted(range(len(rows)), key=lambda i: -counts[i])
    return tuple(
        torch.tensor([each[i] for i in order], dtype=torch.long, device=states.device) for each in (rows, counts)
    )  # type: ignore[return-value]
