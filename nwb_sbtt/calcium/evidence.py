"""What fluorescence tells of rates, as counts of spikes that were observed for a part of their bins."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nwb_sbtt.calcium.samples import MAX_COUNT
from nwb_sbtt.calcium.spiking import Spikes

LEAST_SHARE = 0.01
"""Of a bin: keeps what is told of it from growing with the rate without a bound."""


def spike_evidence(
    spikes: Spikes, rates: Float[Tensor, "trial time channel"], sampled: Bool[Tensor, "trial time channel"]
) -> tuple[
    Float[Tensor, "trial time channel"], Float[Tensor, "trial time channel"], Bool[Tensor, "trial time channel"]
]:
    """Give counts k and shares e of bins such that ``k log λ − e λ`` is what fluorescence x tells of rates λ near given ones.

    Let the count n of a bin have the posterior mean m and variance v where its rate is λ₀. The log-likelihood of x has the
    slope ``m − λ₀`` in log λ (Fisher's identity), and the curvature ``v − λ₀`` (Louis 1982,
    doi:10.1111/j.2517-6161.1982.tb01203.x). The Poisson likelihood of k has ``k − e λ₀`` and ``−e λ₀``, so both agree with
    ``e = 1 − v / λ₀``: where spikes are known, k is their number and e is 1; where nothing is, both are 0. Far more spikes than
    λ₀ lets expect would have a curvature that holds near λ₀ alone; then e is ``1 − v / m``, and k has the slope. All this is of
    the count between two samples, since nothing tells where in a gap its spikes fell; it is parted among its bins by λ₀.

    Parameters
    ----------
    spikes : Spikes
        Given `sampled` and `rates`.
    rates : Float[Tensor, "trial time channel"]
        Expected spikes of each bin, near which others are compared.
    sampled : Bool[Tensor, "trial time channel"]
        Samples that the spikes were inferred from.

    Returns
    -------
    counts : Float[Tensor, "trial time channel"]
        At least 0.
    shares : Float[Tensor, "trial time channel"]
        In (0, 1].
    told : Bool[Tensor, "trial time channel"]
        Bins of which anything is told: those between two samples, as spikes before the first cannot be separated from earlier
        calcium, unless there are so many that they cannot be counted (`nwb_sbtt.calcium.samples.MAX_COUNT`).
    """
    after, before = neighbours(sampled)
    told = (before >= 0) & (after < sampled.shape[1])
    gap = torch.where(told, after, 0)

    def of_gap(amount: Tensor) -> Tensor:
        """Sum over the bins between two samples, brought back to each of them."""
        amount = torch.where(told, amount, torch.zeros_like(amount))
        return torch.zeros_like(amount).scatter_add(1, gap, amount).gather(1, gap)

    rate, mean = of_gap(rates).clamp(min=1e-12), of_gap(spikes.mean)
    squares = of_gap((rates / rate) ** 2).clamp(min=1e-12)
    # The count was parted among the bins of its gap as a binomial.
    variance = ((of_gap(spikes.variance) - mean * (1 - squares)) / squares).clamp(min=0)
    # Counts are summed over up to a most one: at that one they would seem to be known.
    told = told & (torch.maximum(rate, mean + 2 * variance.sqrt()) < MAX_COUNT)
    share = (1 - variance / torch.maximum(rate, mean)).clamp(LEAST_SHARE, 1)
    count = mean - (1 - share) * rate
    # Fewer spikes than these shares let expect: none, in as much of the bin as has the slope.
    share = torch.where(count < 0, (1 - mean / rate).clamp(LEAST_SHARE, 1), share)
    counts = torch.where(told, count.clamp(min=0) * rates / rate, torch.zeros_like(rates))
    return counts, torch.where(told, share, torch.ones_like(share)), told


def neighbours(sampled: Bool[Tensor, "trial time channel"]) -> tuple[Tensor, Tensor]:
    """Give the bins of the samples around each bin.

    Parameters
    ----------
    sampled : Bool[Tensor, "trial time channel"]

    Returns
    -------
    after : integer tensor (trial, time, channel)
        Bin of its own sample or of the next one; the number of bins where there is none.
    before : integer tensor (trial, time, channel)
        Bin of the last sample before its own; −1 where there is none.
    """
    n_bins = sampled.shape[1]
    bins = torch.arange(n_bins, device=sampled.device)[:, None].expand_as(sampled)
    after = torch.where(sampled, bins, n_bins).flip(1).cummin(1).values.flip(1)
    before = torch.where(sampled, bins, -1).cummax(1).values
    return after, torch.cat([torch.full_like(before[:, :1], -1), before[:, :-1]], 1)
