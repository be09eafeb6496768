import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nwb_sbtt.batch import Batch
from nwb_sbtt.nn import convolution
from nwb_sbtt.nn.channels import Nearby
from nwb_sbtt.nn.convolution import GatedConvolution


def plain(layer: GatedConvolution, x):
    """The same, bin by bin and lag by lag."""
    u, gate = layer.inward(layer.norm(x)).chunk(2, -1)
    n_bins, width, groups = x.shape[1], x.shape[2], len(layer.kernels)
    reach = layer.kernels.shape[1] // 2
    mixed = torch.zeros_like(u)
    for feature in range(width):
        kernel = layer.kernels[feature * groups // width]
        for to in range(n_bins):
            for lag in range(-reach, reach + 1):
                if 0 <= to - lag < n_bins:
                    mixed[:, to, feature] += kernel[lag + reach] * u[:, to - lag, feature]
    return layer.outward(mixed * torch.nn.functional.silu(gate))


def test_it_equals_the_sum_over_lags_for_trials_shorter_and_longer_than_its_reach():
    torch.manual_seed(0)
    layer = GatedConvolution(6, 3, 4)
    torch.nn.init.normal_(layer.kernels)
    for n_bins in (1, 3, 5, 12):
        x = torch.randn(2, n_bins, 6)
        torch.testing.assert_close(layer(x), plain(layer, x), rtol=1e-4, atol=1e-5)


def test_its_gradients_equal_those_of_the_sum():
    torch.manual_seed(1)
    layer = GatedConvolution(4, 2, 3)
    x = torch.randn(2, 6, 4, requires_grad=True)
    given = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    expected = torch.autograd.grad(plain(layer, x).square().sum(), [x, *layer.parameters()])
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_kernels_begin_half_looking_back_and_half_ahead_with_weight_one():
    kernels = GatedConvolution(8, 8, 20).kernels.detach()
    torch.testing.assert_close(kernels.sum(1), torch.ones(8))
    back, ahead = kernels[:, 21:].sum(1), kernels[:, :20].sum(1)
    assert ((back == 0) != (ahead == 0)).all()
    assert int((back > 0).sum()) == 4


@pytest.mark.parametrize("max_lag", [3, 64, 700])
@pytest.mark.parametrize("n_bins", [513, 700, 1024])
def test_a_long_trial_is_mixed_in_tiles_to_the_same_numbers(monkeypatch, n_bins, max_lag):
    torch.manual_seed(0)
    layer = GatedConvolution(width=8, groups=4, max_lag=max_lag)
    with torch.no_grad():
        layer.kernels += 0.05 * torch.randn_like(layer.kernels)
    x = torch.randn(3, n_bins, 8, requires_grad=True)
    results = []
    for limit in (512, 10**6):
        monkeypatch.setattr(convolution, "LONG_TRIAL", limit)
        out = layer(x)
        results.append([out, *torch.autograd.grad((out**2).sum(), [x, *layer.parameters()])])
    for tiled, whole in zip(*results, strict=True):
        torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-4 * float(whole.detach().abs().max()))


@pytest.mark.parametrize("n_bins", [513, 900])
def test_a_long_trial_is_smoothed_in_tiles_to_the_same_numbers(monkeypatch, n_bins):
    generator = torch.Generator().manual_seed(0)
    shown = torch.rand(3, n_bins, 10, generator=generator) < 0.3
    batch = Batch(shown.float(), shown, shown, shown, torch.arange(3))
    sums = torch.randn(3, n_bins, 5, generator=generator)
    near = []
    for limit in (512, 10**6):
        monkeypatch.setattr(convolution, "LONG_TRIAL", limit)
        near.append(Nearby(batch, (1.0, 2.5, 8.0)).average(sums))
    torch.testing.assert_close(*near, rtol=1e-5, atol=1e-5)


def test_work_of_a_long_trial_is_linear_in_its_bins():
    """Counted by torch, not by a clock."""
    layer = GatedConvolution(width=8, groups=4, max_lag=64)
    counts = []
    for n_bins in (2048, 8192):
        with FlopCounterMode(display=False) as counter:
            layer(torch.zeros(1, n_bins, 8))
        counts.append(counter.get_total_flops())
    assert counts[1] <= 4.1 * counts[0]
