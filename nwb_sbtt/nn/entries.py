"""Products of what the entries have with what channels have: all that read-in and likelihood need of the channel axis.

`gather_sum` brings what the entries have to trials and bins, `dot` brings factors to the entries, `spread` brings what a
channel has to its entries; in each the gradients are the others again. All take dense batches, where they are matrix products,
and sparse ones. There they go block by block (`nwb_sbtt.batch.Entries`), so that nothing of the size entries × width
ever exists, and each table that is looked up stays in the cache. On a CPU the kernels are torch's bags of embeddings and
sampled product, and scipy's transposed sparse product, each the fastest of those measured; elsewhere each block is
gathered and added up by torch.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwb_sbtt.batch import Batch, Block, Entries


def gather_sum(
    weights: Shaped[Tensor, "*entry"], table: Float[Tensor, "channel width"], *, batch: Batch
) -> Float[Tensor, "trial time width"]:
    """Sum the table's rows over the entries of each bin: ``out[i, t] = Σ_c weights[i, t, c] · table[c]``.

    Parameters
    ----------
    weights : float or bool tensor
        One number an entry of `batch`; a bin without entries gets 0.
    table : Float[Tensor, "channel width"]
    batch : Batch
        Says where the entries lie; its values and masks play no part.

    Returns
    -------
    Float[Tensor, "trial time width"]
        Differentiable by `weights` and `table`. Of the residuals at the entries and the weights of a read-out this makes the
        slope of a log-likelihood by the factors.
    """
    if batch.entries is None:
        return weights.to(table.dtype) @ table
    return _GatherSum.apply(weights, table, batch.entries)  # type: ignore[no-any-return, no-untyped-call]


def dot(
    factors: Float[Tensor, "trial time width"],
    table: Float[Tensor, "channel width"],
    *,
    bias: Float[Tensor, "channel"],
    batch: Batch,
) -> Float[Tensor, "*entry"]:
    """Read factors out at the entries alone: ``out[i, t, c] = factors[i, t] · table[c] + bias[c]``.

    Parameters
    ----------
    factors : Float[Tensor, "trial time width"]
    table : Float[Tensor, "channel width"]
    bias : Float[Tensor, "channel"]
    batch : Batch
        Says where the entries lie; its values and masks play no part.

    Returns
    -------
    Float[Tensor, "*entry"]
        One number an entry, differentiable by `factors`, `table` and `bias`.
    """
    if batch.entries is None:
        return torch.nn.functional.linear(factors, table, bias)
    return _Dot.apply(factors, table, bias, batch.entries)  # type: ignore[no-any-return, no-untyped-call]


def spread(of_channel: Float[Tensor, "channel"], *, batch: Batch) -> Float[Tensor, "*entry"]:
    """Give each entry what its channel has, differentiably; in a dense batch it is left to broadcast."""
    if batch.entries is None:
        return of_channel
    return _Spread.apply(of_channel, batch.entries)  # type: ignore[no-any-return, no-untyped-call]


def marked_share(marked: Bool[Tensor, "*entry"], *, batch: Batch) -> Float[Tensor, "trial time 1"]:
    """Share of all channels that is marked in each bin."""
    if batch.entries is None:
        return marked.to(batch.values.dtype).mean(-1, keepdim=True)
    n_trials, n_bins, n_channels = batch.shape
    counts = torch.zeros(n_trials * n_bins, dtype=torch.int64, device=batch.device)
    for block in batch.entries.blocks():
        running = torch.nn.functional.pad(marked[block.entries].cumsum(0), (1, 0))
        counts += running[block.pointers].diff()
    return (counts.to(batch.values.dtype) / n_channels).reshape(n_trials, n_bins, 1)


class _GatherSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, table: Tensor, entries: Entries) -> Tensor:
        ctx.save_for_backward(weights, table)
        ctx.entries = entries
        return _sum_rows(weights, table, entries)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, table = ctx.saved_tensors
        by_weights = by_table = None
        if ctx.needs_input_grad[0]:
            by_weights = _products(grad, table, None, ctx.entries)
        if ctx.needs_input_grad[1]:
            by_table = _sum_columns(weights, grad, ctx.entries)
        return by_weights, by_table, None


class _Dot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factors: Tensor, table: Tensor, bias: Tensor, entries: Entries) -> Tensor:
        ctx.save_for_backward(factors, table)
        ctx.entries = entries
        return _products(factors, table, bias, entries)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factors, table = ctx.saved_tensors
        by_factors = by_table = by_bias = None
        if ctx.needs_input_grad[0]:
            by_factors = _sum_rows(grad, table, ctx.entries)
        if ctx.needs_input_grad[1]:
            by_table = _sum_columns(grad, factors, ctx.entries)
        if ctx.needs_input_grad[2]:
            by_bias = _sum_channels(grad, ctx.entries)
        return by_factors, by_table, by_bias, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, of_channel: Tensor, entries: Entries) -> Tensor:
        ctx.entries = entries
        return of_channel.index_select(0, entries.channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_channels(grad, ctx.entries), None


def _sum_rows(weights: Tensor, table: Tensor, entries: Entries) -> Tensor:
    """Entries × table to rows."""
    n_trials, n_bins, _ = entries.shape
    total = table.new_zeros(n_trials * n_bins, table.shape[1])
    for block in entries.blocks():
        own, tile = weights[block.entries].to(table.dtype), table[block.channels]
        if table.is_cpu:
            bags = (block.columns, tile, block.pointers[:-1])
            total += torch.nn.functional.embedding_bag(*bags, mode="sum", per_sample_weights=own)
        else:
            total.index_add_(0, entries.rows(block), tile.index_select(0, block.columns) * own[:, None])
    return total.reshape(n_trials, n_bins, -1)


def _sum_columns(weights: Tensor, rows: Tensor, entries: Entries) -> Tensor:
    """Entries × rows to channels: the transposed product."""
    flat = rows.reshape(-1, rows.shape[-1]).contiguous()
    total = flat.new_zeros(entries.shape[2], flat.shape[1])
    for block in entries.blocks():
        own, part = weights[block.entries].to(flat.dtype), total[block.channels]
        if flat.is_cpu:
            part += torch.from_numpy(_matrix(own, block, (len(flat), len(part))).T @ flat.numpy())
        else:
            part.index_add_(0, block.columns, flat.index_select(0, entries.rows(block)) * own[:, None])
    return total


def _sum_channels(of_entry: Tensor, entries: Entries) -> Tensor:
    """Sum over the entries of each channel."""
    total = of_entry.new_zeros(entries.shape[2])
    for block in entries.blocks():
        n_channels = len(total[block.channels])
        total[block.channels] = torch.bincount(block.columns, of_entry[block.entries], n_channels)
    return total


def _products(rows: Tensor, table: Tensor, bias: Tensor | None, entries: Entries) -> Tensor:
    """Inner products of row and channel at each entry."""
    flat = rows.reshape(-1, rows.shape[-1])
    found = flat.new_empty(len(entries))
    for block in entries.blocks():
        tile = table[block.channels]
        start = flat.new_zeros(()).expand(len(block.columns))
        if bias is not None:
            start = bias[block.channels].index_select(0, block.columns)
        if flat.is_cpu:
            found[block.entries] = _sampled(block, start, flat, tile)
        else:
            both = flat.index_select(0, entries.rows(block)) * tile.index_select(0, block.columns)
            found[block.entries] = both.sum(-1) + start
    return found


def _sampled(block: Block, start: Tensor, flat: Tensor, tile: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        size = (len(flat), len(tile))
        at = torch.sparse_csr_tensor(block.pointers, block.columns, start, size, check_invariants=False)
    found: Tensor = torch.sparse.sampled_addmm(at, flat, tile.t()).values()
    return found


def _matrix(weights: Tensor, block: Block, size: tuple[int, int]) -> csr_array[np.float32, tuple[int, int]]:
    return csr_array((weights.numpy(), block.columns.numpy(), block.pointers.numpy()), shape=size)
