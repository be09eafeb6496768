import math
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwb_sbtt import batch as batch_module
from nwb_sbtt.batch import to_sparse
from nwb_sbtt.nn import entries
from tests.support.batches import make_masked_batch

examples = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 100)
missing = st.sampled_from([0.2, 0.9, 1.0])
tiles = st.sampled_from([2, 7, 4096])


@pytest.fixture
def listed(monkeypatch):
    """A function that makes a small sparse batch and its dense form, in blocks of so many channels."""

    def make(missing, seed, width):
        monkeypatch.setattr(batch_module, "TILE", width)
        monkeypatch.setattr(batch_module, "ENTRIES_PER_ROW", 0)
        batch = make_masked_batch(missing=missing, seed=seed)
        return to_sparse(batch), batch

    return make


def draws(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def at_entries(box, batch, listed):
    """What a box holds at the entries of a sparse batch, in their order."""
    places = listed.dense(torch.arange(1, len(listed.values) + 1)).flatten()
    order = torch.argsort(places[places > 0])
    return box[batch.observed][order]


@examples
@given(missing, seeds, tiles)
def test_products_equal_those_of_the_box(listed, missing, seed, width):
    sparse, dense = listed(missing, seed, width)
    factors, table, bias, box = draws(seed, (6, 9, 3), (20, 3), (20,), (6, 9, 20))
    weights = at_entries(box.detach(), dense, sparse)
    sums = entries.gather_sum(weights, table, batch=sparse)
    torch.testing.assert_close(sums, torch.where(dense.observed, box, 0.0) @ table)
    found = entries.dot(factors, table, bias=bias, batch=sparse)
    torch.testing.assert_close(found, at_entries(factors @ table.T + bias, dense, sparse))
    spread = entries.along_channels(bias, batch=sparse)
    torch.testing.assert_close(spread, at_entries(bias.expand(6, 9, 20), dense, sparse))
    share = entries.marked_share(sparse.shown, batch=sparse)
    torch.testing.assert_close(share, entries.marked_share(dense.shown, batch=dense))


@examples
@given(st.sampled_from([0.8, 1.0]), seeds, tiles)
def test_gradients_equal_differences(listed, missing, seed, width):
    sparse, _ = listed(missing, seed, width)
    factors, table, bias, weights = draws(seed, (6, 9, 2), (20, 2), (20,), (len(sparse.values),))
    check = partial(torch.autograd.gradcheck, fast_mode=True)
    assert check(lambda w, t: entries.gather_sum(w, t, batch=sparse), (weights, table))
    assert check(lambda f, t, b: entries.dot(f, t, bias=b, batch=sparse), (factors, table, bias))
    assert check(lambda b: entries.along_channels(b, batch=sparse), (bias,))


@examples
@given(missing, seeds, tiles, st.integers(1, 3))
def test_sums_of_terms_are_those_of_the_terms_one_by_one(listed, missing, seed, width, n):
    sparse, _ = listed(missing, seed, width)
    factors, noise, *rest = draws(seed, (6, 9, 2), (20,), *[(20, 2), (20,)] * n)
    read_outs = tuple(zip(rest[::2], rest[1::2], strict=True))
    fixed = torch.rand(20, dtype=torch.float64)

    def terms(linear, values, exposure, noise, fixed):
        return (linear[0] - values) ** 2 * noise.exp() + math.prod(linear) * fixed

    linear = [entries.dot(factors, table, bias=bias, batch=sparse) for table, bias in read_outs]
    each = terms(linear, sparse.values, None, entries.along_channels(noise, batch=sparse), sparse.along_channels(fixed))
    expected = each[sparse.scored].sum()
    total = entries.sum_terms(terms, factors, read_outs=read_outs, per_channel=(fixed, noise)[::-1], batch=sparse)
    torch.testing.assert_close(total, expected)
    inputs = (factors, noise, *rest)
    if total.requires_grad and len(sparse.values):
        one, other = (torch.autograd.grad(3 * each, inputs) for each in (total, expected))
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)


@examples
@given(missing, seeds, tiles)
def test_kernels_for_other_devices_say_the_same(listed, missing, seed, width):
    """The branch taken off the CPU, run on it."""
    sparse, _ = listed(missing, seed, width)
    for block in sparse.entries.blocks():
        flat, tile = (each.detach() for each in draws(seed, (54, 3), (block.channels.stop - block.channels.start, 3)))
        weights = sparse.values[block.entries].double() + 0.5
        for given_, plain in (
            (entries._block_rows(block, weights, tile), entries._plain_rows(block, weights, tile)),
            (
                entries._block_columns(block, weights, flat, len(tile)),
                entries._plain_columns(block, weights, flat, len(tile)),
            ),
            (
                entries._block_products(block, weights, flat, tile),
                entries._plain_products(block, weights, flat, tile),
            ),
        ):
            torch.testing.assert_close(given_, plain)


def test_what_feeds_back_residuals_is_the_slope_of_the_likelihood(listed):
    """`gather_sum` of count − rate with the read-out's weights is minus the gradient of the terms by the factors."""
    sparse, _ = listed(0.5, 0, 7)
    factors, table, bias = draws(0, (6, 9, 2), (20, 2), (20,))
    log_rate = entries.dot(factors, table, bias=bias, batch=sparse)
    values = sparse.values.double()
    (slope,) = torch.autograd.grad((log_rate.exp() - values * log_rate).sum(), factors, retain_graph=True)
    residual = (values - log_rate.exp()).detach()
    torch.testing.assert_close(entries.gather_sum(residual, table, batch=sparse), -slope)
    (by_residual,) = torch.autograd.grad(entries.gather_sum(values - log_rate.exp(), table, batch=sparse).sum(), bias)
    assert by_residual.any()


@examples
@given(missing, seeds, tiles, st.integers(1, 3))
def test_feedback_block_by_block_is_the_sum_of_terms_made_at_once(listed, missing, seed, width, n):
    sparse, _ = listed(missing, seed, width)
    factors, into, weights, *rest = draws(seed, (6, 9, 2), (20, 4), (6, 9, 4), *[(20, 2), (20,)] * n)
    read_outs = tuple(zip(rest[::2], rest[1::2], strict=True))
    unit = torch.rand(20, dtype=torch.float64) + 0.5

    def terms(linear, values, exposure, unit):
        return (values - linear[0].exp() * math.prod(linear)) / unit

    inputs = (factors, into, *rest)
    found = entries.gather_terms(terms, factors, read_outs=read_outs, per_channel=(unit,), into=into, batch=sparse)
    linear = [entries.dot(factors, table, bias=bias, batch=sparse) for table, bias in read_outs]
    each = terms(linear, sparse.values, None, sparse.along_channels(unit)) * sparse.shown
    expected = entries.gather_sum(each, into, batch=sparse)
    torch.testing.assert_close(found, expected)
    one, other = (torch.autograd.grad((out * weights).sum(), inputs) for out in (found, expected))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
