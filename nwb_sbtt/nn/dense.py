"""Terms of large dense batches, a few trials at a time, so that what is worked out entry by entry stays in the cache.

Of a batch that the cache does not hold, each of some dozen operations per entry waits for memory, forward and backward. Here
terms and gradients of a block are worked out together, and nothing of the size of the entries is kept. Sums come in another
order than those of the whole, so they differ by rounding; smaller batches (`is_large`) are left to torch as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwb_sbtt.batch import Batch

SMALL = 1 << 18
"""Entries up to which a batch is worked on as a whole: a few of its tensors fit into the cache of a core."""
BLOCK = 1 << 17
"""Entries of a block, or those of one trial; measured best of 2¹⁵ to 2¹⁷."""


def is_large(batch: Batch) -> bool:
    """Tell whether gradients are taken of a dense batch on a CPU that is too large for its cache.

    Parameters
    ----------
    batch : Batch
    """
    return batch.entries is None and batch.values.is_cpu and batch.values.numel() > SMALL and torch.is_grad_enabled()


def sum_terms(
    terms: Callable[..., Tensor],
    factors: Tensor,
    *,
    read_outs: Sequence[tuple[Tensor, Tensor]],
    per_channel: Sequence[Tensor],
    batch: Batch,
) -> Tensor:
    """Sum terms over the scored entries, as `nwb_sbtt.nn.entries.sum_terms` does.

    Parameters
    ----------
    terms, factors, read_outs, per_channel, batch
        As there.
    """
    tables, biases = zip(*read_outs, strict=True)
    return _SumTerms.apply(terms, batch, len(read_outs), factors, *tables, *biases, *per_channel)  # type: ignore[no-any-return, no-untyped-call]


def gather_terms(
    terms: Callable[..., Tensor],
    factors: Tensor,
    *,
    read_outs: Sequence[tuple[Tensor, Tensor]],
    per_channel: Sequence[Tensor],
    into: Tensor,
    batch: Batch,
) -> Tensor:
    """Sum terms of the shown entries by a table, as `nwb_sbtt.nn.entries.gather_terms` does.

    Parameters
    ----------
    terms, factors, read_outs, per_channel, into, batch
        As there.
    """
    fixed = tuple(values.detach() for values in per_channel)
    tables, biases = zip(*read_outs, strict=True)
    return _GatherTerms.apply(terms, batch, fixed, factors, into, *tables, *biases)  # type: ignore[no-any-return, no-untyped-call]


class _SumTerms(torch.autograd.Function):
    """Each block's gradients are taken with its terms. Inputs: factors, n tables, n biases, tensors of the channels."""

    @staticmethod
    def forward(ctx: Any, terms: Callable[..., Tensor], batch: Batch, n: int, *inputs: Tensor) -> Tensor:
        factors, tables, biases = inputs[0], inputs[1 : 1 + n], inputs[1 + n : 1 + 2 * n]
        per_channel = [values.detach().requires_grad_(values.requires_grad) for values in inputs[1 + 2 * n :]]
        flat = factors.reshape(-1, factors.shape[-1])
        total = torch.zeros((), dtype=torch.float64)
        shapes = [flat.shape, *(tensor.shape for tensor in inputs[1:])]
        slopes = [
            tensor.new_zeros(shape) if tensor.requires_grad else None
            for tensor, shape in zip(inputs, shapes, strict=True)
        ]
        trained = [values for values in per_channel if values.requires_grad]
        for rows, values, exposure, scored in _blocks(batch, batch.scored):
            linear = _linear(flat[rows], tables, biases, grad=True)
            with torch.enable_grad():
                result = terms(linear, values, exposure, *per_channel)
            total += torch.dot(result.detach().view(-1), scored.view(-1))
            by = torch.autograd.grad(result, [*linear, *trained], scored)
            _add_slopes(slopes, rows, flat, tables, by[:n])
            rest = iter(by[n:])
            for slope in slopes[1 + 2 * n :]:
                if slope is not None:
                    slope += next(rest)
        ctx.shape, ctx.slopes = factors.shape, slopes
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_factors, *rest = (None if slope is None else slope * grad.to(slope.dtype) for slope in ctx.slopes)
        return (None,) * 3 + (None if by_factors is None else by_factors.view(ctx.shape), *rest)


class _GatherTerms(torch.autograd.Function):
    """The gradient works out each block's terms again. Inputs: factors, the table to sum by, tables and biases."""

    @staticmethod
    def forward(
        ctx: Any, terms: Callable[..., Tensor], batch: Batch, fixed: tuple[Tensor, ...], *inputs: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.known = terms, batch, fixed
        factors, into, *rest = inputs
        tables, biases = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        flat = factors.reshape(-1, factors.shape[-1])
        total = into.new_empty(len(flat), into.shape[1])
        for rows, values, exposure, shown in _blocks(batch, batch.shown):
            result = terms(_linear(flat[rows], tables, biases, grad=False), values, exposure, *fixed)
            torch.mm(result.mul_(shown), into, out=total[rows])
        return total.view(*factors.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (factors, into, *rest), (terms, batch, fixed) = ctx.saved_tensors, ctx.known
        n = len(rest) // 2
        tables, biases = rest[:n], rest[n:]
        flat, by_total = factors.reshape(-1, factors.shape[-1]), grad.reshape(-1, grad.shape[-1])
        slopes: list[Tensor | None] = [tensor.new_zeros(tensor.shape) for tensor in (flat, *rest)]
        by_into = torch.zeros_like(into)
        for rows, values, exposure, shown in _blocks(batch, batch.shown):
            linear = _linear(flat[rows], tables, biases, grad=True)
            with torch.enable_grad():
                result = terms(linear, values, exposure, *fixed)
            by_result = torch.mm(by_total[rows], into.t()).mul_(shown)
            _add_slopes(slopes, rows, flat, tables, torch.autograd.grad(result, linear, by_result))
            by_into.addmm_(result.detach().mul_(shown).t(), by_total[rows])
        by_factors, *by_read_outs = slopes
        assert by_factors is not None
        return None, None, None, by_factors.view(factors.shape), by_into, *by_read_outs


def _blocks(batch: Batch, marked: Tensor) -> Iterator[tuple[slice, Tensor, Tensor | None, Tensor]]:
    """Rows (trial · time) of each block, with the values, exposure and marks (1 or 0) of its entries (row, channel).

    All values are finite, so a product with the marks leaves no trace of the others. A choice between random entries takes ten
    times as long as a product.
    """
    n_channels = batch.shape[2]
    values, marked = batch.values.reshape(-1, n_channels), marked.reshape(-1, n_channels)
    exposure = None if batch.exposure is None else batch.exposure.reshape(-1, n_channels)
    step = max(BLOCK // n_channels, 1)
    for first in range(0, len(values), step):
        rows = slice(first, first + step)
        yield rows, values[rows], None if exposure is None else exposure[rows], marked[rows].to(values.dtype)


def _linear(rows: Tensor, tables: Any, biases: Any, *, grad: bool) -> tuple[Tensor, ...]:
    return tuple(
        torch.addmm(bias.detach(), rows.detach(), table.detach().t()).requires_grad_(grad)
        for table, bias in zip(tables, biases, strict=True)
    )


def _add_slopes(slopes: list[Tensor | None], rows: slice, flat: Tensor, tables: Any, by_linear: Any) -> None:
    """Add a block's gradients by factors, tables and biases, which lie in this order; None where they are not wanted."""
    n = len(by_linear)
    by_factors = slopes[0]
    for i, (slope, table) in enumerate(zip(by_linear, tables, strict=True)):
        by_table, by_bias = slopes[1 + i], slopes[1 + n + i]
        if by_factors is not None:
            by_factors[rows].addmm_(slope, table)
        if by_table is not None:
            by_table.addmm_(slope.t(), flat[rows])
        if by_bias is not None:
            # A product: sums over a strided axis take a hundred times as long.
            by_bias.addmv_(slope.t(), slope.new_ones(()).expand(len(slope)))
