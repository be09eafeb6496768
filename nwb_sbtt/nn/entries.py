"""Products of entries with tables of channels: all that read-in and likelihood need of the channel axis.

`gather_sum` sums entries into trials and bins, `dot` reads factors out at the entries, `along_channels` brings numbers of a
channel to its entries; the gradient of each is one of the others. `sum_terms` and `gather_terms` are a loss and a feedback on
top of `dot`, for sparse batches (`nwb_sbtt.nn.dense` has both for dense ones). The other three take dense batches too, where
they are matrix products.

In sparse batches all go block by block (`nwb_sbtt.batch.Entries`): nothing of the size entries × width ever exists, and each
table that is looked up stays in the cache. On a CPU the kernels are torch's bags of embeddings and sampled product, and scipy's
transposed sparse product, each the fastest of those measured; elsewhere torch gathers each block and adds it up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwb_sbtt.batch import Batch, Block, Entries, as_numbers, precise_dtype

ReadOut = tuple[Tensor, Tensor]
"""A table (channel, width) and a bias (channel): one number of each entry, linear in the factors."""

Lazy = Callable[[Block], Tensor]
"""Numbers of the entries of a block, computed when they are needed, so that they never exist for all entries at once."""


def shown_terms(function: Callable[..., Tensor], batch: Batch, *, per_channel: tuple[Tensor, ...]) -> Tensor | Lazy:
    """Prepare ``function(values, exposure, *per_channel)``, 0 where nothing is shown, as weights of `gather_sum`.

    Parameters
    ----------
    function : callable
        Works entry by entry.
    batch : Batch
    per_channel : tuple of Float[Tensor, "channel"]

    Returns
    -------
    Tensor or callable
        Of a sparse batch a function of a block, which is called when its numbers are needed, and again for the gradient; they
        have no gradient themselves.
    """
    if batch.entries is None:
        result = function(batch.values, batch.exposure, *per_channel)
        return result * as_numbers(batch.shown, result.dtype)

    def of_block(block: Block) -> Tensor:
        span = block.entries
        exposure = None if batch.exposure is None else batch.exposure[span]
        result = function(batch.values[span], exposure, *(block.along_channels(values) for values in per_channel))
        return result * as_numbers(batch.shown[span], result.dtype)

    return of_block


def gather_sum(
    weights: Shaped[Tensor, "*entry"] | Lazy, table: Float[Tensor, "channel width"], *, batch: Batch
) -> Float[Tensor, "trial time width"]:
    """Sum the table's rows over the entries of each bin: ``out[i, t] = Σ_c weights[i, t, c] · table[c]``.

    Parameters
    ----------
    weights : float or bool tensor, or what `shown_terms` gives
        One number an entry of `batch`; a bin without entries gets 0.
    table : Float[Tensor, "channel width"]
    batch : Batch
        Says where the entries lie; its values and masks play no part.

    Returns
    -------
    Float[Tensor, "trial time width"]
        Differentiable by `table` and, where they are a tensor, by `weights`. Of the residuals at the entries and the weights
        of a read-out this makes the slope of a log-likelihood by the factors.
    """
    if batch.entries is not None:
        return _GatherSum.apply(weights, table, batch.entries)  # type: ignore[no-any-return, no-untyped-call]
    if not isinstance(weights, Tensor):
        raise TypeError("a dense batch takes its weights as a tensor")
    return _numbers(weights, table.dtype) @ table


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


def along_channels(per_channel: Float[Tensor, "channel"], *, batch: Batch) -> Float[Tensor, "*entry"]:
    """Bring (channel) to the entries, differentiably; of a dense batch it is left to broadcast.

    Parameters
    ----------
    per_channel : Float[Tensor, "channel"]
    batch : Batch
        Whose entries are meant.

    Returns
    -------
    Float[Tensor, "*entry"]
        Of a dense batch `per_channel` itself, which broadcasts over (trial, time, channel).
    """
    if batch.entries is None:
        return per_channel
    return _AlongChannels.apply(per_channel, batch.entries)  # type: ignore[no-any-return, no-untyped-call]


def sum_terms(
    terms: Callable[..., Tensor],
    factors: Float[Tensor, "trial time width"],
    *,
    read_outs: tuple[ReadOut, ...],
    per_channel: tuple[Float[Tensor, "channel"], ...],
    batch: Batch,
) -> Float[Tensor, ""]:
    """Sum ``terms(linear, values, exposure, *per_channel)`` over the scored entries, in double precision.

    Each block's gradients are taken with its terms, while both are in the cache; nothing is kept for a second pass.

    Parameters
    ----------
    terms : callable
        Works entry by entry; `linear` is a tuple of what `dot` gives for each of the read-outs.
    factors : Float[Tensor, "trial time width"]
    read_outs : tuple of (table, bias)
    per_channel : tuple of Float[Tensor, "channel"]
        Further parameters of the terms.
    batch : Batch
        A sparse one.

    Returns
    -------
    Float[Tensor, ""]
        Differentiable by all but the batch.
    """
    wanted = torch.is_grad_enabled()
    tables, biases = zip(*read_outs, strict=True)
    return _SumTerms.apply(terms, batch, wanted, len(read_outs), factors, *tables, *biases, *per_channel)  # type: ignore[no-any-return, no-untyped-call]


def gather_terms(
    terms: Callable[..., Tensor],
    factors: Float[Tensor, "trial time factor"],
    *,
    read_outs: tuple[ReadOut, ...],
    per_channel: tuple[Float[Tensor, "channel"], ...],
    into: Float[Tensor, "channel width"],
    batch: Batch,
) -> Float[Tensor, "trial time width"]:
    """Read factors out, take ``terms(linear, values, exposure, *per_channel)`` of the shown entries, and sum them by `into`.

    That is `gather_sum` of terms of what `dot` gives for each read-out, of a batch as `sum_terms` takes it. Nothing is kept at
    the entries: the gradient computes each block's terms again.

    Parameters
    ----------
    terms, factors, read_outs, per_channel, batch
        As in `sum_terms`.
    into : Float[Tensor, "channel width"]

    Returns
    -------
    Float[Tensor, "trial time width"]
        Differentiable by all but `per_channel` and the batch.
    """
    fixed = tuple(values.detach() for values in per_channel)
    tables, biases = zip(*read_outs, strict=True)
    return _GatherTerms.apply(terms, batch, fixed, factors, into, *tables, *biases)  # type: ignore[no-any-return, no-untyped-call]


def marked_share(marked: Bool[Tensor, "*entry"], *, batch: Batch) -> Float[Tensor, "trial time 1"]:
    """Share of all channels that is marked in each bin.

    Parameters
    ----------
    marked : Bool[Tensor, "*entry"]
        Such as `shown` of the batch.
    batch : Batch
    """
    if batch.entries is None:
        return as_numbers(marked, batch.values.dtype).mean(-1, keepdim=True)
    n_trials, n_bins, n_channels = batch.shape
    counts = torch.zeros(n_trials * n_bins, dtype=torch.int64, device=batch.device)
    for block in batch.entries.blocks():
        running = torch.nn.functional.pad(marked[block.entries].cumsum(0), (1, 0))
        counts += running[block.pointers].diff()
    return (counts.to(batch.values.dtype) / n_channels).reshape(n_trials, n_bins, 1)


class _GatherSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor | Lazy, table: Tensor, entries: Entries) -> Tensor:
        known = isinstance(weights, Tensor)
        ctx.save_for_backward(table, *([weights] if known else []))
        ctx.entries, ctx.weights = entries, None if known else weights
        return _sum_rows(weights, table, entries)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        table, weights = ctx.saved_tensors[0], ctx.weights or ctx.saved_tensors[1]
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


class _AlongChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, per_channel: Tensor, entries: Entries) -> Tensor:
        ctx.entries = entries
        return per_channel.index_select(0, entries.channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_channels(grad, ctx.entries), None


class _SumTerms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, terms: Callable[..., Tensor], batch: Batch, wanted: bool, n: int, *inputs: Tensor) -> Tensor:
        factors, tables, biases = inputs[0], inputs[1 : 1 + n], inputs[1 + n : 1 + 2 * n]
        per_channel = inputs[1 + 2 * n :]
        flat = factors.reshape(-1, factors.shape[-1])
        total = flat.new_zeros((), dtype=precise_dtype(flat.device))
        needs = [wanted] * n + [wanted and values.requires_grad for values in per_channel]
        trained = [values for values, needed in zip(per_channel, needs[n:], strict=True) if needed]
        slopes = [tensor.new_zeros(tensor.shape) if wanted else tensor for tensor in (flat, *tables, *biases, *trained)]
        for block in _entries_of(batch).blocks():
            tiles, span = [table[block.channels] for table in tables], block.entries
            linear = _block_linear(block, flat, tiles, biases)
            variables = [*linear, *(block.along_channels(values) for values in per_channel)]
            leaves = [variable.requires_grad_() for variable, needed in zip(variables, needs, strict=True) if needed]
            exposure = None if batch.exposure is None else batch.exposure[span]
            with torch.set_grad_enabled(wanted):
                result = terms(linear, batch.values[span], exposure, *variables[n:])
                # A product, as everything listed is finite: a choice between random entries is several times as slow.
                part = torch.dot(result, as_numbers(batch.scored[span], result.dtype))
            total += part.detach()
            if wanted:
                by_variable = torch.autograd.grad(part, leaves)
                for i, (by_linear, tile) in enumerate(zip(by_variable, tiles, strict=False)):
                    slopes[0] += _block_rows(block, by_linear, tile)
                    slopes[1 + i][block.channels] = _block_columns(block, by_linear, flat, len(tile))
                for slope, by_entry in zip(slopes[1 + n :], by_variable, strict=True):
                    slope[block.channels] = _block_channels(block, by_entry, len(tiles[0]))
        if wanted:
            ctx.save_for_backward(slopes[0].reshape(factors.shape), *slopes[1:])
            ctx.n, ctx.needs = n, needs[n:]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes = [slope * grad.to(slope.dtype) for slope in ctx.saved_tensors]
        known = 1 + 2 * ctx.n
        rest = iter(slopes[known:])
        return (None,) * 4 + (*slopes[:known], *(next(rest) if needed else None for needed in ctx.needs))


class _GatherTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, terms: Callable[..., Tensor], batch: Batch, fixed: tuple[Tensor, ...], *inputs: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.known = terms, batch, fixed
        factors, into, *rest = inputs
        tables, biases = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        flat = factors.reshape(-1, factors.shape[-1])
        total = into.new_zeros(len(flat), into.shape[1])
        for block in _entries_of(batch).blocks():
            linear = _block_linear(block, flat, [table[block.channels] for table in tables], biases)
            total += _block_rows(block, _shown_terms(terms, linear, batch, block, fixed), into[block.channels])
        return total.reshape(*factors.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (factors, into, *rest), (terms, batch, fixed) = ctx.saved_tensors, ctx.known
        n = len(rest) // 2
        tables, biases = rest[:n], rest[n:]
        flat, flat_grad = factors.reshape(-1, factors.shape[-1]), grad.reshape(-1, grad.shape[-1]).contiguous()
        slopes = [torch.zeros_like(tensor) for tensor in (flat, into, *tables, *biases)]
        for block in _entries_of(batch).blocks():
            tiles = [table[block.channels] for table in tables]
            linear = tuple(values.requires_grad_() for values in _block_linear(block, flat, tiles, biases))
            with torch.enable_grad():
                weights = _shown_terms(terms, linear, batch, block, fixed)
            nothing = flat_grad.new_zeros(()).expand(len(block.columns))
            by_weights = _block_products(block, nothing, flat_grad, into[block.channels])
            for i, by_linear in enumerate(torch.autograd.grad(weights, linear, by_weights)):
                slopes[0] += _block_rows(block, by_linear, tiles[i])
                slopes[2 + i][block.channels] = _block_columns(block, by_linear, flat, len(tiles[i]))
                slopes[2 + n + i][block.channels] = _block_channels(block, by_linear, len(tiles[i]))
            slopes[1][block.channels] = _block_columns(block, weights.detach(), flat_grad, len(into[block.channels]))
        return None, None, None, slopes[0].reshape(factors.shape), *slopes[1:]


def _block_linear(block: Block, flat: Tensor, tiles: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(
        _block_products(block, block.along_channels(bias), flat, tile) for tile, bias in zip(tiles, biases, strict=True)
    )


def _shown_terms(
    terms: Callable[..., Tensor], linear: tuple[Tensor, ...], batch: Batch, block: Block, fixed: tuple[Tensor, ...]
) -> Tensor:
    span = block.entries
    exposure = None if batch.exposure is None else batch.exposure[span]
    result = terms(linear, batch.values[span], exposure, *(block.along_channels(values) for values in fixed))
    return result * as_numbers(batch.shown[span], result.dtype)


def _entries_of(batch: Batch) -> Entries:
    if batch.entries is None:
        raise TypeError("a sparse batch is needed")
    return batch.entries


def _sum_rows(weights: Tensor | Lazy, table: Tensor, entries: Entries) -> Tensor:
    """Entries × table to rows."""
    n_trials, n_bins, _ = entries.shape
    total = table.new_zeros(n_trials * n_bins, table.shape[1])
    for block in entries.blocks():
        total += _block_rows(block, _of_block(weights, block), table[block.channels])
    return total.reshape(n_trials, n_bins, -1)


def _sum_columns(weights: Tensor | Lazy, rows: Tensor, entries: Entries) -> Tensor:
    """Entries × rows to channels: the transposed product."""
    flat = rows.reshape(-1, rows.shape[-1]).contiguous()
    total = flat.new_zeros(entries.shape[2], flat.shape[1])
    for block in entries.blocks():
        part = total[block.channels]
        part += _block_columns(block, _of_block(weights, block), flat, len(part))
    return total


def _sum_channels(of_entry: Tensor, entries: Entries) -> Tensor:
    """Sum over the entries of each channel."""
    total = of_entry.new_zeros(entries.shape[2])
    for block in entries.blocks():
        n_channels = len(total[block.channels])
        total[block.channels] = _block_channels(block, of_entry[block.entries], n_channels).to(total.dtype)
    return total


def _products(rows: Tensor, table: Tensor, bias: Tensor | None, entries: Entries) -> Tensor:
    """Inner products of row and channel at each entry."""
    flat = rows.reshape(-1, rows.shape[-1])
    result = flat.new_empty(len(entries))
    for block in entries.blocks():
        start = flat.new_zeros(()).expand(len(block.columns)) if bias is None else block.along_channels(bias)
        result[block.entries] = _block_products(block, start, flat, table[block.channels])
    return result


def _numbers(weights: Tensor, dtype: torch.dtype) -> Tensor:
    return as_numbers(weights, dtype) if weights.dtype == torch.bool else weights.to(dtype)


def _of_block(weights: Tensor | Lazy, block: Block) -> Tensor:
    return weights[block.entries] if isinstance(weights, Tensor) else weights(block)


def _block_rows(block: Block, weights: Tensor, tile: Tensor) -> Tensor:
    weights = _numbers(weights, tile.dtype)
    if tile.is_cpu:
        bags = (block.columns, tile, block.pointers[:-1])
        return torch.nn.functional.embedding_bag(*bags, mode="sum", per_sample_weights=weights)
    return _plain_rows(block, weights, tile)


def _block_columns(block: Block, weights: Tensor, flat: Tensor, n_channels: int) -> Tensor:
    weights = _numbers(weights, flat.dtype)
    if flat.is_cpu:
        parts = (weights.numpy(), block.columns.numpy(), block.pointers.numpy())
        return torch.from_numpy(csr_array(parts, shape=(len(flat), n_channels)).T @ flat.numpy())
    return _plain_columns(block, weights, flat, n_channels)


def _block_products(block: Block, start: Tensor, flat: Tensor, tile: Tensor) -> Tensor:
    if not flat.is_cpu:
        return _plain_products(block, start, flat, tile)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        size = (len(flat), len(tile))
        at = torch.sparse_csr_tensor(block.pointers, block.columns, start, size, check_invariants=False)
    result: Tensor = torch.sparse.sampled_addmm(at, flat, tile.t()).values()
    return result


def _block_channels(block: Block, values: Tensor, n_channels: int) -> Tensor:
    if values.is_cpu:
        return torch.bincount(block.columns, values, n_channels)
    # Counting bins would wait for the greatest of the columns.
    return values.new_zeros(n_channels).index_add_(0, block.columns, values)


def _plain_rows(block: Block, weights: Tensor, tile: Tensor) -> Tensor:
    total = tile.new_zeros(len(block.counts), tile.shape[1])
    return total.index_add_(0, block.rows, tile.index_select(0, block.columns) * weights[:, None])


def _plain_columns(block: Block, weights: Tensor, flat: Tensor, n_channels: int) -> Tensor:
    total = flat.new_zeros(n_channels, flat.shape[1])
    return total.index_add_(0, block.columns, flat.index_select(0, block.rows) * weights[:, None])


def _plain_products(block: Block, start: Tensor, flat: Tensor, tile: Tensor) -> Tensor:
    return (flat.index_select(0, block.rows) * tile.index_select(0, block.columns)).sum(-1) + start
