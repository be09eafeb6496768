"""Small random batches for tests."""

from dataclasses import replace

import torch

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.nn.channels import ChannelStatistics, channel_statistics


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


def make_masked_batch(
    *, missing: float, seed: int, exposure: bool = False, session: str = "session", n_bins: int = 9
) -> Batch:
    """The same with 20 channels, of which one was never observed, and with some entries hidden and some not scored."""
    batch = make_batch(n_bins=n_bins, n_channels=20, missing=missing, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    observed = batch.observed.clone()
    observed[:, :, 4] = False
    drawn = torch.rand((2, *observed.shape), generator=generator)
    return replace(
        batch,
        values=batch.values * observed,
        observed=observed,
        shown=observed & (drawn[0] < 0.6),
        scored=observed & (drawn[1] < 0.7),
        exposure=(0.1 + 0.9 * drawn[0]).where(observed, torch.ones(())) if exposure else None,
        session=session,
    )


def to_dense(batch: Batch) -> Batch:
    """Lay a sparse batch out in its box."""
    assert batch.entries is not None
    exposure = batch.exposure
    observed = batch.dense(batch.observed)
    return replace(
        batch,
        values=batch.dense(batch.values),
        observed=observed,
        shown=batch.dense(batch.shown),
        scored=batch.dense(batch.scored),
        exposure=None if exposure is None else batch.dense(exposure).where(observed, torch.ones(())),
        entries=None,
    )


def assert_same(one: Batch, other: Batch) -> None:
    """Every field of two dense batches agrees to the bit."""
    for name in ("values", "observed", "shown", "scored", "trials"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert (one.exposure is None) == (other.exposure is None)
    assert one.exposure is None or torch.equal(one.exposure, other.exposure)
    assert one.session == other.session


def fluorescence_statistics(batch: Batch, *, rise: float = 0.0) -> ChannelStatistics:
    """Statistics of a batch whose values are taken for fluorescence, with the same kinetics for all channels."""
    kinetics = torch.tensor([0.7, 1.0, 0.0, 0.3, 0.1, 0.2, rise])[:, None].expand(-1, batch.shape[2])
    return replace(channel_statistics(batch), kinetics=Kinetics(*kinetics))
