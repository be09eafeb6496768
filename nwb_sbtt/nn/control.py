"""The generator under the control of inferred inputs, unrolled with its own backward pass (see `nwb_sbtt.nn.recurrent`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwb_sbtt.nn.recurrent import Cell, step

MIN_LOG_SD = -5.0
"""Lowest logarithm of a posterior sd in units of the prior's."""


@dataclass(frozen=True)
class Controlled:
    """States of the generator and the posterior of its inputs, all (time, trial, width)."""

    generator: Float[Tensor, "time trial generator"]
    mean: Float[Tensor, "time trial input"]
    log_sd: Float[Tensor, "time trial input"]
    inputs: Float[Tensor, "time trial input"]


def controlled(
    controller: Cell,
    generator: Cell,
    *,
    projected: Float[Tensor, "time trial gates"],
    feedback: Float[Tensor, "generator gates"],
    to_inputs: tuple[Tensor, Tensor, Tensor],
    g0: Float[Tensor, "trial generator"],
    draws: Float[Tensor, "time trial input"] | None,
) -> Controlled:
    """Unroll controller and generator together.

    At each step the controller reads its projected input and the generator's last state (by `feedback`), and gives mean
    and log sd of the inputs; the generator takes ``mean + sd · draw``.

    Parameters
    ----------
    projected : (time, trial, 3·controller)
        The encoder's part of the controller's input projection.
    feedback : (generator, 3·controller)
        From the generator's state to the controller's gates.
    to_inputs : weights (controller, 2·input), bias (2·input), log sd of the prior (input)
        The log sd of the posterior is relative to the prior's.
    g0 : (trial, generator)
    draws : (time, trial, input) or None
        Standard normal; None takes the posterior means.
    """
    weights, bias, prior_log_sd = to_inputs
    noisy = projected.new_zeros(1) if draws is None else draws
    parts = _Controlled.apply(  # type: ignore[no-untyped-call]
        projected,
        g0,
        torch.cat([generator.recurrent, feedback], 1),
        controller.recurrent,
        controller.bias_new,
        weights,
        bias,
        prior_log_sd,
        generator.inward,
        generator.bias,
        generator.bias_new,
        noisy,
    )
    return Controlled(*parts)


class _Controlled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        g0: Tensor,
        joint: Tensor,
        w_c: Tensor,
        b_c: Tensor,
        w_u: Tensor,
        b_u: Tensor,
        prior: Tensor,
        w_in: Tensor,
        b_in: Tensor,
        b_g: Tensor,
        draws: Tensor,
    ) -> tuple[Tensor, ...]:
        n_steps, n_trials = projected.shape[:2]
        n_c, n_g, n_u = len(w_c), g0.shape[-1], len(prior)
        keep = any(ctx.needs_input_grad)
        sampled = draws.dim() == 3
        cs, gs = g0.new_zeros(n_steps + 1, n_trials, n_c), g0.new_empty(n_steps + 1, n_trials, n_g)
        gs[0] = g0
        raws, log_sds = g0.new_empty(n_steps, n_trials, 2 * n_u), g0.new_empty(n_steps, n_trials, n_u)
        us = g0.new_empty(n_steps, n_trials, n_u)
        slopes_c = g0.new_empty(n_steps if keep else 0, n_trials, 4, n_c)
        slopes_g = g0.new_empty(n_steps if keep else 0, n_trials, 4, n_g)
        update_c, update_g = g0.new_empty(n_steps, n_trials, n_c), g0.new_empty(n_steps, n_trials, n_g)
        bias_c = torch.cat([b_c.new_zeros(2 * n_c), b_c])
        bias_joint = torch.cat([b_g.new_zeros(2 * n_g), b_g, b_g.new_zeros(3 * n_c)])
        c, g = cs[0], g0
        for t in range(n_steps):
            from_g = torch.addmm(bias_joint, g, joint)
            inner = torch.addmm(bias_c, c, w_c)
            into_c, slope = projected[t] + from_g[:, 3 * n_g :], slopes_c[t] if keep else None
            c = step(into_c, inner, c, out=cs[t + 1], update=update_c[t], slopes=slope)
            raw = torch.addmm(b_u, c, w_u, out=raws[t])
            log_sd = torch.add(raw[:, n_u:].clamp(min=MIN_LOG_SD), prior, out=log_sds[t])
            u = torch.addcmul(raw[:, :n_u], log_sd.exp(), draws[t], out=us[t]) if sampled else raw[:, :n_u]
            into_g, slope = torch.addmm(b_in, u, w_in), slopes_g[t] if keep else None
            g = step(into_g, from_g[:, : 3 * n_g], g, out=gs[t + 1], update=update_g[t], slopes=slope)
        if not sampled:
            us.copy_(raws[..., :n_u])
        ctx.save_for_backward(
            cs, gs, raws, log_sds, us, slopes_c, slopes_g, update_c, update_g, joint, w_c, w_u, w_in, draws
        )
        return gs[1:], raws[..., :n_u].clone(), log_sds, us

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_g: Tensor, d_mean: Tensor, d_log_sd: Tensor, d_u: Tensor) -> tuple[Tensor | None, ...]:
        cs, gs, raws, log_sds, us, slopes_c, slopes_g, update_c, update_g, joint, w_c, w_u, w_in, draws = (
            ctx.saved_tensors
        )
        n_steps, n_trials, n_u = us.shape
        n_c, n_g = cs.shape[-1], gs.shape[-1]
        spread = log_sds.exp() * draws if draws.dim() == 3 else torch.zeros_like(log_sds)
        inside = (raws[..., n_u:] > MIN_LOG_SD).to(raws.dtype)
        straight = torch.cat([d_u + d_mean, (d_log_sd + d_u * spread) * inside], -1)
        through = torch.cat([torch.ones_like(spread), spread * inside], -1)
        d_raw = torch.empty_like(raws)
        # One row holds (new, reset, update, recurrent new) of the generator, then of the controller: what goes back through
        # the joint weights is one run of columns in its middle.
        rows = raws.new_empty(n_steps, n_trials, 4 * (n_g + n_c))
        d_g4, d_c4 = rows[..., : 4 * n_g].unflatten(-1, (4, n_g)), rows[..., 4 * n_g :].unflatten(-1, (4, n_c))
        middle = slice(n_g, 4 * n_g + 3 * n_c)
        back_u = torch.cat([w_in, w_in]).t()
        back_c, back_raw, back_joint = w_c.t(), w_u.t(), joint.t()
        dg, dc = torch.zeros_like(gs[0]), torch.zeros_like(cs[0])
        for t in range(n_steps - 1, -1, -1):
            dg = dg + d_g[t]
            torch.mul(dg[:, None], slopes_g[t], out=d_g4[t])
            row = rows[t]
            du = row[:, : 3 * n_g] @ back_u
            torch.addcmul(straight[t], du, through[t], out=d_raw[t])
            dc = torch.addmm(dc, d_raw[t], back_raw)
            torch.mul(dc[:, None], slopes_c[t], out=d_c4[t])
            dc = torch.addmm(dc * update_c[t], row[:, 4 * n_g + n_c :], back_c)
            dg = torch.addmm(dg * update_g[t], row[:, middle], back_joint)
        flat, flat_raw = rows.flatten(0, 1), d_raw.flatten(0, 1)
        into_g, flat_c = flat[:, : 3 * n_g], flat[:, 4 * n_g :]
        ones = flat.new_ones(1, len(flat))
        du = (into_g @ w_in.t()).view_as(us) + d_u
        return (
            flat_c[:, : 3 * n_c].contiguous().view(n_steps, n_trials, -1),
            dg,
            gs[:-1].flatten(0, 1).t() @ flat[:, middle],
            cs[:-1].flatten(0, 1).t() @ flat_c[:, n_c:],
            (ones @ flat_c[:, 3 * n_c :])[0],
            cs[1:].flatten(0, 1).t() @ flat_raw,
            (ones @ flat_raw)[0],
            (d_log_sd + du * spread).sum((0, 1)),
            us.flatten(0, 1).t() @ into_g,
            (ones @ into_g)[0],
            (ones @ flat[:, 3 * n_g : 4 * n_g])[0],
            None,
        )
