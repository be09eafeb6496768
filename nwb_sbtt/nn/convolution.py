"""Gated long convolutions: all bins at once, where a recurrent cell goes bin by bin.

A convolution over time whose kernel is as long as the trial can hold what a diagonal state space model holds (sums of decaying
exponentials, forwards and backwards: Gu et al. 2022), and is one matrix product per group of channels. The kernels are free
tables that begin as exponentials of several time constants.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LONG_TRIAL = 512
"""Bins up to which a product over time is one matrix (bin, bin) for the whole trial; beyond, work and memory are linear."""
TILE_BINS = 256
"""Bins of a tile of a longer trial."""
GROWTH = 1.35
"""Ratio of neighbouring time constants, from one bin upwards."""


class GatedConvolution(nn.Module):
    """``out(K ∗ u · silu(g))`` with ``u, g`` linear in the normalised input; one kernel `K` per group of features.

    Parameters
    ----------
    width : int
        Features in and out.
    groups : int
        Kernels; half of them look back at first, half ahead. Divides `width`.
    max_lag : int
        Farthest lag, in bins, that a kernel reaches back, and ahead.
    ahead : int, optional
        Farthest lag, in bins, that a kernel reaches ahead, if it is not `max_lag`; at most that. 0: past and present alone.
    """

    def __init__(self, width: int, groups: int, max_lag: int, *, ahead: int | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inward = nn.Linear(width, 2 * width)
        self.outward = nn.Linear(width, width)
        self.ahead = max_lag if ahead is None else ahead
        self.beyond = max_lag - self.ahead
        lag = torch.arange(self.beyond - max_lag, max_lag + 1)
        kernels = []
        for i in range(groups):
            if ahead is None:
                kernel = torch.exp(-lag.abs() / GROWTH ** (i // 2)) * (lag >= 0 if i % 2 else lag <= 0)
            else:
                kernel = torch.exp(-lag.abs() / GROWTH ** (i / 2)) * (lag >= (-ahead if i % 2 else 0))
            kernels.append(kernel / kernel.sum())
        self.kernels = nn.Parameter(torch.stack(kernels))

    def forward(self, x: Float[Tensor, "trial time width"]) -> Float[Tensor, "trial time width"]:
        """Mix features over time; bins before the first and after the last count as zero.

        Parameters
        ----------
        x : Float[Tensor, "trial time width"]
            Features in each bin.

        Returns
        -------
        Float[Tensor, "trial time width"]
        """
        n_bins, width = x.shape[1:]
        # With features first, every product below reads memory in its order; nothing is copied to be permuted.
        u, gate = _Inward.apply(self.norm(x).reshape(-1, width), self.inward.weight, self.inward.bias)  # type: ignore[no-untyped-call]
        kernels = nn.functional.pad(self.kernels, (self.beyond, 0)) if self.beyond else self.kernels
        mixed = _convolved(u.view(len(self.kernels), -1, n_bins), kernels).reshape(width, -1)
        out: Tensor = _Outward.apply(mixed, gate, self.outward.weight, self.outward.bias)  # type: ignore[no-untyped-call]
        return out.view(x.shape)


class _Inward(torch.autograd.Function):
    """Two linear functions of rows of features, as (feature, row), by one product and one back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows, weight)
        u, gate = torch.addmm(bias[:, None], weight, rows.t()).chunk(2)
        return u, gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_u: Tensor, by_gate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        width = len(by_u)
        by_rows = torch.mm(by_u.t(), weight[:width]).addmm_(by_gate.t(), weight[width:])
        by_weight = weight.new_empty(weight.shape)
        for half, by in ((by_weight[:width], by_u), (by_weight[width:], by_gate)):
            torch.mm(by, rows, out=half)
        return by_rows, by_weight, torch.cat([by_u.sum(1), by_gate.sum(1)])


class _Outward(torch.autograd.Function):
    """A linear function of ``mixed · silu(gate)``, from (feature, row) to (row, feature); keeps nothing but its arguments."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, gate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(mixed, gate, weight)
        return torch.addmm(bias, nn.functional.silu(gate).mul_(mixed).t(), weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mixed, gate, weight = ctx.saved_tensors
        opened = nn.functional.silu(gate)
        product = opened * mixed
        by_weight = torch.mm(by_out.t(), product.t())
        by_product = torch.mm(weight.t(), by_out.t())
        by_gate = torch.ops.aten.silu_backward(torch.mul(by_product, mixed, out=product), gate)
        return opened.mul_(by_product), by_gate, by_weight, by_out.sum(0)


def recent_mean(x: Float[Tensor, "trial time width"], length: int) -> Float[Tensor, "trial time width"]:
    """Average each bin with the bins before it, `length` in all, or as many as there are since the trial began.

    Parameters
    ----------
    x : Float[Tensor, "trial time width"]
    length : int
        Bins.

    Returns
    -------
    Float[Tensor, "trial time width"]
    """
    n_bins = x.shape[1]
    to = torch.arange(n_bins, device=x.device)
    counted = (to + 1).clamp(max=length).to(x.dtype)
    if n_bins <= LONG_TRIAL:
        lag = to[:, None] - to
        weights = ((lag >= 0) & (lag < length)) / counted[:, None]
        return weights.to(x.dtype) @ x
    kernel = x.new_zeros(1, 2 * length - 1)
    kernel[:, length - 1 :] = 1
    sums = _convolved(x.transpose(1, 2).reshape(1, -1, n_bins), kernel) / counted
    return sums.view(len(x), -1, n_bins).transpose(1, 2)


def tiles(x: Float[Tensor, "row time"], halo: int) -> Float[Tensor, "row tile window"]:
    """Cut long rows into tiles of `TILE_BINS` bins, each with `halo` bins on either side; beyond the row is zero.

    Parameters
    ----------
    x : Float[Tensor, "row time"]
    halo : int
        How far a product over time reaches in either direction, in bins.

    Returns
    -------
    Float[Tensor, "row tile window"]
        A view of the padded rows.
    """
    n_tiles = -(-x.shape[1] // TILE_BINS)
    padded = nn.functional.pad(x, (halo, n_tiles * TILE_BINS - x.shape[1] + halo))
    return padded.unfold(1, TILE_BINS + 2 * halo, TILE_BINS)


def _convolved(u: Float[Tensor, "group row time"], kernels: Float[Tensor, "group lag"]) -> Tensor:
    """Convolve each group's rows with its kernel: one product of a trial's length, or one of each tile of a long trial."""
    n_groups, n_rows, n_bins = u.shape
    if n_bins <= LONG_TRIAL:
        return torch.bmm(u, _toeplitz(kernels, n_bins).mT)
    halo = kernels.shape[1] // 2
    # Of a row's tile the bins are those in the middle of its window: the outer rows of the square are never needed.
    matrices = _toeplitz(kernels, TILE_BINS + 2 * halo)[:, halo : halo + TILE_BINS]
    windows = tiles(u.reshape(-1, n_bins), halo).reshape(n_groups, -1, TILE_BINS + 2 * halo)
    return torch.bmm(windows, matrices.mT).reshape(n_groups, n_rows, -1)[:, :, :n_bins]


def _toeplitz(kernels: Float[Tensor, "group lag"], n_bins: int) -> Float[Tensor, "group to from"]:
    """Lay each kernel out so that row t, column s holds its value at lag t − s; 0 beyond its longest lag."""
    beyond = n_bins - 1 - kernels.shape[1] // 2
    kernels = nn.functional.pad(kernels, (beyond, beyond))
    return kernels.unfold(1, n_bins, 1).flip(2)
