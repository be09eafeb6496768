"""Recurrent loops with their own backward pass.

A GRU step costs one matrix product and a handful of element-wise operations; what autograd adds on top is more than either.
Here all that one step of one cell computes lies in one row of four blocks of the width of the state,

    new | reset | update | inner

**Forward.** With the input x_t and the state h before the step, the sums of the blocks are

    N = x_t W_n + b_n,    R = x_t W_r + h V_r + b_r,    Z = x_t W_z + h V_z + b_z,    I = h V_n + c_n

The input's product fills the first three, and the bias c_n the fourth, for several steps at once; the recurrent product adds
to the last three, in place. Then the step turns its row into gates, in place too, and makes the next state:

    r = σ(R),    z = σ(Z),    n = tanh(N + r I),    h' = n + z (h − n) = (1 − z) n + z h

**Backward.** The slopes of h' by the four sums need nothing but what the row holds now, n, r, z and I, and h:

    ∂h'/∂N = (1 − z)(1 − n²)                 for tanh' = 1 − n²
    ∂h'/∂I = r · ∂h'/∂N                      I enters as r I
    ∂h'/∂R = I · r (1 − r) · ∂h'/∂N          for σ' = r (1 − r)
    ∂h'/∂Z = (h − n) · z (1 − z)

`slopes` makes them for several steps at once. With g the gradient that arrives at h', from later steps and from whoever reads
h', each block times g is the gradient of its sum. So, going back in time,

    ∂L/∂h = z g + (∂L/∂R, ∂L/∂Z, ∂L/∂I) V',    ∂L/∂x_t = (∂L/∂N, ∂L/∂R, ∂L/∂Z) W'

where V and W have their columns in this order; gradients of weights are the usual products with h and x_t, summed over time.

"Several" steps are a piece that stays in the cache: rows of gradients are never kept, and gradients of weights are added up
piece by piece. Views of single steps are made piece by piece too: hundreds of them at once set off Python's garbage collector
again and again.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_PIECE_SIZE = 2**18
"""Numbers in the rows of a piece: one MiB, half of the second-level cache of current processors."""


class Cell(nn.Module):
    """Weights of a GRU whose reset gate acts after the recurrent product, as in `torch.nn.GRU`.

    ``h' = n + z (h − n)``, ``n = tanh(x_n + r (h V_n + c_n))``, ``r, z = σ(x + h V)`` with the projection
    ``x = input · inward + bias``. The state never leaves ±max(1, |h_0|).

    Parameters
    ----------
    n_in : int
        Width of the input.
    n : int
        Width of the state.

    Attributes
    ----------
    inward : Float[Tensor, "input 3*state"]
        Columns (new, reset, update).
    recurrent : Float[Tensor, "state 3*state"]
        V; columns (reset, update, new).
    bias : Float[Tensor, "3*state"]
        (new, reset, update).
    bias_new : Float[Tensor, "state"]
        c_n, inside the reset gate.
    """

    def __init__(self, n_in: int, n: int):
        super().__init__()
        self.n = n
        self.inward = nn.Parameter(torch.randn(n_in, 3 * n) / max(n_in, 1) ** 0.5)
        self.recurrent = nn.Parameter(torch.cat([nn.init.orthogonal_(torch.empty(n, n)) for _ in range(3)], 1))
        self.bias = nn.Parameter(torch.cat([torch.zeros(2 * n), torch.ones(n)]))
        self.bias_new = nn.Parameter(torch.zeros(n))


def run_gru(
    gru: nn.GRU,
    x: Float[Tensor, "time trial input"],
    h0: Float[Tensor, "direction trial state"] | None = None,
) -> tuple[Float[Tensor, "time trial states"], Float[Tensor, "direction trial state"]]:
    """Run a GRU of one layer, in one direction or both: the module's own numbers, in about half its time on a CPU.

    On other devices the module itself is run.

    Parameters
    ----------
    gru : torch.nn.GRU
        Of one layer, with time first.
    x : Float[Tensor, "time trial input"]
    h0 : Float[Tensor, "direction trial state"], optional
        States before the first step; 0 without.

    Returns
    -------
    states : Float[Tensor, "time trial states"]
        After each step; both directions side by side.
    last : Float[Tensor, "direction trial state"]
    """
    if not x.is_cpu:
        states, last = gru(x, h0)
        return states, last
    paths = []
    for i, suffix in enumerate(("_l0", "_l0_reverse")[: 1 + gru.bidirectional]):
        # torch's order of gates is (reset, update, new), in rows.
        inward, recurrent, bias, bias_hidden = (
            gru.get_parameter(name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        n = gru.hidden_size
        both = bias[: 2 * n] + bias_hidden[: 2 * n]
        path = _Unrolled.apply(  # type: ignore[no-untyped-call]
            x.contiguous(),
            x.new_zeros(x.shape[1], n) if h0 is None else h0[i],
            torch.cat([inward[2 * n :], inward[: 2 * n]]).t().contiguous(),
            recurrent.t().contiguous(),
            torch.cat([bias[2 * n :], both, bias_hidden[2 * n :]]),
            i == 1,
        )
        paths.append(path)
    last = torch.stack([paths[0][-1], *(path[0] for path in paths[1:])])
    return torch.cat(paths, -1) if len(paths) > 1 else paths[0], last


def pieces(n_steps: int, *, row_size: int) -> list[slice]:
    """Cut steps into pieces whose rows, of `row_size` numbers a step, stay in the cache.

    Parameters
    ----------
    n_steps : int
        Time bins.
    row_size : int
        Numbers in the rows of a step.

    Returns
    -------
    list of slice
        Of steps, in order.
    """
    several = max(1, _PIECE_SIZE // row_size)
    return [slice(start, min(start + several, n_steps)) for start in range(0, n_steps, several)]


def blocks_of(rows: Float[Tensor, "time trial row"]) -> Float[Tensor, "time trial 4 state"]:
    """The same rows as (new, reset, update, inner).

    Parameters
    ----------
    rows : Float[Tensor, "time trial row"]

    Returns
    -------
    Float[Tensor, "time trial 4 state"]
        A view.
    """
    return rows.view(*rows.shape[:-1], 4, rows.shape[-1] // 4)


def steps_of(rows: Float[Tensor, "time trial row"]) -> list[tuple[Tensor, ...]]:
    """Views of each step's row: (reset, update, inner), (reset, update), and the four blocks one by one.

    Parameters
    ----------
    rows : Float[Tensor, "time trial row"]

    Returns
    -------
    list of tuple of Tensor
        One tuple for each step.
    """
    n = rows.shape[-1] // 4
    parts = (rows[..., n:], rows[..., n : 3 * n], *blocks_of(rows).unbind(-2))
    return list(zip(*(part.unbind(0) for part in parts), strict=True))


def advance(step: tuple[Tensor, ...], h: Float[Tensor, "trial state"], *, out: Float[Tensor, "trial state"]) -> Tensor:
    """Turn one step's sums into gates, in place, and write the next state to `out`, which is returned.

    Parameters
    ----------
    step : tuple of tensors
        The step's views, from `steps_of`.
    h : Float[Tensor, "trial state"]
        State before the step.
    out : Float[Tensor, "trial state"]
        Memory of the state after the step.

    Returns
    -------
    Tensor
    """
    _, gates, new, reset, update, inner = step
    gates.sigmoid_()
    new.addcmul_(reset, inner).tanh_()
    return torch.lerp(new, h, update, out=out)


def slopes(
    rows: Float[Tensor, "time trial row"],
    before: Float[Tensor, "time trial state"],
    *,
    out: Float[Tensor, "time trial row"],
) -> None:
    """Write the slopes of the new states by the four sums of their rows to `out`; the module's docstring derives them.

    Parameters
    ----------
    rows : Float[Tensor, "time trial row"]
        As `advance` left them: n, r, z and I.
    before : Float[Tensor, "time trial state"]
        States that the steps started from.
    out : Float[Tensor, "time trial row"]
        Memory of the slopes.
    """
    new, reset, update, inner = blocks_of(rows).unbind(-2)
    by_new, by_reset, by_update, by_inner = blocks_of(out).unbind(-2)
    rest = 1 - update
    torch.mul(new, new, out=by_new)
    torch.addcmul(rest, rest, by_new, value=-1, out=by_new)
    torch.mul(by_new, reset, out=by_inner)
    torch.addcmul(by_inner, by_inner, reset, value=-1, out=by_reset).mul_(inner)
    torch.sub(before, new, out=by_update).mul_(update).mul_(rest)


class _Unrolled(torch.autograd.Function):
    """Columns of `inward`: (new, reset, update); of `recurrent`: (reset, update, inner); of `bias`: all four."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, inward: Tensor, recurrent: Tensor, bias: Tensor, backwards: bool
    ) -> Tensor:
        n_steps, n_trials, n = len(x), *h0.shape
        rows, states = x.new_empty(n_steps, n_trials, 4 * n), x.new_empty(n_steps + 1, n_trials, n)
        states[-1 if backwards else 0] = h0
        after, h = states[:-1] if backwards else states[1:], h0
        cut = pieces(n_steps, row_size=rows[0].numel())
        for piece in reversed(cut) if backwards else cut:
            rows[piece] = bias
            rows[piece].flatten(0, 1)[:, : 3 * n].addmm_(x[piece].flatten(0, 1), inward)
            steps = list(zip(steps_of(rows[piece]), after[piece].unbind(0), strict=True))
            for step, out in reversed(steps) if backwards else steps:
                step[0].addmm_(h, recurrent)
                h = advance(step, h, out=out)
        ctx.save_for_backward(x, rows, states, inward, recurrent)
        ctx.backwards = backwards
        return states[:-1] if backwards else states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        x, rows, states, inward, recurrent = ctx.saved_tensors
        before = states[1:] if ctx.backwards else states[:-1]
        n_steps, n_trials, n = before.shape
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        d_inward, d_recurrent, d_bias = torch.zeros_like(inward), torch.zeros_like(recurrent), rows.new_zeros(1, 4 * n)
        cut = pieces(n_steps, row_size=rows[0].numel())
        room = torch.empty_like(rows[cut[0]])
        through, blocks = room[..., n:].unbind(0), blocks_of(room).unbind(0)
        update = rows[..., 2 * n : 3 * n]
        back_inward, back, ones = (
            inward.t().contiguous(),
            recurrent.t().contiguous(),
            room.new_ones(1, len(room) * n_trials),
        )
        dh = torch.zeros_like(before[0])
        for piece in cut if ctx.backwards else reversed(cut):
            d_rows = room[: piece.stop - piece.start]
            slopes(rows[piece], before[piece], out=d_rows)
            steps = list(zip(blocks, through, d_states[piece].unbind(0), update[piece].unbind(0), strict=False))
            for block, to_h, arriving, slope in steps if ctx.backwards else reversed(steps):
                dh += arriving
                block.mul_(dh[:, None])
                dh.mul_(slope).addmm_(to_h, back)
            flat = d_rows.flatten(0, 1)
            into = flat[:, : 3 * n]
            if d_x is not None:
                torch.mm(into, back_inward, out=d_x[piece].flatten(0, 1))
            d_inward.addmm_(x[piece].flatten(0, 1).t(), into)
            d_recurrent.addmm_(before[piece].flatten(0, 1).t(), flat[:, n:])
            d_bias.addmm_(ones[:, : len(flat)], flat)
        return d_x, dh, d_inward, d_recurrent, d_bias[0], None
