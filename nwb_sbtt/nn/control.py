"""The generator under the control of inferred inputs, unrolled with its own backward pass.

Both cells are those of `nwb_sbtt.nn.recurrent`, whose docstring derives the slopes of one step. They feed each other: at step t
the controller reads the encoder's states x_t and the generator's last state g, and the generator reads the inputs u,

    c' = GRU(x_t W_x + g F;  c),               (μ, ρ) = c' W_raw + b_raw,
    u = μ + exp(max(ρ, ρ_min)) · e^p · ε_t,    g' = GRU(u W_u + k_t W_k;  g)

with known inputs k_t, the prior's log sd p, the log sd ρ relative to it, and standard normal draws ε (without draws u = μ). The
posterior's log sd is ``max(ρ, ρ_min) + p``.

**Backward**, step by step from the last one, with D_g the gradient at g' and D_c that at c':

1. D_g gets what arrives at g' from outside. The generator's four slopes times D_g are the gradients of its sums.
2. Of these, (new, reset, update) times W_u' are what arrives at u by way of the generator; with what arrives from outside
   that is D_u.
3. With the deviation ``s ε = exp(max(ρ, ρ_min) + p) ε``, u moves with μ by 1, and with ρ and p by s ε each. The posterior's
   log sd moves with ρ by 1 too. So D_μ is D_u plus what arrives at μ, and D_ρ is D_logsd + s ε D_u where ρ > ρ_min, else 0.
   The sums that do not wait for the generator are made for all steps at once (`straight`); what comes by the generator is
   added step by step, by its factor (`through`).
4. D_c gets (D_μ, D_ρ) W_raw'. The controller's slopes times D_c are the gradients of its sums.
5. D_c for the step before is ``z_c D_c`` plus the controller's sums (reset, update, inner) times W_c'; D_g is ``z_g D_g`` plus
   the generator's (reset, update, inner) and the controller's (new, reset, update) times the weights from g, [V_g F]'.

Gradients of weights are products of these rows with x, c, g and u, a piece at a time; p gets ``D_logsd + s ε D_u`` of all
steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwb_sbtt.nn.recurrent import Cell, advance, blocks_of, pieces, slopes, steps_of

MIN_LOG_SD = -5.0
"""Lowest logarithm of a posterior sd in units of the prior's."""


@dataclass(frozen=True)
class ControlledStates:
    """States of the generator and the posterior of its inputs.

    Parameters
    ----------
    generator : Float[Tensor, "time trial generator"]
        After each step.
    mean, log_sd : Float[Tensor, "time trial input"]
        Of the posterior of the inputs.
    inputs : Float[Tensor, "time trial input"]
        As drawn, or the means.
    """

    generator: Float[Tensor, "time trial generator"]
    mean: Float[Tensor, "time trial input"]
    log_sd: Float[Tensor, "time trial input"]
    inputs: Float[Tensor, "time trial input"]


def run_controlled(
    controller: Cell,
    generator: Cell,
    *,
    encoded: Float[Tensor, "time trial encoded"],
    feedback: Float[Tensor, "generator gates"],
    to_inputs: tuple[Tensor, Tensor, Tensor],
    g0: Float[Tensor, "trial generator"],
    draws: Float[Tensor, "time trial input"] | None,
    known: Float[Tensor, "time trial known"] | None = None,
) -> ControlledStates:
    """Unroll controller and generator together.

    At each step the controller reads the encoder's state and the generator's last one, and gives mean and log sd of the
    inputs; the generator takes ``mean + sd · draw``.

    Parameters
    ----------
    controller, generator : Cell
    encoded : Float[Tensor, "time trial encoded"]
        The controller's input.
    feedback : Float[Tensor, "generator gates"]
        From the generator's state to the controller's gates, in the order of the columns of ``Cell.inward``.
    to_inputs : tuple of tensors
        Weights (controller, 2·input), bias (2·input) and log sd of the prior (input). The log sd of the posterior is relative
        to the prior's.
    g0 : Float[Tensor, "trial generator"]
        State of the generator before the first step; the controller's is 0.
    draws : Float[Tensor, "time trial input"] or None
        Standard normal; None takes the posterior means.
    known : Float[Tensor, "time trial known"], optional
        Further inputs of the generator, whose weights are the last rows of ``generator.inward``; no gradient is made for them.

    Returns
    -------
    ControlledStates
    """
    weights, bias, prior_log_sd = to_inputs
    parts = _RunControlled.apply(  # type: ignore[no-untyped-call]
        encoded.contiguous(),
        g0,
        torch.cat([generator.bias, generator.bias_new, controller.bias, controller.bias_new]),
        controller.inward,
        torch.cat([generator.recurrent, feedback], 1),
        controller.recurrent,
        weights,
        bias,
        prior_log_sd,
        generator.inward,
        encoded.new_zeros(1) if draws is None else draws,
        encoded.new_zeros(len(encoded), len(g0), 0) if known is None else known.contiguous(),
    )
    return ControlledStates(*parts)


class _RunControlled(torch.autograd.Function):
    """A step's row holds (new, reset, update, inner) of the generator, then of the controller.

    So the generator's state adds to one run of columns, from the generator's reset gate to the controller's update gate, by the
    joint weights [V_g F], `w_joint`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        g0: Tensor,
        bias: Tensor,
        w_x: Tensor,
        w_joint: Tensor,
        w_c: Tensor,
        w_raw: Tensor,
        b_raw: Tensor,
        prior: Tensor,
        w_u: Tensor,
        draws: Tensor,
        known: Tensor,
    ) -> tuple[Tensor, ...]:
        n_steps, n_trials = x.shape[:2]
        n_c, n_g, n_u = len(w_c), g0.shape[-1], len(prior)
        rows = x.new_empty(n_steps, n_trials, 4 * (n_g + n_c))
        cs, gs = x.new_empty(n_steps + 1, n_trials, n_c), x.new_empty(n_steps + 1, n_trials, n_g)
        c, g = cs[0].zero_(), gs[0].copy_(g0)
        raws, us = b_raw.repeat(n_steps, n_trials, 1), x.new_empty(n_steps, n_trials, n_u)
        deviations = draws * prior.exp() if draws.dim() == 3 else None
        w_u, w_known = w_u[:n_u], w_u[n_u:]
        into_g, joint = rows[..., : 3 * n_g], rows[..., n_g : 4 * n_g + 3 * n_c]
        for piece in pieces(n_steps, row_size=rows[0].numel()):
            rows[piece] = bias
            flat = rows[piece].flatten(0, 1)
            flat[:, 4 * n_g : 4 * n_g + 3 * n_c].addmm_(x[piece].flatten(0, 1), w_x)
            if len(w_known):
                flat[:, : 3 * n_g].addmm_(known[piece].flatten(0, 1), w_known)
            steps_g, steps_c = steps_of(rows[piece][..., : 4 * n_g]), steps_of(rows[piece][..., 4 * n_g :])
            for i, (step_g, step_c) in enumerate(zip(steps_g, steps_c, strict=True)):
                t = piece.start + i
                joint[t].addmm_(g, w_joint)
                step_c[0].addmm_(c, w_c)
                c = advance(step_c, c, out=cs[t + 1])
                raw = raws[t].addmm_(c, w_raw)
                mean, log_sd = raw[:, :n_u], raw[:, n_u:]
                if deviations is None:
                    u = us[t].copy_(mean)
                else:
                    u = torch.addcmul(mean, log_sd.clamp(min=MIN_LOG_SD).exp_(), deviations[t], out=us[t])
                into_g[t].addmm_(u, w_u)
                g = advance(step_g, g, out=gs[t + 1])
        log_sds = raws[..., n_u:].clamp(min=MIN_LOG_SD).add_(prior)
        ctx.save_for_backward(x, rows, cs, gs, raws, log_sds, us, w_x, w_joint, w_c, w_raw, w_u, draws, known)
        return gs[1:], raws[..., :n_u].clone(), log_sds, us

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_g: Tensor, d_mean: Tensor, d_log_sd: Tensor, d_u: Tensor) -> tuple[Tensor | None, ...]:
        x, rows, cs, gs, raws, log_sds, us, w_x, w_joint, w_c, w_raw, w_u, draws, known = ctx.saved_tensors
        n_steps, n_trials, n_u = us.shape
        n_c, n_g = cs.shape[-1], gs.shape[-1]
        spread = log_sds.exp() * draws if draws.dim() == 3 else torch.zeros_like(log_sds)
        inside = (raws[..., n_u:] > MIN_LOG_SD).to(raws.dtype)
        straight = torch.stack([d_u + d_mean, (d_log_sd + d_u * spread) * inside], 2)
        through = torch.stack([torch.ones_like(spread), spread * inside], 2)
        d_raw, d_inputs = torch.empty_like(raws), torch.empty_like(us)
        d_x, d_bias = torch.empty_like(x), rows.new_zeros(1, rows.shape[-1])
        d_w_x, d_w_joint, d_w_c, d_w_u = (torch.zeros_like(w) for w in (w_x, w_joint, w_c, w_u))
        d_w_known = x.new_zeros(known.shape[-1], 3 * n_g)
        back_x, back_joint, back_c, back_raw, back_u = (w.t().contiguous() for w in (w_x, w_joint, w_c, w_raw, w_u))
        cut = pieces(n_steps, row_size=rows[0].numel())
        room = torch.empty_like(rows[cut[0]])
        ones = room.new_ones(1, len(room) * n_trials)
        middle, last = slice(n_g, 4 * n_g + 3 * n_c), slice(4 * n_g + n_c, None)
        blocks_g, blocks_c = (blocks_of(part).unbind(0) for part in (room[..., : 4 * n_g], room[..., 4 * n_g :]))
        to_u, to_g, to_c = (room[..., part].unbind(0) for part in (slice(3 * n_g), middle, last))
        update_g, update_c = rows[..., 2 * n_g : 3 * n_g], rows[..., 4 * n_g + 2 * n_c : 4 * n_g + 3 * n_c]
        dg, dc = torch.zeros_like(gs[0]), torch.zeros_like(cs[0])
        for piece in reversed(cut):
            d_rows = room[: piece.stop - piece.start]
            slopes(rows[piece][..., : 4 * n_g], gs[piece], out=d_rows[..., : 4 * n_g])
            slopes(rows[piece][..., 4 * n_g :], cs[piece], out=d_rows[..., 4 * n_g :])
            for t in reversed(range(piece.start, piece.stop)):
                i = t - piece.start
                dg += d_g[t]
                blocks_g[i].mul_(dg[:, None])
                du = torch.mm(to_u[i], back_u, out=d_inputs[t])
                torch.addcmul(straight[t], du[:, None], through[t], out=d_raw[t].view(n_trials, 2, n_u))
                dc.addmm_(d_raw[t], back_raw)
                blocks_c[i].mul_(dc[:, None])
                dc.mul_(update_c[t]).addmm_(to_c[i], back_c)
                dg.mul_(update_g[t]).addmm_(to_g[i], back_joint)
            flat = d_rows.flatten(0, 1)
            into_c = flat[:, 4 * n_g : 4 * n_g + 3 * n_c]
            torch.mm(into_c, back_x, out=d_x[piece].flatten(0, 1))
            d_w_x.addmm_(x[piece].flatten(0, 1).t(), into_c)
            d_w_joint.addmm_(gs[piece].flatten(0, 1).t(), flat[:, middle])
            d_w_c.addmm_(cs[piece].flatten(0, 1).t(), flat[:, last])
            d_w_u.addmm_(us[piece].flatten(0, 1).t(), flat[:, : 3 * n_g])
            if len(d_w_known):
                d_w_known.addmm_(known[piece].flatten(0, 1).t(), flat[:, : 3 * n_g])
            d_bias.addmm_(ones[:, : len(flat)], flat)
        flat_raw = d_raw.flatten(0, 1)
        return (
            d_x,
            dg,
            d_bias[0],
            d_w_x,
            d_w_joint,
            d_w_c,
            cs[1:].flatten(0, 1).t() @ flat_raw,
            flat_raw.sum(0),
            (d_log_sd + (d_u + d_inputs) * spread).sum((0, 1)),
            torch.cat([d_w_u, d_w_known]),
            None,
            None,
        )
