"""Terms of dense batches on a CPU, block by block, so that what is worked out entry by entry stays in the cache.

Of a batch that the cache does not hold, each of some dozen operations per entry waits for memory, forward and backward. Here
each block of entries is finished before the next. Of small batches a pass keeps the read-outs for its gradient, which of large
ones works them out again: then nothing of the size of the entries is kept.
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

KEPT = 1 << 22
"""Entries of a batch up to which read-outs are kept for the gradient: 16 MiB of each layer."""

ReadOut = tuple[Tensor, Tensor, Tensor]
"""Rows (trial, time, width), a table (channel, width) and a bias (channel): ``rows · table + bias``, a number of each entry."""


def in_blocks(batch: Batch) -> bool:
    """Tell whether a batch is worked on block by block: a dense one on a CPU.

    Parameters
    ----------
    batch : Batch
    """
    return batch.entries is None and batch.values.is_cpu


Gradients = tuple[Tensor | None, ...]
"""Gradients by what the read-outs give and by the tensors of the channels, in this order; None where it is not trained."""


@dataclass(frozen=True)
class Functions:
    """Functions that work entry by entry; `linear` is a tuple of what the read-outs give.

    Those without which torch differentiates, in twice the time, are never differentiated themselves, and may overwrite all but
    `linear`, `values` and the tensors of the channels.

    Parameters
    ----------
    terms : callable
        ``terms(linear, values, exposure, *per_channel)``
    expected : callable, optional
        ``expected(linear, exposure, *per_channel)``, to which the values are compared.
    both : callable, optional
        ``both(linear, values, exposure, *per_channel)``: terms and expected values, of one exponential.
    gradients : callable, optional
        ``gradients(linear, expected, residuals, *per_channel, by_terms=, by_expected=)``: `Gradients`, given those by terms and
        by expected values (or None); residuals are the values minus those expected. No gradient of the expected values reaches
        the tensors of the channels.
    differentiated : callable, optional
        ``differentiated(linear, values, exposure, *per_channel, by_terms=)``: terms and `Gradients`, in place of the last two
        where nothing is expected.
    """

    terms: Callable[..., Tensor]
    expected: Callable[..., Tensor] | None = None
    both: Callable[..., tuple[Tensor, Tensor]] | None = None
    gradients: Callable[..., Gradients] | None = None
    differentiated: Callable[..., tuple[Tensor, Gradients]] | None = None


def sum_terms(
    functions: Functions, read_outs: Sequence[ReadOut], *, per_channel: Sequence[Tensor], batch: Batch
) -> Tensor:
    """Sum the terms of the scored entries, in double precision.

    Parameters
    ----------
    functions : Functions
    read_outs : sequence of (rows, table, bias)
    per_channel : sequence of Float[Tensor, "channel"]
        Further parameters of the terms.
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
    return _Compare.apply(functions, False, _keeps(batch), batch, len(read_outs), into, *inputs)[0]  # type: ignore[no-any-return, no-untyped-call]


def sum_shown(
    scores: Callable[..., Tensor],
    batch: Batch,
    *,
    per_channel: Sequence[Tensor],
    into: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Sum scores of the shown entries by one table, and the shown entries themselves by another.

    Parameters
    ----------
    scores : callable
        ``scores(values, exposure, *per_channel)``, which works entry by entry.
    batch : Batch
    per_channel : sequence of Float[Tensor, "channel"]
    into : tuple of two Float[Tensor, "channel width"]

    Returns
    -------
    tuple of two Float[Tensor, "trial time width"]
        Differentiable by `into`.
    """
    sums, which = _SumShown.apply(scores, batch, per_channel, *into)  # type: ignore[no-untyped-call]
    return sums, which


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
    sums, total = _Compare.apply(functions, True, _keeps(batch), batch, len(read_outs), into, *inputs)  # type: ignore[no-untyped-call]
    return sums, total


@dataclass(frozen=True)
class _Block:
    """Some rows (trial · time), and what the batch holds of their entries (row, channel).

    Marks and what is written to `free` lie in memory that all blocks share: new memory for each would drive the rest out of the
    cache. So a block's end with the next block's, and its marks with the next `marks`; so do read-outs that are not kept.
    """

    number: int
    values: Tensor
    exposure: Tensor | None
    shown: Tensor
    scored: Tensor
    marked: Tensor
    outputs: tuple[Tensor, ...]
    free: Sequence[Tensor]

    def linear(
        self, rows: Sequence[Sequence[Tensor]], tables: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """What the read-outs give."""
        for row, table, bias, out in zip(rows, tables, biases, self.outputs, strict=True):
            torch.addmm(bias, row[self.number], table.t(), out=out)
        return self.outputs

    def marks(self, marked: Tensor) -> Tensor:
        """1 where an entry is marked, else 0.

        Everything is finite, so that a product with it leaves no trace of the others; a choice between random entries takes ten
        times as long.
        """
        return self.marked.copy_(marked)


class _SumShown(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scores: Callable[..., Tensor],
        batch: Batch,
        per_channel: Sequence[Tensor],
        table: Tensor,
        of_marks: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.known = scores, batch, per_channel
        ctx.sizes = table.shape, of_marks.shape
        n_rows = batch.shape[0] * batch.shape[1]
        sums, which = table.new_empty(n_rows, table.shape[1]), of_marks.new_empty(n_rows, of_marks.shape[1])
        for block, of_sums, of_which in zip(_blocks(batch), _split(sums, batch), _split(which, batch), strict=True):
            shown = block.marks(block.shown)
            weights = scores(block.values, block.exposure, *per_channel).mul_(shown)
            torch.mm(weights, table, out=of_sums)
            torch.mm(shown, of_marks, out=of_which)
        return sums.view(*batch.shape[:2], -1), which.view(*batch.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_sums: Tensor, by_which: Tensor) -> tuple[Tensor | None, ...]:
        scores, batch, per_channel = ctx.known
        by_table, by_marks = (by_sums.new_zeros(size) for size in ctx.sizes)
        for block, of_sums, of_which in zip(
            _blocks(batch), _split(by_sums, batch), _split(by_which, batch), strict=True
        ):
            shown = block.marks(block.shown)
            weights = scores(block.values, block.exposure, *per_channel).mul_(shown)
            by_table.addmm_(weights.t(), of_sums)
            by_marks.addmm_(shown.t(), of_which)
        return None, None, None, by_table, by_marks


class _SumTerms(torch.autograd.Function):
    """Each block's gradients are taken with its terms. Inputs: n rows, n tables, n biases, and tensors of the channels."""

    @staticmethod
    def forward(ctx: Any, functions: Functions, batch: Batch, n: int, *inputs: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[3:]
        rows, tables, biases, per_channel = _parted(inputs, n, batch)
        slopes, per_channel = _zeros(inputs, wanted), _leaves(per_channel, wanted[3 * n :])
        by_rows = _by_rows(slopes, n, batch)
        total = torch.zeros((), dtype=torch.float64)
        for block in _blocks(batch, _shared(batch, n)):
            linear, scored = block.linear(rows, tables, biases), block.marks(block.scored)
            if any(wanted):
                terms, by = _differentiate(functions, linear, block, per_channel, by_terms=scored)
                _add_slopes(slopes, by_rows, block, rows, tables, by)
            else:
                terms = functions.terms(linear, block.values, block.exposure, *per_channel)
            total += torch.dot(terms.reshape(-1), scored.view(-1))
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
        ctx: Any, functions: Functions, scoring: bool, keep: bool, batch: Batch, n: int, into: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(into, *inputs)
        ctx.known = functions, batch, n
        ctx.set_materialize_grads(False)
        assert functions.expected is not None
        rows, tables, biases, per_channel = _parted(inputs, n, batch)
        total = torch.zeros((), dtype=torch.float64) if scoring else None
        sums = into.new_empty(batch.shape[0] * batch.shape[1], into.shape[1])
        ctx.kept = _kept(batch, n) if keep else None
        for block, of_sums in zip(_blocks(batch, ctx.kept or _shared(batch, n)), _split(sums, batch), strict=True):
            linear = block.linear(rows, tables, biases)
            if total is None:
                expected = functions.expected(linear, block.exposure, *per_channel)
            else:
                terms, expected = _work_out(functions, linear, block, per_channel)
                total += torch.dot(terms.reshape(-1), block.marks(block.scored).view(-1))
            residuals = torch.sub(block.values, expected, out=block.free[0]).mul_(block.marks(block.shown))
            torch.mm(residuals, into, out=of_sums)
        return sums.view(*inputs[0].shape[:2], -1), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_sums: Tensor | None, by_total: Tensor | None) -> tuple[Tensor | None, ...]:
        (into, *inputs), (functions, batch, n) = ctx.saved_tensors, ctx.known
        wanted = ctx.needs_input_grad[6:]
        rows, tables, biases, per_channel = _parted(inputs, n, batch)
        slopes, per_channel = _zeros(inputs, wanted), _leaves(per_channel, wanted[3 * n :])
        by_into = torch.zeros_like(into)
        of_sums = None if by_sums is None else _split(by_sums, batch)
        negated, by_expected, by_terms = into.t().neg(), None, None
        by_rows = _by_rows(slopes, n, batch)
        for block in _blocks(batch, ctx.kept or _shared(batch, n)):
            linear = block.outputs if ctx.kept else block.linear(rows, tables, biases)
            expected = functions.expected(linear, block.exposure, *per_channel)
            residuals = torch.sub(block.values, expected, out=block.free[0])
            if of_sums is not None:
                shown, by_block = block.marks(block.shown), of_sums[block.number]
                by_into.addmm_(torch.mul(residuals, shown, out=block.free[1]).t(), by_block)
                by_expected = torch.mm(by_block, negated, out=block.free[1]).mul_(shown)
            if by_total is not None:
                by_terms = block.marks(block.scored).mul_(by_total)
            if functions.gradients is None:
                _, by = _differentiated(
                    functions, linear, block, per_channel=per_channel, by_terms=by_terms, by_expected=by_expected
                )
            else:
                by = functions.gradients(
                    linear, expected, residuals, *per_channel, by_terms=by_terms, by_expected=by_expected
                )
            _add_slopes(slopes, by_rows, block, rows, tables, by)
        return None, None, None, None, None, by_into, *slopes


def _work_out(
    functions: Functions, linear: tuple[Tensor, ...], block: _Block, per_channel: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Terms and expected values of a block."""
    if functions.both is not None:
        return functions.both(linear, block.values, block.exposure, *per_channel)
    assert functions.expected is not None
    terms = functions.terms(linear, block.values, block.exposure, *per_channel)
    return terms, functions.expected(linear, block.exposure, *per_channel)


def _differentiate(
    functions: Functions, linear: tuple[Tensor, ...], block: _Block, per_channel: Sequence[Tensor], *, by_terms: Tensor
) -> tuple[Tensor, Gradients]:
    """Terms of a block and their gradients."""
    if functions.differentiated is not None:
        return functions.differentiated(linear, block.values, block.exposure, *per_channel, by_terms=by_terms)
    if functions.gradients is None:
        (terms,), by = _differentiated(functions, linear, block, per_channel=per_channel, by_terms=by_terms)
        return terms.detach(), by
    terms, expected = _work_out(functions, linear, block, per_channel)
    residuals = torch.sub(block.values, expected, out=block.free[0])
    return terms, functions.gradients(linear, expected, residuals, *per_channel, by_terms=by_terms)


def _differentiated(
    functions: Functions,
    linear: Sequence[Tensor],
    block: _Block,
    *,
    per_channel: Sequence[Tensor],
    by_terms: Tensor | None = None,
    by_expected: Tensor | None = None,
) -> tuple[list[Tensor], Gradients]:
    """Terms and expected values where gradients by them are given, and the gradients, by way of torch.

    No gradient of the expected values reaches the channel tensors.
    """
    leaves, outputs = tuple(x.detach().requires_grad_() for x in linear), list[Tensor]()
    with torch.enable_grad():
        if by_terms is not None:
            outputs.append(functions.terms(leaves, block.values, block.exposure, *per_channel))
        if by_expected is not None and functions.expected is not None:
            outputs.append(functions.expected(leaves, block.exposure, *(x.detach() for x in per_channel)))
    weights = [by for by in (by_terms, by_expected) if by is not None]
    wanted = [*leaves, *(x for x in per_channel if x.requires_grad)]
    found = iter(torch.autograd.grad(outputs, wanted, weights, materialize_grads=True))
    return outputs, tuple(next(found) if x.requires_grad else None for x in (*leaves, *per_channel))


def _in_order(read_outs: Sequence[ReadOut]) -> tuple[Tensor, ...]:
    return tuple(tensor for tensors in zip(*read_outs, strict=True) for tensor in tensors)


def _parted(
    inputs: Sequence[Tensor], n: int, batch: Batch
) -> tuple[list[Sequence[Tensor]], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Rows (row, width) of each block, tables, biases, and tensors of the channels."""
    return [_split(x, batch) for x in inputs[:n]], inputs[n : 2 * n], inputs[2 * n : 3 * n], inputs[3 * n :]


def _step(batch: Batch) -> int:
    """Rows of a block."""
    return max(BLOCK // batch.shape[2], 1)


def _split(x: Tensor, batch: Batch) -> Sequence[Tensor]:
    """The rows (trial · time) of each block; a view where the tensor is contiguous."""
    return torch.split(x.reshape(-1, x.shape[-1]), _step(batch))


def _keeps(batch: Batch) -> bool:
    return torch.is_grad_enabled() and batch.values.numel() <= KEPT


def _kept(batch: Batch, n: int) -> list[Sequence[Tensor]]:
    """Memory of n read-outs of each block."""
    return [_split(torch.empty_like(batch.values, memory_format=torch.contiguous_format), batch) for _ in range(n)]


def _shared(batch: Batch, n: int) -> list[Sequence[Tensor]]:
    """Memory of n tensors that all blocks share."""
    n_rows, step = batch.shape[0] * batch.shape[1], _step(batch)
    whole, rest = divmod(n_rows, step)
    memory = [batch.values.new_empty(min(step, n_rows), batch.shape[2]) for _ in range(n)]
    return [[each] * whole + ([each[:rest]] if rest else []) for each in memory]


def _by_rows(slopes: Sequence[Tensor | None], n: int, batch: Batch) -> list[Sequence[Tensor] | None]:
    """Gradients by the rows of each read-out, as those of each block."""
    return [None if slope is None else _split(slope, batch) for slope in slopes[:n]]


def _leaves(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    return [x.detach().requires_grad_(w) for x, w in zip(tensors, wanted, strict=True)]


def _zeros(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    return [x.new_zeros(x.shape) if w else None for x, w in zip(tensors, wanted, strict=True)]


def _blocks(batch: Batch, outputs: Sequence[Sequence[Tensor]] = ()) -> Iterator[_Block]:
    """Cut a batch into blocks, with memory for the read-outs of each."""
    # A product with bytes would first make numbers of them; `marks` does so in place.
    shown, scored = (_split(marked.contiguous().view(torch.uint8), batch) for marked in (batch.shown, batch.scored))
    values = _split(batch.values, batch)
    exposure = [None] * len(values) if batch.exposure is None else _split(batch.exposure, batch)
    marked, *free = _shared(batch, 3)
    for i, parts in enumerate(zip(values, exposure, shown, scored, marked, strict=True)):
        yield _Block(i, *parts, outputs=tuple(each[i] for each in outputs), free=[each[i] for each in free])


def _add_slopes(
    slopes: list[Tensor | None],
    by_rows: Sequence[Sequence[Tensor] | None],
    block: _Block,
    rows: Sequence[Sequence[Tensor]],
    tables: Sequence[Tensor],
    by: Gradients,
) -> None:
    """Add a block's gradients by rows, tables, biases and tensors of the channels, in this order; None is not wanted."""
    n = len(tables)
    for i, (slope, each, table) in enumerate(zip(by[:n], rows, tables, strict=True)):
        of_rows, by_table, by_bias = by_rows[i], slopes[n + i], slopes[2 * n + i]
        if slope is None:
            continue
        if of_rows is not None:
            torch.mm(slope, table, out=of_rows[block.number])
        if by_table is not None:
            by_table.addmm_(slope.t(), each[block.number])
        if by_bias is not None:
            by_bias += slope.sum(0)
    for total, slope in zip(slopes[3 * n :], by[n:], strict=True):
        if total is not None and slope is not None:
            total += slope
