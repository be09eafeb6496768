import pytest
import torch

from nwb_sbtt.models.base import dropout


def masks(rate, shape=(401, 99), seed=0):
    return dropout(torch.ones(shape), rate, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.95])
def test_dropout_drops_the_share_asked_for_and_keeps_the_mean(rate):
    mask = masks(rate)
    n, expected = mask.numel(), 1 / (1 - rate)
    assert set(mask.unique().tolist()) <= {0.0, torch.tensor(expected).item()}
    spread = (rate * (1 - rate) / n) ** 0.5
    assert abs((mask == 0).float().mean() - rate) <= 4 * spread
    assert abs(mask.mean() - 1) <= 4 * spread * expected


def test_units_that_share_a_random_number_are_dropped_independently():
    dropped = (masks(0.3, shape=(200_000,)) == 0).float() - 0.3
    for lag in range(1, 9):
        correlation = (dropped[lag:] * dropped[:-lag]).mean() / (0.3 * 0.7)
        assert abs(correlation) < 4 / 200_000**0.5


def test_the_same_generator_drops_the_same_units_and_another_other_ones():
    assert torch.equal(masks(0.5), masks(0.5))
    assert not torch.equal(masks(0.5), masks(0.5, seed=1))


def test_the_gradient_passes_where_a_unit_was_kept():
    x = torch.randn(5, 7, requires_grad=True)
    dropped = dropout(x, 0.4, torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    torch.testing.assert_close(dropped, x * gradient)
    assert (gradient == 0).any() and (gradient > 1).any()


def test_nothing_is_dropped_without_a_generator():
    x = torch.randn(3)
    assert dropout(x, 0.5, None) is x
