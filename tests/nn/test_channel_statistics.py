"""What is measured of channels before a model is trained."""

import pytest
import torch

from nwb_sbtt.batch import Batch
from nwb_sbtt.nn.channels import OWN, channel_statistics


def measured(values, observed=None):
    values = torch.as_tensor(values, dtype=torch.float32)
    observed = torch.ones_like(values, dtype=torch.bool) if observed is None else observed
    return channel_statistics(Batch(values, observed, observed, observed, torch.arange(len(values))))


def noise(n_trials=27, n_bins=20, channels=4, seed=0):
    return torch.randn(n_trials, n_bins, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("offset", [0.0, 1e-3, 1.0])
def test_offsets_of_other_channels_do_not_widen_a_channel(offset):
    offsets = offset * torch.tensor([-1.0, 0.0, 0.5, 1.0])
    found = measured(1e-4 * noise() + offsets)
    torch.testing.assert_close(found.mean, offsets, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.sd, torch.full((4,), 1e-4), rtol=0.1, atol=0)


def test_units_of_other_channels_do_not_widen_a_channel():
    scale = torch.tensor([1e-6, 1e-3, 1.0, 1e3])
    torch.testing.assert_close(measured(scale * noise()).sd, scale, rtol=0.1, atol=0)


def test_silent_channels_and_few_samples_borrow_from_the_others():
    counts = torch.poisson(torch.full((10, 20, 3), 2.0), torch.Generator().manual_seed(0))
    counts[:, :, 1] = 0
    observed = torch.ones_like(counts, dtype=torch.bool)
    observed[:, :, 2] = False
    observed[0, : OWN - 1, 2] = True
    counts[:, :, 2] = 100.0
    found = measured(counts, observed)
    n = counts[observed].sum() / observed.sum()
    assert found.mean[1].item() == pytest.approx(n.item() / 201)
    assert found.mean[2].item() == pytest.approx(((OWN - 1) * 100 + n.item()) / OWN)
    assert found.sd[1] > 0 and found.sd[2] > 1


def test_a_channel_that_was_never_observed_has_the_mean_over_all():
    values, observed = 5 + noise(), torch.ones(27, 20, 4, dtype=torch.bool)
    observed[:, :, 3] = False
    found = measured(values, observed)
    assert found.mean[3].item() == pytest.approx(5, abs=0.1) and found.sd[3].item() == pytest.approx(1, abs=0.1)
