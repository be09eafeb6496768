"""Terms of dense batches on a CPU, block by block, so that what is worked out entry by entry stays in the cache.

Of a batch that the cache does not hold, each of some dozen operations per entry waits for memory, forward and backward. Here
each block of entries is finished before the next, and nothing of the size of the entries is kept: the gradient works out a
block's read-outs again, which takes less time than storing them and reading them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwb_sbtt.batch import Batch

BLOCK = 1 << 17
"""Entries of a block, or those of one bin; measured best of 2¹⁵ to 2¹⁸."""

ReadOut = tuple[Tensor, Tensor, Tensor]
"""Rows (trial, time, width), a table (channel, width) and a bias (channel): ``rows · table + bias``, a number of each entry."""


def in_blocks(batch: Batch) -> bool:
    """Tell whether a batch is worked on block by block: a dense one on a CPU.

    Parameters
    ----------
    batch : Batch
    """
    return batch.entries is None and batch.values.is_cpu


@dataclass(frozen=True)
class Functions:
    """Functions that work entry by entry; `linear` is a tuple of what the read-outs give.

    Parameters
    ----------
    terms : callable
        ``terms(linear, values, exposure, *per_channel)``
    expected : callable, optional
        ``expected(linear, exposure, *per_channel)``, to which the values are compared.
    slopes : callable, optional
        ``slopes(linear, expected, values, by_terms=, by_expected=)``: gradients by `linear`, given those by the two others (or
        None). It may overwrite all but `linear` and `values`. Without it, torch differentiates, which takes twice the time.
    """

    terms: Callable[..., Tensor]
    expected: Callable[..., Tensor] | None = None
    slopes: Callable[..., tuple[Tensor, ...]] | None = None


def sum_terms(
    functions: Functions, read_outs: Sequence[ReadOut], *, per_channel: Sequence[Tensor], batch: Batch
) -> Tensor:
    """Sum the terms of the scored entries, in double precision.

    Parameters
    ----------
    functions : Functions
    read_outs : sequence of (rows, table, bias)
    per_channel : sequence of Float[Tensor, "channel"]
        Further parameters of the terms; none of those in closed form is trained.
    batch : Batch

    Returns
    -------
    Float[Tensor, ""]
        Differentiable by all but the batch.
    """
    inputs = (*_in_order(read_outs), *per_channel)
    return _SumTerms.apply(functions, batch, len(read_outs), *inputs)  # type: ignore[no-any-return, no-untyped-call]


def sum_residuals(
    functions: Functions,
    read_outs: Sequence[ReadOut],
    *,
    per_channel: Sequence[Tensor],
    into: Tensor,
    batch: Batch,
) -> Tensor:
    """Sum the values minus those expected, of the shown entries, by a table.

    Parameters
    ----------
    functions, read_outs, per_channel, batch
        As in `sum_terms`.
    into : Float[Tensor, "channel width"]

    Returns
    -------
    Float[Tensor, "trial time width"]
        Differentiable by all but `per_channel` and the batch.
    """
    inputs = (*_in_order(read_outs), *per_channel)
    return _Compare.apply(functions, False, batch, len(read_outs), into, *inputs)[0]  # type: ignore[no-any-return, no-untyped-call]


def compare(
    functions: Functions,
    read_outs: Sequence[ReadOut],
    *,
    per_channel: Sequence[Tensor],
    into: Tensor,
    batch: Batch,
) -> tuple[Tensor, Tensor]:
    """Return `sum_residuals` and `sum_terms` of the same read-outs, which are worked out once for both.

    Parameters
    ----------
    functions, read_outs, per_channel, into, batch
        As there.
    """
    inputs = (*_in_order(read_outs), *per_channel)
    sums, total = _Compare.apply(functions, True, batch, len(read_outs), into, *inputs)  # type: ignore[no-untyped-call]
    return sums, total


@dataclass(frozen=True)
class _Block:
    """Some rows (trial · time), and what the batch holds of their entries (row, channel).

    Read-outs and marks are written into memory that all blocks share: new memory for each would drive the rest out of the
    cache. So a block's end with the next block's, and its marks with the next `marks`.
    """

    rows: slice
    values: Tensor
    exposure: Tensor | None
    shown: Tensor
    scored: Tensor
    memory: Sequence[Tensor]

    def linear(self, rows: Sequence[Tensor], tables: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the read-outs give."""
        each = zip(rows, tables, biases, self.memory[1:], strict=True)
        return tuple(torch.addmm(bias, row[self.rows], table.t(), out=out) for row, table, bias, out in each)

    def marks(self, marked: Tensor) -> Tensor:
        """1 where an entry is marked, else 0 (by way of bytes, as in `as_numbers`).

        Everything is finite, so that a product with it leaves no trace of the others; a choice between random entries takes ten
        times as long.
        """
        return self.memory[0].copy_(marked.view(torch.uint8))


class _SumTerms(torch.autograd.Function):
    """Each block's gradients are taken with its terms. Inputs: n rows, n tables, n biases, and tensors of the channels."""

    @staticmethod
    def forward(ctx: Any, functions: Functions, batch: Batch, n: int, *inputs: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[3:]
        rows, tables, biases, per_channel = _parted(inputs, n)
        slopes, per_channel = _zeros(inputs, wanted), _leaves(per_channel, wanted[3 * n :])
        total = torch.zeros((), dtype=torch.float64)
        for block in _blocks(batch, n):
            linear, scored = block.linear(rows, tables, biases), block.marks(block.scored)
            if any(wanted) and functions.slopes is None:
                (terms,), by = _differentiated(functions, linear, block, per_channel=per_channel, by_terms=scored)
                _add_slopes(slopes, block, rows, tables, by)
            else:
                terms = functions.terms(linear, block.values, block.exposure, *per_channel)
            total += torch.dot(terms.detach().reshape(-1), scored.view(-1))
            if any(wanted) and functions.slopes is not None and functions.expected is not None:
                expected = functions.expected(linear, block.exposure, *per_channel)
                _add_slopes(
                    slopes, block, rows, tables, functions.slopes(linear, expected, block.values, by_terms=scored)
                )
        ctx.slopes = slopes
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(None if slope is None else slope * grad.to(slope.dtype) for slope in ctx.slopes)


class _Compare(torch.autograd.Function):
    """Sums of the residuals by a table, and the total of the terms, if it is wanted; the gradient reads out again.

    Inputs after the table: n rows, n tables, n biases, and tensors of the channels.
    """

    @staticmethod
    def forward(
        ctx: Any, functions: Functions, scoring: bool, batch: Batch, n: int, into: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(into, *inputs)
        ctx.known = functions, batch, n
        ctx.set_materialize_grads(False)
        assert functions.expected is not None
        rows, tables, biases, per_channel = _parted(inputs, n)
        total = torch.zeros((), dtype=torch.float64) if scoring else None
        sums = into.new_empty(len(rows[0]), into.shape[1])
        for block in _blocks(batch, n):
            linear = block.linear(rows, tables, biases)
            if total is not None:
                terms = functions.terms(linear, block.values, block.exposure, *per_channel)
                total += torch.dot(terms.reshape(-1), block.marks(block.scored).view(-1))
            expected = functions.expected(linear, block.exposure, *per_channel)
            torch.mm((block.values - expected).mul_(block.marks(block.shown)), into, out=sums[block.rows])
        return sums.view(*inputs[0].shape[:2], -1), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_sums: Tensor | None, by_total: Tensor | None) -> tuple[Tensor | None, ...]:
        (into, *inputs), (functions, batch, n) = ctx.saved_tensors, ctx.known
        wanted = ctx.needs_input_grad[5:]
        rows, tables, biases, per_channel = _parted(inputs, n)
        slopes, per_channel = _zeros(inputs, wanted), _leaves(per_channel, wanted[3 * n :])
        by_into = torch.zeros_like(into)
        flat_by_sums = None if by_sums is None else by_sums.reshape(-1, into.shape[1])
        negated, by_expected, by_terms = into.t().neg(), None, None
        for block in _blocks(batch, n):
            linear = block.linear(rows, tables, biases)
            expected = functions.expected(linear, block.exposure, *per_channel)
            if flat_by_sums is not None:
                shown, by_rows = block.marks(block.shown), flat_by_sums[block.rows]
                by_into.addmm_((block.values - expected).mul_(shown).t(), by_rows)
                by_expected = torch.mm(by_rows, negated).mul_(shown)
            if by_total is not None:
                by_terms = block.marks(block.scored).mul_(by_total)
            if functions.slopes is None:
                _, by = _differentiated(
                    functions, linear, block, per_channel=per_channel, by_terms=by_terms, by_expected=by_expected
                )
            else:
                by = functions.slopes(linear, expected, block.values, by_terms=by_terms, by_expected=by_expected)
            _add_slopes(slopes, block, rows, tables, by)
        return None, None, None, None, by_into, *slopes


def _differentiated(
    functions: Functions,
    linear: Sequence[Tensor],
    block: _Block,
    *,
    per_channel: Sequence[Tensor],
    by_terms: Tensor | None = None,
    by_expected: Tensor | None = None,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Terms and expected values where gradients by them are given, and the gradients by read-outs and trained channel tensors.

    No gradient of the expected values reaches the channel tensors.
    """
    leaves, outputs = tuple(x.requires_grad_() for x in linear), list[Tensor]()
    with torch.enable_grad():
        if by_terms is not None:
            outputs.append(functions.terms(leaves, block.values, block.exposure, *per_channel))
        if by_expected is not None and functions.expected is not None:
            outputs.append(functions.expected(leaves, block.exposure, *(x.detach() for x in per_channel)))
    weights = [by for by in (by_terms, by_expected) if by is not None]
    wanted = [*leaves, *(x for x in per_channel if x.requires_grad)]
    return outputs, torch.autograd.grad(outputs, wanted, weights, materialize_grads=True)


def _in_order(read_outs: Sequence[ReadOut]) -> tuple[Tensor, ...]:
    return tuple(tensor for tensors in zip(*read_outs, strict=True) for tensor in tensors)


def _parted(
    inputs: Sequence[Tensor], n: int
) -> tuple[list[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Rows (row, width), tables, biases, and tensors of the channels."""
    rows = [x.reshape(-1, x.shape[-1]) for x in inputs[:n]]
    return rows, inputs[n : 2 * n], inputs[2 * n : 3 * n], inputs[3 * n :]


def _leaves(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    return [x.detach().requires_grad_(w) for x, w in zip(tensors, wanted, strict=True)]


def _zeros(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    return [x.new_zeros(x.shape) if w else None for x, w in zip(tensors, wanted, strict=True)]


def _blocks(batch: Batch, n: int) -> Iterator[_Block]:
    """Cut a batch into blocks, with memory for marks and n read-outs."""
    n_channels = batch.shape[2]
    values, shown, scored = (x.reshape(-1, n_channels) for x in (batch.values, batch.shown, batch.scored))
    exposure = None if batch.exposure is None else batch.exposure.reshape(-1, n_channels)
    step = max(BLOCK // n_channels, 1)
    memory = [values.new_empty(min(step, len(values)), n_channels) for _ in range(n + 1)]
    for first in range(0, len(values), step):
        rows = slice(first, first + step)
        free = [each[: len(values) - first] for each in memory]
        yield _Block(rows, values[rows], None if exposure is None else exposure[rows], shown[rows], scored[rows], free)


def _add_slopes(
    slopes: list[Tensor | None], block: _Block, rows: Sequence[Tensor], tables: Sequence[Tensor], by: Sequence[Tensor]
) -> None:
    """Add a block's gradients by rows, tables, biases and tensors of the channels, in this order; None is not wanted.

    `by` holds those by the read-outs, and by the tensors of the channels that are wanted.
    """
    n = len(tables)
    for i, (slope, each, table) in enumerate(zip(by[:n], rows, tables, strict=True)):
        by_rows, by_table, by_bias = slopes[i], slopes[n + i], slopes[2 * n + i]
        if by_rows is not None:
            torch.mm(slope, table, out=by_rows.view(-1, table.shape[1])[block.rows])
        if by_table is not None:
            by_table.addmm_(slope.t(), each[block.rows])
        if by_bias is not None:
            by_bias += slope.sum(0)
    for total, slope in zip((x for x in slopes[3 * n :] if x is not None), by[n:], strict=True):
        total += slope
