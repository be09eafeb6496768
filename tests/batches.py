"""Small random batches for tests."""

import torch

from nwb_sbtt.batch import Batch


def make_batch(
    n_trials: int = 6, n_bins: int = 9, n_channels: int = 7, *, missing: float = 0.4, seed: int = 0
) -> Batch:
    """Poisson counts with a random mask, one silent channel and one trial observed in few bins."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_trials, n_bins, n_channels)
    observed = torch.rand(shape, generator=generator) >= missing
    observed[0, 2:] = False
    values = torch.poisson(torch.full(shape, 0.7), generator=generator)
    values[..., -1] = 0
    return Batch(
        values=values * observed, observed=observed, shown=observed, scored=observed, trials=torch.arange(n_trials)
    )
